//! An answer: status, headers, body. Every answer, refusals included, gets the headers that keep browsers from
//! guessing, caching and framing. A body is bytes, or is written while it goes out; its length is known before
//! its first byte in either case, so that whoever gets less knows that it is not whole.

use crate::ground::language::Language;
use crate::ground::packed::Packed;
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

/// Nothing may be loaded by, or framed around, an answer that is no page.
const NO_CONTENT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Room for what every answer carries and one or two more.
const HEADERS_USUAL: usize = 8;

/// Writes a body. What it holds (an open file, a place in a queue) is let go when it is done or dropped.
pub type WriteBody = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// What follows the head.
pub enum Body {
    /// All of it, here.
    Bytes(Cow<'static, [u8]>),
    /// So many bytes, made while they go out. When the writer fails or writes less, the connection is cut.
    Stream(u64, WriteBody),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names and values, visible ASCII only.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Body.
    pub body: Body,
}

impl Body {
    /// Its length.
    pub fn length(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream(length, _) => *length,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length())
    }
}

impl Answer {
    fn new(
        status: u16,
        content_type: impl Into<Cow<'static, str>>,
        policy: impl Into<Cow<'static, str>>,
        body: impl Into<Cow<'static, [u8]>>,
    ) -> Answer {
        let answer =
            Answer { status, headers: Vec::with_capacity(HEADERS_USUAL), body: Body::Bytes(body.into()) };
        answer
            .with_header("Content-Type", content_type)
            .with_header("Content-Security-Policy", policy)
            .with_header("X-Content-Type-Options", "nosniff")
            .with_header("X-Frame-Options", "DENY")
            .with_header("Referrer-Policy", "no-referrer")
            .with_header("Cache-Control", "no-store")
    }

    /// JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Answer {
        // What is told here are texts and numbers, and those can be written.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        Answer::new(status, "application/json; charset=utf-8", NO_CONTENT_POLICY, bytes)
    }

    /// A refusal as the contract has it: rc 1 and a message in the visitor's language; `code` is for scripts.
    pub fn refusal(status: u16, code: &str, zh: &str, en: &str, language: Language) -> Answer {
        let msg = if language == Language::Chinese { zh } else { en };
        Answer::json(status, &json!({"rc": 1, "msg": msg, "code": code}))
    }

    /// 429.
    pub fn too_many(wait: Duration, language: Language) -> Answer {
        let seconds = wait.as_secs().max(1);
        let zh = format!("请求太频繁，请 {seconds} 秒后再试");
        let en = format!("too many requests; please try again in {seconds} s");
        Answer::refusal(429, "too-often", &zh, &en, language).with_header("Retry-After", seconds.to_string())
    }

    /// 405.
    pub fn method_not_allowed(allow: &'static str) -> Answer {
        Answer::json(
            405,
            &json!({"rc": 1, "msg": format!("only {allow} are answered here"), "code": "method"}),
        )
        .with_header("Allow", allow)
    }

    /// A page.
    pub fn page(html: String, policy: &str) -> Answer {
        Answer::new(200, "text/html; charset=utf-8", policy.to_owned(), html.into_bytes())
    }

    /// A drawing.
    pub fn svg(text: String) -> Answer {
        Answer::new(200, "image/svg+xml", NO_CONTENT_POLICY, text.into_bytes())
    }

    /// A file as it is.
    pub fn plain(bytes: Vec<u8>) -> Answer {
        Answer::new(200, "text/plain", NO_CONTENT_POLICY, bytes)
    }

    /// A file whose name changes with its content, so it may be kept for ever.
    pub fn asset(file: Packed, content_type: &'static str, takes_deflate: bool) -> Answer {
        let answer = if takes_deflate {
            Answer::new(200, content_type, NO_CONTENT_POLICY, file.0)
                .with_header("Content-Encoding", "deflate")
        } else {
            Answer::new(200, content_type, NO_CONTENT_POLICY, file.unpacked())
        };
        answer
            .with_header("Cache-Control", "public, max-age=31536000, immutable")
            .with_header("Vary", "Accept-Encoding")
    }

    /// A small picture.
    pub fn jpeg(bytes: Vec<u8>) -> Answer {
        Answer::new(200, "image/jpeg", NO_CONTENT_POLICY, bytes)
    }

    /// `length` bytes that `write` makes while they go out.
    pub fn stream(content_type: &str, length: u64, write: WriteBody) -> Answer {
        let mut answer = Answer::new(200, content_type.to_owned(), NO_CONTENT_POLICY, Vec::new());
        answer.body = Body::Stream(length, write);
        answer
    }

    /// Prometheus text.
    pub fn metrics(text: String) -> Answer {
        Answer::new(200, "text/plain; version=0.0.4; charset=utf-8", NO_CONTENT_POLICY, text.into_bytes())
    }

    /// To another address of this site.
    pub fn redirect(to: &str) -> Answer {
        Answer::new(302, "text/plain; charset=utf-8", NO_CONTENT_POLICY, Vec::new())
            .with_header("Location", to.to_owned())
    }

    /// Sets a header, replacing an earlier value. A value that could split the answer is left out.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        let value = value.into();
        self.headers.retain(|(known, _)| *known != name);
        if value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            self.headers.push((name, value));
        }
        self
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }
}
