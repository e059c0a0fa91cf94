//! What an entry changes, and whose it is.

use std::collections::BTreeSet;
use std::fs;

use super::{
    Cache, END, Entry, HEADER, Memory, Random, SET, SLOT, SLOW, good, memory, now, waiting,
};
use crate::harness::run::{Run, each, ms};
use crate::harness::smtp::{DOWN, Port, UP, up_after};
use crate::harness::{dns, namespace};

/// A host has one entry, however it is written.
#[test]
fn names_that_mean_the_same_share_an_entry() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.1\nmx.test AAAA nodata");
        let rows = [
            ["mx.test", "MX.Test."],
            ["10:mX.teSt.", "mx.test"],
            ["127.0.0.2", "10:127.0.0.2"],
            ["::1", "::1"],
            ["7:[::1]", "[::1]"],
            ["fe80::1%lo", "fe80::1%lo"],
        ];
        let port = Port::smtp();
        let _silent = ["127.0.0.2", "::1", "fe80::1%1"].map(|address| port.listen(address, 16));
        each(&rows, |[one, other]| {
            let cache = Cache::new();
            let words = format!("--timeout=1 {one}");
            cache.check(&port, &words).run().prints("").after(SLOW);
            let words = format!("-v --timeout=20 {other}");
            let run = cache.check(&port, &words).run();
            assert!(matches!(memory(&run), Memory::Down(_)), "{run}");
            assert!(cache.only_entry().is_new());
        });
    });
}

/// Another port is another server, and so are other addresses of a name.
#[test]
fn ports_families_and_hosts_have_entries_of_their_own() {
    let ports = [Port::new(), Port::new()];
    let servers = ports.each_ref().map(|port| port.listen("0.0.0.0", 16));
    let rows = [
        (0, "127.0.0.2", [1, 0]),
        (1, "127.0.0.2", [0, 1]),
        (0, "-4 127.0.0.2", [1, 0]),
        (0, "127.0.0.3", [1, 0]),
        (1, "127.0.0.3", [0, 1]),
    ];
    let check = |cache: &Cache, port: usize, words: &str| {
        let words = format!("--timeout=1 {words}");
        cache.check(&ports[port], &words).run().prints("");
        servers.each_ref().map(waiting)
    };
    let remembered = || {
        let cache = Cache::new();
        for (port, words, asked) in rows {
            assert_eq!(check(&cache, port, words), asked, "{words}");
        }
        cache
    };
    // Some may share a slot; then there is another file, with another key.
    let mut caches = std::iter::repeat_with(remembered).take(5);
    let cache = caches.find(|cache| cache.entries().len() == rows.len());
    for (port, words, _) in rows {
        assert_eq!(check(cache.as_ref().unwrap(), port, words), [0, 0]);
    }
}

/// One address of a name may be up and another down.
#[test]
fn families_have_entries_of_their_own() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA ::1");
        let (port, cache) = (Port::smtp(), Cache::new());
        // With this key they do not share a slot.
        fs::write(cache.path(), good()).unwrap();
        let servers = ["127.0.0.2", "::1"].map(|address| port.listen(address, 16));
        for (words, asked) in [
            ("-4 mx.test", [1, 0]),
            ("-4 mx.test", [0, 0]),
            ("-6 mx.test", [0, 1]),
            ("-6 mx.test", [0, 0]),
            ("mx.test", [1, 1]),
            ("mx.test", [0, 0]),
        ] {
            let words = format!("--timeout=1 {words}");
            let run = cache.check(&port, &words).run();
            run.prints("");
            assert_eq!(servers.each_ref().map(waiting), asked, "{run}");
        }
        assert_eq!(cache.entries().len(), 3);
    });
}

/// Only the stop rule may need the addresses of a remembered server.
#[test]
fn a_remembered_server_is_looked_up_only_for_the_stop_rule() {
    namespace::run(|| {
        let names = dns::serve(
            "mx.test A 192.0.2.200\nmx.test AAAA nodata\n\
             up.test A 127.0.0.2\nup.test AAAA nodata\n",
        );
        let (port, cache) = (Port::smtp(), Cache::new());
        let silent = port.listen("192.0.2.200", 16);
        let _up = port.serve("127.0.0.2", UP);
        let run = |words: &str| cache.check(&port, words).run();
        run("--timeout=1 mx.test").prints("").after(SLOW);
        assert_eq!(waiting(&silent), 1);
        let rows = [
            ("mx.test", "", 0),
            ("mx.test up.test", "up.test", 0),
            ("up.test mx.test", "up.test", 0),
            ("--jobs=1 mx.test up.test", "up.test", 0),
            ("--stop 192.0.2.200 mx.test", "", 0),
            ("--stop up.test mx.test up.test", "", 0),
            ("--stop 192.0.2.200 up.test mx.test", "up.test", 0),
            ("--stop 192.0.2.200 10:up.test 20:mx.test", "up.test", 0),
            // Here it may be the stop host.
            ("--stop 192.0.2.200 mx.test up.test", "", 1),
            ("--stop 192.0.2.201 mx.test up.test", "up.test", 1),
            ("--stop 192.0.2.200 10:up.test 10:mx.test", "", 1),
            ("--stop 192.0.2.201 10:up.test 10:mx.test", "up.test", 1),
            ("--jobs=1 --stop 192.0.2.200 mx.test up.test", "", 1),
        ];
        let asked = || names.asked("mx.test A") + names.asked("mx.test AAAA");
        for (words, answer, lookups) in rows {
            let before = asked();
            let run = run(&format!("--timeout=20 {words}"));
            run.prints(answer).at_once();
            assert_eq!(asked() - before, lookups, "{run}");
        }
        assert_eq!(waiting(&silent), 0);
    });
}

/// A check with a cache, new or of other servers, answers like one without.
#[test]
fn the_answer_is_the_same_as_without() {
    let (port, cache) = (Port::new(), Cache::new());
    let _servers = [
        port.serve("127.0.0.2", UP),
        port.serve("127.0.0.3", DOWN),
        port.serve("127.0.0.4", &up_after(ms(100))),
    ];
    let rows = [
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.4 127.0.0.2",
        "127.0.0.3 127.0.0.5 10:127.0.0.2 127.0.0.4",
        "--jobs=1 127.0.0.3 127.0.0.4",
        "127.0.0.2 127.0.0.2",
        "--stop 127.0.0.3 127.0.0.3 127.0.0.2",
        "--stop 127.0.0.3 10:127.0.0.3 5:127.0.0.2",
        "--stop 127.0.0.3 10:127.0.0.2 10:127.0.0.3",
        "--stop fe80::1%none 127.0.0.2",
        "-6 127.0.0.2",
        "10:.",
        "",
        "70000:mx",
    ];
    let test = |cache: &Cache| {
        each(&rows, |words| {
            let [with, without] = [cache.check(&port, words).run(), port.check(words).run()];
            let said = |run: &Run| (run.status, run.stdout.clone(), run.stderr.clone());
            assert_eq!(said(&with), said(&without), "{with}");
        });
    };
    test(&cache);
    cache.remember(&port, "127.0.0.6 127.0.0.7");
    test(&cache);

    let check = cache.check(&port, "--timeout=20 127.0.0.6 127.0.0.2 127.0.0.7");
    check.run().prints("127.0.0.2").at_once();
    let check = cache.check(&port, "--timeout=20 --jobs=1 127.0.0.7 127.0.0.6 127.0.0.4");
    check.run().prints("127.0.0.4").at_once();
}

/// Whatever is in the slots, a server that was not found down is asked, and
/// one that was is remembered; no other slot changes.
#[test]
fn garbage_in_the_slots_is_no_entry() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let down = now();
    let mut noise = vec![0; END - HEADER];
    random.fill(&mut noise);
    // Entries that are all fresh, each with its own tag or all with this one.
    let fresh = |tag: Option<u64>| {
        let mut table = noise.clone();
        for slot in table.chunks_exact_mut(SLOT) {
            let Entry {
                tag: own, asked, ..
            } = Entry::parse(slot);
            let tag = tag.unwrap_or(own | SET);
            slot.copy_from_slice(&Entry { tag, down, asked }.bytes());
        }
        table
    };
    let tables = [
        vec![0xff; END - HEADER],
        fresh(None),
        fresh(Some(0)),
        fresh(Some(SET)),
        noise.clone(),
    ];
    each(&tables, |table| {
        let (port, cache) = (Port::new(), Cache::new());
        let _up = port.serve("127.0.0.2", UP);
        let _silent = port.listen("127.0.0.3", 16);
        let rest = &good()[END..];
        fs::write(cache.path(), [&good()[..HEADER], table, rest].concat()).unwrap();
        let before = cache.bytes();
        let list: String = (1..=60).map(|n| format!("127.0.1.{n} ")).collect();
        let run = cache.check(&port, &format!("-v {list} 127.0.0.2")).run();
        run.answers("127.0.0.2").at_once();
        assert!(!run.stderr.contains("remembered"), "{run}");
        assert_eq!(run.stderr.matches("refused").count(), 60, "{run}");
        assert_eq!(cache.bytes(), before);

        let check = cache.check(&port, "--timeout=1 127.0.0.3");
        check.run().prints("").after(SLOW);
        let check = cache.check(&port, "-v --timeout=20 127.0.0.3");
        assert!(matches!(memory(&check.run()), Memory::Down(_)));
        let after = cache.bytes();
        let (old, new) = (before.chunks(SLOT), after.chunks(SLOT));
        let changed = old.zip(new).filter(|(old, new)| old != new);
        assert_eq!(changed.count(), 1);
    });
}

/// The file does not grow; servers that share a slot displace each other, and
/// a file's key decides which those are.
#[test]
fn many_servers_share_the_table() {
    let port = Port::new();
    let silent = port.listen("0.0.0.0", 1024);
    let list: String = (1..=250).map(|n| format!("127.0.2.{n} ")).collect();
    let caches = [Cache::new(), Cache::new()];
    let [one, other] = caches.each_ref().map(|cache| {
        let check = cache.check(&port, &format!("--timeout=1 {list}"));
        check.run().prints("");
        assert_eq!(waiting(&silent), 250);
        let entries = cache.entries();
        // Of 250 balls in 1024 urns, some 28 hit one that is not empty.
        assert!((200..250).contains(&entries.len()), "{}", entries.len());
        assert!(entries.iter().all(|entry| entry.is_new()));
        let run = cache.check(&port, &format!("-v --timeout=.5 {list}")).run();
        run.answers("");
        assert_eq!(run.stderr.matches("remembered").count(), entries.len());
        assert_eq!(waiting(&silent), 250 - entries.len());
        entries
            .iter()
            .map(|entry| entry.tag)
            .collect::<BTreeSet<_>>()
    });
    assert_eq!(one.intersection(&other).count(), 0);
}
