//! The three: the outbound door with minreq in front, as the box has it; ureq; curl.

use super::faults::Place;
use std::io::Read;
use std::process::Command;
use std::time::Duration;
use tubox::door::outbound::{Origin, OutboundDoor, OutboundLimits, OutboundOptions, requester_headers_size};

/// For one stage, or without a byte.
const STAGE: Duration = Duration::from_secs(2);
const WHOLE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Somebody who fetches what is at an address and tells how that went in one line.
pub trait Downloader: Sync {
    fn name(&self) -> &'static str;
    /// `200, N bytes` or the reason why not.
    fn get(&self, place: &Place, url: &str) -> String;
}

pub fn downloaders(place: &Place) -> Vec<Box<dyn Downloader>> {
    vec![Box::new(Door), Box::new(Ureq::new(place)), Box::new(Curl)]
}

fn arrived(status: u16, bytes: usize) -> String {
    format!("{status}, {bytes} bytes")
}

struct Door;

impl Downloader for Door {
    fn name(&self) -> &'static str {
        "tubox"
    }

    fn get(&self, place: &Place, url: &str) -> String {
        let (base, path) = url.split_at(url.rfind('/').unwrap());
        let origin = Origin::parse(base).unwrap();
        let limits = OutboundLimits {
            connect_within: STAGE,
            tls_within: STAGE,
            first_byte_within: STAGE,
            stall: STAGE,
            total_within: WHOLE,
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..OutboundLimits::default()
        };
        let head_bytes_max = limits.head_bytes_max;
        let options = OutboundOptions {
            limits,
            extra_roots_pem: Some(place.root_pem.clone()),
            ..OutboundOptions::to(vec![origin.clone()])
        };
        let passage = OutboundDoor::open(options).unwrap().passage(&origin).unwrap();
        let (name, secret) = passage.header();
        let answer = minreq::get(format!("{}{path}", passage.base_url()))
            .with_header(name, secret)
            .with_max_headers_size(requester_headers_size(head_bytes_max))
            .with_timeout(60)
            .send_lazy()
            .map_err(|error| error.to_string())
            .and_then(|mut response| {
                let mut body = Vec::new();
                response.read_to_end(&mut body).map_err(|error| error.to_string())?;
                Ok(arrived(response.status_code, body.len()))
            });
        match passage.finish().fault {
            Some(fault) => fault.kind().to_owned(),
            None => answer.unwrap_or_else(|error| error),
        }
    }
}

struct Ureq {
    agent: ureq::Agent,
}

impl Ureq {
    fn new(place: &Place) -> Ureq {
        let root = ureq::tls::Certificate::from_pem(&place.root_pem).unwrap().to_owned();
        let tls =
            ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::new_with_certs(&[root])).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(WHOLE))
            .timeout_connect(Some(STAGE))
            .timeout_recv_response(Some(STAGE))
            .max_redirects(0)
            .tls_config(tls)
            .build();
        Ureq { agent: config.into() }
    }
}

impl Downloader for Ureq {
    fn name(&self) -> &'static str {
        "ureq"
    }

    fn get(&self, _: &Place, url: &str) -> String {
        let fetched = self.agent.get(url).call().and_then(|mut response| {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
            Ok(arrived(response.status().as_u16(), body.len()))
        });
        fetched.unwrap_or_else(|error| one_line(&error.to_string()))
    }
}

struct Curl;

impl Downloader for Curl {
    fn name(&self) -> &'static str {
        "curl"
    }

    fn get(&self, place: &Place, url: &str) -> String {
        let stage = STAGE.as_secs().to_string();
        let output = Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}, %{size_download} bytes"])
            .args(["--connect-timeout", &stage, "--speed-limit", "1", "--speed-time", &stage])
            .args(["--max-time", &WHOLE.as_secs().to_string()])
            .args(["--max-filesize", &ANSWER_BYTES_MAX.to_string()])
            .arg("--cacert")
            .arg(&place.root_file)
            .arg(url)
            .output()
            .unwrap();
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        one_line(&String::from_utf8_lossy(&output.stderr))
    }
}

fn one_line(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
    text.chars().take(80).collect()
}
