//! Servers that are up are remembered as well, with `--cache-up-ttl`.

use super::{Cache, Crowd, Memory, SLOW, UP as UP_TAG, close, memory, quick, waiting};
use crate::harness::run::{Run, each, ms};
use crate::harness::smtp::{self, DOWN, Port, SILENT, UP, down_after, up_after};
use crate::harness::{dns, namespace};

/// A server at 127.0.0.2 that is remembered as up, and gone.
struct Gone {
    port: Port,
    cache: Cache,
}

impl Gone {
    fn new() -> Self {
        let (port, cache) = (Port::new(), Cache::new());
        let server = port.serve("127.0.0.2", UP);
        let check = cache.check(&port, "--cache-up-ttl=60 127.0.0.2");
        check.run().prints("127.0.0.2");
        assert!(cache.only_entry().is_newly_up());
        assert_eq!(server.count(), 1);
        // A process that is just being started has it open a moment longer.
        while std::net::TcpStream::connect(("127.0.0.2", port.number)).is_ok() {}
        Gone { port, cache }
    }

    fn check(&self, words: &str) -> Run {
        let check = self.cache.check(&self.port, words);
        let run = check.first("-v").arguments(["127.0.0.2"]).run();
        run.at_once();
        run
    }

    /// Checks the server, which is gone; that is quick to find out. Returns
    /// what was remembered; that, and only that, is the answer.
    #[track_caller]
    fn ask(&self, words: &str) -> Memory {
        let run = self.check(words);
        let memory = memory(&run);
        run.answers(match memory {
            Memory::None => "",
            _ => "127.0.0.2",
        });
        memory
    }
}

#[test]
fn a_server_that_greets_is_remembered_if_that_is_wanted() {
    let late = up_after(ms(1500));
    for (script, words, asked) in [
        (UP, "--cache-up-ttl=60", 1),
        (UP, "--cache-up-ttl=1m --cache-ttl=1", 1),
        // However long it takes, and whatever comes after that.
        (&late, "--cache-up-ttl=60", 1),
        (&[smtp::Send(b"220-")], "--cache-up-ttl=60", 1),
        (UP, "", 3),
        (UP, "--cache-up-ttl=0", 3),
        (UP, "--cache-up-ttl=60 --cache-up-ttl=0s", 3),
    ] {
        let (port, cache) = (Port::new(), Cache::new());
        let server = port.serve("127.0.0.2", script);
        for _ in 0..3 {
            let check = cache.check(&port, &format!("{words} 127.0.0.2"));
            check.run().prints("127.0.0.2");
        }
        let entries = cache.entries();
        if asked == 1 {
            assert!(entries.len() == 1 && entries[0].is_newly_up(), "{words}");
        } else {
            assert_eq!(entries, [], "{words}");
        }
        assert_eq!(server.count(), asked, "{words}");
    }
}

/// Whether what is so many seconds old is remembered under this option.
#[test]
fn up_counts_as_long_as_the_option_says() {
    let rows = [
        ("--cache-up-ttl=60", 0, true),
        ("--cache-up-ttl=60", 50, true),
        ("--cache-up-ttl=60", 62, false),
        ("--cache-up-ttl=100s", 90, true),
        ("--cache-up-ttl=2m --cache-ttl=1", 110, true),
        ("--cache-up-ttl=5 --cache-ttl=100", 7, false),
        ("--cache-up-ttl=49710d", 1_000_000_000, true),
        ("", 0, false),
        ("--cache-up-ttl=0", 0, false),
    ];
    each(&rows, |(words, age, remembered)| {
        let gone = Gone::new();
        gone.cache.age(*age);
        let found = gone.ask(words);
        let expected = match found {
            Memory::Up(found) => *remembered && (*age..age + 10).contains(&found),
            found => !remembered && found == Memory::None,
        };
        assert!(expected, "{words} {age}: {found:?}");
        // A server that is quickly down is forgotten, whatever was known.
        let entries = gone.cache.entries();
        assert_eq!(entries.len(), usize::from(*remembered), "{entries:?}");
    });
}

/// An entry from the future is none.
#[test]
fn up_from_the_future_is_no_entry() {
    for seconds in [30, 1_000_000] {
        let gone = Gone::new();
        gone.cache.change(|entry| entry.down += seconds);
        assert_eq!(gone.ask("--cache-up-ttl=60"), Memory::None);
    }
}

/// Up as long as the entry counts, then down.
#[test]
fn a_server_that_dies_is_up_no_longer_than_its_entry() {
    let gone = Gone::new();
    for _ in 0..3 {
        let found = gone.ask("--cache-up-ttl=60");
        assert!(matches!(found, Memory::Up(0..10)), "{found:?}");
    }
    gone.cache.age(60);
    for _ in 0..3 {
        assert_eq!(gone.ask("--cache-up-ttl=60"), Memory::None);
        assert_eq!(gone.cache.entries(), []);
    }
}

/// What a server was before, what it is now, and what is remembered then.
#[test]
fn up_and_down_displace_each_other() {
    let slow = down_after(SLOW);
    let rows: [(&str, &[smtp::Step], &str); 6] = [
        ("down", UP, "up"),
        ("down", DOWN, ""),
        ("up", &slow, "down"),
        ("up", SILENT, "down"),
        ("up", DOWN, ""),
        ("up", UP, "up"),
    ];
    each(&rows, |(before, script, after)| {
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.2");
        cache.change(|entry| entry.tag |= if *before == "up" { UP_TAG } else { 0 });
        cache.age(65);
        let expired = cache.bytes();
        let _server = port.serve("127.0.0.2", script);
        let check = || {
            cache.write(&expired, 0);
            let words = "--timeout=3 --cache-up-ttl=60 127.0.0.2";
            cache.check(&port, words).run()
        };
        let run = match *script == DOWN {
            true => quick(check),
            false => check(),
        };
        run.prints(if *script == UP { "127.0.0.2" } else { "" });
        let entries = cache.entries();
        match (&entries[..], *after) {
            ([], "") => {}
            ([entry], "up") => assert!(entry.is_newly_up(), "{entry:?}"),
            ([entry], "down") => assert!(entry.is_new(), "{entry:?}"),
            _ => panic!("{before}, {script:?}: {entries:?}"),
        }
    });
}

/// A server that is up has its entry of before erased where that is not
/// remembered, and one of up does not count.
#[test]
fn without_a_lifetime_up_only_erases() {
    for kind in [0, UP_TAG] {
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.2");
        cache.change(|entry| entry.tag |= kind);
        if kind == 0 {
            cache.age(65);
        }
        let server = port.serve("127.0.0.2", UP);
        let check = cache.check(&port, "127.0.0.2");
        check.run().prints("127.0.0.2").at_once();
        assert_eq!(cache.entries(), []);
        assert_eq!(server.count(), 1);
    }
}

/// One process asks when the entry expires; meanwhile the others go on taking
/// the server for up, but for no more than a timeout and a second.
#[test]
fn while_another_process_asks_an_expired_up_counts() {
    let words = "--cache-up-ttl=60 --timeout=20";
    for (asked, expected) in [(0, true), (15, true), (23, false), (220, true)] {
        let gone = Gone::new();
        let _lock = gone.cache.lock();
        gone.cache.age(1000);
        gone.cache.claim(asked);
        let found = gone.ask(words);
        assert_eq!(matches!(found, Memory::Asked(_)), expected, "{asked}");
    }
    // Nobody asks.
    let gone = Gone::new();
    gone.cache.age(1000);
    assert_eq!(gone.ask(words), Memory::None);
}

#[test]
fn one_of_many_processes_asks_again_whether_a_server_is_up() {
    let gone = Gone::new();
    let silent = gone.port.listen("127.0.0.2", 1024);
    for _ in 0..2 {
        gone.cache.change(|entry| entry.tag |= UP_TAG);
        gone.cache.age(70);
        let words = "--cache-up-ttl=60 --timeout=20 127.0.0.2";
        let asking = Crowd::new(&gone.cache, &gone.port, words, 1);
        let client = smtp::accept(&silent);
        assert!(gone.cache.only_entry().is_claimed());
        for _ in 0..3 {
            let found = gone.ask("--cache-up-ttl=60 --timeout=20");
            assert!(matches!(found, Memory::Asked(_)), "{found:?}");
        }
        assert_eq!(waiting(&silent), 0);
        // It is slow.
        std::thread::sleep(SLOW);
        drop(client);
        asking.finish(|_| {});
        assert!(gone.cache.only_entry().is_new());
    }
    close(vec![silent]);
}

/// A server that is remembered as up may still be the stop host, or a host of
/// which not all addresses are known.
#[test]
fn the_stop_rule_holds_for_what_is_remembered() {
    namespace::run(|| {
        let names = dns::serve(
            "mx.test A 127.0.0.2\nmx.test AAAA nodata\n\
             later.test A 127.0.0.3\nlater.test AAAA nodata\n\
             odd.test A 127.0.0.4 / servfail\nodd.test AAAA nodata\n",
        );
        namespace::resolver_timeout(1);
        let (port, cache) = (Port::smtp(), Cache::new());
        let hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
        let servers = hosts.map(|address| port.serve(address, UP));
        let run = |words: &str| {
            let check = cache.check(&port, words).first("--cache-up-ttl=1h");
            check.run()
        };
        for name in ["mx.test", "later.test", "odd.test"] {
            run(name).prints(name);
        }
        assert_eq!(cache.entries().len(), 3, "a slot is shared");
        assert_eq!(servers.map(smtp::Server::count), [1; 3]);
        let asked = || names.asked("mx.test A") + names.asked("mx.test AAAA");
        let rows = [
            ("mx.test", "mx.test", 0),
            ("--jobs=1 mx.test later.test", "mx.test", 0),
            ("later.test mx.test", "later.test", 0),
            ("--stop mx.test mx.test", "", 2),
            ("--stop mx.test later.test mx.test", "later.test", 2),
            // Here it may be the stop host. (Above only that is looked up.)
            ("--stop 127.0.0.2 mx.test", "", 1),
            ("--stop 127.0.0.9 mx.test", "mx.test", 1),
            ("--stop 127.0.0.2 mx.test later.test", "", 1),
            ("--jobs=1 --stop 127.0.0.9 mx.test later.test", "mx.test", 1),
            ("--stop 127.0.0.3 10:mx.test 10:later.test", "", 1),
            ("--stop 127.0.0.3 10:mx.test 20:later.test", "mx.test", 1),
            // The name server fails, so this may be the stop host.
            ("--stop 127.0.0.9 odd.test", "", 0),
            ("--stop 127.0.0.9 odd.test later.test", "later.test", 0),
        ];
        for (words, answer, lookups) in rows {
            let before = asked();
            let run = run(words);
            run.prints(answer).at_once();
            assert_eq!(asked() - before, lookups, "{run}");
        }
    });
}

/// With `--mx`, nobody is taken for up before a stop host is found.
#[test]
fn a_list_without_a_stop_host_is_none_whatever_is_remembered() {
    namespace::run(|| {
        let _names = dns::serve(
            "example.test MX 10:mx.test 20:me.test\n\
             mx.test A 127.0.0.2\nmx.test AAAA nodata\n\
             me.test A 127.0.0.9\nme.test AAAA nodata\n",
        );
        let (port, cache) = (Port::smtp(), Cache::new());
        let server = port.serve("127.0.0.2", UP);
        let run = |words: &str| {
            let check = cache.check(&port, words).first("--cache-up-ttl=1h");
            check.run()
        };
        let with_stop = "--mx example.test --stop 127.0.0.9";
        run(with_stop).prints("mx.test");
        assert!(cache.only_entry().is_newly_up());
        run(with_stop).prints("mx.test");
        run("--mx example.test").prints("mx.test");
        run("--mx example.test --stop 127.0.0.8").fails();
        run("--mx example.test --stop 127.0.0.2").prints("");
        assert_eq!(server.count(), 1);
    });
}
