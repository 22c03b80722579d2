//! `tubox verify` and `tubox export`: the album without the box.

use super::args::{ExportArgs, VerifyArgs};
use super::{Ended, say, say_error};
use crate::album::export::{Days, export as export_pictures};
use crate::album::verify::{Flaw, verify as verify_pictures};
use crate::config;
use std::path::{Path, PathBuf};

pub(super) fn verify(args: &VerifyArgs) -> Result<(), Ended> {
    let root = pictures_dir(args.pictures_dir.as_deref(), args.config.as_deref())?;
    let report = verify_pictures(&root, |_| ())?;
    if args.json {
        let mut json = serde_json::to_value(&report).unwrap_or_default();
        json["complete"] = report.is_complete().into();
        say(&json.to_string());
    } else {
        for finding in &report.findings {
            say(&format!("{}: {}", flaw_in_words(finding.flaw), finding.file));
        }
        let verdict = if report.is_complete() { "the set is complete" } else { "the set is NOT complete" };
        say(&format!("{} pictures are whole ({} bytes); {verdict}", report.good, report.bytes));
    }
    if report.is_clean() { Ok(()) } else { Err(Ended::WithProblems) }
}

fn flaw_in_words(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Missing => "missing",
        Flaw::Changed => "changed",
        Flaw::Unlisted => "unlisted",
        Flaw::Half => "half",
        Flaw::Unreadable => "unreadable",
    }
}

pub(super) fn export(args: &ExportArgs) -> Result<(), Ended> {
    let root = pictures_dir(args.from.as_deref(), args.config.as_deref())?;
    let days = Days { since: args.since.clone(), until: args.until.clone() };
    let report = export_pictures(&root, &args.destination, &days, |_| ())?;
    if args.json {
        say(&serde_json::to_value(&report).unwrap_or_default().to_string());
    } else {
        for problem in &report.problems {
            say_error(&format!("{}: {}", problem.file, problem.reason));
        }
        say(&format!(
            "copied {} pictures ({} bytes), {} were there already, {} problems",
            report.copied,
            report.bytes,
            report.already_there,
            report.problems.len()
        ));
    }
    if report.problems.is_empty() { Ok(()) } else { Err(Ended::WithProblems) }
}

/// The folder that was named, or that of the settings.
fn pictures_dir(named: Option<&Path>, config_file: Option<&Path>) -> Result<PathBuf, Ended> {
    match named {
        Some(folder) => Ok(folder.to_owned()),
        None => Ok(config::load(config_file, &config::process_environment())?.pictures_dir),
    }
}
