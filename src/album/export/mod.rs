//! Copying off: every listed picture goes to another folder under a temporary name, is synced, read back from
//! the stick itself and compared with the manifest's hash before it gets its name there. A second run copies
//! what is missing or differs. Or all of it goes into one zip.
//!
//! Needs neither box nor settings, and works beside a box that is writing. Nothing that a card or a stick says is
//! believed: see [`super::foreign`]. What goes wrong with one picture does not stop the others; what goes wrong
//! with the destination ends the copy. Knows nothing of terminals: whoever wants to look on is a [`Watch`].
//!
//! [`plan`]: what is wanted · [`target`]: the destination and its limits · [`copy`]: the pictures ·
//! [`lists`]: manifests and hashes · [`mod@pack`]: the zip · [`why`]: what went wrong, in words.

mod copy;
mod lists;
mod pack;
mod plan;
mod target;
mod why;

pub use pack::{Packed, export_zip, pack};
pub use plan::Selection;
pub use why::{Blocked, Why};

use super::watch::Watch;
use copy::DayCopy;
use plan::DayPlan;
use std::collections::BTreeSet;
use std::path::Path;
use target::Target;

/// What a copy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Pictures copied now.
    pub copied: u64,
    /// Pictures that were there already, with the right hash.
    pub already_there: u64,
    /// Bytes copied now.
    pub bytes: u64,
    /// What could not be copied, with the reason.
    pub problems: Vec<Problem>,
    /// What ended the copy before its time.
    pub blocked: Option<Blocked>,
    /// Whether the copy lies on the disk of the pictures themselves.
    pub is_on_the_same_disk: bool,
}

impl Exported {
    /// Whether everything that was wanted is in the destination, read back and synced.
    pub fn is_safe_to_pull(&self) -> bool {
        self.problems.is_empty() && self.blocked.is_none()
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Below the pictures folder, or what the selection asked for.
    pub file: String,
    /// Why.
    pub why: Why,
}

/// The day folders of the pictures folder `root`, oldest first, or why it is none.
pub(super) fn days_of(root: &Path) -> Result<Vec<String>, Blocked> {
    plan::days(root, &Selection::default())
}

/// Copies what `selection` wants from `root` to the folder `destination`. `now_ms`: the wall clock.
pub fn export(
    root: &Path,
    destination: &Path,
    selection: &Selection,
    now_ms: i64,
    watch: &mut impl Watch,
) -> Exported {
    let mut report = Exported::default();
    report.blocked = copy_all(root, destination, selection, now_ms, watch, &mut report).err();
    report
}

fn copy_all(
    root: &Path,
    destination: &Path,
    selection: &Selection,
    now_ms: i64,
    watch: &mut impl Watch,
    report: &mut Exported,
) -> Result<(), Blocked> {
    let days = plan::days(root, selection)?;
    let target = Target::open(root, destination)?;
    report.is_on_the_same_disk = target.is_on_the_disk_of(root);
    let survey = survey(root, &days, selection, Some(&target))?;
    report.problems.extend(survey.nothing_wanted(selection));
    target.check_room(survey.room)?;
    watch.begin(survey.pictures, survey.bytes);
    // Whatever failed first, a stick that is no longer there is the reason.
    copy_days(root, &days, selection, now_ms, &target, watch, report)
        .map_err(|blocked| target.still_there().err().unwrap_or(blocked))
}

fn copy_days(
    root: &Path,
    days: &[String],
    selection: &Selection,
    now_ms: i64,
    target: &Target,
    watch: &mut impl Watch,
    report: &mut Exported,
) -> Result<(), Blocked> {
    for day in days {
        let standing = plan::pictures_in(root, day, selection);
        let plan = plan::read_day(root, day, selection);
        report.problems.extend(plan.problems.iter().cloned());
        copy_day(root, day, &plan, target, watch, report)?;
        report.problems.extend(plan::not_listed(root, day, standing, &plan, now_ms));
    }
    lists::write_merged(target)?;
    target.sync_finally()
}

/// Copies a day and writes its lists, whatever came in between: what has arrived shall be listed.
fn copy_day(
    root: &Path,
    day: &str,
    plan: &DayPlan,
    target: &Target,
    watch: &mut impl Watch,
    report: &mut Exported,
) -> Result<(), Blocked> {
    if plan.pictures.is_empty() {
        return Ok(());
    }
    let mut copy = DayCopy::new(root, day, target, watch, report)?;
    let copied = copy.run(plan.pictures.clone());
    let (to, kept) = (std::mem::take(&mut copy.to), std::mem::take(&mut copy.kept));
    let listed = target.still_there().and_then(|()| lists::write_day(&to, day, kept, report));
    copied.and(listed)
}

/// What a look at the manifests says before anything is copied.
#[derive(Default)]
struct Survey {
    pictures: u64,
    bytes: u64,
    /// What the destination must have room for.
    room: u64,
    teams: BTreeSet<String>,
}

fn survey(
    root: &Path,
    days: &[String],
    selection: &Selection,
    target: Option<&Target>,
) -> Result<Survey, Blocked> {
    /// Two lines in the day's lists, two in the merged ones; a longer note is within the margin.
    const LIST_BYTES_EACH: u64 = 1200;
    let mut survey = Survey::default();
    for day in days {
        let plan = plan::read_day(root, day, selection);
        let mut slots = 0;
        for planned in &plan.pictures {
            survey.pictures += 1;
            survey.bytes = survey.bytes.saturating_add(planned.row.bytes);
            slots += target::slots(&planned.row.file);
            if let Some(target) = target {
                survey.room = survey.room.saturating_add(room_of(target, day, planned, LIST_BYTES_EACH));
            }
        }
        if let Some(target) = target {
            target.check_folder(day, slots)?;
        }
        survey.teams.extend(plan.teams.into_iter().filter(|team| !team.is_empty()));
    }
    Ok(survey)
}

/// What a picture will take: nothing when a file of its length is there (its hash is looked at later; if it
/// differs, the new one takes the place of the old).
fn room_of(target: &Target, day: &str, planned: &plan::Planned, list_bytes: u64) -> u64 {
    let path = target.path().join(day).join(&planned.row.file);
    match path.symlink_metadata() {
        Ok(metadata) if metadata.len() == planned.row.bytes => 0,
        _ => target.room_for(planned.row.bytes).saturating_add(list_bytes),
    }
}

impl Survey {
    /// A filter that lets nothing through is more often a slip than a wish.
    fn nothing_wanted(&self, selection: &Selection) -> Option<Problem> {
        if self.pictures > 0 {
            return None;
        }
        if let Some(team) = &selection.team {
            let why = Why::NoSuchTeam(self.teams.iter().cloned().collect());
            return Some(Problem { file: team.clone(), why });
        }
        let days = [selection.since.as_deref(), selection.until.as_deref()];
        let is_of_some_days = days.iter().any(Option::is_some);
        let file = days.map(Option::unwrap_or_default).join("…");
        is_of_some_days.then_some(Problem { file, why: Why::NoSuchDays })
    }
}
