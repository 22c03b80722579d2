//! tiny_http behind the inbound door: the only file that names it.
//!
//! It listens on a private Unix socket where nobody but the door comes by, so what it does badly with hostile
//! clients cannot happen; what is left is cured here: handlers survive panics, bodies are always read to their
//! end, every answer has a length.

use super::Site;
use super::answer::{Answer, Body, WriteBody};
use super::visit::{Method, Visit, takes_deflate};
use crate::door::inbound::HEAD_INSIDE;
use crate::door::inbound::head::FieldsInside;
use crate::ground::language::Language;
use anyhow::{Context, Result};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tiny_http::{Header, Request, Server, StatusCode};

/// Threads that answer. Submissions wait in them for the disk: while one half shares a sync, the other half gathers
/// for the next. So many are needed for a busy box to acknowledge more than 20 a sync.
const HANDLERS: usize = 64;

/// Where answers are written while they go out, and may end early: zips and thumbnails. Nowhere else.
pub const STREAMS_UNDER: &[&str] = &["/admin/"];

/// A handler's stack: parsing is shallow (JSON stops at 128 levels).
const STACK_BYTES: usize = 512 * 1024;

/// Room that a handler keeps for its next answer: a page with its head fits.
const ANSWER_BYTES_KEPT: usize = 8 * 1024;

/// The header lines that are read here; nothing else need come inside.
pub const HEADERS_READ: &[&str] = &[
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Content-Type",
    "Cookie",
    "Origin",
    IS_DELIBERATE,
];

/// Scripts of this site set it, forms of other sites cannot.
const IS_DELIBERATE: &str = "X-Tubox-Admin";

/// The longest body that is read; the door in front has a smaller bound.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// The running server.
pub struct WebServer {
    server: Arc<Server>,
    stopping: Arc<AtomicBool>,
    handlers: Vec<JoinHandle<()>>,
}

impl WebServer {
    /// Answers what comes in on `listener`.
    pub fn start(listener: UnixListener, site: Arc<Site>) -> Result<WebServer> {
        let server = Server::from_listener(listener, None)
            .map_err(|error| anyhow::anyhow!("could not start the web server: {error}"))?;
        let server = Arc::new(server);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut handlers = Vec::new();
        for number in 0..HANDLERS {
            let (server, stopping, site) = (server.clone(), stopping.clone(), site.clone());
            let handler = std::thread::Builder::new()
                .name(format!("web-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || handle(&server, &stopping, &site))
                .context("could not start a web handler")?;
            handlers.push(handler);
        }
        Ok(WebServer { server, stopping, handlers })
    }

    /// Whether all handlers are at work; when tiny_http's accept loop has died they are not.
    pub fn is_alive(&self) -> bool {
        self.handlers.iter().all(|handler| !handler.is_finished())
    }

    /// Lets answers in hand finish and ends the handlers. The door in front must be closed first.
    pub fn close(self) {
        self.stopping.store(true, Ordering::SeqCst);
        for _ in &self.handlers {
            self.server.unblock();
        }
        for handler in self.handlers {
            if handler.join().is_err() {
                log::error!("a web handler had panicked");
            }
        }
    }
}

fn handle(server: &Server, stopping: &AtomicBool, site: &Site) {
    let mut out = Vec::new();
    while !stopping.load(Ordering::SeqCst) {
        match server.recv() {
            Ok(request) => {
                answer(site, request, &mut out);
                out.clear();
                out.shrink_to(ANSWER_BYTES_KEPT);
            }
            Err(_) if stopping.load(Ordering::SeqCst) => return,
            Err(error) => {
                log::error!("the web server has stopped accepting: {error}");
                return;
            }
        }
    }
}

/// `out` is empty, and where the answer is put together.
fn answer(site: &Site, mut request: Request, out: &mut Vec<u8>) {
    let answer = catch_unwind(AssertUnwindSafe(|| match read_visit(&mut request) {
        Some(visit) => site.answer(&visit),
        None => Answer::refusal(413, "too-large", "请求太大", "the request is too large", Language::Chinese),
    }));
    let answer = answer.unwrap_or_else(|_| {
        log::error!("a request ended in a panic");
        Answer::refusal(500, "internal", "程序内部错误", "an internal error", Language::Chinese)
    });
    write_head(&answer, &site.http_date(), out);
    let is_head = *request.method() == tiny_http::Method::Head;
    // The client may have left; that is no fault of ours.
    let _ = match answer.body {
        _ if is_head => respond(request, out),
        // Head and body in one write, so that the door is woken once.
        Body::Bytes(bytes) => {
            out.extend_from_slice(&bytes);
            respond(request, out)
        }
        Body::Stream(_, _) if !ends_after(&request) => {
            log::error!("an answer that may end early needs a way of its own: {}", request.url());
            Ok(())
        }
        Body::Stream(length, write) => respond_with_stream(request, out, length, write),
    };
}

/// Whether the connection ends after the answer, as the door has asked.
fn ends_after(request: &Request) -> bool {
    let is_close = |header: &Header| header.field.equiv("Connection") && header.value == "close";
    request.headers().iter().any(is_close)
}

/// tiny_http writes a head line by line, and counts bytes in a machine word although a zip may be longer than a word
/// tells on 32-bit machines. So the head is made here; the door in front reads it and frames the answer anew.
fn write_head(answer: &Answer, date: &str, out: &mut Vec<u8>) {
    let reason = StatusCode(answer.status).default_reason_phrase();
    let length = answer.body.length();
    // Writing to a Vec cannot fail.
    let _ =
        write!(out, "HTTP/1.1 {} {reason}\r\nDate: {date}\r\nContent-Length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        for part in [*name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn respond(request: Request, out: &[u8]) -> io::Result<()> {
    let mut writer = request.into_writer();
    writer.write_all(out)?;
    writer.flush()
}

fn respond_with_stream(request: Request, head: &[u8], length: u64, write: WriteBody) -> io::Result<()> {
    let mut writer = request.into_writer();
    writer.write_all(head)?;
    let mut body = Counted { writer: &mut *writer, left: length };
    let written = catch_unwind(AssertUnwindSafe(|| write(&mut body)));
    let left = body.left;
    match written {
        Ok(Ok(())) if left == 0 => writer.flush(),
        // What is missing tells the door, and by it the client, that this is not whole.
        Ok(Ok(())) => {
            log::warn!("an answer was cut: it is {left} bytes shorter than expected");
            writer.flush()
        }
        Ok(Err(error)) => {
            log::info!("an answer was cut {left} bytes before its end: {error}");
            Err(error)
        }
        Err(_) => {
            log::error!("a request ended in a panic");
            Ok(())
        }
    }
}

/// Never lets out more bytes than were told.
struct Counted<'w> {
    writer: &'w mut dyn Write,
    left: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is longer than expected"));
        }
        let count = self.writer.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// `None` when the body is longer than any submission can be.
fn read_visit(request: &mut Request) -> Option<Visit> {
    let line = request.headers().iter().find(|header| header.field.equiv(HEAD_INSIDE));
    let inside = FieldsInside::parse(line.map_or("", |line| line.value.as_str()));
    let owned = |name| inside.get(name).map(str::to_owned);
    let mut visit = Visit {
        method: match request.method() {
            tiny_http::Method::Get | tiny_http::Method::Head => Method::Get,
            tiny_http::Method::Post => Method::Post,
            _ => Method::Other,
        },
        target: request.url().to_owned(),
        client: inside.client.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        language: Language::from_accept_language(inside.get("Accept-Language").unwrap_or_default()),
        cookie: owned("Cookie"),
        content_type: owned("Content-Type"),
        origin: owned("Origin"),
        accept: owned("Accept"),
        authorization: owned("Authorization"),
        takes_deflate: inside.get("Accept-Encoding").is_some_and(takes_deflate),
        is_deliberate: inside.get(IS_DELIBERATE).is_some(),
        body: Vec::new(),
    };
    if let Some(length) = request.body_length().filter(|length| *length > 0) {
        visit.body.reserve_exact(length.min(BODY_BYTES_MAX as usize));
        request.as_reader().take(BODY_BYTES_MAX + 1).read_to_end(&mut visit.body).ok()?;
    }
    (visit.body.len() as u64 <= BODY_BYTES_MAX).then_some(visit)
}
