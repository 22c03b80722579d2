//! Answer heads from inside: bytes in, what goes out to the client out. Pure. tiny_http is trusted to mean well
//! but not to frame well, so its framing is read once, here, and written anew.

use super::head::belongs_to_the_connection;
use std::io::Write;

/// The largest head that is taken from inside.
const ANSWER_HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most header lines that are taken from inside.
const ANSWER_HEADERS_MAX: usize = 64;

/// Room for the lines that say how an answer is framed.
const FRAMING_BYTES: usize = 64;

/// How an answer's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerBody {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// All that comes until the connection ends.
    UntilEnd,
}

/// A head from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// Bytes that the head took.
    pub head_bytes: usize,
    /// What follows it.
    pub body: AnswerBody,
    /// Status line and header lines for the client, without those that frame the body or speak of a connection.
    lines: Vec<u8>,
    /// The length to tell, which a HEAD or 304 answer has without a body.
    length: Option<u64>,
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer(pub &'static str);

/// Reads one answer head from the start of `bytes`; `None`: not whole yet. `to_head`: the request was HEAD.
pub fn parse_answer(bytes: &[u8], to_head: bool) -> Result<Option<AnswerHead>, BadAnswer> {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) if bytes.len() <= ANSWER_HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(BadAnswer("head too large")),
        Err(_) => return Err(BadAnswer("malformed head")),
    };
    let status = response.code.unwrap_or_default();
    if !(200..=599).contains(&status) {
        return Err(BadAnswer("status out of range"));
    }
    // Mostly the body is here too, and goes out behind them.
    let mut lines = Vec::with_capacity(bytes.len() + FRAMING_BYTES);
    // Writing to a Vec cannot fail.
    let _ = write!(lines, "HTTP/1.1 {status} {}\r\n", response.reason.unwrap_or_default());
    let mut length = None;
    let mut chunked = false;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name {
            _ if is("content-length") && length.is_some() => {
                return Err(BadAnswer("more than one Content-Length"));
            }
            _ if is("content-length") => length = Some(parse_length(header.value)?),
            _ if is("transfer-encoding") && header.value.eq_ignore_ascii_case(b"chunked") => chunked = true,
            _ if is("transfer-encoding") => return Err(BadAnswer("unknown Transfer-Encoding")),
            // Nobody outside need know what is inside.
            _ if is("server") || belongs_to_the_connection(header.name) => {}
            _ => {
                lines.extend_from_slice(header.name.as_bytes());
                lines.extend_from_slice(b": ");
                lines.extend_from_slice(header.value);
                lines.extend_from_slice(b"\r\n");
            }
        }
    }
    let body = match (length, chunked) {
        _ if to_head || status == 204 || status == 304 => AnswerBody::None,
        (Some(_), true) => return Err(BadAnswer("both Content-Length and Transfer-Encoding")),
        (Some(bytes), false) => AnswerBody::Length(bytes),
        (None, true) => AnswerBody::Chunked,
        (None, false) => AnswerBody::UntilEnd,
    };
    Ok(Some(AnswerHead { head_bytes, body, lines, length: length.filter(|_| status != 204 && !chunked) }))
}

impl AnswerHead {
    /// Whether the client can tell where the body ends without the connection's end.
    pub fn tells_its_end(&self) -> bool {
        matches!(self.body, AnswerBody::None | AnswerBody::Length(_))
    }

    /// The head as it goes out. `keep` leaves the connection open, which must be said to an HTTP/1.0 client.
    pub fn render(self, keep: bool, http_1_0: bool) -> Vec<u8> {
        let mut head = self.lines;
        if let Some(length) = self.length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        head.extend_from_slice(match (keep, http_1_0) {
            (false, _) => b"Connection: close\r\n\r\n",
            (true, true) => b"Connection: keep-alive\r\n\r\n",
            (true, false) => b"\r\n",
        });
        head
    }
}

fn parse_length(digits: &[u8]) -> Result<u64, BadAnswer> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(BadAnswer("Content-Length is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, to_head: bool) -> AnswerHead {
        parse_answer(text.as_bytes(), to_head).unwrap().unwrap()
    }

    #[test]
    fn framing_is_read_once_and_written_anew() {
        let text = "HTTP/1.1 200 OK\r\nServer: tiny-http (Rust)\r\nDate: x\r\nKeep-Alive: 5\r\nContent-Length: 05\r\n\r\nhello";
        let head = parsed(text, false);
        assert_eq!((head.body, head.head_bytes), (AnswerBody::Length(5), text.len() - 5));
        let date_and_length = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n";
        for (keep, http_1_0, end) in [
            (true, false, "\r\n"),
            (true, true, "Connection: keep-alive\r\n\r\n"),
            (false, false, "Connection: close\r\n\r\n"),
        ] {
            assert_eq!(head.clone().render(keep, http_1_0), format!("{date_and_length}{end}").into_bytes());
        }
        let to_head = parsed(text, true);
        assert_eq!(to_head.body, AnswerBody::None);
        assert_eq!(to_head.render(true, false), format!("{date_and_length}\r\n").into_bytes());
        let cached = parsed("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false);
        assert_eq!(cached.body, AnswerBody::None);
        let empty = parsed("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false);
        assert_eq!(empty.render(true, false), b"HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn a_body_of_unknown_length_has_no_end_but_the_connections() {
        let chunked = parsed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false);
        assert_eq!((chunked.body, chunked.tells_its_end()), (AnswerBody::Chunked, false));
        assert_eq!(chunked.render(false, false), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        assert_eq!(parsed("HTTP/1.1 200 OK\r\n\r\n", false).body, AnswerBody::UntilEnd);
    }

    #[test]
    fn nonsense_is_named() {
        for bad in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            &format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(17_000)),
            &format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(65)),
        ] {
            assert!(parse_answer(bad.as_bytes(), false).is_err(), "{bad}");
        }
        assert_eq!(parse_answer(b"HTTP/1.1 200 OK\r\nA: b\r\n", false), Ok(None));
    }
}
