//! The two credentials: access_token and jsapi_ticket. Cached, kept over restarts, renewed ahead of time by the
//! keeper, and by one caller at a time when WeChat says that one is dead.
//!
//! Facts that shape this file:
//! - `stable_token` without force repeats the same token while it lives and may be asked again freely; it rolls
//!   over during the last five minutes, old and new both valid (*documented*). `force_refresh` kills the old one
//!   and is limited, so it is used only when the normal mode keeps handing out a dead token (*inferred*).
//! - A token is dropped only if it is still the one that failed (from WxJava): a hundred callers with a dead
//!   token make one renewal.
//! - `getticket` hands out the same ticket with `expires_in` always 7200 (*reported*), so its age counts from
//!   when its text was first seen, and it is fetched again every 25 minutes, more often near its end.
//!
//! Ages are counted on the monotonic clock: a box without a clock chip starts years in the past.

use super::api::{Api, Call};
use super::fault::Fault;
use super::media::is_token_fault;
use crate::ground::bell::Bell;
use crate::ground::clock::SharedClock;
use crate::ground::durable;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A token is renewed so long before its end; `stable_token` rolls over within its last 300 s.
const RENEW_BEFORE: Duration = Duration::from_secs(240);
/// Should it come back without a new life all the same, the keeper does not ask more often than this.
const RENEW_EVERY_AT_MOST: Duration = Duration::from_secs(30);
/// What a token lives at most, and what one is taken to live whose life makes no sense.
const TOKEN_LIFE_MAX_S: u64 = 7200;
const TOKEN_LIFE_MIN_S: u64 = 30;
/// A ticket's life from its first issue.
const TICKET_LIFE: Duration = Duration::from_secs(7200);
/// How often the ticket is fetched again while it is young, near its end, and when a page doubts it.
const TICKET_EVERY: Duration = Duration::from_secs(25 * 60);
const TICKET_EVERY_NEAR_END: Duration = Duration::from_secs(120);
const TICKET_DOUBTED: Duration = Duration::from_secs(60);
/// After a failed renewal nobody asks again for so long, doubled up to the longest: a person may need minutes,
/// a network that is back should be used at once.
const FAILURE_WAIT: Duration = Duration::from_secs(5);
const FAILURE_WAIT_MAX: Duration = Duration::from_secs(300);
const PASSING_FAILURE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Our own bounds on forced renewals; WeChat's are 30 s and 20 a day.
const FORCE_EVERY: Duration = Duration::from_secs(600);
const FORCES_A_DAY: usize = 10;
const DAY: Duration = Duration::from_secs(86_400);
/// The keeper looks at least so often.
const KEEP_AT_LEAST_EVERY: Duration = Duration::from_secs(600);

/// Which call gives the access_token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `POST /cgi-bin/stable_token`: isolated from other systems on the same account.
    Stable,
    /// `GET /cgi-bin/token`: each call ends the previous token.
    Classic,
}

pub(super) struct CredentialsOptions {
    pub app_id: String,
    pub app_secret: String,
    pub token_kind: TokenKind,
    pub file: PathBuf,
    pub api: Arc<Api>,
    pub clock: SharedClock,
}

/// What status shows of the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CredentialAges {
    /// Seconds until the access_token ends; `None` without one.
    pub token_ends_in_seconds: Option<u64>,
    /// Seconds since the ticket's text was first seen; `None` without one.
    pub ticket_age_seconds: Option<u64>,
    /// Renewals of the access_token since start.
    pub token_refreshes: u64,
    /// What the last renewal that failed said.
    pub fault: Option<String>,
}

pub(super) struct Credentials {
    options: CredentialsOptions,
    state: Mutex<State>,
    landed: Condvar,
    bell: Bell,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    ticket: Option<Ticket>,
    renewing: bool,
    /// The last renewal failed: until when nobody asks again.
    failure: Option<Failure>,
    forced_at: Vec<Duration>,
    ticket_failure: Option<Failure>,
    ticket_doubted: bool,
    refreshes: u64,
}

struct Failure {
    fault: Fault,
    count: u32,
    until: Duration,
}

struct Token {
    value: String,
    landed: Duration,
    ends: Duration,
}

struct Ticket {
    value: String,
    first_seen: Duration,
    fetched: Option<Duration>,
}

/// What outlives a restart. Monotonic readings mean something only under the same boot id.
#[derive(Serialize, Deserialize)]
struct Persisted {
    app_id: String,
    boot_id: String,
    token: Option<(String, u64)>,
    ticket: Option<(String, u64)>,
    ticket_first_seen_wall_ms: i64,
    #[serde(default)]
    forced_at: Vec<u64>,
}

impl Credentials {
    pub(super) fn open(options: CredentialsOptions) -> Credentials {
        let state = restore(&options).unwrap_or_default();
        Credentials { options, state: Mutex::new(state), landed: Condvar::new(), bell: Bell::default() }
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn ticket(&self) -> Option<String> {
        self.lock().ticket.as_ref().map(|ticket| ticket.value.clone())
    }

    pub(super) fn doubt_ticket(&self) {
        self.lock().ticket_doubted = true;
        self.bell.ring();
    }

    pub(super) fn ages(&self) -> CredentialAges {
        let now = self.options.clock.monotonic();
        let state = self.lock();
        let failure = state.failure.as_ref().or(state.ticket_failure.as_ref());
        CredentialAges {
            token_ends_in_seconds: state.token.as_ref().map(|token| token.ends.saturating_sub(now).as_secs()),
            ticket_age_seconds: state
                .ticket
                .as_ref()
                .map(|ticket| now.saturating_sub(ticket.first_seen).as_secs()),
            token_refreshes: state.refreshes,
            fault: failure.map(|failure| failure.fault.to_string()),
        }
    }

    /// Runs `call` with the token; when WeChat says that the token is dead, renews it and runs it once more.
    pub(super) fn with_token<T>(&self, call: impl Fn(&str) -> Result<T, Fault>) -> Result<T, Fault> {
        let token = self.token()?;
        match call(&token) {
            Err(fault) if is_token_fault(&fault) => {
                let renewed = self.renew(Some(&token))?;
                let again = call(&renewed);
                if let Err(fault) = &again
                    && is_token_fault(fault)
                {
                    self.note_refused(&renewed, fault);
                }
                again
            }
            other => other,
        }
    }

    /// Renews what is due; returns how long nothing will be.
    pub(super) fn keep(&self) -> Duration {
        self.keep_token();
        self.keep_ticket();
        self.next_due()
    }

    fn keep_token(&self) {
        let now = self.options.clock.monotonic();
        let due = {
            let state = self.lock();
            let waits = state.failure.as_ref().is_some_and(|failure| now < failure.until);
            (now >= state.token_due() && !waits)
                .then(|| state.token.as_ref().map(|token| token.value.clone()))
        };
        if let Some(old) = due
            && let Err(fault) = self.renew_ahead(old.as_deref())
        {
            log::warn!("could not renew the access_token: {fault}");
        }
    }

    fn keep_ticket(&self) {
        let now = self.options.clock.monotonic();
        let due = {
            let mut state = self.lock();
            let due = state.ticket_due();
            let due = now >= due;
            if due {
                state.ticket_doubted = false;
            }
            due && state.token.is_some()
        };
        if !due {
            return;
        }
        match self.with_token(|token| self.fetch_ticket(token)) {
            Ok(value) => self.land_ticket(value),
            Err(fault) => {
                log::warn!("could not renew the jsapi_ticket: {fault}");
                let mut state = self.lock();
                state.ticket_failure = Some(Failure::after(state.ticket_failure.take(), fault, now));
            }
        }
    }

    fn next_due(&self) -> Duration {
        let now = self.options.clock.monotonic();
        let state = self.lock();
        let token_due = match &state.failure {
            Some(failure) => state.token_due().max(failure.until),
            None => state.token_due(),
        };
        let due = if state.token.is_some() { token_due.min(state.ticket_due()) } else { token_due };
        due.saturating_sub(now).clamp(Duration::from_millis(200), KEEP_AT_LEAST_EVERY)
    }

    /// The token that is cached and alive, or a new one.
    fn token(&self) -> Result<String, Fault> {
        let now = self.options.clock.monotonic();
        if let Some(token) = self.lock().token.as_ref().filter(|token| now < token.ends) {
            return Ok(token.value.clone());
        }
        self.renew(None)
    }

    /// A token to be used in place of `dead`: the cached one if somebody has renewed it meanwhile, else what
    /// WeChat gives, which may be the same again. One caller asks, those who come meanwhile take what it got;
    /// after a failure nobody asks for a while.
    fn renew(&self, dead: Option<&str>) -> Result<String, Fault> {
        self.fly(dead, true)
    }

    /// As [`Credentials::renew`], while the old one is still good: the same token again is fine.
    fn renew_ahead(&self, old: Option<&str>) -> Result<String, Fault> {
        self.fly(old, false)
    }

    fn fly(&self, old: Option<&str>, old_is_dead: bool) -> Result<String, Fault> {
        let now = self.options.clock.monotonic();
        let mut state = self.lock();
        let refreshes_before = state.refreshes;
        loop {
            let is_new = state.refreshes != refreshes_before;
            let usable = |token: &&Token| now < token.ends && (is_new || Some(token.value.as_str()) != old);
            if let Some(token) = state.token.as_ref().filter(usable) {
                return Ok(token.value.clone());
            }
            if let Some(failure) = state.failure.as_ref().filter(|failure| now < failure.until) {
                return Err(failure.fault.clone());
            }
            if !state.renewing {
                break;
            }
            state = self.landed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.renewing = true;
        drop(state);
        let flight = Flight { credentials: self };
        let fetched = self.fetch_token_again(if old_is_dead { old } else { None });
        flight.land(fetched)
    }

    fn fetch_token_again(&self, dead: Option<&str>) -> Result<(String, u64), Fault> {
        let fetched = self.fetch_token(false)?;
        if dead != Some(fetched.0.as_str()) {
            return Ok(fetched);
        }
        if self.options.token_kind == TokenKind::Stable && self.may_force() {
            log::warn!("stable_token keeps handing out a token that WeChat refuses; forcing a new one");
            return self.fetch_token(true);
        }
        // WeChat says that this is the one; it may have been refused by mistake.
        Ok(fetched)
    }

    /// Whether a forced renewal is within our own bounds; counts it.
    fn may_force(&self) -> bool {
        let now = self.options.clock.monotonic();
        let mut state = self.lock();
        state.forced_at.retain(|at| now.saturating_sub(*at) < DAY);
        let too_soon = state.forced_at.last().is_some_and(|at| now.saturating_sub(*at) < FORCE_EVERY);
        if too_soon || state.forced_at.len() >= FORCES_A_DAY {
            return false;
        }
        state.forced_at.push(now);
        true
    }

    pub(super) fn fetch_token(&self, force: bool) -> Result<(String, u64), Fault> {
        let CredentialsOptions { app_id, app_secret, .. } = &self.options;
        let reply = match self.options.token_kind {
            TokenKind::Stable => {
                let body = serde_json::json!({
                    "grant_type": "client_credential", "appid": app_id, "secret": app_secret, "force_refresh": force,
                });
                let call = Call {
                    target: "/cgi-bin/stable_token",
                    json: Some(body.to_string()),
                    is_repeatable: !force,
                };
                self.options.api.call_for_reply(&call)?
            }
            TokenKind::Classic => {
                let target =
                    format!("/cgi-bin/token?grant_type=client_credential&appid={app_id}&secret={app_secret}");
                self.options.api.call_for_reply(&Call {
                    target: &target,
                    json: None,
                    is_repeatable: false,
                })?
            }
        };
        let token = reply.text("access_token").filter(|token| is_harmless(token));
        let seconds = reply.number("expires_in").and_then(|seconds| u64::try_from(seconds).ok());
        match (token, seconds) {
            (Some(token), Some(seconds)) => {
                Ok((token.to_owned(), seconds.clamp(TOKEN_LIFE_MIN_S, TOKEN_LIFE_MAX_S)))
            }
            _ => Err(Fault::new("garbage", "the answer holds no usable access_token")),
        }
    }

    pub(super) fn fetch_ticket(&self, token: &str) -> Result<String, Fault> {
        let target = format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi");
        let call = Call { target: &target, json: None, is_repeatable: true };
        let reply = self.options.api.call_for_reply(&call)?;
        match reply.text("ticket").filter(|ticket| is_harmless(ticket)) {
            Some(ticket) => Ok(ticket.to_owned()),
            None => Err(Fault::new("garbage", "the answer holds no usable jsapi_ticket")),
        }
    }

    fn land_ticket(&self, value: String) {
        let now = self.options.clock.monotonic();
        let mut state = self.lock();
        let known = state.ticket.take().filter(|ticket| ticket.value == value);
        let first_seen = match known {
            Some(ticket) => ticket.first_seen,
            None => {
                log::info!("got a new jsapi_ticket");
                now
            }
        };
        state.ticket = Some(Ticket { value, first_seen, fetched: Some(now) });
        state.ticket_failure = None;
        self.persist(&state);
    }

    /// A token that was renewed a moment ago is refused too: asking again at once would be a storm.
    fn note_refused(&self, token: &str, fault: &Fault) {
        let now = self.options.clock.monotonic();
        let mut state = self.lock();
        if state.token.as_ref().is_some_and(|cached| cached.value == token) {
            state.failure = Some(Failure::after(state.failure.take(), fault.clone(), now));
        }
    }

    fn persist(&self, state: &State) {
        let CredentialsOptions { app_id, clock, file, .. } = &self.options;
        let now = clock.monotonic();
        let first_seen = state.ticket.as_ref().map_or(now, |ticket| ticket.first_seen);
        let persisted = Persisted {
            app_id: app_id.clone(),
            boot_id: clock.boot_id(),
            token: state.token.as_ref().map(|token| (token.value.clone(), token.ends.as_secs())),
            ticket: state.ticket.as_ref().map(|ticket| (ticket.value.clone(), ticket.first_seen.as_secs())),
            ticket_first_seen_wall_ms: clock.wall_ms()
                - i64::try_from(now.saturating_sub(first_seen).as_millis()).unwrap_or(0),
            forced_at: state.forced_at.iter().map(Duration::as_secs).collect(),
        };
        let text = serde_json::to_vec(&persisted).unwrap_or_default();
        if let Err(error) = durable::replace_private(file, &text) {
            log::warn!("could not keep the credentials in {}: {error}", file.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A renewal that is under way. Whatever happens, even a panic, somebody else may try after it.
struct Flight<'a> {
    credentials: &'a Credentials,
}

impl Flight<'_> {
    fn land(self, fetched: Result<(String, u64), Fault>) -> Result<String, Fault> {
        let now = self.credentials.options.clock.monotonic();
        let mut state = self.credentials.lock();
        match fetched {
            Ok((value, seconds)) => {
                log::info!("got an access_token for {seconds} s");
                let ends = now + Duration::from_secs(seconds);
                state.token = Some(Token { value: value.clone(), landed: now, ends });
                state.failure = None;
                state.refreshes += 1;
                self.credentials.persist(&state);
                self.credentials.bell.ring();
                Ok(value)
            }
            Err(fault) => {
                state.failure = Some(Failure::after(state.failure.take(), fault.clone(), now));
                Err(fault)
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.credentials.lock().renewing = false;
        self.credentials.landed.notify_all();
    }
}

impl State {
    /// When the keeper renews the token: at once without one, else ahead of its end.
    fn token_due(&self) -> Duration {
        let Some(token) = &self.token else { return Duration::ZERO };
        token.ends.saturating_sub(RENEW_BEFORE).max(token.landed + RENEW_EVERY_AT_MOST)
    }

    fn ticket_due(&self) -> Duration {
        if let Some(failure) = &self.ticket_failure {
            return failure.until;
        }
        let Some(ticket) = &self.ticket else { return Duration::ZERO };
        let Some(fetched) = ticket.fetched else { return Duration::ZERO };
        let near_end = ticket.first_seen + TICKET_LIFE.saturating_sub(TICKET_EVERY_NEAR_END);
        let regular = if fetched >= near_end {
            fetched + TICKET_EVERY_NEAR_END
        } else {
            (fetched + TICKET_EVERY).min(near_end)
        };
        if self.ticket_doubted { regular.min(fetched + TICKET_DOUBTED) } else { regular }
    }
}

impl Failure {
    fn after(previous: Option<Failure>, fault: Fault, now: Duration) -> Failure {
        let count = previous.map_or(0, |previous| previous.count) + 1;
        let longest = if fault.may_pass_soon() { PASSING_FAILURE_WAIT_MAX } else { FAILURE_WAIT_MAX };
        let wait = FAILURE_WAIT.saturating_mul(1 << (count - 1).min(10)).min(longest);
        Failure { fault, count, until: now + wait }
    }
}

/// Tokens and tickets become parts of addresses; anything that could end one is refused.
fn is_harmless(credential: &str) -> bool {
    !credential.is_empty()
        && credential.len() <= 1024
        && credential.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!*|=".contains(&byte))
}

fn restore(options: &CredentialsOptions) -> Option<State> {
    let text = std::fs::read(&options.file).ok()?;
    let persisted: Persisted = serde_json::from_slice(&text).ok()?;
    if persisted.app_id != options.app_id {
        return None;
    }
    let now = options.clock.monotonic();
    if persisted.boot_id == options.clock.boot_id() {
        let token = persisted.token.map(|(value, ends)| {
            let ends = Duration::from_secs(ends).min(now + Duration::from_secs(TOKEN_LIFE_MAX_S));
            Token { value, landed: Duration::ZERO, ends }
        });
        let ticket = persisted.ticket.map(|(value, first_seen)| Ticket {
            value,
            first_seen: Duration::from_secs(first_seen).min(now),
            fetched: None,
        });
        let forced_at = persisted.forced_at.into_iter().map(Duration::from_secs).collect();
        let token = token.filter(|token| now < token.ends);
        return Some(State { token, ticket, forced_at, ..State::default() });
    }
    // After a reboot the token's end cannot be believed, and asking for it costs nothing. The ticket may serve
    // pages until it was fetched again, if the wall clock says that it is still young.
    let age_ms = options.clock.wall_ms() - persisted.ticket_first_seen_wall_ms;
    let young = (0..TICKET_LIFE.as_millis() as i64).contains(&age_ms);
    let ticket = persisted.ticket.filter(|_| young).map(|(value, _)| Ticket {
        value,
        first_seen: now.saturating_sub(Duration::from_millis(age_ms.unsigned_abs())),
        fetched: None,
    });
    Some(State { ticket, ..State::default() })
}
