//! `--mx`: the list from DNS.

mod answers;
mod stops;
mod time;

use std::fs;

use crate::harness::run::{Check, Run, each, ms};
use crate::harness::smtp::{DOWN, Port, Server, UP, up_after};
use crate::harness::{dns, namespace};

/// Mail servers, by name: `a`, `b` and `c` are up, connections to `down` are
/// refused, and `me` is this machine.
const HOSTS: &str = "
a.test A 127.0.0.2
a.test AAAA nodata
b.test A 127.0.0.3
b.test AAAA nodata
c.test A nodata
c.test AAAA ::1
down.test A 127.0.0.4
down.test AAAA nodata
silent.test A 127.0.0.5
silent.test AAAA nodata
me.test A 127.0.0.9
me.test AAAA 2001:db8::a:9
";

/// The servers of [`HOSTS`] that are up.
fn servers() -> [Server; 3] {
    ["127.0.0.2", "127.0.0.3", "::1"].map(|address| Port::smtp().serve(address, UP))
}

fn counts(servers: [Server; 3]) -> [usize; 3] {
    servers.map(Server::count)
}

/// A name server with a zone and [`HOSTS`].
fn serve(zone: &str) -> dns::NameServer {
    dns::serve(&format!("{HOSTS}{zone}"))
}

/// The message where DNS does not say what the list is.
fn cannot_look_up(domain: &str, why: &str) -> String {
    format!("cannot look up the mail servers of '{domain}': {why}")
}

/// Runs checks with a timeout that tells an answer from a deadline.
fn check(words: &str) -> Check {
    Check::words(words).first("--timeout=20")
}

#[test]
fn the_list_is_what_dns_says() {
    namespace::run(|| {
        let _names = serve(
            r"one.test MX 10:a.test
              unsorted.test MX 30:a.test 10:down.test 20:b.test
              sorted.test MX 10:down.test 20:b.test 30:a.test
              numbers.test MX 100:a.test 20:b.test 3:down.test
              least.test MX 65535:a.test 0:b.test
              equal.test MX 10:down.test 10:b.test 10:a.test
              equals.test MX 20:b.test 10:down.test 20:a.test 10:down.test
              case.test MX 10:A.Test
              none.test A 127.0.0.2
              none.test AAAA nodata
              none.test MX nodata
              nowhere.test AAAA nodata
              down.test MX nodata
              null.test MX 0:.
              null.test A 127.0.0.2
              nulls.test MX 10:.
              both.test MX 0:. 10:a.test
              behind.test MX 10:a.test 20:.
              alias.test MX =real.test 10:a.test
              chain.test MX =b.chain.test =c.chain.test 20:a.test 10:b.test
              vain.test MX =real.test
              vain.test A 127.0.0.3
              vain.test AAAA nodata
              blank.test MX 10:a\032b 20:a.test
              odd.test MX 10:a\000 20:\010 30:*.test 40:\255 50:a..test;x 60:b.test
              dot.test MX 10:a\046test 20:b.test
              escape.test MX 10:a\092\046test 20:b.test
              ipv4.test MX 10:127.0.0.2
              old.test MX 10:127.2 20:b.test
              bare.test MX 10:\058\0581 20:b.test
              priority.test MX 10:2001\058db8\058\0581 20:b.test
              brackets.test MX 10:[\058\0581]
              gone.mx.test MX 10:gone.test 20:a.test",
        );
        let _servers = servers();
        let rows = [
            ("one.test", "a.test"),
            ("unsorted.test", "b.test"),
            ("sorted.test", "b.test"),
            ("numbers.test", "b.test"),
            ("least.test", "b.test"),
            // Servers of equal preference, in the order of the answer.
            ("equal.test", "b.test"),
            ("equals.test", "b.test"),
            // As DNS spells it.
            ("case.test", "A.Test"),
            // No MX record: the domain itself, as it was given.
            ("none.test", "none.test"),
            ("None.Test.", "None.Test."),
            ("nowhere.test", ""),
            ("down.test", ""),
            // The null MX; beside others it is a server that is down.
            ("null.test", ""),
            ("nulls.test", ""),
            ("both.test", "a.test"),
            ("behind.test", "a.test"),
            ("gone.test", ""),
            ("alias.test", "a.test"),
            ("chain.test", "b.test"),
            ("vain.test", "vain.test"),
            // Names that name no host.
            ("blank.test", "a.test"),
            ("odd.test", "b.test"),
            ("dot.test", "b.test"),
            ("escape.test", "b.test"),
            // An address as text is one, as in an argument.
            ("ipv4.test", "127.0.0.2"),
            ("old.test", "b.test"),
            ("bare.test", "b.test"),
            ("priority.test", "b.test"),
            ("brackets.test", "[::1]"),
            ("gone.mx.test", "a.test"),
            // DOMAIN in another case, and with a final dot.
            ("UNSORTED.test", "b.test"),
            ("unsorted.test.", "b.test"),
        ];
        each(&rows, |(domain, answer)| {
            check(&format!("--mx {domain}"))
                .run()
                .prints(answer)
                .at_once();
        });
    });
}

/// Only DNS is asked for the list: neither the hosts file nor a search list.
#[test]
fn the_domain_is_a_name_in_dns() {
    namespace::run(|| {
        namespace::hosts("127.0.0.2 hosts.test short\n");
        let names = serve("short.search.test MX 10:a.test");
        let _servers = servers();
        let text = "nameserver 127.0.0.1\nsearch search.test\n";
        fs::write("/etc/resolv.conf", text).unwrap();
        check("--mx hosts.test").run().prints("").at_once();
        check("--mx short").run().prints("").at_once();
        assert_eq!(names.asked("short.search.test MX"), 0);
    });
}

#[test]
fn the_names_in_the_list_may_come_from_the_hosts_file() {
    namespace::run(|| {
        namespace::hosts("127.0.0.3 b.hosts\n");
        let _names = serve("hosts.test MX 10:b.hosts 20:a.test");
        let _servers = servers();
        check("--mx hosts.test").run().prints("b.hosts").at_once();
    });
}

/// The answer is longer than a datagram.
#[test]
fn a_hundred_mail_servers() {
    namespace::run(|| {
        let down = (0..99).map(|n| format!("{}:{n}.down.test ", 200 - n));
        let list: String = down.chain(["250:b.test".into()]).collect();
        let names = serve(&format!("hundred.test MX {list}"));
        let servers = servers();
        let run = check("--mx hundred.test").run();
        answers_if_by_tcp(&names, &run, "hundred.test", "b.test");
        assert_eq!(names.asked("99.down.test A"), 0);
        let asked = usize::from(names.asked("98.down.test A") > 0);
        assert_eq!(counts(servers), [0, asked, 0], "{run}");
    });
}

/// musl before 1.2.4 does not ask again over TCP: then the list is not known.
#[track_caller]
fn answers_if_by_tcp(names: &dns::NameServer, run: &Run, domain: &str, answer: &str) {
    match names.asked(&format!("{domain} MX TCP")) {
        0 => run.fails_with(&cannot_look_up(domain, "truncated answer")),
        _ => run.prints(answer),
    };
    run.at_once();
}

/// The first line of `--verbose`, without the time at its end.
#[test]
fn verbose_begins_with_what_dns_said() {
    namespace::run(|| {
        let _names = serve(
            r"list.test MX 30:a.test 10:down.test 10:b.test
              none.test A 127.0.0.2
              null.test MX 0:.
              odd.test MX 10:a\010\255 20:\046 30:.
              alias.test MX =real.test 5:a.test
              stops.test MX 20:me.test 10:a.test
              silent.mx.test MX silent",
        );
        let _servers = servers();
        let rows = [
            (
                "list.test",
                "10:down.test, 10:b.test, 30:a.test",
                "b.test",
                "",
            ),
            ("none.test", "no MX record: 0:none.test", "none.test", ""),
            ("null.test", "accepts no mail (null MX)", "", ""),
            ("gone.test", "no such domain", "", ""),
            ("odd.test", r"10:a\x0a\xff, 20:\., 30:.", "", ""),
            ("alias.test", "5:a.test", "a.test", ""),
            (
                "--stop me.test stops.test",
                "10:a.test, 20:me.test",
                "a.test",
                "",
            ),
            (
                "--stop 127.0.0.99 stops.test",
                "10:a.test, 20:me.test",
                "2",
                "stops.test: none of its mail servers is a --stop host",
            ),
        ];
        each(&rows, |(words, said, answer, reason)| {
            let (options, domain) = words.rsplit_once(' ').unwrap_or(("", words));
            let run = check(&format!("-v {options} --mx {domain}")).run();
            let first = run.stderr.lines().next().unwrap();
            let (text, time) = first.rsplit_once(" (").unwrap();
            assert_eq!(text, format!("{domain}  mx    {said}"), "{run}");
            assert!(time.ends_with("ms)") || time.ends_with("s)"), "{run}");
            if *answer == "2" {
                let last = run.stderr.lines().last();
                assert_eq!(last, Some(&*format!("smtpdcheck: {reason}")), "{run}");
                assert_eq!((run.status, &*run.stdout), (Some(2), ""), "{run}");
            } else {
                run.answers(answer);
            }
        });
        // Why it is not known, then the reason for the status.
        let words = "-v --timeout=1 --mx silent.mx.test";
        let run = Check::words(words).run();
        let reason = cannot_look_up("silent.mx.test", "no answer in time");
        let expected =
            format!("silent.mx.test  mx    no answer in time (1 s)\nsmtpdcheck: {reason}\n");
        assert_eq!(run.stderr, expected, "{run}");
        assert_eq!((run.status, &*run.stdout), (Some(2), ""), "{run}");
    });
}

/// A server of the other family is down, and never looked up.
#[test]
fn families() {
    namespace::run(|| {
        let names = serve("list.test MX 10:c.test 20:b.test\nsix.test AAAA ::1");
        let first_servers = servers();
        check("-4 --mx list.test").run().prints("b.test").at_once();
        check("-4 --mx six.test").run().prints("").at_once();
        assert_eq!(counts(first_servers), [0, 1, 0]);
        let asked = names.questions();
        assert!(!asked.iter().any(|q| q.ends_with(" AAAA")), "{asked:?}");
        let before = names.asked("b.test A");

        let servers = servers();
        check("-6 --mx list.test").run().prints("c.test").at_once();
        check("-6 --mx six.test").run().prints("six.test").at_once();
        assert_eq!(counts(servers), [0, 0, 2]);
        assert_eq!(names.asked("b.test A"), before);
    });
}

/// All are asked at the same time.
#[test]
fn without_stop_all_servers_count() {
    namespace::run(|| {
        let _names = serve("all.test MX 10:a.test 10:b.test 20:me.test 30:c.test");
        let me = Port::smtp().serve("127.0.0.9", &up_after(ms(500)));
        let _quick = ["127.0.0.2", "127.0.0.3"].map(|address| Port::smtp().serve(address, DOWN));
        let _late = Port::smtp().serve("::1", &up_after(ms(1500)));
        check("--mx all.test")
            .run()
            .prints("me.test")
            .after(ms(500));
        assert_eq!(me.count(), 1);
    });
}
