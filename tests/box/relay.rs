//! The box without a fixed address: its calls go to a real nginx with the relay that we hand out, and from there over
//! TLS to WeChat. Needs `nginx` (Debian: nginx-light) and `curl`.
//!
//! WeChat is the simulator behind a second site of the same nginx, which stands for TLS and for the name.

use crate::proxy::{changed, make_certificate, start_nginx};
use crate::running::{PATIENCE, Running};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;
use tubox::ground::clock::{Deadline, SystemClock};
use tubox::ground::random::OsRandom;
use tubox::ground::stop::Stop;
use tubox::simulator::{Route, Simulator, SimulatorOptions};

const CONFIGURATION: &str = include_str!("../../packaging/nginx-relay.conf");
const WEIXIN: &str = "api.weixin.qq.com";
const NGINX_IP: &str = "127.71.0.2";

/// The relay, and WeChat behind it.
struct Way {
    nginx: Child,
    relay: String,
    simulator: Simulator,
    secret: String,
    app_id: String,
    folder: tempfile::TempDir,
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

impl Way {
    /// Who stands at the other end shows a certificate for `name`.
    fn to(name: &str) -> Way {
        let folder = tempfile::tempdir().unwrap();
        let options = SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared());
        let (app_id, secret) = (options.app_id.clone(), options.app_secret.clone());
        let simulator = Simulator::start(options).unwrap();
        make_certificate(folder.path(), name);
        let path = |file: &str| folder.path().join(file).display().to_string();
        let sites = |[relay, weixin]: [u16; 2]| {
            let changes = [
                ("listen 127.0.0.1:8082;", format!("listen {NGINX_IP}:{relay};")),
                // There is no name server here that knows WeChat; the rest of the site still names it.
                ("proxy_pass https://$weixin;", format!("proxy_pass https://{NGINX_IP}:{weixin};")),
                ("/etc/ssl/certs/ca-certificates.crt", path("fullchain.pem")),
            ];
            let site = changed(CONFIGURATION, &changes);
            format!(
                "{site}\nserver {{\nlisten {NGINX_IP}:{weixin} ssl;\naccess_log off;\n\
                 ssl_certificate {};\nssl_certificate_key {};\n\
                 if ($ssl_server_name != {WEIXIN}) {{ return 421; }}\nif ($host != {WEIXIN}) {{ return 421; }}\n\
                 location / {{ proxy_pass {}; }}\n}}\n",
                path("fullchain.pem"),
                path("privkey.pem"),
                simulator.base_url()
            )
        };
        let (nginx, [relay, _]) = start_nginx(folder.path(), NGINX_IP, sites);
        let relay = format!("http://{NGINX_IP}:{relay}");
        Way { nginx, relay, simulator, secret, app_id, folder }
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
    let way = Way::to(WEIXIN);
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
    for entry in
        std::fs::read_dir(way.folder.path()).unwrap().flatten().filter(|entry| entry.path().is_file())
    {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        let tells = text.contains(&way.secret) || text.contains("access_token=") || text.contains(&id);
        assert!(!tells, "{} tells a secret: {text}", entry.path().display());
    }
}

#[test]
fn the_relay_gives_nothing_to_somebody_who_only_says_that_he_is_wechat() {
    let way = Way::to("api.weixin.qq.example");
    assert_eq!(way.status("/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=s"), "502");
    assert_eq!(way.simulator.calls_total(), 0);
}
