//! Messages that were deferred: when first, and whether they came again.
//!
//! A message has its place in a set of entries, which is read in one call. A
//! new one displaces the oldest of those that came once; so what strangers send
//! once does not wear out somebody who is waiting, unless it is so much that it
//! fills the set between two of his attempts. Nothing is locked: of two
//! processes that write to the same entry, one has written nothing.

use super::Cache;
use super::table::{Place, SENDERS, SET, Table};
use crate::sys::Errno;
use crate::sys::process::seconds;

/// For how long an entry counts, in seconds: five days, for as long as most
/// senders try (RFC 5321, section 4.5.4.1).
pub const LIFETIME: u32 = 5 * 24 * 60 * 60;

/// The bytes of an entry.
const ENTRY: usize = 8;
/// Set in the tag of a message that came again.
const AGAIN: u32 = 1;

/// A message: when it was first deferred, in seconds since 1970 (zero, as in a
/// new file, is never), and a tag to recognise it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    first: u32,
    tag: u32,
}

impl Entry {
    fn of(bytes: &[u8]) -> Self {
        let mut halves = bytes.chunks_exact(4).map(|half| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(half);
            u32::from_le_bytes(bytes)
        });
        Entry {
            first: halves.next().unwrap_or(0),
            tag: halves.next().unwrap_or(0),
        }
    }

    fn bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..4].copy_from_slice(&self.first.to_le_bytes());
        bytes[4..].copy_from_slice(&self.tag.to_le_bytes());
        bytes
    }

    /// How old it is; `None` if it does not count, as when it comes from the
    /// future.
    fn age(self, now: u32) -> Option<u32> {
        let age = now.checked_sub(self.first);
        age.filter(|&age| self.first > 0 && age < LIFETIME)
    }
}

/// The entry of the message with this tag in a set, and its number. The error
/// is the number of the one that a new entry displaces: one that does not
/// count, or else the oldest of those that came once, or else the oldest.
fn find(set: &[u8], tag: u32, now: u32) -> Result<(usize, Entry), usize> {
    let mut least = (u32::MAX, u32::MAX);
    let mut displaced = 0;
    for (i, bytes) in set.chunks_exact(ENTRY).enumerate() {
        let entry = Entry::of(bytes);
        let rank = match entry.age(now) {
            None => (0, 0),
            Some(_) if entry.tag & !AGAIN == tag => return Ok((i, entry)),
            Some(_) => (1 + (entry.tag & AGAIN), entry.first),
        };
        if rank < least {
            (least, displaced) = (rank, i);
        }
    }
    Err(displaced)
}

/// What to write, and to which entry, when a message with this tag is deferred
/// of which this was found.
fn change(found: Result<(usize, Entry), usize>, tag: u32, now: u32) -> Option<(usize, Entry)> {
    match found {
        Ok((_, entry)) if entry.tag & AGAIN != 0 => None,
        Ok((i, Entry { first, tag })) => {
            let tag = tag | AGAIN;
            Some((i, Entry { first, tag }))
        }
        Err(i) => Some((i, Entry { first: now, tag })),
    }
}

/// What is known of a message.
struct Known {
    place: Place,
    tag: u32,
    /// When that was.
    now: u32,
    /// See [`find`].
    found: Result<(usize, Entry), usize>,
}

impl Known {
    fn look_up(table: &Table, key: &[u8]) -> Self {
        let place = table.place(&SENDERS, &[key]);
        let tag = tag(place.hash);
        let mut set = [0; SET];
        table.read(place, &mut set);
        // The time is read last: see the servers.
        let now = seconds();
        let found = find(&set, tag, now);
        Known {
            place,
            tag,
            now,
            found,
        }
    }
}

fn tag(hash: u64) -> u32 {
    let [.., a, b, c, d] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) & !AGAIN
}

impl Cache {
    /// How many seconds ago a message was first deferred; `None` if that is not
    /// known.
    pub fn deferred_for(&self, key: &[u8]) -> Option<u32> {
        let known = Known::look_up(self.table.as_ref()?, key);
        let (_, entry) = known.found.ok()?;
        entry.age(known.now)
    }

    /// Records that a message is deferred now.
    pub fn record(&self, key: &[u8]) {
        let Some(table) = &self.table else {
            // The descriptor was needed for a server.
            return self.note(Err(Errno(libc::EMFILE)));
        };
        let known = Known::look_up(table, key);
        if let Some((i, entry)) = change(known.found, known.tag, known.now) {
            self.note(table.write(known.place, i * ENTRY, &entry.bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_800_000_000;

    /// A set of these entries: how old, and the tag.
    fn set(entries: &[(u32, u32)]) -> Vec<u8> {
        let bytes = |&(age, tag): &(u32, u32)| {
            let first = NOW.wrapping_sub(age);
            Entry { first, tag }.bytes()
        };
        entries.iter().flat_map(bytes).collect()
    }

    #[test]
    fn entries_are_read_as_they_are_written() {
        let bytes: [u8; ENTRY] = std::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
        let entry = Entry::of(&bytes);
        assert_eq!((entry.first, entry.tag), (0x0302_0100, 0x0706_0504));
        assert_eq!(entry.bytes(), bytes);
    }

    #[test]
    fn entries_count_for_five_days() {
        let rows = [
            (NOW, Some(0)),
            (NOW - 1, Some(1)),
            (NOW - 431_999, Some(431_999)),
            (NOW - 432_000, None),
            (1, None),
            (0, None),
            (NOW + 1, None),
            (u32::MAX, None),
        ];
        for (first, age) in rows {
            assert_eq!(Entry { first, tag: 2 }.age(NOW), age, "{first}");
        }
        // Before 1970 the clock stands still.
        assert_eq!(Entry { first: 0, tag: 2 }.age(0), None);
    }

    #[test]
    fn tags_leave_room_for_what_came_again() {
        assert_eq!(tag(0x8765_4321_ffff_ffff), 0x8765_4320);
        assert_eq!(tag(u64::MAX), !AGAIN);
        assert_eq!(tag(0xffff_ffff), 0);
    }

    #[test]
    fn a_message_is_found_by_its_tag_if_it_counts() {
        let entries = [(10, 6), (20, 8 | AGAIN), (LIFETIME, 10), (0, 12), (5, 10)];
        let set = set(&entries);
        let age_of = |tag| find(&set, tag, NOW).map(|(i, entry)| (i, entry.age(NOW)));
        assert_eq!(age_of(6), Ok((0, Some(10))));
        assert_eq!(age_of(8), Ok((1, Some(20))));
        // One that does not count does not hide another.
        assert_eq!(age_of(10), Ok((4, Some(5))));
        assert_eq!(age_of(12), Ok((3, Some(0))));
        assert_eq!(age_of(14), Err(2));
        // An empty entry is nobody's, whatever its tag.
        assert_eq!(find(&[0; SET], 0, NOW), Err(0));
    }

    #[test]
    fn the_entry_that_counts_least_is_displaced() {
        let rows: [(&[(u32, u32)], usize); 8] = [
            (&[(1, 2), (2, 4), (NOW, 0), (3, 6)], 2),
            (&[(1, 2), (9, 4), (LIFETIME, 6), (NOW, 0)], 2),
            (&[(1, 2), (9, 4), (LIFETIME, 6 | AGAIN)], 2),
            // It comes from the future.
            (&[(1, 2), (9, 4), (u32::MAX, 6)], 2),
            (&[(1, 2), (9, 4), (5, 6)], 1),
            (&[(7, 2 | AGAIN), (1, 4), (9, 6 | AGAIN), (2, 8)], 3),
            (&[(7, 2 | AGAIN), (LIFETIME - 1, 4 | AGAIN), (0, 6)], 2),
            (&[(7, 2 | AGAIN), (9, 4 | AGAIN), (8, 6 | AGAIN)], 1),
        ];
        for (entries, displaced) in rows {
            let entry = Entry {
                first: NOW,
                tag: 20,
            };
            let changed = change(find(&set(entries), 20, NOW), 20, NOW);
            assert_eq!(changed, Some((displaced, entry)), "{entries:?}");
        }
    }

    #[test]
    fn what_came_again_keeps_its_time() {
        let set = set(&[(10, 6), (20, 8 | AGAIN)]);
        let again = Entry {
            first: NOW - 10,
            tag: 6 | AGAIN,
        };
        let change = |tag| change(find(&set, tag, NOW), tag, NOW);
        assert_eq!(change(6), Some((0, again)));
        assert_eq!(change(8), None);
    }

    /// Numbers that look random; the same ones each time (Steele, Lea and
    /// Flood's splitmix).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, limit: u32) -> u32 {
            u32::try_from(self.next() % u64::from(limit)).unwrap_or(0)
        }
    }

    /// The table, without its file.
    struct Memory(Vec<[u8; SET]>);

    impl Memory {
        fn new() -> Self {
            Memory(vec![
                [0; SET];
                usize::try_from(SENDERS.slots()).expect("a few")
            ])
        }

        fn set(&mut self, hash: u64) -> &mut [u8; SET] {
            let count = self.0.len() as u64;
            &mut self.0[usize::try_from(hash % count).expect("a few")]
        }

        fn deferred_for(&mut self, hash: u64, now: u32) -> Option<u32> {
            let (_, entry) = find(self.set(hash), tag(hash), now).ok()?;
            entry.age(now)
        }

        fn record(&mut self, hash: u64, now: u32) {
            let set = self.set(hash);
            if let Some((i, entry)) = change(find(set, tag(hash), now), tag(hash), now) {
                set[i * ENTRY..][..ENTRY].copy_from_slice(&entry.bytes());
            }
        }
    }

    const MINUTE: u32 = 60;
    const HOUR: u32 = 60 * MINUTE;
    const MAX_DEFER: u32 = 4 * HOUR;

    /// When a sender tries, after the first time.
    fn retries() -> impl Iterator<Item = u32> {
        let hourly = (1..).map(|n| n * HOUR).take_while(|&time| time < LIFETIME);
        [0, 5, 15, 30].map(|n| n * MINUTE).into_iter().chain(hourly)
    }

    /// What becomes of a hundred senders that try until they are accepted,
    /// while a million others come once within so many hours: after how long
    /// each was accepted, if it was.
    fn flood(hours: u32, seed: u64) -> Vec<Option<u32>> {
        let mut random = Random(seed);
        let mut table = Memory::new();
        let mut once: Vec<_> = (0..1_000_000).map(|_| random.below(hours * HOUR)).collect();
        once.sort_unstable();
        let mut once = once.into_iter().peekable();
        let keys: Vec<_> = (0..100).map(|_| random.next()).collect();
        let mut attempts = Vec::new();
        for sender in 0..100 {
            let start = random.below(hours * HOUR);
            attempts.extend(retries().map(|after| (start + after, sender, after)));
        }
        attempts.sort_unstable();
        let mut accepted = vec![None; 100];
        for (time, sender, after) in attempts {
            while let Some(other) = once.next_if(|&other| other <= time) {
                let key = random.next();
                table.record(key, NOW + other);
            }
            if accepted[sender].is_none() {
                let (key, now) = (keys[sender], NOW + time);
                match table.deferred_for(key, now) {
                    Some(age) if age >= MAX_DEFER => accepted[sender] = Some(after),
                    _ => table.record(key, now),
                }
            }
        }
        accepted
    }

    /// A flood that fills the table between two attempts only postpones the
    /// time when a sender is first remembered.
    #[test]
    #[allow(clippy::print_stdout, reason = "the figures are worth seeing")]
    fn a_flood_does_not_wear_out_who_is_waiting() {
        for (hours, latest) in [(1, 5 * HOUR), (4, MAX_DEFER), (24, MAX_DEFER)] {
            let accepted = flood(hours, 1);
            let count = accepted.iter().flatten().count();
            let last = accepted
                .iter()
                .flatten()
                .max()
                .map_or(0, |last| last / MINUTE);
            let at_first = accepted.iter().filter(|&&time| time == Some(MAX_DEFER));
            let at_first = at_first.count();
            let found = format!(
                "in {hours} h: {count} accepted, {at_first} of them after 4 h, the last after {last} min"
            );
            println!("{found}");
            assert_eq!(count, 100, "{found}");
            assert!(last * MINUTE <= latest, "{found}");
        }
    }
}
