//! The operator's page and gallery: who gets in, what an address can reach, what a thumbnail may cost, and that
//! what is taken away is whole, as `sha256sum` and `unzip` see it.

use crate::program::{PATIENCE, Program, Reply, simulator};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use tubox::simulator::Simulator;
use tubox::simulator::samples::sample_picture;

struct Desk {
    program: Program,
    bearer: String,
}

impl Desk {
    fn open(simulator: &Simulator) -> Desk {
        let program = Program::serve(simulator, &[]);
        let token = std::fs::read_to_string(program.folder.path().join("data/admin_token")).unwrap();
        Desk { bearer: format!("Bearer {}", token.trim()), program }
    }

    fn get(&self, target: &str) -> Reply {
        self.program.ask("GET", target, &[("Authorization", &self.bearer)], b"")
    }

    fn token(&self) -> &str {
        &self.bearer["Bearer ".len()..]
    }

    /// Submits `pictures` with `fields` and waits until all is settled.
    fn submit(&self, simulator: &Simulator, pictures: &[&[u8]], fields: &str) -> Vec<String> {
        let ids: Vec<String> =
            pictures.iter().map(|bytes| simulator.upload(bytes.to_vec(), "image/jpeg")).collect();
        let body = format!("data={}&{fields}", serde_json::json!({"imgIds": ids}));
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let cookie = self.program.cookie();
        let answer =
            self.program.ask("POST", "/uploadImgData", &[("Cookie", &cookie), form], body.as_bytes());
        let settled = self.program.settled(answer.json()["receipt"].as_str().unwrap());
        let states = settled["pictures"].as_array().unwrap().iter().map(|picture| &picture["state"]);
        assert!(states.into_iter().all(|state| state == "saved"), "{settled}");
        ids
    }

    fn newest_day(&self) -> String {
        self.get("/admin/days").json()["days"][0]["day"].as_str().unwrap().to_owned()
    }

    fn rows(&self, day: &str, query: &str) -> Vec<Value> {
        self.get(&format!("/admin/day/{day}?{query}")).json()["pictures"].as_array().unwrap().clone()
    }

    /// The most memory that the box has had so far.
    fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Asks for `target`, reads its head, lets `spoil` happen, and reads on to the end; the bytes of body that came.
    fn cut_while_sending(&self, target: &str, spoil: impl FnOnce()) -> u64 {
        let mut stream = TcpStream::connect(self.program.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n",
            self.bearer
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = vec![0; 1024];
        let mut came = stream.read(&mut answer).unwrap();
        let length = String::from_utf8_lossy(&answer[..came]).find("\r\n\r\n").unwrap() + 4;
        spoil();
        // A reset is one way to say that this is not whole.
        while let Ok(count @ 1..) = stream.read(&mut answer) {
            came += count;
        }
        (came - length) as u64
    }

    fn thumbs(&self) -> PathBuf {
        self.program.folder.path().join("data/thumbs")
    }
}

fn file(row: &Value) -> &str {
    row["file"].as_str().unwrap()
}

/// A PNG of 65500 by 65500 pixels in a hundred bytes.
fn bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = b"IHDR".to_vec();
    head.extend([0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc, 8, 2, 0, 0, 0]);
    for body in [head, b"IDAT\x78\x9c\x63\x00\x00\x00\x01\x00\x01".to_vec(), b"IEND".to_vec()] {
        bytes.extend((body.len() as u32 - 4).to_be_bytes());
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn the_page_is_open_and_everything_behind_it_needs_the_token() {
    let simulator = simulator();
    let desk = Desk::open(&simulator);
    let moved = desk.program.get("/admin");
    assert_eq!((moved.status, moved.header("Location")), (302, Some("/admin/")));
    for page in ["/admin/", "/admin/sheet"] {
        let page = desk.program.get(page);
        assert_eq!(page.status, 200);
        let policy = page.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert!(!page.text().contains(desk.token()));
        for asset in page.text().split("/admin/assets/").skip(1) {
            let asset = desk.program.get(&format!("/admin/assets/{}", asset.split('"').next().unwrap()));
            assert_eq!(asset.status, 200);
            assert!(asset.header("Cache-Control").unwrap().contains("immutable"));
        }
    }
    for target in [
        "/admin/status",
        "/admin/days",
        "/admin/day/2026-11-21",
        "/admin/thumb/2026-11-21/a.jpg",
        "/admin/picture/2026-11-21/a.jpg",
        "/admin/positions.csv",
        "/admin/positions.geojson",
        "/admin/zip",
        "/admin/logout",
        "/admin/assets/admin.js",
        "/admin/x",
        "/admin//",
    ] {
        assert_eq!(desk.program.get(target).status, 401, "{target}");
        let refused = desk.program.ask("POST", target, &[("X-Tubox-Admin", "1")], b"");
        assert_eq!(refused.status, 401, "{target}");
        let inside = desk.get(target);
        assert_ne!(inside.status, 401, "{target}");
        assert_eq!(inside.header("Cache-Control"), Some("no-store"), "{target}");
    }
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let body = format!("token={}", desk.token());
    let entered = desk.program.ask("POST", "/admin/login", &[form, ("X-Tubox-Admin", "1")], body.as_bytes());
    let cookie = entered.header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    let status = desk.program.ask("GET", "/admin/status?failed=0", &[("Cookie", &cookie)], b"").json();
    assert_eq!(status["public_url"], crate::program::PUBLIC_URL);
    let left = desk.program.ask("POST", "/admin/logout", &[("Cookie", &cookie), ("X-Tubox-Admin", "1")], b"");
    assert!(left.header("Set-Cookie").unwrap().starts_with("tubox_admin=; Max-Age=0"));
    assert_eq!(desk.program.ask("POST", "/admin/logout", &[("Cookie", &cookie)], b"").status, 401);
}

#[test]
fn the_gallery_shows_what_the_manifest_lists_and_nothing_else() {
    let simulator = simulator();
    let desk = Desk::open(&simulator);
    let samples: Vec<Vec<u8>> = (0..2).map(|number| sample_picture(number).bytes).collect();
    desk.submit(&simulator, &[&samples[0]], "team=north&contributor=Li&latitude=31.25&longitude=-121.5");
    desk.submit(&simulator, &[&samples[1]], "team=%3Dsouth&note=%3D1%2B1");
    let day = desk.newest_day();
    let summary = desk.get("/admin/days").json();
    assert_eq!((&summary["total"], &summary["days"][0]["pictures"]), (&1.into(), &2.into()));
    assert_eq!(summary["days"][0]["teams"][0]["team"], "=south");

    let rows = desk.rows(&day, "");
    assert_eq!((rows.len(), &rows[0]["note"], &rows[1]["team"]), (2, &"=1+1".into(), &"north".into()));
    assert_eq!(desk.rows(&day, "from=1&count=1"), rows[1..]);
    assert_eq!(desk.rows(&day, "team=%3Dsouth"), rows[..1]);
    assert!(desk.rows(&day, "team=nobody").is_empty() && desk.rows(&day, "from=99999999999").is_empty());

    for (row, bytes) in rows.iter().zip([&samples[1], &samples[0]]) {
        let picture = desk.get(&format!("/admin/picture/{day}/{}", file(row)));
        assert_eq!((picture.status, &picture.body), (200, bytes));
        assert_eq!(picture.header("Content-Type"), row["content_type"].as_str());
        assert_eq!(picture.header("Content-Length").unwrap(), bytes.len().to_string());
        assert_eq!(picture.header("Content-Disposition"), None);
    }
    let target = format!("/admin/picture/{day}/{}?download=1", file(&rows[0]));
    let named = format!("attachment; filename=\"{}\"", file(&rows[0]));
    assert_eq!(desk.get(&target).header("Content-Disposition"), Some(named.as_str()));
    let head = desk.program.ask("HEAD", &target, &[("Authorization", &desk.bearer)], b"");
    assert_eq!(head.header("Content-Length").unwrap(), samples[1].len().to_string());
    assert!(head.body.is_empty());

    let outside = desk.program.folder.path().join("data/pass_key");
    assert!(outside.exists());
    std::os::unix::fs::symlink(&outside, desk.program.pictures_dir().join(&day).join("link.jpg")).unwrap();
    let manifest = desk.program.pictures_dir().join(&day).join("manifest.csv");
    let line = std::fs::read_to_string(&manifest).unwrap().lines().nth(1).unwrap().to_owned();
    let forged = ["../../pass_key", "link.jpg"].map(|name| line.replacen(file(&rows[1]), name, 1) + "\n");
    let mut text = std::fs::read_to_string(&manifest).unwrap();
    text.push_str(&forged.concat());
    std::fs::write(&manifest, text).unwrap();
    for name in [
        "../../pass_key",
        "..%2f..%2fpass_key",
        "%2e%2e/%2e%2e/pass_key",
        "link.jpg",
        "manifest.csv",
        "SHA256SUMS",
        "",
        ".",
        "..",
        "nothing.jpg",
        "a/b",
        "a%00b",
    ] {
        for route in ["picture", "thumb"] {
            let answer = desk.get(&format!("/admin/{route}/{day}/{name}"));
            assert!([400, 404].contains(&answer.status), "{route} {name}: {}", answer.status);
        }
    }
    for day in ["..", "../pictures", "%2e%2e", "2026-99-99", "1970-01-01", "", "/", "queue"] {
        let answer = desk.get(&format!("/admin/day/{day}"));
        assert!([400, 404].contains(&answer.status), "{day}: {}", answer.status);
    }
    assert_eq!(desk.get("/admin/positions.csv?day=../..").status, 404);

    let csv = desk.get("/admin/positions.csv");
    assert_eq!(csv.header("Content-Length").unwrap(), csv.body.len().to_string());
    assert!(csv.text().lines().any(|line| line.starts_with("31.25,-121.5,")), "{}", csv.text());
    let geojson = desk.get(&format!("/admin/positions.geojson?day={day}&team=north")).json();
    assert_eq!(geojson["features"][0]["geometry"]["coordinates"], serde_json::json!([-121.5, 31.25]));
    assert!(desk.get("/admin/positions.geojson?team=nobody").json()["features"][0].is_null());
}

#[test]
fn thumbnails_are_small_kept_apart_and_cost_little_whatever_was_sent() {
    let simulator = simulator();
    let desk = Desk::open(&simulator);
    let sample = sample_picture(0).bytes;
    desk.submit(&simulator, &[&sample, &bomb()], "team=north");
    let day = desk.newest_day();
    let before: Vec<_> = std::fs::read_dir(desk.program.pictures_dir().join(&day)).unwrap().collect();
    for row in desk.rows(&day, "") {
        let target = format!("/admin/thumb/{day}/{}", file(&row));
        let thumb = desk.get(&target);
        assert_eq!(thumb.status, 200);
        if row["content_type"] == "image/png" && row["width"] == "65500" {
            assert_eq!(thumb.header("Content-Type"), Some("image/svg+xml"));
            assert!(thumb.text().contains("PNG"));
        } else {
            assert_eq!(thumb.header("Content-Type"), Some("image/jpeg"));
            assert!(thumb.body.len() < 64 * 1024 && thumb.body.ends_with(&[0xff, 0xd9]));
        }
        assert_eq!(desk.get(&target).body, thumb.body);
    }
    assert_eq!(std::fs::read_dir(desk.thumbs()).unwrap().count(), 2);
    let after: Vec<_> = std::fs::read_dir(desk.program.pictures_dir().join(&day)).unwrap().collect();
    assert_eq!(before.len(), after.len());
    assert_eq!(crate::program::sha256sum_check(&desk.program.pictures_dir()), 2);
    let peak = desk.peak_memory_mib();
    assert!(peak < 64, "the box took {peak} MiB");
}

#[test]
fn a_zip_is_whole_or_seen_not_to_be() {
    let simulator = simulator();
    let desk = Desk::open(&simulator);
    let samples: Vec<Vec<u8>> = (0..2).map(|number| sample_picture(number).bytes).collect();
    let large = [&samples[0][..], &vec![0; 3 << 20]].concat();
    desk.submit(&simulator, &[&large], "team=north");
    desk.submit(&simulator, &[&samples[1]], "team=south&note=%3D1");
    let day = desk.newest_day();
    let rows = desk.rows(&day, "");
    let bearer = ("Authorization", desk.bearer.as_str());
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let pick = format!("pick={day}/{}&pick={day}/../../pass_key&other=1", file(&rows[0]));
    for (reply, pictures) in [
        (desk.get("/admin/zip"), 2),
        (desk.get(&format!("/admin/zip?day={day}")), 2),
        (desk.get("/admin/zip?team=north"), 1),
        (desk.program.ask("POST", "/admin/zip", &[bearer, form], pick.as_bytes()), 1),
    ] {
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/zip")));
        assert_eq!(reply.header("Content-Length").unwrap(), reply.body.len().to_string());
        let folder = tempfile::tempdir().unwrap();
        let zip = folder.path().join("x.zip");
        std::fs::write(&zip, &reply.body).unwrap();
        let unzip = |args: &[&str]| {
            let output =
                std::process::Command::new("unzip").args(args).current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        unzip(&["-t", "x.zip"]);
        unzip(&["-q", "x.zip", "-d", "out"]);
        assert_eq!(crate::program::sha256sum_check(&folder.path().join("out")), pictures);
        assert!(folder.path().join("out").join(&day).join("manifest.csv").exists());
    }
    let head = desk.program.ask("HEAD", "/admin/zip", &[bearer], b"");
    assert!(head.body.is_empty() && head.header("Content-Length").is_some());
    assert_eq!(desk.get("/admin/zip?team=nobody").status, 404);
    assert_eq!(desk.get("/admin/zip?day=..").status, 404);
    assert_eq!(desk.program.ask("POST", "/admin/zip", &[bearer, form], b"").status, 404);

    // A picture that gets shorter while it is on its way: fewer bytes come than were told.
    let path = desk.program.pictures_dir().join(&day).join(file(&rows[1]));
    let whole: u64 = head.header("Content-Length").unwrap().parse().unwrap();
    let cut = desk.cut_while_sending("/admin/zip", || {
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    });
    assert!(cut < whole, "{cut} of {whole} bytes came");
    desk.program.wait_for_log("an answer was cut");
    assert_eq!(desk.program.get("/healthz").status, 200);
}
