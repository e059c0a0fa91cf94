//! A fixed-size table of slots in a file that any number of processes share.
//!
//! The file begins with a header: what it is, and a random key. A slot belongs
//! to whoever a hash under that key sends there; strangers cannot aim at one,
//! for they do not know the key. Losing a slot, or the whole file, harms
//! nothing.
//!
//! A slot is read and written in one call, without a lock, so that a process
//! can be killed at any time. Locks end with the process that has them; they
//! are never waited for.

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
const MAGIC: [u8; 16] = *b"smtpdcheck 2\r\n\x1a\0";
/// The bytes of the magic and the key.
const HEADER: usize = 32;
/// How many slots there are. With twenty servers remembered at a time two of
/// them share a slot in one case of five.
const SLOTS: usize = 1024;
/// The bytes of a slot. A page holds a whole number of them, so that no slot
/// is read half before and half after a write.
pub const SLOT: usize = 16;
const SIZE: libc::off_t = (HEADER + SLOTS * SLOT) as libc::off_t;

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

/// An open file.
pub struct Table {
    file: File,
    key: [u64; 2],
}

/// Where something is remembered: a slot, and what it is recognised by there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    offset: u64,
    /// Never zero: an empty slot is nobody's.
    pub tag: u64,
}

impl Table {
    /// Opens the file, or makes it. A file that cannot be used is left as it
    /// is.
    pub fn open(path: &[u8]) -> Result<Self, Unusable> {
        let path = &sys::c_string(path);
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
        if file::status_of(&file)?.size != SIZE {
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
    pub fn place(&self, parts: &[&[u8]]) -> Place {
        #[allow(deprecated, reason = "the only keyed hash that std has for good")]
        let mut hash = std::hash::SipHasher::new_with_keys(self.key[0], self.key[1]);
        for part in parts {
            hash.write(part);
        }
        Place::of(hash.finish())
    }

    /// Reads a slot. One that cannot be read is as good as empty.
    pub fn read(&self, place: Place) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        let _ = file::read_at(&self.file, &mut bytes, place.offset);
        bytes
    }

    /// Writes a slot from byte `from` on.
    pub fn write(&self, place: Place, from: usize, bytes: &[u8]) -> sys::Result<()> {
        file::write_at(&self.file, bytes, place.offset + from as u64)
    }

    /// Takes the lock on a slot; `EAGAIN` when another process has it. It is
    /// kept until the process ends, or [`unlock`](Self::unlock).
    pub fn try_lock(&self, place: Place) -> sys::Result<()> {
        file::try_lock(&self.file, place.offset as libc::off_t, SLOT as libc::off_t)
    }

    pub fn unlock(&self, place: Place) {
        file::unlock(&self.file, place.offset as libc::off_t, SLOT as libc::off_t);
    }
}

impl Place {
    fn of(hash: u64) -> Self {
        Place {
            offset: HEADER as u64 + hash % SLOTS as u64 * SLOT as u64,
            tag: hash | 1 << 63,
        }
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
        && (status.owner != user || !status.has_one_name || ![0, SIZE].contains(&status.size))
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
    let file = open(&new, true)?;
    file::try_lock(&file, 0, SIZE)?;
    // Another process may have been quicker, and even have renamed this file.
    let opened = file::status_of(&file)?.inode;
    if file::status(&new).map_or(true, |found| found.inode != opened) {
        return Ok(());
    }
    match file::status(path) {
        Err(Errno(libc::ENOENT)) => {}
        Ok(_) => return Ok(file::remove(&new)?),
        Err(error) => return Err(error.into()),
    }
    // At any time the size is zero or the final one.
    file::resize(&file, SIZE)?;
    let mut content = vec![0; HEADER + SLOT * SLOTS];
    content[..MAGIC.len()].copy_from_slice(&MAGIC);
    process::random(&mut content[MAGIC.len()..HEADER])?;
    file::write_at(&file, &content, 0)?;
    // After a power cut the name is not there before the content.
    file::sync(&file)?;
    Ok(file::rename(&new, path)?)
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

    #[test]
    fn every_hash_has_its_place() {
        let (first, last) = (HEADER as u64, SIZE as u64 - SLOT as u64);
        const SET: u64 = 1 << 63;
        let table = [
            (0, first, SET),
            (1, first + 16, SET | 1),
            (1023, last, SET | 1023),
            (1024, first, SET | 1024),
            (SET, first, SET),
            (u64::MAX, last, u64::MAX),
            (0x8000_0002_0000_0005, first + 80, 0x8000_0002_0000_0005),
        ];
        for (hash, offset, tag) in table {
            assert_eq!(Place::of(hash), Place { offset, tag }, "{hash:x}");
        }
    }

    #[test]
    fn slots_do_not_cross_pages() {
        assert_eq!(4096 % SLOT, 0);
        assert_eq!(HEADER % SLOT, 0);
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
            one.place(&[b"ab", b"cd"]),
            one.place(&[b"ab", b"ce"]),
            one.place(&[b"bb", b"cd"]),
            other.place(&[b"ab", b"cd"]),
            Table::of_key([2, 2])?.place(&[b"ab", b"cd"]),
        ];
        for (i, a) in places.iter().enumerate() {
            assert!(places[..i].iter().all(|b| a.tag != b.tag), "{i}");
        }
        Ok(())
    }
}
