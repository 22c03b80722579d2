//! One call to WeChat's API: through the outbound door, to the first host that can be reached.
//!
//! minreq speaks plain HTTP to a one-use passage on loopback and has no time limits of its own; the door has
//! them all, and its report says what happened when minreq only sees an end.

use super::fault::Fault;
use super::reply::{REPLY_BYTES_MAX, Reply};
use crate::door::outbound::{Origin, OutboundDoor, Passage, PassageFault, requester_headers_size};
use crate::ground::clock::SharedClock;
use minreq::ResponseLazy;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

/// How long the host that worked is preferred before the first one is tried again.
const PREFER_FOR: Duration = Duration::from_secs(600);

/// Some hosts refuse requests without one.
const USER_AGENT: &str = concat!("tubox/", env!("CARGO_PKG_VERSION"));

/// The longest answer head; the door is opened with the same bound.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What minreq says when the door closed the passage without an answer (crates' behaviour, measured).
const NO_STATUS_LINE: &str = "Server did not provide a status line";

/// A request.
pub struct Call<'a> {
    /// Path and query; may hold a token, so it is never shown.
    pub target: &'a str,
    /// A JSON body makes it a POST.
    pub json: Option<String>,
    /// Making it twice does no harm, so that another host may be asked when one took it and did not answer.
    pub is_repeatable: bool,
}

/// The calls to WeChat's API.
pub struct Api {
    door: Arc<OutboundDoor>,
    origins: Vec<Origin>,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    preferred: usize,
    preferred_since: Duration,
    clock_offset_ms: Option<i64>,
}

/// An answer whose head has come; its body is read from it.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    content_length: Option<u64>,
    response: Option<ResponseLazy>,
    passage: Option<Passage>,
    bytes_read: u64,
}

impl Api {
    /// Calls through `door` to `origins`, the first one preferred.
    pub fn new(door: Arc<OutboundDoor>, origins: Vec<Origin>, clock: SharedClock) -> Api {
        Api { door, origins, clock, state: Mutex::default() }
    }

    /// WeChat's clock minus the machine's, in milliseconds.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.lock().clock_offset_ms
    }

    /// Makes the call; hosts that cannot be reached, or do not answer, are passed over.
    pub fn call(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let first = self.preferred();
        let mut last = Fault::new("network", "no host is configured in wechat.api_urls");
        for turn in 0..self.origins.len() {
            let index = (first + turn) % self.origins.len();
            match self.call_origin(&self.origins[index], call) {
                Ok(answer) => {
                    self.learn(index, &answer);
                    return Ok(answer);
                }
                Err(Unanswered::Unreached(fault)) => last = fault,
                Err(Unanswered::Silent(fault)) if call.is_repeatable => last = fault,
                Err(Unanswered::Silent(fault) | Unanswered::Broken(fault)) => return Err(fault),
            }
        }
        Err(last)
    }

    /// Makes a call whose answer is a JSON object, and reads it; errcodes become faults.
    pub fn call_for_reply(&self, call: &Call<'_>) -> Result<Reply, Fault> {
        let mut answer = self.call(call)?;
        let body = answer.read_up_to(REPLY_BYTES_MAX)?;
        match Reply::parse(&body) {
            Some(reply) => match reply.fault() {
                Some(fault) => Err(fault),
                None => Ok(reply),
            },
            None if answer.status != 200 => Err(answer.status_fault()),
            None => Err(unexpected_text(&body)),
        }
    }

    fn call_origin(&self, origin: &Origin, call: &Call<'_>) -> Result<Answer, Unanswered> {
        let passage = self.door.passage(origin).map_err(|fault| Unanswered::Broken(fault_of(&fault)))?;
        let url = format!("{}{}", passage.base_url(), call.target);
        let (name, secret) = passage.header();
        let request = match &call.json {
            None => minreq::get(url),
            Some(json) => {
                minreq::post(url).with_header("Content-Type", "application/json").with_body(json.as_str())
            }
        };
        let sent = request
            .with_header(name, secret)
            .with_header("User-Agent", USER_AGENT)
            .with_header("Accept", "*/*")
            .with_header("Accept-Encoding", "identity")
            .with_follow_redirects(false)
            .with_max_headers_size(requester_headers_size(HEAD_BYTES_MAX))
            .send_lazy();
        match sent {
            Ok(response) if response.reason_phrase != NO_STATUS_LINE => Ok(Answer::new(response, passage)),
            // minreq's error may quote the address, which holds a token; the door knows better anyway.
            _ => {
                drop(sent);
                Err(unanswered(passage))
            }
        }
    }

    fn preferred(&self) -> usize {
        let mut state = self.lock();
        if self.clock.monotonic().saturating_sub(state.preferred_since) > PREFER_FOR {
            state.preferred = 0;
        }
        state.preferred
    }

    fn learn(&self, index: usize, answer: &Answer) {
        let mut state = self.lock();
        if state.preferred != index {
            log::warn!("{} answers now; it is asked first for a while", self.origins[index]);
            state.preferred = index;
            state.preferred_since = self.clock.monotonic();
        }
        if let Some(date_ms) = answer.header("date").and_then(http_date_ms) {
            self.clock.learn_true_ms(date_ms);
            state.clock_offset_ms = Some(date_ms - self.clock.machine_wall_ms());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

enum Unanswered {
    /// Nothing was exchanged: another host may be asked.
    Unreached(Fault),
    /// The request went out and no answer's head came back: whether the host acted on it is not known.
    Silent(Fault),
    /// An answer came that is none.
    Broken(Fault),
}

fn unanswered(passage: Passage) -> Unanswered {
    match passage.finish().fault {
        Some(fault) if fault.is_connection_failure() => Unanswered::Unreached(fault_of(&fault)),
        Some(fault @ (PassageFault::NoAnswer | PassageFault::Reset | PassageFault::FirstByteTimeLimit)) => {
            Unanswered::Silent(Fault::new("no-answer", fault.to_string()))
        }
        Some(fault) => Unanswered::Broken(fault_of(&fault)),
        None => Unanswered::Broken(Fault::new("garbage", "the answer's head makes no sense")),
    }
}

/// The table's code for what the door reports.
pub fn fault_of(fault: &PassageFault) -> Fault {
    let code = match fault.kind() {
        "tls_not_yet_valid" => "clock",
        kind if kind.starts_with("tls_")
            && kind != "tls_time_limit"
            && kind != "tls_cut"
            && kind != "tls_broke" =>
        {
            "certificate"
        }
        _ if fault.is_connection_failure() => "network",
        "stalled" | "first_byte_time_limit" | "too_slow" => "stalled",
        "cut_short" | "cut_without_close_notify" => "short-body",
        "too_much" => "too-large",
        "reset" | "no_answer" | "tls_broke" => "reset",
        "head_too_long" | "garbage" => "garbage",
        _ => "internal",
    };
    Fault::new(code, fault.to_string())
}

/// Text where JSON or a picture was expected. A web page means that somebody else answers in WeChat's place.
pub fn unexpected_text(body: &[u8]) -> Fault {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let start: Vec<u8> = body.iter().copied().skip_while(u8::is_ascii_whitespace).take(60).collect();
    match start.first() {
        None => Fault::new("empty-body", ""),
        Some(b'<') => {
            Fault::new("captive-portal", crate::ground::escape::for_log(&String::from_utf8_lossy(&start), 60))
        }
        Some(_) => {
            Fault::new("garbage", crate::ground::escape::for_log(&String::from_utf8_lossy(&start), 60))
        }
    }
}

impl Answer {
    fn new(mut response: ResponseLazy, passage: Passage) -> Answer {
        let mut answer = Answer {
            status: response.status_code,
            headers: std::mem::take(&mut response.headers),
            content_length: None,
            response: Some(response),
            passage: Some(passage),
            bytes_read: 0,
        };
        if answer.header("transfer-encoding").is_none() {
            answer.content_length =
                answer.header("content-length").and_then(|length| length.trim().parse().ok());
        }
        answer
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// How long the body will be, if its head said so.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The fault that a status other than 200 stands for.
    pub fn status_fault(&self) -> Fault {
        Fault::new("http-status", format!("status {}", self.status))
    }

    /// The next bytes; 0 at a whole body's end. A body that ends early is a fault, and nothing comes after it.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let Some(response) = &mut self.response else { return Ok(0) };
        match response.read(buffer) {
            Ok(0) => self.end().map(|()| 0),
            Ok(count) => {
                self.bytes_read += count as u64;
                Ok(count)
            }
            Err(_) => Err(self.report().unwrap_or_else(|| Fault::new("reset", "the answer broke off"))),
        }
    }

    /// The body, when it is at most `bytes_max` long; its first `bytes_max` bytes otherwise.
    pub fn read_up_to(&mut self, bytes_max: usize) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        let mut buffer = [0; 4096];
        while body.len() < bytes_max {
            let wanted = buffer.len().min(bytes_max - body.len());
            match self.read(&mut buffer[..wanted])? {
                0 => break,
                count => body.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(body)
    }

    /// minreq takes a body that ends early for a whole one; here it is counted and the door is asked.
    fn end(&mut self) -> Result<(), Fault> {
        if let Some(expected) = self.content_length
            && self.bytes_read < expected
        {
            let fault = self.report();
            let short = || Fault::new("short-body", format!("{} of {expected} bytes", self.bytes_read));
            return Err(fault.unwrap_or_else(short));
        }
        self.report().map_or(Ok(()), Err)
    }

    /// What the door saw go wrong. Only asked after minreq has seen the end. The door lets its requester leave
    /// first, so minreq's socket is closed before the door is waited for.
    fn report(&mut self) -> Option<Fault> {
        self.response = None;
        let report = self.passage.take()?.finish();
        report.fault.filter(|fault| !fault.is_local()).map(|fault| fault_of(&fault))
    }
}

/// RFC 9110 §5.6.7; only the form that is sent today.
fn http_date_ms(text: &str) -> Option<i64> {
    let moment = httpdate::parse_http_date(text.trim()).ok()?;
    moment.duration_since(UNIX_EPOCH).ok()?.as_millis().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_http_writes_them() {
        assert_eq!(http_date_ms("Wed, 23 Aug 2023 09:35:12 GMT"), Some(1_692_783_312_000));
        assert_eq!(http_date_ms("yesterday"), None);
    }

    #[test]
    fn text_from_others_is_told_apart() {
        assert_eq!(unexpected_text(b"  <!DOCTYPE html><html>").code, "captive-portal");
        assert_eq!(unexpected_text(b"\xef\xbb\xbf<html>").code, "captive-portal");
        assert_eq!(unexpected_text(b" \r\n ").code, "empty-body");
        assert_eq!(unexpected_text(b"hello").code, "garbage");
    }
}
