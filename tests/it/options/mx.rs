//! `--mx`: which values and arguments go with it.

use super::is_usage_error;
use crate::harness::run::{Check, each, escaped};
use crate::harness::smtp::{Port, UP};
use crate::harness::{dns, namespace};

#[test]
fn the_domain_must_be_a_host_name() {
    namespace::run(|| {
        let names = dns::serve("* MX 10:mx.test\n* A 127.0.0.2\n* AAAA nodata");
        let server = Port::smtp().serve("127.0.0.2", UP);
        let label = "a".repeat(64);
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(62));
        let values: [&[u8]; 29] = [
            b"",
            b".",
            b"..",
            b".test",
            b"a..test",
            b"a.test..",
            b" ",
            b"a b.test",
            b"a.test ",
            b"a.test\n",
            b"a;b.test",
            b"*.test",
            b"a\\.test",
            b"user@a.test",
            b"10:a.test",
            b"192.0.2.1",
            b"192.0.2.1.",
            b"127.1",
            b"2130706433",
            b"0x7f.1",
            b"::1",
            b"[::1]",
            b"[192.0.2.1]",
            b"2001:db8::1",
            b"fe80::1%lo",
            b"\xc3\xa4.test",
            b"\x1b]0;x\x07",
            label.as_bytes(),
            long.as_bytes(),
        ];
        each(&values, |value| {
            let reason = format!("--mx '{}' is not a domain name", escaped(value));
            is_usage_error(&[b"--mx", value], &reason);
            is_usage_error(&[&[b"--mx=", *value].concat()], &reason);
            // Also where another one counts in the end.
            is_usage_error(&[b"--mx", value, b"--mx=a.test"], &reason);
        });
        let slips: [(&[&[u8]], &str); 6] = [
            (&[b"--mx"], "--mx needs a value; see --help"),
            (
                &[b"--mx", b"a.test", b"b.test"],
                "servers and --mx cannot be used together",
            ),
            (
                &[b"10:127.0.0.2", b"--mx", b"a.test"],
                "servers and --mx cannot be used together",
            ),
            (
                &[b"--mx=a.test", b"--", b"-"],
                "servers and --mx cannot be used together",
            ),
            (
                &[b"--mx", b"a.test", b"-4", b"-6"],
                "-4 and -6 cannot be used together",
            ),
            (&[b"--MX", b"a.test"], "unknown option '--MX'; see --help"),
        ];
        each(&slips, |(arguments, reason)| {
            is_usage_error(arguments, reason);
        });
        assert_eq!(server.count(), 0);
        assert_eq!(names.questions(), [""; 0]);
    });
}

#[test]
fn good_domains() {
    namespace::run(|| {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        let names = dns::serve(&format!(
            "* MX 10:mx.test
             other.test MX 10:other.mx.test
             mx.test A 127.0.0.2
             mx.test AAAA nodata
             {longest} MX 10:mx.test"
        ));
        let _server = Port::smtp().serve("127.0.0.2", UP);
        let rows = [
            "--mx a.test",
            "--mx=a.test",
            "--mx=A.TEST.",
            "--mx test",
            "--mx a_b.test",
            "--mx 1.2.3.test",
            "--mx -a.test",
            "--mx xn--4ca.test",
            "--mx a.test --",
            &format!("--mx {longest}"),
            &format!("--mx {longest}."),
            // The last one counts.
            "--mx other.test --mx a.test",
            "--mx=a.test --mx=a.test",
            "--mx a.test --port 25 --jobs 3 --timeout 0",
        ];
        each(&rows, |words| {
            Check::words(words).run().prints("mx.test").at_once();
        });
        assert_eq!(names.asked("other.test MX"), 0);
    });
}
