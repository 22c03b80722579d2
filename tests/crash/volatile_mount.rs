//! The [`Disk`] as a mounted file system, with two levers: a *cut* after a given number of changes, from which
//! moment on nothing works and nothing changes any more, and *faults*, by which single operations fail.

use super::volatile_calls::Volatile;
use super::volatile_disk::{Disk, ROOT};
use fuser::{BackgroundSession, Config, Errno, INodeNo, MountOption, Session};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tubox::ground::clock::Deadline;
use tubox::ground::stop::Stop;

/// Syncs that are answered without being done, as if the program had not asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deaf {
    /// Every sync is done.
    #[default]
    Never,
    /// To syncs of files whose path contains this.
    ToFiles(&'static str),
    /// To syncs of folders.
    ToFolders,
}

/// Operations that a fault may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Open,
    OpenFolder,
    Create,
    Write,
    Sync,
    SyncFolder,
    Rename,
    SetLength,
    MakeFolder,
    Remove,
}

impl Operation {
    /// A disk that takes no change lets files be opened and read.
    fn is_change(self) -> bool {
        !matches!(self, Operation::Open | Operation::OpenFolder)
    }
}

/// One operation that happened.
#[derive(Clone, Debug)]
pub struct Step {
    pub operation: Operation,
    pub path: String,
}

/// The moment when the power goes: before the first operation that is both number `at` or later and `aimed_at`.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: u64,
    aimed_at: Option<(Operation, &'static str)>,
}

#[derive(Default)]
pub(super) struct Levers {
    pub(super) deaf: Deaf,
    pub(super) is_fat: bool,
    /// As on a card: one at a time, and each takes its time.
    sync_takes: Duration,
    cut: Option<Cut>,
    pub(super) is_cut: bool,
    /// Every change fails so.
    illness: Option<Errno>,
    /// Number of the operation that fails, and how.
    fault: Option<(u64, Errno)>,
    hit: Option<Step>,
    steps: Vec<Step>,
}

pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) levers: Levers,
}

/// The mounted disk, seen from the test.
#[derive(Clone)]
pub struct VolatileMount {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    card: Mutex<()>,
}

/// Keeps the file system mounted.
pub struct Mounted {
    at: PathBuf,
    session: Option<BackgroundSession>,
}

/// A child that another test makes at this moment holds all that is open here until it becomes another program.
const UNMOUNT_LOOKS: usize = 500;
const UNMOUNT_LOOK: Duration = Duration::from_millis(10);

impl Drop for Mounted {
    fn drop(&mut self) {
        let is_unmounted = (0..UNMOUNT_LOOKS).any(|_| {
            let output = Command::new("umount").arg(&self.at).output();
            let is_unmounted = output.is_ok_and(|output| output.status.success());
            is_unmounted || Stop::new().wait(UNMOUNT_LOOK)
        });
        let ended = self
            .session
            .take()
            .map(|session| if is_unmounted { session.join() } else { session.umount_and_join() });
        if let Some(Err(error)) = ended {
            eprintln!("could not unmount the volatile disk: {error}");
        }
    }
}

impl VolatileMount {
    pub fn new(disk: Disk) -> VolatileMount {
        let state = Mutex::new(State { disk, levers: Levers::default() });
        VolatileMount { shared: Arc::new(Shared { state, changed: Condvar::new(), card: Mutex::default() }) }
    }

    pub fn mount(&self, at: &Path) -> std::io::Result<Mounted> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("volatile".to_owned()), MountOption::NoAtime];
        let session = Session::new(Volatile(self.shared.clone()), at, &config)?.spawn()?;
        Ok(Mounted { at: at.to_owned(), session: Some(session) })
    }

    pub fn be_deaf(&self, deaf: Deaf) {
        self.shared.lock().levers.deaf = deaf;
    }

    /// From now on names are as on FAT: case does not tell them apart, some characters are not allowed, folders cannot
    /// be synced, and there are no modes.
    pub fn be_fat(&self) {
        self.shared.lock().levers.is_fat = true;
    }

    /// From now on every sync takes so long.
    pub fn slow_down(&self, sync_takes: Duration) {
        self.shared.lock().levers.sync_takes = sync_takes;
    }

    /// The power goes before the operation that comes after `count` others from now.
    pub fn cut_after(&self, count: u64) {
        let mut state = self.shared.lock();
        state.levers.cut = Some(Cut { at: state.levers.steps.len() as u64 + count, aimed_at: None });
    }

    /// As [`VolatileMount::cut_after`], and then before the next such operation on a path that contains `part`.
    pub fn cut_before(&self, count: u64, operation: Operation, part: &'static str) {
        let mut state = self.shared.lock();
        let at = state.levers.steps.len() as u64 + count;
        state.levers.cut = Some(Cut { at, aimed_at: Some((operation, part)) });
    }

    /// The power goes now.
    pub fn cut_now(&self) {
        self.shared.lock().levers.is_cut = true;
        self.shared.changed.notify_all();
    }

    /// The operation that comes after `count` others fails with `errno`.
    pub fn fail_after(&self, count: u64, errno: Errno) {
        let mut state = self.shared.lock();
        let at = state.levers.steps.len() as u64 + count;
        state.levers.fault = Some((at, errno));
    }

    /// From now on every change fails with `errno`; `None`: no longer.
    pub fn fall_ill(&self, errno: Option<Errno>) {
        self.shared.lock().levers.illness = errno;
    }

    /// Takes back a fault that has hit nothing yet.
    pub fn fail_no_more(&self) {
        self.shared.lock().levers.fault = None;
    }

    /// The operation that the fault has hit.
    pub fn hit(&self) -> Option<Step> {
        self.shared.lock().levers.hit.clone()
    }

    /// Every operation so far.
    pub fn steps(&self) -> Vec<Step> {
        self.shared.lock().levers.steps.clone()
    }

    pub fn disk(&self) -> Disk {
        self.shared.lock().disk.clone()
    }

    /// Waits until the power has gone; false after `limit`.
    pub fn wait_for_cut(&self, limit: Duration) -> bool {
        self.wait_until(limit, |levers| levers.is_cut)
    }

    /// Waits until there have been `count` more operations, or for `limit`.
    pub fn wait_for_steps(&self, count: usize, limit: Duration) {
        let until = self.steps().len() + count;
        self.wait_until(limit, |levers| levers.is_cut || levers.steps.len() >= until);
    }

    fn wait_until(&self, limit: Duration, look: impl Fn(&Levers) -> bool) -> bool {
        let deadline = Deadline::after(limit);
        let mut state = self.shared.lock();
        while !look(&state.levers) {
            let Some(left) = deadline.remaining() else { return false };
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

impl Cut {
    fn comes_before(&self, number: u64, step: &Step) -> bool {
        let is_aim =
            |(operation, part): (Operation, &str)| step.operation == operation && step.path.contains(part);
        number >= self.at && self.aimed_at.is_none_or(is_aim)
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs `work` as one operation, unless the power is gone or the fault hits it.
    pub(super) fn step<T>(
        &self,
        operation: Operation,
        path: impl Fn(&Disk) -> String,
        work: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.lock();
        let number = state.levers.steps.len() as u64;
        let step = Step { operation, path: path(&state.disk) };
        if state.levers.cut.is_some_and(|cut| cut.comes_before(number, &step)) {
            state.levers.is_cut = true;
            self.changed.notify_all();
        }
        if state.levers.is_cut {
            return Err(Errno::EIO);
        }
        state.levers.steps.push(step.clone());
        let done = match state.levers.fault.take_if(|(at, _)| *at == number) {
            Some((_, errno)) => {
                state.levers.hit = Some(step);
                Err(errno)
            }
            None => match state.levers.illness {
                Some(errno) if operation.is_change() => Err(errno),
                _ => work(&mut state),
            },
        };
        self.changed.notify_all();
        done
    }

    /// Runs `sync` when the card has taken its time for it; other operations go on meanwhile.
    pub(super) fn at_the_cards_pace(self: &Arc<Shared>, sync: impl FnOnce(&Shared) + Send + 'static) {
        let takes = self.lock().levers.sync_takes;
        if takes.is_zero() {
            return sync(self);
        }
        let shared = self.clone();
        std::thread::spawn(move || {
            let _card = shared.card.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            Stop::new().wait(takes);
            sync(&shared);
        });
    }

    pub(super) fn look<T>(&self, work: impl FnOnce(&Disk) -> Result<T, Errno>) -> Result<T, Errno> {
        let state = self.lock();
        if state.levers.is_cut { Err(Errno::EIO) } else { work(&state.disk) }
    }
}

/// Where the tests may mount: root and /dev/fuse are needed. Says so where they are not there.
pub fn can_mount() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let has_fuse = Path::new("/dev/fuse").exists();
    if !(is_root && has_fuse) {
        eprintln!(
            "\n*** SKIPPED: this test mounts a file system: run it as root on a machine with /dev/fuse ***\n"
        );
    }
    assert_eq!(ROOT, INodeNo::ROOT.0);
    is_root && has_fuse
}
