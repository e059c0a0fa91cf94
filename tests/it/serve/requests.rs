//! Requests as bytes: in any pieces, with anything in them.

use super::{DEFER, DUNNO, Servers, gate, no_stop};
use crate::harness::gate::{End, Link, Request};
use crate::harness::namespace;
use crate::harness::run::{Check, each};

#[test]
fn a_request_comes_in_any_pieces() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("").link(Link::Packets).start();
        let length = Request::to("u@up.test").bytes().len();
        for at in 1..length {
            let bytes = Request::to("u@up.test").bytes();
            let (one, other) = bytes.split_at(at.min(bytes.len() - 1));
            gate.send(one);
            gate.send(other);
            assert_eq!(gate.only_answer(), DEFER, "{at}");
        }
        for size in [1, 2, 3, 7, 100] {
            for (recipient, answer) in [("u@up.test", DEFER), ("u@down.test", DUNNO)] {
                for piece in Request::to(recipient).bytes().chunks(size) {
                    gate.send(piece);
                }
                assert_eq!(gate.only_answer(), answer, "{size}");
            }
        }
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
    });
}

/// Each is answered, in their order, wherever they are cut.
#[test]
fn several_requests_come_at_once() {
    namespace::run(|| {
        let servers = Servers::new();
        let expected = [DEFER, DUNNO, &no_stop("other.test"), DUNNO, DEFER];
        let recipients = [
            "u@up.test",
            "u@down.test",
            "u@other.test",
            "postmaster",
            "u@up2.test",
        ];
        let all = || recipients.map(|to| Request::to(to).bytes()).concat();
        let mut gate = gate("").link(Link::Packets).start();
        gate.send(all());
        assert_eq!(recipients.map(|_| gate.answer()), expected);
        let length = all().len();
        let mut count = 0;
        for at in (1..length - 50).step_by(97) {
            let bytes = all();
            gate.send(&bytes[..at]);
            gate.send(&bytes[at..]);
            assert_eq!(recipients.map(|_| gate.answer()), expected, "{at}");
            count += 1;
        }
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
        // More of them than the gate reads at a time.
        let mut gate = super::gate("").start();
        let many: Vec<_> = (0..20).flat_map(|_| all()).collect();
        assert!(many.len() > 50_000);
        gate.send(&many);
        for _ in 0..20 {
            assert_eq!(recipients.map(|_| gate.answer()), expected);
        }
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
        // Each was a message of its own.
        assert_eq!(servers.up.count(), 2 * (1 + count + 20));
    });
}

/// Attributes that are not needed are skipped, whatever their length.
#[test]
fn a_megabyte() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("").start();
        let process = gate.process();
        assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
        let before = gate.memory();
        let long = "recipient=u@down.test ".repeat(50_000);
        let length = Request::to("").len();
        for place in 0..=length {
            for name in ["ccert_subject", "recipient_", "x"] {
                if place % 5 != 0 && name != "x" {
                    continue;
                }
                let request = Request::to("u@up.test").insert(place, name, &long);
                assert_eq!(gate.ask(&request), DEFER, "{name} {place}");
            }
        }
        // Without a name, with one that is as long, and with one that is empty.
        for place in [0, 5, length] {
            for line in [long.replace('=', ""), format!("{}=x", "x".repeat(1 << 20))] {
                let text = Request::to("u@up.test").text();
                let mut lines: Vec<_> = text.lines().collect();
                lines.insert(place, &line);
                gate.send(lines.join("\n") + "\n");
                assert_eq!(gate.only_answer(), DEFER, "{place}");
            }
            let request = Request::to("u@up.test").insert(place, "", &long);
            assert_eq!(gate.ask(&request), DEFER, "{place}");
        }
        // A needed one that is too long is not what it begins with: nor is
        // what comes after it forgotten.
        let sender = format!("{}@client.test", "x".repeat(1 << 20));
        let request = Request::to("u@up.test").with("sender", &sender);
        assert_eq!(gate.ask(&request), DEFER);
        let recipient = format!("u@up.test{}", "x".repeat(1 << 20));
        assert_eq!(gate.ask(&Request::to(&recipient)), DUNNO);
        let recipient = format!("{}@up.test", "x".repeat(1 << 20));
        let answer = gate.ask(&Request::to(&recipient));
        assert!([DEFER, DUNNO].contains(&&*answer), "{answer}");
        assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
        assert_eq!(gate.memory()[0], before[0], "{process}");
    });
}

/// The longest addresses that SMTP allows, and longer ones that Postfix takes.
#[test]
fn long_addresses() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("").start();
        for length in [64, 256, 1000, 2000] {
            let local = "l".repeat(length);
            let sender = format!("{local}@client.test");
            let request = Request::to(&format!("{local}@up.test")).with("sender", &sender);
            assert_eq!(gate.ask(&request), DEFER, "{length}");
            assert_eq!(gate.ask(&request.reversed()), DEFER, "{length}");
        }
        let domain = format!("{}.test", "d".repeat(2000));
        assert_eq!(gate.ask(&Request::to(&format!("u@{domain}"))), DUNNO);
        let instance = "i".repeat(2000);
        let request = Request::to("u@up.test").with("instance", &instance);
        assert_eq!(gate.ask(&request), DEFER);
    });
}

#[test]
fn attributes_in_any_order() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("").start();
        for (recipient, answer) in [("u@up.test", DEFER), ("u@down.test", DUNNO)] {
            let request = Request::to(recipient).reversed();
            assert_eq!(gate.ask(&request), answer);
        }
        let login = Request::to("u@up.test").with("sasl_username", "joe");
        assert_eq!(gate.ask(&login.reversed()), DUNNO);
    });
}

/// Bytes that are no text, and lines that are no attributes.
#[test]
fn other_bytes() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        let bytes: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
        let lines: [&[u8]; 12] = [
            b"\0",
            b"\0=\0",
            b"=",
            b"==",
            b"=recipient",
            b"recipient",
            b" recipient=u@down.test",
            b"recipient =u@down.test",
            b"RECIPIENT=u@down.test",
            b"recipient\0=u@down.test",
            b"\xff\xfe=\x1b[2J",
            &bytes,
        ];
        for line in lines {
            let request = Request::to("u@up.test").bytes();
            // Before the attributes, and after them.
            let behind = &request[..request.len() - 1];
            for bytes in [
                [line, b"\n", &request].concat(),
                [behind, line, b"\n\n"].concat(),
            ] {
                gate.send(&bytes);
                assert_eq!(gate.only_answer(), DEFER, "{}", line.escape_ascii());
            }
        }
        // In values that are needed.
        let values: [&[u8]; 4] = [b"\0", b"\xff", b"\x1b[2J", b"\r"];
        for value in values {
            let insert = |name: &str, with: &[u8], to: &str| {
                let request = Request::to(to).without(name).bytes();
                [name.as_bytes(), b"=", with, b"\n", &request].concat()
            };
            for name in ["sender", "client_address", "instance"] {
                gate.send(insert(name, value, "u@up.test"));
                assert_eq!(gate.only_answer(), DEFER, "{name}");
            }
            for (name, with) in [
                ("recipient", [b"u@up.test", value].concat()),
                ("recipient", [b"u@", value, b"up.test"].concat()),
                ("request", [b"smtpd_access_policy", value].concat()),
                ("protocol_state", [b"RCPT", value].concat()),
                ("sasl_username", value.to_vec()),
            ] {
                gate.send(insert(name, &with, ""));
                assert_eq!(gate.only_answer(), DUNNO, "{name}");
            }
            let local = [value, b"@up.test"].concat();
            gate.send(insert("recipient", &local, ""));
            assert_eq!(gate.only_answer(), DEFER);
        }
        assert!(servers.up.count() > 24);
    });
}

/// A line ends with LF alone: an empty line that ends with CR LF is none, so
/// that nothing is answered before the end of the next request.
#[test]
fn lines_do_not_end_with_cr_lf() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = gate("").link(Link::Packets).start();
        let text = Request::to("u@down.test").text().replace('\n', "\r\n");
        gate.send(text);
        gate.send(Request::to("u@up.test").bytes());
        assert_eq!(gate.only_answer(), DEFER);
    });
}

/// An empty request is one.
#[test]
fn empty_lines() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut gate = gate("").start();
        gate.send("\n");
        assert_eq!(gate.only_answer(), DUNNO);
        gate.send("\n\n\n");
        assert_eq!([(); 3].map(|()| gate.answer()), [DUNNO; 3]);
        assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
        // Nothing of a request belongs to the next one.
        gate.send("\n");
        assert_eq!(gate.only_answer(), DUNNO);
        assert_eq!(servers.up.count(), 1);
    });
}

/// What is not a whole request is not answered. The gate has done its work.
#[test]
fn the_end_comes_in_the_middle_of_a_request() {
    namespace::run(|| {
        let servers = Servers::new();
        let bytes = Request::to("u@up.test").bytes();
        let cuts: Vec<_> = (0..bytes.len())
            .step_by(29)
            .chain([bytes.len() - 1])
            .collect();
        each(&cuts, |&cut| {
            for link in [Link::Spawn, Link::Socket, Link::Two] {
                let mut gate = gate("").link(link).start();
                gate.send(&bytes[..cut]);
                gate.finish_sending();
                assert_eq!(gate.end(), End::quiet(), "{cut} {link:?}");
            }
        });
        let mut gate = gate("").start();
        assert_eq!(gate.ask(&Request::to("u@down.test")), DUNNO);
        gate.send(&bytes[..100]);
        gate.finish_sending();
        assert_eq!(gate.end(), End::quiet());
        assert_eq!(servers.up.count(), 0);
    });
}

/// Whoever sends nothing more still waits for the answer.
#[test]
fn the_end_comes_right_after_a_request() {
    namespace::run(|| {
        let _servers = Servers::new();
        for link in [Link::Spawn, Link::Socket, Link::Two] {
            let mut gate = gate("").link(link).start();
            for recipient in ["u@up.test", "u@down.test", "u@up.test"] {
                gate.send(Request::to(recipient).bytes());
            }
            gate.finish_sending();
            let end = gate.end();
            let rest = format!("{DEFER}\n\n{DUNNO}\n\n{DEFER}\n\n");
            assert_eq!(
                end,
                End {
                    rest,
                    ..End::quiet()
                },
                "{link:?}"
            );
        }
    });
}

/// As a postmaster tries it.
#[test]
fn a_line_of_a_shell() {
    namespace::run(|| {
        let _servers = Servers::new();
        let attributes = r"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=";
        for (recipient, answer) in [("u@up.test", DEFER), ("u@down.test", DUNNO)] {
            let script = format!(r#"printf '{attributes}{recipient}\n\n' | "$0" "$@""#);
            let words = "--serve postfix --stop 127.0.0.9";
            for script in [script.clone(), format!("{script} 2>&1")] {
                let run = Check::words(words).shell(&script).run();
                let expected = format!("{answer}\n\n");
                let triple = (run.status, &*run.stdout, &*run.stderr);
                assert_eq!(triple, (Some(0), &*expected, ""), "{run}");
                run.at_once();
            }
        }
    });
}
