//! The bar: how far the work is, how fast it goes, how long it will take. On standard error, and only when a
//! person is there to see it.

use crate::album::watch::Watch;
use crate::ground::language::{Language, Words};
use crate::ground::stop::Stop;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

const LINE: Words = Words {
    zh: "{bar:24} {percent:>3}%  {msg}  {decimal_bytes_per_sec}  剩余 {eta}",
    en: "{bar:24} {percent:>3}%  {msg}  {decimal_bytes_per_sec}  {eta} left",
};
const PICTURES: Words = Words { zh: "张", en: "pictures" };

/// The time left changes while a slow stick says nothing.
const REDRAW_EVERY: Duration = Duration::from_millis(500);

/// A box that is at work names pictures and lists them right after; on a slow card that takes a moment.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 50;

pub(super) struct Progress {
    bar: ProgressBar,
    language: Language,
    done: u64,
    pictures: u64,
    looks_left: u32,
    stop: Stop,
}

impl Progress {
    pub(super) fn new(language: Language, stop: Stop) -> Progress {
        // Draws nothing when standard error is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(LINE.pick(language)) {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress { bar, language, done: 0, pictures: 0, looks_left: LOOKS_MAX, stop }
    }

    /// Takes the bar away, so that the words that follow stand alone.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Progress {
    fn begin(&mut self, pictures: u64, bytes: u64) {
        self.pictures = pictures;
        self.bar.set_length(bytes);
        if !self.bar.is_hidden() {
            self.bar.enable_steady_tick(REDRAW_EVERY);
        }
    }

    fn worked(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn picture(&mut self) {
        self.done += 1;
        let (done, all) = (self.done, self.pictures.max(self.done));
        self.bar.set_message(format!("{done}/{all} {}", PICTURES.pick(self.language)));
    }

    fn stop_asked(&self) -> bool {
        self.stop.asked()
    }

    fn wait_for_writer(&mut self) -> bool {
        let left = self.looks_left.checked_sub(1);
        self.looks_left = left.unwrap_or(0);
        left.is_some() && !self.stop.wait(LOOK_AGAIN_AFTER)
    }
}
