//! Looking at what is kept, without touching it: the days, the rows of a day page by page, the file of a row. For
//! pages that people look at while the box writes: a manifest is read up to its last whole line, line by line,
//! so a day of ten thousand pictures costs no more memory than one of ten.
//!
//! A manifest may come from a card that was elsewhere. A row whose file is no plain name is passed over, and a
//! file is opened by its row, never by what somebody asks for; links are not followed. So nothing outside a
//! day's folder can be reached from here.

use super::manifest::{self, Columns, MANIFEST_FILE, Row};
use super::{day_folders, name};
use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Teams of one day that are told apart; visitors choose the names, so there must be an end.
const TEAMS_MAX: usize = 200;

/// The longest file name.
const NAME_LENGTH_MAX: usize = 255;

/// How much of a manifest's end is searched for the last line break at a time.
const TAIL_BYTES: u64 = 16 * 1024;

/// The column of the team in a manifest.
const TEAM_COLUMN: &str = "team";

/// One day at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaySummary {
    /// Pictures in the manifest.
    pub pictures: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Teams with their number of pictures, the largest first; the empty name is "no team".
    pub teams: Vec<(String, u64)>,
}

/// A part of a day's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Rows that match, in all.
    pub total: u64,
    /// The rows of this part, newest first.
    pub rows: Vec<Row>,
}

/// What to look at: days, oldest first, each with the length that its manifest had when it was asked for, so
/// that two passes see the same rows while the box goes on writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Day and manifest length.
    pub days: Vec<(String, u64)>,
    /// Only this team.
    pub team: Option<String>,
}

/// The days that have pictures, newest first.
pub fn days(root: &Path) -> Result<Vec<String>> {
    let mut days = day_folders(root)?;
    days.retain(|day| manifest_path(root, day).is_file());
    days.reverse();
    Ok(days)
}

/// Whether `day` is the name of a day that has pictures.
pub fn has_day(root: &Path, day: &str) -> bool {
    name::is_day(day) && manifest_path(root, day).is_file()
}

/// One day or all of them, as they are now. A day is all of its folders, `2026-11-22_02` only this one.
pub fn scope(root: &Path, day: Option<&str>, team: Option<&str>) -> Result<Scope> {
    let is_wanted = |folder: &String| day.is_none_or(|day| folder == day || name::day_of(folder) == day);
    let mut names: Vec<String> = days(root)?.into_iter().filter(is_wanted).collect();
    names.sort();
    let mut scope = Scope { days: Vec::new(), team: team.map(str::to_owned) };
    for day in names {
        let length = whole_length(root, &day)?;
        scope.days.push((day, length));
    }
    Ok(scope)
}

/// Pictures submitted on `date` (`2026-11-22`), over all folders of that day; by the lines of its manifests.
pub fn pictures_of(root: &Path, date: &str) -> Result<u64> {
    let mut pictures = 0;
    for day in days(root)?.iter().filter(|day| name::day_of(day) == date) {
        let path = manifest_path(root, day);
        let lines =
            BufReader::new(File::open(&path).with_context(|| format!("could not open {}", path.display()))?);
        let breaks: u64 =
            count_line_breaks(lines).with_context(|| format!("could not read {}", path.display()))?;
        pictures += breaks.saturating_sub(1); // the header
    }
    Ok(pictures)
}

/// Pictures, bytes and teams of a day.
pub fn summary(root: &Path, day: &str) -> Result<DaySummary> {
    let mut summary = DaySummary::default();
    let mut teams: HashMap<String, u64> = HashMap::new();
    each(root, day, whole_length(root, day)?, None, &mut |row| {
        summary.pictures += 1;
        summary.bytes += row.bytes;
        if teams.len() < TEAMS_MAX || teams.contains_key(&row.team) {
            *teams.entry(row.team).or_default() += 1;
        }
        Ok(())
    })?;
    summary.teams = teams.into_iter().collect();
    summary.teams.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(summary)
}

/// `count` rows of a day from number `from` on, the newest being number 0.
pub fn part(root: &Path, day: &str, team: Option<&str>, from: u64, count: usize) -> Result<Part> {
    let length = whole_length(root, day)?;
    let mut total = 0;
    each(root, day, length, team, &mut |_| {
        total += 1;
        Ok(())
    })?;
    // Rows are written oldest first; number `from` from the end is the last that is wanted.
    let end = u64::saturating_sub(total, from);
    let start = end.saturating_sub(count as u64);
    let mut rows = VecDeque::new();
    let mut number = 0;
    each(root, day, length, team, &mut |row| {
        if (start..end).contains(&number) {
            rows.push_front(row);
        }
        number += 1;
        Ok(())
    })?;
    Ok(Part { total, rows: rows.into() })
}

/// The row of a file, if the day's manifest has one.
pub fn find(root: &Path, day: &str, file: &str) -> Result<Option<Row>> {
    if !has_day(root, day) || !is_plain_name(file) {
        return Ok(None);
    }
    let path = manifest_path(root, day);
    let context = || format!("could not read {}", path.display());
    let manifest = File::open(&path).with_context(context)?;
    let mut lines = BufReader::with_capacity(64 * 1024, manifest);
    let (mut header, mut line) = (Vec::new(), Vec::new());
    lines.read_until(b'\n', &mut header).with_context(context)?;
    // The name is the first cell and needs no quotes, so a line can be told by its first bytes.
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).with_context(context)? == 0 {
            return Ok(None);
        }
        if line.strip_prefix(file.as_bytes()).is_some_and(|rest| rest.starts_with(b",")) {
            header.extend_from_slice(&line);
            return Ok(manifest::parse(&header).with_context(context)?.pop());
        }
    }
}

/// Opens the file of a row. A link is no picture of ours.
pub fn open(root: &Path, day: &str, row: &Row) -> io::Result<File> {
    let not_found = |why| io::Error::new(io::ErrorKind::NotFound, why);
    if !name::is_day(day) || !is_plain_name(&row.file) {
        return Err(not_found("no plain name"));
    }
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(root.join(day).join(&row.file));
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(not_found("no file")),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Err(not_found("a link")),
        Err(error) => Err(error),
    }
}

/// Calls `seen` with every row of `scope`, oldest day first.
pub fn each_of(root: &Path, scope: &Scope, seen: &mut dyn FnMut(&str, Row) -> Result<()>) -> Result<()> {
    for (day, length) in &scope.days {
        each(root, day, *length, scope.team.as_deref(), &mut |row| seen(day, row))?;
    }
    Ok(())
}

/// Calls `seen` with the rows in the first `length` bytes of a day's manifest. Rows that cannot be read are
/// passed over: `verify` tells of them.
fn each(
    root: &Path,
    day: &str,
    length: u64,
    team: Option<&str>,
    seen: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<()> {
    let path = manifest_path(root, day);
    let mut reader = reader_of(&path, length)?;
    let headers = reader.headers().with_context(|| format!("could not read {}", path.display()))?;
    let columns = Columns::of(headers);
    let team_at = headers.iter().position(|name| name == TEAM_COLUMN);
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.is_io_error() => {
                return Err(error).with_context(|| format!("could not read {}", path.display()));
            }
            Err(_) => continue,
        }
        if team.is_some_and(|team| !is_team(team_at.and_then(|at| record.get(at)), team)) {
            continue;
        }
        match columns.row(&record) {
            Ok(row) if is_plain_name(&row.file) => seen(row.unescaped())?,
            _ => {}
        }
    }
}

/// Whether a cell as it is written holds this team.
fn is_team(cell: Option<&str>, team: &str) -> bool {
    cell.is_some_and(|cell| cell.strip_prefix('\'').unwrap_or(cell) == team)
}

fn reader_of(path: &Path, length: u64) -> Result<csv::Reader<Take<File>>> {
    let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    Ok(csv::ReaderBuilder::new().flexible(true).from_reader(file.take(length)))
}

/// Bytes of a manifest up to and including its last line break: a line that is being written does not count.
fn whole_length(root: &Path, day: &str) -> Result<u64> {
    let path = manifest_path(root, day);
    let length = File::open(&path).and_then(|mut file| last_line_break(&mut file));
    length.with_context(|| format!("could not read {}", path.display()))
}

fn last_line_break(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut tail = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        tail.clear();
        file.by_ref().take(end - start).read_to_end(&mut tail)?;
        let whole = manifest::whole_lines_length(&tail);
        if whole > 0 {
            return Ok(start + whole as u64);
        }
        end = start;
    }
    Ok(0)
}

fn count_line_breaks(mut text: impl BufRead) -> io::Result<u64> {
    let mut breaks = 0;
    loop {
        let part = text.fill_buf()?;
        if part.is_empty() {
            return Ok(breaks);
        }
        breaks += part.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = part.len();
        text.consume(read);
    }
}

fn manifest_path(root: &Path, day: &str) -> PathBuf {
    root.join(day).join(MANIFEST_FILE)
}

/// The names that the album gives: nothing that an address, a header or another file system could misread.
fn is_plain_name(file: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~".contains(&byte);
    (1..=NAME_LENGTH_MAX).contains(&file.len()) && !file.starts_with('.') && file.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{SUMS_FILE, header_line};
    use super::*;

    const DAY: &str = "2026-11-21";

    fn row(number: u32, team: &str) -> Row {
        Row {
            file: format!("p{number}.jpg"),
            media_id: format!("id{number}"),
            bytes: u64::from(number),
            team: team.to_owned(),
            ..Row::default()
        }
    }

    fn folder_with(rows: &[Row], tail: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join(DAY);
        std::fs::create_dir(&day).unwrap();
        let lines: String = rows.iter().map(|row| row.to_line().unwrap()).collect();
        std::fs::write(day.join(MANIFEST_FILE), header_line().unwrap() + &lines + tail).unwrap();
        folder
    }

    fn names(part: &Part) -> Vec<&str> {
        part.rows.iter().map(|row| row.file.as_str()).collect()
    }

    #[test]
    fn a_day_is_paged_newest_first_while_it_is_written() {
        let rows: Vec<Row> =
            (0..5).map(|number| row(number, ["north", "=south"][number as usize % 2])).collect();
        let folder = folder_with(&rows, "p5.jpg,half");
        let part_of = |team, from, count| part(folder.path(), DAY, team, from, count).unwrap();
        assert_eq!(names(&part_of(None, 0, 2)), ["p4.jpg", "p3.jpg"]);
        assert_eq!(names(&part_of(None, 4, 2)), ["p0.jpg"]);
        assert_eq!((part_of(None, 9, 2).total, part_of(None, 9, 2).rows.len()), (5, 0));
        assert_eq!(names(&part_of(Some("=south"), 0, 9)), ["p3.jpg", "p1.jpg"]);
        assert_eq!(part_of(Some(""), 0, 9).total, 0);
        let all = summary(folder.path(), DAY).unwrap();
        assert_eq!((all.pictures, all.bytes), (5, 10));
        assert_eq!(all.teams, [("north".to_owned(), 3), ("=south".to_owned(), 2)]);
        assert_eq!(days(folder.path()).unwrap(), [DAY]);
    }

    #[test]
    fn a_day_is_all_of_its_folders() {
        let folder = folder_with(&[row(1, ""), row(2, "")], "");
        let later = folder.path().join(format!("{DAY}_02"));
        std::fs::create_dir(&later).unwrap();
        let text = header_line().unwrap() + &row(3, "").to_line().unwrap();
        std::fs::write(later.join(MANIFEST_FILE), text).unwrap();
        let seen_in = |day: Option<&str>| {
            let mut seen = Vec::new();
            let scope = scope(folder.path(), day, None).unwrap();
            each_of(folder.path(), &scope, &mut |day, row| {
                seen.push(format!("{day}/{}", row.file));
                Ok(())
            })
            .unwrap();
            seen
        };
        let all = ["2026-11-21/p1.jpg", "2026-11-21/p2.jpg", "2026-11-21_02/p3.jpg"];
        assert_eq!(seen_in(Some(DAY)), all);
        assert_eq!(seen_in(None), all);
        assert_eq!(seen_in(Some("2026-11-21_02")), all[2..]);
        assert_eq!(pictures_of(folder.path(), DAY).unwrap(), 3);
    }

    #[test]
    fn only_rows_lead_to_files() {
        let rows = [row(1, ""), Row { file: "../../secret".into(), ..Row::default() }, row(2, "")];
        let folder = folder_with(&rows, "");
        let day = folder.path().join(DAY);
        std::fs::write(day.join("p1.jpg"), b"one").unwrap();
        std::fs::write(day.join("unlisted.jpg"), b"two").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", day.join("p2.jpg")).unwrap();
        let find = |day: &str, file: &str| find(folder.path(), day, file).unwrap();
        for file in ["../../secret", "unlisted.jpg", "p1.jp", MANIFEST_FILE, SUMS_FILE, "", ".", "p1.jpg,id1"]
        {
            assert_eq!(find(DAY, file), None, "{file}");
        }
        for day in ["2026-11-20", "..", "", "2026-11-21/", "2026-11-21/../2026-11-21"] {
            assert_eq!(find(day, "p1.jpg"), None, "{day}");
        }
        let found = find(DAY, "p1.jpg").unwrap();
        assert_eq!(found.media_id, "id1");
        assert!(open(folder.path(), DAY, &found).is_ok());
        assert!(open(folder.path(), DAY, &rows[2]).is_err(), "a link was followed");
        assert!(open(folder.path(), DAY, &rows[1]).is_err());
        assert_eq!(part(folder.path(), DAY, None, 0, 9).unwrap().total, 2);
    }

    #[test]
    fn a_long_tail_without_a_line_break_is_passed_over() {
        let folder = folder_with(&[row(1, "")], &"x".repeat(3 * TAIL_BYTES as usize));
        assert_eq!(part(folder.path(), DAY, None, 0, 9).unwrap().total, 1);
        std::fs::write(folder.path().join(DAY).join(MANIFEST_FILE), b"").unwrap();
        assert_eq!(summary(folder.path(), DAY).unwrap(), DaySummary::default());
    }
}
