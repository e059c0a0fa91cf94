//! A file of fixed size that any number of processes share, with tables of
//! slots in it.
//!
//! The file begins with a header: what it is, and a random key. A slot belongs
//! to whatever a hash under that key sends there; strangers cannot aim at one,
//! for they do not know the key. Losing a slot, or the whole file, harms
//! nothing.
//!
//! What belongs together is read and written in one call, without a lock, so
//! that a process can be killed at any time. Locks end with the process that
//! has them; they are never waited for.

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::hash::Hasher;

use crate::sys::file::{self, Status};
use crate::sys::process;
use crate::sys::{self, Errno};

/// What every file begins with, whatever the version of its format.
const NAME: &[u8] = b"smtpdcheck ";
/// What a file of this format begins with.
const MAGIC: [u8; 16] = *b"smtpdcheck 3\r\n\x1a\0";
/// The bytes of the magic and the key.
const HEADER: usize = 32;
/// The bytes of the file.
const SIZE: usize = 256 * 1024;

/// One of the tables in the file. A page holds a whole number of its slots, so
/// that none is read half before and half after a write.
#[derive(Debug)]
pub struct Area {
    /// Where it begins in the file.
    start: u64,
    /// How many slots it has.
    slots: u64,
    /// The bytes of a slot.
    slot: u64,
}

/// The table of servers. With twenty remembered at a time two of them share a
/// slot in one case of five.
pub const SERVERS: Area = Area {
    start: HEADER as u64,
    slots: 1024,
    slot: 16,
};

/// The longest file name, in bytes: Linux, `NAME_MAX`.
const MAX_NAME: usize = 255;
/// What the name of a file ends with while it is made.
const NEW: &[u8] = b".new";

/// Why a file cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Another process is making it at this moment.
    Busy,
    NotRegular,
    OtherOwner,
    WorldWritable,
    NotACache,
    /// It was made by a program that has another format.
    OtherVersion,
    System(Errno),
}

impl Display for Unusable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unusable::Busy => "another process is creating it",
            Unusable::NotRegular => "not a regular file",
            Unusable::OtherOwner => "owned by another user",
            Unusable::WorldWritable => "writable by everyone",
            Unusable::NotACache => "not an smtpdcheck cache",
            Unusable::OtherVersion => {
                "created by another version of smtpdcheck; remove it, and a new one will be created"
            }
            // The file would have been created.
            Unusable::System(Errno(libc::ENOENT)) => "no such directory",
            Unusable::System(error) => return error.fmt(f),
        })
    }
}

impl From<Errno> for Unusable {
    fn from(error: Errno) -> Self {
        match error {
            Errno(libc::EAGAIN) => Unusable::Busy,
            error => Unusable::System(error),
        }
    }
}

/// The bytes of a set in the table of senders: 128 entries.
pub const SET: usize = 1024;

/// The table of senders, of which each slot is a set: all that is left.
pub const SENDERS: Area = Area {
    start: 17 * 1024,
    slots: 239,
    slot: SET as u64,
};

/// An open file.
pub struct Table {
    file: File,
    key: [u64; 2],
}

/// Where something is remembered: a slot, and what it can be recognised by
/// there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where the slot begins in the file.
    offset: u64,
    /// The bytes of the slot.
    slot: u64,
    /// Any number, also zero.
    pub hash: u64,
}

impl Table {
    /// Opens the file, or makes it. A file that cannot be used is left as it
    /// is.
    pub fn open(path: &[u8]) -> Result<Self, Unusable> {
        let path = sys::c_string(path);
        let file = match open(path, false) {
            Err(Unusable::System(Errno(libc::ENOENT))) => {
                make(path)?;
                open(path, false)
            }
            opened => opened,
        }?;
        let mut header = [0; HEADER];
        let length = file::read_at(&file, &mut header, 0).unwrap_or(0);
        let (magic, key) = header.split_at(MAGIC.len());
        if length < HEADER || !magic.starts_with(NAME) {
            return Err(Unusable::NotACache);
        }
        if magic != MAGIC {
            return Err(Unusable::OtherVersion);
        }
        if file::status_of(&file)?.size != SIZE as libc::off_t {
            return Err(Unusable::NotACache);
        }
        let half = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&key[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Ok(Table {
            file,
            key: [half(0), half(8)],
        })
    }

    /// Where something with these parts is remembered. Every part but the last
    /// has a fixed length, so that no two lists of parts hash alike.
    pub fn place(&self, area: &Area, parts: &[&[u8]]) -> Place {
        #[allow(deprecated, reason = "the only keyed hash that std has for good")]
        let mut hash = std::hash::SipHasher::new_with_keys(self.key[0], self.key[1]);
        for part in parts {
            hash.write(part);
        }
        area.place(hash.finish())
    }

    /// Reads a slot into zeros. One that cannot be read is as good as empty.
    pub fn read(&self, place: Place, bytes: &mut [u8]) {
        let _ = file::read_at(&self.file, bytes, place.offset);
    }

    /// Writes a slot from byte `from` on.
    pub fn write(&self, place: Place, from: usize, bytes: &[u8]) -> sys::Result<()> {
        file::write_at(&self.file, bytes, place.offset + from as u64)
    }

    /// Takes the lock on a slot; `EAGAIN` when another process has it. It is
    /// kept until the process ends, or [`unlock`](Self::unlock).
    pub fn try_lock(&self, place: Place) -> sys::Result<()> {
        let (offset, length) = place.range();
        file::try_lock(&self.file, offset, length)
    }

    pub fn unlock(&self, place: Place) {
        let (offset, length) = place.range();
        file::unlock(&self.file, offset, length);
    }
}

impl Area {
    /// How many slots there are.
    #[cfg(test)]
    pub fn slots(&self) -> u64 {
        self.slots
    }

    fn place(&self, hash: u64) -> Place {
        Place {
            offset: self.start + hash % self.slots * self.slot,
            slot: self.slot,
            hash,
        }
    }
}

impl Place {
    /// The slot's bytes, as locks have them: where they begin, and how many.
    fn range(self) -> (libc::off_t, libc::off_t) {
        (self.offset as libc::off_t, self.slot as libc::off_t)
    }
}

/// Opens a file that is safe to use. With `make` it is one that is being made.
fn open(path: &CStr, make: bool) -> Result<File, Unusable> {
    // Looked at before it is opened, for opening a device may do something.
    match file::status(path) {
        Err(Errno(libc::ENOENT)) if make => {}
        found => check_status(found?, make)?,
    }
    let file = file::open(path, make)?;
    check_status(file::status_of(&file)?, make)?;
    Ok(file)
}

fn check_status(status: Status, make: bool) -> Result<(), Unusable> {
    let user = process::effective_user();
    if !status.is_regular {
        Err(Unusable::NotRegular)
    } else if status.owner != 0 && status.owner != user {
        Err(Unusable::OtherOwner)
    } else if status.is_world_writable {
        Err(Unusable::WorldWritable)
    } else if make
        && (status.owner != user
            || !status.has_one_name
            || ![0, SIZE as libc::off_t].contains(&status.size))
    {
        Err(Unusable::NotACache)
    } else {
        Ok(())
    }
}

/// The name under which the file is made, in the same directory: with `.new`
/// behind it, and if need be shortened to the longest name that there can be.
fn name_of_new(path: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    let length = (path.len() - start).min(MAX_NAME - NEW.len());
    [&path[..start + length], NEW].concat()
}

/// Makes the file under another name, and renames it when it is complete.
/// Only the process that has the lock does so; a file that one left behind is
/// made anew.
fn make(path: &CStr) -> Result<(), Unusable> {
    let new = sys::c_string(&name_of_new(path.to_bytes()));
    let file = open(new, true)?;
    file::try_lock(&file, 0, SIZE as libc::off_t)?;
    // Another process may have been quicker, and even have renamed this file.
    let opened = file::status_of(&file)?.inode;
    if file::status(new).map_or(true, |found| found.inode != opened) {
        return Ok(());
    }
    match file::status(path) {
        Err(Errno(libc::ENOENT)) => {}
        Ok(_) => return Ok(file::remove(new)?),
        Err(error) => return Err(error.into()),
    }
    // At any time the size is zero or the final one.
    file::resize(&file, SIZE as libc::off_t)?;
    let mut content = vec![0; SIZE];
    content[..MAGIC.len()].copy_from_slice(&MAGIC);
    process::random(&mut content[MAGIC.len()..HEADER])?;
    file::write_at(&file, &content, 0)?;
    // After a power cut the name is not there before the content.
    file::sync(&file)?;
    Ok(file::rename(new, path)?)
}

#[cfg(test)]
impl Table {
    /// A table of which only the key matters.
    pub fn of_key(key: [u64; 2]) -> std::io::Result<Self> {
        let file = File::open("/dev/null")?;
        Ok(Table { file, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREAS: &[Area] = &[SERVERS, SENDERS];

    #[test]
    fn every_hash_has_its_place() {
        let table = [
            (SERVERS, 0, 32),
            (SERVERS, 1, 48),
            (SERVERS, 1023, 16_400),
            (SERVERS, 1024, 32),
            (SERVERS, u64::MAX, 16_400),
            (SERVERS, 0x8000_0002_0000_0005, 112),
            (SENDERS, 0, 17_408),
            (SENDERS, 1, 18_432),
            (SENDERS, 238, 261_120),
            (SENDERS, 239, 17_408),
            (SENDERS, u64::MAX, 17_408 + u64::MAX % 239 * 1024),
        ];
        for (area, hash, offset) in table {
            let place = area.place(hash);
            assert_eq!((place.offset, place.hash), (offset, hash), "{area:?}");
            let range = (offset as libc::off_t, area.slot as libc::off_t);
            assert_eq!(place.range(), range, "{area:?}");
        }
    }

    #[test]
    fn tables_neither_overlap_nor_cross_pages() {
        let mut end = HEADER as u64;
        for area in AREAS {
            assert!(area.start >= end, "{area:?}");
            assert_eq!(4096 % area.slot, 0, "{area:?}");
            assert_eq!(area.start % area.slot, 0, "{area:?}");
            end = area.start + area.slots * area.slot;
        }
        assert_eq!(end, SIZE as u64);
    }

    #[test]
    fn new_files_have_a_name_that_fits() {
        let long = "a".repeat(255);
        let rows = [
            ("cache", "cache.new"),
            ("/run/cache", "/run/cache.new"),
            ("../c", "../c.new"),
            (&"b".repeat(251), &format!("{}.new", "b".repeat(251))),
            (&"b".repeat(252), &format!("{}.new", "b".repeat(251))),
            (
                &format!("{long}/{long}"),
                &format!("{long}/{}.new", "a".repeat(251)),
            ),
        ];
        for (path, new) in rows {
            assert_eq!(name_of_new(path.as_bytes()), new.as_bytes(), "{path}");
        }
    }

    #[test]
    fn places_depend_on_every_part_and_on_the_key() -> std::io::Result<()> {
        let (one, other) = (Table::of_key([1, 2])?, Table::of_key([1, 3])?);
        let places = [
            one.place(&SERVERS, &[b"ab", b"cd"]),
            one.place(&SERVERS, &[b"ab", b"ce"]),
            one.place(&SERVERS, &[b"bb", b"cd"]),
            other.place(&SERVERS, &[b"ab", b"cd"]),
            Table::of_key([2, 2])?.place(&SERVERS, &[b"ab", b"cd"]),
        ];
        for (i, a) in places.iter().enumerate() {
            assert!(places[..i].iter().all(|b| a.hash != b.hash), "{i}");
        }
        Ok(())
    }
}
