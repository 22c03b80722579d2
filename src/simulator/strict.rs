//! Strictness: what a request to a route may consist of. Whatever WeChat's documentation does not name is a
//! violation and an HTTP 4xx, so that a client's slip shows in the first test and not on the first day.

use super::codes;
use super::route::Route;
use super::wire::{Answer, Framing, Request};
use super::world::World;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// What a route takes.
pub struct Rules {
    /// The methods.
    pub methods: &'static [&'static str],
    /// The names in the query.
    pub query: &'static [&'static str],
    /// The keys of the JSON body; `None`: no body.
    pub body: Option<&'static [&'static str]>,
}

/// Headers that have no business on the way to WeChat: they would carry something out of the house, or ask for
/// an answer that WeChat does not document.
const FOREIGN_HEADERS: [&str; 8] =
    ["authorization", "cookie", "referer", "origin", "range", "if-range", "upgrade", "x-forwarded-for"];

/// What a well-formed request carries.
#[derive(Debug)]
pub struct Parameters {
    /// From the query.
    pub query: Vec<(String, String)>,
    /// From the JSON body.
    pub body: Vec<(String, Value)>,
}

impl Parameters {
    /// The value of a query parameter; the empty text counts as missing.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of a body key that holds a text; the empty text counts as missing.
    pub fn body_text(&self, name: &str) -> Option<&str> {
        self.body(name).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a body key.
    pub fn body(&self, name: &str) -> Option<&Value> {
        self.body.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

/// The parameters of `request`, or the answer to what is wrong with it (already noted as a violation).
pub fn check(request: &Request, route: Route, rules: &Rules, world: &World) -> Result<Parameters, Answer> {
    let wrong = |status: u16, what: String| {
        world.violation(route, &what);
        Err(Answer::new(status, "text/plain", what))
    };
    if !rules.methods.contains(&request.method.as_str()) {
        if rules.methods == ["POST"] {
            world.violation(route, "is to be called by POST");
            return Err(error(codes::NEEDS_POST, world));
        }
        return wrong(405, format!("method {} is not known", request.method));
    }
    if request.framing == Framing::Chunked {
        world.violation(route, "the body came in chunks");
        return Err(Answer::empty(412));
    }
    if let Some(what) = wrong_header(request, rules) {
        return wrong(400, what);
    }
    if let Some(what) = wrong_names(request.query.iter().map(|(name, _)| name.as_str()), rules.query) {
        return wrong(400, format!("query {what}"));
    }
    let body = match rules.body {
        None if request.body.is_empty() => Vec::new(),
        None => return wrong(400, "a body came where none is known".to_owned()),
        Some(known) => match json_pairs(&request.body) {
            None => return wrong(400, "the body is no JSON object".to_owned()),
            Some(pairs) => match wrong_names(pairs.iter().map(|(name, _)| name.as_str()), known) {
                Some(what) => return wrong(400, format!("body {what}")),
                None => pairs,
            },
        },
    };
    Ok(Parameters { query: request.query.clone(), body })
}

/// WeChat's error for something missing, noted as a violation.
pub fn missing(code: i64, what: &str, route: Route, world: &World) -> Answer {
    world.violation(route, &format!("{what} is missing"));
    error(code, world)
}

/// WeChat's error `code` as it is sent today.
pub fn error(code: i64, world: &World) -> Answer {
    let ip = world.state().egress_ip.to_string();
    let reply = super::fault::ErrorReply::of(code);
    Answer::new(200, super::fault::WECHAT_JSON, reply.body(&ip, &world.rid()))
}

fn wrong_header(request: &Request, rules: &Rules) -> Option<String> {
    if request.header("host").is_none_or(str::is_empty) {
        return Some("header host is missing".to_owned());
    }
    if let Some(foreign) = FOREIGN_HEADERS.iter().find(|name| request.header(name).is_some()) {
        return Some(format!("header {foreign} has no business here"));
    }
    let coding = request.header("accept-encoding").unwrap_or("identity");
    if !coding.split(',').all(|one| one.trim() == "identity") {
        return Some("header accept-encoding asks for more than identity".to_owned());
    }
    match (request.header("content-type"), rules.body) {
        (Some(_), None) => Some("header content-type without a body".to_owned()),
        (Some(kind), Some(_)) if !kind.to_ascii_lowercase().starts_with("application/json") => {
            Some("header content-type is not application/json".to_owned())
        }
        _ => None,
    }
}

fn wrong_names<'a>(names: impl Iterator<Item = &'a str>, known: &[&str]) -> Option<String> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !known.contains(&name) {
            return Some(format!("parameter {name:?} is not known"));
        }
        if seen.contains(&name) {
            return Some(format!("parameter {name:?} is repeated"));
        }
        seen.push(name);
    }
    None
}

/// The pairs of a JSON object in their order, repeated keys included (a map would hide them).
pub fn json_pairs(bytes: &[u8]) -> Option<Vec<(String, Value)>> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let pairs = reader.deserialize_map(Pairs).ok()?;
    reader.end().ok()?;
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_seen() {
        let names =
            |json: &str| json_pairs(json.as_bytes()).map(|pairs| pairs.into_iter().map(|p| p.0).collect());
        assert_eq!(names(r#"{"a":1,"a":2}"#), Some(vec!["a".to_owned(), "a".to_owned()]));
        assert_eq!(names("[]"), None::<Vec<String>>);
        assert_eq!(names("{} x"), None);
    }

    #[test]
    fn names_are_judged() {
        assert_eq!(wrong_names(["a", "b"].into_iter(), &["a", "b"]), None);
        assert!(wrong_names(["a", "c"].into_iter(), &["a", "b"]).unwrap().contains("not known"));
        assert!(wrong_names(["a", "a"].into_iter(), &["a", "b"]).unwrap().contains("repeated"));
    }
}
