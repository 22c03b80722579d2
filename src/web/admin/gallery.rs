//! The operator's way to the pictures: days, rows, thumbnails, files, positions. An address names a day and
//! a file; both are looked up in the manifests, and what is opened is what was found there. Whatever takes long
//! to send goes out while it is read and holds a place, of which there are few. A day that went on in another
//! folder (`2026-11-22_02`) is shown as another day.

use super::super::answer::Answer;
use super::super::visit::{Visit, form_pairs};
use super::thumbs::{Thumb, Thumbs};
use super::turnstile::Turnstile;
use crate::album::catalogue::{self, Scope};
use crate::album::manifest::Row;
use crate::album::parcel::Parcel;
use crate::album::positions;
use crate::album::whole::PictureKind;
use crate::ground::clock::SharedClock;
use crate::ground::language::Language;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Days in one answer.
const DAYS_MAX: u64 = 31;

/// Rows in one answer.
const ROWS_MAX: u64 = 200;

/// Pictures, zips and lists that go out at a time.
const SENDING_MAX: usize = 8;

/// What stands for a picture that has no thumbnail.
const PLACEHOLDER: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 320 320\"><rect width=\"320\" height=\"320\" fill=\"#8a968f\"/><path d=\"M96 112h128v96H96zM96 190l38-38 28 28 22-22 40 40\" fill=\"none\" stroke=\"#fff\" stroke-width=\"10\"/><text x=\"160\" y=\"264\" font-family=\"sans-serif\" font-size=\"36\" fill=\"#fff\" text-anchor=\"middle\">KIND</text></svg>";

/// The gallery's routes.
pub(super) struct Gallery {
    root: PathBuf,
    thumbs: Thumbs,
    sending: Turnstile,
}

/// How an answer came to nothing.
enum Missed {
    /// There is no such thing.
    NotFound,
    /// Ask again.
    Busy,
    /// The disk.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Missed {
    fn from(error: anyhow::Error) -> Missed {
        Missed::Fault(error)
    }
}

impl Gallery {
    pub(super) fn new(root: PathBuf, data_dir: &Path, clock: SharedClock) -> Gallery {
        let thumbs = Thumbs::new(data_dir.join("thumbs"), clock);
        Gallery { root, thumbs, sending: Turnstile::new(SENDING_MAX) }
    }

    /// Answers a GET; `path` is what follows `/admin/`. `None`: no route of the gallery.
    pub(super) fn answer(&self, path: &str, visit: &Visit) -> Option<Answer> {
        let (route, rest) = path.split_once('/').unwrap_or((path, ""));
        let two = |rest: &str| rest.split_once('/').map(|(day, file)| (day.to_owned(), file.to_owned()));
        let answered = match (route, rest) {
            ("days", "") => self.days(visit),
            ("day", day) => self.day(day, visit),
            ("thumb", rest) => {
                two(rest).ok_or(Missed::NotFound).and_then(|(day, file)| self.thumb(&day, &file))
            }
            ("picture", rest) => {
                two(rest).ok_or(Missed::NotFound).and_then(|(day, file)| self.picture(&day, &file, visit))
            }
            ("positions.csv", "") => self.positions(visit, "text/csv; charset=utf-8", positions::write_csv),
            ("positions.geojson", "") => {
                self.positions(visit, "application/geo+json", positions::write_geojson)
            }
            ("zip", "") => self.zip(visit, None),
            _ => return None,
        };
        Some(answered.unwrap_or_else(|missed| refuse(&missed, visit.language)))
    }

    fn days(&self, visit: &Visit) -> Result<Answer, Missed> {
        let names = catalogue::days(&self.root)?;
        let (from, count) = window(visit, 10, DAYS_MAX);
        let mut days = Vec::new();
        for day in names.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)).take(count as usize) {
            let summary = catalogue::summary(&self.root, day)?;
            let teams: Vec<Value> = summary
                .teams
                .iter()
                .map(|(team, pictures)| json!({"team": team, "pictures": pictures}))
                .collect();
            days.push(
                json!({"day": day, "pictures": summary.pictures, "bytes": summary.bytes, "teams": teams}),
            );
        }
        Ok(Answer::json(200, &json!({"rc": 0, "total": names.len(), "days": days})))
    }

    fn day(&self, day: &str, visit: &Visit) -> Result<Answer, Missed> {
        if !catalogue::has_day(&self.root, day) {
            return Err(Missed::NotFound);
        }
        let (from, count) = window(visit, 60, ROWS_MAX);
        let team = visit.query_value("team");
        let part = catalogue::part(&self.root, day, team.as_deref(), from, count as usize)?;
        let answer = json!({"rc": 0, "day": day, "total": part.total, "from": from, "pictures": part.rows});
        Ok(Answer::json(200, &answer))
    }

    fn thumb(&self, day: &str, file: &str) -> Result<Answer, Missed> {
        let row = self.row(day, file)?;
        let thumb = self.thumbs.of(&row, || catalogue::open(&self.root, day, &row));
        match thumb {
            Ok(Thumb::Jpeg(bytes)) => Ok(Answer::jpeg(bytes)),
            Ok(Thumb::None) => Ok(Answer::svg(PLACEHOLDER.replace("KIND", &kind_of(&row)))),
            Ok(Thumb::Busy) => Err(Missed::Busy),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Missed::NotFound),
            Err(error) => {
                Err(Missed::Fault(anyhow::Error::new(error).context(format!("could not read {day}/{file}"))))
            }
        }
    }

    fn picture(&self, day: &str, file: &str, visit: &Visit) -> Result<Answer, Missed> {
        let row = self.row(day, file)?;
        let place = self.sending.enter().ok_or(Missed::Busy)?;
        let Ok(mut source) = catalogue::open(&self.root, day, &row) else { return Err(Missed::NotFound) };
        let length = source.metadata().context("could not read the length of a picture")?.len();
        let kind = row.file.rsplit('.').next().and_then(PictureKind::from_extension);
        let content_type = kind.map_or("application/octet-stream", PictureKind::content_type);
        let write = Box::new(move |out: &mut dyn Write| {
            let copied = copy(&mut source, out, length);
            drop(place);
            copied
        });
        let answer = Answer::stream(content_type, length, write);
        Ok(match visit.query_value("download") {
            Some(_) => attached(answer, &row.file),
            None => answer,
        })
    }

    fn positions(
        &self,
        visit: &Visit,
        content_type: &str,
        write: fn(&Path, &Scope, &mut dyn Write) -> Result<()>,
    ) -> Result<Answer, Missed> {
        let place = self.sending.enter().ok_or(Missed::Busy)?;
        let scope = self.scope(visit)?;
        let mut counted = Count(0);
        write(&self.root, &scope, &mut counted)?;
        let root = self.root.clone();
        let extension = if content_type.contains("csv") { "csv" } else { "geojson" };
        let name = format!("{}.{extension}", name_of("positions", visit));
        let body = Box::new(move |out: &mut dyn Write| {
            let mut out = BufWriter::with_capacity(32 * 1024, out);
            let written =
                write(&root, &scope, &mut out).map_err(|error| io::Error::other(format!("{error:#}")));
            drop(place);
            written.and_then(|()| out.flush())
        });
        Ok(attached(Answer::stream(content_type, counted.0, body), &name))
    }

    /// The zip of a selection, whose names (`pick=2026-11-22/file`) would be too long for an address.
    pub(super) fn zip_of_picks(&self, visit: &Visit) -> Answer {
        let picks: HashSet<String> = form_pairs(&visit.body)
            .filter(|(key, _)| key == b"pick")
            .filter_map(|(_, value)| String::from_utf8(value).ok())
            .collect();
        self.zip(visit, Some(picks)).unwrap_or_else(|missed| refuse(&missed, visit.language))
    }

    fn zip(&self, visit: &Visit, picks: Option<HashSet<String>>) -> Result<Answer, Missed> {
        let place = self.sending.enter().ok_or(Missed::Busy)?;
        let mut scope = self.scope(visit)?;
        let what = if picks.is_some() { "selection" } else { "pictures" };
        if let Some(picks) = &picks {
            let days: HashSet<&str> = picks.iter().filter_map(|pick| pick.split('/').next()).collect();
            scope.days.retain(|(day, _)| days.contains(day.as_str()));
        }
        let parcel = Parcel::prepare(&self.root, scope, picks)?;
        if parcel.pictures() == 0 {
            return Err(Missed::NotFound);
        }
        log::info!("sending {} pictures as a zip to {}", parcel.pictures(), visit.client);
        let length = parcel.length();
        let body = Box::new(move |out: &mut dyn Write| {
            let written = parcel.write(out).map_err(|error| io::Error::other(format!("{error:#}")));
            drop(place);
            written
        });
        Ok(attached(
            Answer::stream("application/zip", length, body),
            &format!("{}.zip", name_of(what, visit)),
        ))
    }

    /// What the query's `day` and `team` name; without a day all days.
    fn scope(&self, visit: &Visit) -> Result<Scope, Missed> {
        let day = visit.query_value("day");
        if day.as_deref().is_some_and(|day| !catalogue::has_day(&self.root, day)) {
            return Err(Missed::NotFound);
        }
        let team = visit.query_value("team");
        Ok(catalogue::scope(&self.root, day.as_deref(), team.as_deref())?)
    }

    fn row(&self, day: &str, file: &str) -> Result<Row, Missed> {
        catalogue::find(&self.root, day, file)?.ok_or(Missed::NotFound)
    }
}

/// `from` and `count` of a query; the count within bounds.
fn window(visit: &Visit, usual: u64, most: u64) -> (u64, u64) {
    let number = |key: &str| visit.query_value(key).and_then(|text| text.parse::<u64>().ok());
    (number("from").unwrap_or(0), number("count").unwrap_or(usual).clamp(1, most))
}

/// A name for a download from what was asked for. Teams are free text; only what every system takes is kept.
fn name_of(what: &str, visit: &Visit) -> String {
    let mut name = format!("tubox-{what}");
    for part in ["day", "team"].into_iter().filter_map(|key| visit.query_value(key)) {
        let plain: String =
            part.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
        if !plain.is_empty() {
            name = format!("{name}-{plain}");
        }
    }
    name
}

fn attached(answer: Answer, name: &str) -> Answer {
    answer.with_header("Content-Disposition", format!("attachment; filename=\"{name}\""))
}

fn kind_of(row: &Row) -> String {
    let extension = row.file.rsplit('.').next().unwrap_or_default();
    let plain = extension.chars().filter(char::is_ascii_alphanumeric).take(5);
    plain.collect::<String>().to_uppercase()
}

/// Copies `length` bytes and not one more, should the file have grown.
fn copy(source: &mut impl Read, out: &mut dyn Write, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    let mut source = source.take(length);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count])?,
        }
    }
}

fn refuse(missed: &Missed, language: Language) -> Answer {
    match missed {
        Missed::NotFound => Answer::refusal(
            404,
            "not-found",
            "没有这张照片或这一天",
            "there is no such picture or day",
            language,
        ),
        Missed::Busy => Answer::refusal(
            503,
            "busy",
            "正在处理别的照片，请稍后再试",
            "other pictures are being worked on; please ask again",
            language,
        )
        .with_header("Retry-After", "1"),
        Missed::Fault(error) => {
            log::warn!("the gallery could not answer: {error:#}");
            Answer::refusal(500, "disk", "读不到照片文件夹", "the pictures folder cannot be read", language)
        }
    }
}

/// Counts what is written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
