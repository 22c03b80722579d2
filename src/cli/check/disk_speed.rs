//! What the card really does: how long a small write takes until it is on stable storage (each submission waits
//! for one), and how fast pictures can be written. Judged against what an SD card should do.

use super::file_system::size;
use super::finding::{Finding, both};
use super::folder::TrialFile;
use crate::ground::clock::SharedClock;
use crate::ground::random::SharedRandom;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Small writes that are tried, and how long all of them may take.
const SYNCS: usize = 24;
const SYNCS_WITHIN: Duration = Duration::from_secs(3);
/// A line of the journal is about so long.
const LINE_BYTES: usize = 400;
/// A good card needs under 20 ms; above these a person notices.
const MEDIAN_SLOW: Duration = Duration::from_millis(100);
const WORST_SLOW: Duration = Duration::from_secs(1);

/// What is written to see how fast it goes, and how long that may take.
const BURST_BYTES: u64 = 4 << 20;
const BURST_WITHIN: Duration = Duration::from_secs(3);
/// A Class 10 card promises 10 MB/s; the measure includes one sync.
const BYTES_PER_SECOND_SLOW: f64 = 5e6;

/// Room that must be left after the trial.
const ROOM_LEFT: u64 = 64 << 20;

pub(super) struct Bench {
    pub clock: SharedClock,
    pub random: SharedRandom,
}

impl Bench {
    /// The time that small durable writes take in `folder`.
    pub(super) fn sync_latency(&self, folder: &Path) -> Finding {
        match self.time_syncs(folder) {
            Ok(times) => judge_syncs(times),
            Err(error) => failed("sync_latency", &error),
        }
    }

    /// The speed of one larger durable write in `folder`.
    pub(super) fn write_speed(&self, folder: &Path) -> Finding {
        let free = crate::ground::durable::free_bytes(folder).unwrap_or(0);
        if free < BURST_BYTES + ROOM_LEFT {
            return Finding::not_tried(
                "write_speed",
                both("磁盘空间不足", "there is too little room on the disk"),
            );
        }
        match self.time_burst(folder) {
            Ok((bytes, took)) => judge_burst(bytes, took),
            Err(error) => failed("write_speed", &error),
        }
    }

    fn time_syncs(&self, folder: &Path) -> io::Result<Vec<Duration>> {
        let mut trial = TrialFile::create(folder, &self.random)?;
        let line = [b'.'; LINE_BYTES];
        let started = self.clock.monotonic();
        let mut times = Vec::new();
        while times.len() < SYNCS && (times.is_empty() || self.clock.monotonic() - started < SYNCS_WITHIN) {
            let before = self.clock.monotonic();
            trial.file.write_all(&line)?;
            trial.file.sync_data()?;
            times.push(self.clock.monotonic() - before);
        }
        Ok(times)
    }

    fn time_burst(&self, folder: &Path) -> io::Result<(u64, Duration)> {
        let mut trial = TrialFile::create(folder, &self.random)?;
        // Some disks and file systems make zeros cheap.
        let mut chunk = vec![0; 256 << 10];
        self.random.fill(&mut chunk);
        let started = self.clock.monotonic();
        let mut bytes = 0;
        while bytes < BURST_BYTES && self.clock.monotonic() - started < BURST_WITHIN {
            trial.file.write_all(&chunk)?;
            bytes += chunk.len() as u64;
        }
        trial.file.sync_data()?;
        Ok((bytes, self.clock.monotonic() - started))
    }
}

fn failed(id: &'static str, error: &io::Error) -> Finding {
    Finding::fault(
        id,
        both("写入失败", "could not write").followed_by(&error.to_string()),
        both("检查磁盘或更换 SD 卡", "check the disk or replace the card"),
    )
}

fn judge_syncs(mut times: Vec<Duration>) -> Finding {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let (typical, slowest) = (milliseconds(median), milliseconds(worst));
    let detail = both(
        format!("{} 次小的同步写入：中位数 {typical} ms，最慢 {slowest} ms", times.len()),
        format!("{} small durable writes: median {typical} ms, worst {slowest} ms", times.len()),
    );
    if median > MEDIAN_SLOW || worst > WORST_SLOW {
        let remedy = both(
            "每次提交都要等这么久；好的 SD 卡（A1、A2 级）在 20 ms 以内，建议更换",
            "each submission waits so long; a good SD card (A1 or A2) needs under 20 ms: replace it",
        );
        return Finding::warning("sync_latency", detail, remedy);
    }
    Finding::ok("sync_latency", detail)
}

fn judge_burst(bytes: u64, took: Duration) -> Finding {
    let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
    let detail = both(
        format!("写入 {} 并同步：每秒 {:.1} MB", size(bytes), rate / 1e6),
        format!("{} written and synced: {:.1} MB a second", size(bytes), rate / 1e6),
    );
    if rate < BYTES_PER_SECOND_SLOW {
        let remedy = both(
            "Class 10 的 SD 卡应有每秒 10 MB；卡可能老化或是假货，建议更换",
            "a Class 10 card should do 10 MB a second; it may be worn or counterfeit: replace it",
        );
        return Finding::warning("write_speed", detail, remedy);
    }
    Finding::ok("write_speed", detail)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::ground::clock::SystemClock;
    use crate::ground::random::OsRandom;

    #[test]
    fn slow_cards_are_told_from_good_ones() {
        let ms = Duration::from_millis;
        let good = judge_syncs(vec![ms(30), ms(5), ms(4), ms(6), ms(5)]);
        assert_eq!(
            (good.state, good.detail.en.as_str()),
            (State::Ok, "5 small durable writes: median 5.0 ms, worst 30.0 ms")
        );
        assert_eq!(judge_syncs(vec![ms(5), ms(5), ms(1500)]).state, State::Warning);
        assert_eq!(judge_syncs(vec![ms(150), ms(150), ms(200)]).state, State::Warning);
        let fast = judge_burst(4_000_000, ms(200));
        assert_eq!(
            (fast.state, fast.detail.en.as_str()),
            (State::Ok, "4 MB written and synced: 20.0 MB a second")
        );
        assert_eq!(judge_burst(4_000_000, ms(2000)).state, State::Warning);
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { clock: SystemClock::shared(), random: OsRandom::shared() };
        assert!(bench.sync_latency(folder.path()).detail.en.contains("small durable writes"));
        assert!(bench.write_speed(folder.path()).detail.en.contains("MB a second"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(bench.sync_latency(Path::new("/nowhere")).state, State::Fault);
    }
}
