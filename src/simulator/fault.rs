//! What can go wrong with one answer: the faults by name, and the dress they put on an answer. How a fault
//! behaves on the socket is in [`super::delivery`]; when one strikes is in [`super::plan`].

use super::codes;
use super::wire::Answer;
use std::time::Duration;

/// How long a stalled answer holds the socket unless told otherwise.
pub const STALL_HOLD: Duration = Duration::from_secs(60);

/// The content type that WeChat gives to JSON today.
pub const WECHAT_JSON: &str = "application/json; encoding=utf-8";

/// One thing that goes wrong. Where nothing else is said the answer beneath is the true one and its effects on
/// the simulator's state stand, as when an answer is lost on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing goes wrong: a place in a queue of faults.
    Good,
    /// An error of WeChat's in place of the work.
    Error(ErrorReply),
    /// Status 200 and the log-in page of a hotel's network.
    CaptivePortal,
    /// Status 200, Content-Length 0, type as if it were the real thing.
    EmptyBody,
    /// The connection ends this many bytes before Content-Length is reached.
    ShortBody {
        /// Bytes that never come (at least one stays away, at most all).
        missing: usize,
    },
    /// The whole body, without Content-Length.
    NoLength,
    /// Without Content-Length, and this many bytes short.
    NoLengthCut {
        /// Bytes that never come.
        missing: usize,
    },
    /// The whole body, chunked.
    Chunked,
    /// Chunked; the connection ends in the middle of a chunk.
    ChunkedCut,
    /// Chunked; the connection ends between two chunks, without the last one.
    ChunkedCutBetween,
    /// `{"video_url": …}` in place of the bytes.
    VideoUrl,
    /// A status of the front servers' with a small HTML body.
    Status(u16),
    /// The request is read, then the connection is reset.
    ResetBeforeAnswer,
    /// Half of the body, then a reset.
    ResetMidBody,
    /// The request is read, then the connection is closed without a byte.
    CloseBeforeAnswer,
    /// Not one byte more for `hold`, or until the client breaks the connection; then the connection is closed.
    Stall {
        /// `None`: before the first byte of the head; else after so many bytes of the body.
        after_body_bytes: Option<usize>,
        /// How long the socket is held.
        hold: Duration,
    },
    /// Slow but alive.
    Trickle {
        /// Bytes at a time.
        bytes: usize,
        /// Time between two portions.
        pause: Duration,
    },
    /// The true answer after a silence.
    Delay(Duration),
    /// A body without Content-Length and without end.
    Endless,
    /// A body of this declared and delivered length that begins like a picture.
    Oversized {
        /// Bytes of the body.
        bytes: u64,
    },
    /// The header `Content-disposition` with exactly these bytes after its name.
    Disposition(Vec<u8>),
    /// No `Content-disposition`.
    NoDisposition,
    /// The true body under this content type; the empty one: no `Content-Type` at all.
    ContentType(String),
    /// Bytes that are no HTTP.
    Garbage,
    /// An interim response (100, 103) before the true one.
    Interim(u16),
    /// Status 302 to this address.
    Redirect(String),
    /// The true body, falsely declared as gzip.
    FalseGzip,
    /// The true answer with this many bytes of further, harmless headers.
    LongHead {
        /// Bytes of headers.
        bytes: usize,
    },
}

/// An error of WeChat's, and how it is dressed.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorReply {
    /// `errcode`.
    pub code: i64,
    /// The content type.
    pub content_type: String,
    /// `"errcode":"40007"` in place of the number.
    pub code_as_string: bool,
    /// Raw control characters within errmsg.
    pub control_characters: bool,
}

impl ErrorReply {
    /// The error as WeChat sends it today.
    pub fn of(code: i64) -> ErrorReply {
        ErrorReply {
            code,
            content_type: WECHAT_JSON.to_owned(),
            code_as_string: false,
            control_characters: false,
        }
    }

    /// The body. `ip` and `rid` go into the text.
    pub fn body(&self, ip: &str, rid: &str) -> Vec<u8> {
        let code = if self.code_as_string { format!("\"{}\"", self.code) } else { self.code.to_string() };
        let breaks = if self.control_characters { "\u{1}\u{b}\t" } else { "" };
        let text = codes::stem(self.code, ip);
        format!("{{\"errcode\":{code},\"errmsg\":\"{text}{breaks} rid: {rid}\"}}").into_bytes()
    }
}

/// Names in `Content-disposition` that want to harm whoever uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostileName {
    /// `../../etc/passwd`
    Traversal,
    /// `/etc/passwd`
    Absolute,
    /// `C:\windows\…`
    Backslashes,
    /// Four thousand characters.
    Long,
    /// Escaped quotes, a NUL escape and a semicolon within.
    Quoted,
    /// Bytes that are no UTF-8.
    Latin1,
    /// A name that ends in .exe.
    WrongExtension,
    /// `filename=""`
    Empty,
    /// RFC 5987 beside mojibake, as the enterprise host sends it.
    Encoded,
}

impl HostileName {
    /// All of them.
    pub const ALL: [HostileName; 9] = [
        HostileName::Traversal,
        HostileName::Absolute,
        HostileName::Backslashes,
        HostileName::Long,
        HostileName::Quoted,
        HostileName::Latin1,
        HostileName::WrongExtension,
        HostileName::Empty,
        HostileName::Encoded,
    ];
}

impl Fault {
    /// WeChat's error `code`, as it is sent today.
    pub fn code(code: i64) -> Fault {
        Fault::Error(ErrorReply::of(code))
    }

    /// WeChat's error `code` under another content type.
    pub fn code_as(code: i64, content_type: &str) -> Fault {
        Fault::Error(ErrorReply { content_type: content_type.to_owned(), ..ErrorReply::of(code) })
    }

    /// No byte at all for the usual hold.
    pub fn stall() -> Fault {
        Fault::Stall { after_body_bytes: None, hold: STALL_HOLD }
    }

    /// A hostile `Content-disposition`.
    pub fn hostile_name(name: HostileName) -> Fault {
        let value: Vec<u8> = match name {
            HostileName::Traversal => b"attachment; filename=\"../../../../etc/passwd\"".to_vec(),
            HostileName::Absolute => b"attachment; filename=\"/etc/cron.d/evil\"".to_vec(),
            HostileName::Backslashes => {
                b"attachment; filename=\"C:\\\\windows\\\\system32\\\\a.jpg\"".to_vec()
            }
            HostileName::Long => format!("attachment; filename=\"{}.jpg\"", "a".repeat(4000)).into_bytes(),
            HostileName::Quoted => b"attachment; filename=\"a\\\"; rm -rf %00.jpg;\" ; x=\"".to_vec(),
            HostileName::Latin1 => b"attachment; filename=\"caf\xe9\xff\xfe.jpg\"".to_vec(),
            HostileName::WrongExtension => b"attachment; filename=\"picture.exe\"".to_vec(),
            HostileName::Empty => b"attachment; filename=\"\"".to_vec(),
            HostileName::Encoded => {
                b"attachment; filename=\"\xe5\x9b\xbe.jpg\"; filename*=utf-8''%E5%9B%BE.jpg".to_vec()
            }
        };
        Fault::Disposition(value)
    }

    /// The answer that stands in place of the true one, for faults that keep the work from being done. `ip` and
    /// `rid` go into error texts.
    pub fn replacement(&self, ip: &str, rid: &str) -> Option<Answer> {
        match self {
            Fault::Error(reply) => Some(Answer::new(200, &reply.content_type, reply.body(ip, rid))),
            Fault::CaptivePortal => Some(Answer::new(200, "text/html; charset=utf-8", CAPTIVE_PORTAL)),
            Fault::Status(status) => {
                let page = format!(
                    "<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
                );
                Some(Answer::new(*status, "text/html", page))
            }
            Fault::VideoUrl => {
                let json =
                    "{\"video_url\":\"http://203.0.113.80/vweixinp.tc.example/1007_simulated.f10.mp4\"}";
                Some(Answer::new(200, "text/plain", json))
            }
            Fault::Redirect(location) => {
                let mut answer = Answer::new(302, "text/html", "<html><body>moved</body></html>");
                answer.set_header("Location", location);
                Some(answer)
            }
            _ => None,
        }
    }

    /// Changes the headers and the body of the true answer.
    pub fn dress(&self, answer: &mut Answer) {
        match self {
            Fault::EmptyBody => answer.body = Vec::new().into(),
            Fault::Disposition(value) => answer.set_header("Content-disposition", value),
            Fault::NoDisposition => answer.remove_header("Content-disposition"),
            Fault::ContentType(none) if none.is_empty() => answer.remove_header("Content-Type"),
            Fault::ContentType(content_type) => answer.set_header("Content-Type", content_type),
            Fault::FalseGzip => answer.set_header("Content-Encoding", "gzip"),
            Fault::LongHead { bytes } => lengthen_head(answer, *bytes),
            _ => {}
        }
    }
}

fn lengthen_head(answer: &mut Answer, bytes: usize) {
    const LINE: usize = 500;
    for index in 0..bytes.div_ceil(LINE) {
        answer.set_header(&format!("X-Filler-{index}"), "f".repeat(LINE - 20));
    }
}

const CAPTIVE_PORTAL: &str = "<!DOCTYPE html>\n<html><head><title>Welcome to Airport Wi-Fi</title>\
    <meta http-equiv=\"refresh\" content=\"0; url=http://192.0.2.1/login\"></head>\
    <body><h1>Please log in</h1><form action=\"http://192.0.2.1/login\"><input name=\"room\">\
    <button>Connect</button></form></body></html>\n";
