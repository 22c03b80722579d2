//! `/sim/…`: what phones and drills do over HTTP. The phone's part (upload, signature check) is called by the
//! `wx` stand-in in the page; the rest moves the simulator's levers from outside the process.

use super::credentials::page_signature;
use super::fault_json::fault_from_json;
use super::plan::FaultPlan;
use super::route::Route;
use super::wire::{Answer, Framing, Request};
use super::world::{SignatureChecks, World};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The answer to a control request.
pub fn answer(request: &Request, route: Route, world: &World) -> Answer {
    if request.framing == Framing::Chunked {
        world.violation(route, "the body came in chunks");
        return Answer::empty(412);
    }
    let path = request.path.strip_prefix("/sim/").unwrap_or_default();
    match (request.method.as_str(), path) {
        ("OPTIONS", _) => preflight(request),
        ("POST", "upload") => upload(request, world),
        ("POST", "check-signature") => from_json(request, |page| Ok(check_signature(page, world))),
        ("POST", "page-violation") => from_json(request, |said| page_violation(said, world)),
        ("POST", "fault") => from_json(request, |order| set_fault(order, world)),
        ("POST", "outage") => from_json(request, |order| set_outage(order, world)),
        ("POST", "allow-ips") => from_json(request, |order| allow_ips(order, world)),
        ("POST", _) => lever(path, world).unwrap_or_else(|| unknown(request, world)),
        ("GET", "calls") => ok(&calls(world)),
        ("GET", "violations") => ok(&json!(world.state().violations)),
        ("GET", "uploaded") => ok(&json!(world.state().pictures.media_ids())),
        ("GET", "signatures") => ok(&signatures(world.state().signatures)),
        ("GET", _) => uploaded(path, world).unwrap_or_else(|| unknown(request, world)),
        _ => unknown(request, world),
    }
}

fn ok(value: &Value) -> Answer {
    Answer::new(200, "application/json", value.to_string())
}

fn bad(why: &str) -> Answer {
    Answer::new(400, "application/json", json!({"error": why}).to_string())
}

fn unknown(request: &Request, world: &World) -> Answer {
    world.violation(Route::Control, &format!("{} {} is not known", request.method, request.path));
    Answer::new(404, "application/json", json!({"error": "not known"}).to_string())
}

fn from_json(request: &Request, act: impl FnOnce(&Value) -> Result<Value, String>) -> Answer {
    let Ok(value) = serde_json::from_slice::<Value>(&request.body) else { return bad("the body is no JSON") };
    match act(&value) {
        Ok(done) => ok(&done),
        Err(why) => bad(&why),
    }
}

fn preflight(request: &Request) -> Answer {
    let mut answer = Answer::empty(204);
    let asked = request.header("access-control-request-headers").unwrap_or("content-type");
    answer.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    answer.set_header(
        "Access-Control-Allow-Headers",
        asked.replace(|c: char| c.is_control() || !c.is_ascii(), ""),
    );
    answer.set_header("Access-Control-Allow-Private-Network", "true");
    answer.set_header("Access-Control-Max-Age", "600");
    answer
}

/// `POST /sim/upload[?media_id=…]`, the picture as body.
fn upload(request: &Request, world: &World) -> Answer {
    if request.body.is_empty() {
        return bad("the picture is empty");
    }
    let chosen = request.query.iter().find(|(name, _)| name == "media_id").map(|(_, value)| value.clone());
    let media_id = chosen.unwrap_or_else(|| world.fresh_media_id());
    let content_type = request.header("content-type").unwrap_or("image/jpeg").to_owned();
    let bytes = request.body.clone().into();
    world.state().pictures.insert(&media_id, bytes, &content_type, world.now());
    ok(&json!({"media_id": media_id}))
}

fn uploaded(path: &str, world: &World) -> Option<Answer> {
    let media_id = path.strip_prefix("uploaded/")?;
    let state = world.state();
    let picture = state.pictures.uploaded(media_id);
    Some(match picture {
        None => Answer::new(404, "application/json", json!({"error": "no such picture"}).to_string()),
        Some(picture) => {
            let mut answer = Answer::new(200, &picture.content_type, Vec::new());
            answer.body = picture.bytes.clone();
            answer
        }
    })
}

/// What WeChat's app answers to `wx.config`: an independent computation of the signature.
pub fn check_signature(page: &Value, world: &World) -> Value {
    let verdict = judge_signature(page, world);
    let mut state = world.state();
    match verdict {
        Ok(()) => {
            state.signatures.good += 1;
            json!({"ok": true, "errMsg": "config:ok"})
        }
        Err(message) => {
            state.signatures.bad += 1;
            json!({"ok": false, "errMsg": message})
        }
    }
}

fn judge_signature(page: &Value, world: &World) -> Result<(), String> {
    const INVALID: &str = "config:fail,Error: 系统错误,错误码:63002,invalid signature";
    let text = |name: &str| match page.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err("config:fail".to_owned()),
    };
    let (app_id, timestamp, nonce) = (text("appId")?, text("timestamp")?, text("nonceStr")?);
    let (signature, url) = (text("signature")?, text("url")?);
    if !world.page_origins.is_empty() && !world.page_origins.iter().any(|allowed| is_within(&url, allowed)) {
        return Err("config:fail,Error: 系统错误,错误码:40048,invalid url domain".to_owned());
    }
    let seconds = timestamp.len() == 10 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let page_url = url.split('#').next().unwrap_or_default();
    let expected =
        world.state().ticket.alive(world.now()).map(|t| page_signature(t, &nonce, &timestamp, page_url));
    let right = app_id == world.app_id && seconds && expected.as_deref() == Some(signature.as_str());
    if right { Ok(()) } else { Err(INVALID.to_owned()) }
}

/// Whether `url` belongs to the origin `allowed` (`https://host[:port]`).
fn is_within(url: &str, allowed: &str) -> bool {
    let allowed = allowed.trim_end_matches('/');
    url.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

fn page_violation(said: &Value, world: &World) -> Result<Value, String> {
    let text = said.get("text").and_then(Value::as_str).ok_or("text is missing")?;
    world.violation(Route::Script, text);
    Ok(json!({"ok": true}))
}

/// `{"route": "media_get", "media_id"?, "mode": "queue" | "always", "times"?, "fault": …}`.
fn set_fault(order: &Value, world: &World) -> Result<Value, String> {
    let fault = fault_from_json(order.get("fault").ok_or("fault is missing")?)?;
    let media_id = order.get("media_id").and_then(Value::as_str);
    let route = order.get("route").and_then(Value::as_str).unwrap_or("media_get");
    let route = Route::named(route).ok_or_else(|| format!("no route is called {route:?}"))?;
    if media_id.is_some() && route != Route::MediaGet {
        return Err("media_id goes with media_get only".to_owned());
    }
    let times = order.get("times").map_or(Some(1), Value::as_u64).filter(|times| *times <= 10_000);
    let times = times.ok_or("times is not a count up to 10000")?;
    let plan = &mut world.state().plan;
    match (order.get("mode").and_then(Value::as_str).unwrap_or("queue"), media_id) {
        ("always", None) => plan.set_always(route, fault),
        ("always", Some(id)) => plan.set_always_for_media(id, fault),
        ("queue", None) => (0..times).for_each(|_| plan.push(route, fault.clone())),
        ("queue", Some(id)) => (0..times).for_each(|_| plan.push_for_media(id, fault.clone())),
        (other, _) => return Err(format!("no mode is called {other:?}")),
    }
    Ok(json!({"ok": true}))
}

fn set_outage(order: &Value, world: &World) -> Result<Value, String> {
    world.state().outage = order.get("on").and_then(Value::as_bool).ok_or("on is not true or false")?;
    Ok(json!({"ok": true}))
}

/// `{"ips": ["198.51.100.1"] | null}`.
fn allow_ips(order: &Value, world: &World) -> Result<Value, String> {
    let ips = match order.get("ips") {
        Some(Value::Null) => None,
        Some(Value::Array(list)) => {
            let parsed = list.iter().map(|ip| ip.as_str().and_then(|text| text.parse::<IpAddr>().ok()));
            Some(parsed.collect::<Option<Vec<_>>>().ok_or("ips holds something that is no address")?)
        }
        _ => return Err("ips is neither a list nor null".to_owned()),
    };
    world.state().allowed_ips = ips;
    Ok(json!({"ok": true}))
}

/// The levers that need no figures.
fn lever(path: &str, world: &World) -> Option<Answer> {
    let now = world.now();
    let mut state = world.state();
    match path {
        "clear-faults" => state.plan = FaultPlan::none(),
        "clear-violations" => state.violations.clear(),
        "expire-token" => {
            state.stable.kill(false);
            state.classic.kill(false);
        }
        "wedge-token" => state.stable.kill(true),
        "steal-token" => {
            state.stable.steal(now, &world.random);
            state.classic.steal(now, &world.random);
        }
        "expire-ticket" => state.ticket.expire(),
        _ => return None,
    }
    Some(ok(&json!({"ok": true})))
}

fn calls(world: &World) -> Value {
    let state = world.state();
    let mut counts: serde_json::Map<String, Value> = Route::ALL
        .iter()
        .map(|route| (route.name().to_owned(), json!(state.calls.get(route).unwrap_or(&0))))
        .collect();
    counts.insert("total".to_owned(), json!(state.calls.values().sum::<u64>()));
    Value::Object(counts)
}

fn signatures(checks: SignatureChecks) -> Value {
    json!({"good": checks.good, "bad": checks.bad})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_not_prefixes() {
        assert!(is_within("https://a.example/x?y", "https://a.example"));
        assert!(is_within("https://a.example", "https://a.example/"));
        assert!(!is_within("https://a.example.evil/x", "https://a.example"));
        assert!(!is_within("https://a.example:8443/", "https://a.example"));
    }
}
