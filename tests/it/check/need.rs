//! Lookups and probes that cannot change the answer: not begun, not waited for.

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, UP, up_after};
use crate::harness::{dns, namespace};

/// A server after the first stop host cannot change the answer. One before it of
/// the same priority can do so only by being the first stop host itself.
#[test]
fn what_cannot_change_the_answer_is_not_begun() {
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

/// Not even if its lookup was in the queue for a thread.
#[test]
fn what_can_no_longer_change_the_answer_is_not_looked_up() {
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

/// A later server of the same priority may prove to be the stop host: until its
/// lookup says that it is not, no server before it is the answer.
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
            // A server of another priority, or none, excludes only later ones.
            (
                "--stop 127.0.0.9 10:127.0.0.2 20:hangs.test",
                "127.0.0.2",
                0,
            ),
            ("--stop 127.0.0.9 127.0.0.2 hangs.test", "127.0.0.2", 0),
            ("--stop 127.0.0.9 10:127.0.0.2 hangs.test", "127.0.0.2", 0),
            // Nor does a lookup matter after a server that is the stop host.
            (
                "--stop 127.0.0.9 10:127.0.0.2 20:127.0.0.9 10:hangs.test",
                "127.0.0.2",
                0,
            ),
            // A lookup for IPv6 cannot find an IPv4 address.
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
            // Without a stop host it does not matter.
            ("10:127.0.0.2 10:hangs.test", "127.0.0.2", 0),
        ];
        each(&rows, |(words, answer, after)| {
            let check = Check::words(words).first("--timeout=20");
            check.run().prints(answer).after(ms(*after));
        });
    });
}

/// Once nothing but the addresses of a server can matter, no more connections
/// to it are made.
#[test]
fn only_addresses_are_still_needed() {
    namespace::run(|| {
        let hosts: Vec<_> = (3..=11).map(|n| format!("127.0.0.{n}")).collect();
        let _names = dns::serve(&format!(
            "maybe.test A {}\nmaybe.test AAAA after 2500 2001:db8::a:8",
            hosts.join(" ")
        ));
        let port = Port::smtp();
        let _up = port.serve("127.0.0.2", &up_after(ms(1000)));
        // The last one would be tried after two seconds.
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
