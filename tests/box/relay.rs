//! The box without a fixed address: its calls go to a real nginx or Caddy with the relay that we hand out, and from
//! there over TLS to WeChat. Needs `nginx` (Debian: nginx-light), `caddy` and `curl`.
//!
//! WeChat is the simulator behind an nginx of its own, which stands for TLS and for the name.

use crate::fronts::{CADDY, NGINX, NGINX_RELAY, Server, caddyfile, changed, make_certificate};
use crate::running::{PATIENCE, Running};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tubox::ground::clock::{Deadline, SystemClock};
use tubox::ground::random::OsRandom;
use tubox::ground::stop::Stop;
use tubox::simulator::{Route, Simulator, SimulatorOptions};

const WEIXIN: &str = "api.weixin.qq.com";
const WEIXIN_IP: &str = "127.71.0.2";

/// Starts a relay in the folder to WeChat at an address; also says at which port.
type StartRelay = fn(&Path, &str) -> (Server, String);

const RELAYS: [StartRelay; 2] = [start_nginx, start_caddy];

/// The relay, and WeChat behind it.
struct Way {
    _servers: [Server; 2],
    relay: String,
    simulator: Simulator,
    secret: String,
    app_id: String,
    folder: tempfile::TempDir,
}

fn start_nginx(folder: &Path, weixin: &str) -> (Server, String) {
    let ip = "127.71.0.4";
    let certificate = folder.join("fullchain.pem").display().to_string();
    let site = |[port]: [u16; 1]| {
        let changes = [
            ("listen 127.0.0.1:8082;", format!("listen {ip}:{port};")),
            // There is no name server here that knows WeChat; the rest of the site still names it.
            ("proxy_pass https://$weixin;", format!("proxy_pass https://{weixin};")),
            ("/etc/ssl/certs/ca-certificates.crt", certificate.clone()),
        ];
        changed(NGINX_RELAY, &changes)
    };
    let (server, [port]) = NGINX.start(folder, ip, site);
    (server, format!("http://{ip}:{port}"))
}

fn start_caddy(folder: &Path, weixin: &str) -> (Server, String) {
    let ip = "127.71.0.5";
    let certificate = folder.join("fullchain.pem").display().to_string();
    let site = |ports| {
        // As above; and this authority is not one of the system's.
        let trust =
            format!("compression off\ntls_trusted_ca_certs {certificate}\ntls_server_name {WEIXIN}\n");
        let changes = [
            ("reverse_proxy https://api.weixin.qq.com {", format!("reverse_proxy https://{weixin} {{")),
            ("compression off\n", trust),
        ];
        changed(&caddyfile(folder, ip, ports), &changes)
    };
    let (server, [_, _, port]) = CADDY.start(folder, ip, site);
    (server, format!("http://{ip}:{port}"))
}

/// The simulator's TLS: a certificate for `name`, and only calls that name WeChat, without a port.
fn start_weixin(folder: &Path, simulator: &str) -> (Server, String) {
    let path = |file: &str| folder.join(file).display().to_string();
    let site = |[port]: [u16; 1]| {
        format!(
            "server {{\nlisten {WEIXIN_IP}:{port} ssl;\naccess_log off;\n\
             ssl_certificate {};\nssl_certificate_key {};\n\
             if ($ssl_server_name != {WEIXIN}) {{ return 421; }}\nif ($http_host != {WEIXIN}) {{ return 421; }}\n\
             location / {{ proxy_pass {simulator}; }}\n}}\n",
            path("../fullchain.pem"),
            path("../privkey.pem"),
        )
    };
    let (server, [port]) = NGINX.start(folder, WEIXIN_IP, site);
    (server, format!("{WEIXIN_IP}:{port}"))
}

impl Way {
    /// Who stands at the other end shows a certificate for `name`.
    fn to(name: &str, start_relay: StartRelay) -> Way {
        let folder = tempfile::tempdir().unwrap();
        let options = SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared());
        let (app_id, secret) = (options.app_id.clone(), options.app_secret.clone());
        let simulator = Simulator::start(options).unwrap();
        make_certificate(folder.path(), name);
        let elsewhere = folder.path().join("weixin");
        std::fs::create_dir(&elsewhere).unwrap();
        let (weixin, address) = start_weixin(&elsewhere, &simulator.base_url());
        let (server, relay) = start_relay(folder.path(), &address);
        Way { _servers: [server, weixin], relay, simulator, secret, app_id, folder }
    }

    /// A box that knows only the relay.
    fn box_(&self) -> Running {
        let environment = [
            ("TUBOX_LISTEN", "127.0.0.1:0".to_owned()),
            ("TUBOX_PUBLIC_URL", "https://pics.example.org".to_owned()),
            ("TUBOX_DATA_DIR", self.folder.path().join("data").display().to_string()),
            ("TUBOX_WECHAT_APP_ID", self.app_id.clone()),
            ("TUBOX_WECHAT_APP_SECRET", self.secret.clone()),
            ("TUBOX_WECHAT_API_URLS", self.relay.clone()),
            ("TUBOX_LIMITS_OPEN_SUBMIT", "true".to_owned()),
        ];
        Running::serve(Path::new("/dev/null"), &environment)
    }

    /// Nothing is written down of what passes: in no file of the relay's.
    fn tells_nothing(&self, word: &str) {
        let files = std::fs::read_dir(self.folder.path()).unwrap().flatten();
        for file in files.map(|entry| entry.path()).filter(|path| path.is_file()) {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            let tells = [self.secret.as_str(), "access_token=", word].iter().any(|it| text.contains(it));
            assert!(!tells, "{} tells a secret: {text}", file.display());
        }
    }

    fn status(&self, target: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "60", "--noproxy", "*", "--output", "/dev/null"]);
        let asked =
            command.args(["--write-out", "%{http_code}"]).arg(format!("{}{target}", self.relay)).output();
        String::from_utf8(asked.expect("curl is not installed: apt-get install curl").stdout).unwrap()
    }
}

/// What `find` finds, as soon as it does.
fn until<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let deadline = Deadline::after(PATIENCE);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(!deadline.passed(), "{what} never came");
        Stop::new().wait(Duration::from_millis(10));
    }
}

/// The files of all day folders whose name holds `part`, but for those that are still coming in.
fn pictures(data: &Path, part: &str) -> Vec<Vec<u8>> {
    let days = std::fs::read_dir(data.join("pictures")).into_iter().flatten().flatten();
    let files = days.flat_map(|day| std::fs::read_dir(day.path()).into_iter().flatten().flatten());
    files
        .filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.contains(part) && !name.starts_with('.')
        })
        .filter_map(|file| std::fs::read(file.path()).ok())
        .collect()
}

#[test]
fn a_picture_comes_home_over_the_relay_and_nothing_of_it_is_written_down_there() {
    RELAYS.into_iter().map(|start_relay| Way::to(WEIXIN, start_relay)).for_each(|way| comes_home_over(&way));
}

fn comes_home_over(way: &Way) {
    let sample = tubox::simulator::samples::sample_picture(1).bytes;
    let id = way.simulator.upload(sample.clone(), "image/jpeg");
    let mut box_ = way.box_();
    let address = box_.address();
    let page = format!("http://{address}/uploadImgData");
    let sent = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--data", &format!("data={{\"imgIds\":[\"{id}\"]}}"), &page])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&sent.stdout).contains("\"rc\":0"));
    let data = way.folder.path().join("data");
    let home = until("the picture", || pictures(&data, &id).pop());
    assert!(home == sample, "the picture was changed on its way");
    until("the ticket", || (way.simulator.calls(Route::GetTicket) > 0).then_some(()));
    assert_eq!(way.simulator.violations(), Vec::<String>::new());

    // What is not asked by a box does not pass.
    let before = way.simulator.calls_total();
    for target in
        ["/", "/cgi-bin/menu/get", "/cgi-bin/token/x", "/sim/calls", "/cgi-bin/media/get/../../menu/get"]
    {
        assert_eq!(way.status(target), "404", "{target}");
    }
    assert_eq!(way.simulator.calls_total(), before);

    drop(box_);
    way.tells_nothing(&id);
}

#[test]
fn the_relay_gives_nothing_to_somebody_who_only_says_that_he_is_wechat() {
    for start_relay in RELAYS {
        let way = Way::to("api.weixin.qq.example", start_relay);
        let target = format!("/cgi-bin/token?grant_type=client_credential&appid=wx1&secret={}", way.secret);
        assert_eq!(way.status(&target), "502");
        assert_eq!(way.simulator.calls_total(), 0);
        // A failure has more to say than a success, and must not say that.
        way.tells_nothing("grant_type");
    }
}
