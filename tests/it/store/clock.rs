//! How long an entry counts, and how long a process may take that has claimed
//! it.

use std::fs;

use super::{Cache, Memory, SIZE, SLOT, SLOW, good, lock, memory, now};
use crate::harness::run::{Check, each, wait_until};
use crate::harness::smtp::Port;

/// A server that was remembered, and is asked only if its entry does not count
/// any more, or never did.
struct Remembered {
    port: Port,
    cache: Cache,
}

impl Remembered {
    fn new() -> Self {
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.2");
        Remembered { port, cache }
    }

    /// Checks the server. Nobody is there now, which is quick to find out, and
    /// erases the entry.
    #[track_caller]
    fn ask(&self, words: &str) -> Memory {
        let words = format!("-v {words} 127.0.0.2");
        let run = self.cache.check(&self.port, &words).run();
        run.answers("").at_once();
        let memory = memory(&run);
        let is_asked = memory == Memory::None;
        let entries = self.cache.entries();
        assert_eq!(entries.len(), usize::from(!is_asked), "{run}{entries:?}");
        memory
    }
}

/// Whether what is so many seconds old is remembered under this option.
#[test]
fn entries_count_as_long_as_the_option_says() {
    let rows = [
        ("", 0, true),
        ("", 50, true),
        ("", 62, false),
        ("--cache-ttl=100", 90, true),
        ("--cache-ttl 100", 102, false),
        ("--cache-ttl=1", 5, false),
        ("--cache-ttl=3 --cache-ttl=0100", 90, true),
        ("--cache-ttl=4294967295", 1_000_000_000, true),
        ("--cache-ttl=1000000", 1_000_100, false),
        ("--cache-ttl=100s", 90, true),
        ("--cache-ttl=100s", 102, false),
        ("--cache-ttl=2m", 110, true),
        ("--cache-ttl=2m", 122, false),
        ("--cache-ttl=2h", 7_190, true),
        ("--cache-ttl=2h", 7_202, false),
        ("--cache-ttl=3d", 259_000, true),
        ("--cache-ttl=3d", 259_202, false),
    ];
    each(&rows, |(option, age, remembered)| {
        let server = Remembered::new();
        server.cache.age(*age);
        let found = server.ask(&format!("--timeout=20 {option}"));
        let expected = match found {
            Memory::Down(found) => *remembered && (*age..age + 10).contains(&found),
            found => !remembered && found == Memory::None,
        };
        assert!(expected, "{option} {age}: {found:?}");
    });
}

#[test]
fn bad_values_of_the_options() {
    let rows = [
        "--cache-ttl=0 127.0.0.2",
        "--cache-ttl=-1 127.0.0.2",
        "--cache-ttl=1.5 127.0.0.2",
        "--cache-ttl= 127.0.0.2",
        "--cache-ttl=1w 127.0.0.2",
        "--cache-ttl=0d 127.0.0.2",
        "--cache-ttl=+5 127.0.0.2",
        "--cache-ttl=4294967296 127.0.0.2",
        "127.0.0.2 --cache-ttl",
        "127.0.0.2 --cache",
        "--cache= 127.0.0.2",
    ];
    let cache = Cache::new();
    each(&rows, |words| {
        // Even where no cache is used, and before any is made.
        Check::words(words).run().fails().at_once();
        let check = Check::words(words).first(&cache.option());
        check.run().fails().at_once();
    });
    assert_eq!(cache.files(), [""; 0]);
    // The option alone does nothing.
    Port::new()
        .check("--cache-ttl=5 127.0.0.2")
        .run()
        .prints("");
}

/// A time in the file: so long before the present, or an absolute one.
#[derive(Clone, Copy)]
enum At {
    Ago(i64),
    Time(u32),
}
use At::{Ago, Time};

/// No time.
const NEVER: At = Time(0);

impl At {
    fn time(self) -> u32 {
        match self {
            Ago(ago) => u32::try_from(i64::from(now()) - ago).unwrap(),
            Time(time) => time,
        }
    }
}

/// Compares ages, of which the found one may be a few seconds more.
#[track_caller]
fn assert_memory(found: Memory, expected: Memory) {
    let ok = match (found, expected) {
        (Memory::Down(found), Memory::Down(least)) => (least..least + 10).contains(&found),
        (Memory::Asked(found), Memory::Asked(least)) => (least..least + 10).contains(&found),
        (found, expected) => found == expected,
    };
    assert!(ok, "{found:?}, not {expected:?}");
}

/// The clock has moved on, or back, or the entry was never good. Since when it
/// was claimed does not matter where nobody has the lock.
#[test]
fn the_clock_moves() {
    let rows = [
        (Ago(0), NEVER, Memory::Down(0)),
        (Ago(30), NEVER, Memory::Down(30)),
        (Ago(62), NEVER, Memory::None),
        (Ago(100_000_000), NEVER, Memory::None),
        (Ago(-30), NEVER, Memory::None),
        (Ago(-100_000_000), NEVER, Memory::None),
        (Time(0), NEVER, Memory::None),
        (Time(1), NEVER, Memory::None),
        (Time(u32::MAX), NEVER, Memory::None),
        (Ago(30), Ago(0), Memory::Down(30)),
        (Ago(62), Ago(0), Memory::None),
        (Ago(80), Ago(10), Memory::None),
        (Ago(100_000_000), Ago(1000), Memory::None),
        (Ago(80), Ago(-30), Memory::None),
        (Ago(80), Time(1), Memory::None),
        (Ago(80), Time(u32::MAX), Memory::None),
        (Ago(-30), Ago(0), Memory::None),
    ];
    each(&rows, |(down, asked, expected)| {
        let server = Remembered::new();
        let (down, asked) = (down.time(), asked.time());
        server
            .cache
            .change(|entry| (entry.down, entry.asked) = (down, asked));
        let before = server.cache.bytes();
        assert_memory(server.ask("--timeout=20"), *expected);
        if *expected != Memory::None {
            assert_eq!(server.cache.bytes(), before);
        }
    });
}

/// The program's clock is not behind that of others: what was written just now
/// does not come from the future.
#[test]
fn an_entry_of_the_second_that_has_just_begun_counts() {
    let server = Remembered::new();
    let before = now();
    wait_until(|| now() != before);
    server.cache.age(0);
    let found = server.ask("--timeout=20");
    assert!(matches!(found, Memory::Down(0..10)), "{found:?}");
}

/// An entry from the future is overwritten with one of the present.
#[test]
fn a_clock_set_back_is_no_obstacle() {
    let port = Port::new();
    for seconds in [30, 1_000_000] {
        let cache = Cache::new();
        cache.remember(&port, "127.0.0.2");
        cache.change(|entry| entry.down += seconds);
        cache.remember(&port, "127.0.0.2");
        assert!(cache.only_entry().is_new());
    }
}

/// While another process has the lock, an entry that has expired still counts,
/// for a timeout and a second; nothing else needs the lock, and nobody waits
/// for it.
#[test]
fn while_another_process_asks() {
    // When the server was found down, and since when it has been asked again.
    let rows = [
        (Ago(0), NEVER, Memory::Down(0)),
        (Ago(62), NEVER, Memory::Asked(0)),
        (Ago(1000), NEVER, Memory::Asked(0)),
        (Ago(62), Ago(0), Memory::Asked(0)),
        (Ago(80), Ago(8), Memory::Asked(8)),
        (Ago(1000), Ago(10), Memory::Asked(10)),
        (Ago(1000), Ago(23), Memory::None),
        (Ago(1000), Ago(200), Memory::None),
        // After ten timeouts it begins anew.
        (Ago(1000), Ago(220), Memory::Asked(0)),
        // For an earlier entry, or in the future.
        (Ago(80), Ago(50), Memory::Asked(0)),
        (Ago(80), Time(1), Memory::Asked(0)),
        (Ago(80), Ago(-30), Memory::Asked(0)),
        (Ago(80), Time(u32::MAX), Memory::Asked(0)),
        (Ago(30), Ago(25), Memory::Down(30)),
        (Ago(-30), NEVER, Memory::None),
        (Time(0), Ago(0), Memory::None),
    ];
    each(&rows, |(down, asked, expected)| {
        let server = Remembered::new();
        let _lock = server.cache.lock();
        let (down, asked) = (down.time(), asked.time());
        server
            .cache
            .change(|entry| (entry.down, entry.asked) = (down, asked));
        let before = server.cache.only_entry();
        assert_memory(server.ask("--timeout=20"), *expected);
        match expected {
            // It was not known yet since when the server is asked.
            Memory::Asked(0) if asked > now() || asked + 10 < now() => {
                let after = server.cache.only_entry();
                assert!(after.is_claimed() && after.down == down, "{after:?}");
            }
            Memory::None => {}
            _ => assert_eq!(server.cache.only_entry(), before),
        }
    });
}

/// How long another process may take depends on the timeout.
#[test]
fn another_process_may_take_a_timeout_and_a_second() {
    let rows = [
        ("--timeout=100", 90, true),
        ("--timeout=100", 103, false),
        ("--timeout=.5", 4, false),
        ("--timeout=30.5", 20, true),
        ("--timeout=30.5", 34, false),
        // Without any, as long as an entry counts.
        ("--timeout=0", 50, true),
        ("--timeout=0", 63, false),
        ("--timeout=0 --cache-ttl=100", 90, true),
        ("", 3, true),
        ("", 13, false),
    ];
    each(&rows, |(option, asked, remembered)| {
        let server = Remembered::new();
        let _lock = server.cache.lock();
        server.cache.age(1000);
        server.cache.claim(*asked);
        let found = server.ask(option);
        let is_remembered = found != Memory::None;
        assert_eq!(is_remembered, *remembered, "{option} {asked}: {found:?}");
    });
}

/// The lock is one on the slot: the process that has another one does not
/// matter. And to remember a server takes no lock.
#[test]
fn only_the_lock_on_the_slot_matters() {
    let server = Remembered::new();
    server.cache.age(65);
    let before = server.cache.bytes();
    let slot = server.cache.offset();
    let path = server.cache.path();
    let _others = [
        lock(&path, 0, slot),
        lock(&path, slot + SLOT, SIZE - slot - SLOT),
    ];
    for _ in 0..2 {
        server.cache.write(&before, 0);
        assert_eq!(server.ask("--timeout=20"), Memory::None);
    }

    let (port, cache) = (Port::new(), Cache::new());
    fs::write(cache.path(), good()).unwrap();
    let _silent = port.listen("127.0.0.2", 16);
    let _lock = lock(&cache.path(), 0, SIZE);
    let check = cache.check(&port, "--timeout=1 127.0.0.2");
    check.run().prints("").after(SLOW);
    assert!(cache.only_entry().is_new());
}
