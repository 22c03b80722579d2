//! Whose ids turn out to be made up loses the welcome for a while: every id costs calls of the account's daily
//! quota, and an address that has sent many and never a picture is not a contributor's.
//!
//! One picture that was saved restores the welcome, because many phones share one address. While the box has
//! saved nothing at all, nobody is judged: then the account is wrong, not the visitors.

use crate::ground::clock::SharedClock;
use crate::queue::{JobState, Queue, ReceiptView};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

/// Made-up ids from one address before it is shut out.
const FAKES_MAX: usize = 20;
/// How long it is shut out.
const SHUT_FOR: Duration = Duration::from_secs(3600);
/// Receipts of one address that are looked at; enough to find so many made-up ids also when each came alone. Those
/// that came first stay until they are settled, so that nobody floods them away.
const RECEIPTS_KEPT: usize = FAKES_MAX + 4;
/// How often one address is judged.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_000;
/// Attempts after which an id that WeChat does not know counts as made up.
const ATTEMPTS_BEFORE_JUDGEMENT: u32 = 2;

pub(super) struct Welcome {
    clock: SharedClock,
    visitors: Mutex<HashMap<IpAddr, Visitor>>,
}

#[derive(Default)]
struct Visitor {
    receipts: Vec<String>,
    /// Made-up ids of receipts that are settled and were let go.
    fakes: usize,
    shut_until: Duration,
    judged: Option<Duration>,
}

impl Welcome {
    pub(super) fn new(clock: SharedClock) -> Welcome {
        Welcome { clock, visitors: Mutex::default() }
    }

    /// Remembers that an address got a receipt.
    pub(super) fn note(&self, client: IpAddr, receipt: &str) {
        let mut visitors = self.visitors.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if visitors.len() >= ADDRESSES_MAX && !visitors.contains_key(&client) {
            let now = self.clock.monotonic();
            visitors.retain(|_, visitor| visitor.shut_until > now);
        }
        let receipts = &mut visitors.entry(client).or_default().receipts;
        if receipts.len() < RECEIPTS_KEPT && !receipts.iter().any(|known| known == receipt) {
            receipts.push(receipt.to_owned());
        }
    }

    /// How long this address stays shut out; `None` when it is welcome.
    pub(super) fn shut_for(&self, client: IpAddr, queue: &Queue) -> Option<Duration> {
        let now = self.clock.monotonic();
        let mut visitors = self.visitors.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let visitor = visitors.get_mut(&client)?;
        if now < visitor.shut_until {
            return Some(visitor.shut_until - now);
        }
        if visitor.judged.is_some_and(|judged| now < judged + JUDGE_EVERY) {
            return None;
        }
        visitor.judged = Some(now);
        if queue.counts().saved == 0 || visitor.count_fakes(queue) < FAKES_MAX {
            return None;
        }
        log::warn!("{client} has sent many ids and never a picture; it is shut out for an hour");
        *visitor = Visitor { shut_until: now + SHUT_FOR, ..Visitor::default() };
        Some(SHUT_FOR)
    }
}

impl Visitor {
    /// Made-up ids since the last picture that was saved.
    fn count_fakes(&mut self, queue: &Queue) -> usize {
        let views: Vec<ReceiptView> =
            self.receipts.iter().filter_map(|receipt| queue.receipt(receipt)).collect();
        let mut states = views.iter().flat_map(|view| &view.pictures).map(|(_, state)| state);
        if states.any(|state| matches!(state, JobState::Saved(_))) {
            self.receipts.clear();
            self.fakes = 0;
            return 0;
        }
        let (settled, open): (Vec<_>, Vec<_>) = views.into_iter().partition(ReceiptView::is_settled);
        self.fakes += settled.iter().map(fakes_of).sum::<usize>();
        let open_fakes: usize = open.iter().map(fakes_of).sum();
        self.receipts = open.into_iter().map(|view| view.receipt).collect();
        self.fakes + open_fakes
    }
}

fn fakes_of(view: &ReceiptView) -> usize {
    view.pictures.iter().filter(|(_, state)| is_fake(state)).count()
}

fn is_fake(state: &JobState) -> bool {
    match state {
        JobState::Failed(kept) => ["fake-id", "expired", "40007"].contains(&kept.code.as_str()),
        JobState::Waiting { attempts, last_code, .. } => {
            *attempts >= ATTEMPTS_BEFORE_JUDGEMENT && last_code.as_deref() == Some("40007")
        }
        JobState::Saved(_) => false,
    }
}
