//! Nothing stays behind: 500 peers that never answer a TLS handshake, and threads and descriptors are where they
//! were. Counted in a process of its own, because the other tests have threads and descriptors too.

use super::support::*;
use crate::door::outbound::Origin;
use crate::ground::clock::Deadline;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

const MUTE_PEERS: usize = 500;
const AT_A_TIME: usize = 25;

/// Set for the process that counts.
const COUNTING: &str = "COUNTING_THREADS_AND_DESCRIPTORS";

#[test]
fn mute_tls_peers_leave_nothing_behind() {
    if std::env::var_os(COUNTING).is_some() {
        return in_a_process_of_its_own();
    }
    let (_, this_module) = module_path!().split_once("::").unwrap();
    let this_test = format!("{this_module}::mute_tls_peers_leave_nothing_behind");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &this_test, "--test-threads=1"])
        .env(COUNTING, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn in_a_process_of_its_own() {
    one_batch(1); // what the process sets up once
    let before = counts();
    for _ in 0..MUTE_PEERS / AT_A_TIME {
        one_batch(AT_A_TIME);
    }
    // A thread that was joined may be listed for a moment longer, before as well as now.
    let grown = || {
        let now = counts();
        now.0 > before.0 || now.1 > before.1
    };
    let patience = Deadline::after(GENEROUS);
    while grown() && !patience.passed() {
        thread::yield_now();
    }
    assert!(!grown(), "threads and descriptors: {before:?} before, {:?} now", counts());
}

fn one_batch(peers: usize) {
    // Nobody accepts: the kernel does, and nothing is ever said.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::parse(&format!("https://{}", mute.local_addr().unwrap())).unwrap();
    let door = door_with(&origin, |options| options.limits.tls_within = Duration::from_millis(60));
    thread::scope(|scope| {
        for _ in 0..peers {
            scope.spawn(|| assert_eq!(get_fault(&door, &origin).fault.unwrap().kind(), "tls_time_limit"));
        }
    });
    assert_eq!(door.counters().passages_open, 0);
}

fn counts() -> (usize, usize) {
    let entries = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (entries("/proc/self/task"), entries("/proc/self/fd"))
}
