//! The lines of `--verbose`: one a server, on standard error, in columns. Those
//! of `--json`, and the scripts that read them.

mod json;
mod monitoring;

use std::io::Write;
use std::time::Duration;
use std::{env, fs, process, thread};

use crate::harness::run::{Check, Run, each, ms, wait_until};
use crate::harness::smtp::{
    Close, DOWN, Port, Reset, SILENT, Send, Step, Tcp, UP, Wait, accept, down_after, up_after,
};
use crate::harness::{dns, namespace};

/// The lines, with T for every time that was measured, not for timeouts.
fn lines(run: &Run) -> Vec<String> {
    let parts = run.stderr.split_inclusive(')').map(|part| {
        let (text, time) = split_time(part);
        match time {
            Some(_) => format!("{text}T)"),
            None => part.to_owned(),
        }
    });
    parts
        .collect::<String>()
        .lines()
        .map(String::from)
        .collect()
}

/// The times that were measured.
fn times(run: &Run) -> Vec<Duration> {
    let parts = run.stderr.split_inclusive(')');
    parts.filter_map(|part| split_time(part).1).collect()
}

/// Splits the time off a text that ends in `(<1 ms)`, `(14 ms)`, `(2.5 s)` or
/// `(connected after 14 ms)`.
fn split_time(text: &str) -> (&str, Option<Duration>) {
    let split = text.rsplit_once('(').and_then(|(_, inside)| {
        let time = inside.strip_suffix(')')?;
        let time = time.strip_prefix("connected after ").unwrap_or(time);
        Some((time, parse_time(time)?))
    });
    match split {
        Some((time, value)) => (&text[..text.len() - time.len() - 1], Some(value)),
        None => (text, None),
    }
}

fn parse_time(text: &str) -> Option<Duration> {
    if text == "<1 ms" {
        return Some(Duration::ZERO);
    }
    let (number, unit) = text.split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_secs_f64(number / 1000.0)),
        "s" => Some(Duration::from_secs_f64(number)),
        _ => None,
    }
}

#[track_caller]
fn says(run: &Run, expected: &[&str]) {
    assert_eq!(lines(run), expected, "{run}");
}

/// What the server at 127.0.0.2 does, and its line.
#[test]
fn every_result_has_its_words() {
    let rows = [
        (UP, "up    127.0.0.2: greeting 220 mx.test ESMTP (T)"),
        (
            DOWN,
            "down  127.0.0.2: greeting 554 mx.test takes no mail (T)",
        ),
        (
            &[Send(b"554-mx.test\r\n554 no\r\n")],
            "down  127.0.0.2: greeting 554-mx.test (T)",
        ),
        (
            &[Send(b"421 busy\r\n"), Close],
            "down  127.0.0.2: greeting 421 busy (T)",
        ),
        (
            &[Send(b"554 \x1b[2J\x07\xe9\r\n")],
            r"down  127.0.0.2: greeting 554 \x1b[2J\x07\xe9 (T)",
        ),
        (
            &[Send(b"220 \x1b]0;x\x07\r\n")],
            r"up    127.0.0.2: greeting 220 \x1b]0;x\x07 (T)",
        ),
        (
            &[Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close],
            r#"down  127.0.0.2: not an SMTP greeting: "HTTP/1.1 400 Bad Request" (T)"#,
        ),
        (
            &[Send(b"\x15\x03\x01\x00\x02\x02\x0a"), Close],
            r#"down  127.0.0.2: not an SMTP greeting: "\x15\x03\x01\x00\x02\x02" (T)"#,
        ),
        (
            &[Close],
            "down  127.0.0.2: connection closed before the greeting (T)",
        ),
        (
            &[Wait(ms(100)), Reset],
            "down  127.0.0.2: connection reset (T)",
        ),
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
            "127.0.0.3  down  127.0.0.3: connection refused (T)",
            "127.0.0.4  down  127.0.0.4: no connection within 2 s",
        ],
    );
}

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

/// Connecting takes until the queue of the server is no longer full.
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
            &["192.0.2.1  down  192.0.2.1: connection timed out (T)"],
        );
    });
}

#[test]
fn a_line_comes_while_other_servers_are_waited_for() {
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

#[test]
fn lines_come_in_the_order_of_the_results() {
    let port = Port::new();
    let _slow = port.serve("127.0.0.2", &down_after(ms(2000)));
    let _down = port.serve("127.0.0.3", DOWN);
    let _later = port.serve("127.0.0.4", &down_after(ms(1000)));
    let run = port.check("-v 127.0.0.2 127.0.0.3 127.0.0.4").run();
    run.answers("");
    let down = |address: &str| {
        format!("{address}  down  {address}: greeting 554 mx.test takes no mail (T)")
    };
    let expected = ["127.0.0.3", "127.0.0.4", "127.0.0.2"].map(down);
    assert_eq!(lines(&run), expected, "{run}");
}

#[test]
fn servers_that_are_not_needed_have_a_line() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let _silent = port.serve("127.0.0.3", SILENT);
    let up = "127.0.0.2  up    127.0.0.2: greeting 220 mx.test ESMTP (T)";
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
                "127.0.0.9  stop  matches --stop",
                "127.0.0.3  skip  not asked: after the --stop host 127.0.0.9",
                up,
            ],
        ),
        (
            "--stop 127.0.0.9 10:127.0.0.3 5:127.0.0.2 10:127.0.0.9",
            "127.0.0.2",
            &[
                "127.0.0.9  stop  matches --stop",
                "127.0.0.3  skip  not asked: same priority as the --stop host 127.0.0.9",
                up,
            ],
        ),
    ];
    each(&rows, |(words, answer, expected)| {
        let run = port.check(&format!("-v {words}")).run();
        run.answers(answer);
        // Lines of results that come together may be in any order.
        let mut said = lines(&run);
        let mut expected: Vec<_> = expected.iter().map(|line| line.to_string()).collect();
        said.sort();
        expected.sort();
        assert_eq!(said, expected, "{run}");
    });
}

/// Only later is it known that it has the priority of the stop host.
#[test]
fn a_server_that_is_up_but_ignored() {
    namespace::run(|| {
        let _names = dns::serve("me.test A after 1500 127.0.0.9\nme.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let run = Check::words("-v --stop 127.0.0.9 10:127.0.0.2 10:me.test").run();
        run.answers("");
        says(
            &run,
            &[
                "127.0.0.2  up    127.0.0.2: greeting 220 mx.test ESMTP (T)",
                "127.0.0.2  skip  up, but ignored: same priority as the --stop host me.test",
                "me.test    stop  matches --stop",
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
            r"a b      down  neither a host name nor an address",
            r"\x1b[2J  down  neither a host name nor an address",
            r"a;b      down  neither a host name nor an address",
            r"         down  neither a host name nor an address",
            r"\x7f     down  neither a host name nor an address",
            "smtpdcheck: warning: '10:a b' contains white space and counts as down; \
             pass each server as a separate argument",
        ],
    );
}

#[test]
fn names_are_aligned_up_to_forty_bytes() {
    let forty = format!("{};", "a".repeat(39));
    let longer = format!("{};", "a".repeat(49));
    let run = Check::new(["-v", "a;", &forty, &longer]).run();
    run.answers("");
    let result = "  down  neither a host name nor an address";
    let short = format!("a;{}{result}", " ".repeat(38));
    says(
        &run,
        &[
            &short,
            &format!("{forty}{result}"),
            &format!("{longer}{result}"),
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
        says(&run, &["fails.test  down  name server failed (T)"]);
    });
}

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
                "mx.test  up    192.0.2.250: greeting 554 mx.test takes no mail (T); \
                 192.0.2.240: connection refused (T); 192.0.2.200: greeting 220 mx.test ESMTP (T)",
            ),
            (
                "192.0.2.64",
                "192.0.2.64  down  192.0.2.64: unreachable (T)",
            ),
            ("10.0.0.1", "10.0.0.1  down  10.0.0.1: unreachable (T)"),
            (
                "[2001:db8::e:1]",
                "[2001:db8::e:1]  down  [2001:db8::e:1]: unreachable (T)",
            ),
            (
                "[2001:db8::d:1]",
                "[2001:db8::d:1]  down  [2001:db8::d:1]: no connection within 1.5 s",
            ),
            ("gone.test", "gone.test  down  no such host (T)"),
            ("none.test", "none.test  down  no such host (T)"),
            (
                "hangs.test",
                "hangs.test  down  no answer from name server within 1.5 s",
            ),
            ("-6 four.test", "four.test  down  no IPv6 address (T)"),
            ("-4 six.test", "six.test  down  no IPv4 address (T)"),
            ("-4 [::1]", "[::1]  down  no IPv4 address"),
            ("-6 192.0.2.200", "192.0.2.200  down  no IPv6 address"),
            (
                "--stop 192.0.2.200 me.test",
                "me.test  stop  matches --stop",
            ),
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
        let results = line.strip_prefix("all.test  down  ").unwrap();
        let mut results: Vec<_> = results.split("; ").collect();
        results.sort_unstable();
        let expected = [
            "192.0.2.1: no connection within 1.5 s",
            "192.0.2.240: connection refused (T)",
            "192.0.2.250: greeting 554 mx.test takes no mail (T)",
            "[2001:db8::e:1]: unreachable (T)",
        ];
        assert_eq!(results, expected, "{run}");
    });
}
