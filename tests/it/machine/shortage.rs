//! Too few descriptors or threads.

use super::calls::{calls_of, count};
use super::{limited, make_root};
use crate::harness::run::{Check, cannot_run, each, has, has_all, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Send, UP, Wait, down_after, up_after};
use crate::harness::{dns, namespace};

/// With few descriptors, fewer servers are probed at a time, but all of them.
#[test]
fn few_descriptors() {
    if !has("prlimit", "few_descriptors") {
        return;
    }
    let addresses: Vec<_> = (1..=60).map(|n| format!("127.0.1.{n}")).collect();
    let words = format!("{} 127.0.0.2", addresses.join(" "));
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let _servers: Vec<_> = addresses.iter().map(|a| port.serve(a, DOWN)).collect();
    each(&["5:5", "6:6", "8:8", "16:16"], |limit| {
        let limit = format!("--nofile={limit}");
        let check = port.check(&words).under(&["prlimit", &limit]);
        check.run().prints("127.0.0.2").at_once();
    });
}

/// It would allow four servers at a time, and the check would take ten seconds.
#[test]
fn the_soft_descriptor_limit_is_raised() {
    if !has("prlimit", "the_soft_descriptor_limit_is_raised") {
        return;
    }
    let addresses: Vec<_> = (1..=40).map(|n| format!("127.0.1.{n}")).collect();
    let port = Port::new();
    let _servers: Vec<_> = addresses
        .iter()
        .map(|a| port.serve(a, &down_after(ms(1000))))
        .collect();
    let check = port.check(&addresses.join(" "));
    let check = check.under(&["prlimit", "--nofile=7:1024"]);
    check.run().prints("").after(ms(1000));
}

/// A lookup is the first to need it.
#[test]
fn the_soft_descriptor_limit_is_raised_for_lookups() {
    namespace::run(|| {
        let test = "the_soft_descriptor_limit_is_raised_for_lookups";
        if !has_all(&["ldd", "prlimit"], test) {
            return;
        }
        let _names = dns::serve(
            "mx.test A 127.0.0.2\nmx.test AAAA nodata\n\
             me.test A 127.0.0.9\nme.test AAAA nodata",
        );
        let _up = Port::smtp().serve("127.0.0.2", UP);
        // A loader needs one more.
        let least = if make_root() { 3 } else { 4 };
        for soft in [least, 4, 5] {
            let limit = format!("--nofile={soft}:1024");
            for words in ["mx.test", "--stop me.test 10:mx.test 10:me.test"] {
                let answer = words.strip_prefix("--stop").map_or(words, |_| "");
                let check = Check::words(&format!("--timeout=20 {words}"));
                let run = check.under(&["prlimit", &limit]).run();
                run.prints(answer).at_once();
            }
        }
    });
}

/// The message about a server for which there was no descriptor.
fn cannot_check(server: &str) -> String {
    format!("cannot check '{server}': too many open files")
}

/// Without descriptors for a probe the status is 2, in whatever stage that
/// happens; with just enough for one at a time it is not.
#[test]
fn hardly_any_descriptors() {
    namespace::run(|| {
        let test = "hardly_any_descriptors";
        if !has_all(&["ldd", "prlimit"], test) || !namespace::has_unprivileged(test) {
            return;
        }
        if !make_root() {
            // Its loader would need one.
            return cannot_run(test, "the program is not static");
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let server = Port::smtp().serve("127.0.0.2", UP);
        let check = |limit: u32, words: &str| {
            let limit = format!("--nofile={limit}:{limit}");
            let check = limited(words, &["prlimit", &limit]);
            check.first("--timeout=20").run()
        };
        for (limit, words, server) in [
            (3, "127.0.0.2", "127.0.0.2"),
            (3, "127.0.0.2 127.0.0.3", "127.0.0.2"),
            (3, "mx.test", "mx.test"),
            // The only one wakes the loop when a lookup ends.
            (4, "mx.test", "mx.test"),
        ] {
            let run = check(limit, words);
            run.fails_with(&cannot_check(server)).at_once();
        }
        check(3, "--stop mx.test 127.0.0.2").fails().at_once();
        check(3, "10:.").prints("");
        assert_eq!(server.count(), 0);

        let _server = Port::smtp().serve("127.0.0.2", UP);
        check(4, "127.0.0.3 127.0.0.4 127.0.0.2")
            .prints("127.0.0.2")
            .at_once();
        // And one for the lookups, of one family after the other.
        check(5, "mx.test").prints("mx.test").at_once();
        check(5, "127.0.0.3 gone.test mx.test")
            .prints("mx.test")
            .at_once();
    });
}

/// The connection to a server that is up stays open until the last line of the
/// greeting, but not if another server needs its descriptor.
#[test]
fn a_connection_only_open_for_quit_gives_way() {
    namespace::run(|| {
        if !has("prlimit", "a_connection_for_quit_alone_gives_way") {
            return;
        }
        let silent = ["127.0.0.3", "127.0.0.4", "127.0.0.5"];
        let addresses = silent.iter().chain(&["127.0.0.6"]);
        let hosts: Vec<_> = addresses.map(|a| format!("{a} mx.hosts\n")).collect();
        namespace::hosts(&hosts.concat());
        let port = Port::smtp();
        let _silent = silent.map(|address| port.serve(address, SILENT));
        let _up = port.serve("127.0.0.6", UP);
        // The last address is due when the other server is up, or before.
        for (delay, after) in [(0, 750), (1500, 1500)] {
            let polite = port.serve("127.0.0.2", &[Wait(ms(delay)), Send(b"220-mx.test\r\n")]);
            // One descriptor wakes the loop, and four are for connections.
            let check = Check::words("--timeout=20 mx.hosts 127.0.0.2");
            let run = check.under(&["prlimit", "--nofile=8:8"]).run();
            run.prints("mx.hosts").after(ms(after));
            let connection = polite.only();
            let sent = [connection.early, connection.received].concat();
            assert_eq!(sent, b"", "{run}");
        }
    });
}

/// With `--jobs`, the deadline of one server may free the descriptor for which
/// another waits: that one begins then, whatever else is under way.
#[test]
fn a_descriptor_freed_by_a_timeout_is_used() {
    if !has("prlimit", "a_descriptor_freed_by_a_timeout_is_used") {
        return;
    }
    let port = Port::new();
    // Two descriptors for connections. The first two servers have them. After
    // two seconds the third gets the second one's for a moment, then the fourth;
    // the fifth gets none until the first server's deadline.
    let _servers = [
        port.serve("127.0.0.2", SILENT),
        port.serve("127.0.0.3", &down_after(ms(2000))),
        port.serve("127.0.0.4", DOWN),
        port.serve("127.0.0.5", SILENT),
        port.serve("127.0.0.6", &up_after(ms(300))),
    ];
    let words = "--jobs=3 --timeout=4 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6";
    let run = port.check(words).under(&["prlimit", "--nofile=5:5"]).run();
    run.prints("127.0.0.6").after(ms(6000));
}

/// If a server could not be asked in time, because there was no descriptor, the
/// status is 2 where its result is needed.
#[test]
fn servers_that_could_not_be_asked() {
    if !has("prlimit", "servers_that_could_not_be_asked") {
        return;
    }
    // One descriptor for connections, which the first server gets.
    let limit = ["prlimit", "--nofile=4:4"];
    let rows = [
        (SILENT, "127.0.0.2 127.0.0.3", None),
        (SILENT, "10:127.0.0.2 20:127.0.0.3 30:127.0.0.4", None),
        (
            SILENT,
            "--stop=127.0.0.9 127.0.0.2 127.0.0.9 127.0.0.3",
            Some(""),
        ),
        (
            SILENT,
            "--stop=127.0.0.9 20:127.0.0.2 10:127.0.0.3 10:127.0.0.9",
            Some(""),
        ),
        (&up_after(ms(500)), "127.0.0.2 127.0.0.3", Some("127.0.0.2")),
    ];
    each(&rows, |(script, list, answer)| {
        let port = Port::new();
        let _first = port.serve("127.0.0.2", script);
        let other = port.serve("127.0.0.3", SILENT);
        let check = port.check(&format!("--timeout=1 {list}"));
        let run = check.under(&limit).run();
        match answer {
            Some(answer) => drop(run.prints(answer)),
            None => {
                let reason = cannot_check("127.0.0.3");
                run.fails_with(&reason).after(ms(1000));
            }
        }
        assert_eq!(other.count(), 0, "{run}");
    });
}

/// The other servers have their lines.
#[test]
fn verbose_of_servers_that_could_not_be_asked() {
    let test = "verbose_of_servers_that_could_not_be_asked";
    if !has_all(&["prlimit", "strace"], test) {
        return;
    }
    let port = Port::new();
    let _silent = ["127.0.0.2", "127.0.0.3"].map(|address| port.serve(address, SILENT));
    let silent = "down  127.0.0.2: no greeting within 1 s (connected after ";
    let words = "-v --timeout=1 127.0.0.2 127.0.0.3 fe80::1%none";
    let run = port.check(words).under(&["prlimit", "--nofile=4:4"]).run();
    run.after(ms(1000));
    let lines: Vec<_> = run.stderr.lines().collect();
    let [interface, first, reason] = lines[..] else {
        panic!("{run}");
    };
    assert_eq!(interface, "fe80::1%none  down  no such interface", "{run}");
    assert!(first.contains(silent), "{run}");
    let expected = format!("smtpdcheck: {}", cannot_check("127.0.0.3"));
    assert_eq!(reason, expected, "{run}");
    assert_eq!((run.status, &*run.stdout), (Some(2), ""), "{run}");

    let check = port.check("-v --timeout=1 127.0.0.2 localhost");
    let run = check.injecting("eventfd2", "error=ENFILE").run();
    run.after(ms(1000));
    let lines: Vec<_> = run.stderr.lines().collect();
    let [first, reason] = lines[..] else {
        panic!("{run}");
    };
    assert!(first.contains(silent), "{run}");
    let expected = format!("smtpdcheck: {} in system", cannot_check("localhost"));
    assert_eq!(reason, expected, "{run}");
    assert_eq!((run.status, &*run.stdout), (Some(2), ""), "{run}");
}

/// A lookup that was left behind keeps its descriptors until it ends. Another
/// server waits for them; if its deadline passes before it could be asked, the
/// status is 2.
#[test]
fn lookups_left_behind_keep_their_descriptors() {
    namespace::run(|| {
        if !has("prlimit", "lookups_left_behind_keep_their_descriptors") {
            return;
        }
        let _names = dns::serve("* A silent\n* AAAA silent");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        // How long the C library waits for the name server, and the timeout of
        // each server, in seconds.
        let run = |patience: u32, timeout: u32| {
            namespace::resolver_timeout(patience);
            let words = format!("--jobs=1 --timeout={timeout} mx.test 127.0.0.2");
            let check = Check::words(&words).under(&["prlimit", "--nofile=6:6"]);
            check.run()
        };
        run(5, 4).prints("127.0.0.2").after(ms(4000));
        let run = run(60, 1);
        run.fails_with(&cannot_check("127.0.0.2")).after(ms(2000));
    });
}

/// An attempt is due, but never made for want of a descriptor: it is not known
/// whether the server is up.
#[test]
fn waiting_for_a_descriptor_is_not_busy() {
    namespace::run(|| {
        if !has("prlimit", "waiting_for_a_descriptor_is_not_busy") {
            return;
        }
        let silent = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
        let hosts = silent.map(|address| format!("{address} mx.hosts\n"));
        namespace::hosts(&hosts.concat());
        let port = Port::smtp();
        let _silent = silent.map(|address| port.serve(address, SILENT));
        let check = || port.check("-4 --timeout=1.5 mx.hosts");
        // One descriptor wakes the loop, and two are for connections.
        let run = check().under(&["prlimit", "--nofile=6:6"]).run();
        run.fails_with(&cannot_check("mx.hosts")).after(ms(1500));

        // One more is strace's.
        let Some(check) = check().traced("waiting_for_a_descriptor_is_not_busy") else {
            return;
        };
        let run = check.under(&["prlimit", "--nofile=7:7"]).run();
        assert_eq!(run.status, Some(2), "{run}");
        let calls = calls_of(&run);
        assert!(
            calls.iter().any(|call| call.contains("EMFILE")),
            "{calls:#?}"
        );
        let polls = count(&calls, "poll") + count(&calls, "ppoll");
        assert!((1..=10).contains(&polls), "{polls} turns: {calls:#?}");
    });
}

/// A lookup that this machine fails at is made again. If it fails again, the
/// status is 2.
#[test]
fn lookups_that_this_machine_fails() {
    namespace::run(|| {
        if !has_all(&["ldd", "strace"], "lookups_that_this_machine_fails") {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let is_static = make_root();
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            let open = |times: &str, words: &str| {
                let error = format!("error=EMFILE:when={times}");
                let check = Check::words(words).injecting("open,openat", &error);
                check.under(&["-P", file]).run()
            };
            open("1", "--timeout=20 mx.test")
                .prints("mx.test")
                .at_once();
            // Every second time, for one thread that makes all lookups.
            let words = "-4 --jobs=1 --timeout=20 gone1.test gone2.test mx.test";
            open("1+2", words).prints("mx.test").at_once();
            // Other C libraries may do without the file.
            if is_static {
                open("1+", "--timeout=20 mx.test").fails().at_once();
            }
        }
    });
}

/// An address needs no thread. A name needs one, and without it the status is 2.
#[test]
fn without_threads() {
    namespace::run(|| {
        let test = "without_threads";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let port = Port::smtp();
        let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
        let check = |words: &str| limited(words, &["prlimit", "--nproc=0"]).run();
        check("127.0.0.2").prints("127.0.0.2").at_once();
        check("127.0.0.3 10:127.0.0.2")
            .prints("127.0.0.2")
            .at_once();
        check("127.0.0.3").prints("").at_once();
        check("--stop 127.0.0.9 127.0.0.2")
            .prints("127.0.0.2")
            .at_once();
        check("127.0.0.2 mx.test").prints("127.0.0.2").at_once();
        let reason = "cannot check 'mx.test': cannot create a thread";
        check("--timeout=20 mx.test").fails_with(reason).at_once();
        check("--timeout=20 --stop mx.test 127.0.0.2")
            .fails_with(reason)
            .at_once();
    });
}

/// One thread is enough for all lookups.
#[test]
fn few_threads() {
    namespace::run(|| {
        if !has("strace", "few_threads") {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let words = "--timeout=20 gone1.test gone2.test gone3.test mx.test";
        for (times, answer) in [
            ("2+", Some("mx.test")),
            ("3+", Some("mx.test")),
            ("1+", None),
        ] {
            let error = format!("error=EAGAIN:when={times}");
            let check = Check::words(words).injecting("clone,clone3", &error);
            let run = check.run();
            match answer {
                Some(answer) => run.prints(answer).at_once(),
                None => run.fails().at_once(),
            };
        }
    });
}
