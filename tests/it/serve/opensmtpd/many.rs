//! Many questions at a time.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Instant;

use super::{Held, PROCEED, REJECT, no_stop, started};
use crate::harness::dns;
use crate::harness::filter::{Filter, Question};
use crate::harness::gate::{End, Start};
use crate::harness::namespace;
use crate::harness::run::{SLACK, ms, wait_until};
use crate::harness::smtp::{Port, SILENT, UP, up_after};
use crate::serve::{Servers, ZONE, serve_many};

/// How many checks run at a time, and how many questions wait for theirs.
const CHECKS: usize = 32;
const QUESTIONS: usize = 512;

/// Every other domain has the server that is up.
fn any_domain() -> String {
    format!("{ZONE}* MX 10:a.test 20:me.test\n* A nodata\n* AAAA nodata")
}

/// Questions about domains of their own.
fn questions(count: usize) -> Vec<Question> {
    let address = |n| format!("u@d{n}.any.test");
    (0..count).map(|n| Question::to(&address(n))).collect()
}

/// The token does not name a session, nor the session a token.
#[test]
fn equal_tokens_of_different_sessions() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut filter = started();
        let mut questions = Vec::new();
        for token in ["1", "2"] {
            for (session, address) in [
                ("a", "u@up.test"),
                ("b", "u@down.test"),
                ("c", "postmaster"),
                ("d", "u@up.test"),
                ("1", "u@first.test"),
                ("2", "u@up2.test"),
            ] {
                let mut question = Question::to(address);
                (question.session, question.token) = (session.into(), token.into());
                questions.push(question);
            }
        }
        let expected = [REJECT, PROCEED, PROCEED, REJECT, PROCEED, REJECT].repeat(2);
        for _ in 0..10 {
            assert_eq!(filter.ask_all(&questions), expected);
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// Several recipients of one session, which smtpd asks about one after another.
#[test]
fn a_session_of_many_recipients() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut filter = started();
        for n in 0..50 {
            let mut question = Question::to(&format!("u{n}@up.test"));
            question.session = "0e4322a67812e478".into();
            assert_eq!(filter.ask_this(&question), REJECT);
        }
        assert_eq!(servers.up.count(), 50);
    });
}

/// A slow domain holds up no other one.
#[test]
fn answers_come_in_the_order_in_which_checks_end() {
    namespace::run(|| {
        let names = dns::serve(ZONE);
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let held = Held::new("127.0.0.5");
        let mut filter = started();
        let slow = Question::to("u@slow.test");
        filter.send(slow.line());
        let child = filter.child();
        for _ in 0..20 {
            assert_eq!(filter.ask("u@up.test"), REJECT);
            assert_eq!(filter.ask("u@down.test"), PROCEED);
            assert_eq!(filter.ask("postmaster"), PROCEED);
        }
        assert_eq!(filter.children(), [child]);
        let also = [1, 2, 3].map(|n| Question::to(&format!("u{n}@slow.test")));
        filter.send(also.each_ref().map(Question::line).concat());
        assert_eq!(filter.ask("u@up.test"), REJECT);
        held.greet(1);
        let slow = [&[slow][..], &also].concat();
        let expected = REJECT.replace("a.test", "silent.mx.test");
        assert_eq!(filter.answers(&slow), [&*expected; 4]);
        assert_eq!(names.asked("slow.test MX"), 1);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// However it is written, a domain that is asked about many times at once is one
/// connection to its server.
#[test]
fn questions_about_one_domain_share_a_check() {
    namespace::run(|| {
        let names = dns::serve(&ZONE.replace("127.0.0.2", "127.0.0.3"));
        let held = Held::new("127.0.0.3");
        let mut filter = started();
        let spellings = ["up.test", "UP.test", "up.test.", "Up.TEST.", "x@up.test"];
        let questions: Vec<_> = (0..100)
            .map(|n| Question::to(&format!("u{n}@{}", spellings[n % 5])))
            .collect();
        filter.send(questions.iter().map(Question::line).collect::<String>());
        let child = filter.child();
        // All have been read when a later one is answered.
        filter.says_nothing("questions about one domain");
        assert_eq!(filter.children(), [child]);
        held.greet(1);
        assert_eq!(filter.answers(&questions), [REJECT; 100]);
        assert_eq!(names.asked("up.test MX"), 1);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// The same where it cannot be told, and where none is up.
#[test]
fn every_answer_is_shared() {
    namespace::run(|| {
        // So that the check takes longer than the questions.
        let zone = ZONE
            .replace("other.test MX", "other.test MX after 1000")
            .replace("first.test MX", "first.test MX after 1000");
        let names = dns::serve(&zone);
        let mut filter = started();
        for domain in ["other.test", "first.test"] {
            let questions: Vec<_> = (0..50)
                .map(|n| Question::to(&format!("u{n}@{domain}")))
                .collect();
            assert_eq!(filter.ask_all(&questions), [PROCEED; 50]);
            assert_eq!(names.asked(&format!("{domain} MX")), 1);
        }
        filter.hang_up();
        let end = filter.end();
        assert_eq!(end.stderr, no_stop("other.test"));
        assert_eq!(end.status, Some(0));
    });
}

/// At most 32 checks at a time; the others wait for their turn, and every
/// question is answered.
#[test]
fn more_domains_than_checks() {
    namespace::run(|| {
        let names = dns::serve(&any_domain().replace("127.0.0.2", "127.0.0.3"));
        let held = Held::new("127.0.0.3");
        let mut filter = started();
        let questions = questions(200);
        let lines: String = questions.iter().map(Question::line).collect();
        let sent = filter.send_meanwhile(lines.into_bytes());
        wait_until(|| filter.children().len() == CHECKS);
        let asked = |n: usize| names.asked(&format!("d{n}.any.test MX")) == 1;
        wait_until(|| (0..CHECKS).all(asked));
        assert_eq!(filter.children().len(), CHECKS);
        assert!(!(CHECKS..200).any(asked));
        held.greet(200);
        assert_eq!(filter.answers(&questions), [REJECT; 200]);
        sent.join().unwrap();
        assert_eq!(filter.children(), [0; 0]);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// Questions share a check also where it has not begun.
#[test]
fn more_domains_than_checks_asked_about_again() {
    namespace::run(|| {
        let names = dns::serve(&any_domain().replace("127.0.0.2", "127.0.0.3"));
        let held = Held::new("127.0.0.3");
        let mut filter = started();
        let some = || questions(CHECKS + 20);
        let questions: Vec<_> = some().into_iter().chain(some()).chain(some()).collect();
        let lines: String = questions.iter().map(Question::line).collect();
        filter.send(lines);
        // All have been read when a later one is answered.
        filter.says_nothing("questions about many domains");
        assert_eq!(filter.children().len(), CHECKS);
        held.greet(CHECKS + 20);
        assert_eq!(filter.answers(&questions), vec![REJECT; questions.len()]);
        for n in 0..CHECKS + 20 {
            assert_eq!(names.asked(&format!("d{n}.any.test MX")), 1, "{n}");
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// A later question does not overtake those that wait for a check.
#[test]
fn checks_begin_in_the_order_of_the_questions() {
    namespace::run(|| {
        let zone = format!("{ZONE}* MX 10:silent.mx.test 20:me.test");
        let _names = dns::serve(&zone);
        let _silent = Port::smtp().serve("127.0.0.5", SILENT);
        let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=1");
        let mut filter = Filter::start(start);
        let mut questions = questions(200).into_iter();
        // They end one by one.
        for question in questions.by_ref().take(CHECKS) {
            filter.send(question.line());
            thread::sleep(ms(25));
        }
        let mut waiting = BTreeSet::new();
        for question in questions.by_ref().take(8) {
            waiting.insert(question.key());
            filter.send(question.line());
        }
        // Whoever has an answer asks about another domain.
        for question in questions.take(3 * CHECKS) {
            waiting.remove(&filter.next_answer().0);
            filter.send(question.line());
        }
        assert_eq!(waiting, BTreeSet::new());
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// When the first checks time out, the next ones get their whole time.
#[test]
fn checks_that_wait_lose_no_time() {
    namespace::run(|| {
        let zone = format!("{ZONE}* MX 10:silent.mx.test 20:me.test");
        let _names = dns::serve(&zone);
        let silent = Port::smtp().serve("127.0.0.5", SILENT);
        let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=2");
        let mut filter = Filter::start(start);
        let questions = questions(CHECKS + 1);
        let started = Instant::now();
        assert_eq!(filter.ask_all(&questions), [PROCEED; CHECKS + 1]);
        let elapsed = started.elapsed();
        assert!(elapsed >= ms(4000), "{elapsed:?}");
        assert!(elapsed < ms(4000) + SLACK, "{elapsed:?}");
        let connections = silent.finish();
        assert_eq!(connections.len(), CHECKS + 1);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// At most 512 questions are unanswered at a time; the others are read when
/// some of these have their answer, and all are answered.
#[test]
fn more_questions_than_are_kept() {
    namespace::run(|| {
        let _names = dns::serve(&ZONE.replace("127.0.0.2", "127.0.0.3"));
        let held = Held::new("127.0.0.3");
        let mut filter = started();
        let about = |count: usize| -> Vec<_> {
            (0..count)
                .map(|n| Question::to(&format!("u{n}@up.test")))
                .collect()
        };
        let lines =
            |questions: &[Question]| questions.iter().map(Question::line).collect::<String>();
        let first = about(QUESTIONS - 1);
        filter.send(lines(&first));
        // There is one place left, and this needs none.
        filter.says_nothing("511 questions");
        let last = about(1);
        let late = Question::to("postmaster");
        filter.send(lines(&last) + &late.line());
        held.greet(1);
        let mut found: Vec<_> = (0..=QUESTIONS).map(|_| filter.next_answer()).collect();
        assert_eq!(found.pop().unwrap(), (late.key(), PROCEED.into()));
        let asked = [first, last].concat();
        let expected: Vec<_> = asked.iter().map(|q| (q.key(), REJECT.to_owned())).collect();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(filter.children(), [0; 0]);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// Whatever their mixture.
#[test]
fn thousands_of_questions() {
    namespace::run(|| {
        let _names = dns::serve(&any_domain());
        serve_many();
        let mut filter = started();
        let address = |n: usize| match n % 8 {
            0..=2 => format!("u{n}@up.test"),
            3 => format!("u{n}@down.test"),
            4 => format!("u{n}@d{}.any.test", n % 500),
            5 => format!("u{n}@first.test"),
            _ => format!("u{n}@[192.0.2.1]"),
        };
        let questions: Vec<_> = (0..4000).map(|n| Question::to(&address(n))).collect();
        let answer = |n: usize| match n % 8 {
            0..=2 | 4 => REJECT,
            _ => PROCEED,
        };
        let expected: Vec<_> = (0..4000).map(answer).collect();
        assert_eq!(filter.ask_all(&questions), expected);
        assert_eq!(filter.children(), [0; 0]);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// Whether a filter waits.
fn sleeps(filter: &Filter) -> bool {
    let stat = format!("/proc/{}/stat", filter.process());
    fs::read_to_string(stat).unwrap().contains(") S ")
}

/// Answers wait for who reads them late, and so do questions.
#[test]
fn smtpd_reads_late() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut filter = started();
        let questions: Vec<_> = (0..5000).map(|_| Question::to("postmaster")).collect();
        let lines: String = questions.iter().map(Question::line).collect();
        let sent = filter.send_meanwhile(lines.into_bytes());
        filter.wait_for_bytes();
        wait_until(|| sleeps(&filter));
        assert_eq!(filter.answers(&questions), vec![PROCEED; 5000]);
        sent.join().unwrap();
        assert_eq!(filter.ask("u@up.test"), REJECT);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// A server that takes its time to greet, and children that come and go.
#[test]
fn checks_of_different_length() {
    namespace::run(|| {
        let mut zone = String::from(ZONE);
        for n in 0..8 {
            zone += &format!("m{n}.any.test A 127.0.1.{n}\nm{n}.any.test AAAA nodata\n");
            for m in 0..10 {
                zone += &format!("d{}.any.test MX 10:m{n}.any.test 20:me.test\n", n * 10 + m);
            }
        }
        let _names = dns::serve(&zone);
        let _servers: Vec<_> = (0..8)
            .map(|n| Port::smtp().serve(&format!("127.0.1.{n}"), &up_after(ms(n * 20))))
            .collect();
        let mut filter = started();
        let questions: Vec<_> = (0..400)
            .map(|n| Question::to(&format!("u{n}@d{}.any.test", n * 7 % 80)))
            .collect();
        let server = |n: usize| REJECT.replace("a.test", &format!("m{}.any.test", n * 7 % 80 / 10));
        let expected: Vec<_> = (0..400).map(server).collect();
        assert_eq!(filter.ask_all(&questions), expected);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}
