//! The command line of the gate, and what it says of mistakes.

use std::fs::{self, File};

use super::{DEFER, DUNNO, Servers, gate};
use crate::harness::gate::{End, Link, Request, Start};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::{Check, each};

/// Arguments, and a word of the message.
const MISTAKES: &[(&str, &str)] = &[
    ("--serve", "--serve needs a value"),
    ("--serve=", "--serve ''"),
    (
        "--serve sendmail",
        "--serve 'sendmail' is neither 'postfix' nor 'opensmtpd'",
    ),
    ("--serve Postfix", "--serve 'Postfix'"),
    ("--serve postfix mx.test", "--serve"),
    ("10:mx.test --serve postfix", "--serve"),
    ("--serve postfix -- mx.test", "--serve"),
    ("--serve postfix --mx up.test", "--mx"),
    ("--mx up.test --serve postfix", "--mx"),
    ("--serve postfix --jobs 1", "--jobs"),
    (
        "--serve postfix --json",
        "--json and --serve cannot be used together",
    ),
    ("--json --serve opensmtpd --stop a.test", "--json"),
    (
        "--serve postfix --timeout 0",
        "--serve and --timeout 0 cannot be used together",
    ),
    ("--serve postfix --timeout 0.0", "--timeout"),
    ("--serve postfix -4 -6", "-4 and -6"),
    ("--serve postfix --bogus", "unknown option '--bogus'"),
    ("--bogus --serve postfix", "unknown option '--bogus'"),
    ("--serve postfix -x", "unknown option '-x'"),
    ("--serve postfix --stop", "--stop needs a value"),
    ("--serve postfix --stop 127.1", "--stop '127.1'"),
    ("--serve postfix --timeout never", "--timeout 'never'"),
    ("--serve=postfix --verbose=1", "--verbose takes no value"),
];

#[test]
fn mistakes() {
    each(MISTAKES, |(words, reason)| {
        let run = Check::words(words).run();
        run.fails().at_once();
        assert!(run.stderr.contains(reason), "{run}");
    });
}

/// Where standard error is the mail server's socket, a message would be taken
/// for an answer.
#[test]
fn mistakes_are_not_answers() {
    each(MISTAKES, |(words, reason)| {
        let mut gate = Start::bare(words).start();
        gate.finish_sending();
        let expected = End {
            status: Some(2),
            ..End::quiet()
        };
        assert_eq!(gate.end(), expected, "{words}");

        // Where it is another file, there is one line.
        let mut gate = Start::bare(words).link(Link::Socket).start();
        gate.finish_sending();
        let end = gate.end();
        assert_eq!((end.status, &*end.rest), (Some(2), ""), "{words}: {end:?}");
        assert!(end.stderr.starts_with("smtpdcheck: "), "{end:?}");
        assert!(end.stderr.contains(reason), "{words}: {end:?}");
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
    });
}

/// The same with a file or a pipe, as `>out 2>&1` has it.
#[test]
fn one_file_for_output_and_errors() {
    namespace::run(|| {
        let _servers = Servers::new();
        let path = format!("{FOLDER}/output");
        for words in ["--serve postfix --bogus", "--bogus --serve postfix"] {
            let run = Check::words(words).shell(r#"exec "$0" "$@" 2>&1"#).run();
            let triple = (run.status, &*run.stdout, &*run.stderr);
            assert_eq!(triple, (Some(2), "", ""), "{run}");
            let file = File::create(&path).unwrap();
            let script = r#"exec "$0" "$@" 2>&1"#;
            let run = Check::words(words).shell(script).stdout(file).run();
            assert_eq!(run.status, Some(2), "{run}");
            assert_eq!(fs::read(&path).unwrap(), b"", "{run}");
        }
        // A command that serves nobody says what is wrong.
        let run = Check::words("--bogus")
            .shell(r#"exec "$0" "$@" 2>&1"#)
            .run();
        assert!(run.stdout.contains("--bogus"), "{run}");
    });
}

/// Nothing but answers, whatever there is to say: of the servers, of the cache,
/// of children that fail.
#[test]
fn nothing_but_answers() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("-v --cache=/etc/passwd/x --stop 127.0.0.9").start();
        for _ in 0..5 {
            assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
            let answer = gate.ask(&Request::to("u@down.test"));
            let warning = "action=WARN smtpdcheck: warning: cache ";
            assert!(answer.starts_with(warning), "{answer}");
            assert_eq!(gate.ask(&Request::to("postmaster")), DUNNO);
            let answer = gate.ask(&Request::to("u@other.test"));
            assert!(
                answer.starts_with("action=WARN smtpdcheck: other.test"),
                "{answer}"
            );
        }
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
    });
}

/// What does go with it.
#[test]
fn good_arguments() {
    namespace::run(|| {
        let _servers = Servers::new();
        let rows = [
            "--serve postfix",
            "--serve=postfix",
            "--timeout .9 --serve postfix --timeout 20",
            "--stop me.test --serve postfix --",
            "--serve postfix --serve=postfix",
            "-4 --port 25 --serve postfix --cache /etc/empty/cache --cache-ttl 5",
        ];
        for words in rows {
            let mut gate = Start::bare(words).link(Link::Socket).start();
            assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER, "{words}");
            assert_eq!(gate.ask(&Request::to("u@down.test")), DUNNO, "{words}");
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet(), "{words}");
        }
    });
}

/// Help and version are printed as ever.
#[test]
fn help_and_version() {
    for words in ["--serve postfix --help", "-V --serve postfix"] {
        let run = Check::words(words).run();
        assert_eq!((run.status, &*run.stderr), (Some(0), ""), "{run}");
        assert!(run.stdout.contains("smtpdcheck"), "{run}");
    }
}
