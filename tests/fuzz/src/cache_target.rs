//! The cache: a file of any content under a clock that jumps, locks that
//! others hold, other processes that write in between, and calls that fail;
//! against the rule as it is told from the bytes.

use std::fs::{self, File};
use std::hash::Hasher;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::random::Random;
use crate::server::{Host, Server};
use crate::store::Cache;
use crate::store::servers::{Entry, Found, Subject};
use crate::store::table::Unusable;
use crate::sys::file::{OWN, Status};
use crate::sys::{self, Errno, Named, Other, PATH, world};

const MAGIC: &[u8; 16] = b"smtpdcheck 3\r\n\x1a\0";
const HEADER: usize = 32;
const SLOT: usize = 16;
const SIZE: usize = 256 * 1024;

const SERVERS: &[&str] = &[
    "mx.example",
    "MX.example.",
    "10:mx2.example",
    "192.0.2.1",
    "[2001:db8::1]",
];

/// Set in the tag of a server that was found up.
const UP: u64 = 1 << 62;

/// Where the sets of messages begin, and how many there are.
const SETS: usize = 17 * 1024;
const SET_COUNT: u64 = 239;
const SET: usize = 1024;
const ENTRY: usize = 8;

/// What a check was told when it opened the cache.
struct Settings {
    ttl: u32,
    up_ttl: u32,
    timeout: Option<Duration>,
}

/// The fields of a slot.
#[derive(Clone, Copy)]
struct Slot {
    tag: u64,
    down: u32,
    asked: u32,
}

pub fn one(random: &mut Random) {
    let start = *random.pick(&[0, 1, 100, 1_800_000_000, u32::MAX - 100, u32::MAX]);
    world(|world| {
        for named in [world.cache.take(), world.new.take()].into_iter().flatten() {
            world.spare.push(named.file);
        }
        *world = sys::World {
            spare: std::mem::take(&mut world.spare),
            now: start,
            ..sys::World::default()
        };
        while world.spare.len() < 3 {
            world.spare.push(nameless());
        }
    });
    if !random.once_in(8) {
        let named = any_file(random);
        world(|world| world.cache = Some(named));
    }
    if random.once_in(16) {
        let named = any_file(random);
        world(|world| world.new = Some(named));
    }
    let settings = Settings {
        ttl: *random.pick(&[1, 5, 60, u32::MAX]),
        up_ttl: *random.pick(&[0, 0, 1, 5, 60, u32::MAX]),
        timeout: *random.pick(&[
            None,
            Some(Duration::from_nanos(1)),
            Some(Duration::from_secs(10)),
            Some(Duration::from_millis(2_500)),
            Some(Duration::from_secs(u32::MAX.into())),
        ]),
    };
    let is_read_only = random.once_in(16);
    world(|world| world.is_read_only = is_read_only);
    if let Some(mut cache) = opened(random, &settings) {
        world(|world| world.own_locks.clear());
        let mut expected = content();
        let mut error = None;
        // To use a file is much quicker than to make one.
        for _ in 0..1 + random.below(100) {
            let new = match random.once_in(4) {
                true => use_messages(random, &cache, &mut expected),
                false => use_it(random, &cache, &settings, &mut expected),
            };
            error = error.or(new);
            assert_eq!(cache.error(), error);
        }
        if random.once_in(4) {
            assert!(cache.close());
            assert!(!cache.close());
            close_calls(random, &cache);
            assert_eq!(cache.error(), error);
            assert_eq!(cache.deferred_for(b"key"), None);
            cache.record(b"key");
            assert_eq!(cache.error(), error.or(Some(Errno(libc::EMFILE))));
        }
        assert!(
            content() == expected,
            "another slot, or the header, has changed"
        );
    }
}

/// A file that no one else can find, and nobody has to remove; in memory where
/// that has a folder, for the cache waits for the disk when it makes a file.
fn nameless() -> File {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let path = folder.join(format!("smtpdcheck-fuzz.{process}.{thread:?}"));
    let mut options = File::options();
    let new = options.read(true).write(true).create_new(true);
    let file = new.open(&path).expect("a new file");
    fs::remove_file(&path).expect("the new file's name");
    file
}

/// Most often a cache, or nearly one.
fn any_content(random: &mut Random) -> Vec<u8> {
    let size = match random.below(64) {
        0 => 0,
        1 => SIZE - 1,
        2 => SIZE + 1,
        3 => random.below(HEADER + 1),
        // The first two versions'.
        4 => 8224,
        5 => 16_416,
        _ => SIZE,
    };
    let mut content = vec![0; size];
    let mut header = [
        &MAGIC[..],
        &random.next().to_le_bytes(),
        &random.next().to_le_bytes(),
    ]
    .concat();
    if random.once_in(32) {
        header[random.below(HEADER)] ^= 1 << random.below(8);
    }
    let begun = header.len().min(size);
    content[..begun].copy_from_slice(&header[..begun]);
    if random.once_in(4) {
        for word in content[begun..].chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
    }
    content
}

fn any_file(random: &mut Random) -> Named {
    let file = world(|world| world.spare.pop()).expect("a spare file");
    let content = any_content(random);
    file.write_all_at(&content, 0).expect("writable");
    file.set_len(content.len() as u64)
        .expect("a file of this size");
    let mut status = OWN;
    match random.below(64) {
        0 => status.is_regular = false,
        1 => status.owner = 1001,
        2 => status.is_world_writable = true,
        3 => status.has_one_name = false,
        4..16 => status.owner = 0,
        _ => {}
    }
    Named { file, status }
}

/// What is in the cache's file.
fn content() -> Vec<u8> {
    world(|world| bytes(&world.cache.as_ref().expect("the cache").file))
}

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; SIZE + 2];
    let length = file.read_at(&mut bytes, 0).expect("readable");
    bytes.truncate(length);
    bytes
}

/// Opens the cache: it is one that can be trusted, or is made, or is as it
/// was.
fn opened(random: &mut Random, settings: &Settings) -> Option<Cache> {
    let seen = |named: &Option<Named>| named.as_ref().map(|it| (bytes(&it.file), it.status));
    let (before, new) = world(|world| (seen(&world.cache), seen(&world.new)));
    if random.once_in(8) {
        world(|world| world.failing = 1 + random.below(12) as u32);
    }
    if random.once_in(16) {
        world(|world| world.locked = 0..random.below(SIZE) as u64);
    }
    if random.once_in(16) {
        world(|world| world.lock_error = Some(Errno(libc::ENOLCK)));
    }
    // Another process that makes the file as well.
    let other = random.once_in(4).then(|| any_content(random));
    let is_begun = random.once_in(4);
    if let (None, Some(content)) = (&before, &other) {
        let other = match is_begun || random.once_in(2) {
            true => Other::Completes(content.clone(), is_begun),
            false => Other::Makes(content.clone()),
        };
        world(|world| world.before_lock = Some(other));
    }
    let (undisturbed, is_locked, is_read_only) = world(|world| {
        let has_no_lock = world.lock_error.is_some();
        (
            world.failing == 0 && !has_no_lock,
            !world.locked.is_empty(),
            world.is_read_only,
        )
    });
    let cache = Cache::open(PATH, [settings.ttl, settings.up_ttl], settings.timeout);
    let (after, new_after, interfered) = world(|world| {
        let interfered = before.is_none() && other.is_some() && world.before_lock.is_none();
        (world.lock_error, world.before_lock, world.failing) = (None, None, 0);
        world.locked = 0..0;
        (seen(&world.cache), seen(&world.new), interfered)
    });
    let found = cache.as_ref().map(drop).map_err(|why| *why);
    if let Some((content, status)) = &before {
        let after = after.expect("the cache");
        assert!(after.0 == *content, "changed in being opened");
        let expected = usable(content, status);
        assert!(
            found == expected || !undisturbed && found.is_err(),
            "{found:?}, not {expected:?}: {status:?}, {} bytes",
            content.len()
        );
        return cache.ok();
    }
    // One that was begun is made anew, if it can only have been begun here.
    let may_make = match &new {
        None => Ok(()),
        Some((content, status)) => trusted(status).and_then(|()| {
            let is_own = status.owner == sys::USER && status.has_one_name;
            match is_own && [0, SIZE].contains(&content.len()) {
                true => Ok(()),
                false => Err(Unusable::NotACache),
            }
        }),
    };
    if may_make.is_err() {
        let content = |named: &Option<(Vec<u8>, _)>| named.as_ref().map(|it| it.0.clone());
        assert!(content(&new_after) == content(&new));
    }
    assert!(found.is_err() || after.is_some(), "opened and not there");
    let expected = match (&other, may_make) {
        (_, Err(why)) => Err(why),
        // The lock comes after the other process is done.
        _ if is_locked => Err(Unusable::Busy),
        (Some(content), Ok(())) if interfered => {
            let (made, _) = after.as_ref().expect("the other process's");
            assert!(made == content, "another process's file has changed");
            assert!(
                !is_begun || new_after.is_some(),
                "another process's file is gone"
            );
            usable(content, &OWN)
        }
        _ if is_read_only => Err(Unusable::System(Errno(libc::EINVAL))),
        (_, Ok(())) => Ok(()),
    };
    if let (Some((made, _)), false) = (&after, interfered) {
        assert!(may_make.is_ok(), "made of {new:?}");
        let header = [&MAGIC[..], &[sys::RANDOM; 16]].concat();
        assert!(made.starts_with(&header) && made[HEADER..] == [0; SIZE - HEADER]);
    }
    assert!(
        found == expected || !undisturbed && found.is_err(),
        "{found:?}, not {expected:?}"
    );
    cache.ok()
}

/// Whether a file is a cache, or why not.
fn usable(content: &[u8], status: &Status) -> Result<(), Unusable> {
    trusted(status)?;
    let is_whole = content.len() >= HEADER;
    if !is_whole || &content[..11] != b"smtpdcheck " {
        return Err(Unusable::NotACache);
    }
    match (content.starts_with(MAGIC), content.len()) {
        (false, _) => Err(Unusable::OtherVersion),
        (true, SIZE) => Ok(()),
        (true, _) => Err(Unusable::NotACache),
    }
}

fn trusted(status: &Status) -> Result<(), Unusable> {
    match status {
        Status {
            is_regular: false, ..
        } => Err(Unusable::NotRegular),
        Status { owner, .. } if ![0, sys::USER].contains(owner) => Err(Unusable::OtherOwner),
        Status {
            is_world_writable: true,
            ..
        } => Err(Unusable::WorldWritable),
        _ => Ok(()),
    }
}

/// A server to ask about, in one of several ways.
fn any_subject(random: &mut Random) -> (Server, u16, [bool; 2]) {
    let server = Server::parse(random.pick(SERVERS).as_bytes()).expect("a server");
    let port = *random.pick(&[25, 26]);
    let families = *random.pick(&[[true, true], [true, false]]);
    (server, port, families)
}

/// Calls to a cache that is closed: nothing is known, nothing changes.
fn close_calls(random: &mut Random, cache: &Cache) {
    let (server, port, families) = any_subject(random);
    let subject = Subject {
        server: &server,
        port,
        families,
        sources: &[None; 2],
    };
    assert_eq!(cache.look_up(&subject), Entry::Absent);
    for found in [Found::Nothing, Found::Up, Found::Down, Found::Transient] {
        cache.settle(&subject, found, random.once_in(2));
    }
}

/// One call, what it returns, and what it leaves in the file and of locks.
/// Returns the error that it is to note.
fn use_it(
    random: &mut Random,
    cache: &Cache,
    settings: &Settings,
    expected: &mut [u8],
) -> Option<Errno> {
    let (server, port, families) = any_subject(random);
    let subject = Subject {
        server: &server,
        port,
        families,
        sources: &[None; 2],
    };
    let (at, tag) = slot_of(expected, &server, port, families);
    let place = at as u64..(at + SLOT) as u64;

    // The clock moves, and somebody writes to this slot.
    let now = world(|world| {
        world.now = match random.below(4) {
            0 => world.now.wrapping_sub(random.below(100) as u32),
            1 => *random.pick(&[0, 1, 1_800_000_000, u32::MAX]),
            _ => world.now.saturating_add(random.below(100) as u32),
        };
        world.now
    });
    let mut any_slot = || {
        let mut any_time = || match random.below(8) {
            0 => random.next() as u32,
            1 => 0,
            2 => now.saturating_add(1),
            3 => now,
            _ => now.saturating_sub(random.below(150) as u32),
        };
        let (down, asked) = (any_time(), any_time());
        let tag = match random.below(8) {
            0 => random.next(),
            1 => tag ^ 1 << random.below(64),
            2..5 => tag | UP,
            _ => tag,
        };
        Slot { tag, down, asked }.bytes()
    };
    let (first, second) = (any_slot(), any_slot());
    if random.once_in(2) {
        expected[at..at + SLOT].copy_from_slice(&first);
        world(|world| {
            let file = &world.cache.as_ref().expect("the cache").file;
            file.write_all_at(&first, at as u64).expect("writable");
        });
    }
    // Another process has the lock on this slot, or on those beside it, unless
    // this one has it already.
    let had = world(|world| world.own_locks.clone());
    let is_own = had.contains(&place);
    let locked = match random.below(4) {
        0 if !is_own => place.clone(),
        1 if had.is_empty() => 0..place.start,
        2 if had.is_empty() => place.end..SIZE as u64,
        _ => 0..0,
    };
    let lock_error = random.once_in(4).then_some(Errno(libc::ENOLCK));
    let before_lock = random.once_in(4).then_some(second);
    let is_read_only = world(|world| {
        world.locked = locked.clone();
        world.lock_error = lock_error;
        world.before_lock = before_lock.map(|bytes| Other::Writes(bytes.into(), at as u64));
        world.is_read_only
    });

    let mut error = None;
    let mut locks = had;
    let mut write = |expected: &mut [u8], from: usize, bytes: &[u8]| {
        if is_read_only {
            error = error.or(Some(Errno(libc::EBADF)));
        } else {
            expected[at + from..at + from + bytes.len()].copy_from_slice(bytes);
        }
    };
    let is_claim = random.once_in(2);
    let settle = |found, locks: &mut Vec<std::ops::Range<u64>>| {
        cache.settle(&subject, found, is_claim);
        if is_claim {
            locks.retain(|lock| *lock != place);
        }
    };
    match random.below(5) {
        0 => {
            let is_up = random.once_in(2);
            let found = if is_up { Found::Up } else { Found::Down };
            settle(found, &mut locks);
            let slot = Slot {
                tag: if is_up { tag | UP } else { tag },
                down: now,
                asked: 0,
            };
            if !is_up || settings.up_ttl > 0 {
                write(expected, 0, &slot.bytes());
            } else if [tag, tag | UP].contains(&Slot::read(expected, at).tag) {
                write(expected, 0, &[0; SLOT]);
            }
        }
        1 => {
            settle(Found::Transient, &mut locks);
            if [tag, tag | UP].contains(&Slot::read(expected, at).tag) {
                write(expected, 0, &[0; SLOT]);
            }
        }
        2 => {
            settle(Found::Nothing, &mut locks);
        }
        _ => {
            let found = cache.look_up(&subject);
            let mut entry = settings.judge(Slot::read(expected, at), tag, now);
            // What one process finds out for others too.
            let is_shared = |entry| match entry {
                Entry::Absent => settings.up_ttl > 0,
                entry => entry == Entry::Expired,
            };
            if is_shared(entry) {
                if let Some(bytes) = before_lock {
                    expected[at..at + SLOT].copy_from_slice(&bytes);
                }
                let slot = Slot::read(expected, at);
                entry = settings.judge(slot, tag, now);
                let has_lock = lock_error.is_none() && locked != place;
                if !is_shared(entry) {
                    if has_lock {
                        locks.retain(|lock| *lock != place);
                    }
                } else if entry == Entry::Absent {
                    if lock_error.is_some() {
                        error = error.or(lock_error);
                    } else if !has_lock {
                        entry = Entry::Awaited;
                    } else {
                        entry = Entry::Claimed;
                        if !locks.contains(&place) {
                            locks.push(place.clone());
                        }
                    }
                } else {
                    let is_up = slot.tag & UP != 0;
                    let asked_for = settings.asked_for(slot, now);
                    if asked_for.is_none() {
                        write(expected, 12, &now.to_le_bytes());
                    }
                    if lock_error.is_some() {
                        error = error.or(lock_error);
                    } else if has_lock && !locks.contains(&place) {
                        locks.push(place.clone());
                    } else if !has_lock
                        && u64::from(asked_for.unwrap_or(0)) < settings.patience(is_up)
                    {
                        let asked_for = asked_for.unwrap_or(0);
                        entry = Entry::AskedElsewhere { is_up, asked_for };
                    }
                }
            }
            assert_eq!(found, entry);
        }
    }
    let mut after = [0; SLOT];
    world(|world| {
        assert_eq!(world.own_locks, locks, "locks");
        (world.lock_error, world.before_lock) = (None, None);
        world.locked = 0..0;
        let file = &world.cache.as_ref().expect("the cache").file;
        file.read_exact_at(&mut after, at as u64).expect("readable");
    });
    assert_eq!(after, expected[at..at + SLOT]);
    error
}

/// Asks about a message, or records one, in a set of any content. Returns the
/// error that is to be noted.
fn use_messages(random: &mut Random, cache: &Cache, expected: &mut [u8]) -> Option<Errno> {
    let keys: [&[u8]; 4] = [b"key", b"KEY", b"a@b c@d", &[0xff; 300]];
    let key = *random.pick(&keys);
    let hash = hash(expected, key);
    let at = SETS + SET * (hash % SET_COUNT) as usize;
    let tag = (hash >> 32) as u32 & !1;
    let now = world(|world| {
        world.now = match random.below(4) {
            0 => *random.pick(&[0, 1, 432_000, 1_800_000_000, u32::MAX]),
            1 => world.now.wrapping_sub(random.below(100) as u32),
            _ => world.now.saturating_add(random.below(100_000) as u32),
        };
        world.now
    });
    // Few different times and tags: so that there are equal ones.
    let is_crowded = random.once_in(2);
    if random.once_in(2) {
        for entry in expected[at..at + SET].chunks_exact_mut(ENTRY) {
            let first = match random.below(8) {
                0 if !is_crowded => 0,
                1 if !is_crowded => random.next() as u32,
                2 if !is_crowded => now.wrapping_add(1),
                3 => now.wrapping_sub(431_998 + random.below(4) as u32 % 2),
                4 if !is_crowded => now.wrapping_sub(432_000),
                _ => now.wrapping_sub(random.below(200) as u32),
            };
            let other = match random.below(256) {
                0 => tag,
                1 => tag | 1,
                2 => tag ^ 2 << random.below(31),
                _ => random.next() as u32,
            };
            entry[..4].copy_from_slice(&first.to_le_bytes());
            entry[4..].copy_from_slice(&other.to_le_bytes());
        }
        let set = expected[at..at + SET].to_vec();
        world(|world| {
            let file = &world.cache.as_ref().expect("the cache").file;
            file.write_all_at(&set, at as u64).expect("writable");
        });
    }
    // The times and tags of what counts, by number.
    let half = |at| u32::from_le_bytes(expected[at..at + 4].try_into().expect("four bytes"));
    let entries = (0..SET / ENTRY).map(|i| (i, half(at + i * ENTRY), half(at + i * ENTRY + 4)));
    let is_live = |first: u32| first > 0 && first <= now && now - first < 432_000;
    let live: Vec<_> = entries.filter(|&(_, first, _)| is_live(first)).collect();
    let own = live.iter().find(|(_, _, other)| other | 1 == tag | 1);
    if random.once_in(2) {
        let found = cache.deferred_for(key);
        assert_eq!(found, own.map(|(_, first, _)| now - first));
        return None;
    }
    cache.record(key);
    let (i, first, tag) = match own {
        Some((_, _, other)) if other % 2 == 1 => return None,
        Some((i, first, other)) => (*i, *first, other | 1),
        None => {
            let free = (0..SET / ENTRY).find(|i| live.iter().all(|(other, ..)| other != i));
            let once = live.iter().filter(|(_, _, other)| other % 2 == 0);
            let oldest = once.min_by_key(|(_, first, _)| first);
            let oldest = oldest.or_else(|| live.iter().min_by_key(|(_, first, _)| first));
            let i = free.or(oldest.map(|(i, ..)| *i)).expect("an entry");
            (i, now, tag)
        }
    };
    if world(|world| world.is_read_only) {
        return Some(Errno(libc::EBADF));
    }
    let entry = [first.to_le_bytes(), tag.to_le_bytes()].concat();
    expected[at + i * ENTRY..][..ENTRY].copy_from_slice(&entry);
    None
}

impl Settings {
    /// What an entry says, as long as nobody else has its lock.
    fn judge(&self, slot: Slot, tag: u64, now: u32) -> Entry {
        let is_up = slot.tag == tag | UP;
        let is_entry = slot.tag == tag || is_up && self.up_ttl > 0;
        if !is_entry || slot.down == 0 || slot.down > now {
            return Entry::Absent;
        }
        match now - slot.down {
            age if age < self.ttl_of(is_up) => Entry::Remembered { is_up, age },
            _ => Entry::Expired,
        }
    }

    fn ttl_of(&self, is_up: bool) -> u32 {
        if is_up { self.up_ttl } else { self.ttl }
    }

    /// For how long the server of an expired entry has been asked again: since
    /// a time that is neither in the future nor before it expired, nor ten
    /// timeouts ago.
    fn asked_for(&self, slot: Slot, now: u32) -> Option<u32> {
        let is_up = slot.tag & UP != 0;
        let expired = u64::from(slot.down) + u64::from(self.ttl_of(is_up));
        let is_since = u64::from(slot.asked) >= expired && slot.asked <= now;
        let asked_for = is_since.then(|| now - slot.asked);
        asked_for.filter(|&asked_for| u64::from(asked_for) < 10 * self.patience(is_up))
    }

    /// How long another process may take, in seconds: the timeout, rounded up,
    /// and one more.
    fn patience(&self, is_up: bool) -> u64 {
        self.timeout.map_or(self.ttl_of(is_up).into(), |timeout| {
            (timeout.as_nanos().div_ceil(1_000_000_000) as u64 + 1).min(u32::MAX.into())
        })
    }
}

/// The hash of something under the key of the file.
fn hash(content: &[u8], bytes: &[u8]) -> u64 {
    let key = |at| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    #[allow(deprecated, reason = "the program's own")]
    let mut hash = std::hash::SipHasher::new_with_keys(key(MAGIC.len()), key(MAGIC.len() + 8));
    hash.write(bytes);
    hash.finish()
}

/// Where a server's slot begins, and its tag.
fn slot_of(content: &[u8], server: &Server, port: u16, families: [bool; 2]) -> (usize, u64) {
    let host = match &server.host {
        Host::Name(name) => name.as_bytes(),
        _ => &server.text,
    };
    let asked = [
        &port.to_be_bytes()[..],
        &families.map(u8::from),
        &[0; 24],
        host,
    ]
    .concat();
    let hash = hash(content, &asked);
    (
        HEADER + SLOT * (hash % 1024) as usize,
        (hash | 1 << 63) & !UP,
    )
}

impl Slot {
    fn read(content: &[u8], at: usize) -> Self {
        let half = |at| u32::from_le_bytes(content[at..at + 4].try_into().expect("four bytes"));
        Slot {
            tag: u64::from(half(at)) | u64::from(half(at + 4)) << 32,
            down: half(at + 8),
            asked: half(at + 12),
        }
    }

    fn bytes(self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.tag.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.down.to_le_bytes());
        bytes[12..].copy_from_slice(&self.asked.to_le_bytes());
        bytes
    }
}
