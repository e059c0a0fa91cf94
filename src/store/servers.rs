//! Servers that were found up or down. A server has one entry, of one kind or
//! the other.
//!
//! When an entry expires, one process asks the server again, and the others go
//! on taking it for what it was meanwhile. That process has the lock on the
//! slot, which ends with it: if it ends without an answer, the next one asks.
//! The slot says since when the server has been asked again; after one timeout
//! without an answer everybody asks, so that a process that sleeps, or any
//! number of processes that lose interest, cannot keep a server down that is
//! back, nor one up that is gone. After ten timeouts it begins anew, for by
//! then most of the time nobody has asked, and a crowd would wait at once.
//!
//! Where up is remembered, one process asks as well about a server of which
//! nothing is known. The others may wait for that a moment: so a crowd that
//! comes at once makes one connection.

use std::net::SocketAddr;
use std::time::Duration;

use super::Cache;
use super::table::{Place, SERVERS, Table};
use crate::server::{Host, Server};
use crate::sys::Errno;
use crate::sys::process::seconds;

/// The bytes of a slot: a tag, with [`UP`] if the server was found up, when it
/// was found up or down, and since when it has been asked again. Times are
/// seconds since 1970; zero, as in a new file, is never.
struct Slot {
    tag: u64,
    found: u32,
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
            found: u32::from_le_bytes([i, j, k, l]),
            asked_again: u32::from_le_bytes([m, n, o, p]),
        }
    }

    fn bytes(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.tag.to_le_bytes());
        bytes[8..ASKED_AGAIN].copy_from_slice(&self.found.to_le_bytes());
        bytes[ASKED_AGAIN..].copy_from_slice(&self.asked_again.to_le_bytes());
        bytes
    }
}

/// What is remembered of a server. Ages are in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// Nothing, and it is for this process to ask.
    Claimed,
    /// Nothing yet, but another process is asking.
    Awaited,
    /// It was found up or down this long ago.
    Remembered { is_up: bool, age: u32 },
    /// What is known is too old, and it is for this process to ask.
    Expired,
    /// What is known is too old, and another process has been asking again for
    /// this long.
    AskedElsewhere { is_up: bool, asked_for: u32 },
}

impl Entry {
    /// What the server counts as without being asked.
    pub fn up(self) -> Option<bool> {
        match self {
            Entry::Remembered { is_up, .. } | Entry::AskedElsewhere { is_up, .. } => Some(is_up),
            _ => None,
        }
    }

    /// Whether others leave it to this process to ask, until it says that it
    /// has done so.
    pub fn is_claim(self) -> bool {
        matches!(self, Entry::Claimed | Entry::Expired)
    }
}

/// What was found out about a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// What is not worth remembering.
    Transient,
}

/// What a slot says of an expired entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Expired {
    is_up: bool,
    /// For how long the server has been asked again, if it has.
    asked_for: Option<u32>,
}

/// For how many timeouts a server that was asked again without an answer is
/// asked by everybody, before one process does so for the others again.
const MAX_SERIES: u32 = 10;

/// For how long entries count, in whole seconds.
#[derive(Clone, Copy)]
pub struct Lifetimes {
    /// How long a server is remembered that was found down, and how long one
    /// that was found up. Zero: such entries are none.
    ttls: [u32; 2],
    /// How long another process may take to ask it again; `None`: as long as
    /// its entry counts.
    patience: Option<u32>,
}

impl Lifetimes {
    /// Those of entries that count for so many seconds, down and up, for
    /// processes that know more after `timeout`.
    pub fn new(ttls: [u32; 2], timeout: Option<Duration>) -> Self {
        let patience = timeout.map(|timeout| {
            let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
            // One more, for ages are told by whole seconds.
            u32::try_from(seconds + 1).unwrap_or(u32::MAX)
        });
        Lifetimes { ttls, patience }
    }

    fn ttl(self, is_up: bool) -> u32 {
        self.ttls[usize::from(is_up)]
    }

    /// Whether to ask about a server of which nothing is known is for one
    /// process.
    fn shares_first(self) -> bool {
        self.ttl(true) > 0
    }

    fn patience(self, is_up: bool) -> u32 {
        self.patience.unwrap_or(self.ttl(is_up))
    }

    /// What a slot says of the server with this tag. The error is that the
    /// entry has expired.
    fn judge(self, slot: &Slot, tag: u64, now: u32) -> Result<Entry, Expired> {
        let is_up = slot.tag & UP != 0;
        let ttl = self.ttl(is_up);
        let is_entry = slot.found > 0 && slot.tag & !UP == tag && ttl > 0;
        // An entry from the future is no entry.
        let age = now.checked_sub(slot.found);
        let Some(age) = age.filter(|_| is_entry) else {
            return Ok(Entry::Absent);
        };
        if age < ttl {
            return Ok(Entry::Remembered { is_up, age });
        }
        let asked_for = now.checked_sub(slot.asked_again);
        // What was asked before the entry expired was for an earlier one.
        let asked_for = asked_for.filter(|&asked_for| {
            asked_for <= age - ttl && asked_for / MAX_SERIES < self.patience(is_up)
        });
        Err(Expired { is_up, asked_for })
    }

    /// What to make of an expired entry while another process has the lock.
    fn judge_locked(self, Expired { is_up, asked_for }: Expired) -> Entry {
        // Without a time, it has only just locked it.
        let asked_for = asked_for.unwrap_or(0);
        match asked_for < self.patience(is_up) {
            true => Entry::AskedElsewhere { is_up, asked_for },
            false => Entry::Expired,
        }
    }
}

/// Set in the tag of a server that was found up.
const UP: u64 = 1 << 62;

/// What a server is recognised by in its slot, without [`UP`]. Never zero: an
/// empty slot is nobody's.
fn tag(place: Place) -> u64 {
    (place.hash | 1 << 63) & !UP
}

/// A server and how it is asked: all that can change whether it is up.
pub struct Subject<'a> {
    pub server: &'a Server,
    pub port: u16,
    pub families: [bool; 2],
    /// The addresses to connect from.
    pub sources: &'a [Option<SocketAddr>; 2],
}

impl Subject<'_> {
    fn place(&self, table: &Table) -> Place {
        let port = self.port.to_be_bytes();
        let families = self.families.map(u8::from);
        let mut sources = [0; 24];
        if let [Some(SocketAddr::V4(ipv4)), _] = self.sources {
            sources[..4].copy_from_slice(&ipv4.ip().octets());
        }
        if let [_, Some(SocketAddr::V6(ipv6))] = self.sources {
            sources[4..20].copy_from_slice(&ipv6.ip().octets());
            sources[20..].copy_from_slice(&ipv6.scope_id().to_be_bytes());
        }
        let host = match &self.server.host {
            Host::Name(name) => name.as_bytes(),
            // One address in two spellings is two servers here.
            _ => &self.server.text,
        };
        table.place(&SERVERS, &[&port, &families, &sources, host])
    }
}

impl Cache {
    /// What is remembered of a server. If it is for this process to ask, this
    /// claims it.
    pub fn look_up(&self, subject: &Subject) -> Entry {
        let Some(table) = &self.table else {
            return Entry::Absent;
        };
        let place = subject.place(table);
        let shares_first = self.lifetimes.shares_first();
        match self.judge(table, place) {
            Ok(Entry::Absent) if shares_first => {}
            Ok(entry) => return entry,
            Err(_) => {}
        }
        // From here on this process and others may want the same.
        let locked = table.try_lock(place);
        let expired = match self.judge(table, place) {
            Ok(Entry::Absent) if shares_first => {
                return match locked {
                    Ok(()) => Entry::Claimed,
                    Err(Errno(libc::EAGAIN)) => Entry::Awaited,
                    failed => {
                        self.note(failed);
                        Entry::Absent
                    }
                };
            }
            Ok(entry) => {
                if locked.is_ok() {
                    table.unlock(place);
                }
                return entry;
            }
            Err(expired) => expired,
        };
        if expired.asked_for.is_none() {
            // Whoever has the lock may have been stopped before writing the time.
            self.note(table.write(place, ASKED_AGAIN, &seconds().to_le_bytes()));
        }
        match locked {
            Ok(()) => Entry::Expired,
            Err(Errno(libc::EAGAIN)) => self.lifetimes.judge_locked(expired),
            failed => {
                self.note(failed);
                Entry::Expired
            }
        }
    }

    /// The time is read last: what another process has just written must not
    /// seem to come from the future.
    fn judge(&self, table: &Table, place: Place) -> Result<Entry, Expired> {
        let slot = Slot::read(table, place);
        self.lifetimes.judge(&slot, tag(place), seconds())
    }

    /// Remembers, or forgets, what was found out now about a server, and lets
    /// other processes ask if this one has claimed that.
    pub fn settle(&self, subject: &Subject, found: Found, is_claim: bool) {
        let Some(table) = &self.table else {
            return;
        };
        let place = subject.place(table);
        let own = tag(place);
        let tag = match found {
            Found::Nothing => None,
            Found::Up if self.lifetimes.ttl(true) > 0 => Some(own | UP),
            Found::Down => Some(own),
            Found::Up | Found::Transient => {
                (Slot::read(table, place).tag & !UP == own).then_some(0)
            }
        };
        if let Some(tag) = tag {
            let slot = Slot {
                tag,
                found: if tag > 0 { seconds() } else { 0 },
                asked_again: 0,
            };
            self.note(table.write(place, 0, &slot.bytes()));
        }
        if is_claim {
            table.unlock(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_timeout_and_a_second() {
        let table = [
            (Some(Duration::from_secs(10)), [11, 11]),
            (Some(Duration::from_millis(2500)), [4, 4]),
            (Some(Duration::from_nanos(1)), [2, 2]),
            (Some(Duration::from_secs(u32::MAX.into())), [u32::MAX; 2]),
            (None, [60, 5]),
        ];
        for (timeout, patience) in table {
            let lifetimes = Lifetimes::new([60, 5], timeout);
            assert_eq!([false, true].map(|up| lifetimes.patience(up)), patience);
        }
    }

    /// What a slot says of the server with tag 5, and what that means while
    /// another process has the lock.
    fn judge(lifetimes: Lifetimes, slot: &Slot, now: u32) -> Result<Entry, (Expired, Entry)> {
        let judged = lifetimes.judge(slot, 5, now);
        judged.map_err(|expired| (expired, lifetimes.judge_locked(expired)))
    }

    #[test]
    fn entries_of_every_age() {
        use Entry::Absent;
        let now = 1_800_000_000;
        let remembered = |age| Ok((true, age));
        let asked = |asked_for, locked| Err((asked_for, Some(locked)));
        let open = |asked_for| Err((asked_for, None));
        // Found, asked again. Either for how long it is remembered; or for how
        // long it has been asked again, and what another process is said to
        // have been asking for that has the lock.
        let table = [
            (now, 0, remembered(0)),
            (now - 1, 0, remembered(1)),
            (now - 59, 0, remembered(59)),
            (now - 60, 0, asked(None, 0)),
            (now - 70, 0, asked(None, 0)),
            (1, 0, asked(None, 0)),
            (now - 60, now, asked(Some(0), 0)),
            (now - 70, now, asked(Some(0), 0)),
            (now - 70, now - 10, asked(Some(10), 10)),
            (now - 90, now - 10, asked(Some(10), 10)),
            (now - 90, now - 11, open(Some(11))),
            (now - 90, now - 30, open(Some(30))),
            (now - 300, now - 109, open(Some(109))),
            (now - 300, now - 110, asked(None, 0)),
            // Asked for an earlier entry, or in the future.
            (now - 90, now - 31, asked(None, 0)),
            (now - 90, now + 1, asked(None, 0)),
            (now - 10, now, remembered(10)),
            // No entries.
            (0, 0, Ok((false, 0))),
            (now + 1, 0, Ok((false, 0))),
            (u32::MAX, 0, Ok((false, 0))),
        ];
        for is_up in [false, true] {
            let mut ttls = [7, 7];
            ttls[usize::from(is_up)] = 60;
            let lifetimes = Lifetimes {
                ttls,
                patience: Some(11),
            };
            for (found, asked_again, expected) in table {
                let tag = if is_up { 5 | UP } else { 5 };
                let slot = Slot {
                    tag,
                    found,
                    asked_again,
                };
                let expected = match expected {
                    Ok((true, age)) => Ok(Entry::Remembered { is_up, age }),
                    Ok((false, _)) => Ok(Absent),
                    Err((asked_for, locked)) => {
                        let locked = locked.map_or(Entry::Expired, |asked_for| {
                            Entry::AskedElsewhere { is_up, asked_for }
                        });
                        Err((Expired { is_up, asked_for }, locked))
                    }
                };
                let judged = judge(lifetimes, &slot, now);
                assert_eq!(judged, expected, "{is_up} {found} {asked_again}");
                // Of another server, or of nobody.
                for tag in [0, UP, 4, 4 | UP, 5 | 1 << 61, 5 | 1 << 63] {
                    let slot = Slot {
                        tag,
                        found,
                        asked_again,
                    };
                    assert_eq!(judge(lifetimes, &slot, now), Ok(Absent), "{tag:x} {found}");
                }
            }
        }
        // Before 1970 the clock stands still.
        let slot = Slot {
            tag: 5,
            found: 0,
            asked_again: 0,
        };
        let lifetimes = Lifetimes::new([60, 60], None);
        assert_eq!(judge(lifetimes, &slot, 0), Ok(Absent));
    }

    #[test]
    fn a_kind_of_no_lifetime_is_no_entry() {
        let now = 1_800_000_000;
        let lifetimes = Lifetimes::new([60, 0], Some(Duration::from_secs(10)));
        for age in [0, 1, 59, 60, 1000] {
            let slot = |tag| Slot {
                tag,
                found: now - age,
                asked_again: now,
            };
            let up = judge(lifetimes, &slot(5 | UP), now);
            assert_eq!(up, Ok(Entry::Absent), "{age}");
            let down = judge(lifetimes, &slot(5), now);
            assert_ne!(down, Ok(Entry::Absent), "{age}");
        }
    }

    #[test]
    fn tags_are_never_zero_and_have_room_for_the_kind() -> std::io::Result<()> {
        let table = Table::of_key([1, 2])?;
        for number in 0..64u8 {
            let place = table.place(&SERVERS, &[&[number]]);
            let tag = tag(place);
            assert!(tag & UP == 0 && tag >> 63 == 1, "{tag:x}");
            assert_eq!(tag | UP | 1 << 63, place.hash | UP | 1 << 63);
        }
        Ok(())
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
                sources: &[None; 2],
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

    #[test]
    fn places_depend_on_the_addresses_to_connect_from() -> std::io::Result<()> {
        let table = Table::of_key([1, 2])?;
        let server = &Server::parse(b"mx.test").expect("a server");
        let all = [
            ["", ""],
            ["192.0.2.1:0", ""],
            ["192.0.2.2:0", ""],
            ["", "[2001:db8::1]:0"],
            ["", "[2001:db8::2]:0"],
            ["192.0.2.1:0", "[2001:db8::1]:0"],
            ["192.0.2.1:0", "[2001:db8::2]:0"],
            ["", "[fe80::1%1]:0"],
            ["", "[fe80::1%2]:0"],
        ]
        .map(|sources| {
            let subject = Subject {
                server,
                port: 25,
                families: [true; 2],
                sources: &sources.map(|source| source.parse().ok()),
            };
            subject.place(&table).hash
        });
        for (i, hash) in all.iter().enumerate() {
            assert!(!all[..i].contains(hash), "{i}");
        }
        Ok(())
    }
}
