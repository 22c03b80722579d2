//! Request heads: bytes in, a clean head or a refusal out. Pure, so that it can be fuzzed; it knows nothing of
//! sockets.
//!
//! httparse reads the header lines, but it is lenient where two readers of the same bytes could disagree (bare
//! LF, repeated framing headers), and disagreement is how requests are smuggled. So the bytes are checked
//! before it, the request line is read here, and framing headers are counted after it. What is handed on is
//! written anew and says one thing only.

use super::{HEAD_INSIDE, InboundLimits, refusal::Refusal};
use std::io::Write;

/// Room for what the door itself writes into a head that goes inside.
const LINES_BYTES_BESIDE_TARGET: usize = 160;

/// Header lines that can be read without asking for memory: one seldom sends as many.
const HEADERS_USUAL: usize = 24;

/// What a request line may hold beside its target: the longest method served, two spaces and the version.
const LINE_BYTES_BESIDE_TARGET: usize = 32;

/// The methods that are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    /// PUT; nothing takes it, and the web room says what the route takes instead.
    Put,
    /// PATCH; the same.
    Patch,
    /// DELETE; the same.
    Delete,
}

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// There is none.
    None,
    /// So many bytes; never zero, never more than the limit.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A head that may go inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedHead {
    /// Bytes that the head took.
    pub head_bytes: usize,
    /// The method.
    pub method: Method,
    /// The target: starts with `/`, printable ASCII.
    pub target: String,
    /// Whether the client speaks HTTP/1.0 (else 1.1).
    pub http_1_0: bool,
    /// Whether the client wants to use the connection again.
    pub keep_alive: bool,
    /// What follows the head.
    pub body: RequestBody,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// All `X-Forwarded-For` lines, separated by commas.
    pub forwarded_for: String,
    /// The header fields to hand on, each as a tab, name, colon, blank and value: none that belongs to the connection,
    /// none that frames the body.
    pub fields: Vec<u8>,
}

impl ParsedHead {
    /// Writes the head onto `head` as it goes inside, for a body of `body_bytes` from `client`. `ends`: no other request
    /// follows. All that tiny_http itself need not read is on one line, which [`FieldsInside`] takes apart: tiny_http reads
    /// byte by byte, and asks for memory six times a line.
    pub fn render(&self, client: std::net::IpAddr, body_bytes: usize, ends: bool, head: &mut Vec<u8>) {
        let method = match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        };
        // `Connection: close` makes tiny_http let go of its connection thread without waiting for our end.
        let connection = if ends { "Connection: close\r\n" } else { "" };
        head.reserve(LINES_BYTES_BESIDE_TARGET + self.target.len() + self.fields.len());
        // Writing to a Vec cannot fail.
        let _ = write!(head, "{method} {} HTTP/1.1\r\n{connection}", self.target);
        let _ = write!(head, "{HEAD_INSIDE}: {client}");
        head.extend_from_slice(&self.fields);
        head.extend_from_slice(b"\r\n");
        // Without a length there is no body.
        if body_bytes > 0 {
            let _ = write!(head, "Content-Length: {body_bytes}\r\n");
        }
        head.extend_from_slice(b"\r\n");
    }
}

/// What a head that came inside says: the value of its line [`HEAD_INSIDE`].
#[derive(Clone, Copy, Debug)]
pub struct FieldsInside<'h> {
    /// The client's address.
    pub client: &'h str,
    fields: &'h str,
}

impl<'h> FieldsInside<'h> {
    /// Reads what [`ParsedHead::render`] wrote.
    pub fn parse(value: &'h str) -> FieldsInside<'h> {
        let (client, fields) = value.split_once('\t').unwrap_or((value, ""));
        FieldsInside { client, fields }
    }

    /// The first value of the header `name`, without blanks around it.
    pub fn get(&self, name: &str) -> Option<&'h str> {
        let mut pairs = self.fields.split('\t').filter_map(|field| field.split_once(':'));
        pairs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Whether `news` holds a byte that can end a head or spoil it. While it does not, asking [`parse_head`] again
/// is of no use; so a head that drips in byte by byte does not cost its length squared.
pub fn may_decide(news: &[u8]) -> bool {
    news.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

/// Reads one head from the start of `bytes`; `None`: so far it is well, but it is not whole yet.
pub fn parse_head(bytes: &[u8], limits: &InboundLimits) -> Result<Option<ParsedHead>, Refusal> {
    // RFC 9112 2.2: one empty line before a request is forgiven.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let bytes = &bytes[skipped..];
    if bytes.first() == Some(&0x16) {
        return Err(Refusal::TLS);
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let seen = &bytes[..end.unwrap_or(bytes.len())];
    check_bytes(seen)?;
    let Some(line_end) = seen.windows(2).position(|two| two == b"\r\n") else {
        let line_bytes_max = (limits.target_bytes_max + LINE_BYTES_BESIDE_TARGET).min(limits.head_bytes_max);
        return if seen.len() > line_bytes_max { Err(Refusal::TARGET) } else { Ok(None) };
    };
    let (method, target, http_1_0) = parse_request_line(&seen[..line_end], limits)?;
    let lines = seen.iter().filter(|byte| **byte == b'\n').count();
    if seen.len() > limits.head_bytes_max || lines > limits.headers_max + 2 {
        return Err(Refusal::HEAD);
    }
    if end.is_none() {
        return Ok(None);
    }
    let fields = Fields::parse(&seen[line_end + 2..], limits)?;
    Ok(Some(ParsedHead {
        head_bytes: skipped + seen.len(),
        method,
        target: target.to_owned(),
        http_1_0,
        keep_alive: !fields.close && (!http_1_0 || fields.keep_alive),
        body: fields.body(method, http_1_0, limits.body_bytes_max)?,
        expects_continue: fields.expects_continue(http_1_0)?,
        forwarded_for: fields.forwarded_for,
        fields: fields.inside,
    }))
}

/// CR and LF come only as a pair and never before a blank (a folded line); no other control byte but the tab.
fn check_bytes(seen: &[u8]) -> Result<(), Refusal> {
    let mut before = 0;
    let mut before_that = 0;
    for &byte in seen {
        match byte {
            b'\n' if before != b'\r' => return Err(Refusal::malformed("bare line feed in the head")),
            b'\n' => {}
            _ if before == b'\r' => return Err(Refusal::malformed("bare carriage return in the head")),
            b' ' | b'\t' if before == b'\n' && before_that == b'\r' => {
                return Err(Refusal::malformed("folded header line"));
            }
            b'\r' | b'\t' => {}
            _ if byte.is_ascii_control() => return Err(Refusal::malformed("control byte in the head")),
            _ => {}
        }
        (before_that, before) = (before, byte);
    }
    Ok(())
}

fn parse_request_line<'h>(
    line: &'h [u8],
    limits: &InboundLimits,
) -> Result<(Method, &'h str, bool), Refusal> {
    const BAD_LINE: Refusal = Refusal::malformed("malformed request line");
    let line = std::str::from_utf8(line).map_err(|_| BAD_LINE)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), version, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BAD_LINE);
    };
    let http_1_0 = match version.map(str::as_bytes) {
        Some(b"HTTP/1.1") => false,
        Some(b"HTTP/1.0") => true,
        Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(Refusal::VERSION),
        // A method and a path alone are HTTP/0.9.
        None if target.starts_with('/') => return Err(Refusal::VERSION),
        _ => return Err(BAD_LINE),
    };
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "TRACE" | "CONNECT" => return Err(Refusal::METHOD),
        word if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            return Err(Refusal::UNKNOWN_METHOD);
        }
        _ => return Err(BAD_LINE),
    };
    if target.len() > limits.target_bytes_max {
        return Err(Refusal::TARGET);
    }
    let clean = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !clean || !target.starts_with('/') {
        return Err(Refusal::malformed("target must be a path in printable ASCII"));
    }
    Ok((method, target, http_1_0))
}

/// What the header lines said about the message, and the lines to hand on.
#[derive(Default)]
struct Fields<'h> {
    host: Option<&'h [u8]>,
    content_length: Option<&'h [u8]>,
    transfer_encoding: Option<&'h [u8]>,
    expect: Option<&'h [u8]>,
    close: bool,
    keep_alive: bool,
    forwarded_for: String,
    names_inside: Option<&'static [&'static str]>,
    inside: Vec<u8>,
}

impl<'h> Fields<'h> {
    fn parse(block: &'h [u8], limits: &InboundLimits) -> Result<Fields<'h>, Refusal> {
        let headers_max = limits.headers_max;
        let lines = block.iter().filter(|byte| **byte == b'\n').count();
        let (mut few, mut many) = ([httparse::EMPTY_HEADER; HEADERS_USUAL], Vec::new());
        let headers = if lines.min(headers_max) <= HEADERS_USUAL {
            &mut few[..headers_max.min(HEADERS_USUAL)]
        } else {
            many.resize(headers_max, httparse::EMPTY_HEADER);
            &mut many
        };
        let headers = match httparse::parse_headers(block, headers) {
            Ok(httparse::Status::Complete((taken, headers))) if taken == block.len() => headers,
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HEAD),
            _ => return Err(Refusal::malformed("malformed header line")),
        };
        let mut fields = Fields {
            names_inside: limits.names_inside,
            inside: Vec::with_capacity(block.len()),
            ..Fields::default()
        };
        for header in headers {
            fields.take(header.name, header.value)?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &'h str, value: &'h [u8]) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name {
            _ if is("host") => {
                once(&mut self.host, value, Refusal::malformed("more than one Host"))?;
                self.hand_on(name, value);
            }
            _ if is("content-length") => {
                let again = Refusal::malformed("more than one Content-Length");
                once(&mut self.content_length, value, again)?;
            }
            _ if is("transfer-encoding") => {
                let again = Refusal::malformed("more than one Transfer-Encoding");
                once(&mut self.transfer_encoding, value, again)?;
            }
            _ if is("expect") => once(&mut self.expect, value, Refusal::EXPECTATION)?,
            _ if is("connection") => {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ if is("x-forwarded-for") => {
                let comma = if self.forwarded_for.is_empty() { "" } else { "," };
                self.forwarded_for += comma;
                self.forwarded_for += &String::from_utf8_lossy(value);
                self.hand_on(name, value);
            }
            _ if belongs_to_the_connection(name) => {}
            _ => self.hand_on(name, value),
        }
        Ok(())
    }

    /// tiny_http hangs up without a word on a byte beyond ASCII. In a value such bytes are legal and do happen
    /// (cookies that some other page of the domain has set), so they cost their meaning, not the request. And a tab,
    /// which here parts the fields, says no more than a blank.
    fn hand_on(&mut self, name: &str, value: &[u8]) {
        if self.names_inside.is_some_and(|names| !names.iter().any(|known| name.eq_ignore_ascii_case(known)))
        {
            return;
        }
        self.inside.push(b'\t');
        self.inside.extend_from_slice(name.as_bytes());
        self.inside.extend_from_slice(b": ");
        self.inside.extend(value.iter().map(|byte| match byte {
            b'\t' => b' ',
            byte if byte.is_ascii() => *byte,
            _ => b'?',
        }));
    }

    fn body(&self, method: Method, http_1_0: bool, bytes_max: usize) -> Result<RequestBody, Refusal> {
        match self.host {
            Some(host) if !host.is_empty() && host.iter().all(|byte| is_host_byte(*byte)) => {}
            None if http_1_0 => {}
            None => return Err(Refusal::malformed("no Host")),
            Some(_) => return Err(Refusal::malformed("malformed Host")),
        }
        match (self.content_length, self.transfer_encoding) {
            (Some(_), Some(_)) => Err(Refusal::malformed("both Content-Length and Transfer-Encoding")),
            (None, Some(_)) if http_1_0 => Err(Refusal::malformed("Transfer-Encoding in HTTP/1.0")),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(RequestBody::Chunked),
            (None, Some(_)) => Err(Refusal::ENCODING),
            (None, None) if method == Method::Post => Err(Refusal::LENGTH),
            (None, None) => Ok(RequestBody::None),
            (Some(digits), None) => match plain_number(digits)? {
                0 => Ok(RequestBody::None),
                length if length > bytes_max as u64 => Err(Refusal::TOO_LARGE),
                length => Ok(RequestBody::Length(length)),
            },
        }
    }

    fn expects_continue(&self, http_1_0: bool) -> Result<bool, Refusal> {
        match self.expect {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(!http_1_0),
            Some(_) => Err(Refusal::EXPECTATION),
        }
    }
}

fn once<'h>(place: &mut Option<&'h [u8]>, value: &'h [u8], again: Refusal) -> Result<(), Refusal> {
    if place.replace(value).is_some() { Err(again) } else { Ok(()) }
}

/// Headers that speak of one connection and end at the door, in both directions.
pub(super) fn belongs_to_the_connection(name: &str) -> bool {
    let known = ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy"];
    let begins =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    known.iter().any(|known| name.eq_ignore_ascii_case(known)) || begins("proxy-")
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte)
}

/// Digits and nothing else; a number beyond `u64` is only too large, not malformed.
fn plain_number(digits: &[u8]) -> Result<u64, Refusal> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::malformed("Content-Length is not a number"));
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        value.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
    });
    value.ok_or(Refusal::TOO_LARGE)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
