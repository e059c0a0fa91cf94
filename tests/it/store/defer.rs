//! Messages that were deferred are accepted after `--max-defer`.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::files::{NO_SPACE, TOO_LARGE, warning};
use super::{Cache, END, HEADER, Memory, Random, SIZE, good, memory, now};
use crate::harness::run::{Check, Run, SLACK, each, has, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Server, UP};
use crate::harness::{dns, namespace};

/// Where the table of messages begins.
const START: usize = 17 * 1024;
/// The bytes of a set.
const SET: usize = 1024;
/// The bytes of an entry.
const ENTRY: usize = 8;
const DAY: u32 = 24 * 60 * 60;

/// A message in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Message {
    /// When it was first deferred.
    first: u32,
    /// What it is recognised by; odd when it came again.
    tag: u32,
}

impl Message {
    fn parse(bytes: &[u8]) -> Self {
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (first, tag) = (half(0), half(4));
        Message { first, tag }
    }

    fn bytes(self) -> Vec<u8> {
        [self.first.to_le_bytes(), self.tag.to_le_bytes()].concat()
    }

    fn came_again(self) -> bool {
        self.tag & 1 != 0
    }
}

/// A better server at 127.0.0.2 that is up, and a cache.
struct Gate {
    port: Port,
    cache: Cache,
    better: Server,
}

impl Gate {
    fn new() -> Self {
        let (port, cache) = (Port::new(), Cache::new());
        fs::write(cache.path(), good()).unwrap();
        let better = port.serve("127.0.0.2", UP);
        Gate {
            port,
            cache,
            better,
        }
    }

    fn check(&self, key: &str, words: &str) -> Check {
        let check = self.cache.check(&self.port, words);
        check.arguments(["--key", key])
    }

    /// A message comes; `limit` is the time of `--max-defer`.
    fn comes(&self, key: &str, limit: &str) -> Run {
        let words = format!("--max-defer={limit} 127.0.0.2");
        self.check(key, &words).run()
    }

    #[track_caller]
    fn defers(&self, key: &str, limit: &str) {
        self.comes(key, limit).prints("127.0.0.2").at_once();
    }

    #[track_caller]
    fn accepts(&self, key: &str, limit: &str) {
        self.comes(key, limit).prints("").at_once();
    }

    /// Where the entries are in the file, and what they say.
    fn messages(&self) -> Vec<(usize, Message)> {
        let bytes = self.cache.bytes();
        let entries = bytes[START..].chunks_exact(ENTRY).enumerate();
        let entries = entries.map(|(i, bytes)| (START + i * ENTRY, Message::parse(bytes)));
        entries
            .filter(|(_, message)| message.bytes() != [0; ENTRY])
            .collect()
    }

    #[track_caller]
    fn only(&self) -> Message {
        let messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].1
    }

    /// Lets it be this long ago that each message was first deferred.
    fn age(&self, age: i64) {
        for (at, mut message) in self.messages() {
            message.first = u32::try_from(i64::from(now()) - age).unwrap();
            self.cache.write(&message.bytes(), at);
        }
    }

    /// How often the better server was asked.
    fn asked(self) -> usize {
        self.better.count()
    }
}

/// Deferred, deferred, accepted.
#[test]
fn a_message_is_accepted_when_it_has_been_deferred_long_enough() {
    for (limit, least) in [("1s", ms(0)), ("2", ms(1000))] {
        let gate = Gate::new();
        let began = Instant::now();
        gate.defers("a@a.test b@b.test", limit);
        let mut asked = 1;
        let accepted = loop {
            let run = gate.comes("a@a.test b@b.test", limit);
            if run.status == Some(0) {
                break run;
            }
            run.prints("127.0.0.2");
            asked += 1;
            assert!(began.elapsed() < Duration::from_secs(2) + SLACK);
            thread::sleep(ms(20));
        };
        accepted.prints("");
        // As the file has it, in whole seconds.
        assert!(accepted.ended - began > least, "{accepted}");
        assert!(asked > 1 || limit == "1s", "{limit}");
        // And from now on; nobody is asked for that.
        gate.accepts("a@a.test b@b.test", limit);
        assert_eq!(gate.asked(), asked);
    }
}

#[test]
fn how_long_is_enough() {
    let rows = [
        ("4h", 0, false),
        ("4h", 14_390, false),
        ("4h", 14_400, true),
        ("4h", 14_500, true),
        ("14400", 14_400, true),
        ("100s", 90, false),
        ("2m", 120, true),
        ("1d", 86_390, false),
        ("1d", 86_400, true),
        // For five days.
        ("1s", 431_980, true),
        ("1s", 432_000, false),
        ("4d", 10_000_000, false),
        // From the future.
        ("1s", -20, false),
        ("4h", -1_000_000, false),
    ];
    each(&rows, |(limit, age, accepted)| {
        let gate = Gate::new();
        gate.defers("key", limit);
        gate.age(*age);
        match accepted {
            true => gate.accepts("key", limit),
            false => gate.defers("key", limit),
        }
        assert_eq!(gate.asked(), if *accepted { 1 } else { 2 }, "{limit} {age}");
    });
}

/// An entry that does not count is replaced: the time begins anew.
#[test]
fn after_five_days_the_time_begins_anew() {
    for age in [i64::from(5 * DAY), i64::from(50 * DAY), -100] {
        let gate = Gate::new();
        gate.defers("key", "4h");
        // The others of its set do not count either, and are not so good.
        let (at, message) = gate.messages()[0];
        let set = START + (at - START) / SET * SET;
        assert_eq!(at, set, "the first one that is free");
        gate.age(age);
        gate.defers("key", "4h");
        let new = gate.only();
        assert!(now() - new.first < 60, "{new:?}");
        assert_eq!(new.tag, message.tag);
    }
}

#[test]
fn only_the_same_text_is_the_same_message() {
    let gate = Gate::new();
    gate.defers("a@a.test b@b.test", "4h");
    gate.age(20_000);
    let others = [
        "a@a.test b@b.tes",
        "a@a.test b@b.test ",
        "a@a.test b@B.test",
        "a@a.testb@b.test",
        "a@a.test",
        " ",
        "\u{e9}\n\x1b",
    ];
    for other in others {
        gate.defers(other, "4h");
    }
    gate.accepts("a@a.test b@b.test", "4h");
    assert_eq!(gate.messages().len(), 1 + others.len());
    // And the file is another one's.
    let other = Gate::new();
    other.defers("a@a.test b@b.test", "4h");
}

/// When it was first deferred is kept; only that it came again is new.
#[test]
fn coming_again_is_noted_once() {
    let gate = Gate::new();
    gate.defers("key", "4h");
    let first = gate.only();
    assert!(!first.came_again() && now() - first.first < 60);
    gate.age(100);
    let before = gate.only();
    gate.defers("key", "4h");
    let again = gate.only();
    assert_eq!(again.first, before.first);
    assert_eq!(again.tag, first.tag | 1);
    let bytes = gate.cache.bytes();
    gate.defers("key", "4h");
    assert_eq!(gate.cache.bytes(), bytes);
    // To be accepted changes nothing.
    gate.age(20_000);
    let bytes = gate.cache.bytes();
    gate.accepts("key", "4h");
    assert_eq!(gate.cache.bytes(), bytes);
    assert_eq!(bytes[..END], good()[..END]);
}

/// Only a message that is deferred is recorded.
#[test]
fn what_is_accepted_or_unknown_is_not_recorded() {
    let gate = Gate::new();
    let _servers = [
        gate.port.serve("127.0.0.3", DOWN),
        gate.port.serve("127.0.0.4", SILENT),
    ];
    for words in [
        "127.0.0.3",
        "--timeout=.2 127.0.0.4",
        "127.0.0.5",
        "--stop 127.0.0.2 127.0.0.2",
        "10:.",
    ] {
        let words = format!("--max-defer=4h {words}");
        gate.check("key", &words).run().prints("");
        assert_eq!(gate.messages(), [], "{words}");
    }
    let check = gate.check("key", "--max-defer=4h --stop fe80::1%none 127.0.0.2");
    check.run().fails();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let check = gate.check("key", "--max-defer=4h 127.0.0.2").stdout(full);
    check.run().fails();
    assert_eq!(gate.messages(), []);
}

/// Whether the server that is up was asked or is remembered.
#[test]
fn a_remembered_server_defers_as_well() {
    let gate = Gate::new();
    let words = "--cache-up-ttl=60 --max-defer=4h 127.0.0.2";
    for key in ["one", "two", "one"] {
        gate.check(key, words).run().prints("127.0.0.2");
    }
    assert_eq!(gate.messages().len(), 2);
    let run = gate.check("two", &format!("-v {words}")).run();
    assert!(matches!(memory(&run), Memory::Up(_)), "{run}");
    gate.age(14_400);
    gate.check("two", words).run().prints("");
    assert_eq!(gate.asked(), 1);
}

/// Nobody is asked about a message that is accepted anyway, not even a name
/// server.
#[test]
fn an_accepted_message_costs_no_question() {
    namespace::run(|| {
        let names = dns::serve(
            "example.test MX 10:mx.test 20:me.test\n\
             mx.test A 127.0.0.2\nmx.test AAAA nodata\n\
             me.test A 127.0.0.9\nme.test AAAA nodata",
        );
        let mut gate = Gate::new();
        gate.port = Port::smtp();
        let better = gate.port.serve("127.0.0.2", UP);
        let words = "--max-defer=4h --mx example.test --stop 127.0.0.9";
        let check = || gate.check("key", words).run();
        check().prints("mx.test");
        gate.age(14_400);
        let asked = || names.asked("example.test MX") + names.asked("mx.test A");
        let before = asked();
        check().prints("");
        assert_eq!(asked(), before);
        assert_eq!(better.count(), 1);
    });
}

#[test]
fn verbose_says_which_message_was_accepted_and_why() {
    let gate = Gate::new();
    let (key, words) = ("a@a.test\x1b b@b.test", "-v --max-defer=4h 127.0.0.2");
    let run = gate.check(key, words).run();
    run.answers("127.0.0.2");
    assert!(!run.stderr.contains("accept"), "{run}");
    gate.age(20_000);
    let run = gate.check(key, words).run();
    run.answers("");
    let time = run
        .stderr
        .strip_prefix("a@a.test\\x1b b@b.test  accept  first deferred ");
    let time = time.and_then(|time| time.strip_suffix(" s ago\n"));
    let age: u32 = time.and_then(|time| time.parse().ok()).expect(&run.stderr);
    assert!((20_000..20_010).contains(&age), "{run}");
}

/// A cache that cannot be used is a warning, and everything is deferred.
#[test]
fn without_a_usable_cache_the_check_runs_without() {
    let gate = Gate::new();
    gate.defers("key", "4h");
    gate.age(20_000);
    let mut second = gate.cache.bytes();
    second[11] = b'2';
    for (bytes, reason) in [
        (b"x".to_vec(), "not an smtpdcheck cache"),
        (
            second,
            "created by another version of smtpdcheck; remove it, and a new one will be created",
        ),
    ] {
        fs::write(gate.cache.path(), bytes).unwrap();
        for _ in 0..2 {
            let run = gate.comes("key", "4h");
            let expected = warning(&gate.cache.path(), reason);
            assert_eq!(run.answers("127.0.0.2").stderr, expected, "{run}");
        }
    }
}

/// Neither where the entry cannot be written.
#[test]
fn an_entry_that_cannot_be_written_is_a_warning() {
    if !has("prlimit", "an_entry_that_cannot_be_written_is_a_warning") {
        return;
    }
    let gate = Gate::new();
    let run = |limit: &str| {
        let check = gate.check("key", "--max-defer=4h 127.0.0.2");
        check.under(&["prlimit", limit]).run()
    };
    let too_large = warning(&gate.cache.path(), TOO_LARGE);
    let limited = run("--fsize=0");
    assert_eq!(limited.answers("127.0.0.2").stderr, too_large, "{limited}");
    // Where the file has given way to a connection, it is not written.
    let short = run("--nofile=4:4");
    let reason = warning(&gate.cache.path(), "too many open files");
    assert_eq!(short.answers("127.0.0.2").stderr, reason, "{short}");
    assert_eq!(gate.messages(), []);
    // What is there can be read.
    gate.defers("key", "4h");
    gate.age(14_400);
    run("--fsize=0").prints("");
    run("--nofile=4:4").prints("");
}

/// The file has the same size however many messages come, and all are found.
#[test]
fn many_messages_share_the_table() {
    let gate = Gate::new();
    let keys: Vec<_> = (0..200)
        .map(|n| format!("sender{n}@a.test b@b.test"))
        .collect();
    // One after another: of two that write to the same entry, one is forgotten.
    for key in &keys {
        gate.defers(key, "4h");
    }
    let messages = gate.messages();
    assert_eq!(messages.len(), 200);
    let sets = messages.iter().map(|(at, _)| (at - START) / SET);
    let sets: std::collections::BTreeSet<_> = sets.collect();
    // Of 200 balls in 239 urns, some 104 urns get one.
    assert!((120..160).contains(&sets.len()), "{}", sets.len());
    gate.age(14_400);
    each(&keys, |key| gate.accepts(key, "4h"));
    assert_eq!(gate.cache.bytes().len(), SIZE);
    assert_eq!(gate.cache.files(), ["cache"]);
}

/// In a set without room a new message displaces the oldest of those that came
/// once.
#[test]
fn what_came_again_is_not_displaced() {
    let gate = Gate::new();
    gate.defers("key", "4h");
    let (at, own) = gate.messages()[0];
    let set = START + (at - START) / SET * SET;
    let full = |again: u32| {
        let entries = (0..128).map(|i| Message {
            first: now() - 1000 - (i * 37) % 128,
            // Another one's.
            tag: own.tag ^ ((i + 1) << 8) | if i % 2 == again { 1 } else { 0 },
        });
        entries.collect::<Vec<_>>()
    };
    for again in [0, 1] {
        let before = full(again);
        let bytes: Vec<_> = before.iter().flat_map(|message| message.bytes()).collect();
        gate.cache.write(&bytes, set);
        gate.defers("key", "4h");
        let after = gate.cache.bytes();
        let after = after[set..set + SET]
            .chunks_exact(ENTRY)
            .map(Message::parse);
        let changed: Vec<_> = before
            .iter()
            .zip(after)
            .filter(|(old, new)| *old != new)
            .collect();
        let [(old, new)] = changed[..] else {
            panic!("{changed:?}");
        };
        assert_eq!(new.tag, own.tag);
        assert!(!old.came_again());
        let once = before.iter().filter(|message| !message.came_again());
        assert_eq!(once.map(|message| message.first).min(), Some(old.first));
        gate.cache.write(&good()[set..set + SET], set);
    }
}

/// Whatever the table holds, a message is deferred and found again.
#[test]
fn garbage_in_the_table_is_no_message() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut noise = vec![0; SIZE - START];
    random.fill(&mut noise);
    let rows = [vec![0xff; SIZE - START], noise.clone()];
    each(&rows, |table| {
        let gate = Gate::new();
        gate.cache.write(table, START);
        for _ in 0..2 {
            gate.defers("key", "4h");
        }
        let before = gate.cache.bytes();
        assert_eq!(before[..START], good()[..START]);
        let changed = before[START..].chunks(ENTRY).zip(table.chunks(ENTRY));
        let changed: Vec<_> = changed.filter(|(new, old)| new != old).collect();
        assert_eq!(changed.len(), 1);
        assert!(Message::parse(changed[0].0).came_again());
    });
}

/// Many processes at once: what one of them has recorded counts for all.
#[test]
fn processes_share_what_was_deferred() {
    let gate = Gate::new();
    let keys: Vec<_> = (0..40).map(|n| format!("key{}", n % 4)).collect();
    each(&keys, |key| gate.defers(key, "4h"));
    // Two that come at the same time may both be new.
    let messages = gate.messages();
    assert!((4..8).contains(&messages.len()), "{messages:?}");
    assert!(messages.iter().filter(|(_, m)| m.came_again()).count() >= 4);
    gate.age(14_400);
    each(&keys, |key| gate.accepts(key, "4h"));
}

/// There is nothing to be written where the disk is full.
#[test]
fn a_disk_without_room_for_an_entry() {
    namespace::run(|| {
        let mut gate = Gate::new();
        gate.port = Port::smtp();
        let _better = gate.port.serve("127.0.0.2", UP);
        gate.cache = Cache::in_folder(Path::new(namespace::FOLDER));
        let folder = gate.cache.folder.display().to_string();
        namespace::sh(&format!("mount -t tmpfs -o size=64k tmpfs {folder}"));
        // A file with holes, which there is no room to fill.
        fs::write(gate.cache.path(), &good()[..HEADER]).unwrap();
        let file = File::options().write(true).open(gate.cache.path()).unwrap();
        file.set_len(SIZE as u64).unwrap();
        let _ = fs::write(gate.cache.folder.join("filler"), vec![1; 64 * 1024]);
        let run = gate.comes("key", "4h");
        let expected = warning(&gate.cache.path(), NO_SPACE);
        assert_eq!(run.answers("127.0.0.2").stderr, expected, "{run}");
    });
}
