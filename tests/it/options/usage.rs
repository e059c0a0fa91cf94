//! The command line: for every option the triple of standard output, standard
//! error and status; what is a server, and what is none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::harness::run::{Check, each, escaped, ms};
use crate::harness::smtp::{Port, SILENT, UP};
use crate::harness::{dns, namespace};

/// Arguments that make no sense, as bytes, and the reason given.
const MISUSE: &[(&[&[u8]], &str)] = &[
    (&[], "no server given; smtpdcheck --help shows how"),
    (&[b"-v"], "no server given; smtpdcheck --help shows how"),
    (&[b"--"], "no server given; smtpdcheck --help shows how"),
    (
        &[b"--stop", b"127.0.0.9"],
        "no server given; smtpdcheck --help shows how",
    ),
    (&[b""], "a server is an empty argument"),
    (&[b"127.0.0.2", b""], "a server is an empty argument"),
    (
        &[b"--bogus", b"a"],
        "option '--bogus' does not exist; --help lists them all",
    ),
    (
        &[b"--bogus=1", b"a"],
        "option '--bogus' does not exist; --help lists them all",
    ),
    (
        &[b"-x", b"a"],
        "option '-x' does not exist; --help lists them all",
    ),
    (
        &[b"-vx", b"a"],
        "option '-x' does not exist; --help lists them all",
    ),
    (
        &[b"a", b"--bogus"],
        "option '--bogus' does not exist; --help lists them all",
    ),
    (&[b"--stop"], "--stop needs a value"),
    (&[b"a", b"--timeout"], "--timeout needs a value"),
    (&[b"a", b"--port"], "--port needs a value"),
    (&[b"a", b"--jobs"], "--jobs needs a value"),
    (
        &[b"--verbose=1", b"a"],
        "--verbose '1' is one word too many: it takes no value",
    ),
    (
        &[b"-4", b"-6", b"a"],
        "-4 and -6 leave no addresses: give one of them",
    ),
    (
        &[b"-64", b"a"],
        "-4 and -6 leave no addresses: give one of them",
    ),
];

#[test]
fn arguments_that_make_no_sense() {
    each(MISUSE, |(arguments, reason)| misuse(arguments, reason));
}

fn misuse(arguments: &[&[u8]], reason: &str) {
    let run = Check::new(arguments.iter().map(|a| OsStr::from_bytes(a))).run();
    assert_eq!(run.stderr, format!("smtpdcheck: {reason}\n"), "{run}");
    run.fails().at_once();
}

/// Options, and values that are refused with one reason each.
const BAD_VALUES: &[(&str, &str, &[&[u8]])] = &[
    (
        "--timeout",
        "is no number of seconds up to 4294967295, such as 10 or 2.5",
        &[
            b"",
            b"-1",
            b"-0",
            b"+1",
            b".",
            b"1.2.3",
            b"1s",
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
        "--port",
        "is no port from 1 to 65535",
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
        "is no whole number from 1 to 4294967295",
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
        "is no host name and no address",
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
];

#[test]
fn values_that_make_no_sense() {
    for (option, why, values) in BAD_VALUES {
        each(values, |value| {
            let reason = format!("{option} '{}' {why}", escaped(value));
            misuse(&[option.as_bytes(), value, b"127.0.0.2"], &reason);
            let joined = [option.as_bytes(), b"=", value].concat();
            misuse(&[&joined, b"127.0.0.2"], &reason);
        });
    }
}

#[test]
fn a_bad_priority_is_misuse() {
    let priorities: &[&[u8]] = &[
        b"",
        b"x",
        b"mx.test",
        b"-1",
        b"+5",
        b" 5",
        b"5 ",
        b"1.5",
        b"0x5",
        b"65536",
        b"70000",
        b"99999999999999999999",
        b"\xff",
        b"\x1b[2J",
        b"127.0.0.2",
    ];
    let why = "has a bad priority: a number from 0 to 65535 comes before the first colon (a port is given with --port)";
    each(priorities, |priority| {
        let server = [*priority, b":127.0.0.2"].concat();
        let reason = format!("server '{}' {why}", escaped(&server));
        misuse(&[b"--", &server], &reason);
        misuse(&[b"--", b"127.0.0.2", &server], &reason);
    });
}

#[test]
fn an_ipv6_address_without_brackets_is_misuse_where_it_reads_as_a_priority() {
    let servers = [
        "2001:db8::1",
        "1::",
        "10:2001:db8::1",
        "0:0:0:0:0:0:0:1",
        "5::127.0.0.1",
    ];
    each(&servers, |server| {
        let reason = format!(
            "server '{server}' is an IPv6 address without brackets: write [{server}], or number:[address] with a priority"
        );
        misuse(&[server.as_bytes()], &reason);
    });
}

/// What stands where an option, its value and the servers are told apart, with
/// a server that is up on 127.0.0.2.
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
fn arguments_that_make_sense() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", UP);
    each(GOOD, |(words, answer)| {
        port.check(words).run().prints(answer).at_once();
    });
}

#[test]
fn help_and_version_come_before_all_else() {
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

/// Texts that name no host.
const NO_HOST: &[&[u8]] = &[
    b".",
    b"a b.test",
    b" 127.0.0.2",
    b"127.0.0.2 ",
    b"a;b.test",
    b"$(id).test",
    b"`id`.test",
    b"a/b.test",
    b"a\tb.test",
    b"a\nb.test",
    b"127.0.0.2\n",
    b"\x1b[31mred.test",
    b"\x9b31m.test",
    b"\x7f.test",
    b"b\xc3\xbccher.test",
    b"\xff\xfe",
    b"..",
    b".a.test",
    b"a..test",
    b"a.test..",
    b"127.1",
    b"127.0.2",
    b"127.0.0.2.",
    b"127.0.0.02",
    b"127.0.0.2.2",
    b"256.0.0.2",
    b"2130706434",
    b"0177.0.0.2",
    b"0x7f.0.0.2",
    b"0x7f000002",
    b"127.0.0.0x2",
    b"a.123",
    b"%lo",
    b"[127.0.0.2]",
    b"[a.test]",
    b"[]",
    b"[::1",
    b"::1]x",
    b"[::ffff:127.0.0.2]x",
    b"*.test",
    b"a@b.test",
    b"a=b.test",
];

/// Every server's name, every address that the C library would read in one,
/// and every name that exists are up, and yet none of these is: they are not
/// looked up, and not printed.
#[test]
fn a_text_that_names_no_host_is_a_server_that_is_down() {
    namespace::run(|| {
        let names = dns::serve("* A 127.0.0.2\n* AAAA nodata");
        let port = Port::smtp();
        let server = port.serve("127.0.0.2", UP);
        let long_label = format!("{}.test", "a".repeat(64));
        let long_name = format!("{}aa", "a.".repeat(126));
        assert_eq!(long_name.len(), 254);
        namespace::hosts(&format!("127.0.0.2 {long_label} {long_name}\n"));
        let mut texts = NO_HOST.to_vec();
        texts.extend([long_label.as_bytes(), long_name.as_bytes()]);
        each(&texts, |text| {
            let with_priority = [b"10:", *text].concat();
            let mut servers = vec![&with_priority[..]];
            // Without a priority a colon makes one.
            if !text.contains(&b':') || text.starts_with(b"[") {
                servers.push(text);
            }
            for server in servers {
                Check::new([OsStr::from_bytes(server)])
                    .run()
                    .prints("")
                    .at_once();
            }
        });
        each(&["10:", "10:::1", "10:20:a.test", "10::a.test"], |server| {
            Check::words(server).run().prints("").at_once();
        });
        assert_eq!(names.questions(), [""; 0]);
        assert_eq!(server.count(), 0);
    });
}

#[test]
fn a_text_that_names_no_host_stops_nothing() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", UP);
    each(NO_HOST, |text| {
        let text = [b"10:", *text].concat();
        let servers = [OsStr::from_bytes(&text), OsStr::new("127.0.0.2")];
        let run = port.check("").arguments(servers).run();
        run.prints("127.0.0.2").at_once();
        // With a line each, and no more, as it is fit to be printed.
        let run = port.check("-v").arguments(servers).run();
        run.answers("127.0.0.2");
        assert_eq!(run.stderr.lines().count(), 2, "{run}");
        assert!(run.stderr.contains("  down  not a host name\n"), "{run}");
    });
}

#[test]
fn names_are_printed_as_given() {
    namespace::run(|| {
        let _names = dns::serve("* A 127.0.0.2\n* AAAA nodata");
        let _server = Port::smtp().serve("127.0.0.2", UP);
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), 253);
        let names = [
            "mx.test",
            "MX.Test",
            "mx.test.",
            "mx",
            "_mx-1.a_b.test",
            "1.2.3.mx",
            "1.2.3.4.test",
            "3com.test",
            "xn--bcher-kva.test",
            &longest,
        ];
        each(&names, |name| {
            Check::words(name).run().prints(name).at_once();
            Check::words(&format!("10:{name}")).run().prints(name);
        });
    });
}

#[test]
fn ipv6_addresses() {
    namespace::run(|| {
        let addresses = ["::1", "2001:db8::a:1", "fe80::1%1"];
        let _servers = addresses.map(|address| Port::smtp().serve(address, UP));
        let rows = [
            ("::1", "::1"),
            ("[::1]", "[::1]"),
            ("10:[::1]", "[::1]"),
            ("10:[2001:db8::a:1]", "[2001:db8::a:1]"),
            ("[2001:DB8:0:0::A:1]", "[2001:DB8:0:0::A:1]"),
            ("fe80::1%lo", "fe80::1%lo"),
            ("[fe80::1%lo]", "[fe80::1%lo]"),
            ("10:[fe80::1%lo]", "[fe80::1%lo]"),
            ("10:[fe80::1%nolink]", ""),
            ("-6 [::1]", "[::1]"),
            ("-4 [::1]", ""),
        ];
        each(&rows, |(words, answer)| {
            Check::words(words).run().prints(answer).at_once();
        });
    });
}

/// However large a number of seconds is, it neither overflows nor counts as
/// less; however small, it is not none.
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
