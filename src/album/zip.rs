//! Zip archives, written straight to any [`Write`]: a file or a socket. Pictures do not get smaller by packing,
//! so every entry is stored as it is; what a zip adds here is one file with names, sizes and checksums.
//!
//! Nothing is ever gone back to. When the checksum of an entry is known before its bytes, it stands in front of
//! them, and every reader is content; when it is not, it follows them in a data descriptor, which readers of
//! whole files take and a few readers of streams do not. Entries, offsets and counts beyond the old limits
//! (4 GiB, 65,535) go into zip64 records. Knows nothing of pictures. (PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.)

use crate::ground::clock::parse_rfc3339_utc;
use crc32fast::Hasher;
use std::io::{self, Read, Write};

/// Values that do not fit are written as these, and their zip64 twins hold the truth.
const IN_ZIP64_32: u32 = u32::MAX;
const IN_ZIP64_16: u16 = u16::MAX;

const VERSION_PLAIN: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// The upper byte says that the attributes are those of Unix.
const MADE_ON_UNIX: u16 = 3 << 8;
/// A plain file, readable by all, writable by its owner.
const FILE_ATTRIBUTES: u32 = 0o100_644 << 16;

const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;

const BUFFER_BYTES: usize = 128 * 1024;

/// Date and time as zip has them: in steps of two seconds, without a zone, from 1980 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DosTime {
    date: u16,
    time: u16,
}

impl DosTime {
    /// The earliest there is.
    pub const EARLIEST: DosTime = DosTime { date: (1 << 5) | 1, time: 0 };

    /// From RFC 3339 text, in UTC; the earliest for anything else.
    pub fn from_rfc3339(text: &str) -> DosTime {
        let Some(at) = parse_rfc3339_utc(text) else { return DosTime::EARLIEST };
        let field = |value: i8| u16::try_from(value).unwrap_or(0);
        match u16::try_from(at.year() - 1980) {
            Ok(years @ 0..=127) => DosTime {
                date: (years << 9) | (field(at.month()) << 5) | field(at.day()),
                time: (field(at.hour()) << 11) | (field(at.minute()) << 5) | (field(at.second()) / 2),
            },
            _ => DosTime::EARLIEST,
        }
    }
}

/// What stands before the bytes of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// With `/` between folders; never absolute.
    pub name: &'a str,
    /// Exactly so many bytes follow.
    pub bytes: u64,
    /// CRC-32 of the bytes, when it is known before them.
    pub crc32: Option<u32>,
    /// When the file was made.
    pub modified: DosTime,
}

/// An archive that is being written. It is whole only after [`ZipWriter::finish`]; after an error it never is.
pub struct ZipWriter<W: Write> {
    out: W,
    offset: u64,
    /// The table at the end, as bytes.
    directory: Vec<u8>,
    entries: u64,
}

impl<W: Write> ZipWriter<W> {
    /// An empty archive.
    pub fn new(out: W) -> ZipWriter<W> {
        ZipWriter { out, offset: 0, directory: Vec::new(), entries: 0 }
    }

    /// Adds `entry` with the bytes of `content`, and returns their CRC-32. Bytes that are more, fewer or others
    /// than the entry says are an error of kind `InvalidData`.
    pub fn add(&mut self, entry: &Entry, content: &mut impl Read) -> io::Result<u32> {
        let starts_at = self.offset;
        self.put(&local_header(entry)?)?;
        let crc32 = self.copy(entry, content)?;
        if entry.crc32.is_none() {
            self.put(&descriptor(entry, crc32))?;
        }
        self.directory.extend(directory_header(entry, crc32, starts_at)?);
        self.entries += 1;
        Ok(crc32)
    }

    /// Writes the table of contents; the archive is whole now.
    pub fn finish(mut self) -> io::Result<W> {
        let (starts_at, entries) = (self.offset, self.entries);
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        let end = end_records(entries, directory.len() as u64, starts_at);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn copy(&mut self, entry: &Entry, content: &mut impl Read) -> io::Result<u32> {
        let (mut crc, mut left, mut buffer) = (Hasher::new(), entry.bytes, vec![0; BUFFER_BYTES]);
        loop {
            let count = match content.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 && left > 0 {
                return Err(wrong(entry, "is shorter than expected"));
            } else if count == 0 {
                break;
            }
            let Some(rest) = left.checked_sub(count as u64) else {
                return Err(wrong(entry, "is longer than expected"));
            };
            left = rest;
            crc.update(&buffer[..count]);
            self.put(&buffer[..count])?;
        }
        let crc32 = crc.finalize();
        match entry.crc32 {
            Some(expected) if expected != crc32 => Err(wrong(entry, "has other bytes than expected")),
            _ => Ok(crc32),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// How long an archive will be, for a receiver who wants to know before its first byte. Told the same entries as
/// a [`ZipWriter`], in the same order.
#[derive(Clone, Debug, Default)]
pub struct ZipLength {
    offset: u64,
    directory_bytes: u64,
    entries: u64,
}

impl ZipLength {
    /// Counts `entry` and its bytes.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.directory_bytes += directory_header(entry, 0, self.offset)?.len() as u64;
        self.offset += local_header(entry)?.len() as u64 + entry.bytes;
        if entry.crc32.is_none() {
            self.offset += descriptor(entry, 0).len() as u64;
        }
        self.entries += 1;
        Ok(())
    }

    /// Bytes of the whole archive.
    pub fn total(&self) -> u64 {
        let end = end_records(self.entries, self.directory_bytes, self.offset);
        self.offset + self.directory_bytes + end.len() as u64
    }
}

fn wrong(entry: &Entry, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", entry.name))
}

/// A record, field by field, little-endian.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn u16(mut self, value: u16) -> Record {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Record {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Record {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Record {
        self.0.extend(bytes);
        self
    }
}

fn capped_32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(IN_ZIP64_32)
}

/// Whether a value cannot stand in a field of 32 bits, whose highest value means "see zip64".
fn needs_zip64(value: u64) -> bool {
    value >= u64::from(IN_ZIP64_32)
}

fn name_length(entry: &Entry) -> io::Result<u16> {
    u16::try_from(entry.name.len()).map_err(|_| wrong(entry, "has too long a name"))
}

/// The fields that local header and directory share, from "version needed" to the time.
fn shared(record: Record, entry: &Entry, version: u16) -> Record {
    let descriptor = if entry.crc32.is_none() { FLAG_DESCRIPTOR } else { 0 };
    const STORED: u16 = 0;
    record
        .u16(version)
        .u16(FLAG_UTF8 | descriptor)
        .u16(STORED)
        .u16(entry.modified.time)
        .u16(entry.modified.date)
}

fn local_header(entry: &Entry) -> io::Result<Vec<u8>> {
    let is_large = needs_zip64(entry.bytes);
    // What follows in a descriptor is zero here.
    let told = if entry.crc32.is_none() { 0 } else { entry.bytes };
    let (field, extra) = match is_large {
        true => (IN_ZIP64_32, Record::default().u16(1).u16(16).u64(told).u64(told)),
        false => (capped_32(told), Record::default()),
    };
    let version = if is_large { VERSION_ZIP64 } else { VERSION_PLAIN };
    let record = shared(Record::default().u32(0x0403_4b50), entry, version)
        .u32(entry.crc32.unwrap_or(0))
        .u32(field)
        .u32(field)
        .u16(name_length(entry)?)
        .u16(extra.0.len() as u16)
        .bytes(entry.name.as_bytes())
        .bytes(&extra.0);
    Ok(record.0)
}

fn descriptor(entry: &Entry, crc32: u32) -> Vec<u8> {
    let record = Record::default().u32(0x0807_4b50).u32(crc32);
    match needs_zip64(entry.bytes) {
        true => record.u64(entry.bytes).u64(entry.bytes).0,
        false => record.u32(capped_32(entry.bytes)).u32(capped_32(entry.bytes)).0,
    }
}

fn directory_header(entry: &Entry, crc32: u32, starts_at: u64) -> io::Result<Vec<u8>> {
    let mut values = Record::default();
    if needs_zip64(entry.bytes) {
        values = values.u64(entry.bytes).u64(entry.bytes);
    }
    if needs_zip64(starts_at) {
        values = values.u64(starts_at);
    }
    let extra = match values.0.len() {
        0 => Record::default(),
        length => Record::default().u16(1).u16(length as u16).bytes(&values.0),
    };
    let version = if extra.0.is_empty() { VERSION_PLAIN } else { VERSION_ZIP64 };
    let record = shared(Record::default().u32(0x0201_4b50).u16(MADE_ON_UNIX | version), entry, version)
        .u32(crc32)
        .u32(capped_32(entry.bytes))
        .u32(capped_32(entry.bytes))
        .u16(name_length(entry)?)
        .u16(extra.0.len() as u16)
        // No comment, the first disk, no internal attributes.
        .u16(0)
        .u16(0)
        .u16(0)
        .u32(FILE_ATTRIBUTES)
        .u32(capped_32(starts_at))
        .bytes(entry.name.as_bytes())
        .bytes(&extra.0);
    Ok(record.0)
}

fn end_records(entries: u64, directory_bytes: u64, directory_at: u64) -> Vec<u8> {
    let mut record = Record::default();
    if entries >= u64::from(IN_ZIP64_16) || needs_zip64(directory_bytes) || needs_zip64(directory_at) {
        record = record
            .u32(0x0606_4b50)
            .u64(44)
            .u16(MADE_ON_UNIX | VERSION_ZIP64)
            .u16(VERSION_ZIP64)
            .u32(0)
            .u32(0)
            .u64(entries)
            .u64(entries)
            .u64(directory_bytes)
            .u64(directory_at)
            // Where the record above is found.
            .u32(0x0706_4b50)
            .u32(0)
            .u64(directory_at + directory_bytes)
            .u32(1);
    }
    let count = u16::try_from(entries).unwrap_or(IN_ZIP64_16);
    record
        .u32(0x0605_4b50)
        .u16(0)
        .u16(0)
        .u16(count)
        .u16(count)
        .u32(capped_32(directory_bytes))
        .u32(capped_32(directory_at))
        .u16(0)
        .0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{BufWriter, Seek, SeekFrom};
    use std::path::Path;
    use std::process::Command;

    fn entry(name: &str, content: &[u8], crc32: Option<u32>) -> (String, Vec<u8>, Option<u32>) {
        (name.to_owned(), content.to_vec(), crc32)
    }

    fn add<W: Write>(zip: &mut ZipWriter<W>, (name, content, crc32): &(String, Vec<u8>, Option<u32>)) {
        let modified = DosTime::from_rfc3339("2026-11-22T17:01:06.123Z");
        let entry = Entry { name, bytes: content.len() as u64, crc32: *crc32, modified };
        assert_eq!(zip.add(&entry, &mut content.as_slice()).unwrap(), crc32fast::hash(content));
    }

    /// unzip is the judge; python's reader, where there is one, is a second.
    fn judged(path: &Path) -> String {
        let output = Command::new("unzip").arg("-t").arg(path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let python = "import sys,zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)";
        if let Ok(status) = Command::new("python3").args(["-c", python]).arg(path).status() {
            assert!(status.success());
        }
        text
    }

    #[test]
    fn the_length_is_known_before_the_first_byte() {
        let entries = [
            entry("2026-11-22/a.jpg", b"hello", Some(crc32fast::hash(b"hello"))),
            entry("2026-11-22/b.jpg", &[7; 3000], None),
            entry("\u{7a7a}.txt", b"", None),
        ];
        for count in 0..=entries.len() {
            let (mut length, mut zip) = (ZipLength::default(), ZipWriter::new(Vec::new()));
            for one in &entries[..count] {
                let modified = DosTime::from_rfc3339("2026-11-22T17:01:06.123Z");
                length
                    .add(&Entry { name: &one.0, bytes: one.1.len() as u64, crc32: one.2, modified })
                    .unwrap();
                add(&mut zip, one);
            }
            assert_eq!(zip.finish().unwrap().len() as u64, length.total());
        }
        // Beyond the old limits: 4 GiB in one entry, 4 GiB in all, 65,535 entries.
        let large = Entry { name: "a", bytes: 1 << 32, crc32: None, modified: DosTime::EARLIEST };
        let mut length = ZipLength::default();
        length.add(&large).unwrap();
        assert_eq!(length.total(), (1 << 32) + (31 + 20 + 24) + (47 + 20) + (56 + 20 + 22));
        length.add(&Entry { bytes: 1, ..large }).unwrap();
        assert_eq!(
            length.total(),
            (1 << 32) + (31 + 20 + 24) + (31 + 1 + 16) + (47 + 20) + (47 + 12) + (56 + 20 + 22)
        );
        let mut length = ZipLength::default();
        for _ in 0..65_535 {
            length.add(&Entry { bytes: 0, ..large }).unwrap();
        }
        assert_eq!(length.total(), 65_535 * (31 + 16 + 47) + (56 + 20 + 22));
    }

    #[test]
    fn unzip_takes_entries_with_the_checksum_before_and_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        let big = vec![7; 300_000];
        let entries = [
            entry("2026-11-22/a.jpg", b"hello", Some(crc32fast::hash(b"hello"))),
            entry("2026-11-22/b.jpg", &big, None),
            entry("空.txt", b"", None),
        ];
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        entries.iter().for_each(|one| add(&mut zip, one));
        zip.finish().unwrap();
        assert!(judged(&path).contains("No errors detected"));
        let listed = Command::new("unzip").args(["-Z", "-T"]).arg(&path).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("20261122.170106"), "{listed:?}");
        let unpacked = Command::new("unzip").arg("-q").arg(&path).arg("-d").arg(folder.path()).status();
        assert!(unpacked.unwrap().success());
        assert_eq!(std::fs::read(folder.path().join("2026-11-22/b.jpg")).unwrap(), big);
    }

    #[test]
    fn more_entries_than_the_old_count_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("many.zip");
        let mut zip = ZipWriter::new(BufWriter::new(File::create(&path).unwrap()));
        for number in 0..65_540 {
            add(&mut zip, &entry(&format!("{number}"), b"", Some(0)));
        }
        zip.finish().unwrap();
        assert!(judged(&path).contains("No errors detected"));
    }

    #[test]
    fn offsets_and_sizes_beyond_four_gibibytes() {
        // A hole in front stands for the entries before.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("far.zip");
        let mut file = File::create(&path).unwrap();
        let mut first = ZipWriter::new(&mut file);
        add(&mut first, &entry("near", b"near", None));
        let directory = std::mem::take(&mut first.directory);
        drop(first);
        let offset = file.seek(SeekFrom::Start(5 << 30)).unwrap();
        let mut zip = ZipWriter { out: file, offset, directory, entries: 1 };
        add(&mut zip, &entry("far", b"far away", None));
        zip.finish().unwrap();
        assert!(judged(&path).contains("No errors detected"));

        let large = Entry { name: "x", bytes: 5 << 30, crc32: None, modified: DosTime::EARLIEST };
        assert_eq!(local_header(&large).unwrap().len(), 30 + 1 + 20);
        assert_eq!(descriptor(&large, 1).len(), 24);
        let known = Entry { crc32: Some(1), ..large };
        assert_eq!(local_header(&known).unwrap()[35..43], (5u64 << 30).to_le_bytes());
        assert_eq!(directory_header(&large, 1, 6 << 30).unwrap().len(), 46 + 1 + 4 + 24);
    }

    #[test]
    fn what_is_not_as_announced_is_an_error() {
        for (bytes, crc32) in [(4, None), (6, None), (5, Some(1))] {
            let entry = Entry { name: "x", bytes, crc32, modified: DosTime::EARLIEST };
            let error = ZipWriter::new(Vec::new()).add(&entry, &mut &b"12345"[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn times_that_zip_does_not_know_become_the_earliest() {
        for text in ["", "soon", "1979-12-31T23:59:59Z", "2108-01-01T00:00:00Z"] {
            assert_eq!(DosTime::from_rfc3339(text), DosTime::EARLIEST, "{text}");
        }
    }
}
