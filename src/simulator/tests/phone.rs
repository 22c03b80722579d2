//! The phone's side: script, signature check, uploads, and the levers over HTTP.

use super::*;
use crate::simulator::samples::sample_picture;
use serde_json::json;

const TICKET: &str = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg";

fn official_page() -> Value {
    json!({
        "appId": APP_ID,
        "timestamp": "1414587457",
        "nonceStr": "Wm3WZYTPz0wzccnW",
        "url": "http://mp.weixin.qq.com?params=value",
        "signature": "0f9de62fce790f9a083d5c99e95740ceb90c27ed",
    })
}

#[test]
fn the_official_vector_passes_and_any_change_fails() {
    let stage = Stage::new();
    let ask = |page: &Value| stage.post_json("/sim/check-signature", page).json();
    assert_eq!(ask(&official_page())["ok"], false, "no ticket has been issued");
    stage.simulator.set_ticket(TICKET);
    assert_eq!(ask(&official_page()), json!({"ok": true, "errMsg": "config:ok"}));
    let mut fragment = official_page();
    fragment["url"] = json!("http://mp.weixin.qq.com?params=value#top");
    assert_eq!(ask(&fragment)["ok"], true);
    let mut number = official_page();
    number["timestamp"] = json!(1_414_587_457);
    assert_eq!(ask(&number)["ok"], true);
    let changes = [
        ("appId", "wx1"),
        ("timestamp", "1414587458"),
        ("timestamp", "1414587457000"),
        ("nonceStr", "x"),
        ("url", "http://mp.weixin.qq.com/?params=value"),
        ("signature", "0F9DE62FCE790F9A083D5C99E95740CEB90C27ED"),
    ];
    for (field, value) in changes {
        let mut page = official_page();
        page[field] = json!(value);
        let answer = ask(&page);
        assert_eq!(
            answer["errMsg"], "config:fail,Error: 系统错误,错误码:63002,invalid signature",
            "{field} {value}"
        );
    }
    let mut lacking = official_page();
    lacking["nonceStr"] = Value::Null;
    assert_eq!(ask(&lacking)["errMsg"], "config:fail");
    stage.advance(7200);
    assert_eq!(ask(&official_page())["ok"], false, "the ticket has died");
    assert_eq!(stage.simulator.signature_checks(), SignatureChecks { good: 3, bad: 9 });
}

#[test]
fn a_ticket_from_the_api_is_the_one_that_is_checked() {
    let stage = Stage::new();
    let ticket = stage.ticket(&stage.token()).json()["ticket"].as_str().unwrap().to_owned();
    let url = "https://pics.example.org/uploadImgDemo?from=x";
    let text = format!("jsapi_ticket={ticket}&noncestr=abc&timestamp=1700000000&url={url}");
    let signature = sha1_smol::Sha1::from(text).digest().to_string();
    let page = json!({"appId": APP_ID, "timestamp": "1700000000", "nonceStr": "abc", "url": url, "signature": signature});
    assert_eq!(stage.post_json("/sim/check-signature", &page).json()["ok"], true);
    stage.simulator.expire_ticket();
    assert_eq!(stage.post_json("/sim/check-signature", &page).json()["ok"], false);
}

#[test]
fn pages_of_other_domains_are_refused() {
    let stage = Stage::with(|options| options.allowed_page_origins = vec!["https://pics.example.org".into()]);
    stage.simulator.set_ticket(TICKET);
    let answer = stage.post_json("/sim/check-signature", &official_page()).json();
    assert!(answer["errMsg"].as_str().unwrap().contains("40048,invalid url domain"));
}

#[test]
fn the_script_is_served_to_any_page() {
    let stage = Stage::new();
    for target in ["/open/js/jweixin-1.6.0.js", "/open/js/jweixin-1.2.0.js?flavour=ios"] {
        let reply = stage.get(target);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/javascript; charset=utf-8"));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert!(String::from_utf8(reply.body).unwrap().contains("chooseImage"));
    }
    stage.assert_no_violation();
    assert_eq!(stage.get("/open/js/jweixin-x.js").status, 404);
    stage.simulator.queue_fault(Route::Script, Fault::Status(503));
    assert_eq!(stage.get("/open/js/jweixin-1.6.0.js").status, 503);
}

#[test]
fn the_script_needs_no_loose_security_policy() {
    let script = include_str!("../../../assets/simulator/jweixin.js");
    for loose in [
        "eval(",
        "new Function",
        "innerHTML",
        "outerHTML",
        "document.write",
        "setAttribute(\"style\"",
        "cssText",
    ] {
        assert!(!script.contains(loose), "{loose}");
    }
}

#[test]
fn preflights_are_answered() {
    let stage = Stage::new();
    for path in ["/sim/upload", "/sim/check-signature"] {
        let head = "Origin: http://127.0.0.1:8080\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type";
        let reply = stage.send(format!("OPTIONS {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 204);
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("access-control-allow-headers"), Some("content-type"));
    }
    assert_eq!(stage.simulator.calls(Route::Upload), 0, "a preflight is no call");
    stage.assert_no_violation();
}

#[test]
fn an_uploaded_picture_can_be_fetched_as_wechat_has_it() {
    let stage = Stage::new();
    let sample = sample_picture(1);
    let answer = stage.post("/sim/upload", sample.content_type, &sample.bytes).json();
    let media_id = answer["media_id"].as_str().unwrap();
    let fetched = stage.media(&stage.token(), media_id);
    assert_eq!((fetched.header("content-type"), &fetched.body), (Some("image/png"), &sample.bytes));
    assert_eq!(stage.get(&format!("/sim/uploaded/{media_id}")).body, sample.bytes);
    assert_eq!(stage.get("/sim/uploaded").json(), json!([media_id]));
    let chosen = stage.post("/sim/upload?media_id=chosen-1", "image/gif", b"GIF89a").json();
    assert_eq!(chosen["media_id"], "chosen-1");
    assert_eq!(stage.simulator.uploaded("chosen-1"), Some(b"GIF89a".to_vec()));
    assert_eq!(stage.simulator.uploaded_ids().len(), 2);
    assert_eq!(stage.post("/sim/upload", "image/gif", b"").status, 400);
    assert_eq!(stage.get("/sim/uploaded/nobody").status, 404);
    stage.assert_no_violation();
}

#[test]
fn faults_are_set_over_http() {
    let stage = Stage::new();
    let token = stage.token();
    stage.simulator.upload_as("a", vec![1], "image/png");
    let order =
        json!({"route": "media_get", "media_id": "a", "times": 2, "fault": {"kind": "error", "code": 40007}});
    assert_eq!(stage.post_json("/sim/fault", &order).status, 200);
    assert_eq!(stage.media(&token, "a").errcode(), 40007);
    assert_eq!(stage.media(&token, "a").errcode(), 40007);
    assert_eq!(stage.media(&token, "a").body, [1]);
    stage.post_json("/sim/fault", &json!({"route": "stable_token", "mode": "always", "fault": 40164}));
    assert_eq!(stage.stable(false).errcode(), 40164);
    stage.post_json("/sim/clear-faults", &json!({}));
    assert_eq!(stage.token(), token);
    for bad in [
        json!({}),
        json!({"fault": "x"}),
        json!({"fault": 1, "route": "x"}),
        json!({"fault": 1, "mode": "x"}),
    ] {
        let reply = stage.post_json("/sim/fault", &bad);
        assert_eq!(reply.status, 400);
        assert!(reply.json()["error"].is_string());
    }
    assert_eq!(stage.post("/sim/fault", "application/json", b"{").status, 400);
}

#[test]
fn levers_work_over_http() {
    let stage = Stage::new();
    let push =
        |lever: &str| assert_eq!(stage.post(&format!("/sim/{lever}"), "application/json", b"").status, 200);
    let first = stage.token();
    push("expire-token");
    let second = stage.token();
    assert_ne!(first, second);
    push("steal-token");
    assert_eq!(stage.ticket(&second).errcode(), 40001);
    let third = stage.token();
    let ticket = stage.ticket(&third).json();
    push("expire-ticket");
    assert_ne!(stage.ticket(&third).json(), ticket);
    push("wedge-token");
    assert_eq!(stage.token(), third);
    assert_eq!(stage.post_json("/sim/allow-ips", &json!({"ips": ["198.51.100.9"]})).status, 200);
    assert_eq!(stage.stable(false).errcode(), 40164);
    assert_eq!(stage.post_json("/sim/allow-ips", &json!({"ips": null})).status, 200);
    assert_eq!(stage.token(), third);
    let calls = stage.get("/sim/calls").json();
    assert_eq!(calls["getticket"], 3);
    assert_eq!(calls["total"].as_u64().unwrap(), stage.simulator.calls_total());
    assert_eq!(stage.get("/sim/signatures").json(), json!({"good": 0, "bad": 0}));
    assert_eq!(stage.get("/sim/violations").json(), json!([]));
    assert_eq!(stage.post("/sim/unheard-of", "application/json", b"").status, 404);
    assert_eq!(stage.get("/sim/violations").json().as_array().unwrap().len(), 1);
    push("clear-violations");
    stage.assert_no_violation();
}

#[test]
fn a_pages_own_slips_become_violations() {
    let stage = Stage::new();
    assert_eq!(stage.post_json("/sim/page-violation", &json!({"text": "two uploads\nat once"})).status, 200);
    assert_eq!(stage.simulator.violations(), ["script: two uploads\\u{a}at once"]);
}

#[test]
fn memory_is_bounded_and_any_id_can_be_answered() {
    let stage = Stage::with(|options| options.picture_bytes_max = 100);
    let first = stage.simulator.upload(vec![1; 60], "image/png");
    let second = stage.simulator.upload(vec![2; 60], "image/png");
    assert_eq!(stage.simulator.uploaded(&first), None);
    assert_eq!(stage.simulator.uploaded(&second), Some(vec![2; 60]));
    let token = stage.token();
    assert_eq!(stage.media(&token, "never-uploaded").errcode(), 40007);
    stage.simulator.answer_any_id(Some((vec![7], "image/png")));
    assert_eq!(stage.media(&token, "never-uploaded").body, [7]);
}
