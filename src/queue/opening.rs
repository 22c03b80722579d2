//! Opening sled's part of the queue: as it was, or, when it is damaged, set aside under a dated name and filled
//! again from the journal. What is no fault of its content (a full or failing disk) changes nothing: it is tried
//! again later, and the journal takes submissions meanwhile.

use super::journal::Position;
use super::record::Record;
use super::store::{Store, StoreFault};
use super::{JobState, QueueOptions, REPLAY_BATCH, SavedLookup, journal};
use crate::ground::clock::{SharedClock, compact_utc, day_utc};
use crate::ground::durable;
use crate::ground::media_id::MediaId;
use crate::ground::stop::Stop;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was set aside is kept for people to look at, but not without bound: it may be as large as the queue.
const ASIDE_MAX: usize = 2;
/// How long, and how often, a locked database is waited for.
const LOCK_LOOK: Duration = Duration::from_millis(10);
const LOCK_LOOKS: usize = 100;
const ASIDE_PREFIX: &str = "queue.bad-";

/// Opens sled and takes over what the journal holds beyond it.
pub(super) fn open_store(options: &QueueOptions, saved: &SavedLookup<'_>) -> Result<Store, StoreFault> {
    let folder = options.data_dir.join("queue");
    match open_unlocked(&folder, options).and_then(|store| fill(store, options, saved)) {
        Err(StoreFault::Damaged(error)) => {
            log::error!("{error:#}");
            open_anew(options, saved)
        }
        other => other,
    }
}

/// sled lets go of its lock in a thread of its own, so a database that was closed a moment ago is waited for.
fn open_unlocked(folder: &Path, options: &QueueOptions) -> Result<Store, StoreFault> {
    let open = || Store::open(folder, deadline_ms(options), &options.random);
    for _ in 0..LOCK_LOOKS {
        match open() {
            Err(StoreFault::Locked(_)) => Stop::new().wait(LOCK_LOOK),
            other => return other,
        };
    }
    open()
}

/// Sets sled's folder aside and fills another from the journal.
pub(super) fn open_anew(options: &QueueOptions, saved: &SavedLookup<'_>) -> Result<Store, StoreFault> {
    let folder = options.data_dir.join("queue");
    let aside = set_aside(&folder, &options.clock).map_err(StoreFault::Elsewhere)?;
    log::error!(
        "the queue's database was set aside as {} and is filled again from the journal",
        aside.display()
    );
    fill(Store::open(&folder, deadline_ms(options), &options.random)?, options, saved)
}

/// Takes over what has come to the journal behind `from`.
pub(super) fn take_the_rest(
    store: &mut Store,
    options: &QueueOptions,
    from: &Position,
) -> Result<(), StoreFault> {
    let taken = journal::replay(&options.data_dir.join("journal"), Some(from), |entry| {
        store.insert(&Record::new(entry)?)
    });
    taken.map(drop).map_err(StoreFault::of)
}

fn deadline_ms(options: &QueueOptions) -> i64 {
    i64::try_from(options.deadline.as_millis()).unwrap_or(i64::MAX)
}

fn fill(mut store: Store, options: &QueueOptions, saved: &SavedLookup<'_>) -> Result<Store, StoreFault> {
    let replayed = replay(&mut store, options, saved).map_err(StoreFault::of)?;
    if replayed > 0 {
        log::info!("took {replayed} submissions from the journal into the queue");
    }
    Ok(store)
}

fn replay(store: &mut Store, options: &QueueOptions, saved: &SavedLookup<'_>) -> Result<usize> {
    let mut unsettled = Vec::new();
    let from = store.journal_position();
    let replayed = journal::replay(&options.data_dir.join("journal"), from.as_ref(), |entry| {
        let record = Record::new(entry)?;
        store.insert(&record)?;
        let entry = record.entry;
        unsettled.extend(entry.submission.ids.into_iter().map(|id| (id, entry.submitted_ms)));
        if unsettled.len() >= REPLAY_BATCH {
            complete_what_is_saved(store, &mut unsettled, saved)
        } else {
            Ok(())
        }
    })?;
    complete_what_is_saved(store, &mut unsettled, saved)?;
    Ok(replayed)
}

/// Ids that came back from the journal may have been fetched before sled forgot them.
fn complete_what_is_saved(
    store: &mut Store,
    unsettled: &mut Vec<(MediaId, i64)>,
    saved: &SavedLookup<'_>,
) -> Result<()> {
    let mut by_day = HashMap::new();
    for (id, submitted_ms) in unsettled.drain(..) {
        let day = day_utc(submitted_ms);
        let album = by_day.entry(day.clone()).or_insert_with(|| saved(&day));
        if let Some(sha256) = album.get(&id)
            && matches!(store.state(&id)?, Some(JobState::Waiting { .. }))
        {
            store.set_state(&id, &JobState::Saved(sha256.clone()))?;
        }
    }
    Ok(())
}

fn set_aside(folder: &Path, clock: &SharedClock) -> Result<PathBuf> {
    let data_dir = durable::folder_of(folder);
    remove_old_asides(data_dir)?;
    let stamp = compact_utc(clock.wall_ms());
    let aside = (0..1000)
        .map(|number| folder.with_file_name(format!("{ASIDE_PREFIX}{stamp}-{number:03}")))
        .find(|path| !path.exists())
        .context("could not set the damaged queue aside: too many of them")?;
    std::fs::rename(folder, &aside)
        .with_context(|| format!("could not set the damaged queue aside as {}", aside.display()))?;
    durable::create_private_folder(folder).with_context(|| format!("could not make {}", folder.display()))?;
    Ok(aside)
}

/// Leaves room for one more.
fn remove_old_asides(data_dir: &Path) -> Result<()> {
    let reading = || format!("could not read {}", data_dir.display());
    let mut asides = Vec::new();
    for entry in std::fs::read_dir(data_dir).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ASIDE_PREFIX)) {
            asides.push(path);
        }
    }
    asides.sort();
    for old in asides.iter().rev().skip(ASIDE_MAX - 1) {
        std::fs::remove_dir_all(old).with_context(|| format!("could not remove {}", old.display()))?;
    }
    Ok(())
}
