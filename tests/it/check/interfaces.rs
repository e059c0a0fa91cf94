//! Link-local addresses: their interfaces, and which of them are one host.

use crate::harness::namespace;
use crate::harness::run::{Check, each, has, has_all};
use crate::harness::smtp::{Port, UP};

use super::shortage::{has_static, is_static};

/// The interface of a stop host, or of a server, may be missing: then any one
/// will do.
#[test]
fn a_stop_host_of_any_interface() {
    namespace::run(|| {
        let port = Port::smtp();
        let _servers = ["192.0.2.200", "fe80::1%1"].map(|a| port.serve(a, UP));
        let rows = [
            ("--stop fe80::1 10:192.0.2.200 10:[fe80::1%lo]", ""),
            ("--stop [fe80::1] 10:192.0.2.200 10:[fe80::1%1]", ""),
            ("--stop fe80::1 10:[fe80::1%lo]", ""),
            ("--stop fe80::1%lo 10:192.0.2.200 10:[fe80::1]", ""),
            ("--stop fe80::1%lo 10:192.0.2.200 10:[fe80::1%lo]", ""),
            (
                "--stop fe80::1%lo 10:192.0.2.200 10:[fe80::1%void]",
                "192.0.2.200",
            ),
            ("--stop fe80::1%void 10:[fe80::1%lo]", "[fe80::1%lo]"),
            (
                "--stop fe80::1 10:192.0.2.200 10:[fe80::2%lo]",
                "192.0.2.200",
            ),
            (
                "--stop fe80::1%lo --stop fe80::1%void 10:192.0.2.200 10:[fe80::1%void]",
                "",
            ),
            ("fe80::1%lo", "fe80::1%lo"),
        ];
        each(&rows, |(words, answer)| {
            let run = Check::words(words).first("--timeout=20").run();
            run.prints(answer).at_once();
        });
    });
}

/// A server with a wrong interface is down. A stop host with one is an error:
/// without it the machine might defer to itself.
#[test]
fn an_interface_that_does_not_exist() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    for interface in ["nowhere", "nowhere-at-all-", "nowhere.0"] {
        let check = |words: &str| port.check(&words.replace("WRONG", interface)).run();
        check("fe80::1%WRONG").prints("").at_once();
        check("10:[fe80::1%WRONG] 127.0.0.2").prints("127.0.0.2");
        let run = check("-v fe80::1%WRONG");
        run.answers("");
        assert!(run.stderr.contains("no such interface"), "{run}");
        let run = check("--stop fe80::1%WRONG 127.0.0.2");
        run.fails().at_once();
        assert!(run.stderr.contains("no such interface"), "{run}");
    }
}

/// Finding an interface takes a socket. If this machine has none, nobody knows
/// whether the interface exists.
#[test]
fn an_interface_that_cannot_be_looked_up() {
    let test = "an_interface_that_cannot_be_looked_up";
    if !has_all(&["ldd", "prlimit", "strace"], test) {
        return;
    }
    // Of musl only the first socket is for the interface. glibc tries one
    // family after the other, and does not tell why none of them would do.
    let is_static = is_static();
    let times = if is_static { "1" } else { "1+" };
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let errors = [
        ("EMFILE", "too many open files"),
        ("ENFILE", "too many open files in system"),
        ("EACCES", "permission denied"),
        ("EPERM", "operation not permitted"),
        ("EAFNOSUPPORT", "address family not supported"),
    ];
    each(&errors, |(error, words)| {
        // The soft limit cannot be raised.
        let check = |arguments: &str| {
            let check = port.check(arguments).under(&["prlimit", "--nofile=64:64"]);
            check.injecting("socket", &format!("error={error}:when={times}"))
        };
        for server in ["fe80::1%lo", "10:[fe80::1%lo]", "10:[fe80::1%nowhere]"] {
            for arguments in [server.to_owned(), format!("{server} 127.0.0.2")] {
                let run = check(&arguments).run();
                let shown = server.trim_start_matches("10:");
                run.fails().at_once();
                let line = format!("smtpdcheck: cannot check '{shown}': {words}\n");
                assert!(!is_static || run.stderr == line, "{run}");
            }
        }
        let run = check("--stop fe80::1%lo 127.0.0.2").run();
        run.fails().at_once();
        let end = format!(": {words}\n");
        assert!(!is_static || run.stderr.ends_with(&end), "{run}");
        // A number needs no looking up.
        if is_static {
            let run = check("fe80::1%1 127.0.0.2").run();
            run.prints("127.0.0.2").at_once();
        }
    });
}

/// The same without strace: there is no descriptor left, or only after the
/// soft limit has been raised.
#[test]
fn an_interface_and_few_descriptors() {
    let test = "an_interface_and_few_descriptors";
    if !has("prlimit", test) || !has_static(test) {
        return;
    }
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let check = |limit: &str, words: &str| {
        let limit = format!("--nofile={limit}");
        port.check(words).under(&["prlimit", &limit]).run()
    };
    for words in ["fe80::1%lo", "--stop fe80::1%lo 127.0.0.2"] {
        let run = check("3:3", words);
        run.fails().at_once();
        assert!(run.stderr.contains("too many open files"), "{run}");
    }
    for limit in ["3:64", "4:4"] {
        let run = check(limit, "fe80::1%nowhere 127.0.0.2");
        run.prints("127.0.0.2").at_once();
    }
}
