//! Probes by name, in a network of their own: port 25, addresses of both
//! families that do and do not answer, and name servers of every kind.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Send, UP, Wait, down_after, up_after};
use crate::harness::{dns, namespace};

/// In a network with this zone, servers that are up at these addresses:
/// arguments, answer, and milliseconds until it is given. A timeout of 20
/// seconds makes the difference between an answer and a deadline.
fn check(zone: &'static str, up: &'static [&'static str], rows: &'static [(&str, &str, u64)]) {
    let _names = dns::serve(zone);
    let port = Port::smtp();
    let _servers: Vec<_> = up.iter().map(|address| port.serve(address, UP)).collect();
    // Addresses that are there, but of no use.
    let _others = [
        port.serve("192.0.2.250", DOWN),
        port.serve("192.0.2.251", SILENT),
        port.serve("2001:db8::a:250", DOWN),
        port.serve("2001:db8::a:251", SILENT),
    ];
    each(rows, |(words, answer, after)| {
        let check = Check::words(words).first("--timeout=20");
        check.run().prints(answer).after(ms(*after));
    });
}

#[test]
fn the_default_port_is_25() {
    namespace::run(|| {
        let server = Port::smtp().serve("127.0.0.2", UP);
        let _other = Port::new().serve("127.0.0.3", UP);
        Check::words("127.0.0.3 127.0.0.2")
            .run()
            .prints("127.0.0.2");
        assert_eq!(server.count(), 1);
    });
}

#[test]
fn names_come_from_the_hosts_file_and_the_name_server() {
    namespace::run(|| {
        namespace::hosts("127.0.0.2 mx.hosts alias\n::1 mx6.hosts\n");
        check(
            "mx.test A 127.0.0.2
             mx.test AAAA nodata
             mx6.test AAAA ::1
             both.test A 127.0.0.2
             both.test AAAA ::1",
            &["127.0.0.2", "::1"],
            &[
                ("mx.hosts", "mx.hosts", 0),
                ("10:alias", "alias", 0),
                ("mx6.hosts", "mx6.hosts", 0),
                ("mx.test", "mx.test", 0),
                ("mx6.test", "mx6.test", 0),
                ("both.test", "both.test", 0),
                ("gone.test mx.test", "mx.test", 0),
                ("gone.test", "", 0),
            ],
        );
    });
}

/// Many addresses of which one is up. The next one is tried 250 ms after the
/// one before, or at once when that one fails.
#[test]
fn every_address_is_tried() {
    namespace::run(|| {
        let line = |name: &str, n: u8| format!("192.0.2.{n} {name}.hosts\n");
        let of = |name: &str, numbers: &[u8]| -> String {
            numbers.iter().map(|n| line(name, *n)).collect()
        };
        let many: Vec<_> = (130..170).collect();
        let last = |name: &str| of(name, &many) + &line(name, 200);
        // Forty addresses, 250 ms each, would take ten seconds.
        let hosts = last("refusing") + &of("all-refuse", &many);
        namespace::hosts(&hosts);
        check(
            "slow1.test A 192.0.2.1 192.0.2.200
             slow3.test A 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.200
             silent.test A 192.0.2.251 192.0.2.200
             down.test A 192.0.2.250 192.0.2.200
             first.test A 192.0.2.200 192.0.2.1 192.0.2.251
             mixed.test A 192.0.2.250 192.0.2.1 192.0.2.240 192.0.2.251 192.0.2.64 192.0.2.200
             all-fail.test A 192.0.2.250 192.0.2.240 192.0.2.64 10.0.0.1
             all-slow.test A 192.0.2.1 192.0.2.2 192.0.2.251",
            &["192.0.2.200"],
            &[
                ("refusing.hosts", "refusing.hosts", 0),
                ("all-refuse.hosts", "", 0),
                ("slow1.test", "slow1.test", 250),
                ("slow3.test", "slow3.test", 750),
                ("silent.test", "silent.test", 250),
                ("down.test", "down.test", 0),
                ("first.test", "first.test", 0),
                ("mixed.test", "mixed.test", 500),
                ("all-fail.test", "", 0),
                ("--timeout=1.5 all-slow.test", "", 1500),
                ("--timeout=0.5 slow3.test", "", 500),
            ],
        );
    });
}

/// Whichever address greets first, the others are not waited for; and one that
/// was tried before may still be the one.
#[test]
fn an_early_attempt_is_not_given_up_for_the_next() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.201 192.0.2.202 192.0.2.203");
        let port = Port::smtp();
        let first = port.serve("192.0.2.201", &up_after(ms(1000)));
        let _others = ["192.0.2.202", "192.0.2.203"].map(|a| port.serve(a, SILENT));
        let run = Check::words("--timeout=20 mx.test").run();
        run.prints("mx.test").after(ms(1000));
        assert_eq!(first.count(), 1);
    });
}

/// The first address in the resolver's order comes first, and where it greets
/// in time, alone. A busy machine may miss that now and then, but not always.
#[test]
fn addresses_are_tried_in_the_resolver_s_order() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.202 192.0.2.201 192.0.2.203");
        let alone = (0..5).any(|_| {
            let port = Port::smtp();
            let first = port.serve("192.0.2.202", UP);
            let others = ["192.0.2.201", "192.0.2.203"].map(|a| port.serve(a, UP));
            Check::words("mx.test").run().prints("mx.test");
            assert_eq!(first.count(), 1);
            let contacted = others.map(|server| server.count());
            contacted == [0, 0]
        });
        assert!(alone, "the others were always contacted as well");
    });
}

/// IPv6 and IPv4 take turns, as the lines of `--verbose` show. A busy machine
/// may have IPv6 addresses too late now and then, but not always.
#[test]
fn families_take_turns() {
    namespace::run(|| {
        let _names = dns::serve(
            "mx.test A 192.0.2.240 192.0.2.241 192.0.2.242
             mx.test AAAA 2001:db8::a:240 2001:db8::a:241",
        );
        let order = [
            "[2001:db8::a:240]",
            "192.0.2.240",
            "[2001:db8::a:241]",
            "192.0.2.241",
            "192.0.2.242",
        ];
        let in_turns = (0..5).any(|_| {
            let run = Check::words("-v mx.test").run();
            run.answers("");
            let (_, fates) = run.stderr.split_once("  down  ").unwrap();
            let tried = fates
                .split("; ")
                .map(|fate| fate.split(": ").next().unwrap());
            tried.eq(order)
        });
        assert!(in_turns, "always in another order");
    });
}

/// One family that does not answer, beside one that does.
#[test]
fn a_dead_family_does_not_hide_a_live_one() {
    namespace::run(|| {
        check(
            "swallowed6.test A 192.0.2.200
             swallowed6.test AAAA 2001:db8::d:1
             swallowed6many.test A 192.0.2.200
             swallowed6many.test AAAA 2001:db8::d:1 2001:db8::d:2 2001:db8::d:3
             unreachable6.test A 192.0.2.200
             unreachable6.test AAAA 2001:db8::e:1
             noroute6.test A 192.0.2.200
             noroute6.test AAAA 2001:db8:ffff::1
             refused6.test A 192.0.2.200
             refused6.test AAAA 2001:db8::a:240
             down6.test A 192.0.2.200
             down6.test AAAA 2001:db8::a:250
             silent6.test A 192.0.2.200
             silent6.test AAAA 2001:db8::a:251
             swallowed4.test A 192.0.2.1
             swallowed4.test AAAA 2001:db8::a:200
             swallowed4many.test A 192.0.2.1 192.0.2.2 192.0.2.3
             swallowed4many.test AAAA 2001:db8::a:200
             unreachable4.test A 192.0.2.64
             unreachable4.test AAAA 2001:db8::a:200
             noroute4.test A 10.0.0.1
             noroute4.test AAAA 2001:db8::a:200
             refused4.test A 192.0.2.240
             refused4.test AAAA 2001:db8::a:200
             down4.test A 192.0.2.250
             down4.test AAAA 2001:db8::a:200
             silent4.test A 192.0.2.251
             silent4.test AAAA 2001:db8::a:200
             neither.test A 192.0.2.240
             neither.test AAAA 2001:db8::a:240
             mapped.test A nodata
             mapped.test AAAA ::ffff:192.0.2.200",
            &["192.0.2.200", "2001:db8::a:200"],
            &[
                ("swallowed6.test", "swallowed6.test", 0),
                ("swallowed6many.test", "swallowed6many.test", 0),
                ("unreachable6.test", "unreachable6.test", 0),
                ("noroute6.test", "noroute6.test", 0),
                ("refused6.test", "refused6.test", 0),
                ("down6.test", "down6.test", 0),
                ("silent6.test", "silent6.test", 0),
                ("swallowed4.test", "swallowed4.test", 0),
                ("swallowed4many.test", "swallowed4many.test", 0),
                ("unreachable4.test", "unreachable4.test", 0),
                ("noroute4.test", "noroute4.test", 0),
                ("refused4.test", "refused4.test", 0),
                ("down4.test", "down4.test", 0),
                ("silent4.test", "silent4.test", 0),
                ("neither.test", "", 0),
                // An IPv4 address is no answer to a question for IPv6.
                ("mapped.test", "", 0),
            ],
        );
    });
}

#[test]
fn servers_by_address_that_do_not_answer_are_down() {
    namespace::run(|| {
        check(
            "",
            &["192.0.2.200"],
            &[
                ("192.0.2.64", "", 0),
                ("10.0.0.1", "", 0),
                ("[2001:db8::e:1]", "", 0),
                ("[2001:db8:ffff::1]", "", 0),
                ("192.0.2.240 [2001:db8::a:240]", "", 0),
                ("255.255.255.255", "", 0),
                ("224.0.0.1", "", 0),
                ("[ff02::1]", "", 0),
                ("[fe80::1]", "", 0),
                ("--timeout=1.5 192.0.2.1 [2001:db8::d:1]", "", 1500),
                (
                    "192.0.2.64 10.0.0.1 192.0.2.200 192.0.2.1",
                    "192.0.2.200",
                    0,
                ),
                ("--timeout=1.5 192.0.2.1 192.0.2.200", "192.0.2.200", 1500),
            ],
        );
    });
}

#[test]
fn only_addresses_of_one_family() {
    namespace::run(|| {
        let names = dns::serve(
            "both.test A 192.0.2.200
             both.test AAAA 2001:db8::a:200
             four.test A 192.0.2.200
             four.test AAAA nodata
             six.test A nodata
             six.test AAAA 2001:db8::a:200
             hangs4.test A silent
             hangs4.test AAAA 2001:db8::a:200
             hangs6.test A 192.0.2.200
             hangs6.test AAAA silent",
        );
        let rows = [
            ("-4 both.test", "both.test", [1, 0]),
            ("-6 both.test", "both.test", [0, 1]),
            ("-4 four.test", "four.test", [1, 0]),
            ("-6 four.test", "", [0, 0]),
            ("-4 six.test", "", [0, 0]),
            ("-6 six.test", "six.test", [0, 1]),
            ("-4 hangs6.test", "hangs6.test", [1, 0]),
            ("-6 hangs4.test", "hangs4.test", [0, 1]),
            ("-4 [2001:db8::a:200] 192.0.2.200", "192.0.2.200", [1, 0]),
            (
                "-6 192.0.2.200 [2001:db8::a:200]",
                "[2001:db8::a:200]",
                [0, 1],
            ),
        ];
        for (words, answer, contacted) in rows {
            let port = Port::smtp();
            let servers = ["192.0.2.200", "2001:db8::a:200"].map(|a| port.serve(a, UP));
            let check = Check::words(words).first("--timeout=20");
            check.run().prints(answer).at_once();
            assert_eq!(servers.map(|server| server.count()), contacted, "{words}");
        }
        for question in ["hangs6.test AAAA", "hangs4.test A"] {
            assert_eq!(names.asked(question), 0, "{question}");
        }
    });
}

/// The name server is asked for each family by itself: what becomes of the one
/// question does not spoil the answer to the other.
#[test]
fn one_family_s_lookup_does_not_spoil_the_other_s() {
    namespace::run(|| {
        check(
            "fails6.test A 192.0.2.200
             fails6.test AAAA servfail
             hangs6.test A 192.0.2.200
             hangs6.test AAAA silent
             late6.test A 192.0.2.200
             late6.test AAAA after 6000 nodata
             gone6.test A 192.0.2.200
             gone6.test AAAA nxdomain
             fails4.test A servfail
             fails4.test AAAA 2001:db8::a:200
             hangs4.test A silent
             hangs4.test AAAA 2001:db8::a:200
             late4.test A after 6000 nodata
             late4.test AAAA 2001:db8::a:200
             gone4.test A nxdomain
             gone4.test AAAA 2001:db8::a:200
             waits6.test A nodata
             waits6.test AAAA after 1000 2001:db8::a:200
             waits4.test A after 1000 192.0.2.200
             waits4.test AAAA nodata
             joins6.test A 192.0.2.240
             joins6.test AAAA after 1000 2001:db8::a:200
             joins4.test A after 1000 192.0.2.200
             joins4.test AAAA 2001:db8::d:1
             gone.test A after 1000 nxdomain
             gone.test AAAA nxdomain
             dead.test A 192.0.2.240
             dead.test AAAA after 1000 nodata",
            &["192.0.2.200", "2001:db8::a:200"],
            &[
                ("fails6.test", "fails6.test", 0),
                ("hangs6.test", "hangs6.test", 0),
                ("late6.test", "late6.test", 0),
                ("gone6.test", "gone6.test", 0),
                ("fails4.test", "fails4.test", 0),
                ("hangs4.test", "hangs4.test", 0),
                ("late4.test", "late4.test", 0),
                ("gone4.test", "gone4.test", 0),
                // The slower answer is waited for where the other is of no use.
                ("waits6.test", "waits6.test", 1000),
                ("waits4.test", "waits4.test", 1000),
                ("joins6.test", "joins6.test", 1000),
                ("joins4.test", "joins4.test", 1000),
                ("gone.test", "", 1000),
                ("dead.test", "", 1000),
            ],
        );
    });
}

/// IPv6 addresses are waited for no longer than for a moment. A busy machine
/// may take its time now and then, but not always.
#[test]
fn connecting_begins_with_the_first_family() {
    namespace::run(|| {
        let _names = dns::serve(
            "hangs6.test A 192.0.2.200
             hangs6.test AAAA silent
             hangs4.test A silent
             hangs4.test AAAA 2001:db8::a:200",
        );
        let port = Port::smtp();
        let _servers = ["192.0.2.200", "2001:db8::a:200"].map(|a| port.serve(a, UP));
        for name in ["hangs6.test", "hangs4.test"] {
            let soonest = (0..5).map(|_| {
                let run = Check::words(name).run();
                run.prints(name);
                run.elapsed()
            });
            let soonest = soonest.min().unwrap();
            assert!(soonest < ms(500), "{name}: {soonest:?}");
        }
    });
}

/// A server that is up is heard out and gets its QUIT, though nobody wants to
/// know its other addresses any more.
#[test]
fn a_server_is_heard_out_while_its_lookup_is_not() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA silent");
        let port = Port::smtp();
        let script = [Send(b"220-mx.test\r\n"), Wait(ms(300)), Send(b"220 go\r\n")];
        let server = port.serve("127.0.0.2", &script);
        let _slow = port.serve("127.0.0.3", &down_after(ms(1500)));
        let run = Check::words("--timeout=20 127.0.0.3 mx.test").run();
        run.prints("mx.test").after(ms(1500));
        let connection = server.only();
        assert_eq!(connection.early, b"", "{connection:?}");
        assert_eq!(connection.received, b"QUIT\r\n", "{connection:?}");
    });
}

/// One deadline covers lookup, connecting and greeting.
#[test]
fn the_deadline_covers_all_stages() {
    namespace::run(|| {
        check(
            "silent.test A after 2000 192.0.2.251
             silent.test AAAA nodata
             swallowed.test A after 2000 192.0.2.1
             swallowed.test AAAA nodata
             up.test A after 2000 192.0.2.1 192.0.2.200
             up.test AAAA nodata",
            &["192.0.2.200"],
            &[
                // With a deadline a stage it would be seven seconds or more.
                ("--timeout=2.5 silent.test", "", 2500),
                ("--timeout=2.5 swallowed.test", "", 2500),
                ("--timeout=6 up.test", "up.test", 2250),
                ("--timeout=1 up.test", "", 1000),
            ],
        );
    });
}

#[test]
fn a_name_server_that_never_answers_is_left_behind_at_the_deadline() {
    namespace::run(|| {
        let names: Vec<_> = (0..300).map(|n| format!("mx{n}.test")).collect();
        let words = format!("--timeout=2 {}", names.join(" "));
        let _names = dns::serve("* A silent\n* AAAA silent");
        let _server = Port::smtp().serve("127.0.0.2", UP);
        Check::words(&words).run().prints("").after(ms(2000));
        let one = Check::words("--timeout=1 mx.test").run();
        one.prints("").after(ms(1000));
        let one = Check::words("--timeout=1 mx.test 127.0.0.2").run();
        one.prints("127.0.0.2").after(ms(1000));
        let one = Check::words("--timeout=20 127.0.0.2 mx.test").run();
        one.prints("127.0.0.2").at_once();
    });
}

/// A name server that fails is not asked for ever, and is no error.
#[test]
fn a_name_server_that_fails_is_a_server_that_is_down() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        check(
            "fails.test A servfail
             fails.test AAAA servfail
             later.test A after 500 servfail
             later.test AAAA servfail
             gone6.test A servfail
             gone6.test AAAA nodata",
            &["192.0.2.200"],
            &[
                ("fails.test", "", 0),
                ("later.test", "", 500),
                ("gone6.test", "", 0),
                ("fails.test 192.0.2.200", "192.0.2.200", 0),
            ],
        );
    });
}

#[test]
fn without_a_name_server_names_are_down() {
    namespace::run(|| {
        let _server = Port::smtp().serve("127.0.0.2", UP);
        let run = Check::words("--timeout=1 mx.test").run();
        run.prints("");
        assert!(run.elapsed() < Duration::from_secs(5), "{run}");
        let run = Check::words("--timeout=1 mx.test 127.0.0.2").run();
        run.prints("127.0.0.2");
    });
}

/// More lookups than there would ever be threads for, with a name server that
/// takes its time for each.
#[test]
fn many_names_are_looked_up_at_the_same_time() {
    namespace::run(|| {
        let _names = dns::serve("* A after 100 192.0.2.240\n* AAAA after 100 nodata");
        let names: Vec<_> = (0..100).map(|n| format!("mx{n}.test")).collect();
        let check = Check::words(&names.join(" ")).first("--timeout=20");
        check.run().prints("").after(ms(100));
    });
}

/// What nobody wants to know any more is not looked up: when the name server's
/// time for the first ones is over, it is the turn of one that is wanted.
#[test]
fn lookups_that_nobody_waits_for_are_not_begun() {
    namespace::run(|| {
        let names = dns::serve(
            "* A silent
             * AAAA silent
             mx.test A 127.0.0.2
             mx.test AAAA nodata",
        );
        namespace::resolver_timeout(4);
        let _server = Port::smtp().serve("127.0.0.2", UP);
        let list: String = (0..100).map(|n| format!("mx{n}.test ")).collect();
        let words = format!("--jobs=100 --timeout=3 {list} mx.test");
        Check::words(&words).run().prints("mx.test").after(ms(3000));
        let asked: BTreeSet<_> = names.questions().into_iter().collect();
        assert!(asked.len() < 200, "{asked:?}");
    });
}

#[test]
fn a_thousand_swallowed_servers() {
    namespace::run(|| {
        let list: String = (0..1000)
            .map(|n| format!(" 198.18.{}.{}", n / 250, n % 250))
            .collect();
        let run = Check::words(&format!("--timeout=2 {list}")).run();
        run.prints("").after(ms(2000));
        assert!(run.elapsed() < ms(3500), "{run}");
    });
}

/// A server whose queue of waiting connections is full drops what comes.
#[test]
fn a_full_queue_beside_one_that_is_not() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.201 192.0.2.202\nmx.test AAAA nodata");
        let port = Port::smtp();
        let _full = port.full("192.0.2.201");
        Check::words("--timeout=1 mx.test").run().prints("");
        let _up = port.serve("192.0.2.202", UP);
        let run = Check::words("--timeout=20 mx.test").run();
        run.prints("mx.test").after(ms(250));
    });
}

/// The classic use, as the README has it.
pub const CLASSIC_USE: &str = r#"dns RECIP_MXES mx "$RECIPIENT_HOST"
server=`smtpdcheck --stop $MYIP $RECIP_MXES`
test -n "$server" && defer "Please use server $server""#;

/// What Mail Avenger provides for it.
const AVENGER: &str = r#"
smtpdcheck() { "$0" "$@"; }
dns() { test "$2 $3" = "mx example.test" && RECIP_MXES="10:mx1.test 20:mx2.test 30:mx3.test"; }
defer() { echo "$1"; exit 1; }
RECIPIENT_HOST=example.test
MYIP=127.0.0.9
"#;

#[test]
fn the_script_of_a_secondary() {
    namespace::run(|| {
        let _names = dns::serve(
            "mx1.test A 127.0.0.2
             mx1.test AAAA nodata
             mx2.test A 127.0.0.9
             mx2.test AAAA nodata
             mx3.test A 127.0.0.3
             mx3.test AAAA nodata",
        );
        let script = format!("{AVENGER}{CLASSIC_USE}\nexit 0");
        let check = || Check::words("").shell(&script).run();
        let port = Port::smtp();
        let _later = port.serve("127.0.0.3", UP);
        check().prints("");
        let _first = port.serve("127.0.0.2", UP);
        check().prints("Please use server mx1.test");
    });
}
