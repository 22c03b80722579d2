//! The box behind a real nginx with the configuration that we hand out: what passes unchanged, who the visitor is,
//! and that the two agree about sizes and times. Needs `nginx` (Debian: nginx-light) and `curl`.

use crate::running::{PATIENCE, Running};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tubox::door::inbound::InboundLimits;
use tubox::ground::clock::{Deadline, SystemClock};
use tubox::ground::durable::replace_private;
use tubox::ground::random::OsRandom;
use tubox::ground::stop::Stop;
use tubox::simulator::{Simulator, SimulatorOptions};

const CONFIGURATION: &str = include_str!("../../packaging/nginx.conf");
const HOST: &str = "pics.example.org";
/// nginx has a loopback address of its own, so that no other test's ports are in its way.
const NGINX_IP: &str = "127.71.0.1";
/// What phones come with: a link that was passed on, with everything that a proxy could be tempted to tidy.
const TARGET: &str =
    "/uploadImgDemo?from=singlemessage&isappinstalled=0&q=%E7%9B%92%2f..%2F//&x=a+b~!&y=/../";

/// nginx, the box behind it and WeChat behind that.
struct Street {
    nginx: Child,
    box_: Running,
    box_address: String,
    simulator: Simulator,
    ports: Ports,
    folder: tempfile::TempDir,
}

/// Where nginx listens: TLS, and plain for the same pages, and plain as handed out (only a redirect).
#[derive(Clone, Copy)]
struct Ports {
    tls: u16,
    plain: u16,
    redirect: u16,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Drop for Street {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

impl Street {
    fn open() -> Street {
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
        let mut environment = settings.map(|(key, value)| (format!("TUBOX_{key}"), value)).to_vec();
        environment.push(("TUBOX_WECHAT_API_URLS".to_owned(), simulator.base_url()));
        let environment: Vec<_> =
            environment.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let mut box_ = Running::serve(Path::new("/dev/null"), &environment);
        let box_address = box_.address();
        make_certificate(folder.path(), HOST);
        let site = |[tls, plain, redirect]: [u16; 3]| {
            configuration(folder.path(), &box_address, Ports { tls, plain, redirect })
        };
        let (nginx, [tls, plain, redirect]) = start_nginx(folder.path(), NGINX_IP, site);
        let ports = Ports { tls, plain, redirect };
        Street { nginx, box_, box_address, simulator, ports, folder }
    }

    /// Asks nginx over TLS, as a phone does.
    fn ask(&self, target: &str, options: &[&str]) -> Answer {
        self.curl(&format!("https://{HOST}:{}{target}", self.ports.tls), options)
    }

    fn curl(&self, url: &str, options: &[&str]) -> Answer {
        let resolve = |port: u16| format!("{HOST}:{port}:{NGINX_IP}");
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
        for port in [self.ports.tls, self.ports.plain, self.ports.redirect] {
            command.args(["--resolve", &resolve(port)]);
        }
        let output =
            command.args(options).arg(url).output().expect("curl is not installed: apt-get install curl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{url}: {said}; nginx says: {}", errors(self.folder.path()));
        Answer::read(&String::from_utf8_lossy(&output.stdout))
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

/// A certificate for `host` that vouches for itself: fullchain.pem and privkey.pem.
pub fn make_certificate(folder: &Path, host: &str) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    replace_private(&folder.join("fullchain.pem"), made.cert.pem().as_bytes()).unwrap();
    replace_private(&folder.join("privkey.pem"), made.signing_key.serialize_pem().as_bytes()).unwrap();
}

/// The configuration as handed out, with only addresses and paths of this test. Each of them must be there.
fn configuration(folder: &Path, box_address: &str, ports: Ports) -> String {
    let Ports { tls, plain, redirect } = ports;
    let path = |name: &str| folder.join(name).display().to_string();
    let changes = [
        ("server 127.0.0.1:8080;", format!("server {box_address};")),
        ("listen 80;", format!("listen {NGINX_IP}:{redirect};")),
        ("listen [::]:80;", String::new()),
        ("listen 443 ssl http2;", format!("listen {NGINX_IP}:{tls} ssl http2; listen {NGINX_IP}:{plain};")),
        ("listen [::]:443 ssl http2;", String::new()),
        ("/etc/letsencrypt/live/pics.example.org/fullchain.pem", path("fullchain.pem")),
        ("/etc/letsencrypt/live/pics.example.org/privkey.pem", path("privkey.pem")),
        ("/var/log/nginx/tubox.log", path("access.log")),
    ];
    changed(CONFIGURATION, &changes)
}

/// A site with these words in place of those; each of those must be there.
pub fn changed(site: &str, changes: &[(&str, String)]) -> String {
    let change = |site: String, (from, to): &(&str, String)| {
        assert!(site.contains(from), "the site has no {from:?}");
        site.replace(from, to)
    };
    changes.iter().fold(site.to_owned(), change)
}

/// A whole configuration of nginx around `sites`, with all its files in `folder`.
fn around(folder: &Path, sites: &str) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = kinds.iter().map(|kind| format!("{kind}_temp_path {};\n", path(kind))).collect();
    // One process, so that a kill leaves nobody behind.
    format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\n{folders}{sites}\n}}\n",
        path("nginx.pid"),
        path("error.log")
    )
}

/// nginx with the sites that are made for `N` free ports; the first of them must answer. It cannot take "any free
/// port", so free ones are looked for, again when somebody was quicker.
pub fn start_nginx<const N: usize>(
    folder: &Path,
    ip: &str,
    sites: impl Fn([u16; N]) -> String,
) -> (Child, [u16; N]) {
    for _ in 0..5 {
        let probes = [(); N].map(|()| TcpListener::bind((ip, 0)).unwrap());
        let ports = probes.each_ref().map(|probe| probe.local_addr().unwrap().port());
        drop(probes);
        let file = folder.join("nginx.conf");
        replace_private(&file, around(folder, &sites(ports)).as_bytes()).unwrap();
        let mut nginx = spawn_nginx(folder, &file);
        if answers(&mut nginx, SocketAddr::new(ip.parse().unwrap(), ports[0])) {
            return (nginx, ports);
        }
        let errors = errors(folder);
        assert!(errors.contains("Address already in use"), "nginx did not start: {errors}");
    }
    panic!("nginx found no free port in five tries");
}

fn spawn_nginx(folder: &Path, file: &Path) -> Child {
    // Debian keeps it where only root's PATH looks.
    for program in ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"] {
        let mut command = Command::new(program);
        command.args([Path::new("-p"), folder, Path::new("-c"), file, Path::new("-e")]);
        command.arg(folder.join("error.log")).stdin(Stdio::null()).stderr(Stdio::null());
        if let Ok(nginx) = command.spawn() {
            return nginx;
        }
    }
    panic!("nginx is not installed: apt-get install nginx-light")
}

fn answers(nginx: &mut Child, address: SocketAddr) -> bool {
    let deadline = Deadline::after(PATIENCE);
    while !deadline.passed() && nginx.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        Stop::new().wait(Duration::from_millis(5));
    }
    false
}

fn errors(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("error.log")).unwrap_or_default()
}

fn form(id: &str) -> String {
    format!("data={{\"imgIds\":[\"{id}\"]}}")
}

#[test]
fn a_page_is_signed_for_the_address_that_the_phone_sees() {
    let street = Street::open();
    let seen = format!("https://{HOST}{TARGET}");
    let over_tls = format!("https://{HOST}:{}{TARGET}", street.ports.tls);
    let plain = format!("http://{NGINX_IP}:{}{TARGET}", street.ports.plain);
    let foreign_host = ["--header", "Host: evil.example", "--header", "X-Forwarded-Host: evil.example"];
    for (url, options) in [(&over_tls, &[][..]), (&over_tls, &foreign_host[..2]), (&plain, &foreign_host[..])]
    {
        let (page, config) = street.page(url, options);
        assert_eq!(page.status, 200);
        assert_eq!(config["url"], seen.as_str(), "{url} {options:?}");
        assert!(street.wechat_takes(&config, &seen));
        assert!(!street.wechat_takes(&config, &format!("https://evil.example{TARGET}")));
        assert!(!page.body.contains("evil.example"));
    }
    assert_eq!(street.simulator.violations(), Vec::<String>::new());

    let redirected = street.curl(&format!("http://{HOST}:{}{TARGET}", street.ports.redirect), &[]);
    assert_eq!((redirected.status, redirected.headers["location"].as_str()), (301, seen.as_str()));
    let log = std::fs::read_to_string(street.folder.path().join("access.log")).unwrap();
    assert!(log.contains("\"GET /uploadImgDemo\" 200") && !log.contains("singlemessage"), "{log}");
}

#[test]
fn a_submission_passes_and_the_visitor_is_whom_the_trusted_proxy_names() {
    let mut street = Street::open();
    let page = street.ask("/uploadImgDemo", &[]);
    assert!(page.headers["set-cookie"].contains("; Secure"));
    let cookie = format!("Cookie: {}", page.cookie());
    let origin = format!("Origin: https://{HOST}");
    let forged = "X-Forwarded-For: 203.0.113.66";

    let refused = street.ask("/uploadImgData", &["--data", &form("no-cookie")]);
    assert!(refused.body.contains("\"rc\":1"), "{}", refused.body);

    let box_itself = format!("http://{}/uploadImgData", street.box_address);
    let nginx = format!("https://{HOST}:{}/uploadImgData", street.ports.tls);
    let nginx_plain = format!("http://{NGINX_IP}:{}/uploadImgData", street.ports.plain);
    for (number, (url, interface, header, visitor)) in [
        // Through nginx the visitor is whom nginx saw, whatever he says himself.
        (&nginx, "127.0.0.2", "X-Nothing: 1", "127.0.0.2"),
        (&nginx, "127.0.0.3", forged, "127.0.0.3"),
        (&nginx_plain, "127.0.0.4", forged, "127.0.0.4"),
        // The header counts because 127.0.0.1 is trusted, and for nobody else.
        (&box_itself, "127.0.0.1", forged, "203.0.113.66"),
        (&box_itself, "127.0.0.5", forged, "127.0.0.5"),
    ]
    .into_iter()
    .enumerate()
    {
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
        assert!(line.contains(&format!(" from {visitor}, ")), "{url} {interface} {header}: {line}");
    }
    assert_eq!(street.simulator.violations(), Vec::<String>::new());
}

#[test]
fn what_is_too_large_is_refused_by_the_box_in_words_for_the_page() {
    let street = Street::open();
    let file = street.folder.path().join("large");
    let large = InboundLimits::default().body_bytes_max + 100_000;
    replace_private(&file, &vec![b'x'; large]).unwrap();
    let data = format!("@{}", file.display());
    // More than once: a connection that was closed over a refusal must not spoil the next request.
    for _ in 0..5 {
        let answer = street.ask("/uploadImgData", &["--data-binary", &data]);
        assert_eq!(answer.status, 413, "{}; nginx says: {}", answer.body, errors(street.folder.path()));
        let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["rc"], 1);
        assert_eq!(street.ask("/healthz", &[]).status, 200);
    }
}

#[test]
fn nginx_and_the_box_agree_about_sizes_and_times() {
    let value = |directive: &str| -> &str {
        let found =
            CONFIGURATION.lines().find_map(|line| line.trim().strip_prefix(directive)?.strip_suffix(';'));
        found.unwrap_or_else(|| panic!("packaging/nginx.conf has no {directive}")).trim()
    };
    let seconds =
        |directive| Duration::from_secs(value(directive).strip_suffix('s').unwrap().parse().unwrap());
    let limits = InboundLimits::default();
    // Who closes a resting connection first must be nginx, which knows that it has sent nothing on it.
    assert!(seconds("keepalive_timeout") < limits.idle_within);
    assert!(value("keepalive_requests").parse::<usize>().unwrap() < limits.requests_per_connection_max);
    assert!(seconds("proxy_read_timeout") > limits.upstream_within);
    let mib: usize = value("client_max_body_size").strip_suffix('m').unwrap().parse().unwrap();
    assert!(mib << 20 > limits.body_bytes_max);
}
