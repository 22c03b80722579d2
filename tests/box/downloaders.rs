//! The same faults for the outbound door, ureq and curl: who says what, when, and who leaves threads or descriptors
//! behind. The door is judged; the other two are shown beside it:
//!
//! `cargo test --test box downloaders -- --nocapture`
//!
//! All three have the same limits as far as they know such a limit: two seconds for the connection, for the TLS
//! handshake, for the first byte, and without a byte; ten seconds for the whole; a mebibyte of answer.

mod faults;
mod three;

use faults::{Fault, Place, faults};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};
use three::{Downloader, downloaders};

/// Set for the process that counts what is left behind.
const COUNTING: &str = "COUNTING_WHAT_DOWNLOADERS_LEAVE_BEHIND";

/// How long a machine under load may take to let go of what has ended.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Mute peers at once.
const MUTE_PEERS: usize = 20;

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn row(place: &Place, fault: &Fault, three: &[Box<dyn Downloader>]) -> String {
    let mut line = format!("| {} |", fault.name);
    for (number, downloader) in three.iter().enumerate() {
        let url = place.stage(fault);
        let started = Instant::now();
        let said = downloader.get(place, &url);
        if number == 0 {
            assert_eq!(said, fault.expected, "{}", fault.name);
        }
        line += &format!(" {said} ({}) |", seconds(started.elapsed()));
    }
    line
}

#[test]
fn the_same_faults_for_the_door_ureq_and_curl() {
    let place = Place::new();
    let three = downloaders(&place);
    println!("| fault | tubox | ureq | curl |\n|---|---|---|---|");
    let lines: Vec<String> = std::thread::scope(|scope| {
        let rows: Vec<_> = faults()
            .into_iter()
            .map(|fault| {
                let (place, three) = (&place, &three);
                scope.spawn(move || row(place, &fault, three))
            })
            .collect();
        rows.into_iter().map(|row| row.join().unwrap()).collect()
    });
    println!("{}", lines.join("\n"));
}

/// curl is a process each time and can leave nothing.
#[test]
fn who_leaves_what_behind_after_mute_peers() {
    if std::env::var_os(COUNTING).is_some() {
        return count();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "downloaders::who_leaves_what_behind_after_mute_peers",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(COUNTING, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().filter(|line| line.contains("mute peers")).for_each(|line| println!("{line}"));
}

fn count() {
    let place = Place::new();
    for (number, downloader) in downloaders(&place).iter().take(2).enumerate() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", mute.local_addr().unwrap());
        downloader.get(&place, &url); // what a process sets up once
        let before = threads_and_descriptors();
        std::thread::scope(|scope| {
            for _ in 0..MUTE_PEERS {
                scope.spawn(|| downloader.get(&place, &url));
            }
        });
        // A thread that has ended may be listed for a moment longer.
        let patience = Instant::now();
        while threads_and_descriptors() > before && patience.elapsed() < SETTLED_WITHIN {
            std::thread::yield_now();
        }
        let after = threads_and_descriptors();
        println!(
            "{}, {MUTE_PEERS} mute peers: threads and descriptors {before:?} → {after:?}",
            downloader.name()
        );
        assert!(number > 0 || after <= before, "the door leaves something behind");
    }
}

fn threads_and_descriptors() -> (usize, usize) {
    let entries = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (entries("/proc/self/task"), entries("/proc/self/fd"))
}
