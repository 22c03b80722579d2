//! The two credentials against the simulator: one renewal for many, what outlives a restart, the ticket's odd
//! lifetime, and the bounds on forced renewals.

use super::*;
use crate::door::outbound::OutboundOptions;
use crate::ground::clock::{Clock, TestClock};
use crate::ground::random::SeededRandom;
use crate::simulator::{Fault as Misfortune, Route, Simulator, SimulatorOptions};

const NOW_MS: i64 = 1_795_280_466_123;
const MINUTE: Duration = Duration::from_secs(60);
const PAGE: &str = "https://pics.example.org/uploadImgDemo";

struct Bench {
    clock: Arc<TestClock>,
    simulator: Simulator,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let clock = TestClock::at(NOW_MS);
        let options = SimulatorOptions::loopback(clock.clone(), SeededRandom::shared(3));
        Bench { clock, simulator: Simulator::start(options).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> WeChat {
        self.open_as(TokenKind::Stable)
    }

    fn open_as(&self, token_kind: TokenKind) -> WeChat {
        self.open_on("credentials.json", token_kind)
    }

    fn open_on(&self, file: &str, token_kind: TokenKind) -> WeChat {
        let account = SimulatorOptions::loopback(self.clock.clone(), SeededRandom::shared(3));
        let origins = vec![Origin::parse(&self.simulator.base_url()).unwrap()];
        WeChat::open(WeChatOptions {
            app_id: account.app_id,
            app_secret: account.app_secret,
            door: Arc::new(OutboundDoor::open(OutboundOptions::to(origins.clone())).unwrap()),
            origins,
            token_kind,
            credentials_file: self.folder.path().join(file),
            clock: self.clock.clone(),
            random: SeededRandom::shared(4),
        })
    }

    fn tokens(&self) -> u64 {
        self.simulator.calls(Route::StableToken) + self.simulator.calls(Route::Token)
    }

    fn tickets(&self) -> u64 {
        self.simulator.calls(Route::GetTicket)
    }

    /// The keeper's thread, for `passed`; every wake-up is one round.
    fn keep_for(&self, wechat: &WeChat, passed: Duration) -> usize {
        let end = self.clock.monotonic() + passed;
        let mut rounds = 0;
        while self.clock.monotonic() < end {
            self.clock.advance(wechat.keep().min(end - self.clock.monotonic()));
            rounds += 1;
        }
        rounds
    }

    fn ticket_is_good(&self, wechat: &WeChat) -> bool {
        wechat.sign(PAGE).is_some_and(|page| {
            let ticket = self.simulator_ticket();
            page.signature == signature::sign(&ticket, &page.nonce_str, page.timestamp, PAGE)
        })
    }

    /// The ticket of this moment, as another client of the same account gets it.
    fn simulator_ticket(&self) -> String {
        let _ = std::fs::remove_file(self.folder.path().join("elsewhere.json"));
        self.open_on("elsewhere.json", TokenKind::Stable).keep();
        self.persisted("elsewhere.json")["ticket"][0].as_str().unwrap().to_owned()
    }

    fn persisted(&self, file: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join(file)).unwrap()).unwrap()
    }
}

fn id() -> MediaId {
    MediaId::parse("x").unwrap()
}

fn code_of(fetched: Result<Media, Fault>) -> String {
    fetched.map(|_| "fetched".to_owned()).unwrap_or_else(|fault| fault.code.into_owned())
}

#[test]
fn the_keeper_renews_ahead_and_calls_rarely() {
    for (kind, tokens_a_day) in [(TokenKind::Stable, 14), (TokenKind::Classic, 14)] {
        let bench = Bench::new();
        let wechat = bench.open_as(kind);
        let rounds = bench.keep_for(&wechat, 24 * 60 * MINUTE);
        assert!(bench.tokens() <= tokens_a_day, "{kind:?}: {} token calls a day", bench.tokens());
        assert!(bench.tickets() <= 120, "{kind:?}: {} ticket calls a day", bench.tickets());
        assert!(rounds < 400, "{kind:?}: the keeper woke {rounds} times");
        assert_eq!(code_of(wechat.fetch(&id())), "40007");
        assert_eq!(wechat.credential_ages().fault, None);
    }
}

#[test]
fn credentials_outlive_a_restart_but_no_reboot() {
    let bench = Bench::new();
    bench.open().keep();
    bench.clock.advance(30 * MINUTE);
    let again = bench.open();
    assert_eq!(again.credential_ages().token_ends_in_seconds, Some(90 * 60));
    assert_eq!(again.credential_ages().ticket_age_seconds, Some(30 * 60));
    assert!(again.sign(PAGE).is_some());
    assert_eq!(code_of(again.fetch(&id())), "40007");
    assert_eq!(bench.tokens(), 1);

    bench.clock.reboot();
    let other_boot = bench.open();
    assert_eq!(other_boot.credential_ages().token_ends_in_seconds, None);
    assert!(other_boot.sign(PAGE).is_some(), "a young ticket serves until it was fetched again");
    other_boot.keep();
    assert_eq!(bench.tokens(), 2);
}

#[test]
fn what_was_kept_is_private_and_damage_is_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.open().keep();
    let file = bench.folder.path().join("credentials.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read(&file).unwrap();
    for damaged in [&b"{}"[..], b"", &text[..text.len() / 2], b"\xff\xfe"] {
        crate::ground::durable::replace_private(&file, damaged).unwrap();
        assert_eq!(bench.open().credential_ages().token_ends_in_seconds, None);
    }
    let other_account = String::from_utf8(text).unwrap().replace("wx0123456789abcdef", "wx9999999999999999");
    crate::ground::durable::replace_private(&file, other_account.as_bytes()).unwrap();
    assert!(bench.open().sign(PAGE).is_none(), "a ticket of another account");
}

/// `getticket` says 7200 every time and means the first: a page must never be signed with a dead one for long.
#[test]
fn a_ticket_ages_from_its_first_sight() {
    let bench = Bench::new();
    let wechat = bench.open();
    let mut dead = Duration::ZERO;
    for _ in 0..6 * 60 {
        bench.keep_for(&wechat, MINUTE);
        if !bench.ticket_is_good(&wechat) {
            dead += MINUTE;
        }
    }
    assert!(dead <= 9 * MINUTE, "pages were signed with a dead ticket for {dead:?} of 6 hours");
    assert!(wechat.credential_ages().ticket_age_seconds.unwrap() <= 7200 + 120);
}

#[test]
fn a_doubted_ticket_is_fetched_again_but_once_a_minute() {
    let bench = Bench::new();
    let wechat = bench.open();
    bench.keep_for(&wechat, 10 * MINUTE);
    bench.simulator.expire_ticket();
    let before = bench.tickets();
    for _ in 0..5 {
        wechat.doubt_ticket();
        wechat.keep();
    }
    assert_eq!(bench.tickets() - before, 1);
    assert!(bench.ticket_is_good(&wechat));
    for _ in 0..60 {
        wechat.doubt_ticket();
        bench.keep_for(&wechat, Duration::from_secs(1));
    }
    assert!(bench.tickets() - before <= 4, "{}", bench.tickets() - before);
}

#[test]
fn forced_renewals_are_bounded_also_over_restarts() {
    let bench = Bench::new();
    bench.open().keep();
    let forces = || bench.persisted("credentials.json")["forced_at"].as_array().unwrap().len();
    for round in 0..60 {
        let wechat = bench.open();
        bench.simulator.wedge_token();
        let code = code_of(wechat.fetch(&id()));
        let is_forced = round % 3 == 0 && round / 3 < 10;
        assert_eq!(code, if is_forced { "40007" } else { "40001" }, "round {round}");
        assert_eq!(forces(), (round / 3 + 1).min(10), "round {round}");
        bench.clock.advance(Duration::from_secs(201));
    }
}

#[test]
fn a_refused_renewal_is_not_repeated_at_once_and_a_lost_one_soon() {
    for (misfortune, calls_max, mended_within) in [
        (Misfortune::code(40125), 20, 6 * MINUTE),
        (Misfortune::ResetBeforeAnswer, 370, Duration::from_secs(11)),
    ] {
        let bench = Bench::new();
        let wechat = bench.open();
        bench.simulator.always(Route::StableToken, misfortune.clone());
        bench.keep_for(&wechat, 60 * MINUTE);
        for _ in 0..50 {
            assert!(wechat.fetch(&id()).is_err());
        }
        assert!(bench.tokens() <= calls_max, "{misfortune:?}: {} calls in an hour", bench.tokens());
        assert!(wechat.credential_ages().fault.is_some());
        bench.simulator.clear_faults();
        bench.keep_for(&wechat, mended_within);
        assert_eq!(wechat.credential_ages().fault, None, "{misfortune:?}");
    }
}

/// A token that stays refused must not keep the keeper awake.
#[test]
fn the_keeper_sleeps_while_a_good_looking_token_is_refused() {
    let bench = Bench::new();
    let wechat = bench.open();
    wechat.keep();
    bench.simulator.always(Route::MediaGet, Misfortune::code(40001));
    assert_eq!(code_of(wechat.fetch(&id())), "40001");
    let rounds = bench.keep_for(&wechat, 60 * MINUTE);
    assert!(rounds < 30, "the keeper woke {rounds} times in an hour");
}
