//! The web room: everything that speaks HTTP to people. It takes note, answers, and never calls WeChat while a
//! visitor waits. Each route maps to a known name; no part of an address ever becomes a path.
//!
//! [`Site`] is the whole of it without sockets: a [`Visit`] in, an [`Answer`] out. [`server`] is the only file
//! that names tiny_http; the inbound door in front of it hands over nothing but whole, bounded requests and says
//! in a header who the client is.
//!
//! The room knows the queue (to take submissions and show receipts) and WeChat's signature and fault table. For
//! the operator's gallery it reads the album, through [`crate::album::catalogue`] and by nothing else: looking at
//! pictures is HTTP for people, and a second copy of the manifest's rules here would drift from the first. It
//! does not know how pictures are fetched, and writes none.

mod admin;
mod answer;
mod asset;
mod pass;
mod rate;
mod receipt;
pub mod server;
mod submit;
mod visit;
mod welcome;

pub use admin::{Overview, TOKEN_FILE as ADMIN_TOKEN_FILE};
pub use answer::{Answer, Body, WriteBody};
pub use submit::parse_submission;
pub use visit::{Method, Visit};

use crate::ground::clock::SharedClock;
use crate::ground::escape::{for_log, json_for_html};
use crate::ground::language::Language;
use crate::ground::random::SharedRandom;
use crate::queue::Queue;
use crate::wechat::WeChat;
use admin::Admin;
use anyhow::Result;
use asset::PageAssets;
use pass::Passes;
use rate::Rates;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use welcome::Welcome;

/// The longest texts that come with a submission, in characters.
pub const TEAM_LENGTH_MAX: usize = 64;
/// See [`TEAM_LENGTH_MAX`].
pub const CONTRIBUTOR_LENGTH_MAX: usize = 64;
/// See [`TEAM_LENGTH_MAX`].
pub const NOTE_LENGTH_MAX: usize = 500;

/// A domain file is a line of text; anything longer is none.
const VERIFY_FILE_BYTES_MAX: u64 = 4096;

/// The longest address that is signed or drawn.
const URL_LENGTH_MAX: usize = 2048;

/// Signatures and receipts that one address may ask for in a minute. Pages poll receipts; many phones can share
/// one address.
const ASKS_A_MINUTE: u32 = 1200;

/// The last second that an HTTP date can tell, at the end of the year 9999.
const HTTP_DATE_MAX_S: i64 = 253_402_300_799;

/// What the room needs to know.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// The origin that phones see.
    pub public_url: String,
    /// Ids in one submission.
    pub ids_per_submission: usize,
    /// Whether submissions need not come from the page.
    pub open_submit: bool,
    /// Submissions a minute from one address; 0: no limit.
    pub rate: u32,
    /// Holds `MP_verify_*.txt`.
    pub verify_dir: PathBuf,
    /// Where the page gets WeChat's script.
    pub jssdk_urls: Vec<String>,
    /// Holds the key of the page's cookie.
    pub data_dir: PathBuf,
    /// Whether this is the demo: the page works outside WeChat.
    pub is_demo: bool,
}

/// The rooms behind this one.
#[derive(Clone)]
pub struct Rooms {
    /// Takes submissions.
    pub queue: Arc<Queue>,
    /// Signs pages.
    pub wechat: Arc<WeChat>,
    /// Knows all rooms, for the operator's routes.
    pub overview: Arc<dyn Overview>,
    /// The pictures folder, for the operator's gallery; only read.
    pub pictures_dir: PathBuf,
}

/// All routes.
pub struct Site {
    options: WebOptions,
    rooms: Rooms,
    assets: PageAssets,
    passes: Passes,
    submissions: Rates,
    asks: Rates,
    admin: Admin,
    welcome: Welcome,
    /// The page's settings without a receipt, which is what nearly all visits get: Chinese, English.
    settings: [String; 2],
    /// The second since the epoch that was written last, as HTTP writes it.
    date: Mutex<(i64, Arc<str>)>,
    clock: SharedClock,
}

impl Site {
    /// The site; makes the cookie's key where there is none yet.
    pub fn new(options: WebOptions, rooms: Rooms, clock: SharedClock, random: SharedRandom) -> Result<Site> {
        let is_secure = options.public_url.starts_with("https:");
        let admin = Admin::open(&options, &rooms, &clock, &random)?;
        let passes = Passes::open(&options.data_dir, is_secure, clock.clone(), random)?;
        let assets = PageAssets::load(&options.jssdk_urls)?;
        let submissions = Rates::new(options.rate, clock.clone());
        let asks = Rates::new(ASKS_A_MINUTE, clock.clone());
        let welcome = Welcome::new(clock.clone());
        let settings =
            [Language::Chinese, Language::English].map(|language| page_settings(&options, language, None));
        let date = Mutex::new((i64::MIN, Arc::from("")));
        Ok(Site { options, rooms, assets, passes, submissions, asks, admin, welcome, settings, date, clock })
    }

    /// This moment as HTTP writes it.
    fn http_date(&self) -> Arc<str> {
        let second = self.clock.wall_ms() / 1000;
        let mut date = self.date.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if date.0 != second {
            let since_epoch = Duration::from_secs(second.clamp(0, HTTP_DATE_MAX_S).unsigned_abs());
            *date = (second, httpdate::fmt_http_date(UNIX_EPOCH + since_epoch).into());
        }
        date.1.clone()
    }

    /// Answers one request.
    pub fn answer(&self, visit: &Visit) -> Answer {
        match (visit.path(), visit.method) {
            ("/", Method::Get) => self.to_page(visit),
            ("/uploadImgDemo", Method::Get | Method::Post) => self.page(visit, None),
            ("/uploadImgData", Method::Get | Method::Post) => self.submit(visit),
            ("/jssdk-config", Method::Get) => self.jssdk_config(visit),
            ("/qr.svg", Method::Get) => self.qr(visit),
            ("/healthz", Method::Get) => Answer::json(200, &json!({"alive": true})),
            ("/readyz", Method::Get) => self.readyz(),
            (path, Method::Get) if path.starts_with("/receipt/") => {
                self.receipt(visit, &path["/receipt/".len()..])
            }
            (path, Method::Get) if path.starts_with("/assets/") => {
                self.asset(visit, &path["/assets/".len()..])
            }
            ("/metrics", _) => self.admin.answer(visit, &self.passes),
            (path, _) if path == "/admin" || path.starts_with("/admin/") => {
                self.admin.answer(visit, &self.passes)
            }
            (path, Method::Get) if path.starts_with("/MP_verify_") => self.verify_file(&path[1..]),
            (path, _) if is_known(path) => Answer::method_not_allowed(allowed(path)),
            _ => Answer::refusal(
                404,
                "not-found",
                "没有这个地址",
                "there is nothing at this address",
                visit.language,
            ),
        }
    }

    fn to_page(&self, visit: &Visit) -> Answer {
        let query = visit.query().map(|query| format!("?{query}")).unwrap_or_default();
        Answer::redirect(&format!("/uploadImgDemo{query}"))
    }

    /// The page, signed for the address that the phone sees: the public origin and the target as received.
    fn page(&self, visit: &Visit, receipt: Option<&str>) -> Answer {
        let url = format!("{}{}", self.options.public_url, visit.target);
        let signature = self.rooms.wechat.sign(url);
        let config = signature.and_then(|signature| serde_json::to_string(&signature).ok());
        let language = match visit.query_value("lang").as_deref() {
            Some("en") => Language::English,
            Some("zh" | "zh-CN") => Language::Chinese,
            _ => visit.language,
        };
        let of_receipt = receipt.is_some().then(|| page_settings(&self.options, language, receipt));
        let settings =
            of_receipt.as_ref().unwrap_or(&self.settings[usize::from(language == Language::English)]);
        let config = json_for_html(config.as_deref().unwrap_or("{}"));
        let html = self.assets.page(language, &config, settings);
        Answer::page(html, self.assets.policy()).with_header("Set-Cookie", self.passes.issue())
    }

    fn jssdk_config(&self, visit: &Visit) -> Answer {
        if let Some(wait) = self.asks.take(visit.client) {
            return Answer::too_many(wait, visit.language);
        }
        let Some(url) = visit.query_value("url").filter(|url| self.is_ours(url)) else {
            return Answer::refusal(
                403,
                "foreign-url",
                &format!("只能为 {} 的页面签名", self.options.public_url),
                &format!("signatures are given for pages of {} only", self.options.public_url),
                visit.language,
            );
        };
        if visit.query_value("refused").is_some() {
            self.rooms.wechat.doubt_ticket();
        }
        let page = url.split('#').next().unwrap_or_default();
        match self.rooms.wechat.sign(page) {
            Some(signature) => {
                let mut answer = json!(signature);
                answer["rc"] = json!(0);
                Answer::json(200, &answer)
            }
            None => Answer::refusal(
                503,
                "no-ticket",
                "盒子正在向微信获取授权，请稍候",
                "the box is getting its permission from WeChat; please wait a moment",
                visit.language,
            )
            .with_header("Retry-After", "2"),
        }
    }

    /// In a frame of its own: the drawing takes 60 KB of the stack, which each of 64 handlers would hold for ever after
    /// its first page.
    #[inline(never)]
    fn qr(&self, visit: &Visit) -> Answer {
        let Some(url) = visit.query_value("url").filter(|url| self.is_ours(url)) else {
            return Answer::refusal(
                403,
                "foreign-url",
                "只能为本站地址生成二维码",
                "only addresses of this box are drawn",
                visit.language,
            );
        };
        match fast_qr::QRBuilder::new(url).build() {
            Ok(code) => Answer::svg(fast_qr::convert::svg::SvgBuilder::default().to_str(&code)),
            Err(_) => Answer::refusal(400, "too-long", "地址太长", "the address is too long", visit.language),
        }
    }

    fn receipt(&self, visit: &Visit, receipt: &str) -> Answer {
        if visit.wants_html() {
            return self.page(visit, Some(receipt).filter(|receipt| receipt::is_plausible(receipt)));
        }
        if let Some(wait) = self.asks.take(visit.client) {
            return Answer::too_many(wait, visit.language);
        }
        match Some(receipt)
            .filter(|receipt| receipt::is_plausible(receipt))
            .and_then(|receipt| self.rooms.queue.receipt(receipt))
        {
            Some(view) => Answer::json(200, &receipt::to_json(&view, visit.language)),
            None => Answer::refusal(
                404,
                "no-receipt",
                "没有这个回执，或已过期（30 天）",
                "there is no such receipt, or it has expired (30 days)",
                visit.language,
            ),
        }
    }

    fn asset(&self, visit: &Visit, name: &str) -> Answer {
        match self.assets.get(name) {
            Some(asset) => Answer::asset(asset.file, asset.content_type, visit.takes_deflate),
            None => {
                Answer::refusal(404, "not-found", "没有这个文件", "there is no such file", Language::English)
            }
        }
    }

    /// WeChat compares the file byte for byte (*reported*), so nothing is added to it.
    fn verify_file(&self, name: &str) -> Answer {
        let not_found = || {
            Answer::refusal(
                404,
                "not-found",
                "没有这个域名校验文件",
                "there is no such domain file; put it into wechat.verify_dir",
                Language::English,
            )
        };
        let code = name.strip_prefix("MP_verify_").and_then(|rest| rest.strip_suffix(".txt"));
        let is_name = code.is_some_and(|code| {
            (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        if !is_name {
            return not_found();
        }
        let path = self.options.verify_dir.join(name);
        let is_small = path
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= VERIFY_FILE_BYTES_MAX);
        match std::fs::read(&path) {
            Ok(bytes) if is_small => Answer::plain(bytes),
            _ => not_found(),
        }
    }

    fn readyz(&self) -> Answer {
        match self.rooms.queue.can_accept() {
            Ok(()) => Answer::json(200, &json!({"ready": true})),
            Err(why) => Answer::json(503, &json!({"ready": false, "why": why.to_string()})),
        }
    }

    /// Whether an address belongs to this box's public origin.
    fn is_ours(&self, url: &str) -> bool {
        let rest = url.strip_prefix(&self.options.public_url);
        url.len() <= URL_LENGTH_MAX
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }

    fn submit(&self, visit: &Visit) -> Answer {
        let refusal = match self.take(visit) {
            Ok(receipt) => {
                let msg = if visit.language == Language::Chinese { "上传成功" } else { "uploaded" };
                return Answer::json(200, &Taken { rc: 0, msg, receipt: &receipt });
            }
            Err(refusal) => refusal,
        };
        log::info!(
            "refused a submission from {}: {}",
            visit.client,
            for_log(&refusal.text(Language::English), 200)
        );
        refusal.to_answer(visit.language)
    }

    fn take(&self, visit: &Visit) -> Result<String, submit::Refusal> {
        if visit.method == Method::Get {
            return Err(submit::Refusal::Empty);
        }
        if let Some(wait) = self.submissions.take(visit.client) {
            return Err(submit::Refusal::TooOften(wait));
        }
        let is_foreign = visit.origin.as_ref().is_some_and(|origin| *origin != self.options.public_url);
        if is_foreign && !self.options.open_submit {
            return Err(submit::Refusal::CrossSite(self.options.public_url.clone()));
        }
        let submission =
            parse_submission(visit.content_type.as_deref(), &visit.body, self.options.ids_per_submission)?;
        if !self.options.open_submit && !self.passes.holds(visit.cookie.as_deref()) {
            return Err(submit::Refusal::NoPass);
        }
        if let Some(wait) = self.welcome.shut_for(visit.client, &self.rooms.queue) {
            return Err(submit::Refusal::Unwelcome(wait));
        }
        let accepted = self.rooms.queue.accept(submission).map_err(submit::Refusal::Queue)?;
        self.welcome.note(visit.client, &accepted.receipt);
        log::info!("took {} new ids from {}, receipt {}", accepted.new_ids, visit.client, accepted.receipt);
        Ok(accepted.receipt)
    }
}

/// The answer to a submission that was taken.
#[derive(Serialize)]
struct Taken<'t> {
    rc: u8,
    msg: &'t str,
    receipt: &'t str,
}

/// What the page's script has to know, fit for a script element.
fn page_settings(options: &WebOptions, language: Language, receipt: Option<&str>) -> String {
    let settings = json!({
        "lang": language.tag(),
        "jssdk_urls": options.jssdk_urls,
        "ids_per_submission": options.ids_per_submission,
        "text_length_max": {
            "team": TEAM_LENGTH_MAX, "contributor": CONTRIBUTOR_LENGTH_MAX, "note": NOTE_LENGTH_MAX,
        },
        "demo": options.is_demo,
        "receipt": receipt,
    });
    json_for_html(&settings.to_string()).into_owned()
}

/// Routes that exist under some method.
fn is_known(path: &str) -> bool {
    ["/", "/uploadImgDemo", "/uploadImgData", "/jssdk-config", "/qr.svg", "/healthz", "/readyz"]
        .contains(&path)
        || ["/receipt/", "/assets/", "/MP_verify_"].iter().any(|prefix| path.starts_with(prefix))
}

fn allowed(path: &str) -> &'static str {
    if ["/uploadImgDemo", "/uploadImgData"].contains(&path) { "GET, HEAD, POST" } else { "GET, HEAD" }
}
