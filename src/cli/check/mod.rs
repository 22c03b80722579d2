//! `tubox check`: looks at everything that can be wrong before it goes wrong. Each line says how it is, what that
//! means and what to do; the order is from near to far, because a near fault explains the far ones.
//!
//! It works before and beside a running box and takes nothing from it: no lock, no port, no token ([`neighbour`]).
//! Nothing that it makes for a trial stays. Every wait is bounded: disk, WeChat and the public address are looked
//! at side by side, and the whole ends within about 20 seconds even when nobody answers.
//!
//! - [`settings`], [`neighbour`], [`machine`]: what this machine can say at once
//! - [`folder`], [`file_system`], [`disk_speed`]: the two folders and the disks under them
//! - [`to_wechat`], [`from_outside`]: the way out, and the way in as phones see it ([`http`])
//! - [`finding`]: a line of the report

mod disk_speed;
mod file_system;
mod finding;
mod folder;
mod from_outside;
mod http;
mod machine;
mod neighbour;
mod settings;
mod to_wechat;

use super::args::CheckArgs;
use super::{Ended, say, speaks};
use crate::config::{self, Config};
use crate::ground::clock::{Deadline, SharedClock, SystemClock};
use crate::ground::language::Language;
use crate::ground::random::{OsRandom, SharedRandom};
use disk_speed::Bench;
use finding::{Finding, State, both, same, verdict};
use folder::Role;
use neighbour::Neighbour;
use serde_json::json;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A disk that hangs (a dying card, a network file system without its server) does not hold the report up.
const DISKS_WITHIN: Duration = Duration::from_secs(12);

pub(super) fn run(args: &CheckArgs) -> Result<(), Ended> {
    let environment = config::process_environment();
    let mut report = Report { language: speaks(&environment), as_json: args.json, findings: Vec::new() };
    let config = match config::load(args.config.as_deref(), &environment) {
        Ok(config) => config,
        Err(error) => {
            if args.json {
                report.add(settings::unusable(&error));
                report.close();
            }
            return Err(error.into());
        }
    };
    let surroundings = Surroundings { clock: SystemClock::shared(), random: OsRandom::shared() };
    report.add(settings::look(&config, args.config.as_deref(), &environment));
    look_around(&config, &environment, &surroundings, &mut report);
    if report.close() { Ok(()) } else { Err(Ended::WithProblems) }
}

struct Surroundings {
    clock: SharedClock,
    random: SharedRandom,
}

fn look_around(
    config: &Config,
    environment: &config::Environment,
    surroundings: &Surroundings,
    report: &mut Report,
) {
    let (neighbour, findings) = neighbour::look(config);
    report.add(findings);
    let disks = look_at_disks(config, surroundings);
    std::thread::scope(|scope| {
        let wechat = scope.spawn(|| ask_wechat(config, &neighbour, surroundings));
        let outside = scope.spawn(|| ask_from_outside(config, surroundings));
        gather(&disks, report);
        report.add(machine::look(environment));
        let seen = wechat.join().unwrap_or_else(|_| broken("wechat"));
        report.add(seen.findings);
        match outside.join() {
            Ok(fetched) => report.add(from_outside::judge(config, &neighbour, seen.ticket.as_ref(), fetched)),
            Err(_) => report.add(broken("public_url").findings),
        }
    });
}

fn broken(id: &'static str) -> to_wechat::Seen {
    let remedy = both("这是程序错误，请报告", "this is a fault of the program; please report it");
    let finding = Finding::fault(id, both("检查中断", "the check broke off"), remedy);
    to_wechat::Seen { ticket: None, findings: vec![finding] }
}

fn ask_wechat(config: &Config, neighbour: &Neighbour, around: &Surroundings) -> to_wechat::Seen {
    match to_wechat::door(config, config.wechat.api_urls.clone(), &around.clock, &around.random) {
        Ok(door) => to_wechat::look(config, neighbour, door, &around.clock, &around.random),
        Err(error) => {
            let why = format!("{error:#}");
            let remedy = both(
                "检查设置 wechat.ca_file 和 wechat.api_urls",
                "check the settings wechat.ca_file and wechat.api_urls",
            );
            to_wechat::Seen {
                ticket: None,
                findings: vec![Finding::fault("wechat", same(why.as_str()), remedy)],
            }
        }
    }
}

/// Through a door of its own, so that what WeChat's hosts do is counted apart.
fn ask_from_outside(config: &Config, around: &Surroundings) -> from_outside::Fetched {
    let origin = from_outside::public_origin(&config.public_url).ok();
    let door =
        origin.and_then(|origin| to_wechat::door(config, vec![origin], &around.clock, &around.random).ok());
    from_outside::fetch(config, door.as_deref(), &around.random)
}

/// Starts the look at both folders. In a thread that nobody waits for longer than [`DISKS_WITHIN`]: calls to a
/// disk that hangs cannot be ended.
fn look_at_disks(config: &Config, around: &Surroundings) -> Receiver<Vec<Finding>> {
    let (sender, receiver) = channel();
    let bench = Bench { clock: around.clock.clone(), random: around.random.clone() };
    let config = config.clone();
    let spawned = std::thread::Builder::new()
        .name("disks".to_owned())
        .spawn(move || look_at_folders(&config, &bench, &sender));
    if spawned.is_err() {
        log::warn!("could not start the thread that looks at the disks");
    }
    receiver
}

fn look_at_folders(config: &Config, bench: &Bench, sender: &Sender<Vec<Finding>>) {
    // Nobody may be there any more to hear it.
    let tell = |findings: Vec<Finding>| drop(sender.send(findings));
    let data = folder::look(Role::Data, &config.data_dir, &bench.random);
    let mut found = vec![data.finding];
    found.extend(data.anchor.as_ref().map(|anchor| file_system::look(Role::Data, anchor)));
    tell(found);
    let pictures = folder::look(Role::Pictures, &config.pictures_dir, &bench.random);
    let mut found = vec![pictures.finding];
    found.extend(pictures.anchor.as_ref().map(|anchor| file_system::look(Role::Pictures, anchor)));
    if let Some(anchor) = &pictures.anchor {
        found.extend(file_system::look_at_space(
            anchor,
            data.anchor.as_deref(),
            config.limits.free_bytes_min,
        ));
    }
    tell(found);
    let because = || both("无法在该目录中写入", "nothing can be written there");
    tell(vec![match data.anchor.filter(|_| data.is_writable) {
        Some(anchor) => bench.sync_latency(&anchor),
        None => Finding::not_tried("sync_latency", because()),
    }]);
    tell(vec![match pictures.anchor.filter(|_| pictures.is_writable) {
        Some(anchor) => bench.write_speed(&anchor),
        None => Finding::not_tried("write_speed", because()),
    }]);
}

fn gather(disks: &Receiver<Vec<Finding>>, report: &mut Report) {
    let deadline = Deadline::after(DISKS_WITHIN);
    loop {
        match disks.recv_timeout(deadline.remaining().unwrap_or_default()) {
            Ok(findings) => report.add(findings),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = DISKS_WITHIN.as_secs();
                let detail =
                    both(format!("{seconds} 秒内没有完成"), format!("did not finish within {seconds} s"));
                let remedy = both(
                    "检查磁盘和网络挂载，用 dmesg 查看；更换 SD 卡",
                    "look at the disk and at network mounts, dmesg tells; replace the card",
                );
                return report.add(vec![Finding::fault("disk", detail, remedy)]);
            }
        }
    }
}

/// The findings so far; told at once as text, or all at the end as JSON.
struct Report {
    language: Language,
    as_json: bool,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, findings: Vec<Finding>) {
        if !self.as_json {
            findings.iter().for_each(|finding| say(&finding.to_text(self.language)));
        }
        self.findings.extend(findings);
    }

    /// Ends the report; whether there was no fault.
    fn close(self) -> bool {
        let is_ok = self.findings.iter().all(|finding| finding.state != State::Fault);
        if self.as_json {
            let checks: Vec<_> = self.findings.iter().map(|finding| finding.to_json(self.language)).collect();
            say(&json!({"checks": checks, "ok": is_ok}).to_string());
        } else {
            say(&format!("\n{}", verdict(&self.findings, self.language)));
        }
        is_ok
    }
}
