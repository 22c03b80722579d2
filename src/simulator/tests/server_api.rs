//! Tokens, ticket, media/get, strictness, quotas.

use super::*;
use serde_json::json;

#[test]
fn a_stable_token_comes_as_wechat_sends_it() {
    let stage = Stage::new();
    let reply = stage.stable(false);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json; encoding=utf-8"));
    assert_eq!(reply.header("date"), Some("Wed, 23 Aug 2023 09:35:12 GMT"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string());
    assert_eq!(reply.json()["expires_in"], 7200);
    assert!(reply.json().get("errcode").is_none());
    let token = stage.token();
    assert_eq!(reply.json()["access_token"], token);
    stage.advance(6899);
    assert_eq!(stage.stable(false).json()["expires_in"], 301);
    stage.advance(1);
    assert_ne!(stage.token(), token);
    assert!(stage.ticket(&token).json()["ticket"].is_string(), "old and new are both good");
    stage.advance(300);
    assert_eq!(stage.ticket(&token).errcode(), 42001);
    assert_eq!(stage.simulator.calls(Route::StableToken), 4);
    stage.assert_no_violation();
}

#[test]
fn a_forced_refresh_kills_the_old_token_at_once() {
    let stage = Stage::new();
    let old = stage.token();
    let new = stage.stable(true).json()["access_token"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    assert_eq!(stage.ticket(&old).errcode(), 40001);
    assert_eq!(stage.ticket(&new).errcode(), 0);
    assert_eq!(stage.stable(true).json()["access_token"], new, "twice within 30 s is once");
    for _ in 1..20 {
        stage.advance(30);
        assert!(stage.stable(true).json()["access_token"].is_string());
    }
    stage.advance(30);
    assert_eq!(stage.stable(true).errcode(), 45009);
    stage.assert_no_violation();
}

#[test]
fn the_classic_token_is_another_one() {
    let stage = Stage::new();
    let stable = stage.token();
    let target = format!("/cgi-bin/token?grant_type=client_credential&appid={APP_ID}&secret={SECRET}");
    let first = stage.get(&target).json()["access_token"].as_str().unwrap().to_owned();
    let second = stage.get(&target).json()["access_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    for good in [&stable, &first, &second] {
        assert_eq!(stage.ticket(good).errcode(), 0);
    }
    stage.advance(300);
    assert_eq!(stage.ticket(&first).errcode(), 42001);
    assert_eq!(stage.ticket(&second).errcode(), 0);
    assert_eq!(stage.ticket(&stable).errcode(), 0);
    stage.assert_no_violation();
}

#[test]
fn wrong_accounts_get_their_codes() {
    let stage = Stage::new();
    let ask = |app_id: &str, secret: &str| {
        let body = json!({"grant_type": "client_credential", "appid": app_id, "secret": secret});
        stage.post_json("/cgi-bin/stable_token", &body).errcode()
    };
    assert_eq!(ask("wx1", SECRET), 40013);
    assert_eq!(ask(APP_ID, "no"), 40125);
    let classic = |app_id: &str, secret: &str| {
        stage
            .get(&format!("/cgi-bin/token?grant_type=client_credential&appid={app_id}&secret={secret}"))
            .errcode()
    };
    assert_eq!(classic("wx1", SECRET), 40013);
    assert_eq!(classic(APP_ID, "no"), 40001);
    stage.assert_no_violation();
    assert_eq!(ask("", SECRET), 41002);
    assert_eq!(ask(APP_ID, ""), 41004);
    assert_eq!(stage.simulator.violations().len(), 2, "an omitted parameter is the client's slip");
}

#[test]
fn the_error_text_names_the_address_and_the_time() {
    let stage = Stage::new();
    stage.simulator.allow_ips(Some(vec!["198.51.100.1".parse().unwrap()]));
    let reply = stage.stable(false);
    assert_eq!(reply.errcode(), 40164);
    let text = reply.json()["errmsg"].as_str().unwrap().to_owned();
    let start = "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 64e5d2d0-";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(text.len(), start.len() + 17);
    stage.simulator.set_egress_ip("198.51.100.1".parse().unwrap());
    let token = stage.token();
    stage.simulator.allow_ips(Some(Vec::new()));
    assert_eq!(stage.media(&token, "a").errcode(), 40164, "the list covers every call");
    stage.assert_no_violation();
}

#[test]
fn the_ticket_stays_the_same_and_says_7200() {
    let stage = Stage::new();
    let token = stage.token();
    let first = stage.ticket(&token).json();
    assert_eq!((first["errcode"].as_i64(), first["expires_in"].as_i64()), (Some(0), Some(7200)));
    stage.advance(6000);
    assert_eq!(stage.ticket(&token).json(), first);
    stage.advance(1200);
    let token = stage.token();
    assert_ne!(stage.ticket(&token).json()["ticket"], first["ticket"]);
    let second = stage.ticket(&token).json();
    stage.simulator.expire_ticket();
    assert_ne!(stage.ticket(&token).json(), second);
    stage.assert_no_violation();
}

#[test]
fn a_picture_comes_back_byte_for_byte_for_three_days() {
    let stage = Stage::new();
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 7) as u8).collect();
    let media_id = stage.simulator.upload(bytes.clone(), "image/png");
    assert_eq!(media_id.len(), 64);
    let token = stage.token();
    let reply = stage.media(&token, &media_id);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, bytes);
    assert_eq!(stage.simulator.uploaded(&media_id), Some(bytes));
    assert_eq!(reply.header("content-type"), Some("image/png"));
    assert_eq!(reply.header("content-length"), Some("200000"));
    assert_eq!(reply.header("cache-control"), Some("no-cache, must-revalidate"));
    let name = format!("attachment; filename=\"{media_id}.png\"");
    assert_eq!(reply.header("content-disposition"), Some(name.as_str()));
    assert!(reply.head.contains("Content-disposition:"), "spelled as WeChat spells it");
    let head = format!(
        "HEAD /cgi-bin/media/get?access_token={token}&media_id={media_id} HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let head = stage.send(head.as_bytes());
    assert_eq!((head.header("content-length"), head.body.len()), (Some("200000"), 0));
    stage.advance(3 * 24 * 3600);
    assert_eq!(stage.media(&stage.token(), &media_id).errcode(), 40007);
    stage.assert_no_violation();
}

#[test]
fn ids_that_cannot_be_fetched_are_40007() {
    let stage = Stage::new();
    stage.simulator.upload_as(DEVTOOLS_MEDIA_ID, vec![1], "image/png");
    let token = stage.token();
    for id in ["nobody-uploaded-this", DEVTOOLS_MEDIA_ID, "weixin%3A%2F%2Fresourceid%2F1"] {
        assert_eq!(stage.media(&token, id).errcode(), 40007, "{id}");
    }
    stage.assert_no_violation();
    assert_eq!(stage.media(&token, "").errcode(), 41006);
    assert_eq!(stage.media("", "a").errcode(), 41001);
    assert_eq!(stage.simulator.violations().len(), 2);
}

#[test]
fn tokens_die_in_their_different_ways() {
    let stage = Stage::new();
    let id = stage.simulator.upload(vec![1, 2, 3], "image/jpeg");
    assert_eq!(stage.media("nonsense", &id).errcode(), 40014);
    assert_eq!(stage.media(&"n".repeat(150), &id).errcode(), 40001);
    let first = stage.token();
    stage.simulator.expire_token();
    assert_eq!(stage.media(&first, &id).errcode(), 40001);
    let second = stage.token();
    assert_eq!(stage.media(&second, &id).body, [1, 2, 3]);
    stage.simulator.steal_token();
    assert_eq!(stage.media(&second, &id).errcode(), 40001);
    let third = stage.token();
    assert_eq!(stage.media(&third, &id).body, [1, 2, 3]);
    stage.simulator.wedge_token();
    assert_eq!(stage.token(), third, "handed out although it is dead");
    assert_eq!(stage.media(&third, &id).errcode(), 40001);
    let fourth = stage.stable(true).json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(stage.media(&fourth, &id).body, [1, 2, 3]);
    stage.assert_no_violation();
}

#[test]
fn quotas_are_counted_by_minute_and_by_day() {
    let stage = Stage::new();
    let id = stage.simulator.upload(vec![1], "image/jpeg");
    let token = stage.token();
    stage.simulator.set_quota(Route::MediaGet, Quota { per_day: Some(3), per_minute: Some(2) });
    assert_eq!(stage.media(&token, &id).body, [1]);
    assert_eq!(stage.media(&token, &id).body, [1]);
    assert_eq!(stage.media(&token, &id).errcode(), 45011);
    stage.advance(60);
    assert_eq!(stage.media(&token, &id).errcode(), 45009);
    let asked = json!({"cgi_path": "/cgi-bin/media/get"});
    let quota = stage.post_json(&format!("/cgi-bin/openapi/quota/get?access_token={token}"), &asked).json();
    assert_eq!(quota["quota"], json!({"daily_limit": 3, "used": 4, "remain": 0}));
    stage.advance(24 * 3600);
    assert_eq!(stage.media(&stage.token(), "x").errcode(), 40007, "another day");
    stage.assert_no_violation();
}

#[test]
fn what_is_not_documented_is_refused_and_noted() {
    let good =
        "grant_type=client_credential&appid=wx0123456789abcdef&secret=5ec2e70f5ec2e70f5ec2e70f5ec2e70f";
    let json_head = "POST /cgi-bin/stable_token HTTP/1.1\r\nHost: x\r\n";
    let sized =
        |extra: &str, body: &str| format!("{json_head}{extra}Content-Length: {}\r\n\r\n{body}", body.len());
    let get = |target: String, extra: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{extra}\r\n");
    let cases = [
        (get(format!("/cgi-bin/token?{good}&more=1"), ""), 400),
        (get(format!("/cgi-bin/token?{good}&appid=wx0123456789abcdef"), ""), 400),
        (get(format!("/cgi-bin/token?{good}"), "Cookie: a=b\r\n"), 400),
        (get(format!("/cgi-bin/token?{good}"), "Accept-Encoding: gzip\r\n"), 400),
        (get("/cgi-bin/media/get?access_token=a&media_id=b".to_owned(), "Range: bytes=5-\r\n"), 400),
        (get("/cgi-bin/ticket/getticket?access_token=a&type=jsapi&x=".to_owned(), ""), 400),
        (format!("GET /cgi-bin/token?{good} HTTP/1.1\r\n\r\n"), 400),
        (format!("DELETE /cgi-bin/token?{good} HTTP/1.1\r\nHost: x\r\n\r\n"), 405),
        (sized("", "[]"), 400),
        (sized("", r#"{"appid":"a","appid":"a"}"#), 400),
        (sized("", r#"{"appid":"a","unknown":"a"}"#), 400),
        (sized("Content-Type: text/plain\r\n", "{}"), 400),
    ];
    for (request, status) in cases {
        let stage = Stage::new();
        assert_eq!(stage.send(request.as_bytes()).status, status, "{request}");
        assert_eq!(stage.simulator.violations().len(), 1, "{request}");
    }
}

#[test]
fn chunked_bodies_get_412_and_a_get_43002() {
    let stage = Stage::new();
    let head = "POST /cgi-bin/stable_token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = stage.send(format!("{head}2\r\n{{}}\r\n0\r\n\r\n").as_bytes());
    assert_eq!((reply.status, reply.body.len()), (412, 0));
    assert_eq!(stage.get("/cgi-bin/stable_token").errcode(), 43002);
    assert_eq!(stage.simulator.violations().len(), 2);
}
