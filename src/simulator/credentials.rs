//! The simulator's side of access_token and jsapi_ticket: issue, roll over, revoke, judge. Ages are monotonic
//! readings, so a test that sets the wall clock does not kill a token.

use crate::ground::random::SharedRandom;
use std::collections::VecDeque;
use std::time::Duration;

/// What a token, and a ticket, lives.
pub const LIFE: Duration = Duration::from_secs(7200);
/// The last part of a stable token's life, in which the next one is issued; also how long both are good.
pub const OVERLAP: Duration = Duration::from_secs(300);
/// Two forced refreshes closer than this are one.
pub const FORCE_GAP: Duration = Duration::from_secs(30);
/// Forced refreshes in a day.
pub const FORCES_A_DAY: u32 = 20;

const REMEMBERED: usize = 256;
const URL_SAFE: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-";

/// What a token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It opens the door.
    Valid,
    /// Replaced or killed.
    NotLatest,
    /// Its time is over.
    Expired,
    /// Never issued here.
    Unknown,
}

struct Issued {
    value: String,
    dies: Duration,
    revoked: bool,
}

impl Issued {
    fn lives(&self, now: Duration) -> bool {
        !self.revoked && now < self.dies
    }
}

/// The tokens of one of the two calls (`token` and `stable_token` never see each other).
#[derive(Default)]
pub struct TokenKeeper {
    issued: VecDeque<Issued>,
    wedged: bool,
    last_forced: Option<Duration>,
    forced_on: (i64, u32),
}

/// The answer to a forced refresh beyond the day's limit.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyForces;

impl TokenKeeper {
    /// `stable_token` in normal mode: the same token until its last 300 seconds. Value and seconds left.
    pub fn stable(&mut self, now: Duration, random: &SharedRandom) -> (String, u64) {
        if let Some(current) = self.issued.back() {
            let handed_out = self.wedged || !current.revoked;
            if handed_out && current.dies > now + OVERLAP {
                return (current.value.clone(), (current.dies - now).as_secs());
            }
        }
        self.issue(now, Some(now + OVERLAP), random)
    }

    /// `stable_token` with `force_refresh`: the previous one dies at once. `day` numbers the quota's days.
    pub fn forced(
        &mut self,
        now: Duration,
        day: i64,
        random: &SharedRandom,
    ) -> Result<(String, u64), TooManyForces> {
        if self.last_forced.is_some_and(|last| now < last + FORCE_GAP) {
            return Ok(self.stable(now, random));
        }
        let used = if self.forced_on.0 == day { self.forced_on.1 } else { 0 };
        if used >= FORCES_A_DAY {
            return Err(TooManyForces);
        }
        self.forced_on = (day, used + 1);
        self.last_forced = Some(now);
        Ok(self.steal(now, random))
    }

    /// The classic `token`: each call issues a new one; the previous lives at most 300 seconds more.
    pub fn classic(&mut self, now: Duration, random: &SharedRandom) -> (String, u64) {
        let previous_dies = self.issued.back().map(|previous| previous.dies.min(now + OVERLAP));
        self.issue(now, previous_dies, random)
    }

    /// Somebody else refreshes by force: a new token is issued, all others are dead.
    pub fn steal(&mut self, now: Duration, random: &SharedRandom) -> (String, u64) {
        self.revoke_all();
        self.issue(now, None, random)
    }

    /// The current token dies. `wedged`: the normal call goes on handing it out until a forced refresh.
    pub fn kill(&mut self, wedged: bool) {
        self.revoke_all();
        self.wedged = wedged;
    }

    /// What `token` is worth.
    pub fn standing(&self, token: &str, now: Duration) -> Standing {
        match self.issued.iter().rev().find(|issued| issued.value == token) {
            None => Standing::Unknown,
            Some(issued) if issued.revoked => Standing::NotLatest,
            Some(issued) if now >= issued.dies => Standing::Expired,
            Some(_) => Standing::Valid,
        }
    }

    fn revoke_all(&mut self) {
        self.wedged = false;
        for issued in &mut self.issued {
            issued.revoked = true;
        }
    }

    fn issue(
        &mut self,
        now: Duration,
        previous_dies: Option<Duration>,
        random: &SharedRandom,
    ) -> (String, u64) {
        self.wedged = false;
        if let (Some(previous), Some(dies)) = (self.issued.back_mut(), previous_dies)
            && previous.lives(now)
        {
            previous.dies = dies;
        }
        if self.issued.len() == REMEMBERED {
            self.issued.pop_front();
        }
        let value = format!("98_{}", random.text(154, URL_SAFE));
        self.issued.push_back(Issued { value: value.clone(), dies: now + LIFE, revoked: false });
        (value, LIFE.as_secs())
    }
}

/// Whether `token` looks like one: long enough and of the right characters.
pub fn has_token_shape(token: &str) -> bool {
    token.len() >= 100 && token.bytes().all(|byte| URL_SAFE.contains(&byte))
}

/// The jsapi_ticket: the same string for 7200 seconds after its first issue, then another.
#[derive(Default)]
pub struct TicketKeeper {
    current: Option<(String, Duration)>,
}

impl TicketKeeper {
    /// The ticket of this moment; a new one when the last has died.
    pub fn get(&mut self, now: Duration, random: &SharedRandom) -> String {
        if let Some(alive) = self.alive(now) {
            return alive.to_owned();
        }
        let ticket = random.text(86, URL_SAFE);
        self.current = Some((ticket.clone(), now + LIFE));
        ticket
    }

    /// The ticket against which signatures are checked, if one is alive.
    pub fn alive(&self, now: Duration) -> Option<&str> {
        self.current.as_ref().filter(|(_, dies)| now < *dies).map(|(ticket, _)| ticket.as_str())
    }

    /// The ticket dies now.
    pub fn expire(&mut self) {
        self.current = None;
    }

    /// Makes `ticket` the current one, issued now.
    pub fn set(&mut self, ticket: &str, now: Duration) {
        self.current = Some((ticket.to_owned(), now + LIFE));
    }
}

/// The signature that belongs to a page, lower-case hex.
pub fn page_signature(ticket: &str, nonce: &str, timestamp: &str, url: &str) -> String {
    let joined = format!("jsapi_ticket={ticket}&noncestr={nonce}&timestamp={timestamp}&url={url}");
    sha1_smol::Sha1::from(joined.as_bytes()).digest().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::random::SeededRandom;

    const START: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Duration {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_stable_token_stays_until_its_last_five_minutes() {
        let random = SeededRandom::shared(1);
        let mut keeper = TokenKeeper::default();
        let (first, seconds) = keeper.stable(at(0), &random);
        assert_eq!(seconds, 7200);
        assert_eq!(keeper.stable(at(6899), &random), (first.clone(), 301));
        let (second, seconds) = keeper.stable(at(6900), &random);
        assert_ne!(first, second);
        assert_eq!(seconds, 7200);
        assert_eq!(keeper.standing(&first, at(7199)), Standing::Valid);
        assert_eq!(keeper.standing(&first, at(7200)), Standing::Expired);
        assert_eq!(keeper.standing(&second, at(7200)), Standing::Valid);
        assert_eq!(keeper.standing("98_x", at(0)), Standing::Unknown);
        assert!(has_token_shape(&first));
    }

    #[test]
    fn forced_refreshes_kill_at_once_and_are_limited() {
        let random = SeededRandom::shared(2);
        let mut keeper = TokenKeeper::default();
        let (first, _) = keeper.stable(at(0), &random);
        let (second, _) = keeper.forced(at(1), 0, &random).unwrap();
        assert_eq!(keeper.standing(&first, at(1)), Standing::NotLatest);
        assert_eq!(keeper.forced(at(30), 0, &random).unwrap().0, second, "29 s later: no refresh");
        for round in 1..FORCES_A_DAY {
            keeper.forced(at(1 + 30 * u64::from(round)), 0, &random).unwrap();
        }
        assert_eq!(keeper.forced(at(3000), 0, &random), Err(TooManyForces));
        assert!(keeper.forced(at(3000), 1, &random).is_ok(), "the next day");
    }

    #[test]
    fn a_wedged_token_is_handed_out_until_it_is_forced() {
        let random = SeededRandom::shared(3);
        let mut keeper = TokenKeeper::default();
        let (first, _) = keeper.stable(at(0), &random);
        keeper.kill(true);
        assert_eq!(keeper.stable(at(1), &random).0, first);
        assert_eq!(keeper.standing(&first, at(1)), Standing::NotLatest);
        assert_ne!(keeper.forced(at(2), 0, &random).unwrap().0, first);
        keeper.kill(false);
        let (third, _) = keeper.stable(at(3), &random);
        assert_eq!(keeper.standing(&third, at(3)), Standing::Valid);
    }

    #[test]
    fn each_classic_call_replaces_the_token() {
        let random = SeededRandom::shared(4);
        let mut keeper = TokenKeeper::default();
        let (first, _) = keeper.classic(at(0), &random);
        let (second, _) = keeper.classic(at(10), &random);
        assert_ne!(first, second);
        assert_eq!(keeper.standing(&first, at(309)), Standing::Valid);
        assert_eq!(keeper.standing(&first, at(310)), Standing::Expired);
    }

    #[test]
    fn a_ticket_dies_7200_seconds_after_its_first_issue() {
        let random = SeededRandom::shared(5);
        let mut keeper = TicketKeeper::default();
        let first = keeper.get(at(0), &random);
        assert_eq!(keeper.get(at(7199), &random), first);
        assert_eq!(keeper.alive(at(7200)), None);
        assert_ne!(keeper.get(at(7200), &random), first);
    }

    #[test]
    fn the_official_signature_vector() {
        let ticket = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg";
        let url = "http://mp.weixin.qq.com?params=value";
        let signature = page_signature(ticket, "Wm3WZYTPz0wzccnW", "1414587457", url);
        assert_eq!(signature, "0f9de62fce790f9a083d5c99e95740ceb90c27ed");
    }
}
