//! Recipients of one message: in one domain they are one question.

use std::thread;
use std::time::Instant;

use super::{DEFER, DUNNO, Servers, gate, no_stop};
use crate::harness::gate::{Request, Start};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::ms;
use crate::harness::smtp::{Port, UP};

/// A recipient of a message.
fn request(message: &str, recipient: &str) -> Request {
    Request::to(recipient).with("instance", message)
}

#[test]
fn fifty_recipients_are_one_question() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        for n in 0..25 {
            let request = request("1.2.3", &format!("u{n}@up.test"));
            assert_eq!(gate.ask(&request), DEFER, "{n}");
        }
        let all = (25..50).map(|n| request("1.2.3", &format!("u{n}@up.test")).bytes());
        gate.send(all.collect::<Vec<_>>().concat());
        for n in 25..50 {
            assert_eq!(gate.answer(), DEFER, "{n}");
        }
        assert_eq!(servers.names.asked("up.test MX"), 1);
        assert_eq!(servers.names.asked("a.test A"), 1);
        assert_eq!(servers.up.count(), 1);
    });
}

/// However the domain is written.
#[test]
fn a_domain_is_one_in_all_spellings() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        for recipient in ["u@up.test", "v@UP.Test", "w@up.test.", "u@x@Up.TEST."] {
            assert_eq!(gate.ask(&request("1", recipient)), DEFER, "{recipient}");
        }
        assert_eq!(servers.names.asked("up.test MX"), 1);
        assert_eq!(servers.up.count(), 1);
    });
}

/// Every kind of answer is given again: also that it took long.
#[test]
fn every_answer_is_given_again() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = Start::words("--timeout=1").start();
        let rows = [
            ("up.test", DEFER),
            ("down.test", DUNNO),
            ("other.test", &*no_stop("other.test")),
            ("slow.test", DUNNO),
            ("gone.test", DUNNO),
        ];
        for (domain, answer) in rows {
            let request = request("1", &format!("u@{domain}"));
            assert_eq!(gate.ask(&request), answer, "{domain}");
        }
        let started = Instant::now();
        for (domain, answer) in rows.iter().rev().chain(&rows) {
            let request = request("1", &format!("v@{domain}"));
            assert_eq!(gate.ask(&request), *answer, "{domain}");
        }
        assert!(started.elapsed() < ms(1000));
        for (domain, _) in rows {
            assert_eq!(servers.names.asked(&format!("{domain} MX")), 1, "{domain}");
        }
        assert_eq!(servers.up.count(), 1);
        assert_eq!(servers.silent.count(), 1);
    });
}

/// The same domain in another message is another question: whoever asks again
/// later may be told something else.
#[test]
fn another_message_is_another_question() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        for _ in 0..3 {
            for message in ["1", "2", "12", "1.0"] {
                for _ in 0..2 {
                    assert_eq!(gate.ask(&request(message, "u@up.test")), DEFER);
                }
            }
        }
        assert_eq!(servers.up.count(), 12);
        assert_eq!(gate.ask(&request("1.0", "u@up.test")), DEFER);
        assert_eq!(gate.ask(&request("3", "u@up.test")), DUNNO);
        assert_eq!(gate.ask(&request("1.0", "u@up.test")), DUNNO);
        let _up = Port::smtp().serve("127.0.0.2", UP);
        assert_eq!(gate.ask(&request("1.0", "u@up.test")), DUNNO);
        assert_eq!(gate.ask(&request("4", "u@up.test")), DEFER);
    });
}

/// What is asked without the name of a message is asked for itself.
#[test]
fn without_a_message_each_recipient_is_a_question() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        for _ in 0..3 {
            assert_eq!(gate.ask(&request("", "u@up.test")), DEFER);
            let without = request("", "u@up.test").without("instance");
            assert_eq!(gate.ask(&without), DEFER);
        }
        assert_eq!(servers.up.count(), 6);
    });
}

/// Eight domains of a message are remembered.
#[test]
fn a_message_to_many_domains() {
    namespace::run(|| {
        let zone: String = (0..9)
            .map(|n| format!("d{n}.test MX 10:a.test 20:me.test\n"))
            .collect();
        let names = crate::harness::dns::serve(&format!("{}{zone}", super::ZONE));
        let up = Port::smtp().serve("127.0.0.2", UP);
        let mut gate = gate("").start();
        for _ in 0..3 {
            for n in 0..8 {
                let request = request("1", &format!("u@d{n}.test"));
                assert_eq!(gate.ask(&request), DEFER, "{n}");
            }
        }
        for n in 0..8 {
            assert_eq!(names.asked(&format!("d{n}.test MX")), 1, "{n}");
        }
        // One more takes the place of another one, and all are answered.
        for n in [8, 0, 1, 2, 3, 4, 5, 6, 7, 8] {
            let request = request("1", &format!("u@d{n}.test"));
            assert_eq!(gate.ask(&request), DEFER, "{n}");
        }
        assert_eq!(names.asked("gone.test MX"), 0);
        assert!(up.count() >= 9);
    });
}

/// With `--cache-up-ttl`, messages of the next few seconds share what was found.
#[test]
fn a_server_that_is_remembered_as_up() {
    namespace::run(|| {
        let servers = Servers::new();
        let words = format!("--cache={FOLDER}/cache --cache-up-ttl=1h");
        for _ in 0..3 {
            let mut gate = gate(&words).start();
            for _ in 0..5 {
                assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
            }
        }
        assert_eq!(servers.up.count(), 1);
    });
}

/// What needs no question does not change what is remembered.
#[test]
fn what_is_not_asked_is_not_remembered() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        for _ in 0..10 {
            assert_eq!(gate.ask(&request("1", "u@up.test")), DEFER);
            assert_eq!(gate.ask(&request("1", "postmaster")), DUNNO);
            assert_eq!(gate.ask(&request("1", "u@[192.0.2.1]")), DUNNO);
            let login = request("2", "u@up.test").with("sasl_username", "joe");
            assert_eq!(gate.ask(&login), DUNNO);
            let data = request("3", "u@up.test").with("protocol_state", "DATA");
            assert_eq!(gate.ask(&data), DUNNO);
        }
        assert_eq!(servers.up.count(), 1);
    });
}

/// Where it is remembered that a server is up, that holds for a moment also for
/// other messages, without a process.
#[test]
fn other_messages_are_answered_alike_for_a_moment() {
    namespace::run(|| {
        let servers = Servers::new();
        let asked = || servers.names.asked("up.test MX");
        let mut gate = gate(&format!("--cache={FOLDER}/cache --cache-up-ttl=60")).start();
        let mut ask = |message: &str| gate.ask(&request(message, "u@up.test"));
        assert_eq!(ask("1"), DEFER);
        // On a machine that is not too busy, within a second.
        let quick = (0..20).any(|n| {
            let (before, begun) = (asked(), Instant::now());
            let messages = ["a", "b", "c"].map(|name| format!("{n}{name}"));
            for message in &messages {
                assert_eq!(ask(message), DEFER);
            }
            // The first one may have been the first after the moment.
            begun.elapsed() < ms(900) && asked() <= before + 1
        });
        assert!(quick);
        let before = asked();
        thread::sleep(ms(1100));
        assert_eq!(ask("z"), DEFER);
        assert_eq!(asked(), before + 1);
        assert_eq!(servers.up.count(), 1);
    });
}

/// Not where it is not remembered, nor for longer.
#[test]
fn other_messages_are_other_questions() {
    namespace::run(|| {
        let servers = Servers::new();
        let asked = || servers.names.asked("up.test MX");
        for words in ["", "--cache-up-ttl=1", "--cache-up-ttl=0"] {
            let before = asked();
            let mut gate = gate(&format!("--cache={FOLDER}/cache {words}")).start();
            for message in ["1", "2", "3"] {
                assert_eq!(gate.ask(&request(message, "u@up.test")), DEFER);
            }
            assert_eq!(asked(), before + 3, "{words}");
        }
    });
}
