//! `tubox demo`: the whole box against the simulator, with a first batch of sample pictures that goes the way of
//! every picture: page, cookie, submission, queue, download, disk.

use super::args::DemoArgs;
use super::ask::ask;
use super::{Ended, on_signal, say, start_log};
use crate::appliance::Appliance;
use crate::config::{self, Config, Environment};
use crate::ground::clock::{SharedClock, SystemClock};
use crate::ground::durable;
use crate::ground::random::{OsRandom, SharedRandom};
use crate::ground::stop::Stop;
use crate::simulator::samples::sample_picture;
use crate::simulator::{Simulator, SimulatorOptions};
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the numbers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long `--once` waits for the samples.
const ONCE_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn run(args: &DemoArgs) -> Result<(), Ended> {
    let clock = SystemClock::shared();
    start_log(&clock);
    log::set_max_level(log::LevelFilter::Warn);
    let stop = Stop::new();
    on_signal(stop.clone())?;
    let data_dir = std::path::absolute(&args.data_dir)
        .with_context(|| format!("could not use the folder {}", args.data_dir.display()))?;
    let random = OsRandom::shared();
    let simulator = start_simulator(&data_dir, &clock, &random)?;
    let config = demo_config(args.listen, &data_dir, &simulator)?;
    let appliance = Appliance::start(&config, true, clock.clone(), random)?;
    tell_where(&config, &appliance);

    let sent = send_samples(&appliance, &simulator, args.samples)?;
    let watched = watch(&appliance, &stop, &clock, sent.filter(|_| args.once));
    appliance.stop();
    simulator.stop();
    match watched {
        Watched::Stopped | Watched::AllHome => Ok(()),
        Watched::TooLate => Err(Ended::WithProblems),
    }
}

/// The simulator's pictures die with it, so ids that an earlier demo still owes are uploaded again from the
/// samples that it kept.
fn start_simulator(data_dir: &Path, clock: &SharedClock, random: &SharedRandom) -> Result<Simulator> {
    let simulator = Simulator::start(SimulatorOptions::loopback(clock.clone(), random.clone()))
        .context("could not start the simulator")?;
    let kept = sample_folder(data_dir);
    durable::create_private_folder(&kept).with_context(|| format!("could not make {}", kept.display()))?;
    for entry in std::fs::read_dir(&kept).with_context(|| format!("could not read {}", kept.display()))? {
        let path = entry.with_context(|| format!("could not read {}", kept.display()))?.path();
        let Some(media_id) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        simulator.upload_as(media_id, bytes, "image/jpeg");
    }
    Ok(simulator)
}

fn sample_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("simulator")
}

fn demo_config(listen: SocketAddr, data_dir: &Path, simulator: &Simulator) -> Result<Config, Ended> {
    // The page's address must be known before the box starts, so a free port is picked here.
    let probe = TcpListener::bind(listen).with_context(|| {
        format!("could not listen on {listen}: is another program using it? try --listen 127.0.0.1:0")
    })?;
    let listen = probe.local_addr().context("could not read the address of the page")?;
    drop(probe);
    let url = simulator.base_url();
    let options = SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared());
    let settings = [
        ("LISTEN", listen.to_string()),
        ("PUBLIC_URL", format!("http://{listen}")),
        ("DATA_DIR", data_dir.display().to_string()),
        ("WECHAT_APP_ID", options.app_id),
        ("WECHAT_APP_SECRET", options.app_secret),
        ("WECHAT_API_URLS", url.clone()),
        ("WECHAT_JSSDK_URLS", format!("{url}/open/js/jweixin-1.6.0.js")),
        ("DRAIN_RETRY_MIN", "500ms".to_owned()),
        ("DRAIN_RETRY_MAX", "10s".to_owned()),
        ("LIMITS_MIN_FREE_BYTES", "67108864".to_owned()),
    ];
    let environment: Environment =
        settings.into_iter().map(|(key, value)| (format!("TUBOX_{key}"), value)).collect();
    Ok(config::load(Some(Path::new("/dev/null")), &environment)?)
}

fn tell_where(config: &Config, appliance: &Appliance) {
    say(&format!(
        "\n  the page        http://{}/uploadImgDemo\n  the pictures    {}\n  stop with       Ctrl-C\n",
        appliance.address(),
        config.pictures_dir.display()
    ));
}

/// Sends samples as a phone would: opens the page, uploads to WeChat, submits what WeChat calls them. Returns
/// how many; none when an earlier demo has sent them.
fn send_samples(appliance: &Appliance, simulator: &Simulator, count: u32) -> Result<Option<u64>> {
    let counts = appliance.rooms().queue.counts();
    if counts.saved + counts.waiting + counts.failed > 0 {
        say(&format!(
            "going on: {} saved, {} waiting, {} failed",
            counts.saved, counts.waiting, counts.failed
        ));
        return Ok((counts.waiting > 0).then_some(counts.saved + counts.waiting));
    }
    if count == 0 {
        return Ok(None);
    }
    let kept = sample_folder_of(appliance);
    let mut ids = Vec::new();
    for index in 0..count {
        let sample = sample_picture(index);
        let media_id = simulator.upload(sample.bytes.clone(), sample.content_type);
        let path = kept.join(&media_id);
        durable::replace_private(&path, &sample.bytes)
            .with_context(|| format!("could not write {}", path.display()))?;
        ids.push(media_id);
    }
    let page = ask(appliance.address(), "GET /uploadImgDemo HTTP/1.1\r\n", "")?;
    let cookie = page.head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")?.split(';').next());
    let cookie = cookie.context("could not open the page: it sets no cookie")?;
    for part in ids.chunks(100) {
        let body = format!("data={}", serde_json::json!({"imgIds": part}));
        let head = format!(
            "POST /uploadImgData HTTP/1.1\r\nCookie: {cookie}\r\nAccept-Language: en\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            body.len()
        );
        let answer = ask(appliance.address(), &head, &body)?;
        if !String::from_utf8_lossy(&answer.body).contains("\"rc\":0") {
            bail!("could not submit the samples: {}", String::from_utf8_lossy(&answer.body));
        }
    }
    say(&format!("sent {count} sample pictures through the page"));
    Ok(Some(u64::from(count)))
}

fn sample_folder_of(appliance: &Appliance) -> PathBuf {
    let pictures = appliance.rooms().album.root();
    sample_folder(pictures.parent().unwrap_or(pictures))
}

enum Watched {
    Stopped,
    AllHome,
    TooLate,
}

/// Prints a line whenever the numbers change, until a stop; with `until_saved`, until so many are home.
fn watch(appliance: &Appliance, stop: &Stop, clock: &SharedClock, until_saved: Option<u64>) -> Watched {
    let started = clock.monotonic();
    let mut before = String::new();
    loop {
        let stopped = stop.wait(LOOK_EVERY);
        let rooms = appliance.rooms();
        let counts = rooms.queue.counts();
        let mut line = format!(
            "{} saved, {} waiting, {} downloading, {} failed",
            counts.saved, counts.waiting, counts.claimed, counts.failed
        );
        if let Some(paused) = rooms.collector.paused() {
            line.push_str(&format!("; everything waits: {}", paused.reason.en));
        }
        if line != before {
            say(&line);
            before = line;
        }
        if stopped {
            return Watched::Stopped;
        }
        match until_saved {
            Some(wanted) if counts.saved >= wanted => return Watched::AllHome,
            Some(_) if clock.monotonic() - started > ONCE_WITHIN => return Watched::TooLate,
            _ => {}
        }
    }
}
