//! This machine at its limits, and what is left behind by many questions.

use super::{PROCEED, REJECT, filter, having_said, no_stop};
use crate::harness::filter::{Filter, Question};
use crate::harness::gate::{Belongings, End, Link, Start};
use crate::harness::run::{has, has_glibc};
use crate::harness::{dns, namespace};
use crate::serve::{Servers, ZONE, serve_many};

/// As smtpd's user, for whom limits count.
fn limited(limit: &[&str]) -> Start {
    filter("")
        .copy(&namespace::copy_program())
        .under(namespace::unprivileged())
        .under(limit)
}

const NO_PROCESS: &str = "smtpdcheck: cannot create a process\n";

/// The filter still answers when there is no process to be had.
#[test]
fn no_process() {
    namespace::run(|| {
        let test = "no_process";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let servers = Servers::new();
        let mut filter = Filter::start(limited(&["prlimit", "--nproc=0:0"]));
        let before = filter.descriptors();
        for _ in 0..20 {
            assert_eq!(filter.ask("u@up.test"), PROCEED);
            // For these it needs none.
            assert_eq!(filter.ask("postmaster"), PROCEED);
            assert_eq!(filter.ask("u@[192.0.2.1]"), PROCEED);
        }
        let questions = [(); 50].map(|()| Question::to("u@up.test"));
        assert_eq!(filter.ask_all(&questions), [PROCEED; 50]);
        assert_eq!(filter.descriptors(), before);
        assert_eq!(filter.children(), [0; 0]);
        filter.hang_up();
        assert_eq!(filter.end(), having_said(&NO_PROCESS.repeat(20 + 50)));
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
        let mut filter = Filter::start(filter("").under(&strace));
        assert_eq!(filter.ask("u@up.test"), PROCEED);
        assert_eq!(filter.ask("u@up.test"), REJECT);
        filter.hang_up();
        assert_eq!(filter.end(), having_said(NO_PROCESS));
    });
}

/// With few descriptors the filter or its children may be short of them. Either
/// way each question is answered, and no descriptor is lost.
#[test]
fn few_descriptors() {
    namespace::run(|| {
        let test = "few_descriptors";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let zone = format!("{ZONE}* MX 10:a.test 20:me.test");
        let _names = dns::serve(&zone);
        serve_many();
        // A loader needs one more than the standard ones.
        let least = if has_glibc() { 4 } else { 3 };
        for limit in (least..=12).chain([24, 64]) {
            let option = format!("--nofile={limit}:{limit}");
            let mut filter = Filter::start(limited(&["prlimit", &option]));
            let before = filter.descriptors();
            for n in 0..10 {
                let answer = filter.ask("u@up.test");
                assert!(limit < 24 || answer == REJECT, "{limit}: {answer}");
                assert!(limit > 4 || answer == PROCEED, "{limit}: {answer}");
                let questions: Vec<_> = (0..40)
                    .map(|m| Question::to(&format!("u@d{}.any.test", n * m % 40)))
                    .collect();
                filter.ask_all(&questions);
                assert_eq!(filter.ask("postmaster"), PROCEED);
            }
            assert_eq!(filter.descriptors(), before, "{limit}");
            assert_eq!(filter.children(), [0; 0]);
            filter.hang_up();
            let end = filter.end();
            assert_eq!((end.status, &*end.rest), (Some(0), ""), "{limit}");
            for line in end.stderr.lines() {
                assert!(line.starts_with("smtpdcheck: "), "{limit}: {line}");
                // glibc also takes one for a name that does not exist.
                let other = has_glibc() && line.ends_with("is a --stop host");
                let expected = other || line.contains("too many open files");
                assert!(expected, "{limit}: {line}");
            }
            assert!(limit > 4 || !end.stderr.is_empty(), "{limit}");
        }
    });
}

/// Signals that whoever starts the filter ignores or blocks. Where SIGCHLD is
/// ignored, the system keeps no status of a child.
#[test]
fn signals_are_not_inherited() {
    namespace::run(|| {
        let _servers = Servers::new();
        for option in [
            "--ignore-signal=CHLD",
            "--block-signal=CHLD",
            "--ignore-signal",
            "--default-signal",
        ] {
            let mut filter = Filter::start(filter("").under(&["env", option]));
            for _ in 0..3 {
                assert_eq!(filter.ask("u@up.test"), REJECT, "{option}");
                assert_eq!(filter.ask("u@down.test"), PROCEED, "{option}");
                assert_eq!(filter.ask("u@other.test"), PROCEED, "{option}");
                assert_eq!(filter.children(), [0; 0]);
            }
            filter.hang_up();
            let said = no_stop("other.test").repeat(3);
            assert_eq!(filter.end(), having_said(&said), "{option}");
        }
    });
}

/// What is written for smtpd goes nowhere else.
#[test]
fn closed_standard_descriptors() {
    namespace::run(|| {
        let servers = Servers::new();
        for closed in [">&-", "<&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"] {
            let script = format!(r#"exec "$0" "$@" {closed}"#);
            let mut gate = filter("").link(Link::Socket).shell(&script).start();
            gate.send_if_open(crate::harness::filter::CONFIG);
            gate.send_if_open(Question::to("u@up.test").line());
            gate.finish_sending();
            let end = gate.end();
            assert_eq!(end.rest, "", "{closed}: {end:?}");
            assert!(matches!(end.status, Some(0 | 2)), "{closed}: {end:?}");
        }
        for connection in servers.up.finish() {
            assert_eq!(connection.early, b"");
            assert!([&b""[..], b"QUIT\r\n"].contains(&&*connection.received));
        }
    });
}

/// Half of the questions need a check; there are up to thirty at a time.
fn ask_many(questions: usize) {
    let zone = format!("{ZONE}* MX 10:a.test 20:me.test");
    let _names = dns::serve(&zone);
    serve_many();
    let mut filter = Filter::start(filter(""));
    let mut ask = |rounds: usize| -> Belongings {
        for _ in 0..rounds {
            let rows = (0..60).map(|n| match n % 6 {
                0 => (format!("u{n}@d{n}.any.test"), REJECT),
                1 | 2 => (format!("u{n}@up.test"), REJECT),
                3 => (format!("u{n}@down.test"), PROCEED),
                4 => ("postmaster".to_owned(), PROCEED),
                _ => (format!("u{n}@[192.0.2.1]"), PROCEED),
            });
            let (addresses, expected): (Vec<_>, Vec<_>) = rows.unzip();
            let questions: Vec<_> = addresses.iter().map(|a| Question::to(a)).collect();
            assert_eq!(filter.ask_all(&questions), expected);
        }
        filter.belongings()
    };
    let before = ask(10);
    let after = ask(questions / 60 + 1);
    assert_eq!(after, before);
    assert_eq!(before.2, [0; 0]);
    filter.hang_up();
    assert_eq!(filter.end(), End::quiet());
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
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let _names = dns::serve(ZONE);
        for limit in ["--nproc=0:0", "--nofile=4:4", "--nofile=6:6"] {
            let mut filter = Filter::start(limited(&["prlimit", limit]));
            let mut ask = |count: u32| {
                for _ in 0..count {
                    let questions = ["u@up.test", "u@up2.test"].map(Question::to);
                    assert_eq!(filter.ask_all(&questions), [PROCEED; 2]);
                }
                filter.belongings()
            };
            assert_eq!(ask(20), ask(250), "{limit}");
        }
    });
}
