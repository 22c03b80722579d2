//! The operator's routes: the page, status, failed list with retry, gallery, metrics. Whoever holds the admin
//! token gets in: scripts with `Authorization: Bearer …`, browsers by a link whose fragment holds the token,
//! which the page turns into a cookie. A fragment never leaves the browser, so the token is in no server's log.
//!
//! The page itself holds nothing and is open; everything that it asks for needs the token. A cookie alone
//! changes nothing: every change also needs a header that another site's form cannot send.
//!
//! | request | answer |
//! |---|---|
//! | `GET /admin/`, `/admin/sheet`, `/admin/assets/…` | the page, the contact sheet, their files; open |
//! | `POST /admin/login`, `/admin/logout` | sets the cookie for the token; takes it back |
//! | `GET /admin/status?failed=N` | the status object, at most `N` of the failed list |
//! | `POST /admin/retry`, `/admin/resume` | puts failed ids back; ends a pause |
//! | `GET /admin/days?from=&count=` | days, newest first, with pictures, bytes and teams |
//! | `GET /admin/day/<day>?team=&from=&count=` | manifest rows, newest first |
//! | `GET /admin/thumb/<day>/<file>`, `/admin/picture/<day>/<file>` | a thumbnail; the file itself |
//! | `GET /admin/zip?day=&team=`, `POST` with `pick=<day>/<file>` | a zip, its length told before |
//! | `GET /admin/positions.csv`, `.geojson?day=&team=` | where pictures were taken |
//! | `GET /metrics` | Prometheus text |

mod gallery;
mod pages;
mod thumbnail;
mod thumbs;
mod turnstile;

use super::answer::Answer;
use super::pass::Passes;
use super::rate::Rates;
use super::visit::{Method, Visit, form_pairs};
use super::{Rooms, WebOptions};
use crate::ground::clock::SharedClock;
use crate::ground::durable;
use crate::ground::language::Language;
use crate::ground::media_id::MediaId;
use crate::ground::random::{ALPHANUMERIC, SharedRandom};
use crate::queue::Queue;
use anyhow::{Context, Result};
use gallery::Gallery;
use pages::Pages;
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
    public_url: String,
    pages: Pages,
    gallery: Gallery,
    log_ins: Rates,
    log_ins_in_all: Rates,
}

impl Admin {
    /// With the token in the data folder, made where there is none.
    pub(super) fn open(
        options: &WebOptions,
        rooms: &Rooms,
        clock: &SharedClock,
        random: &SharedRandom,
    ) -> Result<Admin> {
        Ok(Admin {
            token: open_token(&options.data_dir, random)?,
            overview: rooms.overview.clone(),
            queue: rooms.queue.clone(),
            public_url: options.public_url.clone(),
            pages: Pages::load()?,
            gallery: Gallery::new(rooms.pictures_dir.clone(), &options.data_dir, clock.clone()),
            log_ins: Rates::new(LOG_INS_A_MINUTE, clock.clone()),
            log_ins_in_all: Rates::new(LOG_INS_A_MINUTE_IN_ALL, clock.clone()),
        })
    }

    /// Answers `/metrics`, `/admin` and everything below it. `passes` signs the admin cookie.
    pub(super) fn answer(&self, visit: &Visit, passes: &Passes) -> Answer {
        match (visit.path(), visit.method) {
            ("/admin", Method::Get) => return Answer::redirect("/admin/"),
            ("/admin/login", _) => return self.log_in(visit, passes),
            (path, Method::Get) => {
                let page = path.strip_prefix("/admin/").and_then(|name| self.pages.answer(name, visit));
                if let Some(page) = page {
                    return page;
                }
            }
            _ => {}
        }
        let by_cookie = passes.holds_admin(visit.cookie.as_deref());
        if !by_cookie && !self.by_bearer(visit) {
            return match visit.authorization {
                Some(_) => self.count_wrong(visit),
                None => self.refuse(visit),
            };
        }
        match visit.method {
            Method::Get => self.show(visit),
            // A form, because names do not fit into an address; it changes nothing.
            Method::Post if visit.path() == "/admin/zip" => self.gallery.zip_of_picks(visit),
            Method::Post if by_cookie && !visit.is_deliberate => self.refuse(visit),
            Method::Post => self.change(visit, passes),
            Method::Other => Answer::method_not_allowed("GET, HEAD, POST"),
        }
    }

    /// What an operator may see.
    fn show(&self, visit: &Visit) -> Answer {
        match visit.path() {
            "/metrics" => Answer::metrics(self.overview.metrics()),
            "/admin/status" => self.status(visit),
            "/admin/retry" | "/admin/resume" | "/admin/logout" => Answer::method_not_allowed("POST"),
            path => path
                .strip_prefix("/admin/")
                .and_then(|path| self.gallery.answer(path, visit))
                .unwrap_or_else(|| not_found(visit)),
        }
    }

    /// What an operator may do.
    fn change(&self, visit: &Visit, passes: &Passes) -> Answer {
        match visit.path() {
            "/admin/retry" => self.retry(visit),
            "/admin/resume" => {
                self.overview.resume();
                Answer::json(200, &json!({"rc": 0}))
            }
            "/admin/logout" => {
                Answer::json(200, &json!({"rc": 0})).with_header("Set-Cookie", passes.end_admin())
            }
            "/metrics" | "/admin/status" => Answer::method_not_allowed("GET, HEAD"),
            _ => not_found(visit),
        }
    }

    /// The status object and what only the page needs. A page that looks every few seconds need not get the
    /// whole failed list every time.
    fn status(&self, visit: &Visit) -> Answer {
        let mut status = self.overview.status(visit.language);
        status["public_url"] = json!(self.public_url);
        let shown = visit.query_value("failed").and_then(|text| text.parse().ok());
        if let (Some(shown), Some(failed)) = (shown, status["failed"].as_array_mut()) {
            failed.truncate(shown);
        }
        Answer::json(200, &status)
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
        Answer::json(200, &json!({"rc": 0})).with_header("Set-Cookie", passes.issue_admin())
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

/// The token that is kept in `data_dir`, made where there is none.
fn open_token(data_dir: &Path, random: &SharedRandom) -> Result<String> {
    let path = data_dir.join(TOKEN_FILE);
    let kept = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
    if let Some(token) = kept.filter(|token| token.len() >= 16) {
        return Ok(token);
    }
    let token = random.text(TOKEN_LENGTH, ALPHANUMERIC);
    durable::replace_private(&path, format!("{token}\n").as_bytes())
        .with_context(|| format!("could not keep the admin token in {}", path.display()))?;
    Ok(token)
}

fn not_found(visit: &Visit) -> Answer {
    Answer::refusal(404, "not-found", "没有这个地址", "there is nothing at this address", visit.language)
}
