//! What the kernel asks of the mounted [`Disk`]: every call of fuser is one step of [`Shared`], on names as the file
//! system of the test has them.

use super::volatile_disk::{Disk, Kind};
use super::volatile_mount::{Deaf, Operation, Shared, State};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NO_TIME: Duration = Duration::ZERO;
const STAT_BLOCK: u32 = 4096;
const STAT_BLOCKS: u64 = 1 << 22;

/// Of 32 bytes each; a long name takes one for every 13 of its characters and one more.
const FAT_ENTRIES_MAX: usize = 65_536;

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

    /// ENOSPC where FAT's folder has no room for `name`.
    fn has_room_for(&self, folder: INodeNo, name: &str) -> Result<(), Errno> {
        let state = self.lock();
        if !state.levers.is_fat {
            return Ok(());
        }
        let entries = |name: &str| 1 + name.len().div_ceil(13);
        let names = state.disk.node(folder.0).ok_or(Errno::ENOENT)?.names();
        let used: usize = names.keys().map(|name| entries(name)).sum();
        if used + entries(name) > FAT_ENTRIES_MAX { Err(Errno::ENOSPC) } else { Ok(()) }
    }
}

/// What fuser calls.
pub(super) struct Volatile(pub(super) Arc<Shared>);

impl Volatile {
    fn make(&self, folder: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        let name = &*self.0.spelling(folder, name)?;
        self.0.has_room_for(folder, name)?;
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
            self.0.has_room_for(newparent, &newname)?;
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

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.0.step(Operation::OpenFolder, |disk| path_of(disk, ino), |_| Ok(())) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
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
