//! The [`Disk`] as a mounted file system, with two levers: a *cut* after a given number of changes, from which
//! moment on nothing works and nothing changes any more, and *faults*, by which single operations fail.

use super::volatile_disk::{Disk, Kind, ROOT};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow,
    WriteFlags,
};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tubox::ground::clock::Deadline;
use tubox::ground::stop::Stop;

const NO_TIME: Duration = Duration::ZERO;
const STAT_BLOCK: u32 = 4096;
const STAT_BLOCKS: u64 = 1 << 22;

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
    Create,
    Write,
    Sync,
    SyncFolder,
    Rename,
    SetLength,
    MakeFolder,
    Remove,
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
struct Levers {
    deaf: Deaf,
    is_fat: bool,
    /// As on a card: one at a time, and each takes its time.
    sync_takes: Duration,
    cut: Option<Cut>,
    is_cut: bool,
    /// Number of the operation that fails, and how.
    fault: Option<(u64, Errno)>,
    hit: Option<Step>,
    steps: Vec<Step>,
}

struct State {
    disk: Disk,
    levers: Levers,
}

/// The mounted disk, seen from the test.
#[derive(Clone)]
pub struct VolatileMount {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    card: Mutex<()>,
}

/// Keeps the file system mounted.
pub struct Mounted {
    session: Option<BackgroundSession>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
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
        Ok(Mounted { session: Some(session) })
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs `work` as one operation, unless the power is gone or the fault hits it.
    fn step<T>(
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
            None => work(&mut state),
        };
        self.changed.notify_all();
        done
    }

    /// Runs `sync` when the card has taken its time for it; other operations go on meanwhile.
    fn at_the_cards_pace(self: &Arc<Shared>, sync: impl FnOnce(&Shared) + Send + 'static) {
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

    fn look<T>(&self, work: impl FnOnce(&Disk) -> Result<T, Errno>) -> Result<T, Errno> {
        let state = self.lock();
        if state.levers.is_cut { Err(Errno::EIO) } else { work(&state.disk) }
    }
}

fn path_of(disk: &Disk, ino: INodeNo) -> String {
    disk.node(ino.0).map(|node| node.path.clone()).unwrap_or_default()
}

fn child_path(disk: &Disk, folder: INodeNo, name: &str) -> String {
    format!("{}/{name}", path_of(disk, folder))
}

fn attributes(disk: &Disk, ino: u64) -> Result<FileAttr, Errno> {
    let node = disk.node(ino).ok_or(Errno::ENOENT)?;
    let kind = match node.kind {
        Kind::File => FileType::RegularFile,
        Kind::Folder => FileType::Directory,
        Kind::Socket => FileType::Socket,
    };
    let size = node.bytes().len() as u64;
    let at: SystemTime = UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: at,
        mtime: at,
        ctime: at,
        crtime: at,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: STAT_BLOCK,
        flags: 0,
    })
}

fn text(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(Errno::EINVAL)
}

impl Shared {
    /// `name` as it stands in `folder`, where the file system takes another spelling for it.
    fn spelling(&self, folder: INodeNo, name: &OsStr) -> Result<String, Errno> {
        let name = text(name)?;
        let state = self.lock();
        if !state.levers.is_fat {
            return Ok(name.to_owned());
        }
        let is_legal =
            !name.contains(['"', '*', ':', '<', '>', '?', '\\', '|']) && !name.ends_with(['.', ' ']);
        let names = state.disk.node(folder.0).ok_or(Errno::ENOENT)?.names();
        let known = names.keys().find(|known| known.eq_ignore_ascii_case(name));
        if is_legal { Ok(known.map_or(name, String::as_str).to_owned()) } else { Err(Errno::EINVAL) }
    }
}

/// What fuser calls.
struct Volatile(Arc<Shared>);

impl Volatile {
    fn make(&self, folder: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        let name = &*self.0.spelling(folder, name)?;
        let operation = if kind == Kind::Folder { Operation::MakeFolder } else { Operation::Create };
        self.0.step(
            operation,
            |disk| child_path(disk, folder, name),
            |state| {
                if state.disk.lookup(folder.0, name).is_some() {
                    return Err(Errno::EEXIST);
                }
                let ino =
                    state.disk.make(folder.0, name, kind, (mode & 0o7777) as u16).ok_or(Errno::ENOENT)?;
                attributes(&state.disk, ino)
            },
        )
    }

    fn remove(&self, folder: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let name = &*self.0.spelling(folder, name)?;
        self.0.step(
            Operation::Remove,
            |disk| child_path(disk, folder, name),
            |state| {
                let ino = state.disk.lookup(folder.0, name).ok_or(Errno::ENOENT)?;
                let node = state.disk.node(ino).ok_or(Errno::ENOENT)?;
                if node.kind == Kind::Folder && !node.names().is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                state.disk.remove(folder.0, name);
                Ok(())
            },
        )
    }
}

fn sync_file(shared: &Shared, ino: INodeNo) -> Result<(), Errno> {
    let done = shared.step(
        Operation::Sync,
        |disk| path_of(disk, ino),
        |state| {
            let is_deaf = match state.levers.deaf {
                Deaf::ToFiles(part) => path_of(&state.disk, ino).contains(part),
                _ => false,
            };
            if is_deaf { Ok(()) } else { state.disk.sync_file(ino.0).ok_or(Errno::EIO) }
        },
    );
    if done.is_err() {
        let mut state = shared.lock();
        if !state.levers.is_cut {
            state.disk.fail_sync(ino.0);
        }
    }
    done
}

fn sync_folder(shared: &Shared, ino: INodeNo) -> Result<(), Errno> {
    let sync = |state: &mut State| {
        if state.levers.is_fat {
            return Err(Errno::EINVAL);
        }
        if state.levers.deaf != Deaf::ToFolders {
            state.disk.sync_folder(ino.0);
        }
        Ok(())
    };
    shared.step(Operation::SyncFolder, |disk| path_of(disk, ino), sync)
}

fn answer_empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn answer_entry(made: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match made {
        Ok(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Volatile {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.spelling(parent, name).and_then(|name| {
            self.0.look(|disk| attributes(disk, disk.lookup(parent.0, &name).ok_or(Errno::ENOENT)?))
        });
        answer_entry(found, reply);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.look(|disk| attributes(disk, ino.0)) {
            Ok(attributes) => reply.attr(&NO_TIME, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = |state: &mut State| {
            if mode.is_some() && state.levers.is_fat {
                return Err(Errno::EPERM);
            }
            if let Some(mode) = mode {
                state.disk.set_mode(ino.0, (mode & 0o7777) as u16);
            }
            if let Some(size) = size {
                state.disk.set_length(ino.0, size as usize).ok_or(Errno::ENOENT)?;
            }
            attributes(&state.disk, ino.0)
        };
        match self.0.step(Operation::SetLength, |disk| path_of(disk, ino), set) {
            Ok(attributes) => reply.attr(&NO_TIME, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = if mode & 0o170_000 == 0o140_000 { Kind::Socket } else { Kind::File };
        answer_entry(self.make(parent, name, kind, mode), reply);
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        answer_entry(self.make(parent, name, Kind::Folder, mode), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.remove(parent, name), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.remove(parent, name), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let spelt = |folder, name| self.0.spelling(folder, name);
        let done = spelt(parent, name).and_then(|name| Ok((name, spelt(newparent, newname)?)));
        let done = done.and_then(|(name, newname)| {
            let rename = |state: &mut State| {
                state.disk.rename((parent.0, &name), (newparent.0, &newname)).ok_or(Errno::ENOENT)
            };
            self.0.step(Operation::Rename, |disk| child_path(disk, newparent, &newname), rename)
        });
        answer_empty(done, reply);
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.0.step(Operation::Open, |disk| path_of(disk, ino), |_| Ok(())) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = |disk: &Disk| {
            let bytes = disk.node(ino.0).ok_or(Errno::ENOENT)?.bytes();
            let start = (offset as usize).min(bytes.len());
            Ok(bytes[start..(start + size as usize).min(bytes.len())].to_vec())
        };
        match self.0.look(read) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = |state: &mut State| state.disk.write(ino.0, offset as usize, data).ok_or(Errno::ENOENT);
        match self.0.step(Operation::Write, |disk| path_of(disk, ino), write) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.0.at_the_cards_pace(move |shared| answer_empty(sync_file(shared, ino), reply));
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let list = |disk: &Disk| {
            let node = disk.node(ino.0).ok_or(Errno::ENOENT)?;
            let entry = |(name, ino): (&String, &u64)| Ok((name.clone(), attributes(disk, *ino)?));
            node.names().iter().map(entry).collect::<Result<Vec<_>, Errno>>()
        };
        match self.0.look(list) {
            Ok(entries) => {
                for (position, (name, attributes)) in entries.into_iter().enumerate().skip(offset as usize) {
                    if reply.add(attributes.ino, position as u64 + 1, attributes.kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.0.at_the_cards_pace(move |shared| answer_empty(sync_folder(shared, ino), reply));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(STAT_BLOCKS, STAT_BLOCKS, STAT_BLOCKS, 1 << 20, 1 << 20, STAT_BLOCK, 255, STAT_BLOCK);
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, Kind::File, mode) {
            Ok(attributes) => {
                reply.created(&NO_TIME, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
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
