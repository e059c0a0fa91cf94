//! Lines of smtpd: in any pieces, with anything in them.

use super::{PROCEED, REJECT, filter, started};
use crate::harness::filter::{CONFIG, Filter, Question, REGISTRATION};
use crate::harness::gate::{End, Link};
use crate::harness::namespace;
use crate::harness::run::each;
use crate::serve::Servers;

#[test]
fn a_filter_registers_when_smtpd_is_ready() {
    let (before, ready) = CONFIG.split_at(CONFIG.find("config|ready").unwrap());
    let pieces: &[&[&str]] = &[
        &[ready],
        &[before, ready],
        &[before, "config|rea", "dy", "\n"],
        &["config|smtpd-version|6.8.0p2\n", ready],
        &["\n", "nonsense\n", ready],
        &["config|ready|\nconfig|\nconfig\n", ready],
    ];
    each(pieces, |pieces| {
        let mut filter = filter("").link(Link::Packets).start();
        for piece in *pieces {
            filter.send(piece);
        }
        let registered = [filter.take(b"\n"), filter.take(b"\n")].concat();
        assert_eq!(registered, REGISTRATION, "{pieces:?}");
        filter.finish_sending();
        assert_eq!(filter.end(), End::quiet(), "{pieces:?}");
    });
    // With other links.
    for link in [Link::Socket, Link::Two] {
        let mut filter = Filter::linked(filter("").link(link));
        filter.finish_sending();
        assert_eq!(filter.end(), End::quiet(), "{link:?}");
    }
}

/// It says nothing before that.
#[test]
fn a_filter_does_not_register_before() {
    let lines = [
        "",
        "config|ready",
        "\n",
        "config|smtpd-version|7.6.0\nconfig|subsystem|smtp-in\n",
        " config|ready\n",
        "config|ready \n",
        "config|ready\r\n",
        "config|ready\0\n",
        "config|READY\n",
        "Config|ready\n",
        "config|ready|now\n",
        "config|readyx\n",
        "xconfig|ready\n",
        "config||ready\n",
        "config|smtpd|ready\n",
        "config|read\ny\n",
        "config\n|ready\n",
        "register|ready\n",
        "report|0.7|1795536152.7|smtp-in|link-disconnect|s\n",
    ];
    each(&lines, |line| {
        let mut filter = filter("").link(Link::Socket).start();
        filter.send(line);
        filter.finish_sending();
        assert_eq!(filter.end(), End::quiet(), "{line:?}");
    });
}

#[test]
fn a_question_comes_in_any_pieces() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut filter = Filter::linked(filter("").link(Link::Packets));
        let length = Question::to("u@up.test").line().len();
        for at in 1..length {
            let question = Question::to("u@up.test");
            let line = question.line();
            let (one, other) = line.split_at(at);
            filter.send(one);
            filter.send(other);
            assert_eq!(filter.only_answer_to(&question), REJECT, "{at}");
        }
        for size in [1, 2, 3, 7, 50] {
            for (address, answer) in [("u@up.test", REJECT), ("u@down.test", PROCEED)] {
                let question = Question::to(address);
                for piece in question.line().as_bytes().chunks(size) {
                    filter.send(piece);
                }
                assert_eq!(filter.only_answer_to(&question), answer, "{size}");
            }
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// Several questions at once, wherever they are cut.
#[test]
fn several_questions_come_at_once() {
    namespace::run(|| {
        let _servers = Servers::new();
        let addresses = ["u@up.test", "postmaster", "u@down.test", "u@up2.test"];
        let expected = [REJECT, PROCEED, PROCEED, REJECT];
        let mut filter = Filter::linked(filter("").link(Link::Packets));
        let length: usize = addresses.map(|a| Question::to(a).line().len()).iter().sum();
        for at in (1..length).step_by(11) {
            let questions = addresses.map(Question::to);
            let lines = questions.each_ref().map(Question::line).concat();
            filter.send(&lines[..at]);
            filter.send(&lines[at..]);
            assert_eq!(filter.answers(&questions), expected, "{at}");
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// What is no question about a recipient has no answer, and does not end the
/// filter.
#[test]
fn other_lines_are_ignored() {
    namespace::run(|| {
        let servers = Servers::new();
        let head = "filter|0.7|1795536152.728105|smtp-in";
        let other_phases = [
            "connect|s|t|client.test|pass|198.51.100.7:40000|127.0.0.9:25",
            "helo|s|t|up.test",
            "ehlo|s|t|up.test",
            "starttls|s|t|tls",
            "auth|s|t|user",
            "mail-from|s|t|u@up.test",
            "rcpt-t|s|t|u@up.test",
            "rcpt-too|s|t|u@up.test",
            "RCPT-TO|s|t|u@up.test",
            "rcpt-to |s|t|u@up.test",
            "|s|t|u@up.test",
            "data|s|t",
            "data-line|s|t|rcpt-to|s|t|u@up.test",
            "data-line|s|t|.",
            "rset|s|t",
            "quit|s|t",
            "noop|s|t",
            "commit|s|t",
            // Incomplete.
            "rcpt-to",
            "rcpt-to|",
            "rcpt-to|s",
        ];
        let mut lines: Vec<_> = other_phases.map(|rest| format!("{head}|{rest}")).into();
        let question = Question::to("u@up.test").line();
        let question = question.trim_end();
        lines.extend(
            [
                "",
                "|",
                "||||||||",
                "filter",
                "filter|",
                "filter|0.7",
                "config|smtp-session-timeout|300",
                "report|0.7|1795536152.7|smtp-in|link-connect|s|client.test|pass|x|y",
                "report|0.7|1795536152.7|smtp-in|tx-rcpt|s|m|ok|u@up.test",
                "report|0.7|1795536152.7|smtp-in|rcpt-to|s|t|u@up.test",
                "report|0.7|1795536152.7|smtp-in|filter-response|s|rcpt-to|proceed",
                "report|0.7|1795536152.7|smtp-out|protocol-client|s|RCPT TO:<u@up.test>",
                "report||",
                "filter-result|s|t|proceed",
                "filter-dataline|s|t|.",
                "register|filter|smtp-in|rcpt-to",
                "warden|0.7",
                "\t",
                "\r",
                "\0",
                "\u{ff}\u{fe}",
            ]
            .map(String::from),
        );
        for (from, to) in [
            ("filter|", " filter|"),
            ("filter|", "FILTER|"),
            ("filter|", "filters|"),
            ("filter|", "filter"),
            ("filter|", "\0filter|"),
            ("|smtp-in|", "|smtp-out|"),
            ("|smtp-in|", "|SMTP-IN|"),
            ("|smtp-in|", "||"),
            ("|smtp-in|", "|"),
            ("|smtp-in|", "|smtp-in||"),
            ("|1795536152.728105|", "|"),
            ("|0.7|", "|"),
        ] {
            lines.push(question.replacen(from, to, 1));
        }
        let mut filter = started();
        for line in &lines {
            filter.send(format!("{line}\n"));
            filter.says_nothing(line);
        }
        // All of them at once.
        filter.send(lines.join("\n") + "\n");
        filter.says_nothing("all lines");
        assert_eq!(servers.names.questions(), [""; 0]);
        assert_eq!(filter.ask("u@up.test"), REJECT);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// The protocol of every version since 6.6, and of those that come.
#[test]
fn every_version_is_understood() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut filter = started();
        for version in ["0.5", "0.6", "0.7", "0.8", "0.10", "1.0", "2", "next"] {
            for time in ["1795536152.728105", "1795536152", "0.000001", "soon"] {
                for (address, answer) in [("u@up.test", REJECT), ("u@down.test", PROCEED)] {
                    let mut question = Question::to(address);
                    question.version = version.into();
                    question.time = time.into();
                    assert_eq!(filter.ask_this(&question), answer, "{version} {time}");
                }
            }
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// They are given back as they came.
#[test]
fn sessions_and_tokens_of_any_kind() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut filter = started();
        let pairs = [
            ("0", "0"),
            ("s", "t"),
            ("7641df9771b4ed00", "1ef1c203cc576e5d"),
            ("FFFFFFFFFFFFFFFF", "ffffffffffffffff"),
            ("a b", " c "),
            ("s\0", "\u{1}t"),
            ("\u{e4}", "\r"),
            ("filter", "rcpt-to"),
            // As much as is kept: 64 bytes, with what is between them.
            (
                "0123456789abcdef0123456789abcdef",
                "0123456789abcdef0123456789abcde",
            ),
        ];
        for (session, token) in pairs {
            let mut question = Question::to("u@up.test");
            (question.session, question.token) = (session.into(), token.into());
            assert_eq!(filter.ask_this(&question), REJECT, "{session:?} {token:?}");
        }
        assert_eq!(servers.names.asked("up.test MX"), pairs.len());
        // What is longer is answered at once.
        for (session, token) in [(32, 32), (33, 31), (63, 1), (1, 63), (64, 64), (300, 300)] {
            let mut question = Question::to("u@up.test");
            (question.session, question.token) = ("s".repeat(session), "t".repeat(token));
            assert_eq!(filter.ask_this(&question), PROCEED, "{session} {token}");
        }
        // What no answer could repeat has none: smtpd could not read half a line.
        for (session, token) in [(1000, 1), (1, 1000), (600, 600), (4000, 4000)] {
            let mut question = Question::to("u@up.test");
            (question.session, question.token) = ("s".repeat(session), "t".repeat(token));
            filter.send(question.line());
            filter.says_nothing("a session and token that are too long");
        }
        assert_eq!(servers.names.asked("up.test MX"), pairs.len());
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// The address is all that is left of the line.
#[test]
fn the_domain_of_an_address() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut filter = started();
        let addresses = [
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
            "b!u@up.test",
            "u=v@up.test",
            "a|b@up.test",
            "|@up.test",
            "u@down.test|@up.test",
            "|||u@x|y@up.test",
            "a\0b@up.test",
            "\u{e4}\r@up.test",
            "filter|0.7|1|smtp-in|rcpt-to|s|t|u@up.test",
        ];
        for address in addresses {
            assert_eq!(filter.ask(address), REJECT, "{address:?}");
        }
        assert_eq!(servers.names.asked("up.test MX"), addresses.len());
        assert_eq!(filter.ask("u@up.test@down.test"), PROCEED);
        let local = "l".repeat(64);
        assert_eq!(filter.ask(&format!("{local}@up.test")), REJECT);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// Nobody is asked, and no reason is needed.
#[test]
fn nothing_to_ask() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut addresses: Vec<_> = [
            "",
            "postmaster",
            "up.test",
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
            "u@up.test|",
            "u@up.test|x",
            "u@up|test",
            "u@up.test\r",
            "u@up.test\0",
            "u@\0up.test",
            "u@\u{e4}.test",
            "u@<up.test>",
            "<u@up.test>",
            "u@10:up.test",
            "u@-v@",
            "|",
            "|||",
        ]
        .map(String::from)
        .into();
        addresses.push(format!("u@{}.test", "a".repeat(64)));
        addresses.push(format!("u@{}test", "a.".repeat(125)));
        for words in ["", "-v"] {
            let mut filter = Filter::start(filter(words));
            for address in &addresses {
                assert_eq!(filter.ask(address), PROCEED, "{address:?}");
            }
            let questions: Vec<_> = addresses.iter().map(|a| Question::to(a)).collect();
            assert_eq!(filter.ask_all(&questions), vec![PROCEED; addresses.len()]);
            filter.hang_up();
            assert_eq!(filter.end(), End::quiet());
        }
        assert_eq!(servers.names.questions(), [""; 0]);
        assert_eq!(servers.up.count(), 0);
    });
}

/// A line of any length is read to its end, and nothing of it is kept.
#[test]
fn a_megabyte() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut filter = started();
        assert_eq!(filter.ask("u@up.test"), REJECT);
        let before = filter.memory();
        let long = "u@down.test|".repeat(90_000);
        for line in [
            long.clone(),
            "filter".repeat(200_000),
            "|".repeat(1 << 20),
            "\0".repeat(1 << 20),
            "filter|0.7|1|smtp-in|".repeat(50_000),
            format!("report|0.7|1|smtp-in|tx-rcpt|{long}"),
            format!("filter|0.7|1|smtp-in|data-line|s|t|{long}"),
            format!("filter|0.7|1|smtp-in|{long}|s|t|u@up.test"),
            format!("config|{long}"),
        ] {
            filter.send(line + "\n");
            filter.says_nothing("a long line");
            assert_eq!(filter.ask("u@up.test"), REJECT);
        }
        let asked = servers.names.questions().len();
        // A question that is too long is answered all the same.
        for address in [
            format!("u@{long}"),
            format!("{long}@up.test"),
            format!("u@up.test{}", " ".repeat(1 << 20)),
            format!("u@up.test{}", "\0".repeat(1 << 20)),
        ] {
            assert_eq!(filter.ask(&address), PROCEED, "{}", &address[..20]);
        }
        assert_eq!(servers.names.questions().len(), asked);
        assert_eq!(filter.ask("u@up.test"), REJECT);
        assert_eq!(filter.memory()[0], before[0]);
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// The longest addresses that SMTP allows, and as long as OpenSMTPD takes them.
#[test]
fn long_addresses() {
    namespace::run(|| {
        let servers = Servers::new();
        let mut filter = started();
        for length in [64, 255, 512] {
            let local = "l".repeat(length);
            let answer = filter.ask(&format!("{local}@up.test"));
            assert_eq!(answer, REJECT, "{length}");
        }
        let domain = format!("{}test", "a.".repeat(124));
        assert_eq!(filter.ask(&format!("u@{domain}")), PROCEED);
        assert_eq!(servers.names.asked(&format!("{domain} MX")), 1);
        // One byte after the other, lines end where they end: what is too long
        // for one reading, and what is not kept.
        for length in (900..1200).chain(3900..4300) {
            let question = Question::to(&format!("{}@[192.0.2.1]", "l".repeat(length)));
            assert_eq!(filter.ask_this(&question), PROCEED, "{length}");
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// What is no complete line is no question. The filter has done its work.
#[test]
fn the_end_comes_in_the_middle_of_a_line() {
    namespace::run(|| {
        let servers = Servers::new();
        let line = Question::to("u@up.test").line();
        let cuts: Vec<_> = (0..line.len()).step_by(9).chain([line.len() - 1]).collect();
        each(&cuts, |&cut| {
            for link in [Link::Socket, Link::Two] {
                let mut filter = Filter::linked(filter("").link(link));
                filter.send(&line[..cut]);
                filter.finish_sending();
                assert_eq!(filter.end(), End::quiet(), "{cut} {link:?}");
            }
        });
        let mut filter = started();
        assert_eq!(filter.ask("u@down.test"), PROCEED);
        filter.send(&line[..line.len() - 1]);
        filter.finish_sending();
        assert_eq!(filter.end(), End::quiet());
        assert_eq!(servers.up.count(), 0);
    });
}
