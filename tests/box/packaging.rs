//! What is packed beside the binary fits the binary: the example of the settings, and the environment and the
//! signals that the systemd unit gives. What needs systemd's or Debian's own tools is in `tests/packaging`.

use crate::running::{PATIENCE, Running};
use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tubox::config::{self, Config, WeChatConfig};
use tubox::ground::clock::SystemClock;
use tubox::ground::durable::replace_private;
use tubox::ground::random::OsRandom;
use tubox::ground::stop::Stop;
use tubox::simulator::{Fault, Route, Simulator, SimulatorOptions};

const EXAMPLE: &str = include_str!("../../packaging/tubox.toml");
const UNIT: &str = include_str!("../../packaging/tubox.service");
const KEYS: &str = include_str!("../../src/config/mod.rs");

/// Keys without a default: where the example has a made-up value.
const NEEDED: [&str; 3] = ["public_url", "wechat.app_id", "wechat.app_secret_file"];

/// The example's settings with their keys in full, as lines of TOML without sections.
fn settings() -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        }
        let setting =
            line.strip_prefix('#').filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
        if let Some((key, value)) = setting.and_then(|line| line.split_once(" = ")) {
            found.push((format!("{section}{key}"), value.to_owned()));
        }
    }
    found
}

/// Every key that `config` reads: the first text in each call of its reader.
fn keys() -> BTreeSet<String> {
    let calls = KEYS.split("reader.").skip(1).filter(|call| !call.starts_with("complain("));
    let key = |call: &str| {
        Some(call.split_once('(')?.1.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())
    };
    calls.filter_map(key).collect()
}

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tubox.toml");
    replace_private(&path, text.as_bytes()).unwrap();
    let secret = folder.path().join("app_secret");
    replace_private(&secret, b"0123456789abcdef0123456789abcdef\n").unwrap();
    let environment = vec![("TUBOX_WECHAT_APP_SECRET_FILE".to_owned(), secret.display().to_string())];
    config::load(Some(&path), &environment).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Everything in it. A new field of the account's, which does not show itself, fails to compile here.
fn in_words(config: &Config) -> String {
    let WeChatConfig {
        app_id,
        app_secret,
        app_secret_file: _,
        api_urls,
        token,
        verify_dir,
        ca_pem,
        proxy,
        force_ipv4,
        jssdk_urls,
    } = &config.wechat;
    format!(
        "{config:#?}\n{app_id} {app_secret} {api_urls:?} {token:?} {verify_dir:?} {ca_pem:?} {proxy:?} \
         {force_ipv4} {jssdk_urls:?}"
    )
}

fn toml_of(settings: &[&(String, String)]) -> String {
    settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

#[test]
fn the_example_names_every_setting_once() {
    let mut named: Vec<String> = settings().into_iter().map(|(key, _)| key).collect();
    // Beside a file for the secret the secret itself cannot stand, so it is told in prose.
    assert!(EXAMPLE.contains("in place of the file: app_secret ="));
    named.push("wechat.app_secret".to_owned());
    named.sort();
    assert!(keys().len() > 20, "the keys were not found: {:?}", keys());
    assert_eq!(named, keys().into_iter().collect::<Vec<_>>());
}

#[test]
fn each_value_in_the_example_is_the_default() {
    let settings = settings();
    let needed: Vec<_> = settings.iter().filter(|(key, _)| NEEDED.contains(&key.as_str())).collect();
    assert_eq!(needed.len(), NEEDED.len());
    let without = in_words(&load(&toml_of(&needed)));
    for setting in settings.iter().filter(|(key, _)| !NEEDED.contains(&key.as_str())) {
        let mut given = needed.clone();
        given.push(setting);
        assert_eq!(in_words(&load(&toml_of(&given))), without, "{} is not the default", setting.0);
    }
}

#[test]
fn the_example_works_with_all_its_settings_turned_on() {
    let turn_on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    let all: String = EXAMPLE.lines().map(turn_on).collect();
    assert_eq!(load(&all).public_url, "https://pics.example.org");
}

/// The value of the only line `key=` of the unit.
fn unit(key: &str) -> &'static str {
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit says nothing about {key}"));
    assert_eq!(values.next(), None, "{key} stands twice");
    value
}

/// What systemd gives to the service: a credential and a journal, nothing of a login.
fn environment_of_the_unit(root: &Path, secret: &str) -> Vec<(&'static str, String)> {
    let (id, source) = unit("LoadCredential").split_once(':').unwrap();
    assert_eq!(source, "/etc/tubox/app_secret");
    let credentials = root.join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    replace_private(&credentials.join(id), secret.as_bytes()).unwrap();
    vec![
        ("CREDENTIALS_DIRECTORY", credentials.display().to_string()),
        ("JOURNAL_STREAM", "8:12345".to_owned()),
        ("TUBOX_LISTEN", "127.0.0.1:0".to_owned()),
        ("TUBOX_PUBLIC_URL", "https://pics.example.org".to_owned()),
        ("TUBOX_DATA_DIR", root.join("state").display().to_string()),
        ("TUBOX_WECHAT_APP_ID", "wx0123456789abcdef".to_owned()),
    ]
}

fn example_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/tubox.toml")
}

#[test]
fn the_service_stops_in_time_while_a_download_hangs() {
    assert_eq!(unit("ExecStart"), "/usr/bin/tubox serve");
    let folder = tempfile::tempdir().unwrap();
    let options = SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared());
    let secret = options.app_secret.clone();
    let simulator = Simulator::start(options).unwrap();
    let id = simulator.upload(b"\xff\xd8\xff".repeat(1000), "image/jpeg");
    simulator.always(Route::MediaGet, Fault::Stall { after_body_bytes: Some(100), hold: PATIENCE * 5 });

    let mut environment = environment_of_the_unit(folder.path(), &secret);
    environment.push(("TUBOX_WECHAT_API_URLS", simulator.base_url()));
    environment.push(("TUBOX_LIMITS_OPEN_SUBMIT", "true".to_owned()));
    let notify = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    environment.push(("NOTIFY_SOCKET", notify.display().to_string()));
    let mut running = Running::serve(&example_file(), &environment);
    let address = running.address();
    assert_eq!(
        (unit("Type"), unit("NotifyAccess"), next_message(&systemd).as_str()),
        ("notify", "main", "READY=1")
    );
    let body = format!("data={{\"imgIds\":[\"{id}\"]}}");
    let answer = minimal_post(&address, "/uploadImgData", &body);
    assert!(answer.contains("\"rc\":0"), "{answer}");
    // The call is counted when it arrives; the answer to it hangs from then on.
    let deadline = tubox::ground::clock::Deadline::after(PATIENCE);
    while simulator.calls(Route::MediaGet) == 0 {
        assert!(!deadline.passed(), "the download did not begin");
        Stop::new().wait(Duration::from_millis(5));
    }

    running.terminate();
    // Signs of life may come in between; the unit is patient with several of them missing.
    let watchdog: u64 = unit("WatchdogSec").parse().unwrap();
    assert!(watchdog >= 30);
    while next_message(&systemd) != "STOPPING=1" {}
    let patience_of_the_unit: u64 = unit("TimeoutStopSec").parse().unwrap();
    let limit = Duration::from_secs(15);
    assert!(Duration::from_secs(patience_of_the_unit) > limit);
    let (status, log) = running.ended(limit).expect("still running 15 s after SIGTERM");
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line == "<6>stopped"), "{log:#?}");
    for line in &log {
        let is_marked = ["<3>", "<4>", "<6>"].iter().any(|mark| line.starts_with(mark));
        assert!(is_marked && !line.contains(&secret), "{line}");
    }
}

#[test]
fn wrong_settings_end_with_the_code_that_the_unit_does_not_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (id, stand_in) = unit("SetCredential").split_once(':').unwrap();
    assert_eq!(Some(id), unit("LoadCredential").split(':').next());
    let environment = environment_of_the_unit(folder.path(), stand_in);
    let (status, log) = Running::serve(&example_file(), &environment).ended(PATIENCE).expect("still running");
    assert_eq!(status.code().map(|code| code.to_string()).as_deref(), Some(unit("RestartPreventExitStatus")));
    let log = log.join("\n");
    assert!(log.contains("wechat.app_secret_file") && log.contains("1 to mend"), "{log}");
}

fn next_message(systemd: &UnixDatagram) -> String {
    let mut buffer = [0; 512];
    let count = systemd.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

fn minimal_post(address: &str, target: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

// --- manual page and completions: what they name is what the program takes

const MANUAL: &str = include_str!("../../packaging/man/tubox.1");
const FISH: &str = include_str!("../../packaging/completions/tubox.fish");
const ZSH: &str = include_str!("../../packaging/completions/_tubox");
const BASH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/completions/tubox.bash");

fn help(words: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tubox"));
    let output = command.args(words).arg("--help").env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Each command with its options, as the program's own help has them.
fn commands() -> Vec<(String, BTreeSet<String>)> {
    let all = help(&[]);
    let lines = all.lines().skip_while(|line| !line.starts_with("  demo"));
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.map(|name| (name.to_owned(), long_options(&help(&[name])))).collect()
}

/// Every `--word` of a text but `--help`, which all have.
fn long_options(text: &str) -> BTreeSet<String> {
    let is_inside = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split(|c| !is_inside(c)).filter(|word| word.len() > 2 && word.starts_with("--"));
    words.filter(|word| *word != "--help").map(str::to_owned).collect()
}

#[test]
fn the_help_names_commands_with_options() {
    let commands = commands();
    assert!(commands.len() >= 9, "{commands:?}");
    let of = |name: &str| &commands.iter().find(|(command, _)| command == name).unwrap().1;
    assert!(of("export").contains("--since") && of("demo").contains("--data-dir"));
}

#[test]
fn the_manual_page_names_every_command_with_its_options_and_no_other() {
    let plain = MANUAL.replace("\\-", "-");
    let body = plain.split(".SH COMMANDS").nth(1).unwrap().split(".SH OPTIONS").next().unwrap();
    let told = body.split("\n.SS ").skip(1).map(|section| {
        let name = section.lines().next().unwrap().to_owned();
        (name, long_options(section))
    });
    let told: Vec<_> = told.collect();
    for (name, options) in commands() {
        let (_, manual) = told
            .iter()
            .find(|(section, _)| *section == name)
            .unwrap_or_else(|| panic!("the manual page has no section {name}"));
        // verify and serve take --config too, which the help tells in its own words.
        assert_eq!(
            manual.difference(&options).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{name}: not in the help"
        );
        assert_eq!(
            options.difference(manual).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{name}: not in the manual"
        );
    }
    assert_eq!(told.len(), commands().len());
}

/// What bash offers behind these words.
fn bash_offers(words: &[&str]) -> BTreeSet<String> {
    let typed = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let script = format!(
        ". {BASH}; COMP_WORDS=({typed}); COMP_CWORD={}; _tubox; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.len() - 1
    );
    let output = std::process::Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_shells_offer_every_command_with_its_options_and_no_other() {
    let commands = commands();
    let names: BTreeSet<String> = commands.iter().map(|(name, _)| name.clone()).collect();
    let mut offered = bash_offers(&["tubox", ""]);
    assert!(offered.remove("--help") && offered.remove("--version"));
    assert_eq!(offered, names);
    let fish: BTreeSet<String> = FISH
        .lines()
        .filter_map(|line| line.split(" -a ").nth(1))
        .filter(|rest| !rest.starts_with('\''))
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(fish, names);

    for (name, options) in commands {
        let mut offered = bash_offers(&["tubox", &name, "--"]);
        assert!(offered.remove("--help"), "bash offers no --help behind {name}");
        assert_eq!(offered, options, "bash, {name}");

        let of_fish = FISH.lines().filter(|line| {
            let commands =
                line.split("__fish_seen_subcommand_from ").nth(1).and_then(|rest| rest.split('\'').next());
            commands.is_some_and(|commands| commands.split(' ').any(|command| command == name))
        });
        let of_fish: BTreeSet<String> = of_fish
            .filter_map(|line| Some(format!("--{}", line.split(" -l ").nth(1)?.split(' ').next()?)))
            .collect();
        assert_eq!(of_fish, options, "fish, {name}");

        let line = ZSH.lines().find(|line| line.starts_with(&format!("{name}) ")));
        let line = line.unwrap_or_else(|| panic!("zsh does not know {name}"));
        assert_eq!(long_options(line), options, "zsh, {name}");
        assert!(ZSH.contains(&format!("'{name}:")) || ZSH.contains(&format!("\"{name}:")));
    }
}

#[test]
fn the_manual_page_of_the_settings_has_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let made =
        std::process::Command::new(root.join("settings-page")).arg(root.join("tubox.toml")).output().unwrap();
    let page = String::from_utf8(made.stdout).unwrap();
    for (key, value) in settings() {
        let name = key.rsplit('.').next().unwrap();
        let at = page.find(&format!("\n.TP\n\\fB{name}\\fR\n")).unwrap_or_else(|| panic!("{key} is missing"));
        let roff = value.replace('-', "\\-");
        assert!(page[at..].contains(&format!("example: \\fI{roff}\\fR\n")), "{key} {value}");
    }
}
