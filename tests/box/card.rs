//! Cards and sticks: a pictures folder as a box would have left it, made without one; and a file system of its
//! own on a loop device, to be too small, to be pulled out, to be looked at as it is at this moment.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const HEADER: &str = "file,media_id,sha256,bytes,content_type,width,height,submitted_at,saved_at,receipt,team,\
                      contributor,note,latitude,longitude,clock\n";

/// A pictures folder, written by hand after the contract.
pub struct Card {
    pub folder: TempDir,
}

/// One picture on a card.
#[derive(Clone)]
pub struct Picture {
    pub day: String,
    pub file: String,
    pub team: String,
    pub bytes: Vec<u8>,
}

impl Card {
    /// `count` pictures of `bytes` bytes each on every one of `days`; teams `north` and `south` in turn.
    pub fn with(days: &[&str], count: usize, bytes: usize) -> Card {
        let pictures: Vec<Picture> =
            days.iter().flat_map(|day| (0..count).map(|number| Picture::new(day, number, bytes))).collect();
        Card::of(&pictures)
    }

    pub fn of(pictures: &[Picture]) -> Card {
        let card = Card { folder: tempfile::tempdir().unwrap() };
        let mut days: Vec<&str> = pictures.iter().map(|picture| picture.day.as_str()).collect();
        days.dedup();
        for day in days {
            let of_day: Vec<&Picture> = pictures.iter().filter(|picture| picture.day == day).collect();
            for picture in &of_day {
                std::fs::create_dir_all(card.pictures().join(day)).unwrap();
                std::fs::write(card.path_of(picture), &picture.bytes).unwrap();
            }
            let rows: String = of_day.iter().map(|picture| picture.row()).collect();
            let sums: String = of_day.iter().map(|picture| picture.sums_line()).collect();
            std::fs::write(card.pictures().join(day).join("manifest.csv"), HEADER.to_owned() + &rows)
                .unwrap();
            std::fs::write(card.pictures().join(day).join("SHA256SUMS"), sums).unwrap();
        }
        card
    }

    pub fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    pub fn path_of(&self, picture: &Picture) -> PathBuf {
        self.pictures().join(&picture.day).join(&picture.file)
    }

    /// Adds bytes to the manifest of a day.
    pub fn append(&self, day: &str, bytes: &[u8]) {
        let path = self.pictures().join(day).join("manifest.csv");
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }
}

impl Picture {
    pub fn new(day: &str, number: usize, bytes: usize) -> Picture {
        let file = format!("{}T1701{:02}Z_id-{number:05}.jpg", day.replace('-', ""), number % 60);
        let team = if number.is_multiple_of(2) { "north" } else { "south" };
        // No two alike, and nothing that a file system could store as a hole.
        let mut content = format!("{day} {number} ").into_bytes();
        content.resize(bytes.max(content.len()), 0x5a);
        Picture { day: day.to_owned(), file, team: team.to_owned(), bytes: content }
    }

    pub fn path(&self) -> String {
        format!("{}/{}", self.day, self.file)
    }

    pub fn sha256(&self) -> String {
        Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn row(&self) -> String {
        let (file, team, sha256, bytes) = (&self.file, &self.team, self.sha256(), self.bytes.len());
        let id = file.rsplit('_').next().unwrap().trim_end_matches(".jpg");
        let day = &self.day;
        format!(
            "{file},{id},{sha256},{bytes},image/jpeg,1,1,{day}T17:01:06.000Z,{day}T17:02:00.000Z,r,{team},,,,,\n"
        )
    }

    pub fn sums_line(&self) -> String {
        format!("{}  {}\n", self.sha256(), self.file)
    }
}

/// A file system in a file, mounted.
pub struct Stick {
    pub image: PathBuf,
    pub mount: PathBuf,
    _folder: TempDir,
}

impl Stick {
    /// An ext4 of `mebibytes`; `None` where this machine does not let us mount, which is said loudly.
    pub fn ext4(mebibytes: u64, mkfs_options: &[&str]) -> Option<Stick> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let made =
            Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).args(mkfs_options).arg(&image).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            return skip("no mkfs.ext4");
        }
        let mount = folder.path().join("mount");
        Stick::mount(&image, &mount)
            .then_some(Stick { image, mount, _folder: folder })
            .or_else(|| skip("no loop mounts"))
    }

    fn mount(image: &Path, at: &Path) -> bool {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(at).output();
        mounted.is_ok_and(|output| output.status.success())
    }

    /// What is on the stick at this moment, as if it were pulled out now: a copy of its image, mounted.
    pub fn pulled_out_now(&self) -> Stick {
        let folder = tempfile::tempdir().unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
        std::fs::copy(&self.image, &image).unwrap();
        assert!(Stick::mount(&image, &mount));
        Stick { image, mount, _folder: folder }
    }

    pub fn unmount_lazily(&self) {
        assert!(Command::new("umount").arg("-l").arg(&self.mount).status().unwrap().success());
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(&self.mount).output();
    }
}

/// Straight to standard error, which the test runner does not swallow.
fn skip(why: &str) -> Option<Stick> {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED a test with a real file system: {why} on this machine\n");
    None
}

/// `sha256sum -c` as the judge; the number of files that it found right.
pub fn sums_hold(folder: &Path) -> usize {
    let output = Command::new("sha256sum")
        .args(["-c", "--strict", "SHA256SUMS"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}: {text}{}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines().filter(|line| line.ends_with(": OK")).count()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
