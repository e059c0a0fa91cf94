//! `--source`: its system calls, and how they may fail.

use super::calls::{calls_of, count};
use crate::harness::run::{each, has, has_all, has_glibc};
use crate::harness::smtp::{Port, UP};

/// One socket is made to try the address. Without the option nothing is bound.
#[test]
fn the_address_is_tried_once() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    for (words, calls) in [("", [1, 0, 0]), ("--source=127.0.0.5 ", [2, 2, 2])] {
        let check = port.check(&format!("{words}127.0.0.2"));
        let Some(check) = check.traced("the_address_is_tried_once") else {
            return;
        };
        let run = check.run();
        run.answers("127.0.0.2");
        let traced = calls_of(&run);
        let counts = ["socket", "bind", "setsockopt"].map(|name| count(&traced, name));
        assert_eq!(counts, calls, "{run}");
    }
}

#[test]
fn an_address_that_cannot_be_tried() {
    let test = "an_address_that_cannot_be_tried";
    if !has_all(&["prlimit", "strace"], test) {
        return;
    }
    let port = Port::new();
    let up = port.serve("127.0.0.2", UP);
    let errors = [
        ("bind", "EACCES", "permission denied"),
        ("bind", "EADDRNOTAVAIL", "not an address of this machine"),
        ("bind", "ENOMEM", "out of memory"),
        ("socket", "EAFNOSUPPORT", "address family not supported"),
        ("socket", "EMFILE", "too many open files"),
        ("socket", "ENFILE", "too many open files in system"),
    ];
    each(&errors, |(call, error, why)| {
        // The soft limit cannot be raised.
        let check = port.check("--source=127.0.0.5 127.0.0.2");
        let check = check.under(&["prlimit", "--nofile=64:64"]);
        let how = format!("error={error}:when=1");
        let run = check.injecting(call, &how).run();
        let reason = format!("--source '127.0.0.5': {why}");
        run.fails_with(&reason).at_once();
    });
    assert_eq!(up.count(), 0);
}

/// The address is gone, say, before a server is connected to: that is this
/// machine's failure, not the server's. It is tried once more.
#[test]
fn an_address_that_cannot_be_used_later() {
    if !has("strace", "an_address_that_cannot_be_used_later") {
        return;
    }
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let errors = [
        ("EADDRNOTAVAIL", "not an address of this machine"),
        ("EACCES", "permission denied"),
        ("ENOBUFS", "out of memory"),
    ];
    each(&errors, |(error, why)| {
        let check = |words: &str, when: &str| {
            let words = format!("--timeout=20 --source=127.0.0.5 {words}");
            let how = format!("error={error}:when={when}");
            port.check(&words).injecting("bind", &how).run()
        };
        let reason = format!("cannot check '127.0.0.2': {why}");
        check("127.0.0.2", "2+").fails_with(&reason).at_once();
        check("127.0.0.2", "2").prints("127.0.0.2").at_once();
        // Where the other one is known to be up, it is not needed.
        check("127.0.0.2 127.0.0.3", "3+")
            .prints("127.0.0.2")
            .at_once();
    });
}

/// What is not known to an old system does no harm.
#[test]
fn a_system_that_chooses_ports_early() {
    if !has("strace", "a_system_that_chooses_ports_early") {
        return;
    }
    let port = Port::new();
    let server = port.serve("127.0.0.2", UP);
    let check = port.check("--source=127.0.0.5 127.0.0.2");
    let run = check.injecting("setsockopt", "error=ENOPROTOOPT").run();
    run.prints("127.0.0.2").at_once();
    assert_eq!(server.only().client.to_string(), "127.0.0.5");
}

/// The soft limit leaves no descriptor to try the address, but can be raised.
#[test]
fn few_descriptors() {
    if !has("prlimit", "few_descriptors") {
        return;
    }
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let check = |limit: &str| {
        let check = port.check("--source=127.0.0.5 127.0.0.2");
        check.under(&["prlimit", limit]).run()
    };
    check("--nofile=4:4").prints("127.0.0.2").at_once();
    // A loader would need the only one.
    if !has_glibc() {
        check("--nofile=3:64").prints("127.0.0.2").at_once();
        let run = check("--nofile=3:3");
        run.fails_with("--source '127.0.0.5': too many open files");
    }
}
