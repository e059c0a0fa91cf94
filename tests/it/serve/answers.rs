//! What is answered to one question.

use super::{DEFER, DUNNO, Servers, ZONE, gate, no_stop};
use crate::harness::gate::{End, Link, Request, Start};
use crate::harness::run::{SLACK, each, ms};
use crate::harness::smtp::{Port, UP};
use crate::harness::{dns, namespace};

use std::time::Instant;

#[test]
fn every_ending_has_its_answer() {
    namespace::run(|| {
        let _servers = Servers::new();
        let rows = [
            ("up.test", DEFER),
            ("down.test", DUNNO),
            ("first.test", DUNNO),
            ("equal.test", DUNNO),
            ("null.test", DUNNO),
            ("gone.test", DUNNO),
            ("other.test", &*no_stop("other.test")),
            ("none.test", &*no_stop("none.test")),
        ];
        for link in [Link::Spawn, Link::Socket, Link::Two] {
            let mut gate = gate("").link(link).start();
            for (domain, answer) in rows {
                let request = Request::to(&format!("u@{domain}"));
                assert_eq!(gate.ask(&request), answer, "{domain} {link:?}");
            }
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet(), "{link:?}");
        }
    });
}

/// A server that does not greet is down, and a list that does not come is not
/// known, when the timeout is over.
#[test]
fn answers_come_by_the_deadline() {
    namespace::run(|| {
        let _servers = Servers::new();
        let dark = "cannot look up the mail servers of 'dark.test': no answer in time";
        let rows = [
            ("slow.test", DUNNO.to_owned()),
            ("dark.test", format!("action=WARN smtpdcheck: {dark}")),
        ];
        each(&rows, |(domain, answer)| {
            let mut gate = Start::words("--timeout=1").start();
            let started = Instant::now();
            assert_eq!(gate.ask(&Request::to(&format!("u@{domain}"))), *answer);
            let elapsed = started.elapsed();
            assert!(
                elapsed >= ms(1000) && elapsed < ms(1000) + SLACK,
                "{elapsed:?}"
            );
            assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
        });
    });
}

/// With `--verbose`, what was found where none is up. The rest is as without.
#[test]
fn verbose_says_why_a_message_is_accepted() {
    namespace::run(|| {
        let _servers = Servers::new();
        for link in [Link::Spawn, Link::Socket] {
            let mut gate = gate("-v").link(link).start();
            let answer = gate.ask(&Request::to("u@down.test"));
            let info = "action=INFO ";
            assert!(answer.starts_with(info), "{answer}");
            let reason = "down 127.0.0.4: connection refused";
            assert!(
                answer.contains("down.mx.test") && answer.contains(reason),
                "{answer}"
            );
            let answer = gate.ask(&Request::to("u@gone.test"));
            assert!(answer.starts_with(info), "{answer}");
            assert!(answer.contains("no such domain"), "{answer}");
            assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
            assert_eq!(
                gate.ask(&Request::to("u@other.test")),
                no_stop("other.test")
            );
            // There was nothing to find.
            assert_eq!(gate.ask(&Request::to("postmaster")), DUNNO);
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet(), "{link:?}");
        }
    });
}

/// The reason fits in what Postfix reads of an answer, and is one line.
#[test]
fn verbose_is_one_line_however_many_servers_there_are() {
    namespace::run(|| {
        // As many as a datagram holds, with four addresses each.
        let list: Vec<_> = (0..20).map(|n| format!("{n}:d{n}.t")).collect();
        let many = format!("many.test MX {} 99:me.test", list.join(" "));
        let addresses = "127.0.0.4 127.0.0.6 127.0.0.7 127.0.0.8";
        let zone = format!("{ZONE}{many}\n* A {addresses}\n* AAAA nodata");
        let _names = dns::serve(&zone);
        let mut gate = gate("-v").start();
        let answer = gate.ask(&Request::to("u@many.test"));
        assert!(answer.starts_with("action=INFO "), "{answer}");
        assert!(answer.len() < 2000, "{answer}");
        assert!(answer.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    });
}

/// Nobody is asked, and no reason is needed.
#[test]
fn nothing_to_ask() {
    namespace::run(|| {
        let servers = Servers::new();
        let recipients = [
            "",
            "postmaster",
            "@",
            "u@",
            "u@.",
            "u@..",
            "u@.up.test",
            "u@up..test",
            "u@up.test..",
            "u@[192.0.2.20]",
            "u@[IPv6:2001:db8::1]",
            "u@[up.test]",
            "u@192.0.2.20",
            "u@127.1",
            "u@2001:db8::1",
            "u@fe80::1%lo",
            "u@::1",
            "u@up test",
            "u@up.test ",
            "u@ up.test",
            "u@up.test;x",
            "u@up.test,a.test",
            "u@<up.test>",
            "u@\u{e4}.test",
            "u@10:up.test",
            "u@-v@",
        ];
        let long = format!("u@{}.test", "a".repeat(64));
        let states = [
            "",
            "CONNECT",
            "EHLO",
            "HELO",
            "MAIL",
            "DATA",
            "END-OF-MESSAGE",
            "VRFY",
            "ETRN",
            "RCPT ",
            "RCPTX",
        ];
        let request = Request::to("u@up.test");
        let mut requests: Vec<_> = recipients.map(Request::to).into();
        requests.push(Request::to(&long));
        requests.extend(states.map(|state| request.clone().with("protocol_state", state)));
        let kinds = ["", "smtpd_access_polic", "smtpd_access_policy2", "junk"];
        requests.extend(kinds.map(|kind| request.clone().with("request", kind)));
        let users = ["joe", " ", "0"];
        requests.extend(users.map(|user| request.clone().with("sasl_username", user)));
        let needed = ["request", "protocol_state", "recipient"];
        requests.extend(needed.map(|name| request.clone().without(name)));
        // Also where there is no stop host, which matters to nobody then.
        let lost: Vec<_> = requests
            .iter()
            .map(|request| request.clone().without("server_address"))
            .collect();
        for words in ["", "-v"] {
            let mut gate = gate(words).start();
            for request in requests.iter().chain(&lost) {
                assert_eq!(gate.ask(request), DUNNO, "{}", request.text());
            }
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet());
        }
        assert_eq!(servers.names.questions(), [""; 0]);
        assert_eq!(servers.up.count(), 0);
    });
}

/// Attributes without which there is still a question.
#[test]
fn attributes_that_are_missing() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("").start();
        let names = [
            "protocol_name",
            "client_address",
            "client_name",
            "sender",
            "instance",
            "sasl_username",
            "sasl_method",
            "helo_name",
            "server_port",
        ];
        for name in names {
            let request = Request::to("u@up.test").without(name);
            assert_eq!(gate.ask(&request), DEFER, "{name}");
        }
        let request = Request::to("u@up.test").with("sender", "");
        assert_eq!(gate.ask(&request), DEFER);
        // A method alone is no login.
        let request = Request::to("u@up.test").with("sasl_method", "PLAIN");
        assert_eq!(gate.ask(&request), DEFER);
    });
}

/// What follows the last `@`, in any case, and without a final dot.
#[test]
fn the_domain_of_a_recipient() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        let recipients = [
            "u@up.test.",
            "u@UP.Test",
            "u@uP.tEST.",
            "U@up.test",
            "@up.test",
            "a@b@up.test",
            "u@down.test@up.test",
            "\"a@b\"@up.test",
            "\"a b\"@up.test",
            "a%b.test@up.test",
            "@a.test,@b.test:u@up.test",
            "b!u@up.test",
            "u=v@up.test",
            "<u@up.test",
        ];
        for recipient in recipients {
            let answer = gate.ask(&Request::to(recipient));
            assert_eq!(answer, DEFER, "{recipient}");
        }
        assert_eq!(servers.names.asked("up.test MX"), recipients.len());
        let answer = gate.ask(&Request::to("u@up.test@down.test"));
        assert_eq!(answer, DUNNO);
    });
}

/// The address that the client has connected to is a stop host, besides those
/// of `--stop`.
#[test]
fn the_server_s_address_is_a_stop_host() {
    namespace::run(|| {
        let servers = Servers::new();
        let not_known = "action=WARN smtpdcheck: no --stop given";
        let not_ours = no_stop("up.test");
        // Options, the address, and the answer.
        let rows = [
            ("", "127.0.0.9", DEFER),
            ("", "::ffff:127.0.0.9", DEFER),
            ("", "2001:db8::a:9", DEFER),
            ("", "2001:DB8:0::A:9", DEFER),
            ("", "127.0.0.8", &not_ours),
            // As if --stop a.test.
            ("", "127.0.0.2", DUNNO),
            ("--stop me.test", "127.0.0.2", DUNNO),
            ("--stop me.test", "127.0.0.8", DEFER),
            ("--stop 127.0.0.9", "127.0.0.8", DEFER),
            ("--stop me.test", "unknown", DEFER),
            ("--stop me.test", "", DEFER),
            ("--stop me.test", "a.test", DEFER),
            ("--stop me.test", "nonsense nonsense", DEFER),
            ("--stop 127.0.0.8", "unknown", &not_ours),
            ("--stop 127.0.0.8", "127.0.0.9", DEFER),
            ("--stop 127.0.0.8 --stop 127.0.0.9", "unknown", DEFER),
            ("", "unknown", not_known),
            ("", "", not_known),
            ("", "me.test", not_known),
            ("-v", "unknown", not_known),
        ];
        for (words, address, answer) in rows {
            let mut gate = gate(words).start();
            let request = Request::to("u@up.test").with("server_address", address);
            let found = gate.ask(&request);
            assert!(found.starts_with(answer), "{words} {address}: {found}");
            // It is this question's alone.
            let request = Request::to("u@up.test").with("server_address", "127.0.0.9");
            assert_eq!(gate.ask(&request), DEFER, "{words} {address}");
        }
        let mut gate = gate("").start();
        for (address, answer) in [("127.0.0.9", DEFER), ("127.0.0.8", &not_ours)].repeat(3) {
            let request = Request::to("u@up.test").with("server_address", address);
            assert_eq!(gate.ask(&request), answer);
        }
        let request = Request::to("u@up.test").without("server_address");
        assert!(gate.ask(&request).starts_with(not_known));
        drop(servers);
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
        let four = "action=DEFER_IF_PERMIT 4.3.2 Please use v4.test";
        let six = "action=DEFER_IF_PERMIT 4.3.2 Please use v6.test";
        let port_option = format!("--port={}", port.number);
        let rows = [
            ("", [four, six]),
            ("-4", [four, DUNNO]),
            ("-6 --stop 2001:db8::a:9", [DUNNO, six]),
            (&port_option, [four, DUNNO]),
        ];
        for (words, answers) in rows {
            let mut gate = gate(words).start();
            for (domain, answer) in ["four.test", "six.test"].into_iter().zip(answers) {
                let request = Request::to(&format!("u@{domain}"));
                assert_eq!(gate.ask(&request), answer, "{words} {domain}");
            }
        }
        assert_eq!(other.count(), 1);
    });
}

/// A warning never takes the place of an answer.
#[test]
fn a_cache_that_cannot_be_used() {
    namespace::run(|| {
        let _servers = Servers::new();
        for link in [Link::Spawn, Link::Socket] {
            let mut gate = gate("--cache=/no/folder/cache").link(link).start();
            assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER, "{link:?}");
            let other = gate.ask(&Request::to("u@other.test"));
            assert_eq!(other, no_stop("other.test"));
            // Here it is not lost on the postmaster.
            let down = gate.ask(&Request::to("u@down.test"));
            let warning =
                "action=WARN smtpdcheck: warning: cache '/no/folder/cache': no such directory";
            assert_eq!(down, warning);
        }
        // Nor does what `--verbose` reports take the place of a warning.
        let mut gate = gate("-v --cache=/no/folder/cache").start();
        let down = gate.ask(&Request::to("u@down.test"));
        assert!(
            down.starts_with("action=WARN smtpdcheck: warning: cache "),
            "{down}"
        );
    });
}
