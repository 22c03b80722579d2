//! WeChat's server API: what each route answers when nothing goes wrong on the way.

use super::codes;
use super::credentials::TooManyForces;
use super::fault::WECHAT_JSON;
use super::pictures::Picture;
use super::route::Route;
use super::strict::{self, Parameters, Rules, error, missing};
use super::wire::{Answer, Request};
use super::world::World;
use serde_json::{Value, json};

/// What `route` takes.
fn rules(route: Route) -> Rules {
    let (methods, query, body): (&[&str], &[&str], Option<&[&str]>) = match route {
        Route::StableToken => (&["POST"], &[], Some(&["grant_type", "appid", "secret", "force_refresh"])),
        Route::Token => (&["GET"], &["grant_type", "appid", "secret"], None),
        Route::GetTicket => (&["GET"], &["access_token", "type"], None),
        Route::MediaGet => (&["GET", "HEAD"], &["access_token", "media_id"], None),
        Route::QuotaGet => (&["POST"], &["access_token"], Some(&["cgi_path"])),
        _ => (&[], &[], None),
    };
    Rules { methods, query, body }
}

/// The parameters of a well-formed request, or the answer to a malformed one.
pub fn check(request: &Request, route: Route, world: &World) -> Result<Parameters, Answer> {
    strict::check(request, route, &rules(route), world)
}

/// The true answer.
pub fn answer(route: Route, parameters: &Parameters, world: &World) -> Answer {
    let outcome = match route {
        Route::StableToken => stable_token(parameters, world),
        Route::Token => classic_token(parameters, world),
        Route::GetTicket => get_ticket(parameters, world),
        Route::MediaGet => media_get(parameters, world),
        Route::QuotaGet => quota_get(parameters, world),
        _ => Err(Answer::empty(404)),
    };
    outcome.unwrap_or_else(|refusal| refusal)
}

fn wechat_json(value: &Value) -> Answer {
    Answer::new(200, WECHAT_JSON, value.to_string())
}

fn stable_token(parameters: &Parameters, world: &World) -> Result<Answer, Answer> {
    let route = Route::StableToken;
    let text = |name| parameters.body_text(name);
    check_account(route, text("grant_type"), text("appid"), text("secret"), codes::BAD_SECRET, world)?;
    let force = match parameters.body("force_refresh") {
        None => false,
        Some(Value::Bool(force)) => *force,
        Some(_) => {
            world.violation(route, "force_refresh is no boolean");
            return Err(Answer::new(400, "text/plain", "force_refresh is no boolean"));
        }
    };
    let (now, day) = (world.now(), world.day());
    let issued = if force {
        world.state().stable.forced(now, day, &world.random)
    } else {
        Ok(world.state().stable.stable(now, &world.random))
    };
    let (token, seconds) = issued.map_err(|TooManyForces| error(codes::DAY_QUOTA, world))?;
    Ok(wechat_json(&json!({"access_token": token, "expires_in": seconds})))
}

fn classic_token(parameters: &Parameters, world: &World) -> Result<Answer, Answer> {
    let text = |name| parameters.query(name);
    check_account(
        Route::Token,
        text("grant_type"),
        text("appid"),
        text("secret"),
        codes::TOKEN_NOT_LATEST,
        world,
    )?;
    let (token, seconds) = world.state().classic.classic(world.now(), &world.random);
    Ok(wechat_json(&json!({"access_token": token, "expires_in": seconds})))
}

/// What both token calls ask first. They differ in the code for a wrong secret.
fn check_account(
    route: Route,
    grant_type: Option<&str>,
    app_id: Option<&str>,
    secret: Option<&str>,
    wrong_secret: i64,
    world: &World,
) -> Result<(), Answer> {
    let app_id = app_id.ok_or_else(|| missing(codes::NO_APP_ID, "appid", route, world))?;
    let secret = secret.ok_or_else(|| missing(codes::NO_SECRET, "secret", route, world))?;
    if grant_type != Some("client_credential") {
        world.violation(route, "grant_type is not client_credential");
        return Err(error(codes::BAD_GRANT_TYPE, world));
    }
    if app_id != world.app_id {
        return Err(error(codes::BAD_APP_ID, world));
    }
    if secret != world.app_secret {
        return Err(error(wrong_secret, world));
    }
    check_ip_and_quota(route, world)
}

fn check_ip_and_quota(route: Route, world: &World) -> Result<(), Answer> {
    let (now, day) = (world.now(), world.day());
    let refused = {
        let mut state = world.state();
        state.judge_ip().or_else(|| state.quotas.count(route, now, day))
    };
    refused.map_or(Ok(()), |code| Err(error(code, world)))
}

/// What every call with a token asks first.
fn check_token(route: Route, parameters: &Parameters, world: &World) -> Result<(), Answer> {
    let token = parameters
        .query("access_token")
        .ok_or_else(|| missing(codes::NO_TOKEN, "access_token", route, world))?;
    let refused = world.state().judge_token(token, world.now());
    if let Some(code) = refused {
        return Err(error(code, world));
    }
    check_ip_and_quota(route, world)
}

fn get_ticket(parameters: &Parameters, world: &World) -> Result<Answer, Answer> {
    check_token(Route::GetTicket, parameters, world)?;
    if parameters.query("type") != Some("jsapi") {
        world.violation(Route::GetTicket, "type is not jsapi");
        return Err(Answer::new(400, "text/plain", "type is not jsapi"));
    }
    let ticket = world.state().ticket.get(world.now(), &world.random);
    Ok(wechat_json(&json!({"errcode": 0, "errmsg": "ok", "ticket": ticket, "expires_in": 7200})))
}

fn media_get(parameters: &Parameters, world: &World) -> Result<Answer, Answer> {
    let route = Route::MediaGet;
    check_token(route, parameters, world)?;
    let media_id =
        parameters.query("media_id").ok_or_else(|| missing(codes::NO_MEDIA_ID, "media_id", route, world))?;
    let found = world.state().pictures.fetch(media_id, world.now());
    match found {
        Some(picture) => Ok(picture_answer(media_id, &picture)),
        None => Err(error(codes::BAD_MEDIA_ID, world)),
    }
}

fn picture_answer(media_id: &str, picture: &Picture) -> Answer {
    let mut answer = Answer::empty(200);
    answer.body = picture.bytes.clone();
    let extension = extension_of(&picture.content_type);
    answer.set_header("Content-Type", &picture.content_type);
    answer.set_header("Content-disposition", format!("attachment; filename=\"{media_id}.{extension}\""));
    answer.set_header("Cache-Control", "no-cache, must-revalidate");
    answer
}

fn extension_of(content_type: &str) -> &'static str {
    match content_type {
        "image/png" => "png",
        "image/gif" => "gif",
        "image/bmp" => "bmp",
        "image/webp" => "webp",
        _ => "jpg",
    }
}

fn quota_get(parameters: &Parameters, world: &World) -> Result<Answer, Answer> {
    let route = Route::QuotaGet;
    check_token(route, parameters, world)?;
    let asked = parameters.body_text("cgi_path").map(Route::of).filter(|asked| asked.is_api());
    let Some(asked) = asked else {
        world.violation(route, "cgi_path is no known route");
        return Err(Answer::new(400, "text/plain", "cgi_path is no known route"));
    };
    let (limit, used) = world.state().quotas.of_today(asked, world.day());
    let limit = limit.unwrap_or(if asked == Route::Token { 2000 } else { 200_000 });
    let quota = json!({"daily_limit": limit, "used": used, "remain": limit.saturating_sub(used)});
    Ok(wechat_json(&json!({"errcode": 0, "errmsg": "ok", "quota": quota})))
}
