//! `tubox check` against each thing that can be wrong: the whole text, the whole JSON and the exit code.
//!
//! What depends on the machine (speeds, free space, kind of disk, time zone) is masked; everything else is
//! compared as it is. The public address is a small proxy of the test's own, which can be made to misbehave.

use crate::check_rig::*;
use crate::program::simulator;
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tubox::ground::clock::{SystemClock, TestClock};
use tubox::ground::random::OsRandom;
use tubox::simulator::{Fault, Quota, Route, Simulator, SimulatorOptions};

#[test]
fn all_is_well_before_the_first_start_and_beside_a_running_box() {
    let mut rig = Rig::new(simulator());
    let before = rig.check();
    assert_says(&before, 0, BEFORE, "no faults; warnings: 3");
    assert!(!rig.folder.path().join("data").exists(), "a check makes no folder");

    let program = rig.with_box();
    let calls = rig.simulator.calls(Route::StableToken);
    let beside = rig.check();
    assert_says(&beside, 0, &with(BEFORE, BESIDE), "no faults; warnings: 1");
    assert_eq!(
        rig.simulator.calls(Route::StableToken),
        calls + 2,
        "one harmless call for each of the two checks"
    );
    let log = program.log_text();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "the box was disturbed:\n{log}");
    program.stop();
}

#[test]
fn it_speaks_the_language_of_the_locale() {
    let rig = Rig::new(simulator());
    rig.simulator.allow_ips(Some(Vec::new()));
    let (code, text, _) = rig.run("zh_CN.UTF-8", &[]);
    assert_eq!(code, Some(1));
    let text = rig.masked(&text);
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains("IP") || line.contains("项故障")).collect();
    assert_eq!(
        lines[0].split(" rid").next().unwrap(),
        "故障  IP 白名单：本机 IP 不在白名单中（40164）：invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist"
    );
    // How many depends on the machine.
    let warnings = text.lines().filter(|line| line.starts_with("注意")).count();
    assert_eq!(
        &lines[1..],
        [
            "      处理方法：203.0.113.7：把该 IP 加入 IP 白名单：微信开发者平台 → 我的业务 → 基础信息 → 开发信息",
            "注意  access_token：未检查，因为微信不接受本机的 IP",
            &*format!("1 项故障，{warnings} 项需要注意：请从上往下处理，前面的故障可能是后面的原因"),
        ]
    );
    let (_, json, _) = rig.run("zh_CN.UTF-8", &["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["checks"][0]["title"]), (&Value::Bool(false), &Value::from("设置")));
}

/// One fault of WeChat's, before a box runs.
fn assert_refusal(set: impl Fn(&mut Rig), changes: &[(&str, &str)], verdict: &str) {
    let mut rig = Rig::new(simulator());
    set(&mut rig);
    assert_says(&rig.check(), 1, &with(BEFORE, changes), verdict);
}

const NO_TICKET: (&str, &str) =
    ("jsapi_ticket", "warning  jsapi_ticket: not tried because there is no access_token");
const NO_ACCOUNT: (&str, &str) = ("account", "warning  account: not tried because there is no access_token");
const NO_ADDRESS: (&str, &str) =
    ("IP whitelist", "warning  IP whitelist: not tried because WeChat gave no access_token");

#[test]
fn a_wrong_secret_is_named_and_not_shown() {
    let wrong = "0123456789abcdef0123456789abcdef";
    let give = |rig: &mut Rig| std::fs::write(rig.folder.path().join("app_secret"), wrong).unwrap();
    let changes = [
        NO_ADDRESS,
        (
            "access_token",
            "FAULT    access_token: the AppSecret is wrong or was reset (40125): invalid appsecret
         what to do: check the setting wechat.app_secret, or reset it and enter the new one",
        ),
        NO_TICKET,
        NO_ACCOUNT,
    ];
    assert_refusal(give, &changes, VERDICT_1_6);
    let rig = Rig::new(simulator());
    std::fs::write(rig.folder.path().join("app_secret"), wrong).unwrap();
    for arg in [&[][..], &["--json"]] {
        let (_, text, errors) = rig.run("C", arg);
        assert!(!text.contains(wrong) && !errors.contains(wrong), "{text}");
    }
}

const VERDICT_1_6: &str =
    "faults: 1, warnings: 6; mend them from top to bottom, an earlier one may cause a later one";
const VERDICT_1_3: &str =
    "faults: 1, warnings: 3; mend them from top to bottom, an earlier one may cause a later one";

#[test]
fn the_address_for_the_whitelist_is_printed() {
    let changes = [
        (
            "IP whitelist",
            "FAULT    IP whitelist: the address that WeChat saw is not in the IP whitelist (40164): invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist
         what to do: 203.0.113.7: add this address to the IP whitelist: WeChat developer platform → my business → basic information → development",
        ),
        ("access_token", "warning  access_token: not tried because WeChat does not take calls from this address"),
        NO_TICKET,
        NO_ACCOUNT,
    ];
    assert_refusal(|rig| rig.simulator.allow_ips(Some(Vec::new())), &changes, VERDICT_1_6);
}

#[test]
fn a_used_up_quota_is_told_where_it_strikes() {
    let none = Quota { per_day: Some(0), per_minute: None };
    let changes = [
        NO_ADDRESS,
        (
            "access_token",
            "FAULT    access_token: today's quota of calls is used up (45009): reach max api daily quota limit
         what to do: it goes on by itself tomorrow; the quota can also be cleared in the console (10 times a month)",
        ),
        NO_TICKET,
        NO_ACCOUNT,
    ];
    assert_refusal(|rig| rig.simulator.set_quota(Route::StableToken, none), &changes, VERDICT_1_6);
    let changes = [(
        "account",
        "FAULT    account: today's quota of calls is used up (45009): reach max api daily quota limit
         what to do: it goes on by itself tomorrow; the quota can also be cleared in the console (10 times a month)",
    )];
    assert_refusal(|rig| rig.simulator.set_quota(Route::MediaGet, none), &changes, VERDICT_1_3);
}

#[test]
fn an_unverified_account_is_told_before_the_first_picture() {
    let changes = [(
        "account",
        "FAULT    account: the account may not use this interface (not verified?) (48001): api unauthorized
         what to do: fetching pictures needs a verified account: have the account verified (微信认证)",
    )];
    assert_refusal(|rig| rig.simulator.always(Route::MediaGet, Fault::code(48001)), &changes, VERDICT_1_3);
}

#[test]
fn a_captive_portal_is_no_wechat() {
    let changes = [
        (
            "way to WeChat",
            "FAULT    way to WeChat: the network answers with a web page instead of WeChat (a log-in page?): <!DOCTYPE html>\\u{a}<html><head><title>Welcome to Airport Wi-Fi<
         what to do: log the box in to its network",
        ),
        ("IP whitelist", "warning  IP whitelist: not tried because WeChat was not reached"),
        ("access_token", "warning  access_token: not tried because WeChat was not reached"),
        NO_TICKET,
        NO_ACCOUNT,
    ];
    let verdict =
        "faults: 1, warnings: 7; mend them from top to bottom, an earlier one may cause a later one";
    assert_refusal(|rig| rig.simulator.always(Route::StableToken, Fault::CaptivePortal), &changes, verdict);
}

/// A simulator whose clock differs from this machine's.
fn simulator_ahead(by_ms: i64) -> Simulator {
    let clock = TestClock::at(SystemClock::shared().wall_ms() + by_ms);
    Simulator::start(SimulatorOptions::loopback(clock, OsRandom::shared())).unwrap()
}

#[test]
fn a_wrong_clock_is_a_fault_and_a_drifting_one_a_warning() {
    let remedy = "\n         what to do: set the clock: turn network time on (timedatectl set-ntp true) or add a clock module";
    let cases = [
        (210 * 86_400_000 + 3_600_000, 1, "FAULT    clock: 210 d behind WeChat's", VERDICT_1_3),
        (-190 * 60_000, 1, "FAULT    clock: 3 h ahead of WeChat's", VERDICT_1_3),
        (215_000, 0, "warning  clock: 3 min behind WeChat's", "no faults; warnings: 4"),
    ];
    for (by_ms, code, line, verdict) in cases {
        let rig = Rig::new(simulator_ahead(by_ms));
        let changed = format!("{line}{remedy}");
        assert_says(&rig.check(), code, &with(BEFORE, &[("clock", &changed)]), verdict);
    }
}

#[test]
fn a_stranger_on_the_port_is_told_from_our_own_box() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new(simulator());
    rig.set("TUBOX_LISTEN", listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    let port = rig.settings.last().unwrap().1.rsplit_once(':').unwrap().1.to_owned();
    let taken = format!(
        "FAULT    port: another program has LISTEN
         what to do: see which one with ss -ltnp 'sport = :{port}'; stop it, or change the setting listen"
    );
    assert_says(&rig.check(), 1, &with(BEFORE, &[("port", &taken), ("box", "")]), VERDICT_1_3);
}

#[test]
fn another_box_on_the_port_does_not_get_our_token() {
    let mut theirs = Rig::new(simulator());
    let _program = theirs.with_box();
    let mut rig = Rig::new(simulator());
    let address = theirs.settings.iter().find(|(key, _)| key == "TUBOX_LISTEN").unwrap().1.clone();
    rig.set("TUBOX_LISTEN", address);
    let taken = "FAULT    port: another box has LISTEN, with another data folder than FOLDER/data
         what to do: stop it, or change the setting listen or data_dir";
    // A box runs here, so somebody should answer at the public address.
    let silent = "FAULT    public address: the proxy of PUBLIC does not reach the box (502)
         what to do: let the proxy hand the whole domain to http://LISTEN";
    let report = with(BEFORE, &[("port", taken), ("box", ""), ("public address", silent)]);
    assert_says(
        &rig.check(),
        1,
        &report,
        "faults: 2, warnings: 2; mend them from top to bottom, an earlier one may cause a later one",
    );
}

/// Root may write anywhere, so a file stands where the folder should be.
#[test]
fn a_data_folder_that_cannot_be_is_a_fault() {
    let rig = Rig::new(simulator());
    std::fs::write(rig.folder.path().join("data"), b"").unwrap();
    let no_folder = "FAULT    data folder: could not use FOLDER/data: not a directory
         what to do: set data_dir to the path of a folder";
    let no_pictures =
        "FAULT    pictures folder: could not use FOLDER/data/pictures: Not a directory (os error 20)
         what to do: set pictures_dir to the path of a folder";
    let report = with(
        BEFORE,
        &[
            ("data folder", no_folder),
            ("file system of the data", ""),
            ("pictures folder", no_pictures),
            ("file system of the pictures", ""),
            ("space", ""),
        ],
    );
    assert_says(
        &rig.check(),
        1,
        &report,
        "faults: 2, warnings: 3; mend them from top to bottom, an earlier one may cause a later one",
    );
}

#[test]
fn a_missing_domain_file_is_a_warning() {
    let rig = Rig::new(simulator());
    std::fs::remove_file(rig.folder.path().join("verify").join(DOMAIN_FILE)).unwrap();
    let missing = "warning  domain file: there is no MP_verify_*.txt in FOLDER/verify
         what to do: download it where the WeChat console asks for the JS interface domain (JS接口安全域名), and put it into wechat.verify_dir";
    let report = with(BEFORE, &[("domain file", missing), ("domain file in public", "")]);
    assert_says(&rig.check(), 0, &report, "no faults; warnings: 3");
    let copy = rig.folder.path().join("verify/MP_verify_AbCdEf0123456789 (1).txt");
    std::fs::write(copy, b"AbCdEf0123456789").unwrap();
    let renamed = "warning  domain file: MP_verify_AbCdEf0123456789 (1).txt in FOLDER/verify is not served: its name was changed, or it is too long
         what to do: download it again and keep its name";
    let report = with(BEFORE, &[("domain file", renamed), ("domain file in public", "")]);
    assert_says(&rig.check(), 0, &report, "no faults; warnings: 3");
}

#[test]
fn pictures_in_memory_are_a_fault() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let kind = std::process::Command::new("stat").args(["-f", "-c", "%T", "/dev/shm"]).output().unwrap();
    assert_eq!(kind.stdout, b"tmpfs\n", "this test needs /dev/shm to be in memory");
    std::fs::set_permissions(memory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut rig = Rig::new(simulator());
    rig.set("TUBOX_PICTURES_DIR", memory.path().display().to_string());
    let owner =
        format!("ok       pictures folder: {}, owner OWNER, mode 0700, writable", memory.path().display());
    let report = with(
        BEFORE,
        &[
            ("settings", "ok       settings: read from /dev/null and 9 environment variables"),
            ("pictures folder", &owner),
            (
                "file system of the pictures",
                "FAULT    file system of the pictures: tmpfs: lives in memory: all pictures are lost at a reboot
         what to do: take a disk or card of this machine (ext4)",
            ),
            ("space", "?        space\n?        space for the data"),
        ],
    );
    assert_says(&rig.check(), 1, &report, VERDICT_1_3);
    assert_nothing_left(memory.path());
}

#[test]
fn a_secret_that_everybody_may_read_is_a_warning() {
    let rig = Rig::new(simulator());
    let path = rig.folder.path().join("app_secret");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = "warning  secret: present (not shown), but everybody on this machine may use FOLDER/app_secret (mode 0644)
         what to do: chmod o-rwx FOLDER/app_secret";
    assert_says(&rig.check(), 0, &with(BEFORE, &[("secret", open)]), "no faults; warnings: 4");
}

/// A proxy that is nearly right breaks the signature or the domain file, and says nothing about it.
#[test]
fn what_a_proxy_does_to_the_page_is_seen() {
    let mut rig = Rig::new(simulator());
    let _program = rig.with_box();
    let well = with(BEFORE, BESIDE);
    let no_page = "not tried because the public address does not show the box's page";
    let file = format!("warning  domain file in public: {no_page}");
    let page = format!("warning  page's signature: {no_page}");

    *rig.proxy.manner.lock().unwrap() = Manner::AddsLineEnd;
    let longer = "FAULT    domain file in public: /MP_verify_AbCdEf0123456789.txt does not arrive as it is: white space at its start or end differs
         what to do: let the proxy hand addresses that begin with /MP_verify_ to the box unchanged; the box must have the same wechat.verify_dir";
    let one = "faults: 1, warnings: 1; mend them from top to bottom, an earlier one may cause a later one";
    assert_says(&rig.check(), 1, &with(&well, &[("domain file in public", longer)]), one);

    *rig.proxy.manner.lock().unwrap() = Manner::Redirects;
    let redirected = "FAULT    public address: PUBLIC sends visitors on to https://www.example.org/
         what to do: set public_url to the address that phones end up at, or take the redirect out of the proxy";
    let report = with(
        &well,
        &[("public address", redirected), ("domain file in public", &file), ("page's signature", &page)],
    );
    let two = "faults: 1, warnings: 2; mend them from top to bottom, an earlier one may cause a later one";
    assert_says(&rig.check(), 1, &report, two);

    *rig.proxy.manner.lock().unwrap() = Manner::OwnSite;
    let other = "FAULT    public address: PUBLIC shows something else than the box's page (status 200)
         what to do: let the proxy hand the whole domain to http://LISTEN";
    let report = with(
        &well,
        &[("public address", other), ("domain file in public", &file), ("page's signature", &page)],
    );
    assert_says(&rig.check(), 1, &report, two);

    *rig.proxy.manner.lock().unwrap() = Manner::DropsQuery;
    let (code, text, _) = rig.run("C", &[]);
    assert_eq!(code, Some(1));
    let text = rig.masked(&text);
    assert!(text.contains("was asked for, and the page is signed for PUBLIC/uploadImgDemo\n         what to do: the proxy changes or drops the query: let it hand the address on unchanged\n"), "{text}");
}

/// Each call for a classic token ends the one before, so a running box is asked instead.
#[test]
fn a_classic_token_of_a_running_box_is_left_alone() {
    let mut rig = Rig::new(simulator());
    rig.set("TUBOX_WECHAT_TOKEN", "classic");
    let program = rig.with_box();
    let calls = rig.simulator.calls_total();
    let because = "not tried because with wechat.token = \"classic\" a new token would end the one of the box that runs";
    let way = format!("warning  way to WeChat: {because}");
    let address = format!("warning  IP whitelist: {because}");
    let account = format!("warning  account: {because}");
    let report = with(
        &with(BEFORE, BESIDE),
        &[
            ("settings", "ok       settings: read from /dev/null and 9 environment variables"),
            ("way to WeChat", &way),
            ("IP whitelist", &address),
            ("access_token", "ok       access_token: the running box has one for 119 min"),
            ("jsapi_ticket", "ok       jsapi_ticket: the running box has one, aged 0 min"),
            ("account", &account),
        ],
    );
    let said = rig.check();
    let said = Said { text: said.text.replace("one for 120 min", "one for 119 min"), ..said };
    assert_says(&said, 0, &report, "no faults; warnings: 4");
    assert_eq!(rig.simulator.calls_total(), calls, "WeChat was not called at all");
    program.stop();
    let before = rig.simulator.calls(Route::Token);
    rig.set("TUBOX_LISTEN", "127.0.0.1:0");
    let (code, text, _) = rig.run("C", &[]);
    assert!(text.contains("ok       access_token: got one (not shown)"), "{code:?} {text}");
    assert_eq!(rig.simulator.calls(Route::Token), before + 1, "nobody uses one now");
}

#[test]
fn settings_that_cannot_be_used_are_listed_and_end_with_2() {
    let mut rig = Rig::new(simulator());
    rig.set("TUBOX_PUBLIC_URL", "pics.example.org");
    rig.set("TUBOX_LISTN", "x");
    let (code, text, errors) = rig.run("C", &[]);
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert!(errors.contains("2 to mend") && errors.contains("did you mean listen?"), "{errors}");
    let (code, text, _) = rig.run("C", &["--json"]);
    assert_eq!(code, Some(2));
    let expected = serde_json::json!({"ok": false, "checks": [
        {"id": "settings", "state": "fault", "title": "settings",
         "detail": "public_url = \"pics.example.org\" is not allowed",
         "remedy": "give the origin that phones see, such as https://pics.example.org"},
        {"id": "settings", "state": "fault", "title": "settings",
         "detail": "listn is no setting", "remedy": "remove it, or did you mean listen?"},
    ]});
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    let output = crate::program::run(&["check", "--jsn"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

/// A listener that takes connections and says nothing.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn it_ends_soon_when_nobody_answers() {
    let (_port, listen) = silent();
    let (_wechat, api) = silent();
    let (_public, public) = silent();
    let mut rig = Rig::new(simulator());
    rig.set("TUBOX_LISTEN", listen.to_string());
    rig.set("TUBOX_PUBLIC_URL", format!("https://{public}"));
    rig.set("TUBOX_WECHAT_API_URLS", format!("https://{api}"));
    let started = Instant::now();
    let (code, text, _) = rig.run("C", &[]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(code, Some(1));
    for line in [
        "FAULT    port: another program has ",
        "FAULT    way to WeChat: WeChat cannot be reached: could not speak TLS with 127.0.0.1: the handshake did not end within the time limit\n",
        "warning  access_token: not tried because WeChat was not reached\n",
        "warning  public address: ",
        "warning  page's signature: not tried because the public address was not reached\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

/// A TLS server on loopback whose certificate is valid from 2090 on.
fn tls_of_the_future() -> (SocketAddr, String) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2090, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    let pem = certificate.pem();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (listener, address) = silent();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        }
    });
    (address, pem)
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_called_a_wrong_clock() {
    let (address, pem) = tls_of_the_future();
    let mut rig = Rig::new(simulator());
    let ca_file = rig.folder.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    rig.set("TUBOX_WECHAT_CA_FILE", ca_file.display().to_string());
    rig.set("TUBOX_WECHAT_API_URLS", format!("https://localhost:{}", address.port()));
    let (code, text, _) = rig.run("C", &[]);
    assert_eq!(code, Some(1));
    let line =
        |title: &str| text.lines().find(|line| line.contains(title)).unwrap_or_else(|| panic!("{text}"));
    let way = line("way to WeChat");
    assert!(
        way.starts_with(
            "FAULT    way to WeChat: the box's clock is wrong: WeChat's certificate is not valid yet: "
        ),
        "{way}"
    );
    assert!(way.contains("its certificate is valid from 2090-01-01T00:00:00.000Z on, and this machine believes that it is 20"), "{way}");
    let clock = line(" clock: ");
    assert!(
        clock.starts_with("FAULT    clock: 20")
            && clock.ends_with("? WeChat's certificate is not valid yet, so the clock is behind"),
        "{clock}"
    );
}
