//! Clients that talk badly, against the real binary: each of them, and crowds of them, while an ordinary visitor
//! comes by and the box's memory, descriptors and threads are looked at.
//!
//! `tests/hostile-peers` runs the same list against any other server.

mod attacks;
mod street;

use crate::program::{PATIENCE, Program, simulator};
use attacks::{Attack, attacks};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use street::{Street, Vitals, counted, make_room_for_a_crowd, statuses};
use tubox::simulator::samples::sample_picture;

/// What a crowd may add to the resident memory of a debug build while it is there.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// How long what an attack has left behind may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(8);

/// How long the door waits for a head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// One attack as it went.
struct Row {
    name: &'static str,
    answered: String,
    visit_during: Duration,
    visit_after: Duration,
    before: Vitals,
    during: Vitals,
    after: Vitals,
}

fn street_to(program: &Program) -> Street {
    make_room_for_a_crowd();
    let page = program.get("/uploadImgDemo").text();
    let mut scripts = page.split('"').filter(|text| text.starts_with("/assets/page."));
    let large = scripts.next_back().expect("the page names its script").to_owned();
    Street { server: program.address, process: program.pid(), page: "/uploadImgDemo".to_owned(), large }
}

fn try_one(street: &Street, attack: &Attack, at_first: Vitals) -> Row {
    let before = street.vitals();
    let outcome = (attack.go)(street);
    let visit_during = street.time_a_visit();
    let during = street.vitals();
    let answered = outcome.tell();
    drop(outcome);
    let visit_after = street.time_a_visit();
    let after = street.wait_until_gone(at_first, GONE_WITHIN);
    Row { name: attack.name, answered, visit_during, visit_after, before, during, after }
}

impl Row {
    /// A line of a table: what was answered, how long a visitor took during and after, and resident KiB,
    /// descriptors and threads before, during and after.
    fn line(&self) -> String {
        let three = |of: fn(&Vitals) -> u64| {
            [self.before, self.during, self.after]
                .iter()
                .map(|vitals| of(vitals).to_string())
                .collect::<Vec<_>>()
        };
        format!(
            "| {} | {} | {} / {} ms | {} | {} | {} |",
            self.name,
            self.answered,
            self.visit_during.as_millis(),
            self.visit_after.as_millis(),
            three(|vitals| vitals.resident_kib).join(" → "),
            three(|vitals| vitals.descriptors as u64).join(" → "),
            three(|vitals| vitals.threads as u64).join(" → "),
        )
    }
}

#[test]
fn whatever_clients_do_others_are_served_and_the_box_does_not_grow() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let street = street_to(&program);
    street.time_a_visit();
    let at_first = street.vitals();
    for attack in attacks() {
        let row = try_one(&street, &attack, at_first);
        eprintln!("{}", row.line());
        if let Some(expected) = attack.expected {
            assert_eq!(row.answered, expected, "{}", row.name);
        }
        assert!(row.during.resident_kib < at_first.resident_kib + GROWTH_KIB_MAX, "{}: grows", row.name);
        assert!(row.after.is_as_small_as(at_first), "{}: leaves something behind", row.name);
    }
}

#[test]
fn a_head_that_does_not_come_is_told_so_and_ends() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let street = street_to(&program);
    let started = Instant::now();
    let mut waiting: Vec<_> = (0..40).map(|client| street.connect(client)).collect();
    for stream in &mut waiting {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nA: ").unwrap();
    }
    let told = counted(waiting.iter_mut().map(statuses));
    assert_eq!(told, "40 x 408");
    assert!(started.elapsed() >= HEAD_WITHIN, "too early");
}

/// With 64 descriptors the box says what that means, brings pictures home all the same, and outlives a crowd.
#[test]
fn few_descriptors_are_enough_to_live_on() {
    let simulator = simulator();
    let program = Program::serve_with_open_files(64, &simulator);
    let street = street_to(&program);
    program.wait_for_log("client connections instead of 512; raise it (systemd: LimitNOFILE=4096)");
    let at_first = street.vitals();
    let ids: Vec<String> =
        (0..24).map(|index| simulator.upload(sample_picture(index).bytes, "image/jpeg")).collect();
    let answer = program.submit(&program.cookie(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let receipt = answer.json()["receipt"].as_str().expect("a receipt").to_owned();
    let crowds: [&[u8]; 3] = [b"", b"GET / HTTP/1.1\r\n", b"GET /uploadImgDemo HTTP/1.1\r\nHost: x\r\n\r\n"];
    for bytes in crowds {
        let mut crowd: Vec<TcpStream> = (0..200).map(|client| street.connect(client)).collect();
        for stream in &mut crowd {
            let _ = stream.write_all(bytes);
        }
        street.time_a_visit();
    }
    street.time_a_visit();
    let view = program.settled(&receipt);
    assert!(view["pictures"].as_array().unwrap().iter().all(|picture| picture["state"] == "saved"), "{view}");
    assert!(street.wait_until_gone(at_first, GONE_WITHIN).is_as_small_as(at_first));
}

/// What strangers write must not write the log: no control characters, and no line for every mistake.
#[test]
fn a_crowd_does_not_fill_the_log() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let street = street_to(&program);
    for client in 0..500 {
        let target = format!("/%0a\u{1b}[31m{client}");
        street.exchange(client, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    street.time_a_visit();
    let log = program.log_text();
    assert!(log.lines().count() < 50, "{log}");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}
