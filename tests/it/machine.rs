//! This machine at its limits: closed descriptors, a full disk, an empty
//! chroot, no privileges, no threads; and what the program asks of the kernel.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::{Check, cannot_run, each, ms};
use crate::namespace::FOLDER;
use crate::smtp::{Connection, DOWN, Port, SILENT, Server, UP, down_after, up_after};
use crate::{dns, namespace};

/// Every set of the three standard descriptors, as a shell closes it.
const CLOSED: [&str; 8] = [
    "",
    "<&-",
    ">&-",
    "<&- >&-",
    "2>&-",
    "<&- 2>&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
];

/// What every server must have received, whatever descriptor its connection
/// had: the program's own output belongs elsewhere.
fn only_quit(servers: Vec<Server>) {
    let connections: Vec<Connection> = servers.into_iter().flat_map(Server::finish).collect();
    assert!(!connections.is_empty());
    for connection in connections {
        assert_eq!(connection.early, b"", "{connection:?}");
        assert!(
            [&b""[..], b"QUIT\r\n"].contains(&&*connection.received),
            "{connection:?}"
        );
    }
}

/// Checks live and dead servers with each set of descriptors closed, by a
/// shell command that runs the program with `"$@"`.
fn with_closed_descriptors(port: &Port, program: &str) {
    let rows: Vec<_> = ["", "-v "]
        .into_iter()
        .flat_map(|option| CLOSED.map(|closed| (option, closed)))
        .collect();
    let up = port.serve("127.0.0.2", &up_after(ms(100)));
    let down = port.serve("127.0.0.3", DOWN);
    each(&rows, |(option, closed)| {
        let script = format!("exec {program} \"$@\" {closed}");
        let run = |words: &str| port.check(&format!("{option}{words}")).shell(&script).run();

        let live = run("127.0.0.3 127.0.0.2");
        let verbose = !option.is_empty();
        let stdout = !closed.split(' ').any(|redirection| redirection == ">&-");
        let stderr = !closed.contains("2>&-");
        if stdout {
            live.answers("127.0.0.2");
        } else {
            assert_eq!(live.status, Some(2), "{live}");
        }
        if !verbose && stderr && !stdout {
            live.fails();
        }
        assert_eq!(
            live.stderr.contains("greeting"),
            stderr && verbose,
            "{live}"
        );

        run("127.0.0.3").answers("");
    });
    only_quit(vec![up, down]);
}

#[test]
fn closed_descriptors() {
    with_closed_descriptors(&Port::new(), "\"$0\"");
}

/// An answer that cannot be given is an error; where there is none to give, it
/// does not matter.
#[test]
fn standard_output_that_cannot_be_written() {
    let port = Port::new();
    let servers = vec![port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let full = || Stdio::from(fs::File::create("/dev/full").unwrap());
    let unread = || {
        let reader = Command::new("true").stdin(Stdio::piped()).spawn();
        let mut reader = reader.unwrap();
        let pipe = reader.stdin.take().unwrap();
        reader.wait().unwrap();
        Stdio::from(pipe)
    };
    let read_only = || Stdio::from(fs::File::open("/dev/null").unwrap());
    for stdout in [&full as &dyn Fn() -> Stdio, &unread, &read_only] {
        let check = |words: &str| port.check(words).stdout(stdout()).run();
        check("127.0.0.2").fails().at_once();
        check("127.0.0.3 127.0.0.2").fails();
        check("127.0.0.3").prints("");
        check("--help").fails();
        check("--version").fails();
    }
    only_quit(servers);
}

/// Standard error is only for people: where it cannot be written, the answer
/// is the same.
#[test]
fn standard_error_that_cannot_be_written() {
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    for option in ["", "-v"] {
        let words = format!("{option} 127.0.0.3 127.0.0.2");
        let check = port.check(&words).shell("exec \"$0\" \"$@\" 2>/dev/full");
        check.run().prints("127.0.0.2");
        let check = port
            .check("--bogus")
            .shell("exec \"$0\" \"$@\" 2>/dev/full");
        assert_eq!(check.run().status, Some(2));
    }
}

/// Makes a root of the namespace's empty folder: the program, and the libraries
/// of one that is not static. Returns whether it is static.
fn make_root() -> bool {
    let copy = namespace::copy_program();
    let libraries = Command::new("ldd").arg(&copy).output().unwrap();
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut needed = paths.filter(|word| !word.starts_with(&copy)).peekable();
    let is_static = needed.peek().is_none();
    for library in needed {
        let (folder, _) = library.rsplit_once('/').unwrap();
        fs::create_dir_all(format!("{FOLDER}{folder}")).unwrap();
        fs::copy(library, format!("{FOLDER}{library}")).unwrap();
    }
    is_static
}

/// There is no `/dev`, no `/proc` and no `/etc`: no `/dev/null` to stand in
/// for a closed descriptor, and no configuration of any kind.
#[test]
fn an_empty_chroot() {
    namespace::run(|| {
        let is_static = make_root();
        let port = Port::smtp();
        with_closed_descriptors(&port, &format!("chroot {FOLDER} /smtpdcheck"));

        let _up = port.serve("127.0.0.2", UP);
        let chroot = |words: &str| {
            let check = Check::words(words).copy("/smtpdcheck");
            check.under(&["chroot", FOLDER]).run()
        };
        chroot("127.0.0.3 127.0.0.2").prints("127.0.0.2").at_once();
        chroot("").fails();
        if is_static {
            // Without a resolv.conf the name server is this machine.
            let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
            chroot("mx.test").prints("mx.test").at_once();
            chroot("gone.test mx.test").prints("mx.test").at_once();
        }
    });
}

/// A check of the copy of the program, by nobody in particular and under a
/// limit.
fn limited(words: &str, limit: &[&str]) -> Check {
    Check::words(words)
        .copy(&namespace::copy_program())
        .under(namespace::unprivileged())
        .under(limit)
}

#[test]
fn without_privileges() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        for server in ["127.0.0.2", "mx.test"] {
            limited(server, &[]).run().prints(server).at_once();
        }
        limited("gone.test 127.0.0.3", &[])
            .run()
            .prints("")
            .at_once();
    });
}

/// An address needs no thread. A name does, and where there is none to be had
/// that is this machine's failure, not the server's.
#[test]
fn without_threads() {
    namespace::run(|| {
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
        check("--timeout=20 mx.test").fails().at_once();
        check("--timeout=20 --stop mx.test 127.0.0.2")
            .fails()
            .at_once();
    });
}

/// With few descriptors fewer servers are probed at a time, with all of them
/// in their turn.
#[test]
fn few_descriptors() {
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

/// The descriptor limit that counts is the hard one. With the soft one, four
/// servers at a time, this would take ten seconds.
#[test]
fn the_soft_descriptor_limit_is_raised() {
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

/// Too few descriptors for any probe is this machine's failure, in whatever
/// stage it comes; just enough for one at a time is not.
#[test]
fn hardly_any_descriptors() {
    namespace::run(|| {
        if !make_root() {
            // Its loader would need a descriptor before it.
            return cannot_run("hardly_any_descriptors", "the program is not static");
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let server = Port::smtp().serve("127.0.0.2", UP);
        let check = |limit: u32, words: &str| {
            let limit = format!("--nofile={limit}:{limit}");
            let check = limited(words, &["prlimit", &limit]);
            check.first("--timeout=20").run()
        };
        check(3, "127.0.0.2").fails().at_once();
        check(3, "127.0.0.2 127.0.0.3").fails().at_once();
        check(3, "mx.test").fails().at_once();
        check(3, "--stop mx.test 127.0.0.2").fails().at_once();
        check(3, "10:.").prints("");
        // One, which wakes the loop when a lookup ends.
        check(4, "mx.test").fails().at_once();
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

/// The system calls of a check, a line each, or `None` where there is no strace.
fn system_calls(test: &str, port: &Port, words: &str, answer: &str) -> Option<Vec<String>> {
    let run = port.check(words).traced(test)?;
    run.answers(answer);
    let calls: Vec<_> = run.stderr.lines().map(String::from).collect();
    assert!(calls.iter().any(|call| call.contains("connect(")), "{run}");
    Some(calls)
}

fn count(calls: &[String], name: &str) -> usize {
    let call = format!(" {name}(");
    calls.iter().filter(|line| line.contains(&call)).count()
}

#[test]
fn an_address_needs_no_thread_no_lookup_and_no_wake_up_descriptor() {
    let test = "an_address_needs_no_thread_no_lookup_and_no_wake_up_descriptor";
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let words = "--stop 127.0.0.9 127.0.0.3 127.0.0.2";
    let Some(calls) = system_calls(test, &port, words, "127.0.0.2") else {
        return;
    };
    let unwanted = [
        "clone",
        "clone3",
        "fork",
        "vfork",
        "eventfd",
        "eventfd2",
        "pipe",
        "pipe2",
        "socketpair",
        "alarm",
        "setitimer",
        "timer_create",
        "timerfd_create",
        "epoll_create1",
    ];
    for name in unwanted {
        assert_eq!(count(&calls, name), 0, "{name}: {calls:#?}");
    }
    for file in [
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/nsswitch.conf",
        "SOCK_DGRAM",
    ] {
        assert!(
            !calls.iter().any(|call| call.contains(file)),
            "{file}: {calls:#?}"
        );
    }
    assert_eq!(count(&calls, "socket"), 2, "{calls:#?}");
}

/// Hundreds of names are looked up by a bounded number of threads, even where
/// none of the lookups ends.
#[test]
fn lookups_share_a_bounded_number_of_threads() {
    namespace::run(|| {
        let _names = dns::serve("* A silent\n* AAAA silent");
        let port = Port::smtp();
        let _silent = port.serve("127.0.0.2", SILENT);
        let names: Vec<_> = (0..300).map(|n| format!("mx{n}.test")).collect();
        let words = format!("--timeout=1 127.0.0.2 {}", names.join(" "));
        let test = "lookups_share_a_bounded_number_of_threads";
        let Some(calls) = system_calls(test, &port, &words, "") else {
            return;
        };
        let threads = count(&calls, "clone") + count(&calls, "clone3");
        assert!((1..=100).contains(&threads), "{threads} threads");
    });
}

/// One turn for the connection, one until the deadline: a timeout that was
/// rounded down would end too soon, and take many more.
#[test]
fn waiting_is_not_busy() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", SILENT);
    for _ in 0..5 {
        let words = "--timeout=0.3 127.0.0.2";
        let Some(calls) = system_calls("waiting_is_not_busy", &port, words, "") else {
            return;
        };
        let polls = count(&calls, "poll") + count(&calls, "ppoll");
        assert!((1..=4).contains(&polls), "{polls} turns: {calls:#?}");
    }
}
