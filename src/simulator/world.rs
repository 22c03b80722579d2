//! The state of the simulated WeChat: one lock around everything that calls change, held for moments only and
//! never while a socket is read or written.

use super::credentials::{Standing, TicketKeeper, TokenKeeper};
use super::fault::Fault;
use super::pictures::PictureStore;
use super::plan::FaultPlan;
use super::quota::{QuotaBook, quota_day};
use super::route::Route;
use super::wire::{WireLimits, http_date};
use super::{SimulatorOptions, codes};
use crate::ground::clock::SharedClock;
use crate::ground::escape::for_log;
use crate::ground::random::{ALPHANUMERIC, SharedRandom};
use crate::ground::stop::Stop;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const VIOLATIONS_MAX: usize = 1000;

/// What a simulator is made of, shared by its threads.
pub struct World {
    pub clock: SharedClock,
    pub random: SharedRandom,
    pub stop: Stop,
    pub app_id: String,
    pub app_secret: String,
    pub page_origins: Vec<String>,
    pub limits: WireLimits,
    state: Mutex<State>,
}

/// What calls change.
pub struct State {
    pub stable: TokenKeeper,
    pub classic: TokenKeeper,
    pub ticket: TicketKeeper,
    pub pictures: PictureStore,
    pub quotas: QuotaBook,
    pub plan: FaultPlan,
    pub calls: BTreeMap<Route, u64>,
    pub violations: Vec<String>,
    pub outage: bool,
    pub egress_ip: IpAddr,
    pub allowed_ips: Option<Vec<IpAddr>>,
    pub signatures: SignatureChecks,
}

/// How pages fared with their signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignatureChecks {
    /// Signatures that were right.
    pub good: u64,
    /// Signatures that were not.
    pub bad: u64,
}

impl World {
    /// The world as `options` describe it.
    pub fn new(options: SimulatorOptions) -> World {
        let state = State {
            stable: TokenKeeper::default(),
            classic: TokenKeeper::default(),
            ticket: TicketKeeper::default(),
            pictures: PictureStore::new(options.picture_bytes_max),
            quotas: QuotaBook::default(),
            plan: options.plan,
            calls: BTreeMap::new(),
            violations: Vec::new(),
            outage: false,
            egress_ip: IpAddr::from([203, 0, 113, 7]),
            allowed_ips: None,
            signatures: SignatureChecks::default(),
        };
        World {
            clock: options.clock,
            random: options.random,
            stop: Stop::new(),
            app_id: options.app_id,
            app_secret: options.app_secret,
            page_origins: options.allowed_page_origins,
            limits: options.limits,
            state: Mutex::new(state),
        }
    }

    /// The state, for a moment.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The reading that ages are counted in.
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The number of the quota's day.
    pub fn day(&self) -> i64 {
        quota_day(self.clock.wall_ms())
    }

    /// The `Date` header of this moment.
    pub fn date(&self) -> String {
        http_date(self.clock.wall_ms())
    }

    /// A request id as WeChat writes it: its Unix time in hex, then two random parts.
    pub fn rid(&self) -> String {
        let seconds = u32::try_from(self.clock.wall_ms().div_euclid(1000)).unwrap_or(0);
        let noise = self.random.u64();
        format!("{seconds:08x}-{:08x}-{:08x}", noise >> 32, noise & 0xffff_ffff)
    }

    /// A media_id that nobody has.
    pub fn fresh_media_id(&self) -> String {
        self.random.text(64, ALPHANUMERIC)
    }

    /// Notes that the client did something that WeChat does not know.
    pub fn violation(&self, route: Route, what: &str) {
        let text = format!("{}: {}", route.name(), for_log(what, 300));
        log::warn!("simulator: violation: {text}");
        let mut state = self.state();
        if state.violations.len() < VIOLATIONS_MAX {
            state.violations.push(text);
        }
    }

    /// The fault that this call suffers.
    pub fn next_fault(&self, route: Route, media_id: Option<&str>) -> Fault {
        self.state().plan.next(route, media_id).unwrap_or(Fault::Good)
    }
}

impl State {
    /// The error code if `token` does not open the door.
    pub fn judge_token(&self, token: &str, now: Duration) -> Option<i64> {
        let standing = match self.stable.standing(token, now) {
            Standing::Unknown => self.classic.standing(token, now),
            known => known,
        };
        match standing {
            Standing::Valid => None,
            Standing::NotLatest => Some(codes::TOKEN_NOT_LATEST),
            Standing::Expired => Some(codes::TOKEN_EXPIRED),
            Standing::Unknown if super::credentials::has_token_shape(token) => Some(codes::TOKEN_NOT_LATEST),
            Standing::Unknown => Some(codes::BAD_TOKEN),
        }
    }

    /// The error code if the caller's address is not on the list.
    pub fn judge_ip(&self) -> Option<i64> {
        let allowed = self.allowed_ips.as_ref().is_none_or(|list| list.contains(&self.egress_ip));
        (!allowed).then_some(codes::IP_NOT_LISTED)
    }
}
