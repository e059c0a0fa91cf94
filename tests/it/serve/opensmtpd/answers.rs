//! What is answered to one question, and what is said on standard error.

use std::time::Instant;

use super::{PROCEED, REJECT, filter, having_said, no_stop, started};
use crate::harness::dns;
use crate::harness::filter::{Filter, Question};
use crate::harness::gate::{End, Link, Start};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::{SLACK, each, ms};
use crate::harness::smtp::{Port, UP};
use crate::serve::{Servers, ZONE};

#[test]
fn every_ending_has_its_answer() {
    namespace::run(|| {
        let _servers = Servers::new();
        let rows = [
            ("up.test", REJECT),
            ("down.test", PROCEED),
            ("first.test", PROCEED),
            ("equal.test", PROCEED),
            ("null.test", PROCEED),
            ("gone.test", PROCEED),
            ("other.test", PROCEED),
            ("none.test", PROCEED),
        ];
        for link in [Link::Socket, Link::Two] {
            let mut filter = Filter::linked(filter("").link(link));
            for (domain, answer) in rows {
                let found = filter.ask(&format!("u@{domain}"));
                assert_eq!(found, answer, "{domain} {link:?}");
            }
            filter.hang_up();
            let said = ["other.test", "none.test"].map(no_stop).concat();
            assert_eq!(filter.end(), having_said(&said), "{link:?}");
        }
    });
}

/// A server that does not greet is down, and a list that does not come is not
/// known, when the timeout is over.
#[test]
fn answers_come_by_the_deadline() {
    namespace::run(|| {
        let _servers = Servers::new();
        let dark = "smtpdcheck: cannot look up the mail servers of 'dark.test': \
                    no answer in time\n";
        each(
            &[("slow.test", ""), ("dark.test", dark)],
            |(domain, said)| {
                let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=1");
                let mut filter = Filter::start(start);
                let started = Instant::now();
                assert_eq!(filter.ask(&format!("u@{domain}")), PROCEED);
                let elapsed = started.elapsed();
                assert!(
                    elapsed >= ms(1000) && elapsed < ms(1000) + SLACK,
                    "{elapsed:?}"
                );
                assert_eq!(filter.ask("u@up.test"), REJECT);
                filter.hang_up();
                assert_eq!(filter.end(), having_said(said));
            },
        );
    });
}

/// A list of servers that DNS does not tell, and a `--stop` host that it does
/// not know.
#[test]
fn it_cannot_be_told() {
    namespace::run(|| {
        let zone = format!(
            "{ZONE}
             fails.test MX servfail
             refused.test MX refused
             lost.test A servfail
             lost.test AAAA servfail"
        );
        let _names = dns::serve(&zone);
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let rows = [
            ("127.0.0.9", "fails.test", "'fails.test'"),
            ("127.0.0.9", "refused.test", "'refused.test'"),
            ("lost.test", "up.test", "lost.test"),
            (
                "127.0.0.8",
                "up.test",
                "none of its mail servers is a --stop host",
            ),
        ];
        each(&rows, |(stop, domain, reason)| {
            let start = Start::bare("--serve opensmtpd --timeout=2 --stop");
            let mut filter = Filter::start(start.arguments([stop]));
            assert_eq!(filter.ask(&format!("u@{domain}")), PROCEED);
            assert_eq!(filter.ask("postmaster"), PROCEED);
            filter.hang_up();
            let end = filter.end();
            assert!(end.stderr.starts_with("smtpdcheck: "), "{end:?}");
            assert!(end.stderr.contains(reason), "{end:?}");
            assert_eq!(end.stderr.matches('\n').count(), 1, "{end:?}");
            assert!(end.stderr.ends_with('\n'), "{end:?}");
            assert_eq!((end.status, &*end.rest), (Some(0), ""), "{end:?}");
        });
    });
}

/// With `--verbose`, one line of what was found where none is up. The rest is as
/// without.
#[test]
fn verbose_says_why_a_message_is_accepted() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut filter = Filter::start(filter("-v"));
        for (address, answer) in [
            ("u@up.test", REJECT),
            ("u@down.test", PROCEED),
            ("u@gone.test", PROCEED),
            ("postmaster", PROCEED),
            ("u@other.test", PROCEED),
            ("u@null.test", PROCEED),
        ] {
            assert_eq!(filter.ask(address), answer, "{address}");
        }
        filter.hang_up();
        let end = filter.end();
        assert_eq!((end.status, &*end.rest), (Some(0), ""), "{end:?}");
        let lines: Vec<_> = end.stderr.lines().collect();
        let [down, gone, other, null] = lines[..] else {
            panic!("{lines:?}");
        };
        let is_report = |line: &str| line.starts_with("smtpdcheck: ") && line.contains("; ");
        assert!(is_report(down), "{down}");
        assert!(down.contains("down.mx.test"), "{down}");
        assert!(
            down.contains("down 127.0.0.4: connection refused"),
            "{down}"
        );
        assert!(gone.contains("no such domain"), "{gone}");
        assert!(gone.contains("gone.test"), "{gone}");
        assert_eq!(format!("{other}\n"), no_stop("other.test"));
        assert!(null.contains("null.test"), "{null}");
        for line in lines {
            assert!(line.starts_with("smtpdcheck: "), "{line}");
            assert!(!line.contains("  "), "{line}");
        }
    });
}

/// The reason is one line of a length that smtpd logs.
#[test]
fn verbose_is_one_line_however_many_servers_there_are() {
    namespace::run(|| {
        // As many as a datagram holds, with four addresses each.
        let list: Vec<_> = (0..20).map(|n| format!("{n}:d{n}.t")).collect();
        let many = format!("many.test MX {} 99:me.test", list.join(" "));
        let addresses = "127.0.0.4 127.0.0.6 127.0.0.7 127.0.0.8";
        let zone = format!("{ZONE}{many}\n* A {addresses}\n* AAAA nodata");
        let _names = dns::serve(&zone);
        let mut filter = Filter::start(filter("-v"));
        assert_eq!(filter.ask("u@many.test"), PROCEED);
        filter.hang_up();
        let stderr = filter.end().stderr;
        assert!(stderr.starts_with("smtpdcheck: "), "{stderr}");
        assert!(stderr.len() < 2000, "{stderr}");
        let line = stderr.strip_suffix('\n').unwrap();
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    });
}

/// A check is reported once, however many questions it answers.
#[test]
fn one_line_for_each_check() {
    namespace::run(|| {
        let servers = Servers::new();
        let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=2 -v");
        let mut filter = Filter::start(start);
        let questions: Vec<_> = (0..20)
            .map(|n| Question::to(&format!("u{n}@slow.test")))
            .collect();
        assert_eq!(filter.ask_all(&questions), [PROCEED; 20]);
        assert_eq!(servers.silent.count(), 1);
        filter.hang_up();
        let stderr = filter.end().stderr;
        assert!(stderr.contains("silent.mx.test"), "{stderr}");
        assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
    });
}

/// The same options as in the command.
#[test]
fn options_apply_to_each_question() {
    namespace::run(|| {
        let _names = dns::serve(
            "four.test MX 10:v4.test 20:me.test
             six.test MX 10:v6.test 20:me.test
             v4.test A 127.0.0.2
             v4.test AAAA nodata
             v6.test A nodata
             v6.test AAAA ::1
             me.test A 127.0.0.9
             me.test AAAA 2001:db8::a:9",
        );
        let _servers = ["127.0.0.2", "::1"].map(|address| Port::smtp().serve(address, UP));
        let port = Port::new();
        let other = port.serve("127.0.0.2", UP);
        let [four, six] = ["v4", "v6"].map(|n| REJECT.replace("a.test", &format!("{n}.test")));
        let port_option = format!("--port={}", port.number);
        let rows = [
            ("", [&*four, &six]),
            ("-4", [&four, PROCEED]),
            ("-6 --stop 2001:db8::a:9", [PROCEED, &six]),
            ("--stop me.test --stop me.test.", [&four, &six]),
            (&port_option, [&four, PROCEED]),
        ];
        for (words, answers) in rows {
            let mut filter = Filter::start(filter(words));
            for (domain, answer) in ["four.test", "six.test"].into_iter().zip(answers) {
                assert_eq!(
                    filter.ask(&format!("u@{domain}")),
                    answer,
                    "{words} {domain}"
                );
            }
            filter.hang_up();
            assert_eq!(filter.end(), End::quiet(), "{words}");
        }
        assert_eq!(other.count(), 1);
    });
}

/// With `--cache-up-ttl`, questions of the next few seconds share what was found,
/// by whichever filter.
#[test]
fn a_server_that_is_remembered_as_up() {
    namespace::run(|| {
        let servers = Servers::new();
        let words = format!("--cache={FOLDER}/cache --cache-up-ttl=1h");
        for _ in 0..3 {
            let mut filter = Filter::start(filter(&words));
            for _ in 0..5 {
                assert_eq!(filter.ask("u@up.test"), REJECT);
            }
            let questions: Vec<_> = (0..5).map(|_| Question::to("u@up2.test")).collect();
            assert_eq!(filter.ask_all(&questions), [REJECT; 5]);
            filter.hang_up();
            assert_eq!(filter.end(), End::quiet());
        }
        assert_eq!(servers.up.count(), 1);
    });
}

/// Without it, each check is a connection, as soon as the one before has ended.
#[test]
fn nothing_else_is_remembered() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut filter = started();
        for _ in 0..5 {
            assert_eq!(filter.ask("u@up.test"), REJECT);
        }
        assert_eq!(servers.up.count(), 5);
        assert_eq!(filter.ask("u@up.test"), PROCEED);
        let _up = Port::smtp().serve("127.0.0.2", UP);
        assert_eq!(filter.ask("u@up.test"), REJECT);
    });
}

/// A warning never takes the place of an answer, and is not lost.
#[test]
fn a_cache_that_cannot_be_used() {
    namespace::run(|| {
        let _servers = Servers::new();
        let warning = "smtpdcheck: warning: cache '/no/folder/cache': no such directory\n";
        for words in ["", "-v "] {
            let words = format!("{words}--cache=/no/folder/cache");
            let mut filter = Filter::start(filter(&words));
            assert_eq!(filter.ask("u@up.test"), REJECT, "{words}");
            assert_eq!(filter.ask("u@down.test"), PROCEED);
            assert_eq!(filter.ask("u@other.test"), PROCEED);
            filter.hang_up();
            let expected = format!("{warning}{}", no_stop("other.test"));
            assert_eq!(filter.end(), having_said(&expected), "{words}");
        }
    });
}

/// Where standard output and error are one, as under spawn(8), nothing but
/// answers is written.
#[test]
fn one_file_for_output_and_errors() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut filter = Filter::linked(filter("-v").link(Link::Spawn));
        for _ in 0..3 {
            assert_eq!(filter.ask("u@up.test"), REJECT);
            assert_eq!(filter.ask("u@down.test"), PROCEED);
            assert_eq!(filter.ask("u@other.test"), PROCEED);
        }
        assert_eq!(filter.children(), [0; 0]);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}
