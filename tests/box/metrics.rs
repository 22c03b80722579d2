//! `/metrics` and what is made of it: promtool (Debian: prometheus) judges the text and the alert rules, and every
//! metric that the rules and the dashboard name is one that the box has.

use crate::program::{Program, simulator};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tubox::simulator::Fault;
use tubox::simulator::samples::sample_picture;

fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/monitoring").join(file)
}

fn promtool(args: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed (Debian: prometheus)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The metrics of a box that has brought a picture home, has failed, and is waiting for something.
fn metrics_of_a_busy_box() -> String {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let good = simulator.upload(sample_picture(0).bytes, "image/jpeg");
    let poor = simulator.upload(sample_picture(1).bytes, "image/jpeg");
    simulator.always_for_media(&poor, Fault::code(40007));
    let fake = "1237378768e7q8e7r8qwesafdasdfasdfaxss111";
    let cookie = program.cookie();
    let receipt = program.submit(&cookie, &[&good, fake]).json()["receipt"].as_str().unwrap().to_owned();
    program.settled(&receipt);
    program.submit(&cookie, &[&poor]);
    program.wait_for_log("40007");
    assert_eq!(program.ask("GET", "/uploadImgDemo", &[("Content-Length", "x")], b"").status, 400);
    let token = std::fs::read_to_string(program.folder.path().join("data/admin_token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    program.ask("GET", "/metrics", &[("Authorization", &bearer)], b"").text()
}

fn names_in(text: &str) -> BTreeSet<String> {
    let part_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !part_of_name(c)).filter(|word| word.starts_with("tubox_")).map(str::to_owned).collect()
}

#[test]
fn promtool_finds_nothing_wrong_and_what_is_drawn_is_there() {
    let metrics = metrics_of_a_busy_box();
    let judged = promtool(&["check", "metrics"], &metrics);
    assert!(
        judged.status.success() && judged.stdout.is_empty() && judged.stderr.is_empty(),
        "{judged:?}\n{metrics}"
    );
    let there: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let rules = std::fs::read_to_string(monitoring("alerts.yml")).unwrap();
    let dashboard = std::fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let drawn: BTreeSet<String> = names_in(&rules).union(&names_in(&dashboard)).cloned().collect();
    assert_eq!(drawn.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new(), "not in\n{metrics}");
    assert_eq!(
        there.difference(&names_in(&dashboard)).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not drawn"
    );
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["title"].is_string() && panel["targets"][0]["expr"].is_string()));
}

/// Promtool plays the rules against series that are written here.
#[test]
fn alerts_come_when_they_should_and_not_before() {
    let rules = monitoring("alerts.yml");
    let play = format!(
        r#"
rule_files: ["{}"]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'tubox_paused', values: '0x10 1x60'}}
      - {{series: 'tubox_queue_oldest_deadline_seconds', values: '100000x10 80000x20 20000x40'}}
      - {{series: 'tubox_queue_failed', values: '0x10 3x60'}}
      - {{series: 'tubox_disk_free_bytes', values: '5000000000x10 900000000x60'}}
      - {{series: 'tubox_queue_waiting', values: '5x200'}}
      - {{series: 'tubox_pictures_saved_total', values: '7x200'}}
      - {{series: 'up{{job="tubox"}}', values: '1x10 0x60'}}
    alert_rule_test:
      - {{eval_time: 9m, alertname: TuboxDown}}
      - {{eval_time: 9m, alertname: TuboxPaused}}
      - {{eval_time: 20m, alertname: TuboxPaused}}
      - {{eval_time: 9m, alertname: TuboxDeadlineNear}}
      - {{eval_time: 9m, alertname: TuboxFailed}}
      - {{eval_time: 9m, alertname: TuboxDiskLow}}
      - {{eval_time: 30m, alertname: TuboxDeadlineVeryNear}}
      - {{eval_time: 30m, alertname: TuboxNothingArrives}}
"#,
        rules.display()
    );
    let folder = tempfile::tempdir().unwrap();
    let quiet = folder.path().join("quiet.yml");
    std::fs::write(&quiet, &play).unwrap();
    let judged = promtool(&["test", "rules", quiet.to_str().unwrap()], "");
    assert!(judged.status.success(), "{judged:?}");
    // The same play with every moment moved to where the alert has to be: each of them comes.
    for (alert, at) in [
        ("TuboxDown", "20m"),
        ("TuboxPaused", "30m"),
        ("TuboxDeadlineNear", "20m"),
        ("TuboxDeadlineVeryNear", "35m"),
        ("TuboxFailed", "12m"),
        ("TuboxDiskLow", "25m"),
        ("TuboxNothingArrives", "150m"),
    ] {
        let start = play.find("    alert_rule_test:").unwrap();
        let loud = format!(
            "{}    alert_rule_test:\n      - {{eval_time: {at}, alertname: {alert}}}\n",
            &play[..start]
        );
        let file = folder.path().join("loud.yml");
        std::fs::write(&file, loud).unwrap();
        let judged = promtool(&["test", "rules", file.to_str().unwrap()], "");
        let said =
            String::from_utf8_lossy(&judged.stdout).into_owned() + &String::from_utf8_lossy(&judged.stderr);
        assert!(
            !judged.status.success() && said.contains(&format!("alertname=\"{alert}\"")),
            "{alert}: {said}"
        );
    }
}
