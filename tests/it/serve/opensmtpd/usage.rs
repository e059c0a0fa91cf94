//! The command line of a filter, and what it says of mistakes.

use super::{PROCEED, REJECT, having_said};
use crate::harness::filter::{CONFIG, Filter};
use crate::harness::gate::{End, Link, Start};
use crate::harness::namespace;
use crate::harness::run::{Check, each};
use crate::serve::Servers;

/// Arguments, and the message.
const MISTAKES: &[(&str, &str)] = &[
    ("", "--serve opensmtpd needs --stop; see --help"),
    ("-v", "--serve opensmtpd needs --stop; see --help"),
    (
        "--domains /etc/passwd",
        "--serve opensmtpd needs --stop; see --help",
    ),
    (
        "--cache none/x --cache-up-ttl 5",
        "--serve opensmtpd needs --stop; see --help",
    ),
    (
        "--stop 127.0.0.9 --max-defer 4h",
        "--max-defer and --serve opensmtpd cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --max-defer 4h --cache none/x",
        "--max-defer and --serve opensmtpd cannot be used together",
    ),
    (
        "--max-defer 4h",
        "--max-defer and --serve opensmtpd cannot be used together",
    ),
    (
        "--stop 127.0.0.9 mx.test",
        "servers and --serve cannot be used together",
    ),
    (
        "--stop 127.0.0.9 -- mx.test",
        "servers and --serve cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --mx up.test",
        "--mx and --serve cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --jobs 1",
        "--jobs and --serve cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --key x",
        "--key and --serve cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --timeout 0",
        "--serve and --timeout 0 cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --timeout 0.0",
        "--serve and --timeout 0 cannot be used together",
    ),
    (
        "--stop 127.0.0.9 -4 -6",
        "-4 and -6 cannot be used together",
    ),
    (
        "--stop 127.0.0.9 --bogus",
        "unknown option '--bogus'; see --help",
    ),
    ("--stop", "--stop needs a value; see --help"),
    (
        "--stop 127.0.0.9 --domains",
        "--domains needs a value; see --help",
    ),
    (
        "--stop 127.1",
        "--stop '127.1' is neither a host name nor an address",
    ),
    (
        "--stop 127.0.0.9 --verbose=1",
        "--verbose takes no value; see --help",
    ),
];

#[test]
fn mistakes() {
    each(MISTAKES, |(words, reason)| {
        // Wherever the option stands.
        for words in [
            format!("--serve opensmtpd {words}"),
            format!("--serve=opensmtpd {words}"),
        ] {
            Check::words(&words).run().fails_with(reason).at_once();
        }
    });
    for words in [
        "--stop 127.0.0.9 --serve opensmtpd mx.test",
        "10:mx.test --serve opensmtpd",
    ] {
        let run = Check::words(words).run();
        run.fails_with("servers and --serve cannot be used together");
    }
}

/// The protocols by their names.
#[test]
fn other_protocols() {
    for name in [
        "OpenSMTPD",
        "smtpd",
        "opensmtpd ",
        "opensmtp",
        "opensmtpd2",
        "",
    ] {
        let run = Check::new(["--stop", "127.0.0.9", "--serve", name]).run();
        run.fails_with(&format!(
            "--serve '{name}' is neither 'postfix' nor 'opensmtpd'"
        ));
    }
}

/// As smtpd sees them: the filter ends before it registers, and says why.
#[test]
fn mistakes_are_logged() {
    each(MISTAKES, |(words, reason)| {
        let start = Start::bare("--serve opensmtpd").arguments(words.split_whitespace());
        let mut gate = start.link(Link::Socket).start();
        gate.send_if_open(CONFIG);
        gate.finish_sending();
        let expected = End {
            status: Some(2),
            ..having_said(&format!("smtpdcheck: {reason}\n"))
        };
        assert_eq!(gate.end(), expected, "{words}");
    });
}

/// What does go with it.
#[test]
fn good_arguments() {
    namespace::run(|| {
        let _servers = Servers::new();
        let rows = [
            "--serve opensmtpd --stop 127.0.0.9",
            "--serve=opensmtpd --stop=me.test",
            "--timeout .9 --stop me.test --serve opensmtpd --timeout 20",
            "--stop me.test --serve opensmtpd --",
            "--serve postfix --serve=opensmtpd --stop me.test --stop 127.0.0.9",
            "-4 --port 25 --serve opensmtpd --stop me.test --source 127.0.0.1",
            "--serve opensmtpd --stop me.test --cache /etc/empty/cache --cache-ttl 5m",
            "--serve opensmtpd --stop me.test --cache /etc/empty/cache --cache-up-ttl 5",
        ];
        for words in rows {
            let mut filter = Filter::start(Start::bare(words));
            assert_eq!(filter.ask("u@up.test"), REJECT, "{words}");
            assert_eq!(filter.ask("u@down.test"), PROCEED, "{words}");
            filter.hang_up();
            assert_eq!(filter.end(), End::quiet(), "{words}");
        }
    });
}

/// Help and version are printed as ever.
#[test]
fn help_and_version() {
    for words in ["--serve opensmtpd --help", "-V --serve opensmtpd"] {
        let run = Check::words(words).run();
        assert_eq!((run.status, &*run.stderr), (Some(0), ""), "{run}");
        assert!(run.stdout.contains("smtpdcheck"), "{run}");
    }
}
