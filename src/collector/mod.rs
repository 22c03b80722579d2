//! The collector: brings pictures home. Worker threads run [`Collector::work`]: claim, download, check; what came whole
//! they leave in the `landing` and go on; `turns` tells how many do so at a time. One thread runs [`Collector::land`]:
//! commit all that are there, complete each. [`Collector::step`] is one picture's whole try, for tests with a clock
//! of their own.
//!
//! It stands between four rooms and knows only what each of them says: the queue's claim, WeChat's fault, the
//! album's refusal. What to do next is decided here, by the fault's [`Outcome`]:
//!
//! - what may pass is tried again later, with growing gaps and jitter, until the picture's 72 hours are over;
//! - what concerns everybody (network, account, disk) pauses everybody and counts against nobody. When a pause
//!   is over one single try goes ahead, another picture's; the rest follow when it has got an answer;
//! - no answer at all counts against the picture once or twice; a third time in a row it concerns everybody;
//! - what will never come goes to the failed list with its reason.
//!
//! A picture is never given up untried: its deadline is looked at only after an attempt has failed.

mod landing;
mod pause;
mod turns;

pub use pause::Paused;
pub use turns::WORKERS_PER_TURN;

use crate::album::{Album, Facts, NotKept, Saved, WholePicture};
use crate::ground::bell::Bell;
use crate::ground::checked_clock::WALL_TOLERANCE_MS;
use crate::ground::clock::SharedClock;
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use crate::ground::random::SharedRandom;
use crate::ground::stop::Stop;
use crate::queue::{Claim, Queue};
use crate::wechat::fault::Outcome;
use crate::wechat::{Fault, WeChat};
use landing::Landing;
use pause::{Gate, Pause};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use turns::{Turn, Turns};

/// Bytes between the network and the disk, for each worker.
const BUFFER_BYTES: usize = 64 * 1024;

/// A worker without work looks again at least so often.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A picture whose try has closed the way comes so long after the end of the pause: the probe is another's.
const BEHIND_THE_PROBE: Duration = Duration::from_secs(1);

/// An id that WeChat does not know waits at least this share of its age: half an hour old, four minutes.
const UNKNOWN_ID_SHARE_OF_AGE: i64 = 8;

/// What the room needs to know.
#[derive(Clone, Debug)]
pub struct CollectorOptions {
    /// Pictures at a time, to be worked at by [`WORKERS_PER_TURN`] times as many threads.
    pub downloads: usize,
    /// The first wait after a failed attempt.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
    /// From submission until WeChat deletes the picture.
    pub deadline: Duration,
    /// Below it nothing is downloaded.
    pub free_bytes_min: u64,
}

/// The rooms that the collector stands between.
#[derive(Clone)]
pub struct Rooms {
    /// What is owed.
    pub queue: Arc<Queue>,
    /// Where it comes from.
    pub wechat: Arc<WeChat>,
    /// Where it goes.
    pub album: Arc<Album>,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One picture was tried.
    Tried(Tried),
    /// There is nothing to do for so long, unless the bell rings.
    Idle(Duration),
}

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The picture is kept.
    Saved,
    /// It waits for another attempt.
    Postponed,
    /// It is on the failed list.
    Failed,
    /// Nothing was counted; everybody waits.
    Paused,
}

/// Numbers since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pictures brought home.
    pub saved: u64,
    /// Their bytes.
    pub saved_bytes: u64,
    /// Attempts that failed, by code.
    pub failed_attempts: BTreeMap<String, u64>,
    /// Wall-clock milliseconds of the last picture.
    pub last_saved_ms: Option<i64>,
}

/// Brings pictures home.
pub struct Collector {
    rooms: Rooms,
    options: CollectorOptions,
    clock: SharedClock,
    random: SharedRandom,
    pause: Mutex<Pause>,
    totals: Mutex<Totals>,
    landing: Landing<Landed>,
    turns: Turns,
}

/// What a download came to.
enum Home {
    /// It had come home before; a crash came between the album's commit and the queue's.
    Kept(Saved),
    /// It is whole and waits for its commit.
    Whole(Box<WholePicture>),
}

/// A picture that waits for its commit.
struct Landed {
    claim: Claim,
    claimed_at: Duration,
    picture: WholePicture,
}

impl Collector {
    /// A collector between `rooms`.
    pub fn new(
        rooms: Rooms,
        options: CollectorOptions,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Collector {
        let (pause, totals, landing) = (Mutex::default(), Mutex::default(), Landing::new());
        let turns = Turns::new(options.downloads);
        Collector { rooms, options, clock, random, pause, totals, landing, turns }
    }

    /// Downloads until a stop is asked for. Whoever asks also rings the queue's bell.
    pub fn work(&self, stop: &Stop) {
        let bell: &Bell = self.rooms.queue.bell();
        let mut buffer = vec![0; BUFFER_BYTES];
        while !stop.asked() {
            // Who finds no work waits with its turn, so that no more threads wake up than may do something.
            let mut turn = self.turns.take();
            while turn.is_mine() && !stop.asked() {
                let rings = bell.rings();
                match self.next_claim() {
                    Ok((claim, claimed_at)) => self.fetch(claim, claimed_at, &mut turn, &mut buffer),
                    Err(wait) => bell.wait(rings, wait.min(IDLE_MAX)),
                }
            }
        }
    }

    /// Commits what the workers bring until [`Collector::close_landing`] is called and nothing is left.
    pub fn land(&self) {
        while let Some(landed) = self.landing.take() {
            let begun = self.clock.monotonic();
            let (tries, pictures): (Vec<_>, Vec<_>) =
                landed.into_iter().map(|one| ((one.claim, one.claimed_at), one.picture)).unzip();
            let mut ends = self.commit(pictures).into_iter();
            self.landing.took(self.clock.monotonic().saturating_sub(begun));
            for (claim, claimed_at) in tries {
                let end = ends.next().unwrap_or_else(|| Err(Fault::new("internal", "the commit broke off")));
                // A panic costs one entry its note, not all that come after it their commit.
                let settled = catch_unwind(AssertUnwindSafe(|| self.settle(&claim, claimed_at, end)));
                if settled.is_err() {
                    log::error!("could not note the end of {}: a panic", claim.media_id);
                }
            }
        }
    }

    /// To be called when no worker works any more.
    pub fn close_landing(&self) {
        self.landing.close();
    }

    /// Tries one picture from claim to commit, if one is due and nothing pauses everybody.
    pub fn step(&self) -> Step {
        let (claim, claimed_at) = match self.next_claim() {
            Ok(next) => next,
            Err(wait) => return Step::Idle(wait),
        };
        let broke_off = || Err(Fault::new("internal", "the commit broke off"));
        let (mut turn, mut buffer) = (self.turns.out_of_turn(), vec![0; BUFFER_BYTES]);
        let end = self.bring_home(&claim, claimed_at, &mut turn, &mut buffer).and_then(|home| match home {
            Home::Kept(saved) => Ok(saved),
            Home::Whole(picture) => self.commit(vec![*picture]).pop().unwrap_or_else(broke_off),
        });
        Step::Tried(self.settle(&claim, claimed_at, end))
    }

    /// What to try now, and since when; or how long there is nothing to do.
    fn next_claim(&self) -> Result<(Claim, Duration), Duration> {
        let now = self.clock.monotonic();
        match self.pause_lock().gate(now) {
            Gate::Closed(wait) => return Err(wait),
            Gate::Open | Gate::Probe => {}
        }
        if let Some(fault) = self.disk_fault() {
            self.close(&fault, None);
            return Err(Duration::from_secs(1));
        }
        self.rooms.queue.claim().map(|claim| (claim, now)).ok_or_else(|| {
            self.pause_lock().leave_probe();
            self.rooms.queue.next_due().unwrap_or(IDLE_MAX)
        })
    }

    fn fetch(&self, claim: Claim, claimed_at: Duration, turn: &mut Turn<'_>, buffer: &mut [u8]) {
        let _on_its_way = self.landing.on_its_way();
        match self.bring_home(&claim, claimed_at, turn, buffer) {
            Ok(Home::Whole(picture)) => {
                let bytes = picture.bytes();
                self.landing.put(Landed { claim, claimed_at, picture: *picture }, bytes);
            }
            Ok(Home::Kept(saved)) => drop(self.settle(&claim, claimed_at, Ok(saved))),
            Err(fault) => drop(self.settle(&claim, claimed_at, Err(fault))),
        }
    }

    /// One end a picture, in their order; none when it broke off.
    fn commit(&self, pictures: Vec<WholePicture>) -> Vec<Result<Saved, Fault>> {
        let committed = catch_unwind(AssertUnwindSafe(|| self.rooms.album.commit_all(pictures)));
        let ends = committed.unwrap_or_default().into_iter();
        ends.map(|end| end.map_err(|error| disk_fault_of(&error))).collect()
    }

    /// Why everybody waits, if everybody does.
    pub fn paused(&self) -> Option<Paused> {
        self.pause_lock().view(self.clock.monotonic())
    }

    /// Ends a pause now, as when an operator has mended what was wrong.
    pub fn resume(&self) {
        self.pause_lock().open();
        self.rooms.queue.hasten();
    }

    /// Numbers since the start.
    pub fn totals(&self) -> Totals {
        self.totals_lock().clone()
    }

    /// A panic in a library costs this attempt, not the worker.
    fn bring_home(
        &self,
        claim: &Claim,
        claimed_at: Duration,
        turn: &mut Turn<'_>,
        buffer: &mut [u8],
    ) -> Result<Home, Fault> {
        catch_unwind(AssertUnwindSafe(|| self.download(claim, claimed_at, turn, buffer)))
            .unwrap_or_else(|_| Err(Fault::new("internal", "a panic while fetching")))
    }

    fn download(
        &self,
        claim: &Claim,
        claimed_at: Duration,
        turn: &mut Turn<'_>,
        buffer: &mut [u8],
    ) -> Result<Home, Fault> {
        let mut facts = facts_of(claim);
        // A crash may have come between the album's commit and the queue's.
        if let Some(saved) = self.rooms.album.find(&facts).map_err(|error| disk_fault_of(&error))? {
            return Ok(Home::Kept(saved));
        }
        let mut media = self.rooms.wechat.fetch(&claim.media_id)?;
        turn.begins(media.announced_bytes(), self.clock.monotonic().saturating_sub(claimed_at));
        // WeChat's answer may have told the true time just now.
        facts.clock_trusted |= self.stamp_is_right(claim, claimed_at);
        let mut incoming = self.rooms.album.begin(facts).map_err(|error| disk_fault_of(&error))?;
        loop {
            match media.read(buffer)? {
                0 => break,
                count => {
                    turn.came(count, self.clock.monotonic());
                    incoming.write(&buffer[..count]).map_err(|why| fault_of(&why))?;
                }
            }
        }
        incoming.finish().map(|whole| Home::Whole(Box::new(whole))).map_err(|why| fault_of(&why))
    }

    fn settle(&self, claim: &Claim, claimed_at: Duration, end: Result<Saved, Fault>) -> Tried {
        let fault = match end {
            Ok(saved) => {
                self.keep(claim, &saved);
                return Tried::Saved;
            }
            Err(fault) => fault,
        };
        *self.totals_lock().failed_attempts.entry(fault.code.to_string()).or_default() += 1;
        if self.pause_lock().concerns_everybody(&fault, &claim.media_id) {
            let wait = self.close(&fault, Some(&claim.media_id));
            self.rooms.queue.postpone(&claim.media_id, wait + BEHIND_THE_PROBE, None);
            return Tried::Paused;
        }
        match fault.outcome() {
            Outcome::RetryLater | Outcome::RetryAFewTimes(_) | Outcome::Gone | Outcome::NotAPicture => {
                self.reopen(claim);
            }
            // It proves nothing about the others.
            _ => self.pause_lock().leave_probe(),
        }
        match fault.outcome() {
            Outcome::Gone | Outcome::NotAPicture => self.give_up(claim, &fault),
            Outcome::RetryAFewTimes(times) if in_a_row(claim, &fault) >= times => self.give_up(claim, &fault),
            _ => self.try_later(claim, claimed_at, &fault),
        }
    }

    fn keep(&self, claim: &Claim, saved: &Saved) {
        self.rooms.queue.complete(&claim.media_id, &saved.sha256);
        let mut totals = self.totals_lock();
        totals.saved += 1;
        totals.saved_bytes += saved.bytes;
        totals.last_saved_ms = Some(self.clock.wall_ms());
        drop(totals);
        log::info!("saved {} ({} bytes)", saved.file, saved.bytes);
        self.reopen(claim);
        self.pause_lock().forget(&claim.media_id);
    }

    fn give_up(&self, claim: &Claim, fault: &Fault) -> Tried {
        log::warn!("gave up {}: {fault}", claim.media_id);
        self.rooms.queue.fail(&claim.media_id, &fault.code, &fault.detail);
        self.pause_lock().forget(&claim.media_id);
        Tried::Failed
    }

    fn try_later(&self, claim: &Claim, claimed_at: Duration, fault: &Fault) -> Tried {
        // Where the clocks cannot tell it counts as young: a wrong clock must not end a picture's life. As soon
        // as WeChat has answered once, they can.
        let age_ms = self.age_ms(claim, claimed_at).unwrap_or(0);
        let deadline_ms = i64::try_from(self.options.deadline.as_millis()).unwrap_or(i64::MAX);
        if age_ms >= deadline_ms {
            let last = Fault::new("expired", fault.to_string());
            return self.give_up(claim, &last);
        }
        let mut wait = self.backoff(claim.attempts);
        if fault.code == "40007" {
            wait = wait.max(Duration::from_millis((age_ms / UNKNOWN_ID_SHARE_OF_AGE).max(0).unsigned_abs()));
        }
        // The last try comes at the deadline, not after a gap that reaches beyond it.
        let wait = wait.min(Duration::from_millis((deadline_ms - age_ms).unsigned_abs()));
        log::info!("{} is tried again in {:.1} s: {fault}", claim.media_id, wait.as_secs_f64());
        self.rooms.queue.postpone(&claim.media_id, wait, Some(&fault.code));
        Tried::Postponed
    }

    /// Doubles with every attempt up to the longest; the upper half of it is left to chance, so that pictures
    /// that failed together do not come back together.
    fn backoff(&self, attempts: u32) -> Duration {
        let full = self.options.retry_min.saturating_mul(1 << attempts.min(20)).min(self.options.retry_max);
        full.mul_f64(0.5 + self.random.fraction() / 2.0)
    }

    /// Everybody waits; says so when it is news. Returns how long.
    fn close(&self, fault: &Fault, cause: Option<&MediaId>) -> Duration {
        let (now, wall_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let (wait, is_news) = self.pause_lock().close(fault, cause, now, wall_ms, &self.random);
        if is_news {
            log::warn!("everything waits: {fault}. {}", fault.entry().remedy.en);
        }
        wait
    }

    /// WeChat has answered for one picture, so nothing stands in the way of the others.
    fn reopen(&self, claim: &Claim) {
        if self.pause_lock().open_for(&claim.media_id) {
            log::info!("going on");
            self.rooms.queue.bell().ring();
        }
    }

    /// How long ago the picture of a claim was submitted; `None` when the clocks cannot tell.
    fn age_ms(&self, claim: &Claim, claimed_at: Duration) -> Option<i64> {
        let since_claim = self.clock.monotonic().saturating_sub(claimed_at);
        claim.age_ms.map(|age_ms| age_ms + i64::try_from(since_claim.as_millis()).unwrap_or(i64::MAX))
    }

    /// Whether a stamp that was made by an unsure clock turns out to be right.
    fn stamp_is_right(&self, claim: &Claim, claimed_at: Duration) -> bool {
        let true_ms = self.age_ms(claim, claimed_at).map(|age_ms| self.clock.wall_ms() - age_ms);
        let is_near = |true_ms: i64| true_ms.abs_diff(claim.submitted_ms) <= WALL_TOLERANCE_MS.unsigned_abs();
        self.clock.wall_is_sure() && true_ms.is_some_and(is_near)
    }

    fn disk_fault(&self) -> Option<Fault> {
        match self.rooms.album.free_bytes() {
            Ok(free) if free < self.options.free_bytes_min => {
                let detail = format!("{free} bytes are free, {} must stay free", self.options.free_bytes_min);
                Some(Fault::new("disk-full", detail))
            }
            Ok(_) => None,
            Err(error) => Some(Fault::new("disk", format!("{error:#}"))),
        }
    }

    fn pause_lock(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn totals_lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How often the picture has met this very fault without another one between, this time included.
fn in_a_row(claim: &Claim, fault: &Fault) -> u32 {
    let is_same = claim.last_code.as_deref() == Some(&*fault.code);
    if is_same { claim.in_a_row + 1 } else { 1 }
}

fn facts_of(claim: &Claim) -> Facts {
    Facts {
        media_id: claim.media_id.clone(),
        submitted_ms: claim.submitted_ms,
        clock_trusted: claim.clock_trusted,
        receipt: claim.receipt.clone(),
        team: claim.submission.team.clone(),
        contributor: claim.submission.contributor.clone(),
        note: claim.submission.note.clone(),
        latitude: claim.submission.latitude,
        longitude: claim.submission.longitude,
    }
}

fn fault_of(why: &NotKept) -> Fault {
    let code = match why {
        NotKept::NotAPicture(_) => "not-a-picture",
        NotKept::NotWhole(_) => "not-whole",
        NotKept::TooLarge(_) => "too-large",
        NotKept::NoRoom => "disk-full",
        NotKept::Disk(_) => "disk",
    };
    Fault::new(code, why.to_string())
}

fn disk_fault_of(error: &anyhow::Error) -> Fault {
    let is_full = error.chain().filter_map(|cause| cause.downcast_ref()).any(durable::is_no_room);
    Fault::new(if is_full { "disk-full" } else { "disk" }, format!("{error:#}"))
}
