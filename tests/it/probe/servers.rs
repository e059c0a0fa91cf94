//! One server: its port, its deadline, and failures before a greeting.

use std::time::Duration;

use crate::harness::namespace;
use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Send, UP, Wait, down_after, up_after};
use crate::harness::zone::check;

#[test]
fn the_port_is_the_one_given() {
    let (port, other) = (Port::new(), Port::new());
    let _down = port.serve("127.0.0.2", DOWN);
    let _up = other.serve("127.0.0.2", UP);
    port.check("127.0.0.2").run().prints("");
    other.check("127.0.0.2").run().prints("127.0.0.2");
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
fn the_timeout_is_the_one_given() {
    let rows = [
        ("--timeout 0.5", SILENT, "", 500),
        ("--timeout=.25", SILENT, "", 250),
        ("--timeout 1", SILENT, "", 1000),
        ("--timeout 2.", SILENT, "", 2000),
        ("--timeout 1.125", SILENT, "", 1125),
        (
            "--timeout 0.5 --timeout 6",
            &up_after(ms(1200)),
            "127.0.0.2",
            1200,
        ),
        ("--timeout 0.5", &up_after(ms(3000)), "", 500),
        // The default is ten seconds, and 0 is no limit.
        ("", SILENT, "", 10_000),
        ("", &up_after(ms(7000)), "127.0.0.2", 7000),
        ("--timeout 0", &up_after(ms(11_000)), "127.0.0.2", 11_000),
        ("--timeout 0.0", &down_after(ms(11_000)), "", 11_000),
        ("--timeout 15", &up_after(ms(11_000)), "127.0.0.2", 11_000),
    ];
    each(&rows, |(option, script, answer, after)| {
        let port = Port::new();
        let _server = port.serve("127.0.0.2", script);
        let check = port.check(&format!("{option} 127.0.0.2"));
        check.run().prints(answer).after(ms(*after));
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
                // With one deadline for each stage these would take longer.
                ("--timeout=2.5 silent.test", "", 2500),
                ("--timeout=2.5 swallowed.test", "", 2500),
                ("--timeout=6 up.test", "up.test", 2250),
                ("--timeout=1 up.test", "", 1000),
            ],
        );
    });
}

/// Refused, accepted by the system only, and not answered at all.
#[test]
fn servers_that_do_not_answer_are_down() {
    let port = Port::new();
    let _queue = port.listen("127.0.0.3", 16);
    let _full = port.full("127.0.0.4");
    let rows = [
        ("127.0.0.2", 0),
        ("127.0.0.2 127.0.0.5 127.0.0.6", 0),
        ("127.0.0.3", 1500),
        ("127.0.0.4", 1500),
        ("127.0.0.2 127.0.0.3 127.0.0.4", 1500),
        ("0.0.0.0", 0),
    ];
    each(&rows, |(list, after)| {
        let check = port.check(&format!("--timeout=1.5 {list}"));
        check.run().prints("").after(ms(*after));
    });
    let _up = port.serve("127.0.0.7", UP);
    let list = "--timeout=1.5 127.0.0.2 127.0.0.4 127.0.0.7";
    port.check(list).run().prints("127.0.0.7").after(ms(1500));
    let list = "--timeout=20 127.0.0.7 127.0.0.3 127.0.0.4";
    port.check(list).run().prints("127.0.0.7").at_once();
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

/// The answer comes when the deciding byte has come. A busy machine may be slow
/// now and then, but not always.
#[test]
fn the_answer_comes_within_milliseconds() {
    let script = [Send(b"22"), Wait(ms(150)), Send(b"0 mx.test\r\n")];
    let soonest = |measure: &dyn Fn() -> Duration| (0..20).map(|_| measure()).min().unwrap();

    let after_the_byte = soonest(&|| {
        let port = Port::new();
        let server = port.serve("127.0.0.2", &script);
        let run = port.check("127.0.0.2").run();
        run.prints("127.0.0.2");
        run.ended.saturating_duration_since(server.only().sent)
    });
    assert!(after_the_byte < ms(20), "{after_the_byte:?}");

    let in_all = soonest(&|| {
        let port = Port::new();
        let _server = port.serve("127.0.0.2", UP);
        port.check("127.0.0.2").run().elapsed()
    });
    assert!(in_all < ms(40), "{in_all:?}");
}
