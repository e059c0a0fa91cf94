//! The lines of `--verbose`: one a server, on standard error, in columns.

use std::io::Write;
use std::time::Duration;
use std::{env, fs, process, thread};

use crate::harness::run::{Check, Run, each, has, ms, wait_until};
use crate::harness::smtp::{
    Close, DOWN, Port, Reset, SILENT, Send, Step, Tcp, UP, Wait, accept, down_after, up_after,
};
use crate::harness::{dns, namespace};

/// The lines, with T for every time that was measured. Given ones stay.
fn lines(run: &Run) -> Vec<String> {
    run.stderr
        .lines()
        .map(|line| without_times(run, line))
        .collect()
}

fn without_times(run: &Run, line: &str) -> String {
    let mut parts = line.split("after ");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        text.push_str("after ");
        match part.split_once(')') {
            Some((time, rest)) if is_time(time) => {
                text.push_str("T)");
                text.push_str(rest);
            }
            _ if part.starts_with("the stop host") => text.push_str(part),
            _ => panic!("{run}no time: {part}"),
        }
    }
    text
}

/// The times that the lines say, `14 ms` or `2.5 s`.
fn times(run: &Run) -> Vec<Duration> {
    let parts = run.stderr.split("after ").skip(1);
    let time = |part: &str| {
        let (number, unit) = part.split_once(')').unwrap().0.split_once(' ').unwrap();
        let number: f64 = number.parse().unwrap();
        Duration::from_secs_f64(if unit == "s" { number } else { number / 1000.0 })
    };
    parts.map(time).collect()
}

/// `under 1 ms`, `14 ms`, `2.5 s` or `10 s`.
fn is_time(text: &str) -> bool {
    let number = text.strip_suffix(" ms").or(text.strip_suffix(" s"));
    text == "under 1 ms" || number.is_some_and(|n| n.parse::<f64>().is_ok())
}

#[track_caller]
fn says(run: &Run, expected: &[&str]) {
    assert_eq!(lines(run), expected, "{run}");
}

/// A server at 127.0.0.2 and how it fared.
#[test]
fn every_cause_has_its_words() {
    let rows = [
        (UP, "up    127.0.0.2: greeting 220 mx.test ESMTP (after T)"),
        (
            DOWN,
            "down  127.0.0.2: greeting 554 mx.test takes no mail (after T)",
        ),
        (
            &[Send(b"554-mx.test\r\n554 no\r\n")],
            "down  127.0.0.2: greeting 554-mx.test (after T)",
        ),
        (
            &[Send(b"421 busy\r\n"), Close],
            "down  127.0.0.2: greeting 421 busy (after T)",
        ),
        (
            &[Send(b"554 \x1b[2J\x07\xe9\r\n")],
            r"down  127.0.0.2: greeting 554 \x1b[2J\x07\xe9 (after T)",
        ),
        (
            &[Send(b"220 \x1b]0;x\x07\r\n")],
            r"up    127.0.0.2: greeting 220 \x1b]0;x\x07 (after T)",
        ),
        (
            &[Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close],
            r#"down  127.0.0.2: not SMTP: "HTTP/1.1 400 Bad Request" (after T)"#,
        ),
        (
            &[Send(b"\x15\x03\x01\x00\x02\x02\x0a"), Close],
            r#"down  127.0.0.2: not SMTP: "\x15\x03\x01\x00\x02\x02" (after T)"#,
        ),
        (
            &[Close],
            "down  127.0.0.2: closed before greeting (after T)",
        ),
        (&[Wait(ms(100)), Reset], "down  127.0.0.2: reset (after T)"),
        (
            SILENT,
            "down  127.0.0.2: no greeting within 1.5 s (connected after T)",
        ),
    ];
    each(&rows, |(script, line)| {
        let port = Port::new();
        let _server = port.serve("127.0.0.2", script);
        for option in ["-v", "--verbose"] {
            let run = port
                .check(&format!("{option} --timeout=1.5 127.0.0.2"))
                .run();
            run.answers(if line.starts_with("up") {
                "127.0.0.2"
            } else {
                ""
            });
            says(&run, &[&format!("127.0.0.2  {line}")]);
        }
    });
}

#[test]
fn a_refused_and_an_unanswered_connection() {
    let port = Port::new();
    let _full = port.full("127.0.0.4");
    let run = port.check("-v --timeout=2 127.0.0.3 127.0.0.4").run();
    run.answers("");
    says(
        &run,
        &[
            "127.0.0.3  down  127.0.0.3: refused (after T)",
            "127.0.0.4  down  127.0.0.4: no connection within 2 s",
        ],
    );
}

/// A line says how long it took.
#[test]
fn the_times_are_those_that_were_measured() {
    namespace::run(|| {
        let _names = dns::serve("gone.test A after 700 nxdomain\ngone.test AAAA nxdomain");
        let rows: [(&[Step], &str, &str); 6] = [
            (&up_after(ms(700)), "127.0.0.2", "127.0.0.2"),
            (&down_after(ms(700)), "127.0.0.2", ""),
            (&[Wait(ms(700)), Send(b"HTTP/1.1 400\r\n")], "127.0.0.2", ""),
            (&[Wait(ms(700)), Close], "127.0.0.2", ""),
            (&[Wait(ms(700)), Reset], "127.0.0.2", ""),
            (UP, "gone.test", ""),
        ];
        each(&rows, |(script, server, answer)| {
            let port = Port::new();
            let _server = port.serve("127.0.0.2", script);
            let run = port.check(&format!("-v {server}")).run();
            run.answers(answer);
            let [time] = times(&run)[..] else {
                panic!("{run}");
            };
            assert!((ms(700)..=run.elapsed()).contains(&time), "{run}");
        });
    });
}

/// And when it was connected, which here took until the server had room.
#[test]
fn the_time_of_a_connection_is_measured() {
    let port = Port::new();
    let (server, waiting) = port.full("127.0.0.2");
    let check = port.check("-v --timeout=4 127.0.0.2");
    let run = check.run_while(|_| {
        Tcp::SynSent.wait(&server);
        thread::sleep(ms(500));
        waiting.iter().for_each(|_| drop(accept(&server)));
    });
    run.answers("").after(ms(4000));
    says(
        &run,
        &["127.0.0.2  down  127.0.0.2: no greeting within 4 s (connected after T)"],
    );
    assert!((ms(500)..ms(4000)).contains(&times(&run)[0]), "{run}");
}

/// The system gives up before the program does.
#[test]
fn a_connection_that_the_system_gives_up() {
    namespace::run(|| {
        fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
        let run = Check::words("-v --timeout=20 192.0.2.1").run();
        run.answers("").after(ms(1000));
        says(
            &run,
            &["192.0.2.1  down  192.0.2.1: connection timed out (after T)"],
        );
    });
}

/// While another server is waited for.
#[test]
fn a_line_does_not_wait_for_the_end() {
    let port = Port::new();
    let slow = port.listen("127.0.0.2", 16);
    let _down = port.serve("127.0.0.3", DOWN);
    let said = env::temp_dir().join(format!("smtpdcheck-verbose-{}", process::id()));
    let script = format!("exec \"$0\" \"$@\" 2>{}", said.display());
    let check = port.check("-v --timeout=20 127.0.0.2 127.0.0.3");
    let run = check.shell(&script).run_while(|_| {
        let mut client = accept(&slow);
        let line = "127.0.0.3  down  127.0.0.3: greeting 554 mx.test takes no mail";
        wait_until(|| fs::read_to_string(&said).unwrap().starts_with(line));
        client.write_all(b"554 no\r\n").unwrap();
    });
    run.prints("").at_once();
    let lines = fs::read_to_string(&said).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    fs::remove_file(&said).unwrap();
}

/// Lines come when a fate is known, not at the end, and so in that order.
#[test]
fn a_line_comes_when_its_fate_is_known() {
    let port = Port::new();
    let _slow = port.serve("127.0.0.2", &down_after(ms(2000)));
    let _down = port.serve("127.0.0.3", DOWN);
    let _later = port.serve("127.0.0.4", &down_after(ms(1000)));
    let run = port.check("-v 127.0.0.2 127.0.0.3 127.0.0.4").run();
    run.answers("");
    let down = |address: &str| {
        format!("{address}  down  {address}: greeting 554 mx.test takes no mail (after T)")
    };
    let expected = ["127.0.0.3", "127.0.0.4", "127.0.0.2"].map(down);
    assert_eq!(lines(&run), expected, "{run}");
}

#[test]
fn servers_that_are_not_asked_are_said_to_be() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let _silent = port.serve("127.0.0.3", SILENT);
    let up = "127.0.0.2  up    127.0.0.2: greeting 220 mx.test ESMTP (after T)";
    let rows: [(&str, &str, &[&str]); 3] = [
        (
            "127.0.0.2 127.0.0.3",
            "127.0.0.2",
            &[
                up,
                "127.0.0.3  skip  not waited for: the answer is 127.0.0.2",
            ],
        ),
        (
            "--stop 127.0.0.9 127.0.0.2 127.0.0.9 127.0.0.3",
            "127.0.0.2",
            &[
                "127.0.0.9  stop  a --stop host",
                "127.0.0.3  skip  not asked: after the stop host 127.0.0.9",
                up,
            ],
        ),
        (
            "--stop 127.0.0.9 10:127.0.0.3 5:127.0.0.2 10:127.0.0.9",
            "127.0.0.2",
            &[
                "127.0.0.9  stop  a --stop host",
                "127.0.0.3  skip  not asked: same priority as the stop host 127.0.0.9",
                up,
            ],
        ),
    ];
    each(&rows, |(words, answer, expected)| {
        let run = port.check(&format!("-v {words}")).run();
        run.answers(answer);
        // Which of the lines are there is fixed; their order is not, where
        // they are known together.
        let mut said = lines(&run);
        let mut expected: Vec<_> = expected.iter().map(|line| line.to_string()).collect();
        said.sort();
        expected.sort();
        assert_eq!(said, expected, "{run}");
    });
}

/// A server was up before it was known that it has the priority of the stop
/// host.
#[test]
fn a_server_that_is_up_for_nothing() {
    namespace::run(|| {
        let _names = dns::serve("me.test A after 1500 127.0.0.9\nme.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let run = Check::words("-v --stop 127.0.0.9 10:127.0.0.2 10:me.test").run();
        run.answers("");
        says(
            &run,
            &[
                "127.0.0.2  up    127.0.0.2: greeting 220 mx.test ESMTP (after T)",
                "127.0.0.2  skip  up, but passed over: same priority as the stop host me.test",
                "me.test    stop  a --stop host",
            ],
        );
    });
}

#[test]
fn texts_that_name_no_host_are_escaped() {
    let run = Check::new(["-v", "10:a b", "10:\x1b[2J", "10:a;b", "10:", "\x7f"]).run();
    run.answers("");
    says(
        &run,
        &[
            r"a b      down  not a host name",
            r"\x1b[2J  down  not a host name",
            r"a;b      down  not a host name",
            r"         down  not a host name",
            r"\x7f     down  not a host name",
        ],
    );
}

#[test]
fn names_are_aligned_up_to_forty_bytes() {
    let forty = format!("{};", "a".repeat(39));
    let longer = format!("{};", "a".repeat(49));
    let run = Check::new(["-v", "a;", &forty, &longer]).run();
    run.answers("");
    let fate = "  down  not a host name";
    let short = format!("a;{}{fate}", " ".repeat(38));
    says(
        &run,
        &[
            &short,
            &format!("{forty}{fate}"),
            &format!("{longer}{fate}"),
        ],
    );
}

#[test]
fn without_verbose_nothing_is_said() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let words = "10:. 127.0.0.3 127.0.0.2 127.0.0.4";
    port.check(words).run().prints("127.0.0.2");
}

#[test]
fn a_name_server_that_fails() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let _names = dns::serve("fails.test A servfail\nfails.test AAAA servfail");
        let run = Check::words("-v fails.test").run();
        says(&run, &["fails.test  down  name server failed (after T)"]);
    });
}

/// What only names, routes and several addresses can show.
#[test]
fn lookups_and_several_addresses() {
    namespace::run(|| {
        let _names = dns::serve(
            "mx.test A 192.0.2.250 192.0.2.240 192.0.2.200
             mx.test AAAA nodata
             all.test A 192.0.2.250 192.0.2.240 192.0.2.1
             all.test AAAA 2001:db8::e:1
             hangs.test A silent
             hangs.test AAAA silent
             four.test A 192.0.2.200
             four.test AAAA nodata
             six.test A nodata
             six.test AAAA 2001:db8::a:200
             none.test A nodata
             none.test AAAA nodata
             me.test A 192.0.2.200
             me.test AAAA nodata",
        );
        let port = Port::smtp();
        let _down = port.serve("192.0.2.250", DOWN);
        let _up = port.serve("192.0.2.200", UP);
        let rows = [
            (
                "mx.test",
                "mx.test  up    192.0.2.250: greeting 554 mx.test takes no mail (after T); \
                 192.0.2.240: refused (after T); 192.0.2.200: greeting 220 mx.test ESMTP (after T)",
            ),
            (
                "192.0.2.64",
                "192.0.2.64  down  192.0.2.64: unreachable (after T)",
            ),
            (
                "10.0.0.1",
                "10.0.0.1  down  10.0.0.1: unreachable (after T)",
            ),
            (
                "[2001:db8::e:1]",
                "[2001:db8::e:1]  down  [2001:db8::e:1]: unreachable (after T)",
            ),
            (
                "[2001:db8::d:1]",
                "[2001:db8::d:1]  down  [2001:db8::d:1]: no connection within 1.5 s",
            ),
            ("gone.test", "gone.test  down  no such host (after T)"),
            ("none.test", "none.test  down  no such host (after T)"),
            (
                "hangs.test",
                "hangs.test  down  lookup: no answer within 1.5 s",
            ),
            ("-6 four.test", "four.test  down  no IPv6 address (after T)"),
            ("-4 six.test", "six.test  down  no IPv4 address (after T)"),
            ("-4 [::1]", "[::1]  down  no IPv4 address"),
            ("-6 192.0.2.200", "192.0.2.200  down  no IPv6 address"),
            ("--stop 192.0.2.200 me.test", "me.test  stop  a --stop host"),
        ];
        each(&rows, |(words, line)| {
            let run = Check::words(&format!("-v --timeout=1.5 {words}")).run();
            says(&run, &[line]);
        });

        // Attempts at several addresses may end in any order.
        let run = Check::words("-v --timeout=1.5 all.test").run();
        run.answers("");
        let [line] = &lines(&run)[..] else {
            panic!("{run}");
        };
        let fates = line.strip_prefix("all.test  down  ").unwrap();
        let mut fates: Vec<_> = fates.split("; ").collect();
        fates.sort_unstable();
        let expected = [
            "192.0.2.1: no connection within 1.5 s",
            "192.0.2.240: refused (after T)",
            "192.0.2.250: greeting 554 mx.test takes no mail (after T)",
            "[2001:db8::e:1]: unreachable (after T)",
        ];
        assert_eq!(fates, expected, "{run}");
    });
}

/// What this machine's limits change; `make emulate` leaves this out, as in the
/// cache's tests.
mod machine {
    use super::*;

    /// Where this machine has no means to ask in time.
    #[test]
    fn servers_that_could_not_be_asked() {
        if !has("prlimit", "servers_that_could_not_be_asked") {
            return;
        }
        let port = Port::new();
        let _silent = ["127.0.0.2", "127.0.0.3"].map(|address| port.serve(address, SILENT));
        let words = "-v --timeout=1 127.0.0.2 127.0.0.3 fe80::1%none";
        let run = port.check(words).under(&["prlimit", "--nofile=4:4"]).run();
        run.answers("").after(ms(1000));
        says(
            &run,
            &[
                "fe80::1%none  down  no such interface",
                "127.0.0.2     down  127.0.0.2: no greeting within 1 s (connected after T)",
                "127.0.0.3     down  not asked in time",
            ],
        );
        if has("strace", "servers_that_could_not_be_asked") {
            let check = port.check("-v --timeout=1 127.0.0.2 localhost");
            let run = check.injecting("eventfd2", "error=ENFILE").run();
            run.answers("").after(ms(1000));
            says(
                &run,
                &[
                    "127.0.0.2  down  127.0.0.2: no greeting within 1 s (connected after T)",
                    "localhost  down  not looked up in time",
                ],
            );
        }
    }
}
