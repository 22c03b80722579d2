//! A file system in memory that knows what would survive a power cut.
//!
//! # The model
//!
//! It is stricter than any file system that a box is likely to have, so that what passes here passes there:
//!
//! - **Bytes** of a file are safe when the file was synced (fsync or fdatasync) after they were written. Of what
//!   was written since, any subset of the 4 KiB blocks survives, each in any version that it had since then, and
//!   a block may be torn between two sectors of 512 bytes.
//! - **Length** of a file: the synced one, or any that it had since. Where the length survives and the block does
//!   not, there are zeros, or now and then rubbish, as on file systems that do not order data before length.
//! - **Names** (making, renaming, removing) are safe when the *folder* was synced after the change; syncing the
//!   file itself does not save its name (ext4 is kinder), syncing a folder does not save the folder's own name.
//!   Of the changes since, any subset survives, in no order.
//! - What every journaling file system gives, and nothing beyond it: one change of a name is whole or not at all
//!   (a rename never leaves neither name), and of two changes that concern the same name the later one does not
//!   survive without the earlier one.
//! - A **sync that failed** is worse than none, as on Linux: the pages count as clean, so the next sync succeeds
//!   and does not bring them back.
//!
//! `sync_file_range` and `syncfs` never reach a FUSE file system, so they save nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tubox::ground::random::SharedRandom;

pub const ROOT: u64 = 1;
pub const BLOCK: usize = 4096;
const SECTOR: usize = 512;
/// Versions of a block that are remembered between two syncs.
const VERSIONS_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Socket,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u16,
    /// Where it was made or renamed to, for traces and for faults that hit only some places.
    pub path: String,
    bytes: Vec<u8>,
    safe_bytes: Vec<u8>,
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    lengths: Vec<usize>,
    names: BTreeMap<String, u64>,
    safe_names: BTreeMap<String, u64>,
}

/// One change of names: all of it survives or nothing.
#[derive(Clone, Debug)]
struct Change {
    edits: Vec<Edit>,
}

#[derive(Clone, Debug)]
struct Edit {
    folder: u64,
    name: String,
    target: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    pending: Vec<Change>,
    next: u64,
}

/// How much of what was not synced is lost, drawn anew for every cut.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Everything,
    HalfOfIt,
    ALittle,
}

impl Node {
    fn new(kind: Kind, mode: u16, path: String) -> Node {
        let (names, safe_names) = (BTreeMap::new(), BTreeMap::new());
        let (bytes, safe_bytes, dirty, lengths) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Node { kind, mode, path, bytes, safe_bytes, dirty, lengths, names, safe_names }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn names(&self) -> &BTreeMap<String, u64> {
        &self.names
    }

    fn note_block(&mut self, block: usize) {
        let end = ((block + 1) * BLOCK).min(self.bytes.len());
        let version = self.bytes.get(block * BLOCK..end).unwrap_or_default().to_vec();
        let versions = self.dirty.entry(block).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(1);
        }
        versions.push(version);
    }

    fn after_cut(&self, mood: Mood, random: &SharedRandom) -> Vec<u8> {
        let mut length = self.safe_bytes.len();
        if !self.lengths.is_empty() && survives(mood, random) {
            length = self.lengths[pick(random, self.lengths.len(), mood)];
        }
        let mut bytes = self.safe_bytes.clone();
        bytes.resize(length, 0);
        for (block, versions) in &self.dirty {
            let start = block * BLOCK;
            if start >= length {
                continue;
            }
            let end = (start + BLOCK).min(length);
            if survives(mood, random) {
                let version = &versions[pick(random, versions.len(), mood)];
                let whole = version.len().min(end - start);
                let torn = random.u64().is_multiple_of(8);
                let count = if torn { whole.min(SECTOR * (random.u64() as usize % 8)) } else { whole };
                bytes[start..start + count].copy_from_slice(&version[..count]);
            } else if start >= self.safe_bytes.len() && random.u64().is_multiple_of(4) {
                random.fill(&mut bytes[start..end]);
            }
        }
        bytes
    }
}

fn survives(mood: Mood, random: &SharedRandom) -> bool {
    match mood {
        Mood::Everything => false,
        Mood::HalfOfIt => random.u64().is_multiple_of(2),
        Mood::ALittle => !random.u64().is_multiple_of(6),
    }
}

/// The newest when little is lost, any otherwise.
fn pick(random: &SharedRandom, count: usize, mood: Mood) -> usize {
    match mood {
        Mood::ALittle => count - 1,
        _ => random.u64() as usize % count,
    }
}

impl Disk {
    pub fn new() -> Disk {
        let nodes = BTreeMap::from([(ROOT, Node::new(Kind::Folder, 0o755, String::new()))]);
        Disk { nodes, pending: Vec::new(), next: ROOT + 1 }
    }

    pub fn node(&self, ino: u64) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub fn lookup(&self, folder: u64, name: &str) -> Option<u64> {
        self.nodes.get(&folder)?.names.get(name).copied()
    }

    /// The node at `path`, parts separated by slashes.
    pub fn find(&self, path: &str) -> Option<&Node> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        let ino = parts.into_iter().try_fold(ROOT, |folder, part| self.lookup(folder, part))?;
        self.node(ino)
    }

    pub fn make(&mut self, folder: u64, name: &str, kind: Kind, mode: u16) -> Option<u64> {
        let path = format!("{}/{name}", self.nodes.get(&folder)?.path);
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Node::new(kind, mode, path));
        self.change(vec![Edit { folder, name: name.to_owned(), target: Some(ino) }]);
        Some(ino)
    }

    pub fn remove(&mut self, folder: u64, name: &str) {
        self.change(vec![Edit { folder, name: name.to_owned(), target: None }]);
    }

    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Option<()> {
        let ino = self.lookup(from.0, from.1)?;
        let path = format!("{}/{}", self.nodes.get(&to.0)?.path, to.1);
        self.nodes.get_mut(&ino)?.path = path;
        self.change(vec![
            Edit { folder: from.0, name: from.1.to_owned(), target: None },
            Edit { folder: to.0, name: to.1.to_owned(), target: Some(ino) },
        ]);
        Some(())
    }

    fn change(&mut self, edits: Vec<Edit>) {
        for edit in &edits {
            if let Some(node) = self.nodes.get_mut(&edit.folder) {
                set_name(&mut node.names, edit);
            }
        }
        self.pending.push(Change { edits });
    }

    pub fn write(&mut self, ino: u64, offset: usize, data: &[u8]) -> Option<()> {
        let node = self.nodes.get_mut(&ino)?;
        let end = offset + data.len();
        if end > node.bytes.len() {
            node.bytes.resize(end, 0);
            node.lengths.push(end);
        }
        node.bytes[offset..end].copy_from_slice(data);
        if !data.is_empty() {
            (offset / BLOCK..=(end - 1) / BLOCK).for_each(|block| node.note_block(block));
        }
        Some(())
    }

    pub fn set_length(&mut self, ino: u64, length: usize) -> Option<()> {
        let node = self.nodes.get_mut(&ino)?;
        let before = node.bytes.len();
        node.bytes.resize(length, 0);
        node.lengths.push(length);
        for block in before.min(length) / BLOCK..=before.max(length) / BLOCK {
            node.note_block(block);
        }
        Some(())
    }

    pub fn set_mode(&mut self, ino: u64, mode: u16) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.mode = mode;
        }
    }

    /// Makes the bytes and the length of a file safe.
    pub fn sync_file(&mut self, ino: u64) -> Option<()> {
        let node = self.nodes.get_mut(&ino)?;
        node.safe_bytes.resize(node.bytes.len(), 0);
        for block in std::mem::take(&mut node.dirty).into_keys() {
            let start = block * BLOCK;
            let end = (start + BLOCK).min(node.bytes.len());
            if start < end {
                node.safe_bytes[start..end].copy_from_slice(&node.bytes[start..end]);
            }
        }
        node.lengths.clear();
        Some(())
    }

    /// A sync that failed: what was dirty is lost, and the next sync will not notice.
    pub fn fail_sync(&mut self, ino: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.dirty.clear();
        }
    }

    /// Makes the names in a folder safe.
    pub fn sync_folder(&mut self, ino: u64) {
        let (done, left) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| change.edits.iter().any(|edit| edit.folder == ino));
        self.pending = left;
        let done: Vec<Change> = done;
        done.iter().for_each(|change| self.save(change));
    }

    fn save(&mut self, change: &Change) {
        for edit in &change.edits {
            if let Some(node) = self.nodes.get_mut(&edit.folder) {
                set_name(&mut node.safe_names, edit);
            }
        }
    }

    /// Writes all files to `folder`, to look at them.
    pub fn write_to(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for node in self.nodes.values() {
            let path = folder.join(node.path.trim_start_matches('/'));
            match node.kind {
                Kind::Folder => std::fs::create_dir_all(path)?,
                Kind::File => std::fs::write(path, &node.bytes)?,
                Kind::Socket => {}
            }
        }
        Ok(())
    }

    /// The disk after an orderly end: all is safe.
    pub fn synced(&self) -> Disk {
        let mut disk = self.clone();
        let all: Vec<u64> = disk.nodes.keys().copied().collect();
        for ino in all {
            disk.sync_folder(ino);
            disk.sync_file(ino);
        }
        disk
    }

    /// The disk as it is found after the power comes back.
    pub fn after_cut(&self, random: &SharedRandom) -> Disk {
        let mood = match random.u64() % 4 {
            0 => Mood::Everything,
            1 => Mood::ALittle,
            _ => Mood::HalfOfIt,
        };
        let mut disk = self.clone();
        for change in self.surviving_changes(mood, random) {
            disk.save(&change);
        }
        disk.pending.clear();
        for node in disk.nodes.values_mut() {
            node.bytes = node.after_cut(mood, random);
            node.safe_bytes = node.bytes.clone();
            node.dirty.clear();
            node.lengths.clear();
            node.names = node.safe_names.clone();
        }
        disk.forget_unnamed();
        disk
    }

    fn surviving_changes(&self, mood: Mood, random: &SharedRandom) -> Vec<Change> {
        let mut needed: BTreeSet<(u64, &str)> = BTreeSet::new();
        let mut kept = Vec::new();
        for change in self.pending.iter().rev() {
            let is_needed =
                change.edits.iter().any(|edit| needed.contains(&(edit.folder, edit.name.as_str())));
            if is_needed || survives(mood, random) {
                needed.extend(change.edits.iter().map(|edit| (edit.folder, edit.name.as_str())));
                kept.push(change.clone());
            }
        }
        kept.reverse();
        kept
    }

    fn forget_unnamed(&mut self) {
        let (mut named, mut open) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(ino) = open.pop() {
            let names = self.nodes.get(&ino).map(|node| node.names.values().copied().collect::<Vec<_>>());
            open.extend(names.unwrap_or_default().into_iter().filter(|ino| named.insert(*ino)));
        }
        self.nodes.retain(|ino, _| named.contains(ino));
    }
}

fn set_name(names: &mut BTreeMap<String, u64>, edit: &Edit) {
    match edit.target {
        Some(ino) => names.insert(edit.name.clone(), ino),
        None => names.remove(&edit.name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use tubox::ground::random::SeededRandom;

    fn ends(disk: &Disk, look: impl Fn(&Disk) -> String) -> BTreeSet<String> {
        (0..400).map(|seed| look(&disk.after_cut(&SeededRandom::shared(seed)))).collect()
    }

    fn text(disk: &Disk, path: &str) -> String {
        disk.find(path).map_or("-".to_owned(), |node| String::from_utf8_lossy(&node.bytes).into_owned())
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        let mut disk = Disk::new();
        let file = disk.make(ROOT, "a", Kind::File, 0o600).unwrap();
        disk.write(file, 0, b"safe").unwrap();
        disk.sync_file(file).unwrap();
        assert!(
            ends(&disk, |disk| text(disk, "a")).contains("-"),
            "a name without a folder sync is not safe"
        );
        disk.sync_folder(ROOT);
        assert_eq!(ends(&disk, |disk| text(disk, "a")), BTreeSet::from(["safe".to_owned()]));
    }

    #[test]
    fn what_was_not_synced_may_survive_in_any_part() {
        let mut disk = Disk::new();
        let file = disk.make(ROOT, "a", Kind::File, 0o600).unwrap();
        disk.sync_folder(ROOT);
        disk.write(file, 0, &[b'x'; 2 * BLOCK]).unwrap();
        let seen = ends(&disk, |disk| {
            let bytes = disk.find("a").unwrap().bytes();
            let mark = |at: usize| bytes.get(at).map_or('.', |byte| if *byte == b'x' { 'x' } else { '0' });
            format!("{}{}", mark(0), mark(BLOCK))
        });
        for end in ["..", "xx", "x0", "0x", "00"] {
            assert!(seen.contains(end), "{end} was never drawn: {seen:?}");
        }
    }

    #[test]
    fn a_rename_is_whole_or_not_at_all_and_names_keep_their_order() {
        let mut disk = Disk::new();
        let file = disk.make(ROOT, "a", Kind::File, 0o600).unwrap();
        disk.write(file, 0, b"1").unwrap();
        disk.sync_file(file).unwrap();
        disk.sync_folder(ROOT);
        disk.rename((ROOT, "a"), (ROOT, "b")).unwrap();
        disk.make(ROOT, "a", Kind::File, 0o600).unwrap();
        let seen = ends(&disk, |disk| format!("{}{}", text(disk, "a"), text(disk, "b")));
        assert_eq!(seen, ["-1", "1-", "1"].map(str::to_owned).into());
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next_one() {
        let mut disk = Disk::new();
        let file = disk.make(ROOT, "a", Kind::File, 0o600).unwrap();
        disk.sync_folder(ROOT);
        disk.write(file, 0, b"lost").unwrap();
        disk.fail_sync(file);
        disk.sync_file(file).unwrap();
        assert_eq!(ends(&disk, |disk| text(disk, "a")), BTreeSet::from(["\0\0\0\0".to_owned()]));
    }
}
