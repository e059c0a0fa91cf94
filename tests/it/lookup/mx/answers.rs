//! Answers that do not say what the list is: status 2.
//!
//! glibc ignores an answer to another question and one that is no answer at
//! all, and waits for a better one; musl hands them on. Both wait after
//! SERVFAIL or REFUSED.

use std::fs;

use super::{answers_if_by_tcp, cannot_look_up, check, counts, serve, servers};
use crate::harness::dns::name;
use crate::harness::namespace;
use crate::harness::run::{each, has_glibc, ms};

const NO_ANSWER: &str = "no usable answer from the name servers";
const MALFORMED: &str = "malformed answer";
const UNRELATED: &str = "answer to another query";

/// What a name server sends after the number of the query: the flags of a good
/// answer, one question, this many answers, the question, and what follows.
fn answer(domain: &str, answers: u8, rest: &[u8]) -> String {
    let header = [0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0];
    raw(&[&header, &name(domain)[..], &[0, 15, 0, 1], rest].concat())
}

fn raw(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("raw {digits}")
}

/// An MX record of the question's name, with a length of its own.
fn record(length: u8, data: &[u8]) -> Vec<u8> {
    [&[0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, length], data].concat()
}

/// One of each kind, with the reason that musl's users read, and glibc's.
#[test]
fn answers_that_do_not_say_what_the_list_is() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let at = |domain: &str| u8::try_from(12 + name(domain).len() + 4).unwrap();
        let good = [&[0, 10][..], &name("a.test")].concat();
        // A name that points to itself.
        let looping = |domain: &str| {
            let record = record(4, &[0, 10, 0xc0, at(domain) + 14]);
            answer(domain, 1, &record)
        };
        let rows = [
            ("servfail.test", "servfail".into(), NO_ANSWER, NO_ANSWER),
            ("refused.test", "refused".into(), NO_ANSWER, NO_ANSWER),
            ("notimp.test", "notimp".into(), NO_ANSWER, NO_ANSWER),
            (
                "referral.test",
                "referral".into(),
                "name server does not offer recursion",
                NO_ANSWER,
            ),
            (
                "other-id.test",
                "other-id 10:a.test".into(),
                NO_ANSWER,
                NO_ANSWER,
            ),
            ("loop.test", looping("loop.test"), MALFORMED, MALFORMED),
            (
                // Two names that point to one another.
                "loops.test",
                answer(
                    "loops.test",
                    2,
                    &[
                        record(4, &[0, 10, 0xc0, at("loops.test") + 16 + 14]),
                        record(4, &[0, 10, 0xc0, at("loops.test") + 14]),
                    ]
                    .concat(),
                ),
                MALFORMED,
                MALFORMED,
            ),
            (
                "ahead.test",
                answer("ahead.test", 1, &record(4, &[0, 10, 0xff, 0xff])),
                MALFORMED,
                MALFORMED,
            ),
            (
                "aliases.test",
                "=b.test =aliases.test".into(),
                MALFORMED,
                MALFORMED,
            ),
            (
                "long.test",
                answer("long.test", 1, &record(11, &good)),
                MALFORMED,
                MALFORMED,
            ),
            (
                "short.test",
                answer("short.test", 1, &record(9, &good)),
                MALFORMED,
                MALFORMED,
            ),
            (
                "longest.test",
                answer("longest.test", 1, &record(255, &good)),
                MALFORMED,
                MALFORMED,
            ),
            (
                "tiny.test",
                answer("tiny.test", 1, &record(1, &[0])),
                MALFORMED,
                MALFORMED,
            ),
            (
                // One more is promised.
                "missing.test",
                answer("missing.test", 2, &record(10, &good)),
                MALFORMED,
                MALFORMED,
            ),
            (
                "label.test",
                answer("label.test", 1, &record(4, &[0, 10, 0x41, 0])),
                MALFORMED,
                MALFORMED,
            ),
            ("empty.test", raw(&[]), NO_ANSWER, NO_ANSWER),
            ("flags.test", raw(&[0x81, 0x80]), MALFORMED, NO_ANSWER),
            (
                "header.test",
                raw(&[0x81, 0x80, 0, 0, 0, 0, 0, 0, 0, 0]),
                UNRELATED,
                NO_ANSWER,
            ),
            (
                "question.test",
                answer("another.test", 1, &record(10, &good)),
                UNRELATED,
                NO_ANSWER,
            ),
            (
                // The query itself comes back.
                "echo.test",
                raw(&[
                    &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                    &name("echo.test")[..],
                    &[0, 15, 0, 1],
                ]
                .concat()),
                UNRELATED,
                NO_ANSWER,
            ),
        ];
        let zone: String = rows
            .iter()
            .map(|(name, answer, ..)| format!("{name} MX {answer}\n"))
            .collect();
        let _names = serve(&zone);
        let servers = servers();
        each(&rows, |(domain, _, musl, glibc)| {
            let why = if has_glibc() { glibc } else { musl };
            for options in ["", "--stop me.test"] {
                let run = check(&format!("{options} --mx {domain}")).run();
                run.fails_with(&cannot_look_up(domain, why)).at_once();
            }
        });
        assert_eq!(counts(servers), [0; 3]);
    });
}

/// The same answers where nothing is wrong with them.
#[test]
fn the_same_without_the_lie() {
    namespace::run(|| {
        let good = [&[0, 10][..], &name("a.test")].concat();
        let length = u8::try_from(good.len()).unwrap();
        let others = [
            // Another type, and another class.
            vec![0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 1, b'x'],
            [&[0xc0, 12, 0, 15, 0, 3, 0, 0, 0, 60, 0, length], &good[..]].concat(),
            record(4, &[0, 5, 0xc0, 12]),
        ];
        let _names = serve(&format!(
            "good.test MX {}\nothers.test MX {}\nothers.test A 127.0.0.4\nothers.test AAAA nodata",
            answer("good.test", 1, &record(length, &good)),
            answer(
                "others.test",
                4,
                &[others.concat(), record(length, &good)].concat()
            ),
        ));
        let _servers = servers();
        check("--mx good.test").run().prints("a.test").at_once();
        let run = check("-v --mx others.test").run();
        let list = "others.test  mx    5:others.test, 10:a.test (";
        assert!(run.stderr.starts_with(list), "{run}");
        run.answers("a.test").at_once();
    });
}

/// What is cut off is asked for again over TCP. If there is nothing to be had
/// either, it is not known, whatever the first part said.
#[test]
fn answers_that_are_cut_off() {
    namespace::run(|| {
        namespace::resolver_timeout(2);
        let names = serve(
            "tcp.test MX truncated 20:a.test 10:b.test
             null.test MX truncated 0:.
             none.test MX truncated nodata
             none.test A 127.0.0.2
             none.test AAAA nodata
             slow.test MX after 300 truncated 10:a.test
             cut.test MX cut 10:a.test
             cut-none.test MX cut nodata
             closed.test MX no-tcp 10:a.test
             closed-none.test MX no-tcp nodata",
        );
        let servers = servers();
        for domain in ["cut.test", "cut-none.test"] {
            let run = check(&format!("--mx {domain}")).run();
            run.fails_with(&cannot_look_up(domain, "truncated answer"));
        }
        for domain in ["closed.test", "closed-none.test"] {
            let run = check(&format!("--mx {domain}")).run();
            let why = match names.asked(&format!("{domain} MX TCP")) {
                0 => "truncated answer",
                _ => NO_ANSWER,
            };
            run.fails_with(&cannot_look_up(domain, why)).at_once();
        }
        assert_eq!(counts(servers), [0; 3]);
        let _servers = super::servers();
        for (domain, answer) in [
            ("tcp.test", "b.test"),
            ("slow.test", "a.test"),
            ("null.test", ""),
            ("none.test", "none.test"),
        ] {
            let run = check(&format!("--mx {domain}")).run();
            answers_if_by_tcp(&names, &run, domain, answer);
        }
    });
}

/// Nobody is there to be asked.
#[test]
fn without_a_name_server() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let servers = servers();
        for options in ["", "--stop 127.0.0.9", "--cache /etc/empty/cache"] {
            let run = check(&format!("{options} --mx one.test")).run();
            run.fails_with(&cannot_look_up("one.test", NO_ANSWER))
                .at_once();
        }
        assert_eq!(counts(servers), [0; 3]);
    });
}

/// The good answer is waited for, behind one that the C library ignores.
#[test]
fn an_answer_with_another_number_is_ignored() {
    namespace::run(|| {
        // The C library asks again when half of its time is over.
        let options = "options timeout:2 attempts:2";
        let text = format!("nameserver 127.0.0.1\n{options}\n");
        fs::write("/etc/resolv.conf", text).unwrap();
        let names = serve("id.test MX other-id 10:a.test / 10:b.test");
        let servers = servers();
        check("--mx id.test").run().prints("b.test").after(ms(1000));
        assert_eq!(names.asked("id.test MX"), 2);
        assert_eq!(counts(servers), [0, 1, 0]);
    });
}
