//! The manifest of a day: `manifest.csv`, one line a picture, readable by every spreadsheet; and `SHA256SUMS`
//! beside it, as `sha256sum -c` reads it.
//!
//! Text from visitors could be taken for a formula by a spreadsheet, so a field that starts like one gets a
//! leading apostrophe; reading takes it off again. Line breaks become spaces: a row is always one line, so a
//! torn tail is found by looking for the last line break.

use anyhow::{Context, Result, bail};
use csv::StringRecord;
use serde::Serialize;
use std::path::Path;

/// The name of the manifest in a day's folder.
pub const MANIFEST_FILE: &str = "manifest.csv";
/// The name of the list of hashes in a day's folder.
pub const SUMS_FILE: &str = "SHA256SUMS";

const COLUMNS: [&str; 16] = [
    "file",
    "media_id",
    "sha256",
    "bytes",
    "content_type",
    "width",
    "height",
    "submitted_at",
    "saved_at",
    "receipt",
    "team",
    "contributor",
    "note",
    "latitude",
    "longitude",
    LAST_COLUMN,
];

/// The manifests of the first version lack it.
const LAST_COLUMN: &str = "clock";

/// One picture in a manifest. Empty text stands for what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name in the day's folder.
    pub file: String,
    /// WeChat's id.
    pub media_id: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Length of the file.
    pub bytes: u64,
    /// By the bytes, never by a header.
    pub content_type: String,
    /// Pixels.
    pub width: String,
    /// Pixels.
    pub height: String,
    /// RFC 3339, UTC.
    pub submitted_at: String,
    /// RFC 3339, UTC.
    pub saved_at: String,
    /// The contributor's receipt.
    pub receipt: String,
    /// From the contributor.
    pub team: String,
    /// From the contributor.
    pub contributor: String,
    /// From the contributor.
    pub note: String,
    /// Degrees, WGS 84.
    pub latitude: String,
    /// Degrees, WGS 84.
    pub longitude: String,
    /// `unsure` when the clock could not be believed at submission; empty otherwise.
    pub clock: String,
}

impl Row {
    /// The row as one line of CSV, line break included.
    pub fn to_line(&self) -> Result<String> {
        let mut cells = [
            &self.file,
            &self.media_id,
            &self.sha256,
            &self.bytes.to_string(),
            &self.content_type,
            &self.width,
            &self.height,
            &self.submitted_at,
            &self.saved_at,
            &self.receipt,
            &self.team,
            &self.contributor,
            &self.note,
            &self.latitude,
            &self.longitude,
            &self.clock,
        ]
        .map(|cell| cell.to_owned());
        for cell in FREE_TEXT {
            cells[cell] = disarm(&cells[cell]);
        }
        line(&cells)
    }

    /// The row with the texts as the visitors wrote them.
    pub(super) fn unescaped(mut self) -> Row {
        for field in [&mut self.media_id, &mut self.team, &mut self.contributor, &mut self.note] {
            *field = rearm(field);
        }
        self
    }

    /// The line for `SHA256SUMS`, line break included.
    pub fn sums_line(&self) -> String {
        format!("{}  {}\n", self.sha256, self.file)
    }
}

/// Where a manifest has its columns: people reorder them, and older ones lack the last.
pub(super) struct Columns([Option<usize>; COLUMNS.len()]);

impl Columns {
    /// By the manifest's first line.
    pub fn of(header: &StringRecord) -> Columns {
        Columns(COLUMNS.map(|name| header.iter().position(|cell| cell == name)))
    }

    /// The row in a record, its texts as they are written; an error names line and column.
    pub fn row(&self, record: &StringRecord) -> Result<Row> {
        let line = record.position().map_or(0, csv::Position::line);
        let cells = self.0.iter().zip(COLUMNS).map(|(at, name)| match at.and_then(|at| record.get(at)) {
            Some(cell) => Ok(cell.to_owned()),
            None if name == LAST_COLUMN => Ok(String::new()),
            None => bail!("line {line} has no {name}"),
        });
        let cells: Vec<String> = cells.collect::<Result<_>>()?;
        let mut cells = cells.into_iter();
        let mut next = || cells.next().unwrap_or_default();
        // As in COLUMNS.
        Ok(Row {
            file: next(),
            media_id: next(),
            sha256: next(),
            bytes: next().parse().with_context(|| format!("line {line} has no number in bytes"))?,
            content_type: next(),
            width: next(),
            height: next(),
            submitted_at: next(),
            saved_at: next(),
            receipt: next(),
            team: next(),
            contributor: next(),
            note: next(),
            latitude: next(),
            longitude: next(),
            clock: next(),
        })
    }
}

/// Positions of the columns that hold text from visitors.
const FREE_TEXT: [usize; 4] = [1, 10, 11, 12];

/// The first line of a manifest, line break included.
pub fn header_line() -> Result<String> {
    line(&COLUMNS.map(str::to_owned))
}

fn line(cells: &[String]) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(cells).context("could not write a manifest row")?;
    let bytes =
        writer.into_inner().map_err(|error| anyhow::anyhow!("could not write a manifest row: {error}"))?;
    String::from_utf8(bytes).context("could not write a manifest row")
}

/// `text` on one line and not to be taken for a formula (OWASP: `= + - @`, tab and carriage return in front;
/// full-width forms of them too). The apostrophe is added before an apostrophe as well, so it can be undone.
pub(super) fn disarm(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match flat.trim_start().chars().next() {
        Some('=' | '+' | '-' | '@' | '\'' | '＝' | '＋' | '－' | '＠') => format!("'{flat}"),
        _ => flat,
    }
}

fn rearm(text: &str) -> String {
    text.strip_prefix('\'').unwrap_or(text).to_owned()
}

/// Reads a manifest. A torn last line (no line break) is passed over.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("could not read {}", path.display()))
}

/// The rows in the bytes of a manifest. A torn last line is passed over; any other damage is an error that
/// names its line.
pub fn parse(bytes: &[u8]) -> Result<Vec<Row>> {
    let whole_lines = &bytes[..whole_lines_length(bytes)];
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(whole_lines);
    let mut rows = Vec::new();
    let columns = Columns::of(reader.headers().context("damaged manifest row")?);
    for record in reader.records() {
        let row = record.map_err(anyhow::Error::from).and_then(|record| columns.row(&record));
        rows.push(row.context("damaged manifest row")?.unescaped());
    }
    Ok(rows)
}

/// The number of bytes up to and including the last line break.
pub fn whole_lines_length(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

/// One line of `SHA256SUMS`: hash and file name. `None` for anything that is not such a line.
pub fn parse_sums_line(line: &str) -> Option<(&str, &str)> {
    let (hash, rest) = line.split_at_checked(64)?;
    let file = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hash && !file.is_empty()).then_some((hash, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(note: &str) -> Row {
        Row { file: "a.jpg".into(), media_id: "-x".into(), note: note.into(), bytes: 7, ..Row::default() }
    }

    #[test]
    fn formulas_are_disarmed_and_come_back_as_they_were() {
        for note in ["=1+1", "+x", "-x", "@x", "'quoted'", "plain", "a,b", "say \"hi\"", " =1", "＝1", "中文"]
        {
            let text = header_line().unwrap() + &row(note).to_line().unwrap();
            let cell = text.lines().nth(1).unwrap();
            assert!(!cell.contains(",=") && !cell.contains(",-x"), "{cell}");
            assert_eq!(parse(text.as_bytes()).unwrap(), vec![row(note)]);
        }
    }

    #[test]
    fn a_row_is_one_line_whatever_the_note_holds() {
        let text = row("two\nlines\r\nand\ttab").to_line().unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\r'));
    }

    #[test]
    fn a_torn_tail_is_passed_over_and_damage_named() {
        let text = header_line().unwrap() + &row("a").to_line().unwrap() + "b.jpg,half";
        assert_eq!(parse(text.as_bytes()).unwrap().len(), 1);
        let damaged = header_line().unwrap() + "only,three,cells\n";
        assert!(parse(damaged.as_bytes()).is_err());
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn sums_lines_are_read_strictly() {
        let hash = "a".repeat(64);
        assert_eq!(parse_sums_line(&format!("{hash}  x.jpg")), Some((hash.as_str(), "x.jpg")));
        for bad in ["", "abc  x", &format!("{hash} x"), &format!("{hash}  "), &"é".repeat(40)] {
            assert_eq!(parse_sums_line(bad), None, "{bad}");
        }
    }
}
