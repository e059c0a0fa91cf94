//! Servers that may be this machine: the name servers did not tell all their
//! addresses in a family in which a `--stop` host has one.

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{Port, Server, UP};
use crate::harness::{dns, namespace};

/// `fails`, `hangs`, `late`, `none` and `gone` say what becomes of the question
/// for one family; in the other one the server is up.
const ZONE: &str = "\
stop.test A 192.0.2.249
stop.test AAAA nodata
stop6.test A nodata
stop6.test AAAA 2001:db8::a:249
stops.test A 192.0.2.249
stops.test AAAA 2001:db8::a:249
fails4.test A servfail
fails4.test AAAA 2001:db8::a:200
hangs4.test A silent
hangs4.test AAAA 2001:db8::a:200
late4.test A after 500 192.0.2.200
late4.test AAAA 2001:db8::a:200
none4.test A nodata
none4.test AAAA 2001:db8::a:200
gone4.test A nxdomain
gone4.test AAAA 2001:db8::a:200
fails6.test A 192.0.2.200
fails6.test AAAA servfail
hangs6.test A 192.0.2.200
hangs6.test AAAA silent
late6.test A 192.0.2.200
late6.test AAAA after 500 2001:db8::a:200
none6.test A 192.0.2.200
none6.test AAAA nodata
gone6.test A 192.0.2.200
gone6.test AAAA nxdomain
fails.test A servfail
fails.test AAAA servfail
";

/// The name server, and the servers that are up.
fn serve() -> (dns::NameServer, [Server; 2]) {
    let servers = ["192.0.2.200", "2001:db8::a:200"].map(|a| Port::smtp().serve(a, UP));
    (dns::serve(ZONE), servers)
}

/// Arguments, the answer, and milliseconds until it is given. After a failure
/// the C library waits a second for a better answer.
fn check(rows: &[(&str, &str, u64)]) {
    namespace::resolver_timeout(1);
    let _running = serve();
    each(rows, |(words, answer, after)| {
        let run = Check::words(words).first("--timeout=15").run();
        run.prints(answer).after(ms(*after));
    });
}

#[test]
fn it_is_never_the_answer() {
    namespace::run(|| {
        check(&[
            ("--stop 192.0.2.249 10:fails4.test", "", 0),
            ("--stop 192.0.2.249 10:192.0.2.240 20:fails4.test", "", 0),
            ("--stop stop.test 10:192.0.2.240 20:fails4.test", "", 0),
            (
                "--stop 2001:db8::a:249 10:192.0.2.240 20:fails6.test",
                "",
                0,
            ),
            ("--stop stop6.test 10:192.0.2.240 20:fails6.test", "", 0),
            ("--stop stops.test fails4.test fails6.test", "", 0),
            ("--stop ::1 --stop 127.0.0.9 fails6.test", "", 0),
            // It is down for the servers behind it, whatever their priorities.
            (
                "--stop 192.0.2.249 20:fails4.test 30:192.0.2.200",
                "192.0.2.200",
                0,
            ),
            (
                "--stop 192.0.2.249 20:fails4.test 20:192.0.2.200",
                "192.0.2.200",
                0,
            ),
            (
                "--stop 192.0.2.249 20:192.0.2.200 20:fails4.test",
                "192.0.2.200",
                0,
            ),
            (
                "--stop 192.0.2.249 5:fails4.test 10:192.0.2.200 20:192.0.2.249",
                "192.0.2.200",
                0,
            ),
            // By its name it is known to be the stop host.
            (
                "--stop none4.test 10:[2001:db8::a:200] 20:192.0.2.200",
                "",
                0,
            ),
        ]);
    });
}

/// Where the name server does not answer at all, that is known at the deadline.
#[test]
fn an_answer_that_is_missing_leaves_the_doubt() {
    namespace::run(|| {
        // The C library is still waiting then.
        let _running = serve();
        let rows = [
            ("--stop 192.0.2.249 10:192.0.2.240 20:hangs4.test", ""),
            ("--stop stop.test 10:192.0.2.240 20:hangs4.test", ""),
            ("--stop 2001:db8::a:249 10:192.0.2.240 20:hangs6.test", ""),
            ("--stop stop6.test 10:192.0.2.240 20:hangs6.test", ""),
            (
                "--stop stop6.test 20:hangs6.test 20:192.0.2.200",
                "192.0.2.200",
            ),
            ("--stop stop.test --jobs=1 hangs4.test", ""),
        ];
        each(&rows, |(words, answer)| {
            let run = Check::words(words).first("--timeout=2").run();
            run.prints(answer).after(ms(2000));
        });
    });
}

#[test]
fn there_is_no_doubt_where_the_name_servers_have_told_everything() {
    namespace::run(|| {
        check(&[
            // There is no such address.
            ("--stop 192.0.2.249 none4.test", "none4.test", 0),
            ("--stop 192.0.2.249 gone4.test", "gone4.test", 0),
            ("--stop stop.test none4.test", "none4.test", 0),
            ("--stop 2001:db8::a:249 none6.test", "none6.test", 0),
            ("--stop 2001:db8::a:249 gone6.test", "gone6.test", 0),
            ("--stop stops.test none6.test", "none6.test", 0),
            // The answer came late.
            ("--stop 192.0.2.249 late4.test", "late4.test", 500),
            ("--stop stop6.test late6.test", "late6.test", 500),
            // No stop host has an address of that family.
            ("--stop 2001:db8::a:249 fails4.test", "fails4.test", 0),
            ("--stop 2001:db8::a:249 hangs4.test", "hangs4.test", 0),
            ("--stop stop6.test hangs4.test", "hangs4.test", 0),
            ("--stop 192.0.2.249 fails6.test", "fails6.test", 0),
            ("--stop 192.0.2.249 hangs6.test", "hangs6.test", 0),
            ("--stop stop.test hangs6.test", "hangs6.test", 0),
            // There is no stop host.
            ("fails4.test", "fails4.test", 0),
            ("hangs6.test", "hangs6.test", 0),
        ]);
    });
}

#[test]
fn verbose_says_why_it_is_not_the_answer() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let _running = serve();
        let doubt = "may be a --stop host, because not all of its addresses are known";
        let rows = [
            ("--stop stop.test fails4.test", true),
            ("--stop stop.test none4.test", false),
        ];
        each(&rows, |(words, is_doubtful)| {
            let run = Check::words(words).first("--timeout=15").first("-v").run();
            assert_eq!(run.status, Some(i32::from(!is_doubtful)), "{run}");
            let says_so = |line: &str| line.contains("test  skip") && line.contains(doubt);
            let lines = run.stderr.lines().filter(|line| says_so(line)).count();
            assert_eq!(lines, usize::from(*is_doubtful), "{run}");
        });
    });
}

/// Lines of the hosts file, and of a zone: a name with this many addresses, of
/// which the first one is up.
fn many(count: u8) -> (String, String) {
    let addresses: Vec<_> = (200..200 + count).map(|n| format!("192.0.2.{n}")).collect();
    let line = |address: &String| format!("{address} many{count}.hosts\n");
    let hosts = addresses.iter().map(line).collect();
    let addresses = addresses.join(" ");
    let name = format!("many{count}.test");
    let zone = format!("{name} A {addresses}\n{name} AAAA nodata\n");
    (hosts, zone)
}

/// The C library or this program stops at 48 addresses, and so may not get to
/// the one that is the stop host's.
#[test]
fn too_many_addresses() {
    namespace::run(|| {
        let (hosts, zone): (Vec<_>, Vec<_>) = [47, 50].map(many).into_iter().unzip();
        namespace::hosts(&hosts.concat());
        let _names = dns::serve(&zone.concat());
        let port = Port::smtp();
        let _up: Vec<_> = (200..250)
            .map(|n| port.serve(&format!("192.0.2.{n}"), UP))
            .collect();
        let rows = [
            ("--stop 192.0.2.249 10:many50", ""),
            ("--stop 192.0.2.249 10:192.0.2.140 20:many50", ""),
            ("--stop 192.0.2.190 10:many50", ""),
            ("--stop 2001:db8::a:249 10:many50", "many50"),
            ("10:many50", "many50"),
            ("--stop 192.0.2.249 10:many47", "many47"),
            ("--stop 192.0.2.246 10:many47", ""),
        ];
        let domains: &[&str] = match takes_large_answers() {
            true => &[".hosts", ".test"],
            false => &[".hosts"],
        };
        let rows: Vec<_> = rows
            .iter()
            .flat_map(|row| domains.iter().map(move |domain| (row, domain)))
            .collect();
        each(&rows, |((words, answer), domain)| {
            let run = Check::words(&format!("--timeout=15 {words}{domain}")).run();
            match *answer {
                "" => run.prints("").at_once(),
                answer => run.prints(&format!("{answer}{domain}")).at_once(),
            };
        });
    });
}

/// Whether the C library takes answers from name servers that are longer than
/// 512 bytes; musl does from 1.2.4 on. There is a server `many47.test` that is
/// up.
fn takes_large_answers() -> bool {
    let run = Check::words("--timeout=3 many47.test").run();
    run.stdout == "many47.test\n"
}

/// What is in doubt in one family can in the other one only prove to be the
/// stop host: where nothing depends on that, it is not waited for.
#[test]
fn a_server_in_doubt_is_not_waited_for() {
    namespace::run(|| {
        let (_, zone) = many(50);
        let zone = zone.replace("AAAA nodata", "AAAA silent");
        let (_, probe) = many(47);
        let _names = dns::serve(&(ZONE.to_owned() + &zone + &probe));
        let _up = Port::smtp().serve("192.0.2.200", UP);
        if !takes_large_answers() {
            return;
        }
        let rows = [
            ("--stop stops.test many50.test", "", 0),
            (
                "--stop stops.test 10:192.0.2.200 20:many50.test",
                "192.0.2.200",
                0,
            ),
            (
                "--stop 2001:db8::a:249 --stop 192.0.2.190 many50.test",
                "",
                0,
            ),
            // Here something does.
            (
                "--timeout=2 --stop 192.0.2.190 --stop 2001:db8::a:249 many50.test 192.0.2.200",
                "192.0.2.200",
                2000,
            ),
            ("--timeout=2 --stop 2001:db8::a:249 many50.test", "", 2000),
        ];
        each(&rows, |(words, answer, after)| {
            let check = Check::words(words).first("--timeout=20");
            check.run().prints(answer).after(ms(*after));
        });
        let words = "-v --timeout=20 --stop stops.test --stop 192.0.2.190 many50.test";
        let run = Check::words(words).run();
        run.answers("").at_once();
        assert!(run.stderr.contains("skip"), "{run}");
    });
}
