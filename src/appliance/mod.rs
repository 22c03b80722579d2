//! The appliance: all rooms wired together, started and stopped in order.
//!
//! Start: descriptors, the lock on the data folder, album, queue, WeChat, collector, web, and the public door
//! last, when everything behind it stands. Stop: the other way round — nobody comes in, answers in hand finish,
//! downloads in hand finish or are released, the queue is made durable.

mod alerts;
mod overview;
pub mod status;
mod watchdog;

use crate::album::Album;
use crate::collector::{Collector, CollectorOptions, WORKERS_PER_TURN};
use crate::config::Config;
use crate::door::inbound::{INSIDE_MAX, InboundDoor, InboundLimits, InboundOptions, Reuse};
use crate::door::outbound::{OutboundDoor, OutboundLimits, OutboundOptions};
use crate::ground::checked_clock::CheckedClock;
use crate::ground::clock::{SharedClock, day_utc};
use crate::ground::commit::Crowd;
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use crate::ground::random::SharedRandom;
use crate::ground::stop::Stop;
use crate::queue::{Queue, QueueOptions};
use crate::web::server::WebServer;
use crate::web::{Rooms as WebRooms, Site, WebOptions};
use crate::wechat::{WeChat, WeChatOptions};
use anyhow::{Context, Result};
use overview::BoxOverview;
use rustix::fs::{FlockOperation, flock};
use std::collections::HashMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use watchdog::Watchdog;

/// How long answers in hand may take after a stop was asked for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// How long downloads in hand may take after that; then their passages are cut and the ids released.
const DOWNLOADS_WITHIN: Duration = Duration::from_secs(3);
/// How often the queue is made durable and tidied.
const TEND_EVERY: Duration = Duration::from_secs(5);
/// Of `limits.min_free_bytes`, the part that stays for the queue when downloading has stopped already.
const QUEUE_RESERVE_SHARE: u64 = 8;
/// Ways between door and web room that are kept while nobody uses them, as long as there are so many clients; each
/// costs a thread that waits. All that there can be: making one is dear, and a crowd would make them all the time.
const WAYS_KEPT: usize = INSIDE_MAX;
/// Days before today whose folders may hold leftovers: a picture lives 3 days.
const REPAIR_DAYS: i64 = 4;
const DAY_MS: i64 = 86_400_000;
/// Each client costs up to four descriptors.
const DESCRIPTORS_WANTED: u64 = 4096;

/// What is wrong with the surroundings: port, disk, lock. Exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct StartError(pub anyhow::Error);

/// The running box.
pub struct Appliance {
    door: Arc<InboundDoor>,
    web: WebServer,
    stop: Stop,
    keeper: JoinHandle<()>,
    tender: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    lander: JoinHandle<()>,
    outbound: Arc<OutboundDoor>,
    rooms: Rooms,
    watchdog: Watchdog,
    _lock: File,
}

/// The rooms of a running box, for status and tests.
#[derive(Clone)]
pub struct Rooms {
    /// What is owed.
    pub queue: Arc<Queue>,
    /// The way to WeChat.
    pub wechat: Arc<WeChat>,
    /// What is kept.
    pub album: Arc<Album>,
    /// The work.
    pub collector: Arc<Collector>,
}

impl Appliance {
    /// Starts the box. `is_demo`: the page works outside WeChat.
    pub fn start(
        config: &Config,
        is_demo: bool,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Result<Appliance, StartError> {
        start(config, is_demo, clock, random).map_err(StartError)
    }

    /// Where the box listens.
    pub fn address(&self) -> SocketAddr {
        self.door.local_addr()
    }

    /// The rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Looks at itself through its own door as a client would; an error when it has failed to answer several
    /// times in a row, and the process should end and be started again.
    pub fn look(&self) -> Result<()> {
        self.watchdog.look(self.web.is_alive())
    }

    /// How it goes, on one line.
    pub fn in_one_line(&self) -> String {
        let counts = self.rooms.queue.counts();
        let paused = self.rooms.collector.paused();
        let paused =
            paused.map(|paused| format!("; everything waits: {}", paused.reason.en)).unwrap_or_default();
        format!("{} saved, {} waiting, {} failed{paused}", counts.saved, counts.waiting, counts.failed)
    }

    /// Stops in order. Returns within about ten seconds whatever the network does.
    pub fn stop(self) {
        log::info!("stopping: nobody new comes in");
        self.stop.ask();
        self.door.close(ANSWERS_WITHIN);
        self.web.close();
        self.rooms.queue.bell().ring();
        self.rooms.wechat.keeper_bell().ring();
        let cutter = cut_after(self.outbound.clone(), DOWNLOADS_WITHIN);
        for worker in self.workers.into_iter().chain([self.keeper, self.tender]) {
            if worker.join().is_err() {
                log::error!("a worker had panicked");
            }
        }
        self.rooms.collector.close_landing();
        if self.lander.join().is_err() {
            log::error!("the thread that commits had panicked");
        }
        cutter.ask();
        self.rooms.queue.close();
        log::info!("stopped");
    }
}

fn start(config: &Config, is_demo: bool, clock: SharedClock, random: SharedRandom) -> Result<Appliance> {
    let clock = CheckedClock::over(clock);
    raise_descriptor_limit();
    refuse_huge_pages();
    durable::create_private_folder(&config.data_dir)
        .with_context(|| format!("could not make the data folder {}", config.data_dir.display()))?;
    let lock = lock_data_dir(&config.data_dir)?;
    let listener = TcpListener::bind(config.listen)
        .with_context(|| format!("could not listen on {}: is another program using it?", config.listen))?;

    let crowd = Crowd::default();
    let (rooms, outbound) = open_rooms(config, &crowd, &clock, &random)?;
    let stop = Stop::new();
    let overview =
        Arc::new(BoxOverview::new(rooms.clone(), outbound.clone(), &config.runtime_dir, clock.clone()));
    let (web, socket) = open_web(config, is_demo, &rooms, overview.clone(), &clock, &random)?;
    let keeper = spawn("keeper", keep(rooms.wechat.clone(), stop.clone()))?;
    let tender = spawn("tender", tend(rooms.clone(), clock.clone(), stop.clone()))?;
    let mut workers = Vec::new();
    if let Some(alerts) = alerts::open(config, &clock, &random)? {
        // Not waited for at the end: it may be in the middle of a slow webhook.
        drop(spawn(
            "alerts",
            alerts::tell(alerts, rooms.clone(), config.limits.free_bytes_min, clock.clone(), stop.clone()),
        )?);
    }
    for number in 0..config.drain.downloads * WORKERS_PER_TURN {
        let (collector, stop) = (rooms.collector.clone(), stop.clone());
        workers.push(spawn(&format!("download-{number}"), move || collector.work(&stop))?);
    }
    let collector = rooms.collector.clone();
    let lander = spawn("commit", move || collector.land())?;
    let door = InboundDoor::open(
        listener,
        InboundOptions {
            limits: InboundLimits {
                names_inside: Some(crate::web::server::HEADERS_READ),
                ..InboundLimits::default()
            },
            upstream: socket,
            trusted_proxies: config.limits.trusted_proxies.clone(),
            reuse: Reuse { ways_max: WAYS_KEPT, not_under: crate::web::server::STREAMS_UNDER },
            crowd,
        },
    );
    let door = Arc::new(door.with_context(|| format!("could not open the door on {}", config.listen))?);
    overview.watch_door(&door);
    log::info!("listening on {} for {}", door.local_addr(), config.public_url);
    let watchdog = Watchdog::new(door.local_addr());
    Ok(Appliance { door, web, stop, keeper, tender, workers, lander, outbound, rooms, watchdog, _lock: lock })
}

fn open_rooms(
    config: &Config,
    crowd: &Crowd,
    clock: &SharedClock,
    random: &SharedRandom,
) -> Result<(Rooms, Arc<OutboundDoor>)> {
    let album = Arc::new(Album::open(&config.pictures_dir, config.drain.picture_bytes_max, clock.clone())?);
    let queue = Arc::new(open_queue(config, &album, crowd, clock, random)?);
    repair(&album, &queue.days_owed())?;
    let outbound = Arc::new(open_outbound(config, clock, random)?);
    let wechat = Arc::new(WeChat::open(WeChatOptions {
        app_id: config.wechat.app_id.clone(),
        app_secret: config.wechat.app_secret.clone(),
        origins: config.wechat.api_urls.clone(),
        token_kind: config.wechat.token,
        credentials_file: config.data_dir.join("credentials.json"),
        door: outbound.clone(),
        clock: clock.clone(),
        random: random.clone(),
    }));
    let collector = Collector::new(
        crate::collector::Rooms { queue: queue.clone(), wechat: wechat.clone(), album: album.clone() },
        CollectorOptions {
            downloads: config.drain.downloads,
            retry_min: config.drain.retry_min,
            retry_max: config.drain.retry_max,
            deadline: config.drain.deadline,
            free_bytes_min: config.limits.free_bytes_min,
        },
        clock.clone(),
        random.clone(),
    );
    Ok((Rooms { queue, wechat, album, collector: Arc::new(collector) }, outbound))
}

fn open_queue(
    config: &Config,
    album: &Arc<Album>,
    crowd: &Crowd,
    clock: &SharedClock,
    random: &SharedRandom,
) -> Result<Queue> {
    let options = QueueOptions {
        data_dir: config.data_dir.clone(),
        waiting_max: config.limits.queue,
        reserve_bytes: config.limits.free_bytes_min / QUEUE_RESERVE_SHARE,
        deadline: config.drain.deadline,
        clock: clock.clone(),
        random: random.clone(),
        crowd: crowd.clone(),
    };
    Queue::open(options, &|day| saved_on(album, day))
}

fn open_outbound(config: &Config, clock: &SharedClock, random: &SharedRandom) -> Result<OutboundDoor> {
    let limits = OutboundLimits {
        stall: config.drain.stall_timeout,
        first_byte_within: config.drain.stall_timeout,
        answer_bytes_max: config.drain.picture_bytes_max.saturating_add(1),
        head_bytes_max: crate::wechat::ANSWER_HEAD_BYTES_MAX,
        ..OutboundLimits::default()
    };
    let options = OutboundOptions {
        extra_roots_pem: config.wechat.ca_pem.clone(),
        proxy: config.wechat.proxy.clone(),
        limits,
        force_ipv4: config.wechat.force_ipv4,
        clock: clock.clone(),
        random: random.clone(),
        ..OutboundOptions::to(config.wechat.api_urls.clone())
    };
    OutboundDoor::open(options).context("could not open the way out")
}

/// The web room behind its private socket. Returns the socket's path as the door must name it.
fn open_web(
    config: &Config,
    is_demo: bool,
    rooms: &Rooms,
    overview: Arc<BoxOverview>,
    clock: &SharedClock,
    random: &SharedRandom,
) -> Result<(WebServer, PathBuf)> {
    let options = WebOptions {
        public_url: config.public_url.clone(),
        ids_per_submission: config.limits.ids_per_submission,
        open_submit: config.limits.open_submit,
        rate: config.limits.rate,
        verify_dir: config.wechat.verify_dir.clone(),
        jssdk_urls: config.wechat.jssdk_urls.clone(),
        data_dir: config.data_dir.clone(),
        is_demo,
    };
    let web_rooms = WebRooms {
        queue: rooms.queue.clone(),
        wechat: rooms.wechat.clone(),
        overview,
        pictures_dir: rooms.album.root().to_owned(),
    };
    let site = Site::new(options, web_rooms, clock.clone(), random.clone())?;
    let socket = private_socket(&config.data_dir)?;
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("could not make the private socket in {}", config.data_dir.display()))?;
    Ok((WebServer::start(listener, Arc::new(site))?, socket))
}

/// A socket's path is at most 107 bytes long and the data folder's may be longer, so it is named through an open
/// descriptor of the folder, which is kept for the life of the process.
fn private_socket(data_dir: &Path) -> Result<PathBuf> {
    let folder = File::open(data_dir).with_context(|| format!("could not open {}", data_dir.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/web.sock", folder.as_raw_fd()));
    std::mem::forget(folder);
    Ok(path)
}

/// flock is let go by the kernel however the process ends.
fn lock_data_dir(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("could not open the lock {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!("could not lock {}: another tubox is running with this data_dir", path.display())
    })?;
    Ok(file)
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS_WANTED, |maximum| maximum.min(DESCRIPTORS_WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Where the kernel hands out huge pages unasked (Debian's does), it makes 2 MiB of every stack and every table of which a
/// page was touched: in a minute or two an idle box holds 30 MiB instead of 5.
fn refuse_huge_pages() {
    // A kernel that knows none has none to refuse.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Repairs what the last run can have left half-done, a long list of days being no reason to start late: before the
/// start the days of ids that are owed, however long the box was off; behind it, by the tender, the last days in any
/// case. Whatever touches a day first repairs it too. No other day is read.
fn repair(album: &Album, days: &[String]) -> Result<()> {
    let swept = album.repair(days.iter().map(String::as_str))?;
    if swept > 0 {
        log::info!("removed {swept} unfinished downloads of an earlier run");
    }
    Ok(())
}

fn last_days(clock: &SharedClock) -> Vec<String> {
    (0..=REPAIR_DAYS).map(|back| day_utc(clock.wall_ms() - back * DAY_MS)).collect()
}

fn saved_on(album: &Album, day: &str) -> HashMap<MediaId, String> {
    match album.saved_on(day) {
        Ok(saved) => saved.into_iter().map(|(id, saved)| (id, saved.sha256)).collect(),
        Err(error) => {
            log::warn!("{error:#}");
            HashMap::new()
        }
    }
}

fn keep(wechat: Arc<WeChat>, stop: Stop) -> impl FnOnce() + Send + 'static {
    move || {
        while !stop.asked() {
            let rings = wechat.keeper_bell().rings();
            let wait = wechat.keep();
            if !stop.asked() {
                wechat.keeper_bell().wait(rings, wait);
            }
        }
    }
}

fn tend(rooms: Rooms, clock: SharedClock, stop: Stop) -> impl FnOnce() + Send + 'static {
    move || {
        if let Err(error) = repair(&rooms.album, &last_days(&clock)) {
            log::warn!("{error:#}");
        }
        while !stop.wait(TEND_EVERY) {
            rooms.queue.tend(&|day| saved_on(&rooms.album, day));
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.with_context(|| format!("could not start the thread {name}"))
}

/// Cuts what is still on its way out after `patience`, unless the returned signal is given before.
fn cut_after(door: Arc<OutboundDoor>, patience: Duration) -> Stop {
    let done = Stop::new();
    let waiting = done.clone();
    let cut = move || {
        if !waiting.wait(patience) {
            door.close();
        }
    };
    if spawn("cutter", cut).is_err() {
        log::warn!("could not start the thread that ends slow downloads");
    }
    done
}
