//! Which name is printed, and when: as soon as nothing can change it.

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Server, UP, Wait, down_after, up_after};
use crate::harness::{dns, namespace};

/// The servers of the table, and their addresses.
const SERVERS: [(&str, &str); 4] = [
    ("a", "127.0.0.2"),
    ("b", "127.0.0.3"),
    ("c", "127.0.0.4"),
    ("me", "127.0.0.9"),
];

/// Arguments, the servers that are up, the answer, and the servers that are
/// asked where all of them are given by address.
///
/// `me` is the stop host, and always up; a server that is not up greets with
/// 554. `a` takes its time: `b` answers sooner.
const TABLE: &[[&str; 4]] = &[
    ["a b", "b", "b", "a b"],
    ["a b", "a b", "a", "a b"],
    ["a b", "a", "a", "a b"],
    ["a b", "", "", "a b"],
    ["a", "a", "a", "a"],
    ["--stop me a me b", "b", "", "a"],
    ["--stop me a me b", "a b", "a", "a"],
    ["--stop me 10:a 10:me", "a", "", ""],
    ["--stop me 5:a 10:me", "a", "a", "a"],
    ["--stop me 5:a 10:me", "", "", "a"],
    ["--stop me 10:a 5:b 10:me", "a b", "b", "b"],
    ["--stop me 20:a 10:me", "a", "a", "a"],
    ["--stop me a 10:me", "a", "a", "a"],
    ["--stop me 10:a me", "a", "a", "a"],
    ["--stop me a me", "a", "a", "a"],
    ["--stop me 10:a 20:me 20:b 10:me", "a", "a", "a"],
    ["--stop me 10:a 20:me 5:b", "a b", "a", "a"],
    ["--stop me 10:a 20:me 5:b", "b", "", "a"],
    ["--stop me a b", "b", "b", "a b"],
    ["--stop me 20:a 10:b", "a b", "a", "a b"],
    ["--stop me me a b", "a b", "", ""],
    ["--stop me 10:me 5:a", "a", "", ""],
    ["--stop me 0:a 0:me", "a", "", ""],
    ["--stop me 10:a 20:b 20:c 20:me", "a b c", "a", "a"],
    ["--stop me 20:a 10:b 20:c 20:me", "a b c", "b", "b"],
    ["--stop me 20:a 20:b 20:c 20:me", "a b c", "", ""],
    ["--stop me --stop b a b c", "c", "", "a"],
    ["--stop b --stop me 10:a 20:b 10:me", "a", "a", "a"],
    ["--stop me --stop me a me b", "a", "a", "a"],
    // The address of b, in both readings of the table.
    ["--stop 127.0.0.3 10:a 10:b", "a b", "", ""],
    ["--stop 127.0.0.3 5:a 10:b", "a b", "a", "a"],
    // And that of nobody in the list.
    ["--stop 192.0.2.9 a b", "a b", "a", "a b"],
];

fn check_row(port: &Port, [arguments, up, answer, asked]: [&str; 4], by_name: bool) {
    let has = |list: &str, name: &str| list.split(' ').any(|word| word == name);
    let servers = SERVERS.map(|(name, address)| {
        let fate = if has(up, name) || name == "me" {
            UP
        } else {
            DOWN
        };
        let delay = Wait(ms(if name == "a" { 150 } else { 0 }));
        port.serve(address, &[delay, fate[0]])
    });
    let address = |word: &str| {
        let (name, address) = SERVERS.into_iter().find(|(name, _)| word == *name)?;
        Some(if by_name { name } else { address }.to_owned())
    };
    let translate = |word: &str| match word.split_once(':') {
        Some((priority, name)) => format!("{priority}:{}", address(name).unwrap()),
        None => address(word).unwrap_or(word.to_owned()),
    };
    let words: Vec<_> = arguments.split(' ').map(translate).collect();
    let run = port.check(&words.join(" ")).run();
    run.prints(&translate(answer)).at_once();
    for ((name, _), server) in SERVERS.into_iter().zip(servers) {
        let count = server.count();
        let expected = usize::from(has(asked, name));
        assert!(
            by_name || count == expected,
            "{run}{count} connections to {name}"
        );
    }
}

#[test]
fn the_table_by_address() {
    each(TABLE, |row| check_row(&Port::new(), *row, false));
}

#[test]
fn the_table_by_name() {
    namespace::run(|| {
        let _names = dns::serve("");
        let hosts = SERVERS.map(|(name, address)| format!("{address} {name}\n"));
        namespace::hosts(&hosts.concat());
        for row in TABLE {
            check_row(&Port::smtp(), *row, true);
        }
    });
}

/// Three servers of these kinds, at 127.0.0.2 to 4.
fn three(port: &Port, kinds: [&str; 3]) -> [Server; 3] {
    let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    std::array::from_fn(|i| match kinds[i] {
        "up" => port.serve(addresses[i], UP),
        "up later" => port.serve(addresses[i], &up_after(ms(2000))),
        "down" => port.serve(addresses[i], DOWN),
        "down later" => port.serve(addresses[i], &down_after(ms(2000))),
        "silent" => port.serve(addresses[i], SILENT),
        other => panic!("{other}"),
    })
}

/// Servers in the order of the list, seconds of timeout, the answer, and
/// milliseconds until it is given.
#[test]
fn the_answer_is_given_the_moment_it_is_known() {
    let rows = [
        (["up", "silent", "silent"], "20", "127.0.0.2", 0),
        (["up later", "up", "silent"], "20", "127.0.0.2", 2000),
        (["up later", "up later", "silent"], "20", "127.0.0.2", 2000),
        (["down", "up", "silent"], "20", "127.0.0.3", 0),
        (["down later", "up", "silent"], "20", "127.0.0.3", 2000),
        (
            ["down later", "up later", "silent"],
            "20",
            "127.0.0.3",
            2000,
        ),
        (["down later", "down", "up"], "20", "127.0.0.4", 2000),
        (["down later", "down later", "down later"], "20", "", 2000),
        (["down", "down", "up later"], "20", "127.0.0.4", 2000),
        (["silent", "up", "up"], "1.5", "127.0.0.3", 1500),
        (["silent", "silent", "up"], "1.5", "127.0.0.4", 1500),
        (["silent", "silent", "silent"], "1.5", "", 1500),
        (["up later", "silent", "up"], "0.5", "127.0.0.4", 500),
    ];
    each(&rows, |(kinds, timeout, answer, after)| {
        let port = Port::new();
        let _servers = three(&port, *kinds);
        let words = format!("--timeout {timeout} 127.0.0.2 127.0.0.3 127.0.0.4");
        port.check(&words).run().prints(answer).after(ms(*after));
    });
}

/// What stands behind the first stop host can change nothing, and what has its
/// priority nothing but by being the first stop host itself.
#[test]
fn what_can_change_nothing_is_not_begun() {
    namespace::run(|| {
        let names = dns::serve(
            "up.test A 127.0.0.2
             up.test AAAA nodata
             same.test A 127.0.0.3
             same.test AAAA nodata
             hangs.test A silent
             hangs.test AAAA silent",
        );
        let port = Port::smtp();
        let _up = port.serve("127.0.0.2", UP);
        let same = port.serve("127.0.0.3", UP);
        let rows = [
            ("--stop 127.0.0.9 up.test 127.0.0.9 hangs.test", "up.test"),
            ("--stop 127.0.0.9 10:hangs.test 10:127.0.0.9", ""),
            ("--stop 127.0.0.9 127.0.0.9 hangs.test", ""),
            ("--stop 127.0.0.9 10:. 127.0.0.9 hangs.test", ""),
            (
                "--stop 127.0.0.9 10:same.test 5:127.0.0.2 10:127.0.0.9",
                "127.0.0.2",
            ),
        ];
        each(&rows, |(words, answer)| {
            let check = Check::words(words).first("--timeout=20");
            check.run().prints(answer).at_once();
        });
        let hangs = |question: &String| question.starts_with("hangs");
        assert!(
            !names.questions().iter().any(hangs),
            "{:?}",
            names.questions()
        );
        assert_eq!(
            same.count(),
            0,
            "connections to a server that is no candidate"
        );
    });
}

/// The same for lookups that are behind others in the line for a thread.
#[test]
fn what_can_change_nothing_any_more_is_not_looked_up() {
    namespace::run(|| {
        let names = dns::serve("* A after 1000 nxdomain\n* AAAA after 1000 nxdomain");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let list = |name: &str| {
            (0..60)
                .map(|n| format!("{name}{n}.test "))
                .collect::<String>()
        };
        let (before, behind) = (list("before"), list("behind"));
        let check = Check::words(&format!("--timeout=20 {before} 127.0.0.2 {behind}"));
        check.run().prints("127.0.0.2").after(ms(2000));
        let asked = names.questions();
        assert!(
            asked.iter().all(|question| question.starts_with("before")),
            "{asked:?}"
        );
    });
}

/// A later server of the same priority may prove to be the stop host: until
/// its lookup says that it is not, nothing before it is the answer.
#[test]
fn a_later_lookup_is_waited_for_where_it_matters() {
    namespace::run(|| {
        let _names = dns::serve(
            "other.test A after 1000 127.0.0.3
             other.test AAAA nodata
             me.test A after 1000 127.0.0.9
             me.test AAAA nodata
             none.test A after 1000 nxdomain
             none.test AAAA nxdomain
             hangs.test A silent
             hangs.test AAAA silent
             half.test A 127.0.0.3
             half.test AAAA silent
             half6.test A silent
             half6.test AAAA 2001:db8::a:3",
        );
        let port = Port::smtp();
        let _up = port.serve("127.0.0.2", UP);
        let _stop = port.serve("127.0.0.9", UP);
        let _other = port.serve("127.0.0.3", DOWN);
        let rows = [
            (
                "--stop 127.0.0.9 10:127.0.0.2 10:other.test",
                "127.0.0.2",
                1000,
            ),
            ("--stop 127.0.0.9 10:127.0.0.2 10:me.test", "", 1000),
            (
                "--stop 127.0.0.9 10:127.0.0.2 10:none.test",
                "127.0.0.2",
                1000,
            ),
            (
                "--stop 127.0.0.9 --timeout 2 10:127.0.0.2 10:hangs.test",
                "127.0.0.2",
                2000,
            ),
            // Another priority, or none, can stop only what comes later.
            (
                "--stop 127.0.0.9 10:127.0.0.2 20:hangs.test",
                "127.0.0.2",
                0,
            ),
            ("--stop 127.0.0.9 127.0.0.2 hangs.test", "127.0.0.2", 0),
            ("--stop 127.0.0.9 10:127.0.0.2 hangs.test", "127.0.0.2", 0),
            // Nor does a lookup matter behind one that is the stop host.
            (
                "--stop 127.0.0.9 10:127.0.0.2 20:127.0.0.9 10:hangs.test",
                "127.0.0.2",
                0,
            ),
            // An IPv6 lookup cannot yield an IPv4 address.
            ("--stop 127.0.0.9 10:127.0.0.2 10:half.test", "127.0.0.2", 0),
            (
                "--stop ::ffff:127.0.0.9 10:127.0.0.2 10:half.test",
                "127.0.0.2",
                0,
            ),
            (
                "--stop 2001:db8::a:9 10:127.0.0.2 10:half6.test",
                "127.0.0.2",
                0,
            ),
            // Without a stop host there is nothing to prove.
            ("10:127.0.0.2 10:hangs.test", "127.0.0.2", 0),
        ];
        each(&rows, |(words, answer, after)| {
            let check = Check::words(words).first("--timeout=20");
            check.run().prints(answer).after(ms(*after));
        });
    });
}

/// A server of which nothing but its addresses can matter any more is not
/// connected to any more.
#[test]
fn only_addresses_are_still_wanted() {
    namespace::run(|| {
        let hosts: Vec<_> = (3..=11).map(|n| format!("127.0.0.{n}")).collect();
        let _names = dns::serve(&format!(
            "maybe.test A {}\nmaybe.test AAAA after 2500 2001:db8::a:8",
            hosts.join(" ")
        ));
        let port = Port::smtp();
        let _up = port.serve("127.0.0.2", &up_after(ms(1000)));
        // The last one would have its turn after two seconds.
        let mut silent: Vec<_> = hosts.iter().map(|a| port.serve(a, SILENT)).collect();
        let words = "--timeout=20 --stop 2001:db8::a:9 10:127.0.0.2 10:maybe.test";
        Check::words(words)
            .run()
            .prints("127.0.0.2")
            .after(ms(2500));
        assert_eq!(silent.pop().unwrap().count(), 0);
        assert_eq!(silent.remove(0).count(), 1);
    });
}

#[test]
fn a_server_given_twice_is_asked_once() {
    let lists = [
        "127.0.0.2 127.0.0.2",
        "10:127.0.0.2 20:127.0.0.2 127.0.0.2",
        "10:127.0.0.2 20:[::ffff:127.0.0.2]",
        "--jobs 1 127.0.0.2 127.0.0.2",
    ];
    each(&lists, |list| {
        let first = list.split(' ').find(|word| word.contains('.')).unwrap();
        let first = first.rsplit(':').next().unwrap();
        for (script, answer) in [(DOWN, ""), (UP, first)] {
            let port = Port::new();
            let server = port.serve("127.0.0.2", script);
            let run = port.check(list).run();
            run.prints(answer).at_once();
            assert_eq!(server.count(), 1, "{run}");
        }
    });
}

#[test]
fn a_name_given_twice_is_asked_once() {
    namespace::run(|| {
        let names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let port = Port::smtp();
        let server = port.serve("127.0.0.2", DOWN);
        Check::words("mx.test 10:mx.test MX.test mx.test.")
            .run()
            .prints("");
        assert_eq!(server.count(), 1);
        assert_eq!(names.asked("mx.test A"), 1);

        let _server = port.serve("127.0.0.2", UP);
        Check::words("MX.test. mx.test").run().prints("MX.test.");
    });
}

/// Stop hosts by address, of each family and in each spelling.
#[test]
fn stop_addresses_compare_by_value() {
    let rows = [
        ("--stop 127.0.0.3 10:127.0.0.2 10:127.0.0.3", ""),
        ("--stop ::ffff:127.0.0.3 10:127.0.0.2 10:127.0.0.3", ""),
        ("--stop [::ffff:127.0.0.3] 10:127.0.0.2 10:127.0.0.3", ""),
        ("--stop ::ffff:7f00:3 10:127.0.0.2 10:127.0.0.3", ""),
        ("--stop 127.0.0.3 10:127.0.0.2 10:[::ffff:127.0.0.3]", ""),
        ("--stop ::1 10:127.0.0.2 10:[::1]", ""),
        ("--stop [::1] 10:127.0.0.2 10:[::1]", ""),
        ("--stop [0:0:0:0:0:0:0:1] 10:127.0.0.2 10:[::1]", ""),
        ("--stop 2001:DB8::9 10:127.0.0.2 10:[2001:db8:0:0::9]", ""),
        ("--stop ::1 127.0.0.3 ::1 127.0.0.2", ""),
        ("--stop fe80::1%lo 10:127.0.0.2 10:[fe80::1%lo]", ""),
        ("--stop [fe80::1%lo] 10:127.0.0.2 10:[fe80::1%1]", ""),
        ("--stop fe80::1%lo 10:127.0.0.2 10:[fe80::1%2]", "127.0.0.2"),
        ("--stop fe80::1%lo 10:127.0.0.2 10:[fe80::1]", "127.0.0.2"),
        ("--stop ::2 127.0.0.3 [::1] 127.0.0.2", "127.0.0.2"),
        ("--stop ::127.0.0.3 10:127.0.0.2 10:127.0.0.3", "127.0.0.2"),
        ("--stop 127.0.0.30 10:127.0.0.2 10:127.0.0.3", "127.0.0.2"),
        (
            "--stop=127.0.0.3 --stop=127.0.0.4 10:127.0.0.2 10:127.0.0.4",
            "",
        ),
    ];
    let port = Port::new();
    let _server = port.serve("127.0.0.2", UP);
    each(&rows, |(words, answer)| {
        port.check(words).run().prints(answer).at_once();
    });
}

#[test]
fn stop_names_compare_by_name_and_by_address() {
    namespace::run(|| {
        // The name's address is never the same twice: only by its name is it
        // the stop host again.
        let turns: Vec<_> = (10..250).map(|n| format!("127.0.1.{n}")).collect();
        let _names = dns::serve(&format!(
            "me.test A {}
             me.test AAAA nodata
             many.test A 127.0.0.7 127.0.0.8 127.0.0.9
             many.test AAAA 2001:db8::a:9
             alias.test A 127.0.0.8
             alias.test AAAA nodata
             alias6.test A 127.0.0.200
             alias6.test AAAA 2001:db8::a:9
             one.test A 127.0.0.201
             one.test AAAA nodata
             six.test A nodata
             six.test AAAA 2001:db8::a:9",
            turns.join(" / ")
        ));
        let _server = Port::smtp().serve("127.0.0.2", UP);
        let rows = [
            // By name.
            ("--stop me.test", "me.test", ""),
            ("--stop me.test", "ME.Test", ""),
            ("--stop ME.TEST", "me.test", ""),
            ("--stop me.test.", "me.test", ""),
            ("--stop me.test", "me.test.", ""),
            ("--stop Me.Test.", "mE.tEST", ""),
            ("--stop one.test --stop me.test", "me.test", ""),
            ("--stop me.test", "one.test", "127.0.0.2"),
            // By one of the server's addresses.
            ("--stop 127.0.0.9", "many.test", ""),
            ("--stop 127.0.0.7", "many.test", ""),
            ("--stop 2001:db8::a:9", "many.test", ""),
            ("--stop 127.0.0.6", "many.test", "127.0.0.2"),
            // By one of the stop name's addresses.
            ("--stop many.test", "127.0.0.8", ""),
            ("--stop many.test", "[2001:db8::a:9]", ""),
            ("--stop many.test", "alias.test", ""),
            ("--stop many.test", "alias6.test", ""),
            ("--stop many.test", "one.test", "127.0.0.2"),
            ("--stop six.test", "[2001:db8::a:9]", ""),
            ("--stop one.test", "127.0.0.201", ""),
            ("--stop one.test --stop alias.test", "127.0.0.8", ""),
            ("--stop one.test --stop alias.test", "127.0.0.201", ""),
            ("--stop one.test --stop 127.0.0.7", "many.test", ""),
        ];
        each(&rows, |(stop, last, answer)| {
            let words = format!("{stop} 10:127.0.0.2 10:{last}");
            Check::words(&words).run().prints(answer).at_once();
        });
    });
}

#[test]
fn a_stop_lookup_fails_with_its_name_server() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let _names = dns::serve(
            "fails.test A servfail
             fails.test AAAA servfail
             fails6.test A 127.0.0.9
             fails6.test AAAA servfail",
        );
        let _server = Port::smtp().serve("127.0.0.2", UP);
        for name in ["fails.test", "fails6.test"] {
            let run = Check::words(&format!("--stop {name} 127.0.0.2")).run();
            run.fails().at_once();
            assert!(run.stderr.contains(name), "{run}");
        }
    });
}

/// A `--stop` name without an address leaves the question open, whatever is
/// known of the servers.
#[test]
fn a_failed_stop_lookup_is_an_error_at_once() {
    namespace::run(|| {
        let _names = dns::serve(
            "me.test A 127.0.0.9
             me.test AAAA nodata
             hangs6.test A 127.0.0.9
             hangs6.test AAAA silent
             none.test A nodata
             late.test A after 1000 nxdomain
             late.test AAAA nxdomain
             hangs.test A silent
             hangs.test AAAA silent",
        );
        let port = Port::smtp();
        let _server = port.serve("127.0.0.2", UP);
        let _silent = port.serve("127.0.0.3", SILENT);
        let errors = [
            ("--stop gone.test 127.0.0.2", 0),
            ("--stop gone.test 127.0.0.3", 0),
            ("--stop gone.test 127.0.0.4", 0),
            ("--stop gone.test 10:.", 0),
            ("--stop none.test 127.0.0.2", 0),
            // In the other family it may have any address.
            ("--stop hangs6.test --timeout 1 127.0.0.2", 1000),
            ("--stop 127.0.0.9 --stop gone.test 127.0.0.9 127.0.0.2", 0),
            ("--stop me.test --stop gone.test me.test 127.0.0.2", 0),
            ("--stop gone.test --stop hangs.test 127.0.0.3", 0),
            ("--stop hangs.test --stop gone.test 127.0.0.3", 0),
            ("--stop gone.test gone.test", 0),
            ("--stop late.test 127.0.0.2", 1000),
            ("--stop late.test 127.0.0.3", 1000),
            ("--stop hangs.test --timeout 1 127.0.0.2", 1000),
            ("--stop hangs.test --timeout 1 10:.", 1000),
            // With jobs as well its time begins with the check.
            ("--jobs=1 --stop hangs.test --timeout 1 127.0.0.2", 1000),
            ("--jobs=1 --stop hangs.test --timeout 1 10:.", 1000),
        ];
        each(&errors, |(words, after)| {
            let run = Check::words(words).first("--timeout=20").run();
            run.fails().after(ms(*after));
            let name = words.split(' ').filter(|word| word.ends_with(".test"));
            let named = name.into_iter().any(|name| run.stderr.contains(name));
            assert!(named, "{run}names no --stop name");
        });
        let fine = [
            ("--stop me.test 127.0.0.2", "127.0.0.2"),
            ("--stop me.test 10:127.0.0.2 10:127.0.0.9", ""),
            ("-4 --stop hangs6.test 127.0.0.2", "127.0.0.2"),
        ];
        each(&fine, |(words, answer)| {
            let check = Check::words(words).first("--timeout=20");
            check.run().prints(answer).at_once();
        });
    });
}
