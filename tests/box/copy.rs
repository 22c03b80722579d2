//! Copying off and verifying, by the real binary: every word, every JSON object and every exit code; sha256sum
//! and unzip as judges; real file systems that are too small, go away, or lose what was not synced.

use crate::card::{Card, Picture, Stick, json, stderr, stdout, sums_hold};
use crate::program::{PATIENCE, Program, simulator, tubox};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tubox::simulator::samples::sample_picture;

const DAYS: [&str; 2] = ["2026-11-21", "2026-11-22"];

/// Runs `tubox export --from CARD`, in no locale.
fn export(card: &Card, more: &[&str]) -> Output {
    tubox().args(["export", "--from"]).arg(card.pictures()).args(more).output().unwrap()
}

fn verify(folder: &Path, more: &[&str]) -> Output {
    tubox().arg("verify").arg(folder).args(more).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A destination that is not there yet.
fn destination(card: &Card) -> PathBuf {
    card.folder.path().join("copy")
}

fn same_disk(to: &Path) -> String {
    format!(
        "Note: {} is on the same disk as the pictures, so this is no second copy. If it should be a stick: the \
         stick is not mounted.\n",
        to.display()
    )
}

#[test]
fn every_word_of_a_copy_that_goes_well() {
    let card = Card::with(&DAYS, 3, 2000);
    let to = destination(&card);
    let first = export(&card, &[text(&to)]);
    let at = to.display();
    assert_eq!(
        stdout(&first),
        format!(
            "copied 6 pictures (12 kB), 0 were there already, 0 problems\n{}\
             All 6 pictures are in {at}, read back and synced: safe to pull.\n",
            same_disk(&to)
        )
    );
    assert_eq!((stderr(&first).as_str(), first.status.code()), ("", Some(0)));

    // Twice, in Chinese: nothing is written a second time.
    let written = |name: &str| to.join(name).metadata().unwrap().modified().unwrap();
    let before = ["SHA256SUMS", "2026-11-21/manifest.csv"].map(written);
    let second = tubox()
        .args(["export", "--from"])
        .arg(card.pictures())
        .arg(&to)
        .env("LANG", "zh_CN.UTF-8")
        .output()
        .unwrap();
    assert_eq!(
        stdout(&second),
        format!(
            "复制了 0 张照片（0 bytes），6 张早已在那里，0 个问题\n注意：{at} 与照片在同一个盘上，不算第二份备份。\
             如果本来应该是U盘，说明U盘没有挂载。\n全部 6 张照片都在 {at}，已回读核对并写入完毕：可以拔出。\n"
        )
    );
    assert_eq!(["SHA256SUMS", "2026-11-21/manifest.csv"].map(written), before);
    let third = export(&card, &[text(&to), "--json"]);
    assert_eq!(
        json(&third),
        json!({"copied": 0, "already_there": 6, "bytes": 0, "problems": [], "safe_to_pull": true, "destination": to})
    );
    assert_eq!(third.status.code(), Some(0));

    assert_eq!(sums_hold(&to), 6);
    assert_eq!(DAYS.map(|day| sums_hold(&to.join(day))), [3, 3]);
    for day in DAYS {
        let list = |root: &Path| std::fs::read_to_string(root.join(day).join("manifest.csv")).unwrap();
        assert_eq!(list(&to), list(&card.pictures()));
    }
    let merged = std::fs::read_to_string(to.join("manifest.csv")).unwrap();
    assert!(merged.lines().nth(4).unwrap().starts_with("2026-11-22/20261122T170100Z_id-00000.jpg,id-00000,"));
    let left_over: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left_over.len(), 4, "{left_over:?}");
}

#[test]
fn what_is_wrong_on_the_card_does_not_stop_the_others() {
    let card = Card::with(&["2026-11-22"], 6, 300);
    let file = |number| Picture::new("2026-11-22", number, 300);
    let path = |number| card.path_of(&file(number));
    let mut flipped = file(0).bytes;
    flipped[100] ^= 1;
    std::fs::write(path(0), flipped).unwrap();
    std::fs::remove_file(path(1)).unwrap();
    std::fs::remove_file(path(2)).unwrap();
    std::fs::create_dir(path(2)).unwrap();
    std::fs::write(path(3), &file(3).bytes[..200]).unwrap();
    card.append("2026-11-22", b"only,three,cells\nhalf a line, as a box leaves it for a mom");
    let old = card.pictures().join("2026-11-22/20261122T170106Z_nobody-lists-me.jpg");
    std::fs::write(&old, b"x").unwrap();
    assert!(Command::new("touch").args(["-d", "2026-01-01"]).arg(&old).status().unwrap().success());
    // One that is being listed just now is nobody's problem.
    std::fs::write(card.pictures().join("2026-11-22/20261122T170106Z_just-now.jpg"), b"x").unwrap();

    let to = destination(&card);
    let damaged = "is damaged: it is not what the manifest says; look for it in an earlier copy";
    let problems = [
        ("manifest.csv", "cannot be read in line 8; run tubox verify"),
        (&file(0).file, damaged),
        (&file(1).file, "is listed, but it is not there"),
        (&file(2).file, "cannot be read (not a plain file); try again, then with another card reader"),
        (&file(3).file, damaged),
        (
            "20261122T170106Z_nobody-lists-me.jpg",
            "is in no manifest, so nobody can say whether it is whole; not copied: copy it by hand",
        ),
    ];
    let lines: String =
        problems.iter().map(|(file, reason)| format!("2026-11-22/{file}: {reason}\n")).collect();
    let shortfall = "NOT complete: see the problems above. Everything else was read back and synced; the same \
                     command, run again, copies what is still missing.\n";
    let first = export(&card, &[text(&to)]);
    let counts = "copied 2 pictures (600 bytes), 0 were there already, 6 problems\n";
    assert_eq!(stdout(&first), format!("{lines}{counts}{shortfall}"));
    assert_eq!(first.status.code(), Some(1));
    assert_eq!(sums_hold(&to), 2);

    // The card is mended; the same command brings what was missing.
    for number in 0..4 {
        let _ = std::fs::remove_dir(path(number));
        std::fs::write(path(number), file(number).bytes).unwrap();
    }
    let second = export(&card, &[text(&to), "--json"]);
    let left = json(&second);
    assert_eq!((left["copied"].as_u64(), left["already_there"].as_u64()), (Some(4), Some(2)));
    assert_eq!((&left["problems"].as_array().unwrap().len(), &left["safe_to_pull"]), (&2, &json!(false)));
    assert_eq!(sums_hold(&to), 6);
}

#[test]
fn a_second_run_mends_what_differs_and_keeps_what_earlier_ones_brought() {
    let card = Card::with(&DAYS, 4, 900);
    let to = destination(&card);
    assert_eq!(export(&card, &[text(&to)]).status.code(), Some(0));
    let there = |number: usize| to.join(Picture::new(DAYS[0], number, 900).path());
    let mut flipped = std::fs::read(there(0)).unwrap();
    flipped[500] ^= 0x10;
    std::fs::write(there(0), flipped).unwrap();
    std::fs::write(there(1), b"half").unwrap();
    std::fs::remove_file(there(2)).unwrap();
    std::fs::write(to.join(DAYS[0]).join(".tubox-3.part"), b"of a run that was killed").unwrap();

    let mended = json(&export(&card, &[text(&to), "--json"]));
    assert_eq!((mended["copied"].as_u64(), mended["already_there"].as_u64()), (Some(3), Some(5)));
    assert!(!to.join(DAYS[0]).join(".tubox-3.part").exists());
    assert_eq!(sums_hold(&to), 8);

    // Another box's card, with another picture of the same day and a day of its own.
    let other = Card::of(&[Picture::new(DAYS[1], 77, 50), Picture::new("2026-11-23", 1, 50)]);
    let merged = json(&export(&other, &[text(&to), "--json"]));
    assert_eq!((&merged["copied"], &merged["safe_to_pull"]), (&json!(2), &json!(true)));
    assert_eq!((sums_hold(&to), sums_hold(&to.join(DAYS[1]))), (10, 5));
    assert_eq!(verify(&to, &[]).status.code(), Some(0));

    // What a person took away is no longer listed; what has rotted since, and nobody has any more, is told.
    std::fs::remove_file(there(3)).unwrap();
    std::fs::write(there(2), b"rotten").unwrap();
    let told = json(&export(&other, &[text(&to), "--json"]));
    assert_eq!(told["safe_to_pull"], true, "the other card has nothing of that day: {told}");
    let day = Card::of(&[Picture::new(DAYS[0], 99, 50)]);
    let told = json(&export(&day, &[text(&to), "--json"]));
    let reason =
        "was copied earlier, but is damaged in the destination, and the pictures folder no longer has it";
    let file = Picture::new(DAYS[0], 2, 900).path();
    assert_eq!(told["problems"], json!([{"file": file, "reason": reason}]));
    assert_eq!(stdout(&verify(&to, &[])).lines().next().unwrap(), format!("changed: {file}"));
}

#[test]
fn days_and_teams_choose() {
    let card = Card::with(&["2026-11-20", "2026-11-21", "2026-11-22"], 4, 100);
    let copied = |more: &[&str]| {
        let to = card.folder.path().join(format!("copy{}", more.join("")));
        let mut all = vec![text(&to), "--json"];
        all.extend(more);
        let report = json(&export(&card, &all));
        assert_eq!(sums_hold(&to) as u64, report["copied"].as_u64().unwrap());
        report["copied"].as_u64().unwrap()
    };
    assert_eq!(copied(&["--since", "2026-11-21"]), 8);
    assert_eq!(copied(&["--until", "2026-11-21"]), 8);
    assert_eq!(copied(&["--since", "2026-11-21", "--until", "2026-11-21", "--team", "south"]), 2);
    assert_eq!(copied(&["--team", "north"]), 6);

    let to = destination(&card);
    let none = export(&card, &[text(&to), "--team", "east"]);
    let expected = "east: no picture is of this team; there are: north, south\n\
                    copied 0 pictures (0 bytes), 0 were there already, 1 problems\nNothing was copied; see above.\n";
    assert_eq!((stdout(&none).as_str(), none.status.code()), (expected, Some(1)));
    let none = json(&export(&card, &[text(&to), "--since", "2027-01-01", "--json"]));
    assert_eq!(none["problems"], json!([{"file": "2027-01-01…", "reason": "no picture is of these days"}]));

    // First one team, then the other: together they are all.
    assert_eq!(export(&card, &[text(&to), "--team", "north"]).status.code(), Some(0));
    assert_eq!(export(&card, &[text(&to), "--team", "south"]).status.code(), Some(0));
    assert_eq!(sums_hold(&to), 12);
    assert_eq!(verify(&to, &[]).status.code(), Some(0));
}

#[test]
fn a_wrong_command_line_says_what_is_meant() {
    let card = Card::with(&["2026-11-22"], 1, 100);
    let inside = card.pictures().join("backup");
    let file = card.folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let nowhere = card.folder.path().join("nowhere");
    let pictures = card.pictures();
    let to = destination(&card);
    let at = |path: &Path| path.display().to_string();
    let cases = [
        (
            &pictures,
            &pictures,
            2,
            format!("to {}: it lies inside the pictures folder; name a place outside", at(&pictures)),
        ),
        (
            &pictures,
            &inside,
            2,
            format!("to {}: it lies inside the pictures folder; name a place outside", at(&inside)),
        ),
        (&pictures, &file, 2, format!("to {}: it is not a folder", at(&file))),
        (
            &nowhere,
            &to,
            3,
            format!("from {}: it cannot be opened as a folder (no such file or directory)", at(&nowhere)),
        ),
        (
            &card.folder.path().to_owned(),
            &to,
            2,
            format!(
                "from {}: no day's folder such as 2026-11-22 is in it; did you mean {}?",
                at(card.folder.path()),
                at(&pictures)
            ),
        ),
    ];
    for (from, to, code, message) in cases {
        let ended = tubox().args(["export", "--from"]).arg(from).arg(to).output().unwrap();
        assert_eq!(stderr(&ended), format!("tubox: could not copy {message}\n"));
        assert_eq!(ended.status.code(), Some(code));
        assert!(!stdout(&ended).contains("safe to pull"));
    }
    let zip = export(&card, &["--zip", text(card.folder.path())]);
    assert!(stderr(&zip).contains("it is a folder; name a file, such as pictures.zip in it"));
    assert_eq!(zip.status.code(), Some(2));
    let nothing = verify(card.folder.path(), &[]);
    assert!(stderr(&nothing).contains("did you mean"), "{nothing:?}");
    assert_eq!(nothing.status.code(), Some(2));
}

/// Manifest, day's folder and stick are by somebody who means harm.
#[test]
fn a_hostile_card_or_stick_cannot_make_it_write_elsewhere() {
    let good = Picture::new("2026-11-22", 1, 100);
    let card = Card::of(std::slice::from_ref(&good));
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("mine"), b"mine").unwrap();
    let sha256 = good.sha256();
    let names = [
        "../../escaped.jpg",
        "/tmp/tubox-escaped.jpg",
        "a/b.jpg",
        "..",
        ".hidden.jpg",
        "manifest.csv",
        "SHA256SUMS",
        "CON.jpg",
        "back\\slash.jpg",
        "new\u{1b}[2Jscreen.jpg",
    ];
    let rows: String = names.iter().map(|name| good.row().replacen(&good.file, name, 1)).collect();
    card.append("2026-11-22", rows.as_bytes());
    card.append(
        "2026-11-22",
        good.row().replace(&sha256, "../../../x").replacen(&good.file, "b.jpg", 1).as_bytes(),
    );
    let to = destination(&card);
    std::fs::create_dir_all(to.join("2026-11-22")).unwrap();
    let plant = |name: &str| std::os::unix::fs::symlink(outside.path().join("mine"), to.join(name)).unwrap();
    for name in
        ["manifest.csv", ".tubox-SHA256SUMS.part", "2026-11-22/.tubox-0.part", "2026-11-22/SHA256SUMS"]
    {
        plant(name);
    }
    plant(&good.path());
    let ended = export(&card, &[text(&to), "--json"]);
    let report = json(&ended);
    assert_eq!((&report["copied"], ended.status.code()), (&json!(1), Some(1)), "{report}");
    assert_eq!(report["problems"].as_array().unwrap().len(), names.len() + 1);
    assert!(!stdout(&export(&card, &[text(&to)])).contains('\u{1b}'));
    assert_eq!(std::fs::read(outside.path().join("mine")).unwrap(), b"mine");
    assert_eq!(sums_hold(&to), 1);
    let mut names: Vec<String> = std::fs::read_dir(card.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["copy", "pictures"]);
    assert!(!Path::new("/tmp/tubox-escaped.jpg").exists());

    // A day's folder on the stick that leads elsewhere.
    let to = card.folder.path().join("linked");
    std::fs::create_dir(&to).unwrap();
    std::os::unix::fs::symlink(outside.path(), to.join("2026-11-22")).unwrap();
    assert_eq!(export(&card, &[text(&to)]).status.code(), Some(3));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    // A pipe in the place of a picture or of a manifest keeps nobody waiting.
    std::fs::remove_file(card.path_of(&good)).unwrap();
    assert!(Command::new("mkfifo").arg(card.path_of(&good)).status().unwrap().success());
    let ended = export(&card, &[text(&destination(&card)), "--json"]);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(verify(&card.pictures(), &[]).status.code(), Some(1));
}

#[test]
fn names_that_fat_cannot_tell_apart_do_not_overwrite_each_other() {
    let mut pictures = [Picture::new("2026-11-22", 1, 100), Picture::new("2026-11-22", 2, 100)];
    pictures[0].file = "20261122T170106Z_Ab.jpg".to_owned();
    pictures[1].file = "20261122T170106Z_aB.jpg".to_owned();
    let card = Card::of(&pictures);
    let to = destination(&card);
    assert_eq!(export(&card, &[text(&to)]).status.code(), Some(0));
    let mut names: Vec<String> = std::fs::read_dir(to.join("2026-11-22"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().to_lowercase())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(sums_hold(&to), 2);
    assert_eq!(json(&export(&card, &[text(&to), "--json"]))["already_there"], 2);
}

#[test]
fn two_copies_to_one_place_at_once_are_one_too_many() {
    let card = Card::with(&["2026-11-22"], 1, 100);
    let to = tempfile::tempdir().unwrap();
    let folder = std::fs::File::open(to.path()).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ended = export(&card, &[text(to.path())]);
    assert!(stderr(&ended).ends_with("another copy is being made there; wait until it has ended\n"));
    assert_eq!(ended.status.code(), Some(3));
}

#[test]
fn one_zip_holds_it_all() {
    let card = Card::with(&DAYS, 20, 3000);
    let zip = card.folder.path().join("pictures.zip");
    let ended = export(&card, &["--zip", text(&zip)]);
    let at = zip.display();
    assert_eq!(
        stdout(&ended),
        format!(
            "copied 40 pictures (120 kB), 0 were there already, 0 problems\n{}\
             All 40 pictures are in {at}, read back and synced: safe to pull.\n",
            same_disk(&zip)
        )
    );
    let unpacked = unpack(&zip);
    assert_eq!((sums_hold(unpacked.path()), sums_hold(&unpacked.path().join(DAYS[1]))), (40, 20));
    assert_eq!(verify(unpacked.path(), &[]).status.code(), Some(0));

    // A damaged picture is left out and named; the old zip makes way for the new one.
    let rotten = Picture::new(DAYS[0], 5, 3000);
    std::fs::write(card.path_of(&rotten), vec![1; 3000]).unwrap();
    let ended = export(&card, &["--zip", text(&zip), "--team", "south", "--json"]);
    let report = json(&ended);
    assert_eq!((&report["copied"], &report["safe_to_pull"]), (&json!(19), &json!(false)));
    assert_eq!(report["problems"][0]["file"], rotten.path());
    assert_eq!(sums_hold(unpack(&zip).path()), 19);
    assert_eq!(std::fs::read_dir(card.folder.path()).unwrap().count(), 2, "nothing is left over");
}

fn unpack(zip: &Path) -> tempfile::TempDir {
    let judged = Command::new("unzip").args(["-t", "-q"]).arg(zip).output().unwrap();
    assert!(judged.status.success(), "{judged:?}");
    let folder = tempfile::tempdir().unwrap();
    assert!(
        Command::new("unzip").arg("-q").arg(zip).arg("-d").arg(folder.path()).status().unwrap().success()
    );
    folder
}

/// `CAMPAIGN_PICTURES=10000` for the real thing.
#[test]
fn many_small_pictures() {
    let many = std::env::var("CAMPAIGN_PICTURES").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let card = Card::with(&["2026-11-22"], many, 3000);
    let to = destination(&card);
    let started = Instant::now();
    assert_eq!(json(&export(&card, &[text(&to), "--json"]))["copied"], many);
    let first = started.elapsed();
    assert_eq!((sums_hold(&to), sums_hold(&to.join("2026-11-22"))), (many, many));
    assert_eq!(json(&export(&card, &[text(&to), "--json"]))["already_there"], many);
    let zip = card.folder.path().join("x.zip");
    assert_eq!(json(&export(&card, &["--zip", text(&zip), "--json"]))["copied"], many);
    assert_eq!(sums_hold(unpack(&zip).path()), many);
    assert_eq!(json(&verify(&to, &["--json"]))["good"], many);
    println!("{many} pictures copied in {first:?}");
}

#[test]
fn a_stick_that_is_too_small_is_told_before_anything_is_written() {
    let Some(stick) = Stick::ext4(16, &[]) else { return };
    let card = Card::with(&["2026-11-22"], 40, 500_000);
    let ended = export(&card, &[text(&stick.mount)]);
    let told = stderr(&ended);
    let expected =
        format!("tubox: could not copy to {}: not enough room: 24 MB are needed, ", stick.mount.display());
    assert!(told.starts_with(&expected), "{told}");
    assert!(told.ends_with(" are missing; make room or use a larger stick\n"), "{told}");
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(
        stdout(&ended),
        "copied 0 pictures (0 bytes), 0 were there already, 0 problems\n\
         NOT complete: the copy ended before its time; see the reason.\n"
    );
    assert_eq!(std::fs::read_dir(&stick.mount).unwrap().count(), 1, "only lost+found");
    // A part of it fits.
    let part = Card::with(&["2026-11-22"], 4, 500_000);
    assert_eq!(export(&part, &[text(&stick.mount)]).status.code(), Some(0));
    let zip = stick.mount.join("x.zip");
    let ended = export(&card, &["--zip", text(&zip), "--json"]);
    assert_eq!((ended.status.code(), &json(&ended)["safe_to_pull"]), (Some(3), &json!(false)));
    assert!(!zip.exists());
}

#[test]
fn room_that_runs_out_on_the_way_leaves_a_good_part() {
    // Bytes enough, but only so many files: the look ahead cannot see that.
    let Some(stick) = Stick::ext4(16, &["-N", "120"]) else { return };
    let card = Card::with(&["2026-11-22"], 200, 1000);
    let ended = export(&card, &[text(&stick.mount), "--json"]);
    let report = json(&ended);
    assert_eq!((ended.status.code(), &report["safe_to_pull"]), (Some(3), &json!(false)));
    let reason = "it is full; make room there and run the same command again";
    assert_eq!(report["problems"], json!([{"file": stick.mount, "reason": reason}]));
    let copied = report["copied"].as_u64().unwrap();
    assert!(copied > 50, "{report}");
}

/// The promise of the last line, tried by taking the stick's content away at that moment: nothing that is still
/// in memory counts.
#[test]
fn what_is_safe_to_pull_is_on_the_stick() {
    let Some(stick) = Stick::ext4(64, &[]) else { return };
    let card = Card::with(&DAYS, 60, 60_000);
    let ended = export(&card, &[text(&stick.mount)]);
    let at_that_moment = stick.pulled_out_now();
    assert_eq!(
        stdout(&ended),
        format!(
            "copied 120 pictures (7.2 MB), 0 were there already, 0 problems\n\
             All 120 pictures are in {}, read back and synced: safe to pull.\n",
            stick.mount.display()
        )
    );
    assert_eq!(sums_hold(&at_that_moment.mount), 120);
    assert_eq!(DAYS.map(|day| sums_hold(&at_that_moment.mount.join(day))), [60, 60]);

    let zip = stick.mount.join("pictures.zip");
    assert_eq!(export(&card, &["--zip", text(&zip)]).status.code(), Some(0));
    let at_that_moment = stick.pulled_out_now();
    assert_eq!(sums_hold(unpack(&at_that_moment.mount.join("pictures.zip")).path()), 120);
}

/// A copy that stands still as soon as the first picture has its name.
fn stopped_in_the_middle(card: &Card, to: &Path, first: &str) -> Child {
    let mut command = tubox();
    command.args(["export", "--json", "--from"]).arg(card.pictures()).arg(to);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !to.join(first).exists() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::park_timeout(Duration::from_micros(200));
    }
    signal(&child, "STOP");
    child
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

const LONG: usize = 600;

#[test]
fn a_stick_that_is_pulled_out_in_the_middle_is_never_called_safe() {
    let card = Card::with(&["2026-11-22"], LONG, 30_000);
    let first = Picture::new("2026-11-22", 0, 30_000).path();

    let Some(stick) = Stick::ext4(64, &[]) else { return };
    let child = stopped_in_the_middle(&card, &stick.mount, &first);
    stick.unmount_lazily();
    signal(&child, "CONT");
    let ended = child.wait_with_output().unwrap();
    let report = json(&ended);
    let reason = "it was pulled out or has failed (no longer mounted); plug it in and run the same command again: it \
                  goes on where it ended";
    assert_eq!(report["problems"], json!([{"file": stick.mount, "reason": reason}]));
    assert_eq!((ended.status.code(), &report["safe_to_pull"]), (Some(3), &json!(false)));
    assert_eq!(std::fs::read_dir(&stick.mount).unwrap().count(), 0, "nothing went to the folder below");

    // A stick that fails instead: its last part answers with errors from now on.
    let Some(stick) = Stick::ext4(64, &[]) else { return };
    let child = stopped_in_the_middle(&card, &stick.mount, &first);
    std::fs::File::options().write(true).open(&stick.image).unwrap().set_len(1 << 20).unwrap();
    signal(&child, "CONT");
    let ended = child.wait_with_output().unwrap();
    let report = json(&ended);
    assert_eq!((ended.status.code(), &report["safe_to_pull"]), (Some(3), &json!(false)), "{report}");
    assert!(report["copied"].as_u64().unwrap() < LONG as u64);

    // Once it is back, the rest comes; here with a new one.
    let Some(stick) = Stick::ext4(64, &[]) else { return };
    let child = stopped_in_the_middle(&card, &stick.mount, &first);
    signal(&child, "INT");
    signal(&child, "CONT");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let reason = "stopped; run the same command again: it goes on where it ended";
    assert_eq!(json(&ended)["problems"], json!([{"file": stick.mount, "reason": reason}]));
    let copied = json(&ended)["copied"].as_u64().unwrap();
    let resumed = json(&export(&card, &[text(&stick.mount), "--json"]));
    assert_eq!(resumed["copied"], LONG as u64 - copied);
    assert_eq!((&resumed["already_there"], &resumed["safe_to_pull"]), (&json!(copied), &json!(true)));
    assert_eq!(sums_hold(&stick.mount), LONG);
}

#[test]
fn a_box_may_be_writing_meanwhile() {
    let simulator = simulator();
    let program = Program::serve(&simulator, &[]);
    let ids: Vec<String> =
        (0..30).map(|index| simulator.upload(sample_picture(index % 6).bytes, "image/jpeg")).collect();
    let answer = program.submit(&program.cookie(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let pictures = program.pictures_dir();
    program.wait_for_log("saved ");
    let to = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = tubox();
        command.args(["export", "--json", "--from"]).arg(&pictures).arg(to.path());
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(verify(to.path(), &[]).status.code(), Some(0));
        // What is just arriving is half; nothing else may look wrong.
        let verified = json(&verify(&pictures, &["--json"]));
        let is_half = |finding: &serde_json::Value| finding["flaw"] == "half";
        assert_eq!(verified["complete"], true, "{verified}");
        assert!(verified["findings"].as_array().unwrap().iter().all(is_half), "{verified}");
    };
    let started = Instant::now();
    run();
    while !to.path().join("SHA256SUMS").exists() || sums_hold(to.path()) < ids.len() {
        assert!(started.elapsed() < PATIENCE, "{}", program.log_text());
        run();
    }
    program.settled(answer.json()["receipt"].as_str().unwrap());
    assert_eq!(sums_hold(to.path()), ids.len());
}

#[test]
fn verify_says_in_one_sentence_whether_the_set_is_complete() {
    let card = Card::with(&DAYS, 3, 1000);
    let pictures = card.pictures();
    let fine = verify(&pictures, &[]);
    let expected = "6 pictures are whole and as listed (6.0 kB): the set is complete.\n";
    assert_eq!((stdout(&fine).as_str(), fine.status.code()), (expected, Some(0)));
    assert_eq!(
        json(&verify(&pictures, &["--json"])),
        json!({"good": 6, "bytes": 6000, "findings": [], "complete": true})
    );
    assert_eq!(json(&verify(&pictures.join(DAYS[0]), &["--json"]))["good"], 3);

    std::fs::write(pictures.join(DAYS[0]).join("假日.jpg"), b"x").unwrap();
    std::fs::write(pictures.join(DAYS[0]).join(".x~1.part"), b"x").unwrap();
    std::fs::write(pictures.join(DAYS[0]).join("Thumbs.db"), b"x").unwrap();
    let more = verify(&pictures, &[]);
    assert_eq!(
        stdout(&more),
        "half: 2026-11-21/.x~1.part\nunlisted: 2026-11-21/假日.jpg\n6 pictures are whole and as listed (6.0 kB): the \
         set is complete, but there is more in the folder: 1 unlisted, 1 half.\n"
    );
    assert_eq!(more.status.code(), Some(1));

    let file = |day: usize, number| Picture::new(DAYS[day], number, 1000);
    std::fs::remove_file(card.path_of(&file(0, 0))).unwrap();
    std::fs::write(card.path_of(&file(0, 1)), vec![0; 1000]).unwrap();
    let sums = pictures.join(DAYS[1]).join("SHA256SUMS");
    let other = std::fs::read_to_string(&sums).unwrap().replace(&file(1, 2).sha256(), &"0".repeat(64));
    std::fs::write(&sums, other).unwrap();
    card.append(DAYS[1], b"a,b\n");
    let broken = verify(&pictures, &["--json"]);
    let finding = |file: &str, flaw: &str| json!({"file": file, "flaw": flaw});
    assert_eq!(
        json(&broken),
        json!({"good": 4, "bytes": 4000, "complete": false, "findings": [
            finding(&file(0, 0).path(), "missing"),
            finding(&file(0, 1).path(), "changed"),
            finding("2026-11-21/.x~1.part", "half"),
            finding("2026-11-21/假日.jpg", "unlisted"),
            finding("2026-11-22/manifest.csv", "damaged"),
            finding(&file(1, 2).path(), "contradicted"),
        ]})
    );
    assert_eq!(broken.status.code(), Some(1));
    let chinese = tubox().arg("verify").arg(&pictures).env("LC_ALL", "zh_TW.UTF-8").output().unwrap();
    assert_eq!(
        stdout(&chinese).lines().last().unwrap(),
        "4 张照片完好，与清单一致（4.0 kB），但照片不齐全：缺失 1 个，内容变了 1 个，清单损坏 1 个，清单互相矛盾 1 \
         个，不在清单里 1 个，未完成 1 个。"
    );
    std::fs::remove_file(&sums).unwrap();
    assert!(stdout(&verify(&pictures, &[])).contains("missing: 2026-11-22/SHA256SUMS\n"));
}

#[test]
fn verify_holds_a_copys_merged_lists_against_its_days() {
    let card = Card::with(&DAYS, 2, 1000);
    let to = destination(&card);
    export(&card, &[text(&to)]);
    let one = Picture::new(DAYS[1], 1, 1000);
    let merged = std::fs::read_to_string(to.join("SHA256SUMS")).unwrap();
    std::fs::write(to.join("SHA256SUMS"), merged.replace(&one.sha256(), &"f".repeat(64))).unwrap();
    let found = json(&verify(&to, &["--json"]));
    assert_eq!(found["findings"], json!([{"file": one.path(), "flaw": "contradicted"}]));
    assert_eq!(found["complete"], false);

    // A whole day that is gone is missed, although no day's manifest speaks of it.
    export(&card, &[text(&to)]);
    std::fs::remove_dir_all(to.join(DAYS[0])).unwrap();
    let found = verify(&to, &[]);
    let expected = "missing: 2026-11-21/20261121T170100Z_id-00000.jpg\nmissing: \
                    2026-11-21/20261121T170101Z_id-00001.jpg\n2 pictures are whole and as listed (2.0 kB), but the set \
                    is NOT complete: 2 missing.\n";
    assert_eq!((stdout(&found).as_str(), found.status.code()), (expected, Some(1)));
}
