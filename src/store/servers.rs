//! Servers that were found down, remembered in a file that processes share.
//!
//! The file has a fixed size: a header with a random key, and a table of
//! slots. A host belongs into the one slot that a hash under the key gives it,
//! and displaces whoever was there; strangers cannot aim at a slot, for they
//! do not know the key. Losing entries, or the whole file, costs a few mails
//! their wait and harms nothing.
//!
//! A slot is read and written in one call. Only making the file, and taking
//! over an entry that has run out, must be left to one process; these take a
//! lock, which is not waited for. So a process can be killed at any time.

use std::cell::Cell;
use std::ffi::CStr;
use std::fs::File;
use std::hash::Hasher;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::server::{Host, Server};
use crate::sys::{self, Errno, Status};

/// What a file begins with: the name, and the version of what follows.
const MAGIC: [u8; 16] = *b"smtpdcheck 1\r\n\x1a\0";
/// The bytes of the magic and the key.
const HEADER: usize = 32;
/// How many slots there are, a power of two. With twenty servers remembered
/// at a time two of them share a slot in one case of five.
const SLOTS: usize = 1024;
/// The bytes of a slot: a tag and a time, four each.
const SLOT: usize = 8;
const SIZE: libc::off_t = (HEADER + SLOTS * SLOT) as libc::off_t;
/// Set in the tag of an entry that some process has taken over.
const TAKEN: u32 = 1 << 31;

/// What is remembered of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Nothing, or it is for this process to find out.
    None,
    /// It was found down so many seconds ago.
    Down(u32),
    /// Its entry ran out, and so many seconds ago another process took it
    /// over.
    Taken(u32),
}

/// A file of remembered hosts.
#[derive(Debug)]
pub struct Cache {
    file: File,
    key: [u64; 2],
    /// How long an entry lasts, in seconds.
    lasts: u32,
    /// How long one that was taken over lasts, in seconds.
    grace: u32,
    /// The latest failure to lock or to write.
    trouble: Cell<Option<Errno>>,
}

/// Where a host is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    offset: u64,
    tag: u32,
}

/// An entry of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u32,
    /// Seconds since 1970. Zero, as in a new file, is long ago.
    time: u32,
}

impl Cache {
    /// Opens the file, or makes it; `None` when another process is in the way.
    /// Entries last for `lasts` seconds; whoever takes over one that has run
    /// out knows more after `timeout`. The error says why the file is of no
    /// use; then it is left as it was.
    pub fn open(
        path: &[u8],
        lasts: u32,
        timeout: Option<Duration>,
    ) -> Result<Option<Self>, String> {
        let path = &sys::c_string(path);
        let file = match open(path, false) {
            Err(Refusal::System(Errno(libc::ENOENT))) => {
                make(path).and_then(|()| open(path, false))
            }
            opened => opened,
        };
        if let Err(Refusal::System(Errno(libc::EAGAIN))) = file {
            return Ok(None);
        }
        let file = file.map_err(Refusal::into_words)?;
        let mut header = [0; HEADER];
        let length = file.read_at(&mut header, 0).unwrap_or(0);
        let (magic, key) = header.split_at(MAGIC.len());
        if length < HEADER || magic != MAGIC {
            return Err(FOREIGN.into_words());
        }
        let grace = timeout.map_or(lasts, |timeout| {
            let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
            // One more, for ages are told by whole seconds.
            u32::try_from(seconds + 1).unwrap_or(u32::MAX)
        });
        Ok(Some(Cache {
            file,
            key: [half(key, 0), half(key, 8)],
            lasts,
            grace,
            trouble: Cell::new(None),
        }))
    }

    /// Why something could not be remembered, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.get().map(|error| error.to_string())
    }

    /// Where a server is remembered, as asked on this port by these families.
    pub fn place(&self, server: &Server, port: u16, families: [bool; 2]) -> Place {
        #[allow(deprecated, reason = "the only keyed hash that std has for good")]
        let mut hash = std::hash::SipHasher::new_with_keys(self.key[0], self.key[1]);
        let [high, low] = port.to_be_bytes();
        let [ipv4, ipv6] = families.map(u8::from);
        hash.write(&[high, low, ipv4, ipv6]);
        hash.write(match &server.host {
            Host::Name(name) => name.as_bytes(),
            // One address in two spellings is two servers here.
            _ => &server.text,
        });
        Place::of(hash.finish())
    }

    /// What is remembered of a host. An entry that has run out is taken over
    /// for this process, which is to find out more.
    pub fn recall(&self, place: Place) -> Memory {
        let (memory, run_out) = self.look(place);
        let Some(late) = run_out else {
            return memory;
        };
        // From here on this process and others may want the same.
        match sys::try_lock(&self.file) {
            Ok(()) => {
                let (memory, run_out) = self.look(place);
                if run_out.is_some() {
                    let (tag, time) = (place.tag | TAKEN, sys::seconds());
                    self.write(place, Entry { tag, time });
                }
                sys::unlock(&self.file);
                memory
            }
            // Whoever has the lock is about to take an entry over, most likely
            // this one.
            Err(Errno(libc::EAGAIN)) if late < self.grace => Memory::Taken(0),
            Err(Errno(libc::EAGAIN)) => Memory::None,
            Err(error) => {
                self.trouble.set(Some(error));
                Memory::None
            }
        }
    }

    /// Remembers that a host was found down now.
    pub fn remember(&self, place: Place) {
        let tag = place.tag;
        self.write(
            place,
            Entry {
                tag,
                time: sys::seconds(),
            },
        );
    }

    /// Forgets a host.
    pub fn forget(&self, place: Place) {
        if self.read(place).tag & !TAKEN == place.tag {
            self.write(place, Entry { tag: 0, time: 0 });
        }
    }

    /// What the entry of a host says now. The time is read last: what another
    /// process has just written must not seem to come from the future.
    fn look(&self, place: Place) -> (Memory, Option<u32>) {
        let entry = self.read(place);
        self.judge(entry, place, sys::seconds())
    }

    /// What an entry says of a host, and if it has run out, for how long.
    fn judge(&self, entry: Entry, place: Place, now: u32) -> (Memory, Option<u32>) {
        // An entry from the future is no entry.
        let age = now.checked_sub(entry.time);
        let Some(age) = age.filter(|_| entry.time > 0 && entry.tag & !TAKEN == place.tag) else {
            return (Memory::None, None);
        };
        let taken = entry.tag & TAKEN != 0;
        let lasts = if taken { self.grace } else { self.lasts };
        match age.checked_sub(lasts) {
            Some(late) => (Memory::None, Some(late)),
            None if taken => (Memory::Taken(age), None),
            None => (Memory::Down(age), None),
        }
    }

    fn read(&self, place: Place) -> Entry {
        let mut bytes = [0; SLOT];
        // A slot that cannot be read is as good as empty.
        let _ = self.file.read_at(&mut bytes, place.offset);
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Entry {
            tag: word(0),
            time: word(4),
        }
    }

    fn write(&self, place: Place, entry: Entry) {
        let mut bytes = [0; SLOT];
        bytes[..4].copy_from_slice(&entry.tag.to_le_bytes());
        bytes[4..].copy_from_slice(&entry.time.to_le_bytes());
        if let Err(error) = self.file.write_at(&bytes, place.offset) {
            self.trouble.set(Some(error.into()));
        }
    }
}

impl Place {
    fn of(hash: u64) -> Self {
        Place {
            offset: HEADER as u64 + hash % SLOTS as u64 * SLOT as u64,
            tag: u32::try_from(hash >> 33).unwrap_or(0),
        }
    }
}

/// Half of the key.
fn half(key: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Why a file is of no use.
enum Refusal {
    /// What it is.
    File(&'static str),
    /// The system says no.
    System(Errno),
}

/// What a file is that cannot have been made here.
const FOREIGN: Refusal = Refusal::File("it is something else");

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Refusal::System(error)
    }
}

impl Refusal {
    fn into_words(self) -> String {
        match self {
            Refusal::File(words) => words.into(),
            Refusal::System(error) => error.to_string(),
        }
    }
}

/// Opens a file that may be trusted. With `make` it is one to be made.
fn open(path: &CStr, make: bool) -> Result<File, Refusal> {
    // Looked at before it is opened, for opening a device may do something.
    match sys::status(path) {
        Err(Errno(libc::ENOENT)) if make => {}
        found => trust(found?, make)?,
    }
    let file = sys::open(path, make)?;
    trust(sys::status_of(&file)?, make)?;
    Ok(file)
}

fn trust(status: Status, make: bool) -> Result<(), Refusal> {
    if !status.is_regular {
        Err(Refusal::File("it is no regular file"))
    } else if status.owner != 0 && status.owner != sys::effective_user() {
        Err(Refusal::File("it belongs to somebody else"))
    } else if status.is_world_writable {
        Err(Refusal::File("everyone may write to it"))
    } else if status.size != SIZE && !(make && status.size == 0)
        || make && (status.owner != sys::effective_user() || !status.has_one_name)
    {
        Err(FOREIGN)
    } else {
        Ok(())
    }
}

/// Makes the file under another name, and renames it when it is complete.
/// Only the process that has the lock does so; a file that one left behind is
/// made anew.
fn make(path: &CStr) -> Result<(), Refusal> {
    let mut other = path.to_bytes().to_vec();
    other.extend(b".new");
    let other = sys::c_string(&other);
    let file = open(&other, true)?;
    sys::try_lock(&file)?;
    // Another process may have been quicker, and even have renamed this file.
    let opened = sys::status_of(&file)?.inode;
    if sys::status(&other).map_or(true, |found| found.inode != opened) {
        return Ok(());
    }
    if sys::status(path).is_ok() {
        return Ok(sys::remove(&other)?);
    }
    // At any time the size is zero or the final one.
    sys::resize(&file, SIZE)?;
    let mut content = vec![0; HEADER + SLOT * SLOTS];
    content[..MAGIC.len()].copy_from_slice(&MAGIC);
    sys::random(&mut content[MAGIC.len()..HEADER])?;
    if file.write_at(&content, 0).map_err(Errno::from)? < content.len() {
        return Err(Errno(libc::ENOSPC).into());
    }
    // After a power cut the name is not there before the content.
    file.sync_data().map_err(Errno::from)?;
    Ok(sys::rename(&other, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of which only the key and the times matter.
    fn cache(key: [u64; 2]) -> std::io::Result<Cache> {
        Ok(Cache {
            file: File::open("/dev/null")?,
            key,
            lasts: 60,
            grace: 11,
            trouble: Cell::new(None),
        })
    }

    #[test]
    fn every_hash_has_its_place() {
        let last = SIZE as u64 - SLOT as u64;
        let table = [
            (0, HEADER as u64, 0),
            (1, 40, 0),
            (1023, last, 0),
            (1024, HEADER as u64, 0),
            // One bit belongs to neither.
            (1 << 32, HEADER as u64, 0),
            (1 << 33, HEADER as u64, 1),
            (1 << 63, HEADER as u64, 1 << 30),
            (u64::MAX, last, TAKEN - 1),
            (0x8000_0002_0000_0005, 72, 0x4000_0001),
        ];
        for (hash, offset, tag) in table {
            assert_eq!(Place::of(hash), Place { offset, tag }, "{hash:x}");
        }
    }

    #[test]
    fn a_new_place_for_every_bit_of_the_slot_and_the_tag() {
        for bit in (0..10).chain(33..64) {
            let (zero, one) = (Place::of(0), Place::of(1 << bit));
            assert_eq!(zero.offset == one.offset, bit > 9, "{bit}");
            assert_eq!(zero.tag == one.tag, bit <= 9, "{bit}");
        }
    }

    #[test]
    fn entries_of_every_age() -> std::io::Result<()> {
        use Memory::{Down, None as Nothing, Taken};
        let cache = cache([0; 2])?;
        let now = 1_800_000_000;
        let place = Place { offset: 32, tag: 5 };
        let (own, taken) = (place.tag, place.tag | TAKEN);
        let table = [
            (own, now, (Down(0), None)),
            (own, now - 1, (Down(1), None)),
            (own, now - 59, (Down(59), None)),
            (own, now - 60, (Nothing, Some(0))),
            (own, now - 70, (Nothing, Some(10))),
            (own, 1, (Nothing, Some(now - 61))),
            (own, 0, (Nothing, None)),
            (own, now + 1, (Nothing, None)),
            (own, u32::MAX, (Nothing, None)),
            (taken, now, (Taken(0), None)),
            (taken, now - 10, (Taken(10), None)),
            (taken, now - 11, (Nothing, Some(0))),
            (taken, now - 12, (Nothing, Some(1))),
            (taken, 1, (Nothing, Some(now - 12))),
            (taken, 0, (Nothing, None)),
            (taken, now + 1, (Nothing, None)),
            (taken, u32::MAX, (Nothing, None)),
            // Of another host.
            (0, now, (Nothing, None)),
            (4, now, (Nothing, None)),
            (own | 1 << 30, now, (Nothing, None)),
            (TAKEN, now - 100, (Nothing, None)),
            (u32::MAX, now - 100, (Nothing, None)),
        ];
        for (tag, time, expected) in table {
            let entry = Entry { tag, time };
            assert_eq!(cache.judge(entry, place, now), expected, "{entry:?}");
        }
        // Before 1970 the clock stands still.
        let entry = Entry { tag: own, time: 0 };
        assert_eq!(cache.judge(entry, place, 0), (Nothing, None));
        Ok(())
    }

    #[test]
    fn places_depend_on_all_that_is_asked_and_on_the_key() -> std::io::Result<()> {
        let (one, other) = (cache([1, 2])?, cache([1, 3])?);
        let place = |cache: &Cache, text: &str, port, families| {
            let server = Server::parse(text.as_bytes()).ok();
            server.map(|server| cache.place(&server, port, families))
        };
        let all = [
            place(&one, "mx.test", 25, [true, true]),
            place(&other, "mx.test", 25, [true, true]),
            place(&cache([2, 2])?, "mx.test", 25, [true, true]),
            place(&one, "mx2.test", 25, [true, true]),
            place(&one, "mx.test", 26, [true, true]),
            place(&one, "mx.test", 25 << 8, [true, true]),
            place(&one, "mx.test", 25, [true, false]),
            place(&one, "mx.test", 25, [false, true]),
            place(&one, "192.0.2.1", 25, [true, true]),
            place(&one, "::1", 25, [true, true]),
            place(&one, "fe80::1%lo", 25, [true, true]),
            place(&one, "fe80::1%eth0", 25, [true, true]),
        ];
        for (i, a) in all.iter().enumerate() {
            let tag = |place: &Option<Place>| place.map(|place| place.tag);
            assert!(all[..i].iter().all(|b| tag(a) != tag(b)), "{i}");
        }
        for (a, b) in [("MX.test.", "mx.TEST"), ("5:mx.test", "10:mx.test")] {
            let of = |text| place(&one, text, 25, [true, true]);
            assert_eq!(of(a), of(b), "{a}");
        }
        Ok(())
    }
}
