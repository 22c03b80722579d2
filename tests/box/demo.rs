//! The demo as a new user meets it.

use crate::program::{PATIENCE, sha256sum_check, tubox};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn the_demo_brings_its_samples_home_and_a_second_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("demo");
    let demo = |samples: &str| {
        let mut command = tubox();
        command
            .args(["demo", "--listen", "127.0.0.1:0", "--once", "--samples", samples, "--data-dir"])
            .arg(&data_dir);
        command.output().unwrap()
    };
    let first = demo("8");
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    assert_eq!(first.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&first.stderr));
    assert!(text.contains("/uploadImgDemo") && text.contains("8 saved, 0 waiting"), "{text}");
    assert_eq!(sha256sum_check(&data_dir.join("pictures")), 8);
    let verified = tubox().arg("verify").arg(data_dir.join("pictures")).output().unwrap();
    assert_eq!(verified.status.code(), Some(0));

    // Without --once it goes on until Ctrl-C, and starts where the first ended.
    let mut command = tubox();
    command.args(["demo", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data_dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let going_on = lines.find(|line| line.as_ref().unwrap().starts_with("going on")).unwrap().unwrap();
    assert!(going_on.contains("8 saved, 0 waiting"), "{going_on}");
    let started = std::time::Instant::now();
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(started.elapsed() < PATIENCE.min(std::time::Duration::from_secs(5)));
}
