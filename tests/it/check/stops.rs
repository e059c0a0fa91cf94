//! The `--stop` hosts: which servers are one, and what a failed lookup means.

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{Port, SILENT, UP};
use crate::harness::{dns, namespace};

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
        // Where one of the two has no interface, any will do.
        ("--stop fe80::1%lo 10:127.0.0.2 10:[fe80::1]", ""),
        ("--stop fe80::1 10:127.0.0.2 10:[fe80::1%lo]", ""),
        ("--stop fe80::1 127.0.0.3 fe80::1%lo 127.0.0.2", ""),
        ("--stop fe80::2 10:127.0.0.2 10:[fe80::1%lo]", "127.0.0.2"),
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
        // The name's address is another one each time: only its name shows
        // that it is the stop host.
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
            let reason = format!("cannot look up --stop '{name}': name server failed");
            run.fails_with(&reason).at_once();
        }
    });
}

/// If a `--stop` name cannot be looked up, the status is 2, whatever is known of
/// the servers.
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
        let (no_host, no_answer) = ("no such host", "no answer in time");
        let errors = [
            ("--stop gone.test 127.0.0.2", "gone.test", no_host, 0),
            ("--stop gone.test 127.0.0.3", "gone.test", no_host, 0),
            ("--stop gone.test 127.0.0.4", "gone.test", no_host, 0),
            ("--stop gone.test 10:.", "gone.test", no_host, 0),
            ("--stop none.test 127.0.0.2", "none.test", no_host, 0),
            // It may have any address of the other family.
            (
                "--stop hangs6.test --timeout 1 127.0.0.2",
                "hangs6.test",
                no_answer,
                1000,
            ),
            (
                "--stop 127.0.0.9 --stop gone.test 127.0.0.9 127.0.0.2",
                "gone.test",
                no_host,
                0,
            ),
            (
                "--stop me.test --stop gone.test me.test 127.0.0.2",
                "gone.test",
                no_host,
                0,
            ),
            (
                "--stop gone.test --stop hangs.test 127.0.0.3",
                "gone.test",
                no_host,
                0,
            ),
            (
                "--stop hangs.test --stop gone.test 127.0.0.3",
                "gone.test",
                no_host,
                0,
            ),
            ("--stop gone.test gone.test", "gone.test", no_host, 0),
            ("--stop late.test 127.0.0.2", "late.test", no_host, 1000),
            ("--stop late.test 127.0.0.3", "late.test", no_host, 1000),
            (
                "--stop hangs.test --timeout 1 127.0.0.2",
                "hangs.test",
                no_answer,
                1000,
            ),
            (
                "--stop hangs.test --timeout 1 10:.",
                "hangs.test",
                no_answer,
                1000,
            ),
            // Also with --jobs, its time begins with the check.
            (
                "--jobs=1 --stop hangs.test --timeout 1 127.0.0.2",
                "hangs.test",
                no_answer,
                1000,
            ),
            (
                "--jobs=1 --stop hangs.test --timeout 1 10:.",
                "hangs.test",
                no_answer,
                1000,
            ),
        ];
        each(&errors, |(words, name, why, after)| {
            let run = Check::words(words).first("--timeout=20").run();
            let reason = format!("cannot look up --stop '{name}': {why}");
            run.fails_with(&reason).after(ms(*after));
        });
        let run = Check::words("--stop fe80::1%nolink 127.0.0.2").run();
        run.fails_with("--stop 'fe80::1%nolink': no such interface");
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
