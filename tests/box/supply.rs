//! What is built into the box, against `tests/deny.toml`: licences, sources, crates that must not be there, and
//! every one that is there twice. `tests/audit` asks cargo-deny the same and looks for advisories; this works
//! without network and without tools.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// A crate that is shipped.
struct Package {
    name: String,
    version: String,
    license: String,
    source: Option<String>,
}

fn list(value: &toml::Value) -> &[toml::Value] {
    value.as_array().unwrap()
}

fn policy() -> toml::Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deny.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

fn metadata(target: &str) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The box and everything below it that is built for `target`, tests left out.
fn shipped(target: &str) -> Vec<Package> {
    let metadata = metadata(target);
    let array = |value: &'_ Value| value.as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let nodes: BTreeMap<String, Value> =
        array(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let mut found = BTreeSet::new();
    let mut open = vec![text(&metadata["resolve"]["root"])];
    while let Some(id) = open.pop() {
        if !found.insert(id.clone()) {
            continue;
        }
        for dependency in array(&nodes[&id]["deps"]) {
            if array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    let packages =
        array(&metadata["packages"]).into_iter().filter(|package| found.contains(&text(&package["id"])));
    let package = |package: Value| Package {
        name: text(&package["name"]),
        version: text(&package["version"]),
        license: package["license"].as_str().unwrap_or_default().to_owned(),
        source: package["source"].as_str().map(str::to_owned),
    };
    packages.map(package).collect()
}

/// Whether an SPDX expression can be fulfilled by licences that `is_allowed`. The older `A/B` means `A OR B`.
fn is_licensed(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any_of(&words, &mut at, is_allowed);
    result && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut result = all_of(words, at, is_allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all_of(words, at, is_allowed);
    }
    result
}

fn all_of(words: &[&str], at: &mut usize, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut result = one(words, at, is_allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at, is_allowed);
    }
    result
}

fn one(words: &[&str], at: &mut usize, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let inner = any_of(words, at, is_allowed);
        *at += 1;
        return inner;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        return false;
    }
    is_allowed(word)
}

/// `name`, `name@1.2` (any version that begins so) or `name@<1.2.3`.
fn matches(spec: &str, package: &Package) -> bool {
    let (name, version) = spec.split_once('@').unwrap_or((spec, ""));
    let numbers = |text: &str| -> Vec<u64> {
        let core = text.split(['-', '+']).next().unwrap();
        core.split('.').map(|number| number.parse().unwrap()).collect()
    };
    let fits = match version.strip_prefix('<') {
        _ if version.is_empty() => true,
        Some(bound) => numbers(&package.version) < numbers(bound),
        None => numbers(&package.version).starts_with(&numbers(version)),
    };
    package.name == name && fits
}

#[test]
fn what_is_shipped_is_allowed() {
    let policy = policy();
    let allowed: Vec<&str> =
        list(&policy["licenses"]["allow"]).iter().map(|license| license.as_str().unwrap()).collect();
    let exceptions = list(&policy["licenses"]["exceptions"]);
    let specs = |key: &str| -> Vec<String> {
        list(&policy["bans"][key]).iter().map(|entry| entry["crate"].as_str().unwrap().to_owned()).collect()
    };
    let (denied, skipped) = (specs("deny"), specs("skip"));
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    let packages = shipped("x86_64-unknown-linux-gnu");
    assert!(packages.len() > 60, "{} crates are too few to be all", packages.len());
    for package in &packages {
        let Package { name, version, license, source } = package;
        let is_excepted = |license: &str| {
            exceptions.iter().any(|entry| {
                entry["crate"].as_str() == Some(name)
                    && list(&entry["allow"]).iter().any(|allowed| allowed.as_str() == Some(license))
            })
        };
        if !is_licensed(license, &|license| allowed.contains(&license) || is_excepted(license)) {
            wrong.push(format!("{name} {version} is under {license:?}, which licenses.allow does not have"));
        }
        if source.as_ref().is_some_and(|source| !source.starts_with("registry+")) {
            wrong.push(format!("{name} {version} comes from {source:?} and not from the registry"));
        }
        for spec in denied.iter().filter(|spec| matches(spec, package)) {
            wrong.push(format!("{name} {version} must not be there: bans.deny has {spec}"));
        }
        let is_older = |other: &&Package| other.name == *name && other.version != *version;
        if packages.iter().any(|other| is_older(&other)) {
            needed.extend(skipped.iter().filter(|spec| matches(spec, package)));
            let others = packages.iter().filter(|other| other.name == *name);
            if others.filter(|other| !skipped.iter().any(|spec| matches(spec, other))).count() > 1 {
                wrong
                    .push(format!("{name} {version} is there beside another version; argue it in bans.skip"));
            }
        }
    }
    for spec in skipped.iter().filter(|spec| !needed.contains(spec)) {
        wrong.push(format!("bans.skip has {spec}, which is there only once"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An exception says which crate it is about and why, and goes when the crate goes.
#[test]
fn exceptions_are_argued_and_needed() {
    let policy = policy();
    let packages = shipped("x86_64-unknown-linux-gnu");
    for entry in list(&policy["advisories"]["ignore"]) {
        let reason = entry["reason"].as_str().unwrap();
        let (name, why) = reason.split_once(": ").expect("the crate's name, then why");
        assert!(why.len() > 40, "{name}: {why:?} is no reason");
        assert!(packages.iter().any(|package| package.name == name), "{name} is not shipped any more");
    }
    for entry in list(&policy["licenses"]["exceptions"]) {
        let name = entry["crate"].as_str().unwrap();
        assert!(packages.iter().any(|package| package.name == name), "{name} is not shipped any more");
    }
    for entry in list(&policy["bans"]["skip"]).iter().chain(list(&policy["bans"]["deny"])) {
        assert!(entry["reason"].as_str().is_some_and(|reason| reason.len() > 10), "{entry:?}");
    }
}

#[test]
fn licences_and_versions_are_read_as_they_are_meant() {
    let mit = |license: &str| license == "MIT";
    for (expression, expected) in [
        ("MIT", true),
        ("MIT OR Apache-2.0", true),
        ("Apache-2.0/MIT", true),
        ("Apache-2.0 AND MIT", false),
        ("(Apache-2.0 OR MIT) AND MIT", true),
        ("(MIT OR Apache-2.0) AND IJG", false),
        ("MIT WITH Some-exception", false),
        ("GPL-3.0 WITH x OR MIT", true),
        ("MIT )", false),
        ("", false),
    ] {
        assert_eq!(is_licensed(expression, &mit), expected, "{expression}");
    }
    let package = |version: &str| Package {
        name: "x".into(),
        version: version.into(),
        license: String::new(),
        source: None,
    };
    for (spec, version, expected) in [
        ("x", "1.0.0", true),
        ("y", "1.0.0", false),
        ("x@0.2", "0.2.17", true),
        ("x@0.2", "0.20.1", false),
        ("x@<0.9.20", "0.9.9", true),
        ("x@<0.9.20", "0.9.20", false),
        ("x@<0.103.0", "0.103.17+a.b", false),
    ] {
        assert_eq!(matches(spec, &package(version)), expected, "{spec} {version}");
    }
}
