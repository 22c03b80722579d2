//! Where each id stands; a part of sled's store.
//!
//! Tree `jobs`: two bytes → a bucket, the jobs of all ids that fall into it. A leaf of sled holds sixteen entries at most
//! and costs some 450 bytes of memory even while it is on the disk alone, so a million ids are a few in each of 65,536
//! buckets. While ids are few, a bucket is one job. Which id falls where depends on a secret of the database, or
//! somebody could make up ids that all fall into one, and every write would be of them all.
//!
//! In a bucket, one job after the other: its key, two bytes of length, the job. Most ids wait as part of their receipt,
//! and then no more than the receipt is kept of them: what else is known is the receipt's.

use super::record::{Entry, JobState, Kept};
use crate::ground::hex::{hex, unhex};
use crate::ground::media_id::MediaId;
use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use sled::{Db, IVec, Tree};

/// Half of an id's SHA-256, which nobody can make meet another's.
pub(super) type JobKey = [u8; KEY_BYTES];

const KEY_BYTES: usize = 16;
const LENGTH_BYTES: usize = 2;

/// How a job's bytes begin.
const WAITS: char = 'w';
const WAITS_APART: char = 'a';
const SAVED: char = 's';
/// Under something that is no SHA-256, which somebody wrote into a manifest.
const SAVED_ODDLY: char = 'o';
const FAILED: char = 'f';
/// The most lines of text that a job has.
const LINES_MAX: usize = 7;
/// Characters of what is no SHA-256.
const ODD_MAX: usize = 64;

/// See [`JobKey`].
pub(super) fn key_of(id: &MediaId) -> JobKey {
    let digest: [u8; 32] = Sha256::digest(id.as_str()).into();
    let mut key = JobKey::default();
    key.copy_from_slice(&digest[..size_of::<JobKey>()]);
    key
}

/// What is kept of one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub receipt: String,
    /// Of an id that waits apart from its receipt, or has failed, and of no other.
    pub apart: Option<Apart>,
    pub state: JobState,
}

/// What is known of an id without its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Apart {
    pub media_id: MediaId,
    /// What the deadline counts from; the receipt's entry keeps what the wall clock said.
    pub submitted_ms: i64,
    /// `submitted_ms` is not to be believed. Such jobs come first, until the true time is known.
    pub unsure: bool,
}

impl Apart {
    /// Of an id that was submitted with this entry.
    pub fn of(id: &MediaId, entry: &Entry) -> Apart {
        let (submitted_ms, unsure) = (entry.submitted_ms, !entry.clock_trusted);
        Apart { media_id: id.clone(), submitted_ms, unsure }
    }

    /// The time under which it waits: that of its submission, or 0 while it is not known.
    pub fn order_ms(&self) -> i64 {
        if self.unsure { 0 } else { self.submitted_ms.max(0) }
    }

    fn lines(&self) -> String {
        format!("{}\n{}\n{}", self.media_id, self.submitted_ms, self.unsure)
    }
}

impl Job {
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, JobState::Waiting { .. })
    }

    /// Whether it waits as part of its receipt.
    pub fn is_part(&self) -> bool {
        self.is_waiting() && self.apart.is_none()
    }

    /// A letter and the receipt; of a picture its length, the receipt and the SHA-256; anything rarer in lines of text,
    /// of which only the last may hold line breaks.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let Job { receipt, apart, state } = self;
        let text = match (state, apart) {
            (JobState::Waiting { attempts: 0, .. }, None) => format!("{WAITS}{receipt}"),
            (JobState::Waiting { attempts, last_code, in_a_row }, Some(apart)) => {
                let (apart, code) = (apart.lines(), last_code.as_deref().unwrap_or_default());
                format!("{WAITS_APART}{receipt}\n{apart}\n{attempts}\n{in_a_row}\n{code}")
            }
            (JobState::Failed(Kept { code, detail, at_ms }), Some(apart)) => {
                format!("{FAILED}{receipt}\n{}\n{code}\n{at_ms}\n{detail}", apart.lines())
            }
            (JobState::Saved(sha256), _) => match (unhex(sha256), u8::try_from(receipt.len())) {
                (Some(sha256), Ok(length)) => {
                    return Ok([&[SAVED as u8, length], receipt.as_bytes(), &sha256].concat());
                }
                _ => {
                    let odd = sha256.chars().filter(|character| *character != '\n').take(ODD_MAX);
                    format!("{SAVED_ODDLY}{receipt}\n{}", odd.collect::<String>())
                }
            },
            (_, None) => bail!("a job was tried as a part of its receipt"),
        };
        Ok(text.into_bytes())
    }

    /// What [`Job::to_bytes`] wrote.
    fn from_bytes(bytes: &[u8]) -> Result<Job> {
        let (kind, rest) = bytes.split_first().context("a job without content")?;
        match char::from(*kind) {
            SAVED => {
                let (length, rest) = rest.split_first().context("a picture's job is cut off")?;
                let parts = rest.split_at_checked(usize::from(*length));
                let (receipt, sha256) = parts.context("a picture's job is cut off")?;
                let receipt = std::str::from_utf8(receipt)?.to_owned();
                Ok(Job { receipt, apart: None, state: JobState::Saved(hex(sha256)) })
            }
            kind => Job::from_text(kind, std::str::from_utf8(rest)?),
        }
    }

    fn from_text(kind: char, text: &str) -> Result<Job> {
        let mut lines = text.splitn(LINES_MAX, '\n');
        let mut next = || lines.next().context("a job is cut off");
        let receipt = next()?.to_owned();
        let mut apart = None;
        if [WAITS_APART, FAILED].contains(&kind) {
            let media_id = MediaId::parse(next()?).map_err(|why| anyhow!("a job's media_id {why}"))?;
            apart = Some(Apart { media_id, submitted_ms: next()?.parse()?, unsure: next()?.parse()? });
        }
        let state = match kind {
            WAITS => JobState::untouched(),
            WAITS_APART => JobState::Waiting {
                attempts: next()?.parse()?,
                in_a_row: next()?.parse()?,
                last_code: Some(next()?).filter(|code| !code.is_empty()).map(str::to_owned),
            },
            FAILED => JobState::Failed(Kept {
                code: next()?.to_owned(),
                at_ms: next()?.parse()?,
                detail: next()?.to_owned(),
            }),
            SAVED_ODDLY => JobState::Saved(next()?.to_owned()),
            _ => bail!("a job of an unknown kind"),
        };
        Ok(Job { receipt, apart, state })
    }
}

/// All jobs.
pub(super) struct Jobs {
    tree: Tree,
    secret: u64,
}

impl Jobs {
    /// The secret must always be the same for one database.
    pub fn open(db: &Db, secret: u64) -> Result<Jobs> {
        // Odd, so that every bit of the key counts.
        Ok(Jobs { tree: db.open_tree("jobs")?, secret: secret | 1 })
    }

    /// What to open this database with.
    pub fn secret(&self) -> u64 {
        self.secret
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub fn get(&self, key: &JobKey) -> Result<Option<Job>> {
        let bucket = self.bucket(key)?;
        let found = find(&bucket, key)?;
        found.map(|(_, job)| Job::from_bytes(job)).transpose()
    }

    /// Keeps `job` where none is yet; otherwise returns the one that is there.
    pub fn add(&self, key: &JobKey, job: &Job) -> Result<Option<Job>> {
        let bucket = self.bucket(key)?;
        if let Some((_, known)) = find(&bucket, key)? {
            return Job::from_bytes(known).map(Some);
        }
        self.write(key, bucket.to_vec(), Some(job))?;
        Ok(None)
    }

    /// Keeps `job`, instead of any other.
    pub fn put(&self, key: &JobKey, job: &Job) -> Result<()> {
        let bucket = self.bucket(key)?;
        self.write(key, without(&bucket, key)?, Some(job))
    }

    pub fn remove(&self, key: &JobKey) -> Result<()> {
        let bucket = self.bucket(key)?;
        self.write(key, without(&bucket, key)?, None)
    }

    /// Hands every job to `take`, in no order.
    pub fn for_each(&self, mut take: impl FnMut(Job) -> Result<()>) -> Result<()> {
        for entry in self.tree.iter() {
            let (_, bucket) = entry?;
            let mut left = &bucket[..];
            while let Some((_, job, behind)) = first(left)? {
                take(Job::from_bytes(job)?)?;
                left = behind;
            }
        }
        Ok(())
    }

    fn bucket(&self, key: &JobKey) -> Result<IVec> {
        Ok(self.tree.get(self.bucket_of(key))?.unwrap_or_default())
    }

    /// Writes the bucket of `key`: what is in it of others, and its own job if there is one.
    fn write(&self, key: &JobKey, mut bucket: Vec<u8>, job: Option<&Job>) -> Result<()> {
        if let Some(job) = job {
            let job = job.to_bytes()?;
            bucket.extend(key);
            bucket.extend(u16::try_from(job.len()).context("a job is too long")?.to_be_bytes());
            bucket.extend(job);
        }
        if bucket.is_empty() {
            self.tree.remove(self.bucket_of(key))?;
        } else {
            self.tree.insert(self.bucket_of(key), bucket)?;
        }
        Ok(())
    }

    fn bucket_of(&self, key: &JobKey) -> [u8; 2] {
        let mut first = [0; 8];
        first.copy_from_slice(&key[..8]);
        let mixed = u64::from_be_bytes(first).wrapping_mul(self.secret).to_be_bytes();
        [mixed[0], mixed[1]]
    }
}

/// A job's key, the job, what follows it in its bucket.
type Parts<'b> = (&'b [u8], &'b [u8], &'b [u8]);

/// The first job of a bucket; `None` at the end.
fn first(bucket: &[u8]) -> Result<Option<Parts<'_>>> {
    if bucket.is_empty() {
        return Ok(None);
    }
    let parts = bucket.split_at_checked(KEY_BYTES).and_then(|(key, behind)| {
        let (length, behind) = behind.split_first_chunk::<LENGTH_BYTES>()?;
        let (job, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        Some((key, job, behind))
    });
    parts.context("a bucket of jobs is cut off").map(Some)
}

/// Where the job of `key` begins in its bucket, and the job.
fn find<'b>(bucket: &'b [u8], key: &JobKey) -> Result<Option<(usize, &'b [u8])>> {
    let mut left = bucket;
    while let Some((its_key, job, behind)) = first(left)? {
        if its_key == key {
            return Ok(Some((bucket.len() - left.len(), job)));
        }
        left = behind;
    }
    Ok(None)
}

/// The bucket without the job of `key`.
fn without(bucket: &[u8], key: &JobKey) -> Result<Vec<u8>> {
    Ok(match find(bucket, key)? {
        Some((at, job)) => {
            let end = at + KEY_BYTES + LENGTH_BYTES + job.len();
            [&bucket[..at], &bucket[end..]].concat()
        }
        None => bucket.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(apart: bool, state: JobState) -> Job {
        let media_id = MediaId::parse("a").unwrap();
        let apart = apart.then_some(Apart { media_id, submitted_ms: 1 << 41, unsure: true });
        Job { receipt: "abcdefghjk".into(), apart, state }
    }

    fn some_jobs() -> Vec<Job> {
        let tried = JobState::Waiting { attempts: 2, last_code: Some("40007".into()), in_a_row: 1 };
        let given_up = Kept { code: "40007".into(), detail: "two\nlines\n".into(), at_ms: 9 };
        vec![
            job(false, JobState::untouched()),
            job(true, JobState::untouched()),
            job(true, tried),
            job(false, JobState::Saved("ab".repeat(32))),
            job(false, JobState::Saved("no hex".into())),
            job(true, JobState::Failed(given_up)),
        ]
    }

    #[test]
    fn a_job_comes_back_as_it_was() {
        for job in some_jobs() {
            assert_eq!(Job::from_bytes(&job.to_bytes().unwrap()).unwrap(), job);
        }
        for (index, bytes) in [(0, 11), (3, 44)] {
            assert_eq!(some_jobs()[index].to_bytes().unwrap().len(), bytes);
        }
        for damaged in [
            &b""[..],
            b"s",
            b"s\x0aab",
            b"w\xff",
            b"x",
            b"a",
            b"ar\nid\n1",
            b"ar\ni d\n1\ntrue\n1\n1\n",
            b"fr\nid\n1\ntrue\n40007\nnever\n",
        ] {
            Job::from_bytes(damaged).unwrap_err();
        }
    }

    #[test]
    fn jobs_that_share_a_bucket_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::Config::default().path(folder.path()).open().unwrap();
        let jobs = Jobs::open(&db, 7 << 40).unwrap();
        let key =
            |last: usize| [7; 15].into_iter().chain([last as u8]).collect::<Vec<_>>().try_into().unwrap();
        let all = some_jobs();
        for (index, job) in all.iter().enumerate() {
            assert_eq!(jobs.get(&key(index)).unwrap(), None);
            assert_eq!(jobs.add(&key(index), job).unwrap(), None);
            assert_eq!(jobs.add(&key(index), &all[0]).unwrap().as_ref(), Some(job));
        }
        let mut found = Vec::new();
        let mut keep = |job| -> Result<()> {
            found.push(job);
            Ok(())
        };
        jobs.for_each(&mut keep).unwrap();
        assert_eq!(found, all);
        jobs.remove(&key(99)).unwrap();
        for index in 0..all.len() {
            jobs.put(&key(index), &all[all.len() - 1 - index]).unwrap();
        }
        for index in 0..all.len() {
            assert_eq!(jobs.get(&key(index)).unwrap().as_ref(), Some(&all[all.len() - 1 - index]));
            jobs.remove(&key(index)).unwrap();
            assert_eq!(jobs.get(&key(index)).unwrap(), None);
        }
        assert!(jobs.is_empty());
    }

    #[test]
    fn which_ids_share_a_bucket_depends_on_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::Config::default().path(folder.path()).open().unwrap();
        let keys: Vec<JobKey> =
            (0..1000).map(|number| key_of(&MediaId::parse(&format!("id{number}")).unwrap())).collect();
        let buckets = |secret| {
            let jobs = Jobs::open(&db, secret).unwrap();
            keys.iter().map(|key| jobs.bucket_of(key)).collect::<Vec<_>>()
        };
        let (first, second) = (buckets(0x9e37_79b9_7f4a_7c15), buckets(0xd1b5_4a32_d192_ed03));
        let distinct = first.iter().collect::<std::collections::HashSet<_>>().len();
        assert!(distinct > 970, "{distinct}");
        let together = |buckets: &[[u8; 2]]| {
            let pairs = (0..buckets.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
            pairs.filter(|(one, other)| buckets[*one] == buckets[*other]).collect::<Vec<_>>()
        };
        assert_ne!(together(&first), together(&second));
    }

    #[test]
    fn a_damaged_bucket_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::Config::default().path(folder.path()).open().unwrap();
        let jobs = Jobs::open(&db, 7 << 40).unwrap();
        let (key, other) = ([7; 16], [8; 16]);
        jobs.add(&key, &some_jobs()[0]).unwrap();
        let bucket = jobs.bucket(&key).unwrap();
        for length in 1..bucket.len() {
            jobs.tree.insert(jobs.bucket_of(&key), &bucket[..length]).unwrap();
            assert!(jobs.get(&key).is_err() && jobs.put(&key, &some_jobs()[0]).is_err(), "{length}");
            assert!(jobs.for_each(|_| Ok(())).is_err(), "{length}");
        }
        assert_eq!(jobs.get(&other).unwrap(), None);
    }
}
