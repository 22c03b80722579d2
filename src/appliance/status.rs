//! What the box says about itself: one object for `tubox status`, the admin page and `/metrics`.
//!
//! Contract: `waiting`, `downloading`, `saved`, `failed`, `paused`, `oldest_deadline_seconds`, `disk_free_bytes`.
//! Everything else is extra.

use super::Rooms;
use crate::album::catalogue;
use crate::door::inbound::InboundCounters;
use crate::door::outbound::OutboundCounters;
use crate::ground::clock::{SharedClock, day_utc, rfc3339_utc};
use crate::ground::language::Language;
use crate::wechat::fault;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Lines of the failed list that are shown.
const FAILED_SHOWN_MAX: usize = 1000;

/// A copy with very many problems has a long report.
const STICK_REPORT_BYTES_MAX: u64 = 4 << 20;

/// The status object. Reasons and remedies are in `language`.
pub fn status(rooms: &Rooms, runtime_dir: &Path, clock: &SharedClock, language: Language) -> Value {
    let counts = rooms.queue.counts();
    let totals = rooms.collector.totals();
    let now_ms = clock.wall_ms();
    let failed: Vec<Value> = rooms
        .queue
        .failed(FAILED_SHOWN_MAX)
        .into_iter()
        .map(|failed| {
            let entry = fault::entry(&failed.code);
            json!({
                "media_id": failed.media_id,
                "code": failed.code,
                "reason": entry.reason.pick(language),
                "remedy": entry.remedy.pick(language),
                "detail": failed.detail,
                "failed_at": rfc3339_utc(failed.at_ms),
            })
        })
        .collect();
    let paused = rooms.collector.paused().map(|paused| {
        let until = now_ms + i64::try_from(paused.wait.as_millis()).unwrap_or(0);
        json!({
            "code": paused.code,
            "reason": paused.reason.pick(language),
            "remedy": paused.remedy.pick(language),
            "detail": paused.detail,
            "since": paused.since,
            "until": rfc3339_utc(until),
        })
    });
    let seconds_until = |ms: i64| (ms - now_ms) / 1000;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": rfc3339_utc(now_ms),
        "waiting": counts.waiting,
        "downloading": counts.claimed,
        "saved": counts.saved,
        "saved_today": catalogue::pictures_of(rooms.album.root(), &day_utc(now_ms)).ok(),
        "failed": failed,
        "failed_count": counts.failed,
        "paused": paused,
        "oldest_deadline_seconds": rooms.queue.oldest_deadline_ms().map(seconds_until),
        "next_due_seconds": rooms.queue.next_due().map(|due| due.as_secs()),
        "disk_free_bytes": rooms.album.free_bytes().ok(),
        "saved_since_start": totals.saved,
        "saved_bytes_since_start": totals.saved_bytes,
        "last_saved_at": totals.last_saved_ms.map(rfc3339_utc),
        "credentials": rooms.wechat.credential_ages(),
        "clock_offset_ms": rooms.wechat.clock_offset_ms(),
        "pictures_dir": rooms.album.root().display().to_string(),
        "stick": stick(runtime_dir),
    })
}

/// How the copy onto the last stick went, as its script says; null where none was plugged in since the start of the
/// machine. Not the report itself, which may be long.
fn stick(runtime_dir: &Path) -> Value {
    let mut text = Vec::new();
    let read = File::open(runtime_dir.join("usb.json"))
        .and_then(|file| file.take(STICK_REPORT_BYTES_MAX).read_to_end(&mut text));
    let Ok(mut report) = read.and_then(|_| Ok(serde_json::from_slice::<Value>(&text)?)) else {
        return Value::Null;
    };
    let mut of = |key: &str| report.get_mut(key).map_or(Value::Null, Value::take);
    json!({
        "state": of("state"),
        "device": of("device"),
        "since": of("since"),
        "reason": of("reason"),
        "safe_to_pull": of("safe_to_pull"),
    })
}

/// The same as Prometheus text (exposition format 0.0.4), with the counters of both doors.
pub fn metrics(
    rooms: &Rooms,
    clock: &SharedClock,
    inbound: &InboundCounters,
    outbound: &OutboundCounters,
) -> String {
    let counts = rooms.queue.counts();
    let totals = rooms.collector.totals();
    let credentials = rooms.wechat.credential_ages();
    let oldest = rooms.queue.oldest_deadline_ms().map(|ms| (ms - clock.wall_ms()) as f64 / 1000.0);
    let mut page = Page::default();
    page.gauge("tubox_queue_waiting", "Ids that are neither a picture nor failed.", counts.waiting as f64);
    page.gauge("tubox_queue_downloading", "Ids that a worker holds.", counts.claimed as f64);
    page.gauge("tubox_queue_failed", "Length of the failed list.", counts.failed as f64);
    if let Some(seconds) = oldest {
        let help =
            "Seconds until WeChat deletes the picture that has the least time left; absent when none waits.";
        page.gauge("tubox_queue_oldest_deadline_seconds", help, seconds);
    }
    page.counter("tubox_pictures_saved_total", "Pictures brought home since the start.", totals.saved);
    page.counter("tubox_picture_bytes_saved_total", "Bytes of pictures brought home.", totals.saved_bytes);
    let by_reason = totals.failed_attempts.iter().map(|(code, count)| (code.as_str(), *count));
    page.counters("tubox_downloads_failed_total", "Attempts that failed, by code.", "reason", by_reason);
    let paused = rooms.collector.paused();
    page.gauge("tubox_paused", "1 while everything waits.", f64::from(u8::from(paused.is_some())));
    page.counter("tubox_token_refreshes_total", "Renewals of the access_token.", credentials.token_refreshes);
    if let Some(seconds) = credentials.token_ends_in_seconds {
        page.gauge("tubox_token_ends_in_seconds", "Seconds until the access_token ends.", seconds as f64);
    }
    if let Some(seconds) = credentials.ticket_age_seconds {
        page.gauge("tubox_ticket_age_seconds", "Age of the jsapi_ticket.", seconds as f64);
    }
    if let Ok(free) = rooms.album.free_bytes() {
        page.gauge("tubox_disk_free_bytes", "Bytes free where the pictures are.", free as f64);
    }
    doors(&mut page, inbound, outbound);
    page.text
}

fn doors(page: &mut Page, inbound: &InboundCounters, outbound: &OutboundCounters) {
    page.counter("tubox_inbound_connections_total", "Connections accepted.", inbound.accepted);
    page.gauge("tubox_inbound_connections", "Connections open.", inbound.connections_now as f64);
    page.counter("tubox_inbound_requests_total", "Requests handed on.", inbound.requests);
    page.counter(
        "tubox_inbound_accept_errors_total",
        "Errors of accept that were survived.",
        inbound.accept_errors,
    );
    page.counter("tubox_inbound_evicted_total", "Idle connections that gave way.", inbound.evicted);
    let refused: Vec<(String, u64)> =
        inbound.refused.iter().map(|(status, count)| (status.to_string(), *count)).collect();
    let refused = refused.iter().map(|(status, count)| (status.as_str(), *count));
    page.counters(
        "tubox_inbound_refused_total",
        "Requests that the door refused, by status.",
        "status",
        refused,
    );
    page.counter("tubox_outbound_requests_total", "Requests sent to WeChat.", outbound.requests);
    page.counter("tubox_outbound_answer_bytes_total", "Bytes of WeChat's answers.", outbound.answer_bytes);
    let faults = outbound.faults.iter().map(|(kind, count)| (*kind, *count));
    page.counters("tubox_outbound_faults_total", "Requests that broke on the way, by kind.", "kind", faults);
    let handshakes = [("full", outbound.tls_full), ("resumed", outbound.tls_resumed)];
    page.counters("tubox_outbound_tls_handshakes_total", "TLS handshakes.", "kind", handshakes.into_iter());
}

/// Metrics as they are written down.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (value, count) in values {
            let value = value.replace(['\\', '"', '\n'], "_");
            let _ = writeln!(self.text, "{name}{{{label}=\"{value}\"}} {count}");
        }
    }
}
