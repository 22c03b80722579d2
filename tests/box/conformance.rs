//! One small suite of what the box takes for granted about WeChat's API. It always runs against the simulator,
//! and against the real API too when `WECHAT_APP_ID` and `WECHAT_APP_SECRET` are in the environment (the address
//! of this machine has to be on the account's IP whitelist): so a simulator that has drifted from the truth is
//! found out. `cargo test --test box conformance -- --nocapture` shows what was seen.

use crate::bench::{Bench, fetch_fault_of};
use std::sync::Arc;
use tubox::door::outbound::{Origin, OutboundDoor, OutboundOptions};
use tubox::ground::clock::{SharedClock, SystemClock};
use tubox::ground::random::OsRandom;
use tubox::simulator::DEVTOOLS_MEDIA_ID;
use tubox::wechat::{ANSWER_HEAD_BYTES_MAX, TokenKind, WeChat, WeChatOptions};

/// Whom to ask.
struct Account {
    name: &'static str,
    origin: Origin,
    app_id: String,
    app_secret: String,
    clock: SharedClock,
}

#[test]
fn the_simulator_conforms() {
    let bench = Bench::new();
    let simulated = tubox::simulator::SimulatorOptions::loopback(bench.truth.clone(), bench.random.clone());
    conforms(&Account {
        name: "the simulator",
        origin: Origin::parse(&bench.simulator.base_url()).unwrap(),
        app_id: simulated.app_id,
        app_secret: simulated.app_secret,
        clock: bench.truth.clone(),
    });
    assert_eq!(bench.simulator.violations(), Vec::<String>::new());
}

#[test]
fn the_real_api_conforms() {
    let (Ok(app_id), Ok(app_secret)) = (std::env::var("WECHAT_APP_ID"), std::env::var("WECHAT_APP_SECRET"))
    else {
        println!("skipped: the real API was not asked, WECHAT_APP_ID and WECHAT_APP_SECRET are not set");
        return;
    };
    let origin = Origin::parse("https://api.weixin.qq.com").unwrap();
    conforms(&Account { name: "the real API", origin, app_id, app_secret, clock: SystemClock::shared() });
}

fn conforms(account: &Account) {
    let folder = tempfile::tempdir().unwrap();
    let open = |file: &str| open(account, folder.path().join(file));
    let first = open("first.json");
    first.keep();
    let ages = first.credential_ages();
    assert_eq!(ages.fault, None, "{}: no credentials", account.name);
    let seconds = ages.token_ends_in_seconds.expect("an access_token");
    assert!((299..=7200).contains(&seconds), "{}: expires_in {seconds}", account.name);
    let offset_ms = first.clock_offset_ms().expect("a Date header");
    assert!(offset_ms.abs() < 120_000, "{}: this machine's clock is off by {offset_ms} ms", account.name);

    let url = "https://pics.example.org/uploadImgDemo?from=singlemessage";
    let page = first.sign(url).expect("a jsapi_ticket");
    assert_eq!((page.url.as_str(), page.app_id.as_str()), (url, account.app_id.as_str()));
    assert!(page.signature.len() == 40 && page.signature.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(page.nonce_str.len() == 16 && page.nonce_str.bytes().all(|b| b.is_ascii_alphanumeric()));

    // Somebody else on the same account: the token that the first one holds stays good.
    let second = open("second.json");
    second.keep();
    for wechat in [&first, &second] {
        let fault = fetch_fault_of(wechat, &"A".repeat(64));
        assert_eq!(fault.code, "40007", "{}: {fault}", account.name);
        assert_eq!(wechat.credential_ages().token_refreshes, 1, "{}", account.name);
    }
    assert_eq!(fetch_fault_of(&first, DEVTOOLS_MEDIA_ID).code, "fake-id");
    println!("{} conforms: token for {seconds} s, clock off by {offset_ms} ms", account.name);
}

fn open(account: &Account, credentials_file: std::path::PathBuf) -> WeChat {
    let options = OutboundOptions::to(vec![account.origin.clone()]);
    let limits = tubox::door::outbound::OutboundLimits {
        head_bytes_max: ANSWER_HEAD_BYTES_MAX,
        ..options.limits.clone()
    };
    let door = OutboundDoor::open(OutboundOptions { limits, ..options }).unwrap();
    WeChat::open(WeChatOptions {
        app_id: account.app_id.clone(),
        app_secret: account.app_secret.clone(),
        origins: vec![account.origin.clone()],
        token_kind: TokenKind::Stable,
        credentials_file,
        door: Arc::new(door),
        clock: account.clock.clone(),
        random: OsRandom::shared(),
    })
}
