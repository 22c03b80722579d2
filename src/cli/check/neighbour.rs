//! Who is there already: whether the port is free, our own box answers on it, or a stranger does; and how that
//! box fares. Looking disturbs nobody: the port is tried without listening on it, and whether a box holds the
//! data folder is read from the kernel's list of locks instead of trying to lock.

use super::finding::{Both, Finding, both};
use super::http::{Reply, get};
use crate::cli::ask::{admin_token, callable};
use crate::config::Config;
use crate::ground::clock::Deadline;
use crate::ground::escape::for_log;
use crate::ground::language::Language;
use rustix::fs::{major, minor};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// All questions to the one who answers on the port; a box on this machine answers much sooner.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Who is there.
pub(super) enum Neighbour {
    /// No box runs here.
    Nobody,
    /// The box of these settings, with its status in both languages.
    Ours(Box<Status>),
    /// A box of which nothing is known but that it runs.
    SomeBox,
    /// Another program has the port.
    Stranger,
}

/// The box's status as it tells it.
pub(super) struct Status {
    pub zh: Value,
    pub en: Value,
}

impl Status {
    /// A text of the status in both languages.
    pub(super) fn text(&self, pointer: &str) -> Option<Both> {
        Some(both(self.zh.pointer(pointer)?.as_str()?, self.en.pointer(pointer)?.as_str()?))
    }
}

impl Neighbour {
    /// Whether a box runs that may be using the account.
    pub(super) fn is_a_box(&self) -> bool {
        matches!(self, Neighbour::Ours(_) | Neighbour::SomeBox)
    }
}

pub(super) fn look(config: &Config) -> (Neighbour, Vec<Finding>) {
    let listen = config.listen;
    let is_locked = is_locked(&config.data_dir.join("lock"));
    match try_port(listen) {
        Ok(()) if is_locked == Some(true) => (Neighbour::SomeBox, vec![free(listen), elsewhere(listen)]),
        Ok(()) => {
            let idle = Finding::ok("box", both("没有在运行", "does not run"));
            (Neighbour::Nobody, vec![free(listen), idle])
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => who_answers(config, is_locked),
        Err(error) => (Neighbour::Nobody, vec![unusable(listen, &error)]),
    }
}

/// Binds as the box would, but does not listen: so nobody notices, not even a box that starts at this moment.
fn try_port(listen: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())
}

fn free(listen: SocketAddr) -> Finding {
    Finding::ok("listen", both(format!("{listen} 空闲"), format!("{listen} is free")))
}

fn elsewhere(listen: SocketAddr) -> Finding {
    let detail = both(
        format!("一个使用此数据目录的图盒正在运行，但不在 {listen} 监听"),
        format!("a box with this data folder runs, but it does not listen on {listen}"),
    );
    let remedy = both(
        "如果启动后修改过设置，请重启图盒；如果它正在启动，请稍候",
        "if the settings were changed since it started, start it again; if it is just starting, wait a moment",
    );
    Finding::warning("box", detail, remedy)
}

fn unusable(listen: SocketAddr, error: &io::Error) -> Finding {
    let detail =
        both(format!("无法在 {listen} 监听：{error}"), format!("could not listen on {listen}: {error}"));
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => both(
            "1024 以下的端口需要特权：改用 8080 这样的端口，由代理转发",
            "ports below 1024 need privileges: take one such as 8080 and let the proxy forward to it",
        ),
        ErrorKind::AddrNotAvailable => both(
            "本机没有这个地址：检查设置 listen",
            "this machine has no such address: check the setting listen",
        ),
        _ => both("检查设置 listen", "check the setting listen"),
    };
    Finding::fault("listen", detail, remedy)
}

fn who_answers(config: &Config, is_locked: Option<bool>) -> (Neighbour, Vec<Finding>) {
    let asked = Asked { address: callable(config.listen), deadline: Deadline::after(ANSWERS_WITHIN) };
    let alive = asked.get("/healthz", &[]);
    if !alive.is_ok_and(|reply| reply.status == 200 && json(&reply)["alive"] == Value::Bool(true)) {
        return (Neighbour::Stranger, vec![taken(config.listen)]);
    }
    // The token goes only to the box that holds our data folder, not to whoever says that it is alive.
    if is_locked == Some(false) {
        return (Neighbour::SomeBox, vec![another_box(config)]);
    }
    match ask_status(config, &asked) {
        Ok(status) => {
            let findings = vec![own(config.listen), fares(&status, &asked)];
            (Neighbour::Ours(Box::new(status)), findings)
        }
        Err(NoStatus::Refused) => (Neighbour::SomeBox, vec![another_box(config)]),
        Err(NoStatus::Unreadable(why)) => (Neighbour::SomeBox, vec![unknown_box(config.listen, &why)]),
    }
}

/// Who answers on the port, and until when questions may be asked.
struct Asked {
    address: SocketAddr,
    deadline: Deadline,
}

impl Asked {
    fn get(&self, target: &str, headers: &[(&str, &str)]) -> io::Result<Reply> {
        let within = self.deadline.remaining().ok_or(ErrorKind::TimedOut)?;
        get(self.address, target, headers, within)
    }
}

fn taken(listen: SocketAddr) -> Finding {
    let port = listen.port();
    Finding::fault(
        "listen",
        both(format!("{listen} 被另一个程序占用"), format!("another program has {listen}")),
        both(
            format!("用 ss -ltnp 'sport = :{port}' 查看是哪个程序，停止它，或更改设置 listen"),
            format!("see which one with ss -ltnp 'sport = :{port}'; stop it, or change the setting listen"),
        ),
    )
}

fn own(listen: SocketAddr) -> Finding {
    Finding::ok(
        "listen",
        both(format!("{listen}：图盒自己在监听"), format!("our own box answers on {listen}")),
    )
}

fn another_box(config: &Config) -> Finding {
    Finding::fault(
        "listen",
        both(
            format!("{} 上是另一个图盒，它的数据目录不是 {}", config.listen, config.data_dir.display()),
            format!(
                "another box has {}, with another data folder than {}",
                config.listen,
                config.data_dir.display()
            ),
        ),
        both("停止它，或更改设置 listen 或 data_dir", "stop it, or change the setting listen or data_dir"),
    )
}

fn unknown_box(listen: SocketAddr, why: &str) -> Finding {
    Finding::warning(
        "listen",
        both(
            format!("{listen} 上有一个图盒，但看不出是否属于这些设置：{why}"),
            format!(
                "a box answers on {listen}; whether it is the one of these settings cannot be seen: {why}"
            ),
        ),
        both("以运行图盒的用户身份再检查一次", "check again as the user that the box runs as"),
    )
}

enum NoStatus {
    /// It does not take our token.
    Refused,
    /// Our token or the answer cannot be read.
    Unreadable(String),
}

fn ask_status(config: &Config, asked: &Asked) -> Result<Status, NoStatus> {
    let token = admin_token(config).map_err(|error| NoStatus::Unreadable(format!("{error:#}")))?;
    let bearer = format!("Bearer {token}");
    let ask = |language: Language| {
        let headers = [("Authorization", bearer.as_str()), ("Accept-Language", language.tag())];
        match asked.get("/admin/status", &headers) {
            Ok(reply) if reply.status == 200 => Ok(json(&reply)),
            Ok(reply) if reply.status == 401 => Err(NoStatus::Refused),
            Ok(reply) => Err(NoStatus::Unreadable(format!("status {}", reply.status))),
            Err(error) => Err(NoStatus::Unreadable(error.to_string())),
        }
    };
    Ok(Status { zh: ask(Language::Chinese)?, en: ask(Language::English)? })
}

/// How the running box fares, in a line; `tubox status` tells more.
fn fares(status: &Status, asked: &Asked) -> Finding {
    let ready = asked.get("/readyz", &[]);
    if let Ok(reply) = ready.as_ref()
        && reply.status != 200
    {
        let why = for_log(json(reply)["why"].as_str().unwrap_or_default(), 200);
        return Finding::fault(
            "box",
            both("正在运行，但不能接受提交", "runs, but cannot take submissions").followed_by(&why),
            both("腾出磁盘空间；细节见 tubox status", "make room on the disk; tubox status tells more"),
        );
    }
    if let (Some(reason), Some(remedy)) = (status.text("/paused/reason"), status.text("/paused/remedy")) {
        let detail = both(
            format!("正在运行，但全部暂停：{}", reason.zh),
            format!("runs, but everything waits: {}", reason.en),
        );
        return Finding::warning("box", detail, remedy);
    }
    let number = |key: &str| status.en[key].as_u64().unwrap_or(0);
    let (waiting, failed) = (number("waiting"), number("failed_count"));
    if failed > 0 {
        return Finding::warning(
            "box",
            both(format!("正在运行；{failed} 张失败"), format!("runs; failed pictures: {failed}")),
            both("运行 tubox status 查看原因", "tubox status tells the reasons"),
        );
    }
    let detail = both(format!("正在运行；{waiting} 张等待"), format!("runs; waiting pictures: {waiting}"));
    Finding::ok("box", detail)
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

/// Whether some process holds a lock on the file; `None` when the kernel does not tell.
fn is_locked(lock: &Path) -> Option<bool> {
    let Ok(metadata) = lock.metadata() else { return Some(false) };
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let device = format!("{:02x}:{:02x}", major(metadata.dev()), minor(metadata.dev()));
    let path = lock.canonicalize().ok()?;
    let mut held = locks.lines().filter_map(|line| holder(line, metadata.ino()));
    Some(held.any(|(pid, on)| on == device || may_have_open(pid, &path)))
}

/// One line of `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 9430 fe:00:5677392 0 EOF`. Process and device, when it is
/// about a file with this number.
fn holder(line: &str, inode: u64) -> Option<(&str, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
    let (on, number) = file.rsplit_once(':')?;
    (number.parse() == Ok(inode)).then_some((pid, on))
}

/// Some file systems (btrfs, overlay) show another device there than to stat; then the process has to have the file
/// open. Other users' processes do not show that, but their name.
fn may_have_open(pid: &str, path: &Path) -> bool {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => {
            open.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == path))
        }
        Err(_) => {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "tubox")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_without_taking_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(is_locked(&path), Some(false));
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(is_locked(&path), Some(false));
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(is_locked(&path), Some(true));
        let line = "1: FLOCK  ADVISORY  WRITE 1 fe:00:7 0 EOF";
        assert_eq!(holder(line, 7), Some(("1", "fe:00")));
        assert_eq!(holder(line, 8), None);
        assert_eq!(holder(&line.replace("FLOCK", "POSIX"), 7), None);
        let pid = std::process::id().to_string();
        assert!(may_have_open(&pid, &path.canonicalize().unwrap()));
        drop(file);
        assert!(!may_have_open(&pid, &path));
    }

    #[test]
    fn a_port_is_tried_without_being_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(try_port(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        let tried = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        tried.set_reuse_address(true).unwrap();
        tried.bind(&address.into()).unwrap();
        std::net::TcpListener::bind(address).expect("a box can start while the port is tried");
    }
}
