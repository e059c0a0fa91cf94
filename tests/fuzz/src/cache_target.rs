//! The cache: a file of any content under a clock that jumps, a lock that
//! others hold, and calls that fail; against the rule as it is told from the
//! bytes.

use std::fs::{self, File};
use std::hash::Hasher;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::random::Random;
use crate::server::{Host, Server};
use crate::store::servers::{Cache, Memory};
use crate::sys::{self, Errno, Named, OWN, PATH, Status, world};

const MAGIC: &[u8; 16] = b"smtpdcheck 1\r\n\x1a\0";
const HEADER: usize = 32;
const SIZE: usize = HEADER + 8 * 1024;
const TAKEN: u32 = 1 << 31;

const SERVERS: &[&str] = &[
    "mx.example",
    "MX.example.",
    "10:mx2.example",
    "192.0.2.1",
    "[2001:db8::1]",
];

/// What a check was told when it opened the cache.
struct Settings {
    lasts: u32,
    timeout: Option<Duration>,
}

pub fn one(random: &mut Random) {
    let start = *random.pick(&[0, 1, 100, 1_800_000_000, u32::MAX - 100, u32::MAX]);
    world(|world| {
        (world.now, world.lock, world.before_lock, world.failing) = (start, None, None, 0);
        for named in [world.cache.take(), world.new.take()].into_iter().flatten() {
            world.spare.push(named.file);
        }
        while world.spare.len() < 2 {
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
        lasts: *random.pick(&[1, 5, 60, u32::MAX]),
        timeout: *random.pick(&[
            None,
            Some(Duration::from_nanos(1)),
            Some(Duration::from_secs(10)),
            Some(Duration::from_millis(2_500)),
            Some(Duration::from_secs(u32::MAX.into())),
        ]),
    };
    if let Some(cache) = opened(random, &settings) {
        let mut expected = content();
        let mut troubled = false;
        for _ in 0..1 + random.below(4) {
            troubled |= use_it(random, &cache, &settings, &mut expected);
            assert_eq!(cache.trouble().is_some(), troubled);
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
fn any_file(random: &mut Random) -> Named {
    let file = world(|world| world.spare.pop()).expect("a spare file");
    let size = match random.below(64) {
        0 => 0,
        1 => SIZE - 1,
        2 => SIZE + 1,
        3 => random.below(HEADER + 1),
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
    file.write_all_at(&content, 0).expect("writable");
    file.set_len(size as u64).expect("a file of this size");
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

/// Opens the cache: it is one that may be trusted, or is made, or is as it
/// was.
fn opened(random: &mut Random, settings: &Settings) -> Option<Cache> {
    let seen = |named: &Option<Named>| named.as_ref().map(|it| (bytes(&it.file), it.status));
    let (before, new) = world(|world| (seen(&world.cache), seen(&world.new)));
    if random.once_in(8) {
        world(|world| world.failing = 1 + random.below(12) as u32);
    }
    if random.once_in(16) {
        world(|world| world.lock = Some(Errno(libc::EAGAIN)));
    }
    let undisturbed = world(|world| world.failing == 0 && world.lock.is_none());
    let cache = Cache::open(PATH, settings.lasts, settings.timeout);
    let (after, new_after) = world(|world| {
        (world.lock, world.failing) = (None, 0);
        (seen(&world.cache), seen(&world.new))
    });
    let is_open = matches!(cache, Ok(Some(_)));
    if let Some((content, status)) = &before {
        let after = after.expect("the cache");
        assert!(after.0 == *content, "changed in being opened");
        let good = content.len() == SIZE && content.starts_with(MAGIC) && is_trusted(status);
        assert!(
            !is_open || good,
            "opened: {status:?}, {} bytes",
            content.len()
        );
        assert!(is_open || !good || !undisturbed, "{cache:?}");
        return cache.ok().flatten();
    }
    // One that was begun is made anew, if it can only have been begun here.
    let may_make = new.as_ref().is_none_or(|(content, status)| {
        is_trusted(status)
            && status.owner == sys::USER
            && status.has_one_name
            && [0, SIZE].contains(&content.len())
    });
    if let Some((made, _)) = &after {
        assert!(may_make, "made of {new:?}");
        let header = [&MAGIC[..], &[sys::RANDOM; 16]].concat();
        assert!(made.starts_with(&header) && made[HEADER..] == [0; SIZE - HEADER]);
    }
    if !may_make {
        assert!(new_after.map(|(content, _)| content) == new.map(|(content, _)| content));
    }
    assert!(!is_open || after.is_some(), "opened and not there");
    assert!(is_open || !may_make || !undisturbed, "not made: {cache:?}");
    cache.ok().flatten()
}

fn is_trusted(status: &Status) -> bool {
    status.is_regular && !status.is_world_writable && [0, sys::USER].contains(&status.owner)
}

/// One call, what it returns, and what it leaves in the file. Whether it had
/// trouble.
fn use_it(random: &mut Random, cache: &Cache, settings: &Settings, expected: &mut [u8]) -> bool {
    let server = Server::parse(random.pick(SERVERS).as_bytes()).expect("a server");
    let port = *random.pick(&[25, 26]);
    let families = *random.pick(&[[true, true], [true, false]]);
    let place = cache.place(&server, port, families);
    let (slot, tag) = slot_of(expected, &server, port, families);

    // The clock moves, and somebody writes to this slot.
    let now = world(|world| {
        world.now = match random.below(4) {
            0 => world.now.wrapping_sub(random.below(100) as u32),
            1 => *random.pick(&[0, 1, 1_800_000_000, u32::MAX]),
            _ => world.now.saturating_add(random.below(100) as u32),
        };
        world.now
    });
    let mut any_entry = || {
        let time = match random.below(8) {
            0 => random.next() as u32,
            1 => 0,
            2 => now.saturating_add(1),
            _ => now.saturating_sub(random.below(150) as u32),
        };
        let tag = match random.below(8) {
            0 => random.next() as u32,
            1 => tag ^ 1 << random.below(32),
            number => tag | u32::from(number < 4) << 31,
        };
        entry_bytes(tag, time)
    };
    let (first, second) = (any_entry(), any_entry());
    if random.once_in(2) {
        expected[slot..slot + 8].copy_from_slice(&first);
        world(|world| {
            let file = &world.cache.as_ref().expect("the cache").file;
            file.write_all_at(&first, slot as u64).expect("writable");
        });
    }
    let lock = *random.pick(&[
        None,
        None,
        Some(Errno(libc::EAGAIN)),
        Some(Errno(libc::ENOLCK)),
    ]);
    let before_lock = random.once_in(4).then_some(second);
    world(|world| {
        world.lock = lock;
        world.before_lock = before_lock.map(|bytes| (bytes, slot as u64));
    });

    let mut troubled = false;
    match random.below(4) {
        0 => {
            cache.remember(place);
            expected[slot..slot + 8].copy_from_slice(&entry_bytes(tag, now));
        }
        1 => {
            cache.forget(place);
            if entry(expected, slot).0 & !TAKEN == tag {
                expected[slot..slot + 8].fill(0);
            }
        }
        _ => {
            let mut memory = judge(entry(expected, slot), tag, now, settings);
            if let Err(late) = memory {
                if let Some(bytes) = before_lock {
                    expected[slot..slot + 8].copy_from_slice(&bytes);
                }
                memory = match lock {
                    None => judge(entry(expected, slot), tag, now, settings),
                    Some(Errno(libc::EAGAIN)) if late < settings.grace() => Ok(Memory::Taken(0)),
                    _ => Ok(Memory::None),
                };
                troubled = lock == Some(Errno(libc::ENOLCK));
            }
            if memory.is_err() {
                expected[slot..slot + 8].copy_from_slice(&entry_bytes(tag | TAKEN, now));
            }
            assert_eq!(cache.recall(place), memory.unwrap_or(Memory::None));
        }
    }
    let mut after = [0; 8];
    world(|world| {
        (world.lock, world.before_lock) = (None, None);
        let file = &world.cache.as_ref().expect("the cache").file;
        file.read_exact_at(&mut after, slot as u64)
            .expect("readable");
    });
    assert_eq!(after, expected[slot..slot + 8]);
    troubled
}

/// What an entry says; or, as the error, how long ago it ran out.
fn judge((own, time): (u32, u32), tag: u32, now: u32, settings: &Settings) -> Result<Memory, u64> {
    if own & !TAKEN != tag || time == 0 || time > now {
        return Ok(Memory::None);
    }
    let age = now - time;
    let lasts = if own & TAKEN == 0 {
        settings.lasts.into()
    } else {
        settings.grace()
    };
    if u64::from(age) >= lasts {
        Err(u64::from(age) - lasts)
    } else if own & TAKEN == 0 {
        Ok(Memory::Down(age))
    } else {
        Ok(Memory::Taken(age))
    }
}

impl Settings {
    /// The timeout in seconds, rounded up, and one more.
    fn grace(&self) -> u64 {
        self.timeout.map_or(self.lasts.into(), |timeout| {
            (timeout.as_nanos().div_ceil(1_000_000_000) as u64 + 1).min(u32::MAX.into())
        })
    }
}

/// Where a server's slot begins, and its tag.
fn slot_of(content: &[u8], server: &Server, port: u16, families: [bool; 2]) -> (usize, u32) {
    let key = |at| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    let host = match &server.host {
        Host::Name(name) => name.as_bytes(),
        _ => &server.text,
    };
    let asked = [&port.to_be_bytes()[..], &families.map(u8::from), host].concat();
    #[allow(deprecated, reason = "the program's own")]
    let mut hash = std::hash::SipHasher::new_with_keys(key(MAGIC.len()), key(MAGIC.len() + 8));
    hash.write(&asked);
    let hash = hash.finish();
    (HEADER + 8 * (hash % 1024) as usize, (hash >> 33) as u32)
}

fn entry(content: &[u8], slot: usize) -> (u32, u32) {
    let word = |at| u32::from_le_bytes(content[at..at + 4].try_into().expect("four bytes"));
    (word(slot), word(slot + 4))
}

fn entry_bytes(tag: u32, time: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&tag.to_le_bytes());
    bytes[4..].copy_from_slice(&time.to_le_bytes());
    bytes
}
