//! The servers that stand in front of the box or pass its calls on: started with the configurations that we hand out,
//! with only addresses and paths of a test. Needs `nginx` (Debian: nginx-light) and `caddy`.

use crate::running::PATIENCE;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tubox::ground::clock::Deadline;
use tubox::ground::durable::replace_private;
use tubox::ground::stop::Stop;

pub const NGINX_SITE: &str = include_str!("../../packaging/nginx.conf");
pub const NGINX_RELAY: &str = include_str!("../../packaging/nginx-relay.conf");
/// Both sites: the page, and the relay.
pub const CADDYFILE: &str = include_str!("../../packaging/Caddyfile");

/// A running server. Dropping it kills it.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that serves the configuration that it is started with.
pub struct Program {
    name: &'static str,
    /// What Debian calls it.
    package: &'static str,
    /// Whole configuration: what makes it run without root, in the folder, beside others.
    around: fn(&Path, &str) -> String,
    arguments: fn(&Path, &Path) -> Vec<OsString>,
}

pub static NGINX: Program = Program {
    name: "nginx",
    package: "nginx-light",
    around: around_nginx,
    arguments: |folder, file| {
        let log = folder.join("error.log").into_os_string();
        vec!["-p".into(), folder.into(), "-c".into(), file.into(), "-e".into(), log]
    },
};

pub static CADDY: Program = Program {
    name: "caddy",
    package: "caddy",
    around: |_, sites| sites.to_owned(),
    arguments: |_, file| {
        ["run", "--adapter", "caddyfile", "--config"]
            .map(OsString::from)
            .into_iter()
            .chain([file.into()])
            .collect()
    },
};

fn around_nginx(folder: &Path, sites: &str) -> String {
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

impl Program {
    /// The program with the sites that are made for `N` free ports; the first of them must answer. It cannot take
    /// "any free port", so free ones are looked for, again when somebody was quicker.
    pub fn start<const N: usize>(
        &self,
        folder: &Path,
        ip: &str,
        sites: impl Fn([u16; N]) -> String,
    ) -> (Server, [u16; N]) {
        for _ in 0..5 {
            let probes = [(); N].map(|()| TcpListener::bind((ip, 0)).unwrap());
            let ports = probes.each_ref().map(|probe| probe.local_addr().unwrap().port());
            drop(probes);
            let file = folder.join("configuration");
            replace_private(&file, (self.around)(folder, &sites(ports)).as_bytes()).unwrap();
            let mut server = Server(self.spawn(folder, &file));
            if answers(&mut server.0, SocketAddr::new(ip.parse().unwrap(), ports[0])) {
                return (server, ports);
            }
            let errors = errors(folder);
            assert!(
                errors.to_lowercase().contains("address already in use"),
                "{} did not start: {errors}",
                self.name
            );
        }
        panic!("{} found no free port in five tries", self.name);
    }

    fn spawn(&self, folder: &Path, file: &Path) -> Child {
        let log = std::fs::File::create(folder.join("error.log")).unwrap();
        // Debian keeps some where only root's PATH looks.
        for place in ["", "/usr/sbin/", "/usr/local/sbin/"] {
            let mut command = Command::new(format!("{place}{}", self.name));
            command.args((self.arguments)(folder, file));
            // What it keeps for itself, it keeps in the folder.
            command.envs(["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name, folder)));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone().unwrap());
            if let Ok(server) = command.spawn() {
                return server;
            }
        }
        panic!("{} is not installed: apt-get install {}", self.name, self.package)
    }
}

fn answers(server: &mut Child, address: SocketAddr) -> bool {
    let deadline = Deadline::after(PATIENCE);
    while !deadline.passed() && server.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        Stop::new().wait(Duration::from_millis(5));
    }
    false
}

/// What the server has complained about.
pub fn errors(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("error.log")).unwrap_or_default()
}

/// A certificate for `host` that vouches for itself: fullchain.pem and privkey.pem.
pub fn make_certificate(folder: &Path, host: &str) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    replace_private(&folder.join("fullchain.pem"), made.cert.pem().as_bytes()).unwrap();
    replace_private(&folder.join("privkey.pem"), made.signing_key.serialize_pem().as_bytes()).unwrap();
}

/// A site with these words in place of those; each of those must be there.
pub fn changed(site: &str, changes: &[(&str, String)]) -> String {
    let change = |site: String, (from, to): &(&str, String)| {
        assert!(site.contains(from), "the site has no {from:?}");
        site.replace(from, to)
    };
    changes.iter().fold(site.to_owned(), change)
}

/// The Caddyfile with both its sites at these ports of `ip`, and no other door: Caddy has one for orders.
pub fn caddyfile(folder: &Path, ip: &str, [tls, redirect, relay]: [u16; 3]) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let own_ports = format!("\n\tadmin off\n\thttp_port {redirect}\n\thttps_port {tls}\n\tlog {{\n");
    let certificate = format!("{} {}", path("fullchain.pem"), path("privkey.pem"));
    let changes = [
        ("\n\tlog {\n", own_ports),
        ("\npics.example.org {\n", format!("\npics.example.org {{\n\tbind {ip}\n\ttls {certificate}\n")),
        ("http://127.0.0.1:8082", format!("http://{ip}:{relay}")),
        ("bind 127.0.0.1", format!("bind {ip}")),
    ];
    changed(CADDYFILE, &changes)
}
