//! Asking a box that runs on this machine, over its own door.

use crate::config::Config;
use crate::web::ADMIN_TOKEN_FILE;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long the box may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// An answer: its head as text, its body as bytes.
pub(super) struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// One request over a connection of its own. `head` is the request line and headers, without `Host`.
pub(super) fn ask(address: SocketAddr, head: &str, body: &str) -> Result<Reply> {
    let asking = || format!("could not ask the box on {address}: is it running?");
    let address = callable(address);
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).with_context(asking)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).with_context(asking)?;
    let request = format!("{head}Host: {address}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).with_context(asking)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(asking)?;
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let split =
        split.with_context(|| format!("could not understand the answer of {address}: is that a tubox?"))?;
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Reply { status, head, body: answer[split + 4..].to_vec() })
}

/// Asks one of the operator's routes and reads its JSON. With a `body` it is a POST.
pub(super) fn ask_admin(
    config: &Config,
    target: &str,
    language_tag: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let token = admin_token(config)?;
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nAccept-Language: {language_tag}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    let reply = ask(config.listen, &head, &body)?;
    let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if reply.status != 200 {
        bail!("could not ask the box on {}: it answers {} {}", config.listen, reply.status, json["msg"]);
    }
    Ok(json)
}

/// The token that the box has made at its first start.
pub(super) fn admin_token(config: &Config) -> Result<String> {
    let path = config.data_dir.join(ADMIN_TOKEN_FILE);
    let token = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "could not read the admin token {}: has the box run, and may you read its folder?",
            path.display()
        )
    })?;
    Ok(token.trim().to_owned())
}

/// A box that listens on all addresses is asked on loopback.
pub(super) fn callable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}
