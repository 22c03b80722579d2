//! What `tubox check` is tried with: a box, WeChat, a proxy that can be made to misbehave; and what it says when all is
//! well.

use crate::program::{Program, ask, tubox};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tubox::simulator::Simulator;

pub const APP_SECRET: &str = "5ec2e70f5ec2e70f5ec2e70f5ec2e70f";
pub const DOMAIN_FILE: &str = "MP_verify_AbCdEf0123456789.txt";

/// How the proxy in front of the box behaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Faithful,
    DropsQuery,
    AddsLineEnd,
    Redirects,
    OwnSite,
}

/// A proxy on loopback; answers 502 while there is no box behind it.
#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    pub behind: Arc<Mutex<Option<SocketAddr>>>,
    pub manner: Arc<Mutex<Manner>>,
}

impl Proxy {
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy { address, behind: Arc::default(), manner: Arc::new(Mutex::new(Manner::Faithful)) };
        let serving = proxy.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serving.serve(stream);
            }
        });
        proxy
    }

    pub fn serve(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let manner = *self.manner.lock().unwrap();
        let (status, mut body) = match (*self.behind.lock().unwrap(), manner) {
            (_, Manner::Redirects) => (301, Vec::new()),
            (_, Manner::OwnSite) => (200, b"<h1>It works!</h1>".to_vec()),
            (None, _) => (502, b"bad gateway".to_vec()),
            (Some(behind), _) => {
                let path = target.split('?').next().unwrap();
                let target = if manner == Manner::DropsQuery { path } else { &target };
                let reply = ask(behind, "GET", target, &[], b"");
                (reply.status, reply.body)
            }
        };
        if manner == Manner::AddsLineEnd {
            body.push(b'\n');
        }
        let head = format!(
            "HTTP/1.1 {status} x\r\nLocation: https://www.example.org/\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
    }
}

/// What `tubox check` is run with.
pub struct Rig {
    pub folder: TempDir,
    pub simulator: Simulator,
    pub proxy: Proxy,
    pub settings: Vec<(String, String)>,
}

/// What it said.
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Rig {
    pub fn new(simulator: Simulator) -> Rig {
        // The build's own folder: the usual place for temporary files may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let proxy = Proxy::start();
        let verify_dir = folder.path().join("verify");
        std::fs::create_dir(&verify_dir).unwrap();
        std::fs::write(verify_dir.join(DOMAIN_FILE), b"AbCdEf0123456789").unwrap();
        let secret_file = folder.path().join("app_secret");
        std::fs::write(&secret_file, APP_SECRET).unwrap();
        std::fs::set_permissions(&secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = [
            ("TUBOX_LISTEN", "127.0.0.1:0".to_owned()),
            ("TUBOX_PUBLIC_URL", format!("http://{}", proxy.address)),
            ("TUBOX_DATA_DIR", folder.path().join("data").display().to_string()),
            ("TUBOX_WECHAT_APP_ID", "wx0123456789abcdef".to_owned()),
            ("TUBOX_WECHAT_APP_SECRET_FILE", secret_file.display().to_string()),
            ("TUBOX_WECHAT_API_URLS", simulator.base_url()),
            ("TUBOX_WECHAT_VERIFY_DIR", verify_dir.display().to_string()),
            ("TUBOX_LIMITS_MIN_FREE_BYTES", "1048576".to_owned()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value)).to_vec();
        Rig { folder, simulator, proxy, settings }
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.into()));
    }

    /// Starts a box with these settings behind the proxy; the check is then told where it listens.
    pub fn with_box(&mut self) -> Program {
        let extra: Vec<(&str, &str)> = self
            .settings
            .iter()
            .filter(|(key, _)| key != "TUBOX_WECHAT_APP_SECRET_FILE")
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let program = Program::serve_in(tempfile::tempdir().unwrap(), &self.simulator, &extra);
        program.wait_for_log("got a new jsapi_ticket");
        self.set("TUBOX_LISTEN", program.address.to_string());
        *self.proxy.behind.lock().unwrap() = Some(program.address);
        program
    }

    pub fn run(&self, language: &str, arg: &[&str]) -> (Option<i32>, String, String) {
        let output = tubox()
            .args(["check", "--config", "/dev/null"])
            .args(arg)
            .env("LANG", language)
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .output()
            .unwrap();
        let (text, errors) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        for secret in self.secrets() {
            assert!(
                !text.contains(&secret) && !errors.contains(&secret),
                "a secret is shown:\n{text}{errors}"
            );
        }
        (output.status.code(), text, errors)
    }

    /// Runs it for people and for scripts; both must say the same.
    pub fn check(&self) -> Said {
        let (code, text, errors) = self.run("C", &[]);
        assert_eq!(errors, "");
        let (json_code, json, errors) = self.run("C", &["--json"]);
        assert_eq!((json_code, errors.as_str()), (code, ""));
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["ok"], code == Some(0));
        let text = self.masked(&text);
        let (lines, verdict) = text.rsplit_once("\n\n").unwrap();
        assert_eq!(self.masked(&as_text(&json)), format!("{lines}\n"), "text and JSON differ");
        assert!(!verdict.is_empty());
        assert_nothing_left(self.folder.path());
        assert_eq!(self.simulator.violations(), Vec::<String>::new());
        Said { code, text }
    }

    /// Everything that must never be shown, the token and the ticket of a running box included.
    pub fn secrets(&self) -> Vec<String> {
        let data_dir = self.folder.path().join("data");
        let mut secrets = vec![APP_SECRET.to_owned()];
        secrets.extend(
            std::fs::read_to_string(data_dir.join("admin_token")).map(|token| token.trim().to_owned()),
        );
        let kept = std::fs::read(data_dir.join("credentials.json")).unwrap_or_default();
        let kept: Value = serde_json::from_slice(&kept).unwrap_or_default();
        secrets.extend(["token", "ticket"].iter().filter_map(|key| Some(kept[key][0].as_str()?.to_owned())));
        assert!(secrets.iter().all(|secret| secret.len() >= 16), "{secrets:?}");
        secrets
    }

    /// The text with paths and ports named, and with what the machine measures left out, in the verdict too.
    pub fn masked(&self, text: &str) -> String {
        let setting = |key: &str| {
            self.settings.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()).unwrap()
        };
        let named = text
            .replace(&format!("http://{}", self.proxy.address), "PUBLIC")
            .replace(&self.simulator.base_url(), "WECHAT")
            .replace(&self.folder.path().display().to_string(), "FOLDER")
            .replace(&setting("TUBOX_LISTEN"), "LISTEN");
        let mut lines = Vec::new();
        let mut measured_warnings = 0;
        for line in named.lines() {
            let line = line.split(" rid: ").next().unwrap_or_default();
            let measured = [
                "file system of the data",
                "file system of the pictures",
                "space",
                "space for the data",
                "sync latency",
                "write speed",
                "descriptors",
                "time zone",
                "memory",
            ];
            let title = line.get(9..).and_then(|rest| rest.split(": ").next()).unwrap_or_default();
            match measured.contains(&title) {
                // tmpfs is what one test is about.
                true if line.contains("tmpfs") => lines.push(line.to_owned()),
                true => {
                    measured_warnings += usize::from(line.starts_with("warning"));
                    lines.push(format!("?        {title}"));
                }
                false => lines.push(without_warnings(line, measured_warnings)),
            }
        }
        // The remedy of a measured line is left out with it.
        let mut kept: Vec<String> = Vec::new();
        for line in lines {
            let after_measured = kept.last().is_some_and(|last| last.starts_with('?'));
            if !(after_measured && line.starts_with("         what to do")) {
                kept.push(line);
            }
        }
        kept.retain(|line| line != "?        memory");
        kept.join("\n") + "\n"
    }
}

/// A verdict that does not count so many of the warnings; any other line as it is.
pub fn without_warnings(line: &str, left_out: usize) -> String {
    let counted = |(before, after): (&str, &str)| {
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let count = after[..end].parse::<usize>().ok()?.checked_sub(left_out)?;
        Some(format!("{before}warnings: {count}{}", &after[end..]))
    };
    line.split_once("warnings: ").and_then(counted).unwrap_or_else(|| line.to_owned())
}

/// The JSON as `tubox check` would write it for people, by a second pen.
pub fn as_text(json: &Value) -> String {
    let mut text = String::new();
    for check in json["checks"].as_array().unwrap() {
        let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["detail", "id", "remedy", "state", "title"]);
        let state = match check["state"].as_str().unwrap() {
            "ok" => "ok     ",
            "warning" => "warning",
            "fault" => "FAULT  ",
            other => panic!("unknown state {other}"),
        };
        let (title, detail) = (check["title"].as_str().unwrap(), check["detail"].as_str().unwrap());
        text += &format!("{state}  {title}: {detail}\n");
        if let Some(remedy) = check["remedy"].as_str() {
            text += &format!("         what to do: {remedy}\n");
        }
    }
    text
}

pub fn assert_nothing_left(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with(".tubox-check"), "{name} was left behind");
        if entry.path().is_dir() {
            assert_nothing_left(&entry.path());
        }
    }
}

/// The report before a box runs, when everything else is well.
pub const BEFORE: &str = "\
ok       settings: read from /dev/null and 8 environment variables
ok       secret: present (not shown), in FOLDER/app_secret
ok       trusted proxies: X-Forwarded-For is believed from 127.0.0.1, ::1
ok       port: LISTEN is free
ok       box: does not run
ok       data folder: FOLDER/data is not there yet; the first start makes it
?        file system of the data
ok       pictures folder: FOLDER/data/pictures is not there yet; the first start makes it
?        file system of the pictures
?        space
?        sync latency
?        write speed
?        descriptors
?        time zone
ok       way to WeChat: WECHAT answers
ok       clock: agrees with WeChat's to within 5 s
ok       IP whitelist: WeChat takes calls from this address
ok       access_token: got one (not shown)
ok       jsapi_ticket: got one (not shown)
ok       account: may fetch pictures
ok       domain file: MP_verify_AbCdEf0123456789.txt
warning  public address: the proxy of PUBLIC answers (502), and there is no box behind it
         what to do: the box does not run yet: start it, then check again
warning  domain file in public: not tried because the public address does not show the box's page
warning  page's signature: not tried because the public address does not show the box's page
";

/// What a running box changes in it.
pub const BESIDE: &[(&str, &str)] = &[
    ("port", "ok       port: our own box answers on LISTEN"),
    ("box", "ok       box: runs; waiting pictures: 0"),
    ("data folder", "ok       data folder: FOLDER/data, owner OWNER, mode 0700, writable"),
    ("pictures folder", "ok       pictures folder: FOLDER/data/pictures, owner OWNER, mode 0700, writable"),
    (
        "public address",
        "warning  public address: PUBLIC answers, but this machine alone can reach it\n         what to do: good for trials only; real use needs a domain with https",
    ),
    (
        "domain file in public",
        "ok       domain file in public: /MP_verify_AbCdEf0123456789.txt arrives byte for byte",
    ),
    (
        "page's signature",
        "ok       page's signature: made for exactly the address that was asked for, its query included",
    ),
];

/// `report` with some of its lines, named by their titles, replaced; with their remedies.
pub fn with(report: &str, changes: &[(&str, &str)]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in report.lines() {
        match (line.starts_with("         "), lines.last_mut()) {
            (true, Some(last)) => *last += &format!("\n{line}"),
            _ => lines.push(line.to_owned()),
        }
    }
    for (title, to) in changes {
        let of = |line: &&mut String| line.get(9..).and_then(|rest| rest.split(": ").next()) == Some(title);
        let line = lines.iter_mut().find(of).unwrap_or_else(|| panic!("no line {title}"));
        *line = (*to).to_owned();
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n") + "\n"
}

/// Compares the whole text and the exit code.
pub fn assert_says(said: &Said, code: i32, report: &str, verdict: &str) {
    let owner =
        String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let expected = format!("{report}\n{verdict}\n").replace("OWNER", owner.trim());
    if said.text != expected {
        let differ = said.text.lines().zip(expected.lines()).find(|(is, should)| is != should);
        panic!("{differ:#?}\nthe whole:\n{}", said.text);
    }
    assert_eq!(said.code, Some(code));
}
