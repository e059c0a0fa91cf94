//! What is remembered, what is erased, and what changes nothing.

use std::fs;
use std::thread;
use std::time::Instant;

use super::{Cache, Entry, Memory, SLOW, memory, quick, signal, waiting};
use crate::harness::namespace::sh;
use crate::harness::run::{each, ms, wait_until};
use crate::harness::smtp::{Close, DOWN, Port, Reset, SILENT, Send, Step, Tcp, UP};
use crate::harness::smtp::{Wait, down_after, up_after};
use crate::harness::{dns, namespace};

#[test]
fn a_server_that_runs_out_of_time_is_remembered() {
    type Serve = fn(&Port) -> Box<dyn std::any::Any>;
    let rows: [(&str, Serve); 6] = [
        ("silent", |port| Box::new(port.serve("127.0.0.2", SILENT))),
        ("slow", |port| {
            Box::new(port.serve("127.0.0.2", &[Send(b"22")]))
        }),
        ("late", |port| {
            Box::new(port.serve("127.0.0.2", &up_after(ms(15_000))))
        }),
        ("never accepted", |port| {
            Box::new(port.listen("127.0.0.2", 16))
        }),
        ("never connected", |port| Box::new(port.full("127.0.0.2"))),
        ("slow to come to an end", |port| {
            Box::new(port.serve("127.0.0.2", &[Send(b"2"), Wait(ms(15_000)), Close]))
        }),
    ];
    each(&rows, |(name, serve)| {
        let (port, cache) = (Port::new(), Cache::new());
        let _server = serve(&port);
        let check = |words: &str| cache.check(&port, words).run();
        check("--timeout=1 127.0.0.2").prints("").after(SLOW);
        assert!(cache.only_entry().is_new(), "{name}");
        check("--timeout=20 127.0.0.2").prints("").at_once();
        let run = check("-v --timeout=20 127.0.0.2");
        assert!(matches!(memory(&run), Memory::Down(0..10)), "{name}: {run}");
    });
}

/// A server that was asked late had less than half of the timeout.
#[test]
fn a_server_that_was_asked_late_is_not_remembered() {
    namespace::run(|| {
        let zone = "late.test MX after 2500 10:mx.test\nnow.test MX 10:mx.test\n\
                    mx.test A 192.0.2.251\nmx.test AAAA nodata";
        let _names = dns::serve(zone);
        let _silent = Port::smtp().serve("192.0.2.251", SILENT);
        let cache = Cache::new();
        let check = |domain: &str| {
            let words = format!("--timeout=4 --mx {domain}");
            cache.check(&Port::smtp(), &words).run()
        };
        check("late.test").prints("").after(ms(4000));
        assert_eq!(cache.entries(), []);
        check("now.test").prints("").after(ms(4000));
        assert!(cache.only_entry().is_new());
    });
}

/// Whatever the reason.
#[test]
fn a_server_that_takes_a_second_to_prove_down_is_remembered() {
    let rows: [&[Step]; 6] = [
        &down_after(SLOW),
        &[Wait(SLOW), Send(b"421 busy\r\n")],
        &[Send(b"22"), Wait(SLOW), Close],
        &[Wait(SLOW), Close],
        &[Wait(SLOW), Reset],
        &[Send(b"2"), Wait(SLOW), Send(b"50 what\r\n")],
    ];
    each(&rows, |script| {
        let (port, cache) = (Port::new(), Cache::new());
        let server = port.serve("127.0.0.2", script);
        for _ in 0..2 {
            let run = cache.check(&port, "--timeout=20 127.0.0.2").run();
            run.prints("").after(SLOW);
            assert!(cache.only_entry().is_new(), "{script:?}");
            cache.age(65);
        }
        // Less than a second is not enough to know; the entry stays.
        let run = cache.check(&port, "--timeout=.5 127.0.0.2").run();
        run.prints("").after(ms(500));
        assert!(cache.only_entry().is_claimed(), "{script:?}");
        assert_eq!(server.count(), 3);
    });
}

/// What is cheap to ask again is not remembered, and an older entry of it is
/// erased.
#[test]
fn a_server_that_is_up_or_quickly_down_is_forgotten() {
    let late = up_after(ms(150));
    let slow = up_after(ms(1500));
    let rows: [(&str, Option<&[Step]>); 11] = [
        ("", None),
        ("", Some(DOWN)),
        ("", Some(&[Send(b"421 busy\r\n")])),
        ("", Some(&[Send(b"22"), Close])),
        ("", Some(&[Close])),
        ("", Some(&[Reset])),
        ("", Some(&[Send(b"HTTP/1.1 400\r\n\r\n")])),
        ("127.0.0.2", Some(UP)),
        ("127.0.0.2", Some(&late)),
        ("127.0.0.2", Some(&slow)),
        // Up is enough, whatever becomes of the rest of its greeting.
        ("127.0.0.2", Some(&[Send(b"220-")])),
    ];
    each(&rows, |(answer, script)| {
        let (port, old, new) = (Port::new(), Cache::new(), Cache::new());
        old.remember(&port, "127.0.0.2");
        old.age(65);
        let server = script.map(|script| port.serve("127.0.0.2", script));
        new.check(&port, "10:.").run().prints("");
        let mut count = 0;
        for cache in [&new, &old] {
            let before = cache.bytes();
            let mut check = || {
                cache.write(&before, 0);
                count += 1;
                let run = cache.check(&port, "--timeout=20 127.0.0.2").run();
                run.prints(answer);
                run
            };
            let run = match answer.is_empty() {
                true => quick(check),
                false => check(),
            };
            run.at_once();
            assert_eq!(cache.entries(), [], "{script:?}");
        }
        if let Some(server) = server {
            assert_eq!(server.count(), count, "{script:?}");
        }
    });
}

/// Less than a second is too little time to know that a server is slow, even
/// if this process wakes up late.
#[test]
fn a_timeout_below_a_second_changes_nothing() {
    let (port, old, new) = (Port::new(), Cache::new(), Cache::new());
    old.remember(&port, "127.0.0.2");
    old.age(65);
    let silent = port.listen("127.0.0.2", 16);
    for (timeout, wakes_late) in [(".2", false), (".999", false), (".9", true)] {
        for cache in [&new, &old] {
            let check = cache.check(&port, &format!("--timeout={timeout} 127.0.0.2"));
            let began = Instant::now();
            let run = check.run_while(|process| {
                if wakes_late {
                    Tcp::Established.wait(&silent);
                    signal("STOP", process);
                    thread::sleep(ms(1200).saturating_sub(began.elapsed()));
                    signal("CONT", process);
                }
            });
            run.prints("").after(ms(200));
        }
        assert_eq!(new.entries(), []);
        assert!(old.only_entry().is_claimed());
    }
    assert_eq!(waiting(&silent), 6);
}

/// A check that has its answer does not wait to see whether another server is
/// up.
#[test]
fn a_server_nobody_waited_for_is_not_remembered_and_not_forgotten() {
    let (port, new, old) = (Port::new(), Cache::new(), Cache::new());
    old.remember(&port, "127.0.0.3");
    old.age(65);
    let _up = port.serve("127.0.0.2", UP);
    let _silent = port.listen("127.0.0.3", 16);
    let words = "--timeout=20 127.0.0.2 127.0.0.3";
    new.check(&port, words).run().prints("127.0.0.2").at_once();
    assert_eq!(new.entries(), []);
    old.check(&port, words).run().prints("127.0.0.2").at_once();
    assert!(old.only_entry().is_claimed());
}

#[test]
fn servers_that_were_not_asked_are_not_remembered() {
    let cache = Cache::new();
    let port = Port::new();
    let rows = [
        "10:.",
        "bad;name",
        "-6 127.0.0.2",
        "-4 [::1]",
        "fe80::1%none",
        "--stop 127.0.0.2 127.0.0.2 127.0.0.3",
        "--stop 127.0.0.9 10:127.0.0.2 10:127.0.0.9",
    ];
    let silent = port.listen("0.0.0.0", 16);
    for words in rows {
        let run = cache.check(&port, words).first("--timeout=1").run();
        run.prints("").at_once();
        assert_eq!(cache.entries(), [], "{run}");
    }
    assert_eq!(waiting(&silent), 0);
}

/// What becomes of the entry of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Becomes {
    /// It is remembered from now on.
    New,
    /// It is erased, if there was one.
    Gone,
    /// An expired one is claimed, and stays.
    Left,
}

impl Becomes {
    fn of(entries: &[Entry]) -> Self {
        match entries {
            [entry] if entry.is_new() => Becomes::New,
            [entry] if entry.is_claimed() => Becomes::Left,
            [] => Becomes::Gone,
            others => panic!("{others:?}"),
        }
    }
}

/// The answers of the name server, IPv4 and IPv6, the timeout, and what comes
/// of them. 127.0.0.4 refuses connections.
const LOOKUPS: [(&str, &str, &str, Becomes); 24] = [
    ("silent", "silent", "1", Becomes::New),
    ("127.0.0.4", "silent", "1", Becomes::New),
    ("silent", "nodata", "1", Becomes::New),
    ("192.0.2.1", "nodata", "1", Becomes::New),
    ("nodata", "2001:db8::d:1", "1", Becomes::New),
    ("127.0.0.4 192.0.2.1", "nodata", "1", Becomes::New),
    ("192.0.2.1 192.0.2.65", "nodata", "1", Becomes::New),
    (
        "after 1100 servfail",
        "after 1100 servfail",
        "20",
        Becomes::New,
    ),
    ("after 1100 servfail", "nodata", "20", Becomes::New),
    ("127.0.0.4", "after 1100 servfail", "20", Becomes::New),
    ("after 1100 nxdomain", "nxdomain", "20", Becomes::New),
    ("after 1100 127.0.0.4", "nodata", "20", Becomes::New),
    ("127.0.0.4", "after 1100 nodata", "20", Becomes::New),
    ("silent", "silent", ".5", Becomes::Left),
    ("127.0.0.4", "silent", ".5", Becomes::Left),
    ("192.0.2.1", "nodata", ".5", Becomes::Left),
    ("nxdomain", "nxdomain", "20", Becomes::Gone),
    ("nodata", "nodata", "20", Becomes::Gone),
    ("127.0.0.4", "nodata", "20", Becomes::Gone),
    ("127.0.0.4", "2001:db8::e:1", "20", Becomes::Gone),
    ("192.0.2.65", "nodata", "20", Becomes::Gone),
    ("203.0.113.1", "nodata", "20", Becomes::Gone),
    ("192.0.2.65", "2001:db8::e:1", "20", Becomes::Gone),
    ("after 300 nxdomain", "nodata", "20", Becomes::Gone),
];

#[test]
fn lookups_and_routes_that_fail() {
    namespace::run(|| {
        let rows: Vec<_> = LOOKUPS.iter().enumerate().collect();
        // At first an old one swallows what is sent there.
        let lines = rows.iter().map(|(n, (ipv4, ipv6, ..))| {
            format!(
                "new{n}.test A {ipv4}\nnew{n}.test AAAA {ipv6}\n\
                 old{n}.test A 192.0.2.1 / {ipv4}\nold{n}.test AAAA nodata / {ipv6}\n"
            )
        });
        let zone: String = lines.collect();
        let _names = dns::serve(&zone);
        // musl waits for as long where a name server fails.
        namespace::resolver_timeout(2);
        let port = Port::smtp();
        each(&rows, |(n, (ipv4, ipv6, timeout, becomes))| {
            let (new, old) = (Cache::new(), Cache::new());
            let check = old.check(&port, &format!("--timeout=1 old{n}.test"));
            check.run().prints("").after(SLOW);
            old.age(65);
            new.check(&port, "10:.").run().prints("");
            for (name, cache) in [("new", new), ("old", old)] {
                let before = cache.bytes();
                let check = || {
                    cache.write(&before, 0);
                    let words = format!("--timeout={timeout} {name}{n}.test");
                    cache.check(&port, &words).run()
                };
                let run = match becomes {
                    Becomes::Gone => quick(check),
                    _ => check(),
                };
                run.prints("").at_once();
                let expected = match becomes {
                    // There is nothing to be left.
                    Becomes::Left if name == "new" => Becomes::Gone,
                    becomes => *becomes,
                };
                let found = Becomes::of(&cache.entries());
                assert_eq!(found, expected, "{ipv4}, {ipv6}: {run}");
            }
        });
    });
}

/// A dead host in the same network is unreachable once it has not answered ARP
/// for three seconds.
#[test]
fn a_neighbour_that_is_not_there_is_remembered() {
    namespace::run(|| {
        sh("ip link add lan type veth peer name other
            ip link set lan up
            ip link set other up
            ip address add 203.0.113.1/24 dev lan");
        let (port, cache) = (Port::smtp(), Cache::new());
        let check = || cache.check(&port, "-v --timeout=20 203.0.113.2").run();
        for _ in 0..2 {
            let run = check();
            run.answers("").after(SLOW);
            assert!(run.stderr.contains("  down  203.0.113.2: unreachable ("));
            assert!(cache.only_entry().is_new(), "{run}");
            let run = check();
            run.answers("").at_once();
            assert!(matches!(memory(&run), Memory::Down(_)), "{run}");
            cache.age(65);
        }
    });
}

/// Lookups that hang let others wait for a thread, and nothing is known of
/// these.
#[test]
fn servers_that_were_not_looked_up_are_not_remembered() {
    namespace::run(|| {
        let _names = dns::serve("* A silent\n* AAAA silent");
        let (port, cache) = (Port::smtp(), Cache::new());
        let list: String = (0..100).map(|n| format!("mx{n}.test ")).collect();
        let check = |words: &str| cache.check(&port, &format!("-v --timeout=1 {words}")).run();
        let run = check(&list);
        run.answers("").after(SLOW);
        let line = "\nmx99.test  down  not looked up in time\n";
        assert!(run.stderr.contains(line), "{run}");
        assert_eq!(memory(&check("mx99.test")), Memory::None, "{run}");
        // Of the first ones, which were asked for, one may have lost its slot.
        let mut first = ["mx0.test", "mx1.test", "mx2.test"].iter();
        let is_remembered = |name: &&str| memory(&check(name)) != Memory::None;
        assert!(first.any(is_remembered), "{run}");
    });
}

/// Nor of one whose lookup had to wait for a thread for most of the time.
#[test]
fn servers_that_were_looked_up_late_are_not_remembered() {
    namespace::run(|| {
        let _names = dns::serve(
            "* A after 1500 nxdomain
             * AAAA after 1500 nxdomain
             mx.test A 127.0.0.2
             mx.test AAAA nodata",
        );
        let (port, cache) = (Port::smtp(), Cache::new());
        let silent = port.listen("127.0.0.2", 16);
        let slow: String = (0..40).map(|n| format!("slow{n}.test ")).collect();
        let check = |words: &str| cache.check(&port, words).run();
        let run = check(&format!("--timeout=4 {slow} mx.test"));
        run.prints("").after(ms(4000));
        assert_eq!(waiting(&silent), 1, "{run}");
        // The first ones took as long to fail, but they did not wait.
        assert!(cache.entries().len() > 1, "{run}");
        let run = check("-v --timeout=1 mx.test");
        run.answers("").after(SLOW);
        assert_eq!(memory(&run), Memory::None, "{run}");
        let run = check("-v --timeout=1 mx.test");
        assert!(matches!(memory(&run), Memory::Down(_)), "{run}");
    });
}

/// The system's time is over before the program's: that took long as well.
#[test]
fn a_connection_that_the_system_gives_up_is_remembered() {
    namespace::run(|| {
        fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
        let (port, cache) = (Port::smtp(), Cache::new());
        let run = cache.check(&port, "--timeout=20 192.0.2.1").run();
        run.prints("").after(SLOW);
        assert!(cache.only_entry().is_new(), "{run}");
    });
}

/// A process that was stopped when its time was over may have missed
/// everything.
#[test]
fn a_process_that_slept_past_its_deadline_remembers_nothing() {
    namespace::run(|| {
        let names = dns::serve("* A silent\n* AAAA silent");
        let port = Port::smtp();
        let _silent = port.listen("0.0.0.0", 16);
        let at = |address: &str| format!("{address}:25").parse().unwrap();
        // An old server and a new one, and what is to be waited for before the
        // process is stopped.
        type Begun<'a> = Box<dyn Fn() + Sync + 'a>;
        let rows: [(&str, &str, Begun); 3] = [
            (
                "192.0.2.1",
                "192.0.2.2",
                Box::new(|| Tcp::SynSent.wait_for(at("192.0.2.2"))),
            ),
            (
                "127.0.0.2",
                "127.0.0.3",
                Box::new(|| Tcp::Established.wait_for(at("127.0.0.3"))),
            ),
            (
                "old.test",
                "new.test",
                Box::new(|| wait_until(|| names.asked("new.test A") > 0)),
            ),
        ];
        each(&rows, |(old, new, begun)| {
            let cache = Cache::new();
            let check = |words: &str| cache.check(&port, words);
            let run = check(&format!("--timeout=1 {old}")).run();
            run.prints("").after(SLOW);
            cache.age(65);
            let run = check(&format!("--timeout=3 {old} {new}")).run_while(|process| {
                begun();
                signal("STOP", process);
                thread::sleep(ms(4000));
                signal("CONT", process);
            });
            run.prints("").after(ms(4000));
            assert!(cache.only_entry().is_claimed(), "{run}");
        });
    });
}
