//! The fuzz targets' properties on a stable compiler: every seed, and thousands of damaged copies that are the
//! same in every run. The fuzzer itself, which looks for bytes that lead somewhere new, is `tests/fuzz/run`.

#[path = "../fuzz/properties.rs"]
mod properties;

use properties::Property;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tubox::ground::random::{SeededRandom, SharedRandom};

/// Damaged copies for each target; `CAMPAIGN_MUTATIONS` makes them more.
const MUTATIONS: usize = 4000;

/// What is strewn in: whatever a format here takes for a sign.
const SPLINTERS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b"&",
    b"%",
    b"%00",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b"\0",
    b"\x01",
    b"\x16",
    b"\x1b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x01",
    b"\xef\xbb\xbf",
    "\u{56fe}".as_bytes(),
    b"0",
    b"9",
    b"-1",
    b"99999999999999999999",
    b"1e999",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X-Tubox-Head: 1.1.1.1\r\n",
    b"HTTP/1.1",
    b"/",
    b"#",
    b"errcode",
    b"imgIds",
    b"mdat",
    b"IEND",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

struct Chance(SharedRandom);

impl Chance {
    fn below(&self, limit: usize) -> usize {
        (self.0.u64() % limit.max(1) as u64) as usize
    }

    fn damage(&self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let until = (at + self.below(8)).min(bytes.len());
        match self.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..until)),
            3 => {
                let other = &others[self.below(others.len())];
                let from = self.below(other.len() + 1);
                bytes.splice(at..until, other[from..].iter().copied());
            }
            4 => {
                let again = bytes[at..until].to_vec();
                bytes.splice(at..at, again);
            }
            _ => drop(bytes.splice(at..until, SPLINTERS[self.below(SPLINTERS.len())].iter().copied())),
        }
    }
}

fn hold(target: &str, property: Property, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(bytes))) {
        eprintln!("{target} does not hold for: {:?}", String::from_utf8_lossy(bytes));
        eprintln!("as bytes: {bytes:?}");
        std::panic::resume_unwind(panic);
    }
}

fn campaign(target: &str, property: Property, mutations: usize) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 5, "{target} has hardly any seeds");
    for seed in &seeds {
        hold(target, property, seed);
    }
    let chance = Chance(SeededRandom::shared(mutations as u64));
    for _ in 0..mutations {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        for _ in 0..=chance.below(4) {
            chance.damage(&mut bytes, &seeds);
        }
        hold(target, property, &bytes);
    }
}

#[test]
fn whatever_comes_does_no_harm() {
    let asked = std::env::var("CAMPAIGN_MUTATIONS").ok();
    let mutations = asked.map_or(MUTATIONS, |text| text.parse().expect("CAMPAIGN_MUTATIONS is a number"));
    for (target, property) in properties::ALL {
        let started = std::time::Instant::now();
        campaign(target, property, mutations);
        eprintln!("{target}: {mutations} in {:?}", started.elapsed());
    }
}

/// A property that cannot fail is none.
#[test]
fn the_seeds_go_both_ways() {
    use tubox::album::whole::PictureKind;
    use tubox::door::inbound::{InboundLimits, parse_head};
    let share = |target: &str, is_taken: fn(&[u8]) -> bool| {
        let seeds = seeds(target);
        let taken = seeds.iter().filter(|seed| is_taken(seed)).count();
        assert!(taken >= 2 && taken < seeds.len(), "{target}: {taken} of {} are taken", seeds.len());
    };
    share("head", |bytes| matches!(parse_head(bytes, &InboundLimits::default()), Ok(Some(_))));
    share("submission", |bytes| tubox::web::parse_submission(None, bytes, 100).is_ok());
    share("picture", |bytes| PictureKind::sniff(bytes).is_some());
    share("manifest", |bytes| tubox::album::manifest::parse(bytes).is_ok());
    share("settings", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        tubox::config::from_text(&text, Path::new("x"), &Vec::new()).is_ok()
    });
}
