//! The simulator's own HTTP/1.1: reads one bounded request from a socket and turns an answer into bytes.
//!
//! It is separate from the doors on purpose: a framing mistake made there must not be repeated here, or the two
//! would agree with each other. It knows no route, no token and no fault.

use crate::ground::clock::Deadline;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct WireLimits {
    /// Request line and headers together.
    pub head_bytes_max: usize,
    /// The body.
    pub body_bytes_max: usize,
    /// The longest silence while a request comes in.
    pub stall: Duration,
    /// The whole of a request.
    pub request_within: Duration,
    /// The longest time in which a client takes no byte of its answer.
    pub write_stall: Duration,
}

impl Default for WireLimits {
    fn default() -> Self {
        WireLimits {
            head_bytes_max: 16 * 1024,
            body_bytes_max: 64 * 1024 * 1024,
            stall: Duration::from_secs(20),
            request_within: Duration::from_secs(120),
            write_stall: Duration::from_secs(60),
        }
    }
}

/// How a request says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It has no body.
    None,
    /// By Content-Length; the body has been read.
    Length,
    /// By chunks; the body has been left on the socket, because WeChat refuses such requests unread.
    Chunked,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// Decoded pairs in their order; a repeated name stands twice.
    pub query: Vec<(String, String)>,
    /// Names in lower case; values as sent, Latin-1 read as such.
    pub headers: Vec<(String, String)>,
    /// Empty for [`Framing::Chunked`].
    pub body: Vec<u8>,
    /// Where the body ended.
    pub framing: Framing,
}

impl Request {
    /// The first value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        header_in(&self.headers, name)
    }
}

/// Why there is no request.
#[derive(Debug)]
pub enum NoRequest {
    /// The client left without a byte.
    Silent,
    /// It is not to be taken: the status to answer and what is wrong.
    Refused(u16, String),
    /// The socket failed or was too slow.
    Broken(io::Error),
}

impl From<io::Error> for NoRequest {
    fn from(error: io::Error) -> Self {
        NoRequest::Broken(error)
    }
}

/// Reads one request. What follows it on the connection is not looked at.
pub fn read_request(stream: &mut TcpStream, limits: &WireLimits) -> Result<Request, NoRequest> {
    let deadline = Deadline::after(limits.request_within);
    let (head, rest) = read_head(stream, limits, deadline)?;
    let mut request = parse_head(&head)?;
    request.framing = framing_of(&request)?;
    if request.framing == Framing::Length {
        read_body(stream, &mut request, rest, limits, deadline)?;
    }
    Ok(request)
}

fn refused<T>(status: u16, why: impl Into<String>) -> Result<T, NoRequest> {
    Err(NoRequest::Refused(status, why.into()))
}

fn read_head(
    stream: &mut TcpStream,
    limits: &WireLimits,
    deadline: Deadline,
) -> Result<(Vec<u8>, Vec<u8>), NoRequest> {
    let mut seen = Vec::with_capacity(1024);
    loop {
        let end = seen.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if end.unwrap_or(seen.len()) > limits.head_bytes_max {
            return refused(431, "request head is too large");
        }
        if let Some(end) = end {
            let rest = seen.split_off(end);
            return Ok((seen, rest));
        }
        let mut buffer = [0; 4096];
        match read_some(stream, &mut buffer, limits, deadline)? {
            0 if seen.is_empty() => return Err(NoRequest::Silent),
            0 => return refused(400, "request head ends in the middle"),
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

fn read_some(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    limits: &WireLimits,
    deadline: Deadline,
) -> io::Result<usize> {
    loop {
        let Some(left) = deadline.remaining() else { return Err(ErrorKind::TimedOut.into()) };
        stream.set_read_timeout(Some(left.min(limits.stall)))?;
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}

fn parse_head(head: &[u8]) -> Result<Request, NoRequest> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut slots);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return refused(400, "request head is incomplete"),
        Err(why) => return refused(400, format!("request head is malformed: {why}")),
    }
    let (path, query) = split_target(parsed.path.unwrap_or_default())?;
    let latin1 = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let headers =
        parsed.headers.iter().map(|header| (header.name.to_ascii_lowercase(), latin1(header.value)));
    Ok(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path,
        query,
        headers: headers.collect(),
        body: Vec::new(),
        framing: Framing::None,
    })
}

/// `/path?name=value&…`, decoded once.
fn split_target(target: &str) -> Result<(String, Vec<(String, String)>), NoRequest> {
    if !target.starts_with('/') {
        return refused(400, "request target is not a path");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(path) = percent_decoded(path) else { return refused(400, "path has a bad %XX") };
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (percent_decoded(name), percent_decoded(value)) {
            (Some(name), Some(value)) => pairs.push((name, value)),
            _ => return refused(400, "query has a bad %XX"),
        }
    }
    Ok((path, pairs))
}

/// `text` with each `%XX` replaced by its byte; `None` when one is malformed or the result is no UTF-8.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

fn framing_of(request: &Request) -> Result<Framing, NoRequest> {
    let count = |name: &str| request.headers.iter().filter(|(other, _)| other == name).count();
    for single in ["host", "content-length", "transfer-encoding", "content-type"] {
        if count(single) > 1 {
            return refused(400, format!("header {single} is repeated"));
        }
    }
    match (request.header("transfer-encoding"), request.header("content-length")) {
        (Some(_), Some(_)) => refused(400, "both content-length and transfer-encoding"),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), None) => refused(400, "transfer-encoding is not chunked"),
        (None, Some(_)) => Ok(Framing::Length),
        (None, None) => Ok(Framing::None),
    }
}

fn read_body(
    stream: &mut TcpStream,
    request: &mut Request,
    rest: Vec<u8>,
    limits: &WireLimits,
    deadline: Deadline,
) -> Result<(), NoRequest> {
    let declared = request.header("content-length").unwrap_or_default();
    let digits = !declared.is_empty() && declared.bytes().all(|byte| byte.is_ascii_digit());
    let Some(length) = digits.then(|| declared.parse::<usize>().ok()).flatten() else {
        return refused(400, "content-length is not a number");
    };
    if length > limits.body_bytes_max {
        return refused(413, "request body is too large");
    }
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        && rest.is_empty()
    {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = rest;
    request.body.truncate(length);
    let mut buffer = vec![0; 64 * 1024];
    while request.body.len() < length {
        let want = buffer.len().min(length - request.body.len());
        match read_some(stream, &mut buffer[..want], limits, deadline)? {
            0 => return refused(400, "request body is shorter than its content-length"),
            count => request.body.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(())
}

/// One answer before it is framed. `Connection`, `Date` and the framing headers are added when it is written.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names and values as they go out; values may hold Latin-1 bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Arc<Vec<u8>>,
}

impl Answer {
    /// An answer with a body of the given type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let mut answer = Answer { status, headers: Vec::new(), body: Arc::new(body.into()) };
        answer.set_header("Content-Type", content_type);
        answer
    }

    /// An answer with neither body nor type.
    pub fn empty(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Arc::new(Vec::new()) }
    }

    /// Sets or replaces a header.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
    }

    /// Removes a header.
    pub fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// The value of a header, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Status line and headers with the given framing header (`None`: the body ends with the connection).
    pub fn head(&self, framing: Option<(&str, String)>, date: &str) -> Vec<u8> {
        let mut head =
            format!("HTTP/1.1 {} {}\r\nConnection: close\r\n", self.status, reason(self.status)).into_bytes();
        let mut line = |name: &str, value: &[u8]| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.headers {
            line(name, value);
        }
        line("Date", date.as_bytes());
        if let Some((name, value)) = framing {
            line(name, value.as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

fn header_in<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// Ends the connection so that the client still gets an answer to a request that was not read to its end:
/// closing over unread bytes would reset the connection and take the answer with it.
pub fn close_politely(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let limits = WireLimits { stall: Duration::from_millis(500), ..WireLimits::default() };
    let deadline = Deadline::after(Duration::from_secs(3));
    let mut buffer = [0; 8192];
    let mut drained = 0;
    while drained < 16 * 1024 * 1024 {
        match read_some(stream, &mut buffer, &limits, deadline) {
            Ok(0) | Err(_) => return,
            Ok(count) => drained += count,
        }
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(wall_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = wall_ms.div_euclid(1000);
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    let weekday = DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)];
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0).min(11)];
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Year, month and day of a number of days after 1970-01-01, counted in eras of 400 years that begin in March.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * march_month + 2) / 5 + 1)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unnamed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(951_782_400_000), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(1_692_783_312_000), "Wed, 23 Aug 2023 09:35:12 GMT");
    }

    #[test]
    fn targets_are_decoded_once() {
        let (path, query) = split_target("/a%20b?x=%2541&y=1&x").unwrap();
        assert_eq!(path, "/a b");
        let pairs = [("x", "%41"), ("y", "1"), ("x", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(query, pairs);
        for bad in ["http://host/", "/?a=%4", "/?a=%zz", "/%ff"] {
            assert!(matches!(split_target(bad), Err(NoRequest::Refused(400, _))), "{bad}");
        }
    }
}
