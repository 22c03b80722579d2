//! File names: from the job alone, safe on FAT and exFAT, never longer than a file system takes.

use super::Facts;
use super::whole::PictureKind;
use crate::ground::clock::compact_utc;
use crate::ground::hex::hex;
use sha2::{Digest, Sha256};

/// The longest part of a media_id that goes into a file name as it is: 17 characters of time, 200 of id, 10 of
/// hash and 5 of extension stay below the 255 that every file system takes.
const ID_LENGTH_MAX: usize = 200;

/// The name of a picture of `kind`: `20261122T170106Z_<media id>.jpg`.
pub fn file_name(facts: &Facts, kind: PictureKind) -> String {
    format!("{}.{}", stem(facts), kind.extension())
}

/// The name when the plain one belongs to another id: FAT does not tell `Ab` from `aB`.
pub fn distinct_file_name(facts: &Facts, kind: PictureKind) -> String {
    format!("{}.{}", distinct_stem(facts), kind.extension())
}

/// The hidden name under which the bytes arrive.
pub fn temporary_name(facts: &Facts) -> String {
    format!(".{}.part", distinct_stem(facts))
}

/// Whether a name in a day's folder is that of a temporary file.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".part")
}

/// Whether a name begins as that of a picture does, `20261122T170106Z_`.
pub fn is_of_picture(name: &str) -> bool {
    let shape = "00000000T000000Z_";
    name.len() > shape.len()
        && name.as_bytes().get(..shape.len()).is_some_and(|start| is_shaped(start, shape))
}

/// Whether `name` has a digit for each 0 of `shape`, and otherwise the same.
fn is_shaped(name: &[u8], shape: &str) -> bool {
    let fits =
        |(byte, wanted): (&u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { *byte == wanted };
    name.len() == shape.len() && name.iter().zip(shape.bytes()).all(fits)
}

/// The day's folder; from the second on, `2026-11-22_02`: FAT takes only some thousand long names in a folder.
pub fn folder_name(day: &str, part: u32) -> String {
    if part < 2 { day.to_owned() } else { format!("{day}_{part:02}") }
}

/// Whether `name` is that of a day's folder, the first or a later one.
pub fn is_day(name: &str) -> bool {
    ["0000-00-00", "0000-00-00_00"].iter().any(|shape| is_shaped(name.as_bytes(), shape))
}

/// The day that a day's folder belongs to.
pub fn day_of(folder: &str) -> &str {
    folder.get(..10).unwrap_or(folder)
}

/// The number of a day's folder, 1 for the first.
pub fn part_of(folder: &str) -> u32 {
    folder.get(11..).and_then(|part| part.parse().ok()).filter(|part| *part > 0).unwrap_or(1)
}

/// A name without its extension.
pub fn stem_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// What the name of a picture begins with, before its extension.
pub struct Stems {
    /// Of [`file_name`].
    pub plain: String,
    /// Of [`distinct_file_name`].
    pub distinct: String,
}

impl Stems {
    /// Those of the picture of `facts`.
    pub fn of(facts: &Facts) -> Stems {
        Stems { plain: stem(facts), distinct: distinct_stem(facts) }
    }

    /// Every name that the picture may have got.
    pub fn candidates(&self) -> Vec<String> {
        let with_extensions =
            |stem: &str| PictureKind::ALL.map(|kind| format!("{stem}.{}", kind.extension()));
        [with_extensions(&self.plain), with_extensions(&self.distinct)].concat()
    }
}

fn stem(facts: &Facts) -> String {
    let id = facts.media_id.as_str();
    if id.len() <= ID_LENGTH_MAX {
        format!("{}_{id}", compact_utc(facts.submitted_ms))
    } else {
        distinct_stem(facts)
    }
}

fn distinct_stem(facts: &Facts) -> String {
    format!("{}~{}", short_stem(facts), id_hash(facts))
}

fn short_stem(facts: &Facts) -> String {
    let id = facts.media_id.as_str();
    format!("{}_{}", compact_utc(facts.submitted_ms), &id[..id.len().min(ID_LENGTH_MAX)])
}

fn id_hash(facts: &Facts) -> String {
    hex(&Sha256::digest(facts.media_id.as_str()))[..8].to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ground::media_id::MediaId;

    pub(in crate::album) fn facts(id: &str) -> Facts {
        Facts {
            media_id: MediaId::parse(id).unwrap(),
            submitted_ms: 1_795_280_466_123,
            clock_trusted: true,
            receipt: "r".into(),
            team: String::new(),
            contributor: String::new(),
            note: String::new(),
            latitude: None,
            longitude: None,
        }
    }

    #[test]
    fn names_follow_from_the_job() {
        assert_eq!(file_name(&facts("Ab-_9"), PictureKind::Jpeg), "20261121T170106Z_Ab-_9.jpg");
        assert_ne!(
            distinct_file_name(&facts("Ab"), PictureKind::Png),
            distinct_file_name(&facts("aB"), PictureKind::Png)
        );
        assert!(is_temporary(&temporary_name(&facts("a"))));
        assert!(is_of_picture(&file_name(&facts("A"), PictureKind::Gif)));
        assert!(!is_of_picture("20261121T170106Z_") && !is_of_picture("20261121_170106Z_A.jpg"));
        assert_eq!(folder_name("2026-11-22", 1), "2026-11-22");
        assert!(is_day(&folder_name("2026-11-22", 2)) && !is_day("2026-11-22-02"));
        assert_eq!((day_of("2026-11-22_02"), part_of("2026-11-22_02")), ("2026-11-22", 2));
        assert_eq!((part_of("2026-11-22"), part_of("2026-11-22_00"), stem_of("a.b.jpg")), (1, 1, "a.b"));
        assert!(is_day("2026-11-22") && !is_day("2026-11-2x") && !is_day("2026-1122"));
    }

    #[test]
    fn the_longest_id_still_makes_a_legal_name() {
        let long = "x".repeat(256);
        let other = format!("{}y", "x".repeat(255));
        for name in Stems::of(&facts(&long)).candidates().into_iter().chain([temporary_name(&facts(&long))]) {
            assert!(name.len() <= 255, "{}", name.len());
        }
        assert_ne!(file_name(&facts(&long), PictureKind::Jpeg), file_name(&facts(&other), PictureKind::Jpeg));
    }
}
