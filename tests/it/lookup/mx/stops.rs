//! With `--stop`, this machine must be in the list, and nobody is contacted
//! before it has been found there.

use std::time::Instant;

use super::{HOSTS, check, counts, serve, servers};
use crate::harness::run::{Check, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, UP};
use crate::harness::{dns, namespace};

fn no_stop(domain: &str) -> String {
    format!("{domain}: none of its mail servers is a --stop host")
}

const ZONE: &str = "
list.test MX 20:me.test 10:a.test 30:b.test
equal.test MX 10:me.test 10:a.test
equals.test MX 20:a.test 10:b.test 20:me.test 20:c.test
first.test MX 20:a.test 10:me.test 20:b.test
only.test MX 10:me.test
twice.test MX 30:me.test 20:a.test 20:me.test 10:b.test
others.test MX 10:a.test 20:b.test 30:c.test
lower.test MX 10:down.test 20:b.test 30:me.test
hosts.test MX 10:a.test 20:127.0.0.9
six.test MX 10:a.test 20:[\\058\\0589]
spelled.test MX 10:a.test 20:[2001\\058db8\\0580\\058\\058a\\0589]
named.test MX 10:a.test 20:ME.Test
broken.test MX 10:a.test 20:me.test\\032x
none.test MX nodata
none.test A 127.0.0.2
none.test AAAA nodata
null.test MX 0:.
nulls.test MX 0:. 10:a.test 20:me.test
alias.test MX =real.test 10:a.test 20:me.test
dark.test MX 10:a.test 20:gone.test
";

/// A row has the arguments, the answer, and who of `a`, `b` and `c` is
/// contacted at most.
#[test]
fn the_rule_of_a_list_once_a_stop_host_is_found() {
    namespace::run(|| {
        let _names = serve(ZONE);
        let rows = [
            // By name.
            ("--stop me.test --mx list.test", "a.test", [1, 0, 0]),
            ("--stop ME.Test. --mx list.test", "a.test", [1, 0, 0]),
            ("--stop me.test --mx named.test", "a.test", [1, 0, 0]),
            // By address, in either family and spelling.
            ("--stop 127.0.0.9 --mx list.test", "a.test", [1, 0, 0]),
            (
                "--stop ::ffff:127.0.0.9 --mx list.test",
                "a.test",
                [1, 0, 0],
            ),
            ("--stop 2001:db8::a:9 --mx list.test", "a.test", [1, 0, 0]),
            ("--stop [2001:db8::a:9] --mx list.test", "a.test", [1, 0, 0]),
            ("--stop 127.0.0.9 --mx hosts.test", "a.test", [1, 0, 0]),
            ("--stop ::9 --mx six.test", "a.test", [1, 0, 0]),
            (
                "--stop 2001:db8::a:9 --mx spelled.test",
                "a.test",
                [1, 0, 0],
            ),
            ("-4 --stop 127.0.0.9 --mx list.test", "a.test", [1, 0, 0]),
            ("-6 --stop 2001:db8::a:9 --mx list.test", "", [0, 0, 0]),
            // Any of several.
            (
                "--stop 127.0.0.99 --stop me.test --mx list.test",
                "a.test",
                [1, 0, 0],
            ),
            (
                "--stop 127.0.0.2 --stop me.test --mx list.test",
                "",
                [0, 0, 0],
            ),
            ("--stop b.test --mx list.test", "a.test", [1, 0, 0]),
            // Servers of its preference, and those after it.
            ("--stop me.test --mx equal.test", "", [0, 0, 0]),
            ("--stop 127.0.0.9 --mx equal.test", "", [0, 0, 0]),
            ("--stop me.test --mx equals.test", "b.test", [0, 1, 0]),
            ("--stop me.test --mx first.test", "", [0, 0, 0]),
            ("--stop me.test --mx only.test", "", [0, 0, 0]),
            ("--stop me.test --mx twice.test", "b.test", [0, 1, 0]),
            ("--stop me.test --mx lower.test", "b.test", [0, 1, 0]),
            ("--stop me.test --mx nulls.test", "a.test", [1, 0, 0]),
            ("--stop me.test --mx alias.test", "a.test", [1, 0, 0]),
            // The domain itself is the stop host.
            ("--stop none.test --mx none.test", "", [0, 0, 0]),
            ("--stop 127.0.0.2 --mx none.test", "", [0, 0, 0]),
            // No list, and so no stop host in it.
            ("--stop me.test --mx null.test", "", [0, 0, 0]),
            ("--stop me.test --mx gone.test", "", [0, 0, 0]),
            (
                "--jobs=1 --stop me.test --mx list.test",
                "a.test",
                [1, 0, 0],
            ),
            (
                "--jobs=1 --stop 127.0.0.9 --mx lower.test",
                "b.test",
                [0, 1, 0],
            ),
            ("--jobs=1 --stop 127.0.0.9 --mx equal.test", "", [0, 0, 0]),
        ];
        for (words, answer, most) in rows {
            let servers = servers();
            check(words).run().prints(answer).at_once();
            let counts = counts(servers);
            assert_eq!(counts, most, "{words}");
        }
    });
}

#[test]
fn without_a_stop_host_in_the_list_nobody_is_contacted() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let names = dns::serve(&format!(
            "{HOSTS}{ZONE}
             fails.test A servfail
             fails.test AAAA servfail
             doubt.test MX 10:a.test 20:fails.test"
        ));
        let servers = servers();
        let me = Port::smtp().serve("127.0.0.9", UP);
        for (options, domain) in [
            ("--stop 192.0.2.9", "list.test"),
            ("--stop 127.0.0.90", "list.test"),
            ("--stop 2001:db8::a:90", "list.test"),
            ("--stop down.test", "list.test"),
            ("--stop 192.0.2.9 --stop 192.0.2.10 --stop ::9", "list.test"),
            ("--stop 192.0.2.9 --jobs=1", "list.test"),
            ("--stop 192.0.2.9 --cache=/etc/empty/cache", "list.test"),
            ("--stop me.test", "others.test"),
            ("--stop me.test", "none.test"),
            ("--stop 127.0.0.9", "none.test"),
            ("--stop me.test", "broken.test"),
            ("--stop me.test", "dark.test"),
            ("-4 --stop 192.0.2.9", "list.test"),
            // Its address is of a family that is not used.
            ("-4 --stop 2001:db8::a:9", "list.test"),
            ("-6 --stop 127.0.0.9", "list.test"),
            // One that may be this machine is no proof.
            ("--stop 192.0.2.9", "doubt.test"),
        ] {
            let run = check(&format!("{options} --mx {domain}")).run();
            run.fails_with(&no_stop(domain)).at_once();
        }
        // DOMAIN is shown as it was given.
        let run = check("--stop 192.0.2.9 --mx List.Test.").run();
        run.fails_with(&no_stop("List.Test.")).at_once();
        // A wrong name is a wrong name.
        let run = check("--stop gone.test --mx list.test").run();
        run.fails_with("cannot look up --stop 'gone.test': no such host")
            .at_once();
        assert_eq!(counts(servers), [0; 3]);
        assert_eq!(me.count(), 0);
        // Every name was looked up, to be sure.
        assert!(names.asked("b.test A") > 0);
    });
}

/// The other servers wait for the name that proves to be the stop host.
#[test]
fn nobody_is_contacted_before_the_stop_host_is_found() {
    namespace::run(|| {
        let names = serve(
            "late.test MX 10:a.test 20:b.test 30:slow.test
             slow.test A after 1000 127.0.0.9
             slow.test AAAA nodata
             stop.test A after 1000 127.0.0.9
             stop.test AAAA nodata
             list.test MX 10:a.test 20:me.test
             never.test MX 10:a.test 20:hang.test
             hang.test A silent
             hang.test AAAA silent",
        );
        for words in [
            "--stop 127.0.0.9 --mx late.test",
            "--stop stop.test --mx list.test",
        ] {
            let [a, ..] = servers();
            let begun = Instant::now();
            let run = check(words).run();
            run.prints("a.test").after(ms(1000));
            let connection = a.only();
            assert!(connection.accepted >= begun + ms(1000), "{run}");
        }
        // It never is.
        let servers = servers();
        let run = Check::words("--timeout=1 --stop 127.0.0.9 --mx never.test").run();
        run.fails_with(&no_stop("never.test")).after(ms(1000));
        assert_eq!(counts(servers), [0; 3]);
        assert!(names.asked("a.test A") > 0);
    });
}

/// What is not known of the servers behind a stop host, or changes nothing, is
/// not waited for.
#[test]
fn only_what_matters_is_waited_for() {
    namespace::run(|| {
        let names = serve(
            "behind.test MX 10:a.test 20:me.test 30:hang.test
             between.test MX 10:a.test 20:hang.test 30:me.test
             equal.test MX 10:a.test 10:hang.test 30:me.test
             down.mx.test MX 10:silent.test 20:me.test
             hang.test A silent
             hang.test AAAA silent",
        );
        let _silent = Port::smtp().serve("127.0.0.5", SILENT);
        let a = Port::smtp().serve("127.0.0.2", UP);
        check("--stop me.test --mx behind.test")
            .run()
            .prints("a.test")
            .at_once();
        // By its name, the stop host is known before any lookup.
        assert_eq!(names.asked("hang.test A"), 0);
        for domain in ["behind.test", "between.test"] {
            let words = format!("--stop 127.0.0.9 --mx {domain}");
            check(&words).run().prints("a.test").at_once();
        }
        // It may be the stop host, with a's preference.
        let run = Check::words("--timeout=1 --stop 127.0.0.9 --mx equal.test").run();
        run.prints("a.test").after(ms(1000));
        let run = Check::words("--timeout=1 --stop 127.0.0.9 --mx down.mx.test").run();
        run.prints("").after(ms(1000));
        assert_eq!(a.count(), 4);
    });
}

/// A list of names with the same addresses, and of the same name.
#[test]
fn repeated_servers() {
    namespace::run(|| {
        let _names = serve(
            "same.test MX 10:a.test 20:a.test 30:me.test
             twin.test A 127.0.0.2
             twin.test AAAA nodata
             twins.test MX 10:a.test 10:twin.test 20:me.test
             mixed.test MX 10:down.test 10:me.test 5:a.test 5:down.test",
        );
        let down = Port::smtp().serve("127.0.0.4", DOWN);
        let _servers = servers();
        for (domain, answer) in [
            ("same.test", "a.test"),
            ("twins.test", "a.test"),
            ("mixed.test", "a.test"),
        ] {
            let words = format!("--stop 127.0.0.9 --mx {domain}");
            check(&words).run().prints(answer).at_once();
        }
        assert!(down.count() <= 1);
    });
}
