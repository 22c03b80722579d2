//! Clients that talk badly, against the real binary: each of them, and crowds of them, while an ordinary visitor
//! comes by and the box's memory, descriptors and threads are looked at.
//!
//! `tests/hostile-peers` runs the same list against other servers; there it judges nothing and prints a table.

mod attacks;
mod street;

use crate::program::{PATIENCE, Program, ask, simulator};
use attacks::{Attack, attacks, not_reading_attack};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use street::{ANSWER_WITHIN, Street, Vitals, counted, make_room_for_a_crowd, statuses};
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
    visit_during: Option<Duration>,
    visit_after: Option<Duration>,
    before: Vitals,
    during: Vitals,
    after: Vitals,
}

fn street_to(server: SocketAddr, process: u32, patience: Duration) -> Street {
    make_room_for_a_crowd();
    let page = ask(server, "GET", "/uploadImgDemo", &[], b"").text();
    let mut scripts = page.split('"').filter(|text| text.starts_with("/assets/page."));
    let large = scripts.next_back().expect("the page names its script").to_owned();
    Street { server, process, page: "/uploadImgDemo".to_owned(), large, pass: String::new(), patience }
}

fn street_before(program: &Program) -> Street {
    street_to(program.address, program.pid(), ANSWER_WITHIN)
}

fn try_one(street: &Street, attack: &Attack, at_first: Vitals) -> Row {
    let before = street.vitals();
    let outcome = (attack.go)(street);
    let visit_during = street.time_a_visit();
    let during = street.vitals();
    let answered = outcome.tell();
    drop(outcome);
    let visit_after = street.time_a_visit();
    let after = street.wait_until(GONE_WITHIN, |now| now.has_let_go(at_first));
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
            "| {} | {} | {} / {} | {} | {} | {} |",
            self.name,
            self.answered,
            milliseconds(self.visit_during),
            milliseconds(self.visit_after),
            three(|vitals| vitals.resident_kib).join(" → "),
            three(|vitals| vitals.descriptors as u64).join(" → "),
            three(|vitals| vitals.threads as u64).join(" → "),
        )
    }
}

fn milliseconds(visit: Option<Duration>) -> String {
    visit.map_or_else(|| "not served".to_owned(), |took| format!("{} ms", took.as_millis()))
}

/// A table of what the attacks do to another server: HOSTILE_ADDRESS and HOSTILE_PROCESS, of `tests/hostile-peers`.
fn compare(server: &str, process: &str) {
    let server = server.parse().expect("HOSTILE_ADDRESS is a number and a port");
    let process = process.parse().expect("HOSTILE_PROCESS is a number");
    // Servers that keep the connection open after an answer are waited for this long.
    let street = street_to(server, process, Duration::from_secs(2));
    let at_first = street.vitals();
    println!(
        "| case | answered | visitor during / after | KiB | descriptors | threads |\n|---|---|---|---|---|---|"
    );
    for attack in attacks() {
        println!("{}", try_one(&street, &attack, at_first).line());
    }
}

#[test]
fn whatever_clients_do_others_are_served_and_the_box_does_not_grow() {
    if let (Ok(server), Ok(process)) = (std::env::var("HOSTILE_ADDRESS"), std::env::var("HOSTILE_PROCESS")) {
        return compare(&server, &process);
    }
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let street = street_before(&program);
    assert!(street.time_a_visit().is_some(), "nobody is served");
    let at_first = street.vitals();
    for attack in attacks() {
        let row = try_one(&street, &attack, at_first);
        eprintln!("{}", row.line());
        if let Some(expected) = attack.expected {
            assert_eq!(row.answered, expected, "{}", row.name);
        }
        assert!(row.visit_during.is_some() && row.visit_after.is_some(), "{}: others wait", row.name);
        assert!(row.during.resident_kib < at_first.resident_kib + GROWTH_KIB_MAX, "{}: grows", row.name);
        assert!(row.after.has_let_go(at_first), "{}: leaves descriptors behind", row.name);
    }
    street.wait_until_small(at_first);
}

#[test]
fn a_head_that_does_not_come_is_told_so_and_ends() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let street = street_before(&program);
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

/// Those who may fetch all pictures at once and then do not read keep neither visitors waiting nor each other.
#[test]
fn a_large_zip_that_nobody_reads_keeps_nobody_waiting() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let mut street = street_before(&program);
    let mut picture = sample_picture(0).bytes;
    picture.resize(2 << 20, 0);
    let ids: Vec<String> = (0..6).map(|_| simulator.upload(picture.clone(), "image/jpeg")).collect();
    let answer = program.submit(&program.cookie(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    program.settled(answer.json()["receipt"].as_str().expect("a receipt"));
    let token = std::fs::read_to_string(program.folder.path().join("data/admin_token")).unwrap();
    let pass = format!("Bearer {}", token.trim());
    street.large = "/admin/zip".to_owned();
    street.pass = format!("Authorization: {pass}\r\n");
    let at_first = street.vitals();
    let row = try_one(&street, &not_reading_attack(), at_first);
    eprintln!("{}", row.line());
    assert!(row.visit_during.is_some() && row.visit_after.is_some(), "others wait");
    assert!(row.during.resident_kib < at_first.resident_kib + GROWTH_KIB_MAX, "it grows");
    let started = Instant::now();
    let zip = loop {
        let reply = program.ask("GET", "/admin/zip", &[("Authorization", &pass)], b"");
        if reply.status == 200 {
            break reply.body;
        }
        assert!(started.elapsed() < PATIENCE, "{}: {}", reply.status, reply.text());
    };
    assert!(zip.starts_with(b"PK") && zip.len() > 6 * picture.len());
    street.wait_until_small(at_first);
}

/// With 64 descriptors the box says what that means, brings pictures home all the same, and outlives a crowd.
#[test]
fn few_descriptors_are_enough_to_live_on() {
    let simulator = simulator();
    let program = Program::serve_with_open_files(64, &simulator);
    let street = street_before(&program);
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
        assert!(street.time_a_visit().is_some(), "nobody is served");
    }
    let view = program.settled(&receipt);
    assert!(view["pictures"].as_array().unwrap().iter().all(|picture| picture["state"] == "saved"), "{view}");
    street.wait_until_small(at_first);
}

/// What strangers write must not write the log: no control characters, and no line for every mistake.
#[test]
fn a_crowd_does_not_fill_the_log() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let street = street_before(&program);
    for client in 0..500 {
        let target = format!("/%0a\u{1b}[31m{client}");
        street.exchange(client, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    assert!(street.time_a_visit().is_some(), "nobody is served");
    let log = program.log_text();
    assert!(log.lines().count() < 50, "{log}");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}
