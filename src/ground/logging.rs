//! The log: one line an event to standard error. Under systemd each line starts with its syslog priority
//! (`<4>`), which the journal understands; elsewhere with the time and the level. A log that nobody can take
//! (closed pipe, full disk) is no reason to stop collecting, so failures to write are ignored.

use super::clock::{Rfc3339Utc, SharedClock};
use super::escape::OneLine;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::Write as _;
use std::io::Write;

/// The longest line that is written, in characters.
const LINE_LENGTH_MAX: usize = 2000;

/// Room for an ordinary line.
const LINE_BYTES_USUAL: usize = 160;

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// Time and level, for people at a terminal.
    Terminal,
    /// Syslog priority, for the systemd journal.
    Journal,
}

struct StderrLog {
    style: LineStyle,
    clock: SharedClock,
}

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tubox") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::with_capacity(LINE_BYTES_USUAL);
        // Writing to a String cannot fail.
        let _ = match self.style {
            LineStyle::Journal => write!(line, "<{}>", priority(record.level())),
            LineStyle::Terminal => write!(line, "{} {:5} ", Rfc3339Utc(self.clock.wall_ms()), record.level()),
        };
        let _ = OneLine::new(&mut line, LINE_LENGTH_MAX).write_fmt(*record.args());
        line.push('\n');
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Turns the log on; a second call changes nothing.
pub fn start(style: LineStyle, level: LevelFilter, clock: SharedClock) {
    if log::set_boxed_logger(Box::new(StderrLog { style, clock })).is_ok() {
        log::set_max_level(level);
    }
}
