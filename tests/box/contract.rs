//! The outside contract over HTTP and on disk, against the real binary.

use crate::program::{PUBLIC_URL, Program, run, sha256sum_check, simulator};
use serde_json::{Value, json};
use sha1_smol::Sha1;
use std::io::Read;
use tubox::simulator::Route;
use tubox::simulator::samples::sample_picture;

fn embedded_config(page: &str) -> Value {
    let start = page.split("id=\"jssdk-config\">").nth(1).expect("the page holds its signature");
    serde_json::from_str(start.split("</script>").next().unwrap()).unwrap()
}

/// The page comes at once; the signature when there is a ticket.
fn signed_page(program: &Program, target: &str) -> Value {
    program.wait_for_log("got a new jsapi_ticket");
    let page = program.get(target);
    assert_eq!(page.status, 200);
    embedded_config(&page.text())
}

#[test]
fn a_picture_goes_from_the_page_to_the_disk_byte_for_byte() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let samples: Vec<_> = (0..6).map(sample_picture).collect();
    let ids: Vec<String> =
        samples.iter().map(|sample| simulator.upload(sample.bytes.clone(), sample.content_type)).collect();
    let cookie = program.cookie();
    let answer = program.submit(&cookie, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(
        (answer.status, &answer.json()["rc"], &answer.json()["msg"]),
        (200, &json!(0), &json!("上传成功"))
    );
    let receipt = answer.json()["receipt"].as_str().unwrap().to_owned();
    let view = program.settled(&receipt);
    assert!(view["pictures"].as_array().unwrap().iter().all(|picture| picture["state"] == "saved"), "{view}");

    // The same ids again: no error, no second job, the same receipt.
    let again = program.submit(&cookie, &[&ids[2], &ids[1]]).json();
    assert_eq!((&again["rc"], &again["receipt"]), (&json!(0), &json!(receipt)));
    assert_eq!(simulator.calls(Route::MediaGet), 6);

    let pictures = program.pictures_dir();
    let day = std::fs::read_dir(&pictures).unwrap().next().unwrap().unwrap().path();
    for (sample, id) in samples.iter().zip(&ids) {
        let mut files = std::fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().path());
        let file =
            files.find(|path| path.to_string_lossy().contains(id.as_str())).expect("a file for each id");
        assert_eq!(std::fs::read(&file).unwrap(), sample.bytes);
        assert_eq!(file.extension().unwrap(), sample.extension);
    }
    assert_eq!(sha256sum_check(&pictures), 6);
    assert_eq!(simulator.violations(), Vec::<String>::new());

    let folder = program.stop();
    let pictures = folder.path().join("data/pictures");
    let pictures = pictures.to_str().unwrap();
    let verified = run(&["verify", pictures, "--json"], &[]);
    assert_eq!(verified.status.code(), Some(0));
    let copy = folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    let exported = run(&["export", "--from", pictures, copy], &[]);
    assert_eq!(exported.status.code(), Some(0), "{exported:?}");
    assert!(String::from_utf8_lossy(&exported.stdout).starts_with("copied 6 pictures"));
    assert_eq!(sha256sum_check(copy.as_ref()), 6);
    let again = run(&["export", "--from", pictures, copy], &[]);
    assert!(
        String::from_utf8_lossy(&again.stdout)
            .starts_with("copied 0 pictures (0 bytes), 6 were there already")
    );
}

#[test]
fn export_and_verify_find_what_is_wrong_with_a_card() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let ids: Vec<String> =
        (0..3).map(|index| simulator.upload(sample_picture(index).bytes, "image/jpeg")).collect();
    let answer = program.submit(&program.cookie(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    program.settled(answer.json()["receipt"].as_str().unwrap());
    let folder = program.stop();
    let pictures = folder.path().join("data/pictures");
    let day = std::fs::read_dir(&pictures).unwrap().next().unwrap().unwrap().path();
    let file_of = |id: &str| {
        let mut files = std::fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.to_string_lossy().contains(id)).unwrap()
    };
    let mut flipped = std::fs::read(file_of(&ids[0])).unwrap();
    flipped[1000] ^= 1;
    std::fs::write(file_of(&ids[0]), flipped).unwrap();
    std::fs::remove_file(file_of(&ids[1])).unwrap();
    std::fs::write(day.join("holiday.jpg"), b"x").unwrap();

    let verified = run(&["verify", pictures.to_str().unwrap()], &[]);
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1));
    for line in ["changed: ", "missing: ", "unlisted: "] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("the set is NOT complete"));
    let copy = folder.path().join("copy");
    let exported = run(&["export", "--from", pictures.to_str().unwrap(), copy.to_str().unwrap()], &[]);
    assert_eq!(exported.status.code(), Some(1));
    assert_eq!(sha256sum_check(&copy), 1);
}

#[test]
fn the_page_is_signed_for_the_address_that_the_phone_sees() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let target = "/uploadImgDemo?team=%E5%8C%97&from=singlemessage&isappinstalled=0";
    let config = signed_page(&program, target);
    assert_eq!(config["url"], format!("{PUBLIC_URL}{target}"));
    // Whatever Host says, and for POST too.
    let foreign = program.ask("POST", target, &[("X-Forwarded-Host", "evil.example")], b"");
    assert_eq!(embedded_config(&foreign.text())["url"], format!("{PUBLIC_URL}{target}"));

    let fresh = program.get("/jssdk-config?url=https%3A%2F%2Fpics.example.org%2Fx%3Fa%3Db%26c%23frag").json();
    assert_eq!(fresh["url"], format!("{PUBLIC_URL}/x?a=b&c"));
    for config in [&config, &fresh] {
        let text = |key: &str| config[key].as_str().unwrap().to_owned();
        let ticket = ticket_of(&program);
        let signed = format!(
            "jsapi_ticket={ticket}&noncestr={}&timestamp={}&url={}",
            text("nonceStr"),
            config["timestamp"],
            text("url")
        );
        assert_eq!(text("signature"), Sha1::from(signed).digest().to_string());
    }
    for foreign in [
        "https%3A%2F%2Fevil.example%2F",
        "https%3A%2F%2Fpics.example.org.evil.example%2F",
        "",
        "javascript%3Ax",
    ] {
        let refused = program.get(&format!("/jssdk-config?url={foreign}"));
        assert_eq!((refused.status, &refused.json()["rc"]), (403, &json!(1)), "{foreign}");
    }
}

fn ticket_of(program: &Program) -> String {
    let text = std::fs::read(program.folder.path().join("data/credentials.json")).unwrap();
    let kept: Value = serde_json::from_slice(&text).unwrap();
    kept["ticket"][0].as_str().unwrap().to_owned()
}

#[test]
fn without_wechat_the_page_comes_all_the_same() {
    let simulator = simulator();
    simulator.set_outage(true);
    let program = Program::serve(&simulator, &[]);
    let page = program.get("/uploadImgDemo");
    assert_eq!((page.status, embedded_config(&page.text())), (200, json!({})));
    let refused = program.get("/jssdk-config?url=https%3A%2F%2Fpics.example.org%2F");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("2")));
    let accepted = program.submit(&program.cookie(), &["some-id"]);
    assert_eq!(accepted.json()["rc"], 0);
    simulator.set_outage(false);
    program.wait_for_log("got a new jsapi_ticket");
}

/// Each bad input gets the contract's JSON in the visitor's language, naming what is wrong, and changes nothing.
#[test]
fn bad_submissions_are_refused_by_name() {
    let simulator = simulator();
    let program =
        Program::serve(&simulator, &[("TUBOX_LIMITS_IDS_PER_SUBMISSION", "3"), ("TUBOX_LIMITS_RATE", "0")]);
    let cookie = program.cookie();
    let form = |body: &[u8], language: &str| {
        let headers = [
            ("Cookie", cookie.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept-Language", language),
        ];
        program.ask("POST", "/uploadImgData", &headers, body)
    };
    let long_id = format!("data={{\"imgIds\":[\"{}\"]}}", "x".repeat(257));
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "图片不能为空", "no picture"),
        (b"data=", "图片不能为空", "no picture"),
        (b"other=1", "图片不能为空", "no picture"),
        (b"data={\"imgIds\":[]}", "图片不能为空", "no picture"),
        (b"data={\"imgIds\":", "data", "data"),
        (b"data=[1]", "data", "data"),
        (b"data={\"ids\":[]}", "imgIds", "imgIds"),
        (b"data={\"imgIds\":\"a\"}", "imgIds", "imgIds"),
        (b"data={\"imgIds\":[\"ok\",5]}", "第 2 个", "number 2"),
        (b"data={\"imgIds\":[null]}", "第 1 个", "number 1"),
        (b"data={\"imgIds\":[\"../etc/passwd\"]}", "'.'", "'.'"),
        (b"data={\"imgIds\":[\"a+b\"]}", "' '", "' '"),
        (b"data={\"imgIds\":[\"\"]}", "为空", "empty"),
        (b"data={\"imgIds\":[\"a%2Fb\"]}", "'/'", "'/'"),
        (b"data={\"imgIds\":[\"\\u0000\"]}", "不允许", "allowed"),
        (long_id.as_bytes(), "256", "256"),
        (b"data={\"imgIds\":[\"a\",\"b\",\"c\",\"d\"]}", "最多提交 3", "at most 3"),
        (b"data=%ff%fe", "UTF-8", "UTF-8"),
        (b"data={\"imgIds\":[\"a\"]}&data={\"imgIds\":[\"b\"]}", "a field twice", "a field twice"),
        (b"data={\"imgIds\":[\"a\"]}&latitude=91", "latitude", "latitude"),
        (b"data={\"imgIds\":[\"a\"]}&longitude=NaN", "longitude", "longitude"),
    ];
    for (body, zh, en) in cases {
        let shown = String::from_utf8_lossy(body);
        for (language, expected) in [("zh-CN", zh), ("en-US,en", en)] {
            let answer = form(body, language);
            let json = answer.json();
            assert_eq!((answer.status, &json["rc"]), (200, &json!(1)), "{shown}");
            assert!(json["msg"].as_str().unwrap().contains(expected), "{shown}: {json}");
        }
    }
    let note = format!("data={{\"imgIds\":[\"a\"]}}&note={}", "x".repeat(501));
    assert!(
        form(note.as_bytes(), "en").json()["msg"]
            .as_str()
            .unwrap()
            .contains("note must be a text of at most 500")
    );
    let headers = [("Cookie", cookie.as_str()), ("Content-Type", "application/json")];
    for body in [&b"{\"imgIds\":[[]]}"[..], b"[]", b"{", b"\xff", &[b'['; 20_000]] {
        let answer = program.ask("POST", "/uploadImgData", &headers, body);
        assert_eq!(
            (answer.status, &answer.json()["rc"]),
            (200, &json!(1)),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let multipart = program.ask(
        "POST",
        "/uploadImgData",
        &[("Content-Type", "multipart/form-data; boundary=x")],
        b"--x--",
    );
    assert!(multipart.json()["msg"].as_str().unwrap().contains("Content-Type"));
    let huge = program.ask("POST", "/uploadImgData", &headers, &vec![b'a'; 300_000]);
    assert_eq!((huge.status, &huge.json()["rc"]), (413, &json!(1)));
    let get = program.get("/uploadImgData").json();
    assert_eq!((&get["rc"], &get["msg"]), (&json!(1), &json!("图片不能为空")));

    assert_eq!(simulator.calls(Route::MediaGet), 0, "nothing of it became a job");
    let journal = std::fs::read_dir(program.folder.path().join("data/journal")).unwrap().count();
    assert_eq!(journal, 0, "nothing of it was written down");
}

#[test]
fn who_may_submit() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[("TUBOX_LIMITS_RATE", "5")]);
    let refused = program.submit("", &["a"]);
    assert_eq!((refused.status, &refused.json()["code"]), (200, &json!("no-pass")));
    let forged = program.submit("tubox_pass=fffffffff.0000000000000000.00", &["a"]);
    assert_eq!(forged.json()["code"], "no-pass");
    let cookie = program.cookie();
    let headers = [("Cookie", cookie.as_str()), ("Origin", "https://evil.example")];
    let cross = program.ask("POST", "/uploadImgData", &headers, b"data={\"imgIds\":[\"a\"]}");
    assert_eq!(cross.json()["code"], "cross-site");
    assert_eq!(program.submit(&cookie, &["a"]).json()["rc"], 0);
    assert_eq!(program.submit(&cookie, &["b"]).json()["rc"], 0);
    let too_often = program.submit(&cookie, &["c"]);
    assert_eq!((too_often.status, &too_often.json()["rc"]), (429, &json!(1)));
    assert!(too_often.header("Retry-After").unwrap().parse::<u32>().unwrap() >= 1);

    // The cookie outlives a restart; open_submit needs none.
    let folder = program.stop();
    let program = Program::serve_in(folder, &simulator, &[]);
    assert_eq!(program.submit(&cookie, &["d"]).json()["rc"], 0);
    let folder = program.stop();
    let program = Program::serve_in(folder, &simulator, &[("TUBOX_LIMITS_OPEN_SUBMIT", "true")]);
    let json = program.ask(
        "POST",
        "/uploadImgData",
        &[("Content-Type", "application/json")],
        b"{\"imgIds\":[\"e\"]}",
    );
    assert_eq!(json.json()["rc"], 0);
}

#[test]
fn a_full_queue_says_so_and_the_other_routes_go_on() {
    let simulator = simulator();
    simulator.set_outage(true);
    let program = Program::serve(&simulator, &[("TUBOX_LIMITS_QUEUE", "2")]);
    let cookie = program.cookie();
    assert_eq!(program.submit(&cookie, &["a", "b"]).json()["rc"], 0);
    let full = program.submit(&cookie, &["c"]);
    assert_eq!((full.status, &full.json()["code"]), (503, &json!("queue-full")));
    assert_eq!(program.submit(&cookie, &["b", "a"]).json()["rc"], 0, "known ids are welcome");
    assert_eq!(program.get("/healthz").status, 200);
    assert_eq!(program.get("/readyz").status, 200);
}

#[test]
fn routes_methods_and_headers_are_as_the_contract_has_them() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let verify_dir = program.folder.path().join("verify");
    std::fs::write(verify_dir.join("MP_verify_abcDEF0123456789.txt"), b"abcDEF0123456789").unwrap();
    std::fs::write(program.folder.path().join("secret.txt"), b"secret").unwrap();

    let root = program.get("/?team=north");
    assert_eq!((root.status, root.header("Location")), (302, Some("/uploadImgDemo?team=north")));
    let file = program.get("/MP_verify_abcDEF0123456789.txt");
    assert_eq!((file.status, &file.body[..]), (200, &b"abcDEF0123456789"[..]));
    for missing in [
        "/MP_verify_nonesuch.txt",
        "/MP_verify_../secret.txt",
        "/MP_verify_%2e%2e%2fsecret.txt",
        "/MP_verify_.txt",
        "/assets/../secret.txt",
        "/assets/",
        "/nothing",
        "/receipt/unknown2345",
        "/receipt/..%2f..",
    ] {
        assert_eq!(program.get(missing).status, 404, "{missing}");
    }
    let wrong = program.ask("POST", "/healthz", &[], b"");
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("GET, HEAD")));
    let head = program.ask("HEAD", "/uploadImgDemo", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));

    let page = program.get("/uploadImgDemo");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert!(page.header("Content-Security-Policy").unwrap().contains("frame-ancestors 'none'"));
    let text = page.text();
    for (prefix, kind) in [("/assets/page.", "text/javascript"), ("/assets/style.", "text/css")] {
        let at = text.find(prefix).unwrap();
        let address = text[at..].split('"').next().unwrap();
        let asset = program.get(address);
        assert_eq!((asset.status, asset.header("Content-Encoding")), (200, None));
        let packed = program.ask("GET", address, &[("Accept-Encoding", "gzip, deflate")], b"");
        assert_eq!(
            (packed.header("Content-Encoding"), packed.header("Vary")),
            (Some("deflate"), Some("Accept-Encoding"))
        );
        let mut unpacked = Vec::new();
        flate2::read::ZlibDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == asset.body && packed.body.len() * 2 < unpacked.len());
        assert!(asset.header("Content-Type").unwrap().starts_with(kind));
        assert!(asset.header("Cache-Control").unwrap().contains("immutable"));
    }
    for (method, target, fields, status, allow) in [
        ("GET", "/", &[] as &[(&str, &str)], 302, None),
        ("GET", "/uploadImgDemo", &[], 200, None),
        ("HEAD", "/uploadImgDemo", &[], 200, None),
        ("GET", "/uploadImgData", &[], 200, None),
        ("GET", "/healthz", &[], 200, None),
        ("GET", "/nothing", &[], 404, None),
        ("GET", "/qr.svg", &[], 403, None),
        ("GET", "/metrics", &[], 401, None),
        ("GET", "/admin/", &[], 200, None),
        ("PUT", "/uploadImgDemo", &[], 405, Some("GET, HEAD, POST")),
        ("DELETE", "/healthz", &[], 405, Some("GET, HEAD")),
        ("PATCH", "/receipt/abc", &[], 405, Some("GET, HEAD")),
        ("DELETE", "/admin/", &[], 401, None),
        // The door's own.
        ("TRACE", "/", &[], 405, Some("GET, HEAD, POST, OPTIONS")),
        ("BREW", "/", &[], 501, None),
        ("GET", "/", &[("Content-Length", "x")], 400, None),
    ] {
        let answer = program.ask(method, target, fields, b"");
        assert_eq!((answer.status, answer.header("Allow")), (status, allow), "{method} {target}");
        for (name, value) in [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {target}");
        }
        let policy = answer.header("Content-Security-Policy").unwrap_or_default();
        assert!(policy.contains("frame-ancestors 'none'"), "{method} {target}: {policy:?}");
    }
    let qr = program.get("/qr.svg?url=https%3A%2F%2Fpics.example.org%2FuploadImgDemo");
    assert!(qr.text().contains("<svg") && qr.header("Content-Type") == Some("image/svg+xml"));
    let chinese = program.ask("GET", "/uploadImgDemo", &[("Accept-Language", "zh-CN")], b"").text();
    let english = program.ask("GET", "/uploadImgDemo", &[("Accept-Language", "en")], b"").text();
    assert!(chinese.contains("<html lang=\"zh-CN\">") && english.contains("<html lang=\"en\">"));
}

#[test]
fn settings_are_checked_as_a_whole_before_anything_starts() {
    let output = run(
        &["serve", "--config", "/dev/null"],
        &[("TUBOX_LISTEN", "nowhere"), ("TUBOX_DRAIN_DOWNLOADS", "0")],
    );
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for key in ["listen", "public_url", "wechat.app_id", "wechat.app_secret_file", "drain.downloads"] {
        assert!(text.contains(&format!("\n  {key} ")), "{key} is not named in:\n{text}");
    }
    assert_eq!(run(&["serve", "--config", "/nonexistent"], &[]).status.code(), Some(2));
    assert_eq!(run(&["fly"], &[]).status.code(), Some(2));
    assert_eq!(run(&["--version"], &[]).status.code(), Some(0));
}

#[test]
fn a_second_box_on_the_same_folder_or_port_ends_with_3() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let data_dir = program.folder.path().join("data");
    let address = program.address.to_string();
    let free = tempfile::tempdir().unwrap();
    let start = |listen: &str, data_dir: &std::path::Path| {
        let environment = [
            ("TUBOX_LISTEN", listen),
            ("TUBOX_PUBLIC_URL", PUBLIC_URL),
            ("TUBOX_DATA_DIR", data_dir.to_str().unwrap()),
            ("TUBOX_WECHAT_APP_ID", "wx0123456789abcdef"),
            ("TUBOX_WECHAT_APP_SECRET", "0123456789abcdef"),
        ];
        run(&["serve", "--config", "/dev/null"], &environment)
    };
    let same_folder = start("127.0.0.1:0", &data_dir);
    assert_eq!(same_folder.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&same_folder.stderr).contains("another tubox is running"));
    let same_port = start(&address, free.path());
    assert_eq!(same_port.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&same_port.stderr).contains(&address));
}

#[test]
fn a_stop_is_in_order_and_no_secret_is_in_the_log() {
    let simulator = simulator();
    let stalled = simulator.upload(sample_picture(1).bytes, "image/jpeg");
    simulator.queue_media_fault(&stalled, tubox::simulator::Fault::stall());
    let mut program = Program::serve(&simulator, &[]);
    assert_eq!(program.submit(&program.cookie(), &[&stalled]).json()["rc"], 0);
    program.wait_for_log("got a new jsapi_ticket");
    let started = std::time::Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(started.elapsed().as_secs() < 15);
    program.wait_for_log("stopped");
    let log = program.log_text();
    let kept: Value =
        serde_json::from_slice(&std::fs::read(program.folder.path().join("data/credentials.json")).unwrap())
            .unwrap();
    for secret in
        [kept["token"][0].as_str().unwrap(), kept["ticket"][0].as_str().unwrap(), "5ec2e70f", "access_token="]
    {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    for file in ["credentials.json", "pass_key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = program.folder.path().join("data").join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    // What was released is fetched by the next run.
    let folder = std::mem::replace(&mut program.folder, tempfile::tempdir().unwrap());
    drop(program);
    let program = Program::serve_in(folder, &simulator, &[]);
    program.wait_for_log("saved 2");
    assert_eq!(simulator.calls(Route::StableToken), 1, "the token that was kept is still good");
}

/// The kernel would make 2 MiB of every stack of which a page was touched.
#[test]
fn memory_is_not_rounded_up_to_huge_pages() {
    let program = Program::serve(&simulator(), &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    // Kernels without huge pages do not have the line.
    let line = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert!(line.is_none_or(|value| value.trim() == "0"), "{line:?}");
}
