//! The command line: for every option the triple of standard output, standard
//! error and status.

use super::is_usage_error;
use crate::harness::run::{Check, each, escaped, ms};
use crate::harness::smtp::{Port, SILENT, UP};

/// Arguments that are usage errors, as bytes, and the message.
const BAD_ARGUMENTS: &[(&[&[u8]], &str)] = &[
    (&[], "no server given; see --help"),
    (&[b"-v"], "no server given; see --help"),
    (&[b"--"], "no server given; see --help"),
    (&[b"--stop", b"127.0.0.9"], "no server given; see --help"),
    (&[b""], "a server argument is empty"),
    (&[b"127.0.0.2", b""], "a server argument is empty"),
    (&[b"--bogus", b"a"], "unknown option '--bogus'; see --help"),
    (
        &[b"--bogus=1", b"a"],
        "unknown option '--bogus'; see --help",
    ),
    (&[b"-x", b"a"], "unknown option '-x'; see --help"),
    (&[b"-vx", b"a"], "unknown option '-x'; see --help"),
    (&[b"a", b"--bogus"], "unknown option '--bogus'; see --help"),
    (
        &[b"--\x1b[2J", b"a"],
        r"unknown option '--\x1b[2J'; see --help",
    ),
    (&[b"--stop"], "--stop needs a value; see --help"),
    (&[b"a", b"--timeout"], "--timeout needs a value; see --help"),
    (&[b"a", b"--port"], "--port needs a value; see --help"),
    (&[b"a", b"--source"], "--source needs a value; see --help"),
    (&[b"a", b"--jobs"], "--jobs needs a value; see --help"),
    (&[b"a", b"--cache"], "--cache needs a value; see --help"),
    (
        &[b"a", b"--cache-ttl"],
        "--cache-ttl needs a value; see --help",
    ),
    (
        &[b"a", b"--cache-up-ttl"],
        "--cache-up-ttl needs a value; see --help",
    ),
    (
        &[b"a", b"--max-defer"],
        "--max-defer needs a value; see --help",
    ),
    (&[b"a", b"--key"], "--key needs a value; see --help"),
    (
        &[b"--max-defer=4h", b"a"],
        "--max-defer needs --cache; see --help",
    ),
    (
        &[b"--max-defer=4h", b"--key=x", b"a"],
        "--max-defer needs --cache; see --help",
    ),
    (
        &[b"--max-defer=4h", b"--cache=none/x", b"a"],
        "--max-defer needs --key; see --help",
    ),
    (&[b"--key=x", b"a"], "--key needs --max-defer; see --help"),
    (
        &[b"--key=x", b"--cache=none/x", b"a"],
        "--key needs --max-defer; see --help",
    ),
    (
        &[b"--max-defer=4h", b"--cache=none/x", b"--key=x"],
        "no server given; see --help",
    ),
    (
        &[b"--verbose=1", b"a"],
        "--verbose takes no value; see --help",
    ),
    (&[b"--json=1", b"a"], "--json takes no value; see --help"),
    (&[b"--json"], "no server given; see --help"),
    (&[b"-4", b"-6", b"a"], "-4 and -6 cannot be used together"),
    (&[b"-64", b"a"], "-4 and -6 cannot be used together"),
];

#[test]
fn bad_arguments() {
    each(BAD_ARGUMENTS, |(arguments, reason)| {
        is_usage_error(arguments, reason);
    });
}

const NOT_A_TIME: &str = "is not a time such as 10, 30s, 5m, 4h or 2d (whole numbers only)";
const TOO_SHORT: &str = "must be at least 1 second";

/// Options, and bad values of theirs, all with the same message.
const BAD_VALUES: &[(&str, &str, &[&[u8]])] = &[
    (
        "--timeout",
        "is not a time such as 10, 2.5, 30s or 5m (no decimals with a unit)",
        &[
            b"",
            b"-1",
            b"-0",
            b"+1",
            b".",
            b"1.2.3",
            b"2.5s",
            b"1w",
            b"s",
            b"-1h",
            b"1h30m",
            b"4294967296",
            b"71582789m",
            b"1193047h",
            b"49711d",
            b"1e3",
            b"0x10",
            b" 1",
            b"1 ",
            b"1,5",
            b"inf",
            b"nan",
            b"NaN",
            b"infinity",
            b"ten",
            b"\xff",
            b"\x1b[2J",
            b"1\n",
        ],
    ),
    (
        "--cache-ttl",
        NOT_A_TIME,
        &[
            b"",
            b"-1",
            b"1.5",
            b"2.5s",
            b"1w",
            b"s",
            b"-1h",
            b"+5",
            b"5 m",
            b"4294967296",
            b"49711d",
            b"\x1bd",
        ],
    ),
    (
        "--cache-ttl",
        TOO_SHORT,
        &[b"0", b"000", b"0s", b"0m", b"0h", b"0d"],
    ),
    (
        "--cache-up-ttl",
        NOT_A_TIME,
        &[
            b"", b"-1", b"1.5", b"2.5s", b"1w", b"s", b"-1h", b"49711d", b"\x07",
        ],
    ),
    (
        "--max-defer",
        NOT_A_TIME,
        &[
            b"", b"-1", b"1.5", b"2.5s", b"1w", b"s", b"-1h", b"49711d", b"4 h",
        ],
    ),
    ("--max-defer", TOO_SHORT, &[b"0", b"0d"]),
    (
        "--max-defer",
        "must be less than 5d, for which deferred messages are remembered",
        &[b"5d", b"432000", b"120h", b"6d", b"49710d"],
    ),
    ("--key", "is empty", &[b""]),
    (
        "--port",
        "is not a port from 1 to 65535",
        &[
            b"",
            b"0",
            b"65536",
            b"-1",
            b"+25",
            b"smtp",
            b"25.0",
            b"0x19",
            b"99999999999",
            b"\x07",
        ],
    ),
    (
        "--jobs",
        "is not a whole number from 1 to 4294967295",
        &[
            b"",
            b"0",
            b"-1",
            b"+1",
            b"1.5",
            b"many",
            b"99999999999999999999",
            b"\x9b",
        ],
    ),
    (
        "--stop",
        "is neither a host name nor an address",
        &[
            b"",
            b".",
            b"a b",
            b"a;b",
            b"10:127.0.0.9",
            b"127.1",
            b"256.0.0.1",
            b"[127.0.0.9]",
            b"[me.test]",
            b"[::1",
            b"::1]",
            b"\x1b]0;x\x07",
        ],
    ),
    (
        "--source",
        "is not an IP address",
        &[
            b"",
            b".",
            b"localhost",
            b"mx.test",
            b"127.1",
            b"256.0.0.1",
            b"127.0.0.1:25",
            b"127.0.0.1/8",
            b"[127.0.0.1]",
            b"10:127.0.0.1",
            b"[::1",
            b"::1]",
            b"10:::1",
            b"lo",
            b"::1%lo",
            b"fe80::1%",
            b"\x1b[2J",
        ],
    ),
    (
        "--source",
        "is not a unicast address",
        &[
            b"0.0.0.0",
            b"0.1.2.3",
            b"224.0.0.1",
            b"255.255.255.255",
            b"::",
            b"[::]",
            b"ff02::1",
            b"::ffff:224.0.0.1",
        ],
    ),
    (
        "--source",
        "needs an interface, as in fe80::1%eth0",
        &[b"fe80::1", b"[fe80::1]", b"febf::1"],
    ),
];

#[test]
fn bad_values() {
    for (option, why, values) in BAD_VALUES {
        each(values, |value| {
            let reason = format!("{option} '{}' {why}", escaped(value));
            is_usage_error(&[option.as_bytes(), value, b"127.0.0.2"], &reason);
            let joined = [option.as_bytes(), b"=", value].concat();
            is_usage_error(&[&joined, b"127.0.0.2"], &reason);
        });
    }
}

/// Arguments and the answer, with a server that is up at 127.0.0.2.
const GOOD: &[(&str, &str)] = &[
    ("127.0.0.2", "127.0.0.2"),
    ("0:127.0.0.2", "127.0.0.2"),
    ("10:127.0.0.2", "127.0.0.2"),
    ("65535:127.0.0.2", "127.0.0.2"),
    ("[::ffff:127.0.0.2]", "[::ffff:127.0.0.2]"),
    ("10:[::ffff:127.0.0.2]", "[::ffff:127.0.0.2]"),
    ("::ffff:127.0.0.2", "::ffff:127.0.0.2"),
    ("-- 127.0.0.2", "127.0.0.2"),
    ("127.0.0.3 -- 127.0.0.2", "127.0.0.2"),
    ("127.0.0.2 --timeout 5", "127.0.0.2"),
    ("--timeout=5 127.0.0.2", "127.0.0.2"),
    ("--timeout 5. 127.0.0.2", "127.0.0.2"),
    ("--timeout 5.25 127.0.0.2", "127.0.0.2"),
    ("--timeout 0 127.0.0.2", "127.0.0.2"),
    ("--timeout 5s 127.0.0.2", "127.0.0.2"),
    ("--timeout 2m 127.0.0.2", "127.0.0.2"),
    ("--timeout=1h 127.0.0.2", "127.0.0.2"),
    ("--timeout 49710d 127.0.0.2", "127.0.0.2"),
    ("--timeout 0.0 127.0.0.2", "127.0.0.2"),
    ("--timeout 1 --timeout 20 127.0.0.2", "127.0.0.2"),
    ("--stop=127.0.0.9 127.0.0.2", "127.0.0.2"),
    ("127.0.0.2 --stop 127.0.0.2", ""),
    ("--jobs 1 127.0.0.3 127.0.0.2", "127.0.0.2"),
    ("--jobs=100000 127.0.0.2", "127.0.0.2"),
    ("-4 127.0.0.2", "127.0.0.2"),
    ("-6 127.0.0.2", ""),
    ("-4 [::1] 127.0.0.2", "127.0.0.2"),
];

#[test]
fn good_arguments() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", UP);
    each(GOOD, |(words, answer)| {
        port.check(words).run().prints(answer).at_once();
    });
}

#[test]
fn help_and_version() {
    let version = concat!("smtpdcheck ", env!("CARGO_PKG_VERSION"), "\n");
    let port = Port::new();
    let server = port.serve("127.0.0.2", UP);
    let help = Check::words("--help").run().stdout;
    assert!(help.starts_with("Usage: smtpdcheck "), "{help}");
    let rows = [
        ("--help", &*help),
        ("-h", &help),
        ("-h 127.0.0.2", &help),
        ("127.0.0.2 --help", &help),
        ("-vh", &help),
        ("--version", version),
        ("-V", version),
        ("127.0.0.2 -V", version),
    ];
    each(&rows, |(words, stdout)| {
        let run = port.check(words).run();
        let triple = (run.status, &*run.stdout, &*run.stderr);
        assert_eq!(triple, (Some(0), *stdout, ""), "{run}");
    });
    assert_eq!(server.count(), 0);
}

/// A large number of seconds does not overflow; a small one is not taken for 0,
/// no limit.
#[test]
fn extreme_timeouts() {
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", SILENT)];
    let large = ["4294967295", "4294967295.999999999", "86400"];
    each(&large, |seconds| {
        let check = port.check(&format!("--timeout {seconds} 127.0.0.2"));
        check.run().prints("127.0.0.2").at_once();
    });
    let small = [".0000000001", "0.001", "0.000000000000000000001"];
    each(&small, |seconds| {
        let check = port.check(&format!("--timeout {seconds} 127.0.0.3"));
        check.run().prints("").after(ms(0));
    });
}
