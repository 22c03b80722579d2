//! The simulator over real sockets, with a client that reads bytes and trusts nothing.

mod faults;
mod phone;
mod server_api;

use super::*;
use crate::ground::clock::TestClock;
use crate::ground::random::SeededRandom;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

const WALL_MS: i64 = 1_692_783_312_000; // 2023-08-23 09:35:12 UTC
const SECRET: &str = "5ec2e70f5ec2e70f5ec2e70f5ec2e70f";
const APP_ID: &str = "wx0123456789abcdef";

struct Stage {
    simulator: Simulator,
    clock: Arc<TestClock>,
}

/// What came back, split where HTTP splits it.
struct Reply {
    raw: Vec<u8>,
    status: u16,
    head: String,
    body: Vec<u8>,
    /// How reading ended, when not in order.
    broken: Option<std::io::ErrorKind>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.raw)))
    }

    fn errcode(&self) -> i64 {
        self.json()["errcode"].as_i64().unwrap()
    }
}

impl Stage {
    fn new() -> Stage {
        Stage::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SimulatorOptions)) -> Stage {
        let clock = TestClock::at(WALL_MS);
        let mut options = SimulatorOptions::loopback(clock.clone(), SeededRandom::shared(1));
        change(&mut options);
        Stage { simulator: Simulator::start(options).unwrap(), clock }
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn send(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.simulator.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // The server may refuse, and leave, before it has read everything.
        let _ = stream.write_all(request);
        read_reply(&mut stream)
    }

    fn get(&self, target: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: api.weixin.qq.com\r\n\r\n").as_bytes())
    }

    fn post(&self, target: &str, content_type: &str, body: &[u8]) -> Reply {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(&request)
    }

    fn post_json(&self, target: &str, body: &Value) -> Reply {
        self.post(target, "application/json", body.to_string().as_bytes())
    }

    fn stable(&self, force: bool) -> Reply {
        let body = serde_json::json!({
            "grant_type": "client_credential", "appid": APP_ID, "secret": SECRET, "force_refresh": force
        });
        self.post_json("/cgi-bin/stable_token", &body)
    }

    fn token(&self) -> String {
        self.stable(false).json()["access_token"].as_str().unwrap().to_owned()
    }

    fn media(&self, token: &str, media_id: &str) -> Reply {
        self.get(&format!("/cgi-bin/media/get?access_token={token}&media_id={media_id}"))
    }

    fn ticket(&self, token: &str) -> Reply {
        self.get(&format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi"))
    }

    #[track_caller]
    fn assert_no_violation(&self) {
        assert_eq!(self.simulator.violations(), Vec::<String>::new());
    }
}

fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut raw = Vec::new();
    let broken = stream.read_to_end(&mut raw).err().map(|error| error.kind());
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&raw[..end.unwrap_or(0)]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = end.map(|end| raw[end + 4..].to_vec()).unwrap_or_default();
    Reply { raw, status, head, body, broken }
}

/// Asks again and again, with small pauses, for what another thread brings about.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = crate::ground::clock::Deadline::after(Duration::from_secs(30));
    let pause = crate::ground::stop::Stop::new();
    while !is_so() {
        assert!(!limit.passed(), "waited in vain: {what}");
        pause.wait(Duration::from_millis(2));
    }
}

#[test]
fn it_listens_on_loopback_only() {
    let mut options = SimulatorOptions::loopback(TestClock::at(0), SeededRandom::shared(1));
    options.listen = "0.0.0.0:0".parse().unwrap();
    let refused = Simulator::start(options).err().unwrap().to_string();
    assert!(refused.contains("loopback only"), "{refused}");
}

#[test]
fn a_stop_ends_what_waits() {
    let stage = Stage::new();
    stage.simulator.always(Route::StableToken, Fault::stall());
    let mut stalled = TcpStream::connect(stage.simulator.address()).unwrap();
    stalled.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = format!(r#"{{"grant_type":"client_credential","appid":"{APP_ID}","secret":"{SECRET}"}}"#);
    let head =
        format!("POST /cgi-bin/stable_token HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stalled.write_all((head + &body).as_bytes()).unwrap();
    wait_until("the call arrives", || stage.simulator.calls(Route::StableToken) == 1);
    stage.simulator.stop();
    assert!(read_reply(&mut stalled).raw.is_empty(), "the stalled call ends long before its minute is over");
}

#[test]
fn connections_beyond_the_bound_are_refused() {
    let stage = Stage::with(|options| options.connections_max = 0);
    assert!(stage.get("/sim/calls").raw.is_empty());
    assert_eq!(stage.simulator.calls_total(), 0);
}

#[test]
fn malformed_requests_are_violations() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    let cases: [(&[u8], u16); 8] = [
        (b"not http at all\r\n\r\n", 400),
        (b"GET /cgi-bin/token HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /sim/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5x\r\n\r\nabcde", 400),
        (b"POST /sim/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /sim/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (b"GET /cgi-bin/token?appid=%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /cgi-bin/nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (long.as_bytes(), 431),
    ];
    for (request, status) in cases {
        let stage = Stage::new();
        let reply = stage.send(request);
        assert_eq!(reply.status, status, "{:?}", String::from_utf8_lossy(&request[..request.len().min(80)]));
        assert_eq!(stage.simulator.violations().len(), 1);
        assert_eq!(reply.header("connection"), Some("close"));
    }
}
