//! `--max-defer`: how long a message is deferred while a better server is up.

use std::thread;
use std::time::{Duration, Instant};

use super::{DEFER, DUNNO, Servers, gate};
use crate::harness::gate::{Gate, Request, Start};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::{SLACK, ms};
use crate::harness::smtp::{Port, UP};

/// A gate that accepts what was first deferred two seconds ago. That is told by
/// whole seconds: more than one second has passed.
fn impatient() -> Start {
    gate(&format!("--cache={FOLDER}/cache --max-defer=2s"))
}

const LEAST: Duration = ms(1000);

/// Asks again and again until the message is accepted.
#[track_caller]
fn wait_until_accepted(gate: &mut Gate, request: &Request, since: Instant) {
    while gate.ask(request) == DEFER {
        assert!(since.elapsed() < 2 * LEAST + SLACK);
        thread::sleep(ms(20));
    }
    assert_eq!(gate.ask(request), DUNNO);
    assert!(since.elapsed() > LEAST, "{:?}", since.elapsed());
}

fn request(sender: &str, recipient: &str) -> Request {
    Request::to(recipient).with("sender", sender)
}

#[test]
fn a_message_is_not_deferred_for_ever() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = impatient().start();
        let message = request("s@x.test", "u@up.test");
        let started = Instant::now();
        assert_eq!(gate.ask(&message), DEFER);
        wait_until_accepted(&mut gate, &message, started);
        let before = servers.names.asked("up.test MX");
        // From now on nobody is asked about it, whatever its case or session,
        // and from wherever it comes.
        let same = [
            message.clone(),
            request("S@X.Test", "U@UP.test"),
            request("s@x.test", "u@up.test").with("client_address", "203.0.113.5"),
            request("s@x.test", "u@up.test").with("client_address", "2001:db8::5"),
            request("s@x.test", "u@up.test").with("instance", "other"),
        ];
        for request in &same {
            assert_eq!(gate.ask(request), DUNNO, "{}", request.text());
        }
        assert_eq!(servers.names.asked("up.test MX"), before);
        // Another message is none of it.
        let others = [
            request("t@x.test", "u@up.test"),
            request("s@x.test", "v@up.test"),
            request("s@x.test", "u@up2.test"),
            request("", "u@up.test"),
            request("s@x.tes", "tu@up.test"),
        ];
        for request in &others {
            assert_eq!(gate.ask(request), DEFER, "{}", request.text());
        }
        // Another gate knows the same.
        gate.hang_up();
        drop(gate);
        let mut gate = impatient().start();
        assert_eq!(gate.ask(&message), DUNNO);
    });
}

/// Each recipient is judged by itself, and the servers are asked once.
#[test]
fn recipients_of_one_message() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = impatient().start();
        let to = |message: &str, name: &str| {
            let request = request("s@x.test", &format!("{name}@up.test"));
            request.with("instance", message)
        };
        let started = Instant::now();
        for name in ["a", "b", "c"] {
            assert_eq!(gate.ask(&to("1", name)), DEFER);
        }
        assert_eq!(servers.names.asked("up.test MX"), 1);
        for name in ["a", "b", "c"] {
            let alone = request("s@x.test", &format!("{name}@up.test"));
            wait_until_accepted(&mut gate, &alone, started);
        }
        // In any order of old and new ones.
        let before = servers.names.asked("up.test MX");
        let rows = [
            ("a", DUNNO),
            ("d", DEFER),
            ("b", DUNNO),
            ("e", DEFER),
            ("c", DUNNO),
            ("d", DEFER),
        ];
        for (name, answer) in rows {
            assert_eq!(gate.ask(&to("2", name)), answer, "{name}");
        }
        assert_eq!(servers.names.asked("up.test MX"), before + 1);
    });
}

/// Another domain of the message in between changes nothing, and what is known
/// to be up is not asked again.
#[test]
fn recipients_in_two_domains() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = impatient().start();
        for n in 0..20 {
            for (domain, answer) in [("up", DEFER), ("up2", DEFER), ("down", DUNNO)] {
                let request = request("s@x.test", &format!("u{n}@{domain}.test"));
                let request = request.with("instance", "1");
                assert_eq!(gate.ask(&request), answer, "{n} {domain}");
            }
        }
        for domain in ["up", "up2", "down"] {
            assert_eq!(servers.names.asked(&format!("{domain}.test MX")), 1);
        }
        assert_eq!(servers.up.count(), 2);
        assert_eq!(gate.children(), [0; 0]);
    });
}

/// The log tells a message that has waited from one that nobody else would take.
#[test]
fn verbose_says_that_a_message_has_waited() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = impatient().arguments(["-v"]).start();
        let message = request("s@x.test", "u@up.test");
        let started = Instant::now();
        let answer = loop {
            match gate.ask(&message) {
                answer if answer == DEFER => thread::sleep(ms(20)),
                answer => break answer,
            }
            assert!(started.elapsed() < 2 * LEAST + SLACK);
        };
        assert!(answer.starts_with("action=INFO "), "{answer}");
        assert!(answer.contains("deferred"), "{answer}");
    });
}

/// Time only counts from when a message was deferred.
#[test]
fn what_was_accepted_was_not_deferred() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = impatient().start();
        let accepted = |name: &str| {
            let request = request("s@x.test", &format!("{name}@down.test"));
            request.with("instance", "1")
        };
        for name in ["a", "b", "a"] {
            assert_eq!(gate.ask(&accepted(name)), DUNNO);
        }
        let deferred = request("s@x.test", "a@up.test");
        wait_until_accepted(&mut gate, &deferred, Instant::now());
        let _up = Port::smtp().serve("127.0.0.4", UP);
        for name in ["a", "b"] {
            let answer = gate.ask(&accepted(name).with("instance", "2"));
            assert_eq!(answer, DEFER.replace("a.test", "down.mx.test"), "{name}");
        }
    });
}

/// The null sender is everybody's: it is known by the client's network.
#[test]
fn the_null_sender_is_known_by_its_network() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = impatient().start();
        let from = |client: &str| request("", "u@up.test").with("client_address", client);
        let started = Instant::now();
        assert_eq!(gate.ask(&from("203.0.113.5")), DEFER);
        assert_eq!(gate.ask(&from("2001:db8:1:2::5")), DEFER);
        wait_until_accepted(&mut gate, &from("203.0.113.5"), started);
        wait_until_accepted(&mut gate, &from("2001:db8:1:2::5"), started);
        let rows = [
            ("203.0.113.200", DUNNO),
            ("::ffff:203.0.113.7", DUNNO),
            ("2001:db8:1:2:ffff::1", DUNNO),
            ("2001:DB8:1:2::9", DUNNO),
            ("203.0.114.5", DEFER),
            ("203.1.113.5", DEFER),
            ("2001:db8:1:3::5", DEFER),
            ("2001:db8:1::5", DEFER),
            ("unknown", DEFER),
        ];
        for (client, answer) in rows {
            assert_eq!(gate.ask(&from(client)), answer, "{client}");
        }
        // Its recipients are apart.
        let other = request("", "v@up.test").with("client_address", "203.0.113.5");
        assert_eq!(gate.ask(&other), DEFER);
    });
}

/// Where nothing can be remembered, a message would be deferred for ever.
#[test]
fn without_a_cache_nobody_is_deferred() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("--cache=/no/folder/cache --max-defer=1h").start();
        for message in ["1", "2"] {
            let request = request("a@client.test", "u@up.test").with("instance", message);
            let warning = "action=WARN smtpdcheck: cache '/no/folder/cache': no such directory";
            assert_eq!(gate.ask(&request), warning);
        }
    });
}
