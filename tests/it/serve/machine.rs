//! This machine at its limits, and what is left behind by many questions.

use super::{DEFER, DUNNO, Servers, ZONE, gate, no_stop, serve_many};
use crate::harness::gate::{End, Link, Request, Start};
use crate::harness::run::{has, has_all, has_glibc};
use crate::harness::{dns, namespace};

/// As the mail server's user, for whom limits count.
fn limited(limit: &[&str]) -> Start {
    gate("")
        .copy(&namespace::copy_program())
        .under(namespace::unprivileged())
        .under(limit)
}

#[track_caller]
fn warns(answer: &str, reason: &str) {
    assert!(answer.starts_with("action=WARN smtpdcheck: "), "{answer}");
    assert!(answer.contains(reason), "{answer}");
}

/// The gate still answers when there is no process to be had.
#[test]
fn no_process() {
    namespace::run(|| {
        let test = "no_process";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let servers = Servers::new();
        let mut gate = limited(&["prlimit", "--nproc=0:0"]).start();
        assert_eq!(gate.ask(&Request::to("postmaster")), DUNNO);
        let before = gate.descriptors();
        for _ in 0..50 {
            warns(&gate.ask(&Request::to("u@up.test")), "process");
            // For these it needs none.
            assert_eq!(gate.ask(&Request::to("postmaster")), DUNNO);
            assert_eq!(gate.ask(&Request::to("u@[192.0.2.1]")), DUNNO);
        }
        assert_eq!(gate.descriptors(), before);
        assert_eq!(gate.children(), [0; 0]);
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
        assert_eq!(servers.up.count(), 0);
    });
}

/// There is none for a moment: the next question has an answer of its own.
#[test]
fn no_process_for_a_moment() {
    namespace::run(|| {
        if !has("strace", "no_process_for_a_moment") {
            return;
        }
        let _servers = Servers::new();
        let calls = "trace=fork,vfork,clone,clone3";
        let inject = "inject=fork,vfork,clone,clone3:error=EAGAIN:when=1";
        let strace = [
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            calls,
            "-e",
            inject,
        ];
        let mut gate = gate("").under(&strace).start();
        warns(&gate.ask(&Request::to("u@up.test")), "process");
        assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
    });
}

/// With few descriptors the gate or its child may be short of them. Either way
/// the question is answered, and none is lost.
#[test]
fn few_descriptors() {
    namespace::run(|| {
        let test = "few_descriptors";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let _servers = Servers::new();
        // A loader needs one more than the standard ones.
        let least = if has_glibc() { 4 } else { 3 };
        for limit in (least..=12).chain([64]) {
            let option = format!("--nofile={limit}:{limit}");
            let mut gate = limited(&["prlimit", &option]).start();
            assert_eq!(gate.ask(&Request::to("postmaster")), DUNNO);
            let before = gate.descriptors();
            for _ in 0..20 {
                let answer = gate.ask(&Request::to("u@up.test"));
                if limit == 64 || answer == DEFER {
                    assert_eq!(answer, DEFER, "{limit}");
                    assert!(limit > 4, "{limit}");
                } else if answer == DUNNO || answer == no_stop("up.test") {
                    // glibc does not always say why it could not look up a name,
                    // and even takes one for a name that does not exist.
                    assert!(has_glibc(), "{limit}");
                } else {
                    warns(&answer, "too many open files");
                }
            }
            assert_eq!(gate.descriptors(), before, "{limit}");
            assert_eq!(gate.children(), [0; 0]);
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet(), "{limit}");
        }
    });
}

/// Signals that whoever starts the gate ignores or blocks. Where SIGCHLD is
/// ignored, the system keeps no status of a child.
#[test]
fn signals_are_not_inherited() {
    namespace::run(|| {
        let _servers = Servers::new();
        for option in [
            "--ignore-signal=CHLD",
            "--block-signal=CHLD",
            "--ignore-signal",
        ] {
            let mut gate = gate("").under(&["env", option]).start();
            for _ in 0..3 {
                assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER, "{option}");
                assert_eq!(gate.ask(&Request::to("u@down.test")), DUNNO, "{option}");
                let other = gate.ask(&Request::to("u@other.test"));
                assert_eq!(other, no_stop("other.test"), "{option}");
                assert_eq!(gate.children(), [0; 0]);
            }
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet(), "{option}");
        }
    });
}

/// What is written for the mail server goes nowhere else.
#[test]
fn closed_standard_descriptors() {
    namespace::run(|| {
        let servers = Servers::new();
        // Which ones are closed, and whether questions can be answered.
        let rows = [
            ("", true),
            ("2>&-", true),
            (">&-", false),
            ("<&-", false),
            ("<&- >&-", false),
            (">&- 2>&-", false),
            ("<&- >&- 2>&-", false),
        ];
        for (closed, answers) in rows {
            let script = format!(r#"exec "$0" "$@" {closed}"#);
            for link in [Link::Spawn, Link::Socket] {
                let mut gate = gate("").link(link).shell(&script).start();
                if answers {
                    assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER, "{closed}");
                    assert_eq!(
                        gate.ask(&Request::to("u@other.test")),
                        no_stop("other.test")
                    );
                    gate.hang_up();
                    assert_eq!(gate.end(), End::quiet(), "{closed}");
                    continue;
                }
                gate.send_if_open(Request::to("u@up.test").bytes());
                gate.send_if_open(Request::to("postmaster").bytes());
                gate.finish_sending();
                let end = gate.end();
                // Without standard output, nobody knows whose standard error is.
                let said = link == Link::Spawn && closed.contains(">&-");
                assert!(end.rest.is_empty() || said, "{closed}: {end:?}");
                assert!(!end.rest.contains("action="), "{closed}: {end:?}");
                assert_eq!(end.status, Some(2), "{closed}: {end:?}");
            }
        }
        for connection in servers.up.finish() {
            assert_eq!(connection.early, b"");
            assert!([&b""[..], b"QUIT\r\n"].contains(&&*connection.received));
        }
    });
}

/// Half of the questions need a child.
fn ask_many(questions: u32) {
    let _names = dns::serve(ZONE);
    serve_many();
    let mut gate = gate("").start();
    let mut ask = |messages: u32| {
        for n in 0..messages {
            let message = format!("{n}.{messages}");
            let rows = [
                (format!("u{n}@up.test"), DEFER.to_owned()),
                (format!("u{n}@up.test"), DEFER.to_owned()),
                (format!("u{n}@down.test"), DUNNO.to_owned()),
                (format!("u{n}@[192.0.2.1]"), DUNNO.to_owned()),
            ];
            for (recipient, answer) in rows {
                let request = Request::to(&recipient).with("instance", &message);
                assert_eq!(gate.ask(&request), answer, "{n}");
            }
        }
        gate.belongings()
    };
    let before = ask(100);
    let after = ask(questions / 4);
    assert_eq!(after, before);
    assert_eq!(before.2, [0; 0]);
    gate.hang_up();
    assert_eq!(gate.end(), End::quiet());
}

#[test]
fn ten_thousand_questions() {
    namespace::run(|| ask_many(10_000));
}

/// The same for minutes.
#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_questions() {
    namespace::run(|| ask_many(100_000));
}

/// Also where every one of them fails.
#[test]
fn nothing_is_left_of_failures() {
    namespace::run(|| {
        let test = "nothing_is_left_of_failures";
        if !has_all(&["prlimit"], test) || !namespace::has_unprivileged(test) {
            return;
        }
        let _names = dns::serve(ZONE);
        for limit in ["--nproc=0:0", "--nofile=4:4", "--nofile=6:6"] {
            let mut gate = limited(&["prlimit", limit]).start();
            let mut ask = |count: u32| {
                for _ in 0..count {
                    let answer = gate.ask(&Request::to("u@up.test"));
                    assert!(!answer.contains("DEFER"), "{answer}");
                }
                gate.belongings()
            };
            assert_eq!(ask(20), ask(500), "{limit}");
        }
    });
}
