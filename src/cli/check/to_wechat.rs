//! The way to WeChat and what the account may do there, one step after the other: connection, clock, address,
//! token, ticket, pictures. What a step meets is told once; the steps behind it say that they were not tried.

use super::finding::{Both, Finding, both};
use super::neighbour::{Neighbour, Status};
use crate::config::Config;
use crate::door::outbound::{OutboundDoor, OutboundLimits, OutboundOptions};
use crate::ground::clock::{Deadline, SharedClock, rfc3339_utc};
use crate::ground::media_id::MediaId;
use crate::ground::random::{ALPHANUMERIC, SharedRandom};
use crate::ground::stop::Stop;
use crate::wechat::fault::{Outcome, PauseLength};
use crate::wechat::probe::{Probe, ProbeOptions, ProbedTicket, ProbedToken, address_seen};
use crate::wechat::{Fault, TokenKind};
use std::sync::Arc;
use std::time::Duration;

/// All steps together; then the door is closed.
const ALL_WITHIN: Duration = Duration::from_secs(15);
/// One call to one host, and each part of it.
const CALL_WITHIN: Duration = Duration::from_secs(6);
const PART_WITHIN: Duration = Duration::from_secs(3);
/// How far the clocks may be apart.
const OFFSET_NONE_MS: u64 = 5_000;
const OFFSET_WARNING_MS: u64 = 30_000;
const OFFSET_FAULT_MS: u64 = 5 * 60_000;
/// This program is younger than this: 2026-01-01.
const PROGRAM_BORN_MS: i64 = 1_767_225_600_000;

const MEDIA_ID_LENGTH: usize = 64;

/// What the checks of the page need to know of WeChat's side.
pub(super) struct Seen {
    pub ticket: Option<ProbedTicket>,
    pub findings: Vec<Finding>,
}

/// A door with the limits of a check.
pub(super) fn door(
    config: &Config,
    origins: Vec<crate::door::outbound::Origin>,
    clock: &SharedClock,
    random: &SharedRandom,
) -> anyhow::Result<Arc<OutboundDoor>> {
    let hosts = u32::try_from(config.wechat.api_urls.len()).unwrap_or(1).max(2);
    let call_within = (CALL_WITHIN * 2 / hosts).max(Duration::from_secs(1));
    let part_within = PART_WITHIN.min(call_within);
    let limits = OutboundLimits {
        local_within: part_within,
        resolve_within: part_within,
        connect_within: part_within,
        tls_within: part_within,
        first_byte_within: call_within,
        stall: part_within,
        total_within: call_within,
        answer_bytes_max: 1 << 20,
        head_bytes_max: crate::wechat::ANSWER_HEAD_BYTES_MAX,
        ..OutboundLimits::default()
    };
    let options = OutboundOptions {
        extra_roots_pem: config.wechat.ca_pem.clone(),
        proxy: config.wechat.proxy.clone(),
        limits,
        force_ipv4: config.wechat.force_ipv4,
        clock: clock.clone(),
        random: random.clone(),
        ..OutboundOptions::to(origins)
    };
    Ok(Arc::new(OutboundDoor::open(options)?))
}

/// The faults that mean that WeChat itself did not answer.
const UNREACHED: [&str; 12] = [
    "network",
    "no-answer",
    "clock",
    "certificate",
    "captive-portal",
    "stalled",
    "reset",
    "garbage",
    "http-status",
    "empty-body",
    "short-body",
    "internal",
];

pub(super) fn look(
    config: &Config,
    neighbour: &Neighbour,
    door: Arc<OutboundDoor>,
    clock: &SharedClock,
    random: &SharedRandom,
) -> Seen {
    let classic = config.wechat.token == TokenKind::Classic;
    match neighbour {
        Neighbour::Ours(status) if classic => as_the_box_says(status),
        Neighbour::SomeBox if classic => left_out(),
        _ => Steps { config, door, clock, random, deadline: Deadline::after(ALL_WITHIN) }.take_in_time(),
    }
}

/// With `token = "classic"` each fetch ends the token before, so a running box is asked instead.
fn as_the_box_says(status: &Status) -> Seen {
    let seconds = |pointer: &str| status.en.pointer(pointer).and_then(|value| value.as_i64());
    let paused = status.text("/paused/reason");
    let held = |id, pointer: &str, zh: &str, en: &str| match seconds(pointer) {
        Some(seconds) => {
            let minutes = seconds / 60;
            Finding::ok(id, both(format!("{zh} {minutes} 分钟"), format!("{en} {minutes} min")))
        }
        None => {
            let fault = status.en.pointer("/credentials/fault").and_then(|fault| fault.as_str());
            let detail = both("运行中的图盒没有", "the running box has none");
            let remedy = both(
                "等一分钟再检查；细节见 tubox status",
                "check again in a minute; tubox status tells more",
            );
            Finding::fault(id, detail.followed_by(fault.unwrap_or_default()), remedy)
        }
    };
    let box_token = held(
        "token",
        "/credentials/token_ends_in_seconds",
        "运行中的图盒持有，剩余",
        "the running box has one for",
    );
    let box_ticket = held(
        "ticket",
        "/credentials/ticket_age_seconds",
        "运行中的图盒持有，已有",
        "the running box has one, aged",
    );
    let account = match paused {
        Some(reason) => {
            let detail = both(format!("全部暂停：{}", reason.zh), format!("everything waits: {}", reason.en));
            let remedy =
                status.text("/paused/remedy").unwrap_or_else(|| both("见 tubox status", "see tubox status"));
            Finding::warning("account", detail, remedy)
        }
        None => Finding::not_tried("account", classic_beside_a_box()),
    };
    let clock = match seconds("/clock_offset_ms") {
        Some(offset) => judge_offset(offset),
        None => Finding::not_tried(
            "clock",
            both("图盒还没有收到微信的回答", "the box has had no answer from WeChat yet"),
        ),
    };
    let mut findings = vec![Finding::not_tried("wechat", classic_beside_a_box()), clock];
    findings.push(Finding::not_tried("ip_whitelist", classic_beside_a_box()));
    findings.extend([box_token, box_ticket, account]);
    Seen { ticket: None, findings }
}

fn left_out() -> Seen {
    let ids = ["wechat", "clock", "ip_whitelist", "token", "ticket", "account"];
    Seen { ticket: None, findings: ids.map(|id| Finding::not_tried(id, classic_beside_a_box())).to_vec() }
}

fn classic_beside_a_box() -> Both {
    both(
        "wechat.token = \"classic\" 时获取新 token 会使运行中图盒的 token 失效",
        "with wechat.token = \"classic\" a new token would end the one of the box that runs",
    )
}

struct Steps<'a> {
    config: &'a Config,
    door: Arc<OutboundDoor>,
    clock: &'a SharedClock,
    random: &'a SharedRandom,
    deadline: Deadline,
}

impl Steps<'_> {
    fn take_in_time(&self) -> Seen {
        let done = Stop::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if !done.wait(ALL_WITHIN) {
                    self.door.close();
                }
            });
            let seen = self.take();
            done.ask();
            seen
        })
    }

    /// A step that the closed door has cut was too slow.
    fn in_time<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        answer.map_err(|fault| match self.deadline.passed() {
            true => Fault::new("stalled", format!("no answer within {} s", ALL_WITHIN.as_secs())),
            false => fault,
        })
    }

    fn take(&self) -> Seen {
        let probe = Probe::new(ProbeOptions {
            app_id: self.config.wechat.app_id.clone(),
            app_secret: self.config.wechat.app_secret.clone(),
            origins: self.config.wechat.api_urls.clone(),
            token_kind: self.config.wechat.token,
            door: self.door.clone(),
            clock: self.clock.clone(),
        });
        let token = self.in_time(probe.token());
        let mut findings = vec![self.way(&token), self.clock_against(&probe)];
        findings.extend(address_and_token(&token));
        let mut seen = Seen { ticket: None, findings };
        let Ok(token) = token else {
            let because = || both("没有 access_token", "there is no access_token");
            seen.findings.extend(["ticket", "account"].map(|id| Finding::not_tried(id, because())));
            return seen;
        };
        let late = || both("微信回答太慢", "WeChat answers too slowly");
        if self.deadline.passed() {
            seen.findings.extend(["ticket", "account"].map(|id| Finding::not_tried(id, late())));
            return seen;
        }
        match self.in_time(probe.ticket(&token)) {
            Ok(ticket) => {
                seen.ticket = Some(ticket);
                seen.findings.push(Finding::ok("ticket", both("已获取（不显示）", "got one (not shown)")));
            }
            Err(fault) => seen.findings.push(judge("ticket", &fault)),
        }
        if self.deadline.passed() {
            seen.findings.push(Finding::not_tried("account", late()));
            return seen;
        }
        seen.findings.push(self.account(&probe, &token));
        seen
    }

    fn way(&self, token: &Result<ProbedToken, Fault>) -> Finding {
        if let Err(fault) = token
            && UNREACHED.contains(&fault.code.as_ref())
        {
            let entry = fault.entry();
            let remedy = match fault.code.as_ref() {
                // The table speaks of pictures that are tried again; here nothing is.
                "stalled" | "reset" | "garbage" | "http-status" | "empty-body" | "short-body" => both(
                    "稍后再检查；如果一直如此，检查中间的代理或防火墙",
                    "check again later; if it stays, look at proxies and firewalls in between",
                ),
                _ => entry.remedy.into(),
            };
            return Finding::fault("wechat", Both::from(entry.reason).followed_by(&fault.detail), remedy);
        }
        let unreached: Vec<&str> = self.door.counters().faults.into_keys().collect();
        let hosts = self.config.wechat.api_urls.iter().map(|origin| origin.to_string());
        let hosts = hosts.collect::<Vec<_>>().join(", ");
        if !unreached.is_empty() {
            let why = unreached.join(", ");
            return Finding::warning(
                "wechat",
                both(
                    format!("{hosts} 中只有后面的地址有回答（{why}）"),
                    format!("of {hosts} only a later one answers ({why})"),
                ),
                both(
                    "检查 DNS 和防火墙；图盒会继续使用有回答的地址",
                    "look at DNS and firewalls; the box goes on with the one that answers",
                ),
            );
        }
        let host = self.config.wechat.api_urls.first().map(|origin| origin.to_string()).unwrap_or_default();
        Finding::ok("wechat", both(format!("{host} 有回答"), format!("{host} answers")))
    }

    /// WeChat's Date header against our clock; without an answer, what the certificate and the calendar say.
    fn clock_against(&self, probe: &Probe) -> Finding {
        if let Some(offset) = probe.clock_offset_ms() {
            return judge_offset(offset);
        }
        let now = rfc3339_utc(self.clock.wall_ms());
        let kinds = self.door.counters().faults;
        if kinds.contains_key("tls_not_yet_valid") {
            let detail = both(
                format!("现在是 {now}？微信的证书尚未生效，所以时钟落后了"),
                format!("{now}? WeChat's certificate is not valid yet, so the clock is behind"),
            );
            return Finding::fault("clock", detail, set_the_clock());
        }
        if kinds.contains_key("tls_expired") {
            let detail = both(
                format!("现在是 {now}？微信的证书已过期，时钟很可能超前了"),
                format!("{now}? WeChat's certificate has expired, so the clock is most likely ahead"),
            );
            return Finding::fault("clock", detail, set_the_clock());
        }
        if self.clock.wall_ms() < PROGRAM_BORN_MS {
            let detail = both(
                format!("现在是 {now}？这比本程序还早"),
                format!("{now}? This program is younger than that"),
            );
            return Finding::fault("clock", detail, set_the_clock());
        }
        Finding::not_tried("clock", both("没有收到微信的时间", "WeChat did not tell the time"))
    }

    fn account(&self, probe: &Probe, token: &ProbedToken) -> Finding {
        let unknown = self.random.text(MEDIA_ID_LENGTH, ALPHANUMERIC);
        let Ok(unknown) = MediaId::parse(&unknown) else {
            return Finding::not_tried("account", both("程序错误", "of an internal error"));
        };
        match self.in_time(probe.may_fetch(token, &unknown)) {
            Ok(()) => Finding::ok("account", both("可以下载图片", "may fetch pictures")),
            Err(fault) => judge("account", &fault),
        }
    }
}

/// The whitelist and the token come from one call: WeChat looks at the caller's address before it gives a token.
fn address_and_token(token: &Result<ProbedToken, Fault>) -> Vec<Finding> {
    let known =
        || Finding::ok("ip_whitelist", both("微信接受本机的 IP", "WeChat takes calls from this address"));
    let unknown = || both("微信没有给出 access_token", "WeChat gave no access_token");
    match token {
        Ok(_) => vec![known(), Finding::ok("token", both("已获取（不显示）", "got one (not shown)"))],
        Err(fault) if UNREACHED.contains(&fault.code.as_ref()) => {
            let because = || both("没有连接到微信", "WeChat was not reached");
            ["ip_whitelist", "token"].map(|id| Finding::not_tried(id, because())).to_vec()
        }
        Err(fault) if is_about_the_address(fault) => {
            let token = both("微信不接受本机的 IP", "WeChat does not take calls from this address");
            vec![judge_address(fault), Finding::not_tried("token", token)]
        }
        Err(fault) => vec![Finding::not_tried("ip_whitelist", unknown()), judge("token", fault)],
    }
}

fn is_about_the_address(fault: &Fault) -> bool {
    matches!(
        fault.code.as_ref(),
        "40164" | "61004" | "89501" | "89502" | "89503" | "89504" | "89505" | "89506" | "89507"
    )
}

/// The very address stands in front of what to do with it.
fn judge_address(fault: &Fault) -> Finding {
    let mut finding = judge("ip_whitelist", fault);
    finding.state = super::finding::State::Fault;
    if let (Some(address), Some(remedy)) = (address_seen(fault), finding.remedy.as_mut()) {
        *remedy = both(format!("{address}：{}", remedy.zh), format!("{address}: {}", remedy.en));
    }
    finding
}

/// WeChat's refusal in the table's words. What passes by itself within minutes is a warning.
fn judge(id: &'static str, fault: &Fault) -> Finding {
    let entry = fault.entry();
    let code = &fault.code;
    let detail = both(format!("{}（{code}）", entry.reason.zh), format!("{} ({code})", entry.reason.en));
    let (detail, remedy) = (detail.followed_by(&fault.detail), Both::from(entry.remedy));
    match entry.outcome {
        Outcome::RetryLater | Outcome::RetryTogether | Outcome::Pause(PauseLength::Minute) => {
            Finding::warning(id, detail, remedy)
        }
        _ => Finding::fault(id, detail, remedy),
    }
}

/// `offset_ms`: WeChat's clock minus ours.
fn judge_offset(offset_ms: i64) -> Finding {
    let apart = offset_ms.unsigned_abs();
    let words = span(apart);
    if apart <= OFFSET_NONE_MS {
        return Finding::ok("clock", both("与微信一致（5 秒以内）", "agrees with WeChat's to within 5 s"));
    }
    if apart <= OFFSET_WARNING_MS {
        return Finding::ok(
            "clock",
            both(format!("与微信相差 {words}"), format!("{words} apart from WeChat's")),
        );
    }
    let detail = match offset_ms > 0 {
        true => both(format!("比微信慢 {words}"), format!("{words} behind WeChat's")),
        false => both(format!("比微信快 {words}"), format!("{words} ahead of WeChat's")),
    };
    match apart > OFFSET_FAULT_MS {
        true => Finding::fault("clock", detail, set_the_clock()),
        false => Finding::warning("clock", detail, set_the_clock()),
    }
}

fn set_the_clock() -> Both {
    both(
        "校准时钟：启用网络时间（timedatectl set-ntp true）或加装 RTC 模块",
        "set the clock: turn network time on (timedatectl set-ntp true) or add a clock module",
    )
}

/// `0 s`, `48 s`, `6 min`, `3 h`, `200 d`.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn clocks_may_be_half_a_minute_apart() {
        let cases = [
            (-5_000, State::Ok, "agrees with WeChat's to within 5 s"),
            (-29_000, State::Ok, "29 s apart from WeChat's"),
            (31_000, State::Warning, "31 s behind WeChat's"),
            (-299_000, State::Warning, "4 min ahead of WeChat's"),
            (301_000, State::Fault, "5 min behind WeChat's"),
            (i64::MIN, State::Fault, "106751991167 d ahead of WeChat's"),
        ];
        for (offset, state, text) in cases {
            let finding = judge_offset(offset);
            assert_eq!((finding.state, finding.detail.en.as_str()), (state, text));
        }
    }

    #[test]
    fn the_address_is_part_of_the_remedy() {
        let refused = |code, text: &str| address_and_token(&Err(Fault::from_errcode(code, text)));
        let findings = refused(40164, "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist");
        assert_eq!((findings[0].id, findings[0].state), ("ip_whitelist", State::Fault));
        let remedy = findings[0].remedy.as_ref().unwrap();
        assert!(remedy.en.starts_with("203.0.113.7: add this address"), "{}", remedy.en);
        assert!(remedy.zh.starts_with("203.0.113.7："), "{}", remedy.zh);
        assert_eq!(findings[1].detail.en, "not tried because WeChat does not take calls from this address");
        for code in [61004, 89503, 89506, 89507] {
            assert_eq!(refused(code, "")[0].state, State::Fault, "{code}");
        }
        let secret = refused(40125, "invalid appsecret");
        assert_eq!((secret[0].state, secret[1].state), (State::Warning, State::Fault));
        let busy = refused(-1, "system error");
        assert_eq!(busy[1].state, State::Warning);
    }
}
