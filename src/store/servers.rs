//! Servers that were found down.
//!
//! When an entry expires, one process asks the server again, and the others go
//! on taking it for down meanwhile. That process has the lock on the slot,
//! which ends with it: if it ends without an answer, the next one asks. The
//! slot says since when the server has been asked again; after one timeout
//! without an answer everybody asks, so that a process that sleeps, or any
//! number of processes that lose interest, cannot keep a server down that is
//! back. After ten timeouts it begins anew, for by then most of the time nobody
//! has asked, and a crowd would wait at once.

use std::time::Duration;

use super::Cache;
use super::table::{Place, SERVERS, Table};
use crate::server::{Host, Server};
use crate::sys::Errno;
use crate::sys::process::seconds;

/// The bytes of a slot: a tag, when the server was found down, and since when
/// it has been asked again. Times are seconds since 1970; zero, as in a new
/// file, is never.
struct Slot {
    tag: u64,
    down: u32,
    asked_again: u32,
}

/// The bytes of a slot.
const SLOT: usize = 16;
/// Where `asked_again` begins in a slot.
const ASKED_AGAIN: usize = 12;

impl Slot {
    fn read(table: &Table, place: Place) -> Self {
        let mut bytes = [0; SLOT];
        table.read(place, &mut bytes);
        Self::of(bytes)
    }

    fn of(bytes: [u8; SLOT]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Slot {
            tag: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            down: u32::from_le_bytes([i, j, k, l]),
            asked_again: u32::from_le_bytes([m, n, o, p]),
        }
    }

    fn bytes(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.tag.to_le_bytes());
        bytes[8..ASKED_AGAIN].copy_from_slice(&self.down.to_le_bytes());
        bytes[ASKED_AGAIN..].copy_from_slice(&self.asked_again.to_le_bytes());
        bytes
    }
}

/// What is remembered of a server. Ages are in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// It was found down this long ago.
    Remembered(u32),
    /// It was found down too long ago, and it is for this process to ask.
    Expired,
    /// It was found down too long ago, and another process has been asking it
    /// again for this long.
    AskedElsewhere(u32),
}

/// What a slot says of an expired entry: for how long the server has been
/// asked again, if it has.
type AskedAgainFor = Option<u32>;

/// For how many timeouts a server that was asked again without an answer is
/// asked by everybody, before one process does so for the others again.
const MAX_SERIES: u32 = 10;

/// For how long entries count, in whole seconds.
#[derive(Clone, Copy)]
pub struct Lifetimes {
    /// How long a server is remembered.
    ttl: u32,
    /// How long another process may take to ask it again.
    patience: u32,
}

impl Lifetimes {
    /// Those of entries that count for `ttl` seconds, for processes that know
    /// more after `timeout`.
    pub fn new(ttl: u32, timeout: Option<Duration>) -> Self {
        let patience = timeout.map_or(ttl, |timeout| {
            let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
            // One more, for ages are told by whole seconds.
            u32::try_from(seconds + 1).unwrap_or(u32::MAX)
        });
        Lifetimes { ttl, patience }
    }

    /// What a slot says of the server with this tag. The error is that the
    /// entry has expired.
    fn judge(self, slot: &Slot, tag: u64, now: u32) -> Result<Entry, AskedAgainFor> {
        // An entry from the future is no entry.
        let age = now.checked_sub(slot.down);
        let Some(age) = age.filter(|_| slot.down > 0 && slot.tag == tag) else {
            return Ok(Entry::Absent);
        };
        if age < self.ttl {
            return Ok(Entry::Remembered(age));
        }
        let asked_for = now.checked_sub(slot.asked_again);
        // What was asked before the entry expired was for an earlier one.
        let begun = asked_for.filter(|&asked_for| asked_for <= age - self.ttl);
        Err(begun.filter(|&asked_for| asked_for / MAX_SERIES < self.patience))
    }

    /// What to make of an expired entry while another process has the lock.
    fn judge_locked(self, asked_for: AskedAgainFor) -> Entry {
        match asked_for {
            Some(asked_for) if asked_for < self.patience => Entry::AskedElsewhere(asked_for),
            Some(_) => Entry::Expired,
            // It has only just locked it.
            None => Entry::AskedElsewhere(0),
        }
    }
}

/// What a server is recognised by in its slot. Never zero: an empty slot is
/// nobody's.
fn tag(place: Place) -> u64 {
    place.hash | 1 << 63
}

/// A server and how it is asked: all that can change whether it is up.
pub struct Subject<'a> {
    pub server: &'a Server,
    pub port: u16,
    pub families: [bool; 2],
}

impl Subject<'_> {
    fn place(&self, table: &Table) -> Place {
        let port = self.port.to_be_bytes();
        let families = self.families.map(u8::from);
        let host = match &self.server.host {
            Host::Name(name) => name.as_bytes(),
            // One address in two spellings is two servers here.
            _ => &self.server.text,
        };
        table.place(&SERVERS, &[&port, &families, host])
    }
}

impl Cache {
    /// What is remembered of a server. If its entry has expired, this claims it
    /// for this process.
    pub fn look_up(&self, subject: &Subject) -> Entry {
        let Some(table) = &self.table else {
            return Entry::Absent;
        };
        let place = subject.place(table);
        if let Ok(entry) = self.judge(table, place) {
            return entry;
        }
        // From here on this process and others may want the same.
        let locked = table.try_lock(place);
        let asked_for = match self.judge(table, place) {
            Ok(entry) => {
                if locked.is_ok() {
                    table.unlock(place);
                }
                return entry;
            }
            Err(asked_for) => asked_for,
        };
        if asked_for.is_none() {
            // Whoever has the lock may have been stopped before writing the time.
            self.note(table.write(place, ASKED_AGAIN, &seconds().to_le_bytes()));
        }
        match locked {
            Ok(()) => Entry::Expired,
            Err(Errno(libc::EAGAIN)) => self.lifetimes.judge_locked(asked_for),
            failed => {
                self.note(failed);
                Entry::Expired
            }
        }
    }

    /// The time is read last: what another process has just written must not
    /// seem to come from the future.
    fn judge(&self, table: &Table, place: Place) -> Result<Entry, AskedAgainFor> {
        let slot = Slot::read(table, place);
        self.lifetimes.judge(&slot, tag(place), seconds())
    }

    /// Remembers that a server was found down now.
    pub fn remember(&self, subject: &Subject) {
        if let Some(table) = &self.table {
            let place = subject.place(table);
            let (tag, down) = (tag(place), seconds());
            self.write(
                table,
                place,
                &Slot {
                    tag,
                    down,
                    asked_again: 0,
                },
            );
        }
    }

    /// Forgets a server.
    pub fn forget(&self, subject: &Subject) {
        if let Some(table) = &self.table {
            let place = subject.place(table);
            if Slot::read(table, place).tag == tag(place) {
                let (tag, down) = (0, 0);
                self.write(
                    table,
                    place,
                    &Slot {
                        tag,
                        down,
                        asked_again: 0,
                    },
                );
            }
        }
    }

    /// Lets other processes ask about a server whose entry this process has
    /// claimed.
    pub fn release(&self, subject: &Subject) {
        if let Some(table) = &self.table {
            table.unlock(subject.place(table));
        }
    }

    fn write(&self, table: &Table, place: Place, slot: &Slot) {
        self.note(table.write(place, 0, &slot.bytes()));
        table.unlock(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_timeout_and_a_second() {
        let table = [
            (Some(Duration::from_secs(10)), 11),
            (Some(Duration::from_millis(2500)), 4),
            (Some(Duration::from_nanos(1)), 2),
            (Some(Duration::from_secs(u32::MAX.into())), u32::MAX),
            (None, 60),
        ];
        for (timeout, patience) in table {
            assert_eq!(Lifetimes::new(60, timeout).patience, patience);
        }
    }

    #[test]
    fn entries_of_every_age() {
        use Entry::{Absent, AskedElsewhere, Expired, Remembered};
        let lifetimes = Lifetimes {
            ttl: 60,
            patience: 11,
        };
        let now = 1_800_000_000;
        // Tag, found down, asked again; what that says, and what it means while
        // another process has the lock.
        let table = [
            (5, now, 0, Ok(Remembered(0))),
            (5, now - 1, 0, Ok(Remembered(1))),
            (5, now - 59, 0, Ok(Remembered(59))),
            (5, now - 60, 0, Err((None, AskedElsewhere(0)))),
            (5, now - 70, 0, Err((None, AskedElsewhere(0)))),
            (5, 1, 0, Err((None, AskedElsewhere(0)))),
            (5, 0, 0, Ok(Absent)),
            (5, now + 1, 0, Ok(Absent)),
            (5, u32::MAX, 0, Ok(Absent)),
            (5, now - 60, now, Err((Some(0), AskedElsewhere(0)))),
            (5, now - 70, now, Err((Some(0), AskedElsewhere(0)))),
            (5, now - 70, now - 10, Err((Some(10), AskedElsewhere(10)))),
            (5, now - 90, now - 10, Err((Some(10), AskedElsewhere(10)))),
            (5, now - 90, now - 11, Err((Some(11), Expired))),
            (5, now - 90, now - 30, Err((Some(30), Expired))),
            (5, now - 300, now - 109, Err((Some(109), Expired))),
            (5, now - 300, now - 110, Err((None, AskedElsewhere(0)))),
            // Asked for an earlier entry, or in the future.
            (5, now - 90, now - 31, Err((None, AskedElsewhere(0)))),
            (5, now - 90, now + 1, Err((None, AskedElsewhere(0)))),
            (5, now - 10, now, Ok(Remembered(10))),
            // Of another server.
            (0, now, 0, Ok(Absent)),
            (4, now, 0, Ok(Absent)),
            (4, now - 100, now, Ok(Absent)),
        ];
        for (tag, down, asked, expected) in table {
            let slot = Slot {
                tag,
                down,
                asked_again: asked,
            };
            let found = lifetimes.judge(&slot, 5, now);
            let found = found.map_err(|asked| (asked, lifetimes.judge_locked(asked)));
            assert_eq!(found, expected, "{tag} {down} {asked}");
        }
        // Before 1970 the clock stands still.
        let slot = Slot {
            tag: 5,
            down: 0,
            asked_again: 0,
        };
        assert_eq!(lifetimes.judge(&slot, 5, 0), Ok(Absent));
    }

    #[test]
    fn slots_are_read_as_they_are_written() {
        let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
        assert_eq!(Slot::of(bytes).bytes(), bytes);
        let asked = Slot::of(bytes).asked_again.to_le_bytes();
        assert_eq!(bytes[ASKED_AGAIN..], asked);
    }

    #[test]
    fn places_depend_on_all_that_is_asked() -> std::io::Result<()> {
        let table = Table::of_key([1, 2])?;
        let place = |text: &str, port, families| {
            let server = &Server::parse(text.as_bytes()).expect("a server");
            let subject = Subject {
                server,
                port,
                families,
            };
            subject.place(&table)
        };
        let all = [
            place("mx.test", 25, [true, true]),
            place("mx2.test", 25, [true, true]),
            place("mx.test", 26, [true, true]),
            place("mx.test", 25 << 8, [true, true]),
            place("mx.test", 25, [true, false]),
            place("mx.test", 25, [false, true]),
            place("192.0.2.1", 25, [true, true]),
            place("::1", 25, [true, true]),
            place("fe80::1%lo", 25, [true, true]),
            place("fe80::1%eth0", 25, [true, true]),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a.hash != b.hash), "{i}");
        }
        for (a, b) in [("MX.test.", "mx.TEST"), ("5:mx.test", "10:mx.test")] {
            let of = |text| place(text, 25, [true, true]);
            assert_eq!(of(a), of(b), "{a}");
        }
        Ok(())
    }
}
