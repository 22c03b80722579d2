//! One GET, bounded in bytes and in time: to a box on this machine, or through a passage to the public address.

use crate::door::outbound::{Origin, OutboundDoor, PassageFault};
use crate::door::relay::is_time_limit;
use crate::ground::clock::Deadline;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest answer that is read; the page is a twentieth of it.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A whole answer.
pub(super) struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Asks `address`; the whole takes `within` at most.
pub(super) fn get(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    within: Duration,
) -> io::Result<Reply> {
    let deadline = Deadline::after(within);
    let mut stream = TcpStream::connect_timeout(&address, within)?;
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.set_write_timeout(Some(within))?;
    stream.write_all(format!("{request}\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(Some(deadline.remaining().ok_or(ErrorKind::TimedOut)?))?;
        let count = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(reply) = parse(&bytes, count == 0) {
            return Ok(reply);
        }
        if count == 0 || bytes.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is not HTTP"));
        }
    }
}

/// Asks the public address as a phone would, within the door's limits.
pub(super) fn get_through(
    door: &OutboundDoor,
    origin: &Origin,
    target: &str,
    within: Duration,
) -> Result<Reply, PassageFault> {
    let passage = door.passage(origin)?;
    let address: Option<SocketAddr> =
        passage.base_url().strip_prefix("http://").and_then(|rest| rest.parse().ok());
    let headers = [
        passage.header(),
        ("User-Agent", concat!("tubox-check/", env!("CARGO_PKG_VERSION"))),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
    ];
    let reply = address.map(|address| get(address, target, &headers, within));
    let fault = passage.finish().fault.filter(|fault| !fault.is_local());
    match (reply, fault) {
        (Some(Ok(reply)), None) => Ok(reply),
        (_, Some(fault)) => Err(fault),
        (Some(Err(error)), None) if is_time_limit(&error) => Err(PassageFault::TooSlow),
        (_, None) => Err(PassageFault::Garbage { why: "its body makes no sense" }),
    }
}

/// The answer, once it is whole.
fn parse(bytes: &[u8], ended: bool) -> Option<Reply> {
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut reply = Reply { status, head, body: Vec::new() };
    let rest = &bytes[split + 4..];
    let length: Option<usize> = reply.header("content-length").and_then(|length| length.parse().ok());
    let is_chunked = reply.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    reply.body = match length {
        _ if matches!(status, 204 | 304) => Vec::new(),
        _ if is_chunked => join_chunks(rest)?,
        Some(length) => rest.get(..length)?.to_vec(),
        None if ended => rest.to_vec(),
        None => return None,
    };
    Some(reply)
}

/// The body of a chunked answer (RFC 9112 §7.1), once its last chunk has come.
fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_framing_says_so() {
        let body = |bytes: &[u8], ended| parse(bytes, ended).map(|reply| reply.body);
        let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(body(sized, false).unwrap(), b"abc");
        assert!(body(&sized[..sized.len() - 1], true).is_none());
        let open = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert!(body(open, false).is_none());
        assert_eq!(body(open, true).unwrap(), b"abc");
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(body(chunked, false).unwrap(), b"abc");
        assert!(body(&chunked[..chunked.len() - 6], true).is_none());
        for bad in [&b"SSH-2.0-x\r\n\r\n"[..], b"HTTP/1.1 x\r\n\r\n", b"HTTP/1.1 200 OK"] {
            assert!(parse(bad, true).is_none());
        }
        let huge = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab\r\n";
        assert!(body(huge, true).is_none());
    }
}
