//! HTTP/1 heads in both directions, read and written anew. What leaves here has whole lines ended by CR LF, clean
//! names, values of valid UTF-8 without control characters, and bounded lengths: minreq stumbles over anything
//! else. Header names and values that are fine are handed on as they came.

use super::framing::BodyEnd;

/// The longest line of an answer's head, line end left out. Below minreq's own bound for the status line.
pub const LINE_BYTES_MAX: usize = 8 * 1024 - 2;

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// The whole or one line is too long.
    TooLong,
    /// Not HTTP, or HTTP that reads in two ways.
    Garbage(&'static str),
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// What the requester gets to see.
    pub bytes: Vec<u8>,
    /// The status code.
    pub status: u16,
    /// Where the body ends.
    pub end: BodyEnd,
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// What the origin gets to see.
    pub bytes: Vec<u8>,
    /// Whether the answer will have no body whatever its head says.
    pub asks_for_head: bool,
    /// Length of the body.
    pub body_bytes: u64,
}

/// Length of the head at the start of `bytes`, its empty line included; `None` while that line is missing.
/// `searched` bytes were looked at before.
pub fn head_length(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let mut line_ends = bytes.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
    line_ends.find_map(|(at, _)| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Refuses what can be seen to be no answer's head before its end has come.
pub fn check_unfinished(bytes: &[u8]) -> Result<(), HeadFault> {
    const START: &[u8] = b"HTTP/1.";
    let seen = bytes.len().min(START.len());
    if bytes[..seen] != START[..seen] {
        return Err(HeadFault::Garbage("no status line"));
    }
    let last_line = bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last_line.len() > LINE_BYTES_MAX + 1 { Err(HeadFault::TooLong) } else { Ok(()) }
}

/// Reads an answer's head, the empty line included.
pub fn parse_answer_head(head: &[u8], asked_for_head: bool) -> Result<AnswerHead, HeadFault> {
    let mut lines = lines(head);
    let (status, mut bytes) = parse_status_line(lines.next().unwrap_or_default())?;
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for line in lines {
        if line.len() > LINE_BYTES_MAX {
            return Err(HeadFault::TooLong);
        }
        match (split_field(line), fields.last_mut()) {
            // A folded line (RFC 9112, 5.2) goes on with the value before it.
            (_, Some((_, value))) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                value.push(b' ');
                value.extend(trim(line));
            }
            (Some((name, value)), _) => fields.push((name.to_vec(), value.to_vec())),
            // A line that is no header field carries nothing that anybody could use.
            (None, _) => {}
        }
    }
    let end = body_end(&fields, status, asked_for_head)?;
    for (name, value) in &fields {
        let start = bytes.len();
        bytes.extend(name);
        bytes.extend(b": ");
        bytes.extend(clean(value));
        if bytes.len() - start > LINE_BYTES_MAX {
            return Err(HeadFault::TooLong);
        }
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    Ok(AnswerHead { bytes, status, end })
}

/// Reads a request's head, the empty line included, and writes it for the origin: without the passage's secret,
/// with the origin's host, asking for the connection's end after the answer.
pub fn rewrite_request_head(
    head: &[u8],
    secret_name: &str,
    authority: &str,
) -> Result<RequestHead, &'static str> {
    let mut lines = lines(head);
    let request_line = lines.next().unwrap_or_default();
    let method = check_request_line(request_line)?;
    let mut bytes = request_line.to_vec();
    bytes.extend(format!("\r\nHost: {authority}\r\nConnection: close\r\n").as_bytes());
    let mut body_bytes = None;
    for line in lines {
        let (name, value) = split_field(line).ok_or("a header line in it is malformed")?;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is(secret_name) || ["host", "connection", "keep-alive", "proxy-connection"].into_iter().any(is) {
            continue;
        }
        if is("transfer-encoding") || is("expect") {
            return Err("it has no plain Content-Length body");
        }
        if is("content-length")
            && body_bytes.replace(parse_length(value).ok_or("its Content-Length is no number")?).is_some()
        {
            return Err("it has two Content-Lengths");
        }
        if value.iter().any(|byte| is_control(*byte)) {
            return Err("a header value in it holds a control character");
        }
        bytes.extend(name);
        bytes.extend(b": ");
        bytes.extend(value);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    Ok(RequestHead { bytes, asks_for_head: method == b"HEAD", body_bytes: body_bytes.unwrap_or(0) })
}

/// Whether `head`, or the part of it that has come, holds the header `name` with exactly `value`.
pub fn has_field(head: &[u8], name: &str, value: &str) -> bool {
    lines(head).filter_map(split_field).any(|(found_name, found_value)| {
        found_name.eq_ignore_ascii_case(name.as_bytes()) && is_same_secret(found_value, value.as_bytes())
    })
}

/// The status code of an answer's first line.
pub fn status_of(head: &[u8]) -> Option<u16> {
    parse_status_line(lines(head).next()?).ok().map(|(status, _)| status)
}

/// Takes as long for a wrong secret as for a right one.
fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The lines of a head without their ends, up to the empty one.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

fn parse_status_line(line: &[u8]) -> Result<(u16, Vec<u8>), HeadFault> {
    if line.len() > LINE_BYTES_MAX {
        return Err(HeadFault::TooLong);
    }
    let garbage = HeadFault::Garbage("no status line");
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(garbage)?;
    let [minor, b' ', digits @ ..] = rest else { return Err(garbage) };
    let (digits, reason) = digits.split_at_checked(3).ok_or(garbage)?;
    let all_digits = minor.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit);
    if !all_digits || !(reason.is_empty() || reason.starts_with(b" ")) {
        return Err(garbage);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if !(100..=599).contains(&status) {
        return Err(HeadFault::Garbage("no known status code"));
    }
    let mut bytes = format!("HTTP/1.1 {status} ").into_bytes();
    bytes.extend(clean(trim(reason)));
    bytes.extend(b"\r\n");
    Ok((status, bytes))
}

fn check_request_line(line: &[u8]) -> Result<&[u8], &'static str> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    match (method, target, version, parts.next()) {
        (Some(method), Some(target), Some(b"HTTP/1.1"), None)
            if !method.is_empty()
                && method.iter().all(u8::is_ascii_uppercase)
                && method != b"CONNECT"
                && target.starts_with(b"/")
                && target.iter().all(u8::is_ascii_graphic) =>
        {
            Ok(method)
        }
        _ => Err("its request line is malformed"),
    }
}

/// Name and trimmed value of a header line whose name is a token.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (!name.is_empty() && name.iter().all(is_token)).then(|| (name, trim(value)))
}

/// Where the body ends (RFC 9112, 6.3), refusing what minreq would read in another way than others.
fn body_end(fields: &[(Vec<u8>, Vec<u8>)], status: u16, asked_for_head: bool) -> Result<BodyEnd, HeadFault> {
    let values = |known: &'static str| {
        fields
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            .map(|(_, value)| value)
    };
    let mut length = None;
    for value in values("content-length") {
        let this = parse_length(value).ok_or(HeadFault::Garbage("Content-Length is no number"))?;
        if length.replace(this).is_some_and(|before| before != this) {
            return Err(HeadFault::Garbage("two different Content-Lengths"));
        }
    }
    let codings: Vec<_> = values("transfer-encoding").collect();
    let chunked = match codings[..] {
        [] => false,
        [coding] if coding.eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(HeadFault::Garbage("unknown transfer coding")),
    };
    Ok(match length {
        _ if asked_for_head || status == 204 || status == 304 => BodyEnd::Nothing,
        _ if chunked => BodyEnd::Chunked,
        Some(length) => BodyEnd::Length(length),
        None => BodyEnd::Close,
    })
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

/// `value` as valid UTF-8 without control characters; each byte that does not fit becomes `?`.
fn clean(value: &[u8]) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        cleaned.extend(chunk.valid().bytes().map(|byte| if is_control(byte) { b'?' } else { byte }));
        cleaned.extend(chunk.invalid().iter().map(|_| b'?'));
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(head: &[u8]) -> Result<AnswerHead, HeadFault> {
        parse_answer_head(head, false)
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_comes() {
        assert_eq!(head_length(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", 0), Some(25));
        assert_eq!(head_length(b"HTTP/1.1 200 OK\nA: b\n\nbody", 0), Some(22));
        assert_eq!(head_length(b"HTTP/1.1 200 OK\r\nA: b\r\n", 0), None);
        let whole = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        for searched in 0..whole.len() {
            assert_eq!(head_length(whole, searched), Some(whole.len()), "{searched}");
        }
    }

    #[test]
    fn good_answers_pass_unchanged() {
        let head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/3\r\ncontent-length: 2\r\n\r\n";
        let parsed = answer(head).unwrap();
        assert_eq!(parsed.bytes, head);
        assert_eq!((parsed.status, parsed.end), (206, BodyEnd::Length(2)));
    }

    #[test]
    fn odd_answers_are_mended() {
        let latin = b"HTTP/1.0 200\nContent-disposition: attachment; filename=\"B\xe4r.jpg\"\nX: a\0b\n\n";
        assert_eq!(
            answer(latin).unwrap().bytes,
            b"HTTP/1.1 200 \r\nContent-disposition: attachment; filename=\"B?r.jpg\"\r\nX: a?b\r\n\r\n"
        );
        let chinese = "HTTP/1.1 200 OK\r\nContent-disposition: filename=\"图.jpg\"\r\n\r\n";
        assert_eq!(answer(chinese.as_bytes()).unwrap().bytes, chinese.as_bytes());
        let folded = b"HTTP/1.1 200 OK\r\nA: b\r\n  c\r\nno field\r\nbad name: x\r\n\r\n";
        assert_eq!(answer(folded).unwrap().bytes, b"HTTP/1.1 200 OK\r\nA: b c\r\n\r\n");
    }

    #[test]
    fn body_ends_are_read_in_one_way_only() {
        let end = |fields: &str| {
            answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).map(|head| head.end)
        };
        assert_eq!(end("A: b"), Ok(BodyEnd::Close));
        assert_eq!(end("Transfer-Encoding: Chunked"), Ok(BodyEnd::Chunked));
        assert_eq!(end("Content-Length: 7\r\nContent-Length: 7"), Ok(BodyEnd::Length(7)));
        for bad in [
            "Content-Length: 7\r\nContent-Length: 8",
            "Content-Length: -1",
            "Content-Length: 7, 7",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        ] {
            assert!(matches!(end(bad), Err(HeadFault::Garbage(_))), "{bad}");
        }
        let no_body = |head: &[u8], asked| parse_answer_head(head, asked).unwrap().end;
        assert_eq!(
            no_body(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false),
            BodyEnd::Nothing
        );
        assert_eq!(no_body(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), BodyEnd::Nothing);
    }

    #[test]
    fn what_is_no_status_line_is_garbage() {
        for bad in [
            "SSH-2.0-x",
            "HTTP/2.0 200 OK",
            "HTTP/1.1 20",
            "HTTP/1.1 2000",
            "HTTP/1.1 abc",
            "HTTP/1.1  200",
            "HTTP/1.1 999 x",
        ] {
            assert!(
                matches!(answer(format!("{bad}\r\n\r\n").as_bytes()), Err(HeadFault::Garbage(_))),
                "{bad}"
            );
        }
        assert_eq!(check_unfinished(b"HTT"), Ok(()));
        assert!(matches!(check_unfinished(b"<html>"), Err(HeadFault::Garbage(_))));
    }

    #[test]
    fn long_lines_are_refused_also_before_their_end() {
        let fits = "x".repeat(LINE_BYTES_MAX - 3);
        assert!(answer(format!("HTTP/1.1 200 OK\nA: {fits}\n\n").as_bytes()).is_ok());
        let head = format!("HTTP/1.1 200 OK\nA: {fits}x");
        assert_eq!(answer(format!("{head}\n\n").as_bytes()).unwrap_err(), HeadFault::TooLong);
        assert_eq!(check_unfinished(format!("{head}xx").as_bytes()), Err(HeadFault::TooLong));
        let folded = format!("HTTP/1.1 200 OK\r\nA: {fits}\r\n b\r\n\r\n");
        assert_eq!(answer(folded.as_bytes()).unwrap_err(), HeadFault::TooLong);
    }

    #[test]
    fn the_secret_is_checked_and_does_not_leave() {
        let head = b"POST /cgi-bin/x?a=b HTTP/1.1\r\nHost: 127.0.0.1:4711\r\nTubox-Passage: s3cret\r\n\
            User-Agent: tubox\r\nContent-Length: 2\r\n\r\n";
        assert!(has_field(head, "tubox-passage", "s3cret"));
        assert!(!has_field(head, "tubox-passage", "s3cre"));
        assert!(!has_field(head, "tubox-passage", "s3creT"));
        let rewritten = rewrite_request_head(head, "tubox-passage", "api.weixin.qq.com").unwrap();
        assert_eq!(
            String::from_utf8(rewritten.bytes).unwrap(),
            "POST /cgi-bin/x?a=b HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n\
             User-Agent: tubox\r\nContent-Length: 2\r\n\r\n"
        );
        assert_eq!(rewritten.body_bytes, 2);
        assert!(!rewritten.asks_for_head);
    }

    #[test]
    fn requests_that_could_be_read_in_two_ways_do_not_leave() {
        let rewrite = |head: &str| rewrite_request_head(head.as_bytes(), "s", "a.example");
        for bad in [
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "get / HTTP/1.1\r\n\r\n",
            "CONNECT /x HTTP/1.1\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "GET / HTTP/1.1\r\nno field\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\u{1}\r\n\r\n",
            "GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        ] {
            assert!(rewrite(bad).is_err(), "{bad:?}");
        }
        assert!(rewrite("HEAD / HTTP/1.1\r\n\r\n").unwrap().asks_for_head);
    }
}
