//! The box behind a real nginx and a real Caddy with the configurations that we hand out: what passes unchanged, who
//! the visitor is, and that the two agree about sizes and times. Needs `nginx` (Debian: nginx-light), `caddy`, `curl`.

use crate::fronts::{
    CADDY, CADDYFILE, NGINX, NGINX_SITE, Server, caddyfile, changed, errors, make_certificate,
};
use crate::running::{PATIENCE, Running};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tubox::door::inbound::InboundLimits;
use tubox::ground::clock::{Deadline, SystemClock};
use tubox::ground::durable::replace_private;
use tubox::ground::random::OsRandom;
use tubox::ground::stop::Stop;
use tubox::simulator::{Simulator, SimulatorOptions};

const HOST: &str = "pics.example.org";
/// What phones come with: a link that was passed on, with everything that a proxy could be tempted to tidy.
const TARGET: &str =
    "/uploadImgDemo?from=singlemessage&isappinstalled=0&q=%E7%9B%92%2f..%2F//&x=a+b~!&y=/../";

/// A server in front of the box.
struct Front {
    name: &'static str,
    /// Each has a loopback address of its own, so that no other test's ports are in its way.
    ip: &'static str,
    start: fn(&Path, &str, &str) -> (Server, Ports),
    redirects_with: u16,
}

const FRONTS: [Front; 2] = [
    Front { name: "nginx", ip: "127.71.0.1", start: start_nginx, redirects_with: 301 },
    Front { name: "Caddy", ip: "127.71.0.3", start: start_caddy, redirects_with: 308 },
];

/// A front, the box behind it and WeChat behind that.
struct Street {
    front: &'static Front,
    _server: Server,
    box_: Running,
    box_address: String,
    simulator: Simulator,
    ports: Ports,
    folder: tempfile::TempDir,
}

/// Where the front listens: TLS; plain for the same pages, whatever name is asked for; and plain as handed out (only
/// a redirect).
#[derive(Clone, Copy)]
struct Ports {
    tls: u16,
    plain: Option<u16>,
    redirect: u16,
}

fn start_nginx(folder: &Path, ip: &str, box_address: &str) -> (Server, Ports) {
    let path = |name: &str| folder.join(name).display().to_string();
    let site = |[tls, plain, redirect]: [u16; 3]| {
        let changes = [
            ("server 127.0.0.1:8080;", format!("server {box_address};")),
            ("listen 80;", format!("listen {ip}:{redirect};")),
            ("listen [::]:80;", String::new()),
            ("listen 443 ssl http2;", format!("listen {ip}:{tls} ssl http2; listen {ip}:{plain};")),
            ("listen [::]:443 ssl http2;", String::new()),
            ("/etc/letsencrypt/live/pics.example.org/fullchain.pem", path("fullchain.pem")),
            ("/etc/letsencrypt/live/pics.example.org/privkey.pem", path("privkey.pem")),
            ("/var/log/nginx/tubox.log", path("access.log")),
        ];
        changed(NGINX_SITE, &changes)
    };
    let (server, [tls, plain, redirect]) = NGINX.start(folder, ip, site);
    (server, Ports { tls, plain: Some(plain), redirect })
}

fn start_caddy(folder: &Path, ip: &str, box_address: &str) -> (Server, Ports) {
    let site = |ports| {
        let to_the_box = ("reverse_proxy 127.0.0.1:8080", format!("reverse_proxy {box_address}"));
        changed(&caddyfile(folder, ip, ports), &[to_the_box])
    };
    let (server, [tls, redirect, _]) = CADDY.start(folder, ip, site);
    (server, Ports { tls, plain: None, redirect })
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Street {
    fn open(front: &'static Front, more: &[(&str, &str)]) -> Street {
        let folder = tempfile::tempdir().unwrap();
        let options = SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared());
        let settings = [
            ("LISTEN", "127.0.0.1:0".to_owned()),
            ("PUBLIC_URL", format!("https://{HOST}")),
            ("DATA_DIR", folder.path().join("data").display().to_string()),
            ("WECHAT_APP_ID", options.app_id.clone()),
            ("WECHAT_APP_SECRET", options.app_secret.clone()),
        ];
        let simulator = Simulator::start(options).unwrap();
        let mut environment = settings.to_vec();
        environment.push(("WECHAT_API_URLS", simulator.base_url()));
        environment.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let environment: Vec<_> =
            environment.into_iter().map(|(key, value)| (format!("TUBOX_{key}"), value)).collect();
        let environment: Vec<_> =
            environment.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let mut box_ = Running::serve(Path::new("/dev/null"), &environment);
        let box_address = box_.address();
        make_certificate(folder.path(), HOST);
        let (server, ports) = (front.start)(folder.path(), front.ip, &box_address);
        Street { front, _server: server, box_, box_address, simulator, ports, folder }
    }

    /// Asks the front over TLS, as a phone does.
    fn ask(&self, target: &str, options: &[&str]) -> Answer {
        self.curl(&format!("https://{HOST}:{}{target}", self.ports.tls), options)
    }

    fn curl(&self, url: &str, options: &[&str]) -> Answer {
        let output =
            self.curl_command(url, options).output().expect("curl is not installed: apt-get install curl");
        self.answer(url, &output)
    }

    fn curl_command(&self, url: &str, options: &[&str]) -> Command {
        let resolve = |port: u16| format!("{HOST}:{port}:{}", self.front.ip);
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--include",
            "--path-as-is",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ]);
        command.args([Path::new("--cacert"), &self.folder.path().join("fullchain.pem")]);
        for port in [Some(self.ports.tls), self.ports.plain, Some(self.ports.redirect)].into_iter().flatten()
        {
            command.args(["--resolve", &resolve(port)]);
        }
        command.args(options).arg(url);
        command
    }

    fn answer(&self, url: &str, output: &std::process::Output) -> Answer {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{url}: {said}; {} says: {}", self.front.name, self.errors());
        Answer::read(&String::from_utf8_lossy(&output.stdout))
    }

    fn errors(&self) -> String {
        errors(self.folder.path())
    }

    /// The page as soon as it is signed, which may be a moment after the start.
    fn page(&self, url: &str, options: &[&str]) -> (Answer, serde_json::Value) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let page = self.curl(url, options);
            let element =
                page.body.split("id=\"jssdk-config\">").nth(1).and_then(|rest| rest.split('<').next());
            let config: serde_json::Value = serde_json::from_str(element.expect("no jssdk-config")).unwrap();
            if config.get("signature").is_some() {
                return (page, config);
            }
            assert!(!deadline.passed(), "the page was never signed");
            Stop::new().wait(Duration::from_millis(20));
        }
    }

    /// What WeChat itself, which shares no code with the box, says to a page with this signature at `url`.
    fn wechat_takes(&self, config: &serde_json::Value, url: &str) -> bool {
        let mut asked = config.clone();
        asked["url"] = url.into();
        let to = format!("{}/sim/check-signature", self.simulator.base_url());
        self.curl(&to, &["--json", &asked.to_string()]).body.contains("\"ok\":true")
    }
}

impl Answer {
    fn read(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Answer {
            status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
            headers: head.lines().skip(1).filter_map(header).collect(),
            body: body.to_owned(),
        }
    }

    fn cookie(&self) -> String {
        self.headers["set-cookie"].split(';').next().unwrap_or_default().to_owned()
    }
}

fn form(id: &str) -> String {
    format!("data={{\"imgIds\":[\"{id}\"]}}")
}

#[test]
fn a_page_is_signed_for_the_address_that_the_phone_sees() {
    for front in &FRONTS {
        let street = Street::open(front, &[]);
        let seen = format!("https://{HOST}{TARGET}");
        let over_tls = format!("https://{HOST}:{}{TARGET}", street.ports.tls);
        let plain = street.ports.plain.map(|port| format!("http://{}:{port}{TARGET}", front.ip));
        let foreign_host = ["--header", "X-Forwarded-Host: evil.example", "--header", "Host: evil.example"];
        let mut asked = vec![(&over_tls, &[][..]), (&over_tls, &foreign_host[..2])];
        // Caddy has no page for another name than its own.
        if let Some(plain) = &plain {
            asked.extend([(&over_tls, &foreign_host[..]), (plain, &foreign_host[..])]);
        } else {
            assert!(street.curl(&over_tls, &foreign_host).body.is_empty());
        }
        for (url, options) in asked {
            let (page, config) = street.page(url, options);
            assert_eq!(page.status, 200);
            assert_eq!(config["url"], seen.as_str(), "{}: {url} {options:?}", front.name);
            assert!(street.wechat_takes(&config, &seen));
            assert!(!street.wechat_takes(&config, &format!("https://evil.example{TARGET}")));
            assert!(!page.body.contains("evil.example"));
        }
        assert_eq!(street.simulator.violations(), Vec::<String>::new());

        let redirected = street.curl(&format!("http://{HOST}:{}{TARGET}", street.ports.redirect), &[]);
        assert_eq!(
            (redirected.status, redirected.headers["location"].as_str()),
            (front.redirects_with, seen.as_str())
        );
    }
}

#[test]
fn no_log_keeps_what_follows_the_question_mark() {
    for front in &FRONTS {
        let street = Street::open(front, &[]);
        assert_eq!(street.ask(TARGET, &[]).status, 200);
        let Street { box_, ports, folder, _server, .. } = &street;
        box_.terminate();
        // Nobody is behind it now: what fails is written down with more words than what goes well.
        let deadline = Deadline::after(PATIENCE);
        while street.ask(TARGET, &["--referer", &format!("https://{HOST}{TARGET}")]).status != 502 {
            assert!(!deadline.passed(), "{}: the box is still there, at {}", front.name, ports.tls);
        }
        let kept: String = ["access.log", "error.log"]
            .iter()
            .filter_map(|name| std::fs::read_to_string(folder.path().join(name)).ok())
            .collect();
        assert!(kept.contains("502"), "{}: {kept}", front.name);
        assert!(!kept.contains("singlemessage"), "{}: {kept}", front.name);
    }
}

#[test]
fn a_submission_passes_and_the_visitor_is_whom_the_trusted_proxy_names() {
    for front in &FRONTS {
        let mut street = Street::open(front, &[]);
        let page = street.ask("/uploadImgDemo", &[]);
        assert!(page.headers["set-cookie"].contains("; Secure"));
        let cookie = format!("Cookie: {}", page.cookie());
        let origin = format!("Origin: https://{HOST}");
        let forged = "X-Forwarded-For: 203.0.113.66";

        let refused = street.ask("/uploadImgData", &["--data", &form("no-cookie")]);
        assert!(refused.body.contains("\"rc\":1"), "{}", refused.body);

        let box_itself = format!("http://{}/uploadImgData", street.box_address);
        let tls = format!("https://{HOST}:{}/uploadImgData", street.ports.tls);
        let mut asked = vec![
            // Through the front the visitor is whom it saw, whatever he says himself.
            (&tls, "127.0.0.2", "X-Nothing: 1", "127.0.0.2"),
            (&tls, "127.0.0.3", forged, "127.0.0.3"),
            (&tls, "127.0.0.3", "Forwarded: for=203.0.113.66", "127.0.0.3"),
            (&tls, "127.0.0.3", "X-Tubox-Head: 203.0.113.66", "127.0.0.3"),
            // The header counts because 127.0.0.1 is trusted, and for nobody else.
            (&box_itself, "127.0.0.1", forged, "203.0.113.66"),
            (&box_itself, "127.0.0.5", forged, "127.0.0.5"),
        ];
        let plain = street.ports.plain.map(|port| format!("http://{}:{port}/uploadImgData", front.ip));
        asked.extend(plain.iter().map(|plain| (plain, "127.0.0.4", forged, "127.0.0.4")));
        for (number, (url, interface, header, visitor)) in asked.into_iter().enumerate() {
            let id = street
                .simulator
                .upload(tubox::simulator::samples::sample_picture(number as u32).bytes, "image/jpeg");
            let data = form(&id);
            let options = [
                "--interface",
                interface,
                "--header",
                header,
                "--header",
                &cookie,
                "--header",
                &origin,
                "--data",
                &data,
            ];
            let answer = street.curl(url, &options);
            assert_eq!(answer.status, 200);
            assert!(answer.body.contains("\"rc\":0"), "{url} {}", answer.body);
            let line = street.box_.logged("took 1 new ids from ");
            assert!(
                line.contains(&format!(" from {visitor}, ")),
                "{}: {url} {interface} {header}: {line}",
                front.name
            );
        }
        assert_eq!(street.simulator.violations(), Vec::<String>::new());
    }
}

#[test]
fn the_rate_is_counted_for_the_visitor_and_not_for_the_front_or_for_whom_he_says_he_is() {
    for front in &FRONTS {
        let street = Street::open(front, &[("LIMITS_RATE", "3"), ("LIMITS_OPEN_SUBMIT", "true")]);
        let status = |interface: &str, number: usize| {
            let header = format!("X-Forwarded-For: 203.0.113.{number}");
            let data = form(&format!("{interface}-{number}").replace('.', "_"));
            street
                .ask("/uploadImgData", &["--interface", interface, "--header", &header, "--data", &data])
                .status
        };
        // Some seconds more, and he may send again; so not which one is refused is told, but that one is.
        let refused = (0..50).any(|number| status("127.0.0.2", number) == 429);
        assert!(refused, "{}: a visitor with 50 addresses was never refused", front.name);
        assert_eq!(status("127.0.0.3", 1), 200, "{}: another visitor", front.name);
    }
}

#[test]
fn what_is_too_large_is_refused_in_the_words_of_the_box() {
    for front in &FRONTS {
        let street = Street::open(front, &[]);
        let file = street.folder.path().join("large");
        let data = format!("@{}", file.display());
        let ask_by_http_1 = || street.ask("/uploadImgData", &["--http1.1", "--data-binary", &data]);
        // By HTTP/2 curl 7.88 now and then loses the words of Caddy, which answers before it has read the body.
        let status_by_http_2 = || {
            let url = format!("https://{HOST}:{}/uploadImgData", street.ports.tls);
            let output = street.curl_command(&url, &["--http2", "--data-binary", &data]).output().unwrap();
            Answer::read(&String::from_utf8_lossy(&output.stdout)).status
        };
        let large = |bytes: usize| replace_private(&file, &vec![b'x'; bytes]).unwrap();
        large(InboundLimits::default().body_bytes_max + 1);
        let words = street
            .curl(&format!("http://{}/uploadImgData", street.box_address), &["--data-binary", &data])
            .body;
        let told: serde_json::Value = serde_json::from_str(&words).unwrap();
        assert_eq!(told["rc"], 1);
        // More than once: a connection that was closed over a refusal must not spoil the next request.
        for more in [1, 50_000, 100_000, 1, 100_000] {
            large(InboundLimits::default().body_bytes_max + more);
            let answer = ask_by_http_1();
            let errors = street.errors();
            assert_eq!((answer.status, &answer.body), (413, &words), "{} says: {errors}", front.name);
            assert_eq!(street.ask("/healthz", &[]).status, 200);
            assert_eq!(status_by_http_2(), 413, "{}", front.name);
            assert_eq!(street.ask("/healthz", &[]).status, 200);
        }
        // What is much too large does not get as far as the box, and what is just right does.
        large(4 << 20);
        let answer = ask_by_http_1();
        assert_eq!(answer.status, 413, "{}: {}", front.name, answer.body);
        assert_eq!(status_by_http_2(), 413, "{}", front.name);
        large(InboundLimits::default().body_bytes_max);
        let answer = street.ask("/uploadImgData", &["--data-binary", &data]);
        assert_eq!(answer.status, 200, "{}: {}", front.name, answer.body);
        assert!(answer.body != words);
    }
}

#[test]
fn a_slow_body_arrives_and_holds_nobody_up() {
    for front in &FRONTS {
        let mut street = Street::open(front, &[("LIMITS_OPEN_SUBMIT", "true")]);
        let url = format!("https://{HOST}:{}/uploadImgData", street.ports.tls);
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let mut slow = street
            .curl_command(&url, &["--request", "POST", "--header", kind, "--no-buffer", "--upload-file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let data = form("a-slow-one");
        let (first, second) = data.split_at(data.len() / 2);
        let mut body = slow.stdin.take().unwrap();
        body.write_all(first.as_bytes()).unwrap();
        for _ in 0..3 {
            assert_eq!(street.ask("/uploadImgDemo", &[]).status, 200);
        }
        body.write_all(second.as_bytes()).unwrap();
        drop(body);
        let answer = street.answer(&url, &slow.wait_with_output().unwrap());
        assert!(answer.body.contains("\"rc\":0"), "{}: {}", front.name, answer.body);
        street.box_.logged("took 1 new ids from ");
    }
}

/// The value behind a word that stands alone in front of it.
fn value<'a>(configuration: &'a str, word: &str) -> &'a str {
    let lines = configuration.lines().map(|line| line.trim().trim_end_matches(';'));
    let mut found = lines.filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    found.next().unwrap_or_else(|| panic!("there is no {word}")).trim()
}

fn seconds(configuration: &str, word: &str) -> Duration {
    let value = value(configuration, word);
    let number = value.strip_suffix('s').unwrap_or_else(|| panic!("{word} {value}: not in seconds"));
    Duration::from_secs(number.parse().unwrap())
}

#[test]
fn nginx_and_the_box_agree_about_sizes_and_times() {
    let limits = InboundLimits::default();
    // Who closes a resting connection first must be nginx, which knows that it has sent nothing on it.
    assert!(seconds(NGINX_SITE, "keepalive_timeout") < limits.idle_within);
    let requests: usize = value(NGINX_SITE, "keepalive_requests").parse().unwrap();
    assert!(requests < limits.requests_per_connection_max);
    assert!(seconds(NGINX_SITE, "proxy_read_timeout") > limits.upstream_within);
    let mib: usize = value(NGINX_SITE, "client_max_body_size").strip_suffix('m').unwrap().parse().unwrap();
    assert!(mib << 20 > limits.body_bytes_max);
}

#[test]
fn caddy_and_the_box_agree_about_sizes_and_times() {
    let limits = InboundLimits::default();
    assert!(seconds(CADDYFILE, "keepalive") < limits.idle_within);
    assert!(seconds(CADDYFILE, "response_header_timeout") > limits.upstream_within);
    // The box's own patience with a body begins with its first byte, Caddy's with the connection.
    assert!(seconds(CADDYFILE, "read_body") > limits.body_within);
    let kilobytes: usize = value(CADDYFILE, "max_size").strip_suffix("KB").unwrap().parse().unwrap();
    assert!(kilobytes * 1000 > limits.body_bytes_max);
    assert!(CADDYFILE.contains(&format!("> {}`", limits.body_bytes_max)));
}
