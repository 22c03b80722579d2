//! Faults as JSON, for drills from outside the process (`POST /sim/fault`).
//!
//! A fault is a number (WeChat's error code), a name (`"stall"`), or an object with the name as `kind` and its
//! figures: `{"kind":"short_body","missing":1000}`, `{"kind":"error","code":40007,"content_type":"text/plain",
//! "code_as_string":true,"control_characters":true}`. Times are `…_ms`.

use super::fault::{ErrorReply, Fault, HostileName, STALL_HOLD};
use serde_json::Value;
use std::time::Duration;

/// The fault that `value` describes, or what is wrong with the description.
pub fn fault_from_json(value: &Value) -> Result<Fault, String> {
    if let Some(code) = value.as_i64() {
        return Ok(Fault::code(code));
    }
    let kind = value.as_str().or_else(|| value.get("kind")?.as_str());
    let kind = kind.ok_or("a fault is an error code, a name or an object with a kind")?;
    let figures = Figures { kind, of: value };
    let fault = match kind {
        "good" => Fault::Good,
        "error" => Fault::Error(error_from(&figures)?),
        "captive_portal" => Fault::CaptivePortal,
        "empty_body" => Fault::EmptyBody,
        "short_body" => Fault::ShortBody { missing: figures.size("missing", 1)? },
        "no_length" => Fault::NoLength,
        "no_length_cut" => Fault::NoLengthCut { missing: figures.size("missing", 100)? },
        "chunked" => Fault::Chunked,
        "chunked_cut" => Fault::ChunkedCut,
        "chunked_cut_between" => Fault::ChunkedCutBetween,
        "video_url" => Fault::VideoUrl,
        "status" => {
            Fault::Status(u16::try_from(figures.number("status", 503)?).map_err(|_| "status is too big")?)
        }
        "reset_before_answer" => Fault::ResetBeforeAnswer,
        "reset_mid_body" => Fault::ResetMidBody,
        "close_before_answer" => Fault::CloseBeforeAnswer,
        "stall" => Fault::Stall {
            after_body_bytes: match value.get("after_body_bytes") {
                None => None,
                Some(_) => Some(figures.size("after_body_bytes", 0)?),
            },
            hold: figures.time("hold_ms", STALL_HOLD)?,
        },
        "trickle" => Fault::Trickle {
            bytes: figures.size("bytes", 1024)?,
            pause: figures.time("pause_ms", Duration::from_millis(100))?,
        },
        "delay" => Fault::Delay(figures.time("ms", Duration::from_secs(1))?),
        "endless" => Fault::Endless,
        "oversized" => Fault::Oversized { bytes: figures.number("bytes", 128 * 1024 * 1024)? },
        "disposition" => Fault::Disposition(disposition_from(&figures)?),
        "hostile_name" => Fault::hostile_name(hostile_name_from(figures.text("name", "traversal")?)?),
        "no_disposition" => Fault::NoDisposition,
        "content_type" => Fault::ContentType(figures.text("content_type", "text/plain")?.to_owned()),
        "garbage" => Fault::Garbage,
        "interim" => Fault::Interim(if figures.number("status", 103)? == 100 { 100 } else { 103 }),
        "redirect" => Fault::Redirect(figures.text("location", "http://203.0.113.99/elsewhere")?.to_owned()),
        "false_gzip" => Fault::FalseGzip,
        "long_head" => Fault::LongHead { bytes: figures.size("bytes", 10_000)? },
        other => return Err(format!("no fault is called {other:?}")),
    };
    match &fault {
        Fault::Redirect(text) | Fault::ContentType(text) if text.chars().any(char::is_control) => {
            Err("control characters cannot stand in a header".to_owned())
        }
        _ => Ok(fault),
    }
}

struct Figures<'a> {
    kind: &'a str,
    of: &'a Value,
}

impl<'a> Figures<'a> {
    fn number(&self, name: &str, otherwise: u64) -> Result<u64, String> {
        match self.of.get(name) {
            None => Ok(otherwise),
            Some(value) => value.as_u64().ok_or_else(|| format!("{name} of {} is not a count", self.kind)),
        }
    }

    fn size(&self, name: &str, otherwise: u64) -> Result<usize, String> {
        usize::try_from(self.number(name, otherwise)?).map_err(|_| format!("{name} is too big"))
    }

    fn time(&self, name: &str, otherwise: Duration) -> Result<Duration, String> {
        let otherwise = u64::try_from(otherwise.as_millis()).unwrap_or(u64::MAX);
        let hour = 3_600_000;
        Ok(Duration::from_millis(self.number(name, otherwise)?.min(hour)))
    }

    fn text(&self, name: &str, otherwise: &'a str) -> Result<&'a str, String> {
        match self.of.get(name) {
            None => Ok(otherwise),
            Some(value) => value.as_str().ok_or_else(|| format!("{name} of {} is not a text", self.kind)),
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.of.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

fn error_from(figures: &Figures) -> Result<ErrorReply, String> {
    let code = figures.of.get("code").and_then(Value::as_i64).ok_or("an error needs a code")?;
    let usual = ErrorReply::of(code);
    let content_type = figures.text("content_type", &usual.content_type)?.to_owned();
    if content_type.chars().any(char::is_control) {
        return Err("control characters cannot stand in a header".to_owned());
    }
    let (code_as_string, control_characters) =
        (figures.flag("code_as_string"), figures.flag("control_characters"));
    Ok(ErrorReply { code, content_type, code_as_string, control_characters })
}

/// The header's bytes: each character of the text is one Latin-1 byte.
fn disposition_from(figures: &Figures) -> Result<Vec<u8>, String> {
    let text = figures.text("value", "attachment")?;
    let byte = |character: char| u8::try_from(u32::from(character)).ok().filter(|byte| *byte >= b' ');
    text.chars()
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| "value is not printable Latin-1".to_owned())
}

fn hostile_name_from(name: &str) -> Result<HostileName, String> {
    Ok(match name {
        "traversal" => HostileName::Traversal,
        "absolute" => HostileName::Absolute,
        "backslashes" => HostileName::Backslashes,
        "long" => HostileName::Long,
        "quoted" => HostileName::Quoted,
        "latin1" => HostileName::Latin1,
        "wrong_extension" => HostileName::WrongExtension,
        "empty" => HostileName::Empty,
        "encoded" => HostileName::Encoded,
        other => return Err(format!("no hostile name is called {other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn descriptions_become_faults() {
        let good = [
            (json!(48001), Fault::code(48001)),
            (json!("empty_body"), Fault::EmptyBody),
            (json!({"kind": "short_body", "missing": 7}), Fault::ShortBody { missing: 7 }),
            (
                json!({"kind": "error", "code": -1, "content_type": "image/jpeg"}),
                Fault::code_as(-1, "image/jpeg"),
            ),
            (json!({"kind": "delay", "ms": 5}), Fault::Delay(Duration::from_millis(5))),
            (json!({"kind": "disposition", "value": "a\u{e9}"}), Fault::Disposition(b"a\xe9".to_vec())),
        ];
        for (described, fault) in good {
            assert_eq!(fault_from_json(&described), Ok(fault), "{described}");
        }
    }

    #[test]
    fn bad_descriptions_are_named() {
        for bad in [
            json!(null),
            json!("nothing_known"),
            json!({"kind": "error"}),
            json!({"kind": "short_body", "missing": -1}),
            json!({"kind": "disposition", "value": "a\r\nb: c"}),
            json!({"kind": "redirect", "location": "http://x/\r\ny"}),
            json!({"kind": "hostile_name", "name": "x"}),
        ] {
            assert!(fault_from_json(&bad).is_err(), "{bad}");
        }
    }
}
