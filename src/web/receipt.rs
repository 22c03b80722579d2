//! A receipt as the page reads it.

use crate::ground::clock::rfc3339_utc;
use crate::ground::language::Language;
use crate::queue::{JobState, ReceiptView};
use crate::wechat::fault;
use serde_json::{Value, json};

/// Whether a text could be a receipt at all.
pub(super) fn is_plausible(receipt: &str) -> bool {
    (4..=32).contains(&receipt.len()) && receipt.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

pub(super) fn to_json(view: &ReceiptView, language: Language) -> Value {
    let pictures: Vec<Value> =
        view.pictures.iter().map(|(id, state)| picture(id.as_str(), state, language)).collect();
    json!({
        "rc": 0,
        "receipt": view.receipt,
        "submitted_at": rfc3339_utc(view.submitted_ms),
        "settled": view.is_settled(),
        "pictures": pictures,
    })
}

fn picture(media_id: &str, state: &JobState, language: Language) -> Value {
    match state {
        JobState::Waiting { .. } => json!({"media_id": media_id, "state": "waiting"}),
        JobState::Saved(sha256) => json!({"media_id": media_id, "state": "saved", "sha256": sha256}),
        JobState::Failed(kept) => {
            let entry = fault::entry(&kept.code);
            json!({
                "media_id": media_id,
                "state": "failed",
                "code": kept.code,
                "reason": entry.reason.pick(language),
                "remedy": entry.remedy.pick(language),
            })
        }
    }
}
