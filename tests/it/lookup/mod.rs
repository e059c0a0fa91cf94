//! Lookups: the hosts file and name servers of every kind.

mod mx;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::run::{Check, ms};
use crate::harness::smtp::{Port, Send, UP, Wait, down_after};
use crate::harness::zone::check;
use crate::harness::{dns, namespace};

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

/// Each family is looked up separately: a failed or silent lookup of one does
/// not affect the other.
#[test]
fn families_are_looked_up_separately() {
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
                // The slower answer is waited for if the other is of no use.
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

/// A server that is up gets its QUIT, though the lookup of its other addresses
/// is dropped.
#[test]
fn a_server_gets_quit_though_its_lookup_is_dropped() {
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

/// It is not asked for ever, and the status is not 2.
#[test]
fn a_server_whose_name_server_fails_is_down() {
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

/// More lookups than there are threads, with a slow name server.
#[test]
fn many_names_are_looked_up_at_the_same_time() {
    namespace::run(|| {
        let _names = dns::serve("* A after 100 192.0.2.240\n* AAAA after 100 nodata");
        let names: Vec<_> = (0..100).map(|n| format!("mx{n}.test")).collect();
        let check = Check::words(&names.join(" ")).first("--timeout=20");
        check.run().prints("").after(ms(100));
    });
}

/// When the C library gives up on the first names, only lookups that are still
/// needed are begun.
#[test]
fn lookups_that_are_no_longer_needed_are_not_begun() {
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
