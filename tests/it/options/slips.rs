//! Server arguments that are easily written wrong: IPv6 addresses without
//! brackets, and several servers in one argument.

use crate::harness::namespace;
use crate::harness::run::{Check, each};
use crate::harness::smtp::{DOWN, Port, UP};

/// What a number stands before is not an address by itself, and names no host:
/// so it comes out of a zone whose MX is a bare address, which is not an error.
#[test]
fn a_bare_ipv6_address_behind_a_priority_is_down() {
    namespace::run(|| {
        let port = Port::smtp();
        let _servers = ["192.0.2.200", "2001:db8::a:200", "::1"].map(|a| port.serve(a, UP));
        let bare = [
            "20:2001:db8::a:200",
            "20:db8::a:200",
            "20:2620:fe::fe",
            "65535:2001:db8::a:200",
            "20:2001:db8:0:0:0:0:a:200",
            "20::1",
            "20:::1",
            "0:0:0:0:0:0:0:1",
            "20:fe80::1%lo",
        ];
        each(&bare, |server| {
            let check = |more: &str| Check::words(&format!("{server} {more}")).run();
            check("").prints("").at_once();
            check("30:192.0.2.200").prints("192.0.2.200").at_once();
            let run = Check::words(&format!("-v {server}")).run();
            run.answers("");
            let why = "neither a host name nor an address";
            assert!(
                run.stderr.contains("  down  ") && run.stderr.contains(why),
                "{run}"
            );
        });
        // In brackets it is one.
        let server = "20:[2001:db8::a:200]";
        Check::words(server).run().prints("[2001:db8::a:200]");
    });
}

/// An argument that as a whole is an address in use on the Internet, and reads
/// as a priority and a server.
#[test]
fn a_bare_ipv6_address_by_itself_is_refused() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let refused = [
        "2001:db8::1",
        "2620:fe::fe",
        "2001:db8:0:0:0:0:0:1",
        "2001:DB8::1",
        "2001::",
        "3001::1",
        "2000:1:2:3:4:5:6:7",
    ];
    each(&refused, |server| {
        for words in [server.to_string(), format!("127.0.0.2 {server}")] {
            let run = port.check(&words).run();
            run.fails();
            let (bare, bracketed) = (format!("'{server}'"), format!("[{server}]"));
            assert!(run.stderr.contains(&bare), "{run}");
            assert!(run.stderr.contains(&bracketed), "{run}");
        }
        port.check(&format!("127.0.0.2 [{server}]"))
            .run()
            .prints("127.0.0.2");
    });
}

#[test]
fn an_ipv6_address_with_no_number_before_its_first_colon_needs_no_brackets() {
    namespace::run(|| {
        let port = Port::smtp();
        let _servers = ["::1", "fe80::1%1", "2001:db8::a:200"].map(|a| port.serve(a, UP));
        let rows = [
            ("::1", "::1"),
            ("fe80::1%lo", "fe80::1%lo"),
            ("2a00::1 ::1", "::1"),
            ("2a00::1", ""),
            ("fd00::1", ""),
            ("--stop 2001:db8::a:200 10:::1 10:[2001:db8::a:200]", ""),
        ];
        each(&rows, |(words, answer)| {
            Check::words(words).run().prints(answer).at_once();
        });
    });
}

/// A slip of quoting: the answer is as it always was, but a line says why.
#[test]
fn an_argument_with_a_blank_is_worth_a_warning() {
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let rows: [(&[&str], &str, &str); 8] = [
        (
            &["10:127.0.0.2 20:127.0.0.3"],
            "",
            "10:127.0.0.2 20:127.0.0.3",
        ),
        (&["127.0.0.2 127.0.0.3"], "", "127.0.0.2 127.0.0.3"),
        (&["127.0.0.3", "10:127.0.0.2 "], "", "10:127.0.0.2 "),
        (
            &["10: 127.0.0.2", "127.0.0.2"],
            "127.0.0.2",
            "10: 127.0.0.2",
        ),
        (&["127.0.0.2", "a b"], "127.0.0.2", "a b"),
        (&["a\tb"], "", "a\\x09b"),
        (&["10:a\nb"], "", "10:a\\x0ab"),
        // One line is enough.
        (&["10:a b", "20:c d"], "", "10:a b"),
    ];
    each(&rows, |(servers, answer, shown)| {
        let run = port.check("").arguments(*servers).run();
        run.answers(answer).at_once();
        let line = run.stderr.strip_prefix("smtpdcheck: warning: ");
        let line = line.and_then(|line| line.strip_suffix('\n'));
        let line = line.unwrap_or_else(|| panic!("{run}"));
        assert!(!line.contains('\n'), "{run}");
        assert!(line.contains(&format!("'{shown}'")), "{run}");
        assert!(line.contains("white space"), "{run}");
        // Also behind a report.
        let verbose = port.check("-v").arguments(*servers).run();
        assert!(verbose.stderr.ends_with(&run.stderr), "{verbose}");
    });
}

#[test]
fn without_a_blank_there_is_no_warning_and_with_an_error_neither() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let silent: [&[&str]; 5] = [
        &["127.0.0.3"],
        &["10:a;b", "10:.", "20:a:b"],
        &["10:a\u{1b}b"],
        &["10:\u{a0}"],
        &["10:a,b"],
    ];
    each(&silent, |servers| {
        port.check("").arguments(*servers).run().prints("");
    });
    let failing: [&[&str]; 4] = [
        &["--bogus", "10:a b"],
        &["10:a b", ""],
        &["10:a b", "x:127.0.0.2"],
        &["--stop=fe80::1%nowhere", "10:a b"],
    ];
    each(&failing, |arguments| {
        port.check("").arguments(*arguments).run().fails();
    });
    let full = std::fs::File::create("/dev/full").unwrap();
    let check = port.check("127.0.0.2").arguments(["10:a b"]);
    check.stdout(full).run().fails();
}
