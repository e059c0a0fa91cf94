//! `[prio:]server` arguments: what is a server, what names no host, and what is
//! a usage error.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::is_usage_error;
use crate::harness::run::{Check, each, escaped};
use crate::harness::smtp::{Port, UP};
use crate::harness::{dns, namespace};

#[test]
fn bad_priorities() {
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
    let why = "the text before the first colon must be a priority from 0 to 65535 (for a port, use --port)";
    each(priorities, |priority| {
        let server = [*priority, b":127.0.0.2"].concat();
        let reason = format!("server '{}': {why}", escaped(&server));
        is_usage_error(&[b"--", &server], &reason);
        is_usage_error(&[b"--", b"127.0.0.2", &server], &reason);
    });
}

/// The whole argument is an address of 2000::/3, but would be read as a priority
/// and a server.
#[test]
fn an_ipv6_address_after_a_number_needs_brackets() {
    let servers = [
        "2001:db8::1",
        "2620:fe::fe",
        "2001::",
        "3000::1",
        "2000:0:0:0:0:0:0:1",
        "2001:db8::127.0.0.2",
    ];
    each(&servers, |server| {
        let reason = format!("server '{server}': an IPv6 address needs brackets: [{server}]");
        is_usage_error(&[server.as_bytes()], &reason);
        is_usage_error(&[b"127.0.0.2", server.as_bytes()], &reason);
    });
}

/// Any other number and colon is a priority: so a zone whose MX is a bare
/// address does not stop the check.
#[test]
fn any_other_number_and_colon_is_a_priority() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", UP);
    let servers = [
        "10:2001:db8::1",
        "20:db8::1",
        "1::",
        "1999::1",
        "4000::1",
        "0:0:0:0:0:0:0:1",
        "5::127.0.0.2",
        "10:::1",
        "10:20:a.test",
        "2001:db8::zz",
    ];
    each(&servers, |server| {
        port.check(server).run().prints("").at_once();
        let check = port.check(&format!("{server} 127.0.0.2"));
        check.run().prints("127.0.0.2").at_once();
    });
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

/// All names exist, and lead to a server that is up, as do the addresses that
/// the C library would read from some of these texts. They are not looked up,
/// and not printed.
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
            // Otherwise its colon would make a priority.
            if !text.contains(&b':') || text.starts_with(b"[") {
                servers.push(text);
            }
            for server in servers {
                let run = Check::new([OsStr::from_bytes(server)]).run();
                run.answers("").at_once();
                assert_eq!(run.stderr, warning(server), "{run}");
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
        run.answers("127.0.0.2").at_once();
        assert_eq!(run.stderr, warning(&text), "{run}");
        // A line for each server, escaped.
        let run = port.check("-v").arguments(servers).run();
        run.answers("127.0.0.2");
        let lines = run.stderr.strip_suffix(&warning(&text)).unwrap();
        assert_eq!(lines.lines().count(), 2, "{run}");
        let line = "  down  neither a host name nor an address\n";
        assert!(lines.contains(line), "{run}");
    });
}

/// The warning about an argument with a blank in it; empty for any other.
fn warning(argument: &[u8]) -> String {
    if !argument.iter().any(|b| b" \t\n".contains(b)) {
        return String::new();
    }
    let shown = escaped(argument);
    format!(
        "smtpdcheck: warning: '{shown}' contains white space and counts as down; \
         pass each server as a separate argument\n"
    )
}

/// A slip of quoting in a script. One line says so, unless the status is 2.
#[test]
fn a_list_in_one_argument_gets_a_warning() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", UP);
    let list = "10:127.0.0.2 20:127.0.0.3";
    let rows: [(&[&str], &str); 4] = [
        (&[list], ""),
        (&[list, "127.0.0.2"], "127.0.0.2"),
        (&["127.0.0.2", list, "a b", "c d"], "127.0.0.2"),
        (&["--stop=127.0.0.9", "127.0.0.9", list], ""),
    ];
    each(&rows, |(arguments, answer)| {
        let run = port.check("").arguments(*arguments).run();
        run.answers(answer).at_once();
        assert_eq!(run.stderr, warning(list.as_bytes()), "{run}");
    });
    let failing = ["--stop=fe80::1%nolink", list];
    let run = port.check("").arguments(failing).run();
    run.fails().at_once();
    assert!(!run.stderr.contains("warning"), "{run}");
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
