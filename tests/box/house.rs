//! The house rules that can be checked by reading the source: who may import whom, which crate lives in which
//! room, how long a file may be. Every message says what to do instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which rooms a room may name. The ground floor is open to all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("ground", &[]),
    ("door", &[]),
    ("album", &[]),
    ("queue", &[]),
    ("wechat", &["door"]),
    ("collector", &["queue", "wechat", "album"]),
    ("alerts", &["door"]),
    ("web", &["queue", "wechat", "door", "album"]),
    ("simulator", &[]),
    ("config", &["door", "wechat"]),
    ("appliance", &["album", "queue", "wechat", "collector", "web", "door", "config", "alerts"]),
    ("cli", &["appliance", "config", "album", "simulator", "web", "door", "wechat"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Crates that may be named in one room only, because their faults are guarded there.
const LIVES_IN: &[(&str, &str)] = &[
    ("sled", "queue"),
    ("minreq", "wechat"),
    ("tiny_http", "web"),
    ("rust_embed", "web"),
    ("jpeg_decoder", "web"),
    ("image", "web"),
    ("rustls", "door"),
    ("toml", "config"),
    ("lexopt", "cli"),
    ("ctrlc", "cli"),
    ("csv", "album"),
];

/// Lines of code in a file, without blank lines, comments and tests.
const CODE_LINES_MAX: usize = 600;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).unwrap();
                let first = below.components().next().unwrap().as_os_str().to_string_lossy();
                let room = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: below.to_owned(), room, text });
            }
        }
    }
    found
}

/// The code of a file: comments, and everything from its unit tests on, taken away.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").filter(is_code)
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"))
}

/// Names that follow `prefix` wherever it stands.
fn names_after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let name =
        |rest: &'a str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    text.match_indices(prefix).map(|(at, _)| name(&text[at + prefix.len()..])).collect()
}

#[test]
fn imports_go_along_the_arrows_or_down_to_the_ground() {
    let table: BTreeMap<&str, &&[&str]> = MAY_IMPORT.iter().map(|(room, allowed)| (*room, allowed)).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test_file(&source.path)) {
        let Some(allowed) = table.get(source.room.as_str()) else {
            wrong.push(format!("{}: a room that the table does not know", source.path.display()));
            continue;
        };
        for line in code_lines(&source.text) {
            for room in names_after(line, "crate::") {
                let is_room = table.contains_key(room);
                if is_room && room != source.room && room != "ground" && !allowed.contains(&room) {
                    wrong.push(format!(
                        "{}: {} may not name {room}; move a wall on purpose",
                        source.path.display(),
                        source.room
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_guarded_crate_lives_in_one_room() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test_file(&source.path)) {
        for (name, room) in LIVES_IN.iter().filter(|(_, room)| *room != source.room) {
            let named =
                |line: &&str| line.contains(&format!("{name}::")) || line.contains(&format!("use {name};"));
            let own_word =
                |line: &&str| !line.contains(&format!("_{name}::")) && !line.contains(&format!("::{name}::"));
            for line in code_lines(&source.text).filter(named).filter(own_word) {
                wrong.push(format!("{}: {name} lives in {room}: {}", source.path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = code_lines(&source.text).count();
        if lines > CODE_LINES_MAX {
            wrong
                .push(format!("{}: {lines} lines of code; it is more than one thing", source.path.display()));
        }
        if !source.text.starts_with("//!") {
            wrong.push(format!("{}: no header that says what it is for", source.path.display()));
        }
        for leftover in ["todo!(", "unimplemented!(", "dbg!(", "FIXME"] {
            if source.text.contains(leftover) {
                wrong.push(format!("{}: {leftover} is left over", source.path.display()));
            }
        }
        for name in ["utils", "helper", "manager", "misc", "common"] {
            if source.path.file_stem().is_some_and(|stem| stem == name) {
                wrong.push(format!("{}: name it after what it does", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_simulator_shares_no_code_with_what_it_imitates() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.room == "simulator") {
        for line in source.text.lines() {
            for room in names_after(line, "crate::") {
                if !["ground", "simulator"].contains(&room) {
                    wrong.push(format!("{}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rules themselves are tried on snippets that break them.
#[test]
fn the_rules_see_what_they_look_for() {
    assert_eq!(names_after("use crate::queue::Queue; crate::web", "crate::"), ["queue", "web"]);
    let text = "//! x\n// crate::web\n\nfn a() {}\n#[cfg(test)]\nmod tests { use crate::web; }\n";
    assert_eq!(code_lines(text).collect::<Vec<_>>(), ["fn a() {}"]);
    assert!(is_test_file(Path::new("queue/tests.rs")) && !is_test_file(Path::new("queue/mod.rs")));
}
