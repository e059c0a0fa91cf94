//! `--domains`: the domains to answer for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{DEFER, DUNNO, Servers, gate};
use crate::harness::filter::{Filter, PROCEED, Question};
use crate::harness::gate::{End, Gate, Link, Request, Start};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::Check;

const FILE: &str = "/etc/empty/domains";
const REJECT: &str = "reject|450 4.3.2 Please use a.test";

fn filter(words: &str) -> Filter {
    let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=20 --domains");
    let start = start.arguments([FILE]).arguments(words.split_whitespace());
    Filter::start(start)
}

fn policy(words: &str) -> Gate {
    let words = format!("{words} --domains {FILE}");
    gate(&words).link(Link::Socket).start()
}

/// Both mail servers' questions about one recipient: whether it is deferred.
#[track_caller]
fn defers(filter: &mut Filter, policy: &mut Gate, address: &str) -> bool {
    let policy = policy.ask(&Request::to(address));
    match &*filter.ask(address) {
        REJECT => assert_eq!(policy, DEFER, "{address}"),
        PROCEED => assert_eq!(policy, DUNNO, "{address}"),
        other => panic!("{other}"),
    }
    policy == DEFER
}

const NO_FILE: &str = "no such file or directory";

/// What is said of a file that cannot be read.
fn cannot_read(path: &str, reason: &str) -> String {
    format!("domains '{path}': {reason}")
}

/// What is a domain of a file, and what is none.
#[test]
fn lines_of_a_file() {
    namespace::run(|| {
        let _servers = Servers::new();
        let long = "x".repeat(1 << 17);
        let rows: &[(&str, bool)] = &[
            ("up.test", true),
            ("up.test\n", true),
            ("up.test\r\n", true),
            ("up.test\r", true),
            ("UP.Test\n", true),
            ("up.test.\n", true),
            ("Up.TEST. \n", true),
            (" up.test\n", true),
            ("\tup.test\t \n", true),
            ("up.test # a comment\n", true),
            ("up.test# a comment\n", true),
            ("up.test.#\n", true),
            ("\n\n\nup.test\n\n", true),
            ("# one a line\n\ndown.test\nup.test\nx.test\n", true),
            ("x.test\r\nup.test\r\n", true),
            ("x.test\nup.test", true),
            ("\u{ff}\0\n\0\nup.test\n", true),
            (&format!("{long}\nup.test\n"), true),
            (&format!("# {long}\nup.test"), true),
            (&format!("up.test # {long}\n"), true),
            (&format!("{}up.test\n", "x.test\n".repeat(50_000)), true),
            (&format!("{}up.test\n", "\n".repeat(100_000)), true),
            ("", false),
            ("\n", false),
            (".\n", false),
            ("#up.test\n", false),
            (" # up.test\n", false),
            ("x.test # up.test\n", false),
            ("x.test up.test\n", false),
            ("up.test x.test\n", false),
            ("up.test,\n", false),
            ("up.test..\n", false),
            (".up.test\n", false),
            ("*.test\n", false),
            ("*\n", false),
            ("test\n", false),
            ("x.up.test\n", false),
            ("xup.test\n", false),
            ("up.testx\n", false),
            ("up.tes\nt\n", false),
            ("@up.test\n", false),
            ("u@up.test\n", false),
            ("\"up.test\"\n", false),
            ("up\0.test\n", false),
            ("up.test\0\n", false),
            (&format!("#{long}up.test"), false),
            (&format!("{long} up.test\n"), false),
            (&format!("{long}up.test\n"), false),
        ];
        fs::write(FILE, "").unwrap();
        let (mut filter, mut policy) = (filter(""), policy(""));
        for (text, expected) in rows {
            fs::write(FILE, text).unwrap();
            let shown = &text[..text.len().min(40)];
            for address in ["u@up.test", "u@UP.test.", "u@x@Up.Test"] {
                let found = defers(&mut filter, &mut policy, address);
                assert_eq!(found, *expected, "{address} {shown:?}");
            }
        }
        for gate in [&mut *filter, &mut policy] {
            gate.hang_up();
        }
        assert_eq!(filter.end(), End::quiet());
        assert_eq!(policy.end(), End::quiet());
    });
}

/// Nobody is asked about a domain that is not in the file, not even DNS.
#[test]
fn foreign_domains_are_not_asked_about() {
    namespace::run(|| {
        let servers = Servers::new();
        fs::write(FILE, "down.test\nx.test\n").unwrap();
        // With a cache that cannot be used, and a host that would be looked up.
        for words in ["", "-v", "--cache=/no/folder/cache", "--stop lost.test"] {
            let (mut filter, mut policy) = (filter(words), policy(words));
            for domain in [
                "up.test",
                "other.test",
                "dark.test",
                "slow.test",
                "gone.test",
            ] {
                let address = format!("u@{domain}");
                assert!(!defers(&mut filter, &mut policy, &address), "{words}");
            }
            let questions: Vec<_> = (0..100)
                .map(|n| Question::to(&format!("u@d{}.test", n % 50)))
                .collect();
            assert_eq!(filter.ask_all(&questions), [PROCEED; 100]);
            assert_eq!(servers.names.questions(), [""; 0], "{words}");
            filter.hang_up();
            policy.hang_up();
            assert_eq!(filter.end(), End::quiet(), "{words}");
            assert_eq!(policy.end(), End::quiet(), "{words}");
        }
        let mut filter = filter("");
        assert_eq!(filter.ask("u@down.test"), PROCEED);
        assert_eq!(servers.names.asked("down.test MX"), 1);
        assert_eq!(servers.up.count(), 0);
    });
}

/// The next question counts, whichever way the file is replaced.
#[test]
fn a_file_that_is_edited() {
    namespace::run(|| {
        let _servers = Servers::new();
        fs::write(FILE, "x.test\n").unwrap();
        let (mut filter, mut policy) = (filter(""), policy(""));
        let mut is_ours = || defers(&mut filter, &mut policy, "u@up.test");
        assert!(!is_ours());
        for _ in 0..3 {
            fs::write(FILE, "x.test\nup.test\n").unwrap();
            assert!(is_ours());
            fs::write(FILE, "x.test\n").unwrap();
            assert!(!is_ours());
            fs::write(format!("{FILE}.new"), "up.test\n").unwrap();
            fs::rename(format!("{FILE}.new"), FILE).unwrap();
            assert!(is_ours());
            fs::remove_file(FILE).unwrap();
            symlink("other", FILE).unwrap();
            fs::write(format!("{FOLDER}/other"), "").unwrap();
            assert!(!is_ours());
            fs::write(format!("{FOLDER}/other"), "up.test").unwrap();
            assert!(is_ours());
            fs::remove_file(FILE).unwrap();
        }
        // The files that are there, and each domain's own answer.
        fs::write(FILE, "up2.test\n").unwrap();
        assert!(!is_ours());
        assert_eq!(filter.ask("u@up2.test"), REJECT);
    });
}

/// Whether a domain is ours cannot be told: the message is accepted, and the
/// postmaster is told why. When the file is back, all is well.
#[test]
fn a_file_that_is_gone() {
    namespace::run(|| {
        let servers = Servers::new();
        fs::write(FILE, "up.test\n").unwrap();
        let (mut filter, mut policy) = (filter(""), policy(""));
        assert!(defers(&mut filter, &mut policy, "u@up.test"));
        let asked = servers.names.questions().len();
        type Change = fn();
        let rows: [(Change, &str); 3] = [
            (|| fs::remove_file(FILE).unwrap(), NO_FILE),
            (|| fs::create_dir(FILE).unwrap(), "is a directory"),
            (
                || {
                    fs::remove_dir(FILE).unwrap();
                    namespace::sh(&format!("mkfifo {FILE}"));
                },
                "not a regular file",
            ),
        ];
        let mut said = String::new();
        for (change, reason) in rows {
            change();
            let line = format!("smtpdcheck: {}", cannot_read(FILE, reason));
            for address in ["u@up.test", "u@x.test"] {
                assert_eq!(filter.ask(address), PROCEED, "{reason}");
                let warning = policy.ask(&Request::to(address));
                assert_eq!(warning, format!("action=WARN {line}"));
                said += &format!("{line}\n");
            }
            // For this it is not needed.
            assert!(!defers(&mut filter, &mut policy, "postmaster"));
        }
        assert_eq!(servers.names.questions().len(), asked);
        fs::remove_file(FILE).unwrap();
        fs::write(FILE, "up.test\n").unwrap();
        assert!(defers(&mut filter, &mut policy, "u@up.test"));
        filter.hang_up();
        let end = filter.end();
        assert_eq!((end.status, end.stderr), (Some(0), said));
        policy.hang_up();
        assert_eq!(policy.end(), End::quiet());
    });
}

/// A file that cannot be read at the start is a mistake in the options.
#[test]
fn a_file_that_cannot_be_read() {
    namespace::run(|| {
        let test = "a_file_that_cannot_be_read";
        fs::write(FILE, "up.test\n").unwrap();
        fs::set_permissions(FILE, fs::Permissions::from_mode(0o000)).unwrap();
        namespace::sh(&format!("mkfifo {FOLDER}/fifo"));
        symlink("loop", format!("{FOLDER}/loop")).unwrap();
        let long = format!("{FOLDER}/{}", "x".repeat(300));
        let rows = [
            ("none", NO_FILE),
            ("/etc/empty/none", NO_FILE),
            ("/etc/empty/none/domains", NO_FILE),
            ("/etc/empty/domains/domains", "not a directory"),
            ("/etc/empty", "is a directory"),
            (".", "is a directory"),
            // Nobody writes to it.
            ("/etc/empty/fifo", "not a regular file"),
            ("/etc/empty/loop", "too many levels of symbolic links"),
            (&long, "file name too long"),
        ];
        let check = |serve: &str, path: &str| {
            let words = format!("--serve {serve} --stop 127.0.0.9 --domains");
            Check::words(&words).arguments([path])
        };
        for serve in ["postfix", "opensmtpd"] {
            for (path, reason) in rows {
                let run = check(serve, path).run();
                run.fails_with(&cannot_read(path, reason)).at_once();
            }
            let run = check(serve, "").run();
            run.fails_with("--domains '' is not a file name");
            // As a mail server's user.
            if namespace::has_unprivileged(test) && !namespace::unprivileged().is_empty() {
                let run = check(serve, FILE)
                    .copy(&namespace::copy_program())
                    .under(namespace::unprivileged())
                    .run();
                run.fails_with(&cannot_read(FILE, "permission denied"));
            }
        }
    });
}

/// It is for mail servers' questions.
#[test]
fn a_command_has_no_domains() {
    for words in [
        "--domains none a",
        "a --domains=/etc/passwd",
        "--domains none --mx up.test",
    ] {
        let run = Check::words(words).run();
        run.fails_with("--domains needs --serve; see --help");
    }
    let run = Check::words("--domains").run();
    run.fails_with("--domains needs a value; see --help");
    // Of several, the last counts.
    let words = "--serve opensmtpd --stop 127.0.0.9 --domains /etc/passwd --domains none";
    let run = Check::words(words).run();
    run.fails_with(&cannot_read("none", NO_FILE));
}

/// It goes with all that serves.
#[test]
fn other_options() {
    namespace::run(|| {
        let servers = Servers::new();
        fs::write(FILE, "up.test\nother.test\n").unwrap();
        let words = format!("--cache={FOLDER}/cache --cache-up-ttl=1h");
        let (mut filter, mut policy) = (filter(&words), policy(&words));
        for _ in 0..3 {
            assert!(defers(&mut filter, &mut policy, "u@up.test"));
            assert!(!defers(&mut filter, &mut policy, "u@up2.test"));
        }
        assert_eq!(servers.up.count(), 1);
        // A domain that is ours only in the file.
        assert_eq!(filter.ask("u@other.test"), PROCEED);
        let warning = policy.ask(&Request::to("u@other.test"));
        assert_eq!(warning, super::no_stop("other.test"));
        // Each recipient is judged by itself, after the file.
        let words = format!("--cache={FOLDER}/cache --max-defer=1h");
        let mut policy = self::policy(&words);
        let message = |to: &str| Request::to(to).with("instance", "1.2");
        assert_eq!(policy.ask(&message("u@up2.test")), DUNNO);
        assert_eq!(policy.ask(&message("v@up2.test")), DUNNO);
        let _up = crate::harness::smtp::Port::smtp().serve("127.0.0.2", crate::harness::smtp::UP);
        assert_eq!(policy.ask(&message("u@up.test")), DEFER);
        assert_eq!(policy.ask(&message("v@up.test")), DEFER);
    });
}
