//! A box laid open on the bench: WeChat's simulator, the way out, and the four rooms behind the web, wired by
//! hand in a temporary folder. Sockets, sled and files are real; time is moved by hand, so that days pass in
//! milliseconds. Only stalls cost real time, and the door's limits are small.
//!
//! The simulator has a clock of its own, which is always right: the box's may be wrong.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tubox::album::manifest::{self, Row};
use tubox::album::watch::Unwatched;
use tubox::album::{Album, day_folders, verify};
use tubox::collector::{Collector, CollectorOptions, Paused, Step, Tried};
use tubox::door::outbound::{Origin, OutboundDoor, OutboundLimits, OutboundOptions};
use tubox::ground::checked_clock::CheckedClock;
use tubox::ground::clock::{Clock, SharedClock, TestClock};
use tubox::ground::media_id::MediaId;
use tubox::ground::random::{SeededRandom, SharedRandom};
use tubox::queue::{JobState, Queue, QueueOptions, Submission};
use tubox::simulator::{Fault, Route, Simulator, SimulatorOptions};
use tubox::wechat::{Fault as WeChatFault, TokenKind, WeChat, WeChatOptions, fault};

/// Noon of a day in China, so that no small step crosses the quota's midnight.
pub const NOW_MS: i64 = 1_795_233_600_000;
pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);
/// What the box lives by here; the design's own numbers where they do not cost real time.
pub const RETRY_MIN: Duration = Duration::from_secs(2);
pub const RETRY_MAX: Duration = Duration::from_secs(900);
pub const DEADLINE: Duration = Duration::from_secs(72 * 3600);
/// As a rule; long enough for an answer on a machine with much else to do.
pub const STALL: Duration = Duration::from_millis(250);
/// Steps after which a drain counts as endless.
const STEPS_MAX: usize = 20_000;

/// How a bench is to be.
pub struct BenchOptions {
    pub seed: u64,
    pub token: TokenKind,
    /// Where the API is asked, in this order; empty: the simulator alone. `SIM` stands for its address.
    pub origins: Vec<String>,
    /// How far the box's wall clock is from the truth when it starts.
    pub wall_off_ms: i64,
    pub picture_bytes_max: u64,
    pub downloads: usize,
    /// Real time without a byte after which the door gives up.
    pub stall: Duration,
    pub app_secret: Option<String>,
}

impl Default for BenchOptions {
    fn default() -> BenchOptions {
        BenchOptions {
            seed: 1,
            token: TokenKind::Stable,
            origins: vec![SIM.to_owned()],
            wall_off_ms: 0,
            picture_bytes_max: 4 << 20,
            downloads: 4,
            stall: STALL,
            app_secret: None,
        }
    }
}

/// Stands for the simulator's own address in [`BenchOptions::origins`].
pub const SIM: &str = "SIM";

pub struct Bench {
    /// Always right; the simulator's.
    pub truth: Arc<TestClock>,
    /// The box's machine.
    pub clock: Arc<TestClock>,
    pub simulator: Simulator,
    pub options: BenchOptions,
    pub random: SharedRandom,
    pub folder: TempDir,
    pub receipts: Vec<String>,
    rooms: Option<Rooms>,
}

/// The rooms between two restarts.
pub struct Rooms {
    pub door: Arc<OutboundDoor>,
    pub wechat: Arc<WeChat>,
    pub queue: Arc<Queue>,
    album: Arc<Album>,
    pub collector: Arc<Collector>,
}

/// Where one id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    Saved,
    Failed(String),
    /// The code of the last attempt that was counted.
    Waiting(Option<String>),
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(BenchOptions::default())
    }

    pub fn with(options: BenchOptions) -> Bench {
        let truth = TestClock::at(NOW_MS);
        let clock = TestClock::at(NOW_MS + options.wall_off_ms);
        let simulated = SimulatorOptions::loopback(truth.clone(), SeededRandom::shared(options.seed));
        let simulator = Simulator::start(simulated).unwrap();
        let mut bench = Bench {
            random: SeededRandom::shared(options.seed ^ 0x7475_626f),
            truth,
            clock,
            simulator,
            options,
            folder: tempfile::tempdir().unwrap(),
            receipts: Vec::new(),
            rooms: None,
        };
        bench.rooms = Some(bench.open());
        bench
    }

    /// As [`Bench::new`], and the token is there already, so that calls of media/get can be counted alone.
    pub fn warm() -> Bench {
        let bench = Bench::new();
        bench.rooms().wechat.keep();
        bench
    }

    fn open(&self) -> Rooms {
        let clock: SharedClock = CheckedClock::over(self.clock.clone());
        let random = self.random.clone();
        let data_dir = self.folder.path().to_owned();
        let simulated = SimulatorOptions::loopback(self.truth.clone(), self.random.clone());
        let url = self.simulator.base_url();
        let named = |text: &String| Origin::parse(if text == SIM { &url } else { text }).unwrap();
        let origins: Vec<Origin> = self.options.origins.iter().map(named).collect();
        let limits = OutboundLimits {
            stall: self.options.stall,
            first_byte_within: self.options.stall,
            connect_within: Duration::from_secs(2),
            answer_bytes_max: self.options.picture_bytes_max + 1,
            head_bytes_max: tubox::wechat::ANSWER_HEAD_BYTES_MAX,
            ..OutboundLimits::default()
        };
        let door = OutboundDoor::open(OutboundOptions {
            limits,
            clock: clock.clone(),
            random: random.clone(),
            ..OutboundOptions::to(origins.clone())
        });
        let door = Arc::new(door.unwrap());
        let album = Album::open(&self.pictures(), self.options.picture_bytes_max, clock.clone());
        let album = Arc::new(album.unwrap());
        let days = day_folders(&self.pictures()).unwrap();
        album.repair(days.iter().map(String::as_str)).unwrap();
        let queue_options = QueueOptions {
            data_dir: data_dir.clone(),
            waiting_max: 100_000,
            reserve_bytes: 0,
            deadline: DEADLINE,
            clock: clock.clone(),
            crowd: Default::default(),
            random: random.clone(),
        };
        let queue = Arc::new(Queue::open(queue_options, &|day| saved_on(&album, day)).unwrap());
        let wechat = Arc::new(WeChat::open(WeChatOptions {
            app_id: simulated.app_id,
            app_secret: self.options.app_secret.clone().unwrap_or(simulated.app_secret),
            origins,
            token_kind: self.options.token,
            credentials_file: data_dir.join("credentials.json"),
            door: door.clone(),
            clock: clock.clone(),
            random: random.clone(),
        }));
        let collector = Collector::new(
            tubox::collector::Rooms { queue: queue.clone(), wechat: wechat.clone(), album: album.clone() },
            CollectorOptions {
                downloads: self.options.downloads,
                retry_min: RETRY_MIN,
                retry_max: RETRY_MAX,
                deadline: DEADLINE,
                free_bytes_min: 0,
            },
            clock,
            random,
        );
        Rooms { door, wechat, queue, album, collector: Arc::new(collector) }
    }

    pub fn rooms(&self) -> &Rooms {
        self.rooms.as_ref().unwrap()
    }

    pub fn collector(&self) -> &Collector {
        &self.rooms().collector
    }

    pub fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    /// Ends the box in order and starts it again on the same folders.
    pub fn reopen(&mut self) {
        let rooms = self.rooms.take().unwrap();
        rooms.queue.close();
        drop(rooms);
        self.rooms = Some(self.open());
    }

    /// As [`Bench::reopen`], but nothing is closed first, as by kill -9.
    pub fn crash(&mut self) {
        self.rooms = None;
        self.rooms = Some(self.open());
    }

    /// As [`Bench::crash`], and sled's files are gone: the journal has to do.
    pub fn lose_database(&mut self) {
        self.rooms = None;
        std::fs::remove_dir_all(self.folder.path().join("queue")).unwrap();
        self.rooms = Some(self.open());
    }

    /// The queue's housekeeping.
    pub fn tend(&self) {
        let album = &self.rooms().album;
        self.rooms().queue.tend(&|day| saved_on(album, day));
    }

    /// The machine starts again too, with whatever wall clock `off_ms` from the truth.
    pub fn reboot(&mut self, off_ms: i64) {
        self.clock.reboot();
        self.clock.set_wall_ms(self.truth.wall_ms() + off_ms);
        self.crash();
    }

    /// Lets time pass for everybody.
    pub fn advance(&self, by: Duration) {
        self.truth.advance(by);
        self.clock.advance(by);
    }

    /// A picture that a phone has left with WeChat, not submitted yet.
    pub fn upload(&self) -> String {
        self.simulator.upload(picture(self.random.u64()), "image/jpeg")
    }

    /// `count` pictures, uploaded and submitted together.
    pub fn upload_and_submit(&mut self, count: usize) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|_| self.upload()).collect();
        self.submit(&ids);
        ids
    }

    /// One picture, uploaded and submitted.
    pub fn submit_one(&mut self) -> String {
        self.upload_and_submit(1).remove(0)
    }

    pub fn submit<T: AsRef<str>>(&mut self, ids: &[T]) {
        let ids = ids.iter().map(|id| MediaId::parse(id.as_ref()).unwrap()).collect();
        let accepted = self.rooms().queue.accept(Submission { ids, ..Submission::default() }).unwrap();
        self.receipts.push(accepted.receipt);
    }

    /// One step of the collector.
    pub fn step(&self) -> Step {
        self.collector().step()
    }

    /// One step that has to try a picture.
    pub fn try_one(&self) -> Tried {
        match self.step() {
            Step::Tried(tried) => tried,
            Step::Idle(wait) => panic!("nothing to do for {wait:?}; paused: {:?}", self.paused()),
        }
    }

    /// Steps as long as there is something to do at this moment; returns how long there will be nothing.
    pub fn work_now(&self) -> Duration {
        for _ in 0..STEPS_MAX {
            if let Step::Idle(wait) = self.step() {
                return wait;
            }
        }
        panic!("work without end");
    }

    /// Steps and lets time pass over the waits until nothing is owed; returns how much time passed.
    pub fn drain(&self) -> Duration {
        self.drain_within(DEADLINE + 8 * HOUR)
    }

    /// As [`Bench::drain`]; panics when something is still owed after `limit`.
    pub fn drain_within(&self, limit: Duration) -> Duration {
        let passed = self.drain_for(limit);
        let waiting = self.rooms().queue.counts().waiting;
        assert_eq!(waiting, 0, "still owed after {passed:?}; paused: {:?}", self.paused());
        passed
    }

    /// As [`Bench::drain`], for at most `limit`; something may be owed then.
    pub fn drain_for(&self, limit: Duration) -> Duration {
        let started = self.truth.monotonic();
        for _ in 0..STEPS_MAX {
            let passed = self.truth.monotonic() - started;
            if let Step::Idle(wait) = self.step() {
                if self.rooms().queue.counts().waiting == 0 || passed >= limit {
                    return passed;
                }
                self.advance(wait.min(limit - passed).max(Duration::from_millis(1)));
            }
        }
        panic!("a drain without end; paused: {:?}", self.paused());
    }

    pub fn paused(&self) -> Option<Paused> {
        self.collector().paused()
    }

    pub fn paused_code(&self) -> Option<String> {
        self.paused().map(|paused| paused.code)
    }

    pub fn media_calls(&self) -> u64 {
        self.simulator.calls(Route::MediaGet)
    }

    /// Pictures that are home.
    pub fn saved(&self) -> usize {
        self.stands().values().filter(|stand| **stand == Stand::Saved).count()
    }

    pub fn token_calls(&self) -> u64 {
        self.simulator.calls(Route::StableToken) + self.simulator.calls(Route::Token)
    }

    /// Where all submitted ids stand.
    pub fn stands(&self) -> BTreeMap<String, Stand> {
        let mut stands = BTreeMap::new();
        for receipt in &self.receipts {
            let view = self.rooms().queue.receipt(receipt).expect("a receipt that was given");
            for (id, state) in view.pictures {
                let stand = match state {
                    JobState::Saved(_) => Stand::Saved,
                    JobState::Failed(kept) => Stand::Failed(kept.code),
                    JobState::Waiting { last_code, .. } => Stand::Waiting(last_code),
                };
                stands.insert(id.to_string(), stand);
            }
        }
        stands
    }

    pub fn stand(&self, id: &str) -> Stand {
        self.stands().remove(id).expect("an id that was submitted")
    }

    /// Attempts that were counted against an id.
    pub fn attempts(&self, id: &str) -> u32 {
        let views = self.receipts.iter().map(|receipt| self.rooms().queue.receipt(receipt).unwrap());
        let pictures = views.flat_map(|view| view.pictures);
        match pictures.into_iter().find(|(known, _)| known.as_str() == id).unwrap().1 {
            JobState::Waiting { attempts, .. } => attempts,
            settled => panic!("{id} is settled: {settled:?}"),
        }
    }

    /// The rows of all manifests, by media_id.
    pub fn rows(&self) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        for day in day_folders(&self.pictures()).unwrap() {
            for row in self.rows_of(&day) {
                let before = rows.insert(row.media_id.clone(), row);
                assert!(before.is_none(), "an id stands twice in the manifests: {before:?}");
            }
        }
        rows
    }

    /// A day that has no picture yet has no manifest either.
    fn rows_of(&self, day: &str) -> Vec<Row> {
        let path = self.pictures().join(day).join(manifest::MANIFEST_FILE);
        if path.exists() { manifest::read(&path).unwrap() } else { Vec::new() }
    }

    /// The promises of the design, for everything that was submitted: each id is one whole picture or on the
    /// failed list with a reason; nothing is owed; nothing is left over; WeChat has nothing to complain about.
    pub fn check_promises(&self) {
        let stands = self.stands();
        let rows = self.rows();
        for (id, stand) in &stands {
            match stand {
                Stand::Saved => self.check_picture(id, &rows),
                Stand::Failed(code) => {
                    assert_eq!(
                        fault::entry(code).code,
                        code,
                        "{id} failed with a code that is not in the table"
                    );
                    assert!(!rows.contains_key(id), "{id} failed and has a picture");
                }
                Stand::Waiting(code) => panic!("{id} is still owed ({code:?})"),
            }
        }
        let saved = stands.values().filter(|stand| **stand == Stand::Saved).count();
        assert_eq!(rows.len(), saved, "pictures that nobody submitted");
        let failed = self.rooms().queue.failed(usize::MAX);
        assert_eq!(failed.len(), stands.len() - saved);
        self.check_folder(saved);
        assert_eq!(self.set_aside(), 0, "a sound database was taken for damaged");
        assert_eq!(self.simulator.violations(), Vec::<String>::new());
    }

    /// How often the queue's database was taken for damaged.
    pub fn set_aside(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let is_bad = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("queue.bad");
        entries.map(|entry| entry.unwrap().file_name()).filter(is_bad).count()
    }

    fn check_picture(&self, id: &str, rows: &BTreeMap<String, Row>) {
        let row = rows.get(id).unwrap_or_else(|| panic!("{id} is saved and in no manifest"));
        let day = day_of(&row.file);
        let bytes = std::fs::read(self.pictures().join(&day).join(&row.file)).unwrap();
        let sent = self.simulator.uploaded(id).expect("a picture that was uploaded");
        assert!(bytes == sent, "{id}: {} bytes came home of {}", bytes.len(), sent.len());
        assert_eq!(row.bytes, sent.len() as u64);
    }

    /// Every file in the pictures folder is a listed picture with the listed hash, or one of the two lists.
    fn check_folder(&self, saved: usize) {
        let verified = verify::verify(&self.pictures(), &mut Unwatched).unwrap();
        assert_eq!(verified.findings, vec![]);
        assert_eq!(verified.good, saved as u64);
        let mut files = 0;
        for day in day_folders(&self.pictures()).unwrap() {
            let folder = self.pictures().join(&day);
            let rows = self.rows_of(&day);
            let sums = std::fs::read_to_string(folder.join(manifest::SUMS_FILE)).unwrap_or_default();
            let listed: BTreeMap<&str, &str> = sums
                .lines()
                .map(|line| manifest::parse_sums_line(line).unwrap())
                .map(|(h, f)| (f, h))
                .collect();
            let hashes: BTreeMap<&str, &str> =
                rows.iter().map(|row| (row.file.as_str(), row.sha256.as_str())).collect();
            assert_eq!(listed, hashes, "SHA256SUMS and manifest differ");
            let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
            files +=
                names.filter(|name| name != manifest::MANIFEST_FILE && name != manifest::SUMS_FILE).count();
        }
        assert_eq!(files, saved, "files that are no listed picture");
    }
}

fn saved_on(album: &Album, day: &str) -> HashMap<MediaId, String> {
    let saved = album.saved_on(day).unwrap();
    saved.into_iter().map(|(id, saved)| (id, saved.sha256)).collect()
}

/// The day's folder of a file, from its name `20261122T…`.
fn day_of(file: &str) -> String {
    format!("{}-{}-{}", &file[..4], &file[4..6], &file[6..8])
}

/// A small whole JPEG that no other number gives: its comment holds it.
pub fn picture(number: u64) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0, 16];
    bytes.extend(b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    bytes.extend([0xff, 0xfe, 0, 10]);
    bytes.extend(number.to_be_bytes());
    bytes.extend([0xff, 0xda, 0, 2]);
    // Long enough for every fault that cuts something off.
    bytes.extend((0..3000_u64).map(|at| (number.wrapping_mul(31).wrapping_add(at) % 0xff) as u8));
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// An address of this machine where nobody listens, and where nobody else will: each test has a number of its
/// own, and no other program listens on such addresses.
pub fn dead_address(number: u8) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 77, number), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// The error that a fetch ends with.
pub fn fetch_fault_of(wechat: &WeChat, id: &str) -> WeChatFault {
    match wechat.fetch(&MediaId::parse(id).unwrap()) {
        Ok(_) => panic!("{id} was fetched"),
        Err(fault) => fault,
    }
}

/// WeChat's error `code` for every fetch.
pub fn refuse_all(bench: &Bench, code: i64) {
    bench.simulator.always(Route::MediaGet, Fault::code(code));
}
