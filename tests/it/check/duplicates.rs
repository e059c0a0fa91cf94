//! A host that the list names several times: two endings that print the same
//! name are the same ending.

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, UP, up_after};
use crate::harness::{dns, namespace};

/// Arguments, the answer, and milliseconds until it is given. Whether
/// `hangs.test` is the stop host will not be known before the deadline.
#[test]
fn it_is_not_waited_for_what_prints_the_same_name() {
    namespace::run(|| {
        let _names = dns::serve(
            "up.test A 192.0.2.200
             up.test AAAA nodata
             later.test A 192.0.2.201
             later.test AAAA nodata
             hangs.test A silent
             hangs.test AAAA silent",
        );
        let port = Port::smtp();
        let _servers = [
            port.serve("192.0.2.200", UP),
            port.serve("192.0.2.201", &up_after(ms(1000))),
            port.serve("192.0.2.202", DOWN),
            port.serve("2001:db8::a:200", UP),
        ];
        let rows = [
            ("10:up.test 20:up.test 10:hangs.test", "up.test", 0),
            ("10:up.test 20:up.test 20:hangs.test", "up.test", 0),
            ("10:up.test up.test 10:hangs.test", "up.test", 0),
            (
                "10:192.0.2.200 20:192.0.2.200 10:hangs.test",
                "192.0.2.200",
                0,
            ),
            (
                "10:[2001:db8::a:200] 20:[2001:db8::a:200] 10:hangs.test",
                "[2001:db8::a:200]",
                0,
            ),
            (
                "10:later.test 20:later.test 10:hangs.test",
                "later.test",
                1000,
            ),
            (
                "5:192.0.2.202 10:up.test 20:up.test 10:hangs.test",
                "up.test",
                0,
            ),
            // The second one has the same priority.
            (
                "--timeout=2 10:up.test 10:up.test 10:hangs.test",
                "up.test",
                2000,
            ),
            // The names differ, though not the host.
            (
                "--timeout=2 10:up.test 20:UP.test 10:hangs.test",
                "up.test",
                2000,
            ),
            (
                "--timeout=2 10:up.test 20:up.test. 10:hangs.test",
                "up.test",
                2000,
            ),
            (
                "--timeout=2 10:192.0.2.200 20:[::ffff:192.0.2.200] 10:hangs.test",
                "192.0.2.200",
                2000,
            ),
            (
                "--timeout=2 10:[2001:db8::a:200] 20:[2001:db8:0::a:200] 10:hangs.test",
                "[2001:db8::a:200]",
                2000,
            ),
            // Nor do they where only the third one is in the way.
            (
                "10:up.test 20:UP.test 30:up.test 20:hangs.test",
                "up.test",
                0,
            ),
        ];
        each(&rows, |(words, answer, after)| {
            let words = format!("--timeout=20 --stop 127.0.0.9 {words}");
            Check::words(&words).run().prints(answer).after(ms(*after));
        });
    });
}
