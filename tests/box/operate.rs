//! The operator's side: status, retry, the admin token, metrics.

use crate::program::{Program, run, simulator};
use serde_json::{Value, json};
use tubox::simulator::{Fault, Route};

struct Operator {
    settings: Vec<(String, String)>,
    token: String,
}

impl Operator {
    fn of(program: &Program) -> Operator {
        let data_dir = program.folder.path().join("data");
        let settings = [
            ("TUBOX_LISTEN", program.address.to_string()),
            ("TUBOX_PUBLIC_URL", crate::program::PUBLIC_URL.to_owned()),
            ("TUBOX_DATA_DIR", data_dir.display().to_string()),
            ("TUBOX_WECHAT_APP_ID", "wx0123456789abcdef".to_owned()),
            ("TUBOX_WECHAT_APP_SECRET", "5ec2e70f5ec2e70f".to_owned()),
        ];
        let token = std::fs::read_to_string(data_dir.join("admin_token")).unwrap().trim().to_owned();
        Operator { settings: settings.map(|(key, value)| (key.to_owned(), value)).to_vec(), token }
    }

    fn runs(&self, args: &[&str]) -> (Option<i32>, String) {
        let environment: Vec<(&str, &str)> =
            self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let output = run(args, &environment);
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    }

    fn status(&self) -> Value {
        let (_, text) = self.runs(&["status", "--json", "--config", "/dev/null"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

#[test]
fn status_tells_what_is_wrong_and_retry_puts_it_back() {
    let simulator = simulator();
    let runtime = tempfile::tempdir().unwrap();
    let program = Program::serve(&simulator, &[("RUNTIME_DIRECTORY", runtime.path().to_str().unwrap())]);
    let operator = Operator::of(&program);
    let fake = "1237378768e7q8e7r8qwesafdasdfasdfaxss111";
    let receipt = program.submit(&program.cookie(), &[fake]).json()["receipt"].as_str().unwrap().to_owned();
    let view = program.settled(&receipt);
    assert_eq!(view["pictures"][0]["state"], "failed");

    let status = operator.status();
    assert_eq!(
        (&status["waiting"], &status["saved"], &status["paused"]),
        (&json!(0), &json!(0), &Value::Null)
    );
    assert_eq!(status["failed"][0]["media_id"], fake);
    assert_eq!(status["failed"][0]["code"], "fake-id");
    assert!(status["failed"][0]["remedy"].as_str().unwrap().contains("phone"));
    assert!(status["disk_free_bytes"].as_u64().unwrap() > 0);
    assert_eq!((&status["saved_today"], &status["stick"]), (&json!(0), &Value::Null));
    let (code, text) = operator.runs(&["status", "--config", "/dev/null"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("failed                1"), "{text}");

    let (code, text) = operator.runs(&["retry", "--all", "--config", "/dev/null"]);
    assert_eq!((code, text.trim()), (Some(0), "put 1 failed pictures back into the queue"));
    program.settled(&receipt);
    let (code, _) = operator.runs(&["retry", "unknown-id", "--config", "/dev/null"]);
    assert_eq!(code, Some(1));
    assert_eq!(operator.runs(&["retry", "--config", "/dev/null"]).0, Some(2));
    let (code, text) = operator.runs(&["admin-url", "--config", "/dev/null"]);
    assert_eq!(
        (code, text.trim()),
        (Some(0), format!("https://pics.example.org/admin/#{}", operator.token).as_str())
    );

    // A picture, and a stick.
    let good = simulator.upload(tubox::simulator::samples::sample_picture(0).bytes, "image/jpeg");
    let receipt = program.submit(&program.cookie(), &[&good]).json()["receipt"].as_str().unwrap().to_owned();
    program.settled(&receipt);
    let report = json!({"state": "done", "device": "sda1", "since": "2026-11-22T10:00:00Z", "reason": "",
        "safe_to_pull": true, "export": {"copied": 1, "problems": []}});
    std::fs::write(runtime.path().join("usb.json"), report.to_string()).unwrap();
    let status = operator.status();
    assert_eq!((&status["saved"], &status["saved_today"]), (&json!(1), &json!(1)));
    assert_eq!((&status["stick"]["safe_to_pull"], &status["stick"]["export"]), (&json!(true), &Value::Null));
    let (_, text) = operator.runs(&["status", "--config", "/dev/null"]);
    for line in
        ["saved today           1", "stick                 complete, safe to pull (2026-11-22T10:00:00Z)"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    std::fs::write(runtime.path().join("usb.json"), "{\"state\":").unwrap();
    assert_eq!(operator.status()["stick"], Value::Null, "half a report is none");
    drop(program);
    assert_eq!(operator.runs(&["status", "--config", "/dev/null"]).0, Some(3));
}

#[test]
fn a_pause_is_told_with_its_remedy_and_ends_when_it_is_mended() {
    let simulator = simulator();
    simulator.always(Route::MediaGet, Fault::code(48001));
    let program = Program::serve(&simulator, &[]);
    let operator = Operator::of(&program);
    let id = simulator.upload(tubox::simulator::samples::sample_picture(0).bytes, "image/jpeg");
    let receipt = program.submit(&program.cookie(), &[&id]).json()["receipt"].as_str().unwrap().to_owned();
    program.wait_for_log("everything waits");
    let status = operator.status();
    assert_eq!(status["paused"]["code"], "48001");
    assert!(status["paused"]["remedy"].as_str().unwrap().contains("verified"));
    simulator.clear_faults();
    let bearer = format!("Bearer {}", operator.token);
    let resumed = program.ask("POST", "/admin/resume", &[("Authorization", &bearer)], b"");
    assert_eq!(resumed.status, 200);
    assert_eq!(program.settled(&receipt)["pictures"][0]["state"], "saved");
    assert_eq!(operator.status()["paused"], Value::Null);
}

#[test]
fn only_the_token_opens_the_operators_routes() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let operator = Operator::of(&program);
    let bearer = format!("Bearer {}", operator.token);
    for target in ["/metrics", "/admin/status", "/admin/retry", "/admin/nothing"] {
        assert_eq!(program.get(target).status, 401, "{target}");
        let wrong = program.ask("GET", target, &[("Authorization", "Bearer 0123456789abcdef")], b"");
        assert_eq!(wrong.status, 401, "{target}");
    }
    program.wait_for_log("got a new jsapi_ticket");
    let metrics = program.ask("GET", "/metrics", &[("Authorization", &bearer)], b"").text();
    for name in [
        "tubox_queue_waiting 0",
        "tubox_pictures_saved_total 0",
        "tubox_disk_free_bytes ",
        "tubox_token_refreshes_total 1",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }

    // A browser logs in with the token from the fragment; the cookie reads, and changes only deliberately.
    let body = format!("token={}", operator.token);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let by_form = program.ask("POST", "/admin/login", &[form], body.as_bytes());
    assert_eq!(by_form.status, 401, "a form of another site cannot log in");
    let logged_in = program.ask("POST", "/admin/login", &[form, ("X-Tubox-Admin", "1")], body.as_bytes());
    let cookie = logged_in.header("Set-Cookie").unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(program.ask("GET", "/admin/status", &[("Cookie", &cookie)], b"").status, 200);
    let cross = program.ask("POST", "/admin/retry", &[("Cookie", &cookie)], b"{\"all\":true}");
    assert_eq!(cross.status, 401);
    let own = program.ask(
        "POST",
        "/admin/retry",
        &[("Cookie", &cookie), ("X-Tubox-Admin", "1")],
        b"{\"all\":true}",
    );
    assert_eq!(own.json(), json!({"rc": 0, "retried": 0}));
    let visitor = program.cookie();
    let swapped = visitor.replace("tubox_pass=", "tubox_admin=");
    assert_eq!(program.ask("GET", "/admin/status", &[("Cookie", &swapped)], b"").status, 401);

    let guesses = (0..20).map(|guess| {
        program
            .ask("POST", "/admin/login", &[form, ("X-Tubox-Admin", "1")], format!("token={guess}").as_bytes())
            .status
    });
    assert!(guesses.into_iter().any(|status| status == 429), "guessing is bounded");
    assert_eq!(
        program.ask("GET", "/metrics", &[("Authorization", &bearer)], b"").status,
        200,
        "the holder still gets in"
    );
    assert!(!program.log_text().contains(&operator.token));
}

#[test]
fn somebody_is_called_when_a_person_is_needed() {
    use std::io::{Read, Write};
    let hook = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hook.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (command, told) = (folder.path().join("alert"), folder.path().join("told"));
    std::fs::write(&command, format!("#!/bin/sh\necho \"$1: $(cat)\" >> {}\n", told.display())).unwrap();
    std::process::Command::new("chmod").arg("+x").arg(&command).status().unwrap();
    let simulator = simulator();
    simulator.always(Route::MediaGet, Fault::code(48001));
    let webhook = format!("http://{address}/topic?key=hush-hush");
    let alerts =
        [("TUBOX_ALERTS_WEBHOOK", webhook.as_str()), ("TUBOX_ALERTS_COMMAND", command.to_str().unwrap())];
    let program = Program::serve(&simulator, &alerts);
    program.submit(&program.cookie(), &["some-id"]);
    let (mut stream, _) = hook.accept().unwrap();
    let mut request = String::new();
    while !request.contains("verified") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{request}");
        request.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(request.starts_with("POST /topic?key=hush-hush HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("Host: {address}\r\n")) && request.contains("48001"), "{request}");
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.starts_with("paused: ") && told.contains("48001"), "{told}");
    assert!(!program.log_text().contains("hush-hush"));
}

#[test]
fn an_address_that_never_sends_a_picture_loses_its_welcome() {
    let simulator = simulator();
    let settings = [("TUBOX_LIMITS_TRUSTED_PROXIES", "127.0.0.1"), ("TUBOX_LIMITS_RATE", "0")];
    let program = Program::serve(&simulator, &settings);
    let cookie = program.cookie();
    let id = simulator.upload(tubox::simulator::samples::sample_picture(0).bytes, "image/jpeg");
    let receipt = program.submit(&cookie, &[&id]).json()["receipt"].as_str().unwrap().to_owned();
    program.settled(&receipt);
    let submit_from = |client: &str, ids: &[String]| {
        let body = format!("data={}", json!({"imgIds": ids}));
        let headers = [
            ("Cookie", cookie.as_str()),
            ("X-Forwarded-For", client),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        program.ask("POST", "/uploadImgData", &headers, body.as_bytes()).json()
    };
    // One by one, and then many more that nobody has judged yet: neither hides them.
    for number in 0..25 {
        assert_eq!(submit_from("10.1.1.1", &[format!("made-up-{number}")])["rc"], 0);
    }
    let started = std::time::Instant::now();
    while simulator.calls(Route::MediaGet) < 1 + 50 {
        assert!(started.elapsed() < crate::program::PATIENCE, "{}", program.log_text());
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let refused =
        (0..100).map(|number| submit_from("10.1.1.1", &[format!("more-{number}")])).find(|answer| {
            std::thread::park_timeout(std::time::Duration::from_millis(200));
            answer["code"] == "unwelcome"
        });
    assert!(refused.is_some(), "{}", program.log_text());
    assert_eq!(submit_from("10.2.2.2", &["other".to_owned()])["rc"], 0, "others are as welcome as before");
}
