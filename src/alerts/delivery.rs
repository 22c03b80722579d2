//! How an alert leaves: by a command of the operator's, by a webhook, or both. WeCom robots get the JSON that
//! they want; everything else (ntfy and its like) gets the text as the body.

use super::Alert;
use crate::door::outbound::{Origin, OutboundDoor};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long the command may take before it is ended.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// How long the passage to the webhook may be silent; the door's own limits are shorter.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(60);
/// The host of WeCom robots.
const WECOM_HOST: &str = "qyapi.weixin.qq.com";

/// Where alerts go.
#[derive(Default)]
pub struct Delivery {
    /// Run with the kind as its argument and the text on its standard input.
    pub command: Option<PathBuf>,
    /// Gets a POST.
    pub webhook: Option<Webhook>,
}

/// An address that takes messages. It may hold a key, so it is never shown.
pub struct Webhook {
    /// The way out; leads to `origin` only.
    pub door: OutboundDoor,
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path and query.
    pub target: String,
}

impl Delivery {
    pub(super) fn send(&self, alert: &Alert) -> Result<()> {
        if let Some(command) = &self.command {
            run(command, alert)?;
        }
        match &self.webhook {
            Some(webhook) => webhook.post(alert),
            None => Ok(()),
        }
    }
}

fn run(command: &PathBuf, alert: &Alert) -> Result<()> {
    let running = || format!("could not run alerts.command {}", command.display());
    let mut child = Command::new(command)
        .arg(alert.kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(running)?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not read its input is fine.
        let _ = input.write_all(alert.text.as_bytes());
    }
    let pid = rustix::process::Pid::from_child(&child);
    let (ended, wait_for_end) = mpsc::channel();
    let watcher = std::thread::Builder::new().name("alert-command".into()).spawn(move || {
        let _ = ended.send(child.wait());
    });
    watcher.with_context(running)?;
    match wait_for_end.recv_timeout(COMMAND_WITHIN) {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => bail!("{}: it ended with {status}", running()),
        Ok(Err(error)) => Err(error).with_context(running),
        Err(_) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            bail!("{}: it took longer than {} s", running(), COMMAND_WITHIN.as_secs())
        }
    }
}

impl Webhook {
    fn post(&self, alert: &Alert) -> Result<()> {
        let posting = || format!("could not post to the webhook on {}", self.origin);
        let is_wecom = self.origin.authority().split(':').next() == Some(WECOM_HOST);
        let (content_type, body) = if is_wecom {
            let message = json!({"msgtype": "text", "text": {"content": format!("tubox: {}", alert.text)}});
            ("application/json", message.to_string())
        } else {
            ("text/plain; charset=utf-8", format!("tubox: {}", alert.text))
        };
        let passage = self.door.passage(&self.origin).with_context(posting)?;
        let (name, secret) = passage.header();
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\n{name}: {secret}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nUser-Agent: tubox\r\n\r\n{body}",
            self.target,
            self.origin.authority(),
            body.len()
        );
        let local = passage.base_url().trim_start_matches("http://").to_owned();
        let answer = exchange(&local, &request);
        if let Some(fault) = passage.finish().fault.filter(|fault| !fault.is_local()) {
            return Err(fault).with_context(posting);
        }
        match answer.with_context(posting)?.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(()),
            status => bail!("{}: it answers {}", posting(), status.unwrap_or("nothing")),
        }
    }
}

/// Sends the request over the passage; the first bytes of the answer hold its status.
fn exchange(local: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(local)?;
    stream.set_read_timeout(Some(WEBHOOK_WITHIN))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    (&stream).take(64 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned())
}
