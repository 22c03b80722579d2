//! The operator's routes: status, failed list with retry, metrics. Whoever holds the admin token gets in: scripts
//! with `Authorization: Bearer …`, browsers by a link whose fragment holds the token, which the log-in page
//! turns into a cookie. A fragment never leaves the browser, so the token is in no server's log.
//!
//! A cookie alone changes nothing: every change also needs a header that another site's form cannot send.

use super::answer::Answer;
use super::pass::Passes;
use super::rate::Rates;
use super::visit::{Method, Visit, form_pairs};
use crate::ground::clock::SharedClock;
use crate::ground::durable;
use crate::ground::language::Language;
use crate::ground::media_id::MediaId;
use crate::ground::random::{ALPHANUMERIC, SharedRandom};
use crate::queue::Queue;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// The file in the data folder that holds the token; mode 0600.
pub const TOKEN_FILE: &str = "admin_token";
const TOKEN_LENGTH: usize = 32;
/// Attempts to log in that one address has in a minute, and everybody together.
const LOG_INS_A_MINUTE: u32 = 10;
const LOG_INS_A_MINUTE_IN_ALL: u32 = 60;

/// What the room gets from those who know all rooms.
pub trait Overview: Send + Sync {
    /// The status object.
    fn status(&self, language: Language) -> Value;
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// Ends a pause: an operator says that it is mended.
    fn resume(&self);
}

/// The operator's routes.
pub(super) struct Admin {
    token: String,
    overview: Arc<dyn Overview>,
    queue: Arc<Queue>,
    log_ins: Rates,
    log_ins_in_all: Rates,
}

impl Admin {
    /// With the token in `data_dir`, made where there is none.
    pub(super) fn open(
        data_dir: &Path,
        overview: Arc<dyn Overview>,
        queue: Arc<Queue>,
        clock: &SharedClock,
        random: &SharedRandom,
    ) -> Result<Admin> {
        let path = data_dir.join(TOKEN_FILE);
        let kept = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
        let token = match kept.filter(|token| token.len() >= 16) {
            Some(token) => token,
            None => {
                let token = random.text(TOKEN_LENGTH, ALPHANUMERIC);
                durable::replace_private(&path, format!("{token}\n").as_bytes())
                    .with_context(|| format!("could not keep the admin token in {}", path.display()))?;
                token
            }
        };
        let log_ins = Rates::new(LOG_INS_A_MINUTE, clock.clone());
        let log_ins_in_all = Rates::new(LOG_INS_A_MINUTE_IN_ALL, clock.clone());
        Ok(Admin { token, overview, queue, log_ins, log_ins_in_all })
    }

    /// Answers `/metrics` and everything below `/admin/`. `passes` signs the admin cookie.
    pub(super) fn answer(&self, visit: &Visit, passes: &Passes) -> Answer {
        if visit.path() == "/admin/login" {
            return self.log_in(visit, passes);
        }
        let by_cookie = passes.holds_admin(visit.cookie.as_deref());
        if !by_cookie && !self.by_bearer(visit) {
            return match visit.authorization {
                Some(_) => self.count_wrong(visit),
                None => self.refuse(visit),
            };
        }
        let may_change = !by_cookie || visit.is_deliberate;
        match (visit.path(), visit.method) {
            ("/metrics", Method::Get) => Answer::metrics(self.overview.metrics()),
            ("/admin/status", Method::Get) => Answer::json(200, &self.overview.status(visit.language)),
            ("/admin/retry", Method::Post) if may_change => self.retry(visit),
            ("/admin/resume", Method::Post) if may_change => {
                self.overview.resume();
                Answer::json(200, &json!({"rc": 0}))
            }
            ("/admin/retry" | "/admin/resume", Method::Post) => self.refuse(visit),
            ("/admin/retry" | "/admin/resume", _) => Answer::method_not_allowed("POST"),
            ("/metrics" | "/admin/status", _) => Answer::method_not_allowed("GET, HEAD"),
            _ => Answer::refusal(
                404,
                "not-found",
                "没有这个地址",
                "there is nothing at this address",
                visit.language,
            ),
        }
    }

    fn log_in(&self, visit: &Visit, passes: &Passes) -> Answer {
        if visit.method != Method::Post {
            return Answer::method_not_allowed("POST");
        }
        if let Some(wait) =
            self.log_ins.take(visit.client).or_else(|| self.log_ins_in_all.take(IpAddr::from([0; 4])))
        {
            return Answer::too_many(wait, visit.language);
        }
        let token = form_pairs(&visit.body).find(|(key, _)| key == b"token").map(|(_, value)| value);
        if !visit.is_deliberate || !token.is_some_and(|token| self.is_token(&token)) {
            log::warn!("a log-in from {} was refused", visit.client);
            return self.refuse(visit);
        }
        log::info!("an operator logged in from {}", visit.client);
        Answer::json(200, &json!({"rc": 0})).with_header("Set-Cookie", &passes.issue_admin())
    }

    fn by_bearer(&self, visit: &Visit) -> bool {
        let bearer = visit.authorization.as_deref().and_then(|text| text.strip_prefix("Bearer "));
        bearer.is_some_and(|token| self.is_token(token.trim().as_bytes()))
    }

    /// Guessing by header is bounded like guessing by log-in.
    fn count_wrong(&self, visit: &Visit) -> Answer {
        match self.log_ins.take(visit.client) {
            Some(wait) => Answer::too_many(wait, visit.language),
            None => self.refuse(visit),
        }
    }

    /// Compared without a branch on any byte, so that time tells nothing.
    fn is_token(&self, given: &[u8]) -> bool {
        let own = self.token.as_bytes();
        let differences = own.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == given.len() && differences == 0
    }

    fn refuse(&self, visit: &Visit) -> Answer {
        Answer::refusal(
            401,
            "no-admin",
            "需要管理员令牌：运行 tubox admin-url",
            "the admin token is needed: run tubox admin-url",
            visit.language,
        )
        .with_header("WWW-Authenticate", "Bearer")
    }

    fn retry(&self, visit: &Visit) -> Answer {
        let asked: Option<Value> = serde_json::from_slice(&visit.body).ok();
        let asked = asked.unwrap_or_default();
        let put_back = match asked.get("ids").and_then(Value::as_array) {
            _ if asked.get("all") == Some(&Value::Bool(true)) => self.queue.retry(None),
            Some(ids) => {
                let ids: Option<Vec<MediaId>> =
                    ids.iter().map(|id| MediaId::parse(id.as_str().unwrap_or_default()).ok()).collect();
                match ids {
                    Some(ids) => self.queue.retry(Some(&ids)),
                    None => return self.misread(visit),
                }
            }
            None => return self.misread(visit),
        };
        log::info!("put {put_back} failed ids back");
        Answer::json(200, &json!({"rc": 0, "retried": put_back}))
    }

    fn misread(&self, visit: &Visit) -> Answer {
        let en = "expected {\"ids\":[\"…\"]} with media ids, or {\"all\":true}";
        Answer::refusal(400, "malformed", "应为 {\"ids\":[\"…\"]} 或 {\"all\":true}", en, visit.language)
    }
}
