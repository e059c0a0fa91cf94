//! Ends: of smtpd's connection, of the filter, of its children.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::{Held, PROCEED, REJECT, filter, having_said, started};
use crate::harness::filter::{CONFIG, Filter, Question};
use crate::harness::gate::{End, Gate, Link, Start, is_running, signal};
use crate::harness::run::{SLACK, command, ms, wait_until};
use crate::harness::smtp::{Port, Tcp, up_after};
use crate::harness::{dns, namespace};
use crate::serve::{Servers, ZONE};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A filter whose checks are under way, and would be for twenty seconds.
#[track_caller]
fn busy(link: Link) -> (Filter, Vec<u32>) {
    let filter = Filter::linked(filter("").link(link));
    for domain in ["slow.test", "dark.test"] {
        filter.send(Question::to(&format!("u@{domain}")).line());
    }
    wait_until(|| filter.children().len() == 2);
    let children = filter.children();
    (filter, children)
}

#[track_caller]
fn have_ended(children: &[u32]) {
    wait_until(|| !children.iter().any(|child| is_running(*child)));
}

/// Nobody waits for the answers any more, however that shows.
#[test]
fn checks_end_with_the_connection() {
    namespace::run(|| {
        let servers = Servers::new();
        type HangUp = fn(&mut Gate);
        let rows: [(Link, HangUp); 6] = [
            (Link::Socket, Gate::hang_up),
            (Link::Socket, Gate::finish_sending),
            (Link::Two, Gate::hang_up),
            (Link::Two, Gate::finish_sending),
            (Link::Two, Gate::stop_reading),
            // The next question has come already.
            (Link::Socket, |gate| {
                gate.send(Question::to("u@[192.0.2.1]").line());
                gate.hang_up();
            }),
        ];
        for (link, hang_up) in rows {
            let (mut filter, children) = busy(link);
            let started = Instant::now();
            hang_up(&mut filter);
            assert_eq!(filter.end(), End::quiet(), "{link:?}");
            have_ended(&children);
            assert!(started.elapsed() < SLACK, "{link:?}");
        }
        for connection in servers.silent.finish() {
            assert!(connection.ended - connection.accepted < SLACK);
        }
        assert_eq!(servers.up.count(), 0);
    });
}

/// With all children that there can be, and with questions that are not read.
#[test]
fn many_checks_end_with_the_connection() {
    namespace::run(|| {
        let zone = format!("{ZONE}* MX 10:silent.mx.test 20:me.test");
        let _names = dns::serve(&zone);
        let _silent = Held::new("127.0.0.5");
        type HangUp = fn(&mut Gate);
        let rows: [(Link, HangUp); 3] = [
            (Link::Socket, Gate::hang_up),
            (Link::Two, Gate::hang_up),
            (Link::Two, Gate::stop_reading),
        ];
        for (link, hang_up) in rows {
            let mut filter = Filter::linked(filter("").link(link));
            for n in 0..100 {
                filter.send(Question::to(&format!("u@d{n}.any.test")).line());
            }
            wait_until(|| filter.children().len() == 32);
            let children = filter.children();
            let started = Instant::now();
            hang_up(&mut filter);
            assert_eq!(filter.end(), End::quiet(), "{link:?}");
            have_ended(&children);
            assert!(started.elapsed() < SLACK);
        }
    });
}

/// smtpd has closed its connection when there is no question.
#[test]
fn the_filter_ends_with_the_connection() {
    namespace::run(|| {
        let _servers = Servers::new();
        for link in [Link::Socket, Link::Two] {
            // Before smtpd has said anything.
            let mut new = filter("").link(link).start();
            new.hang_up();
            assert_eq!(new.end(), End::quiet(), "{link:?}");

            let mut idle = Filter::linked(filter("").link(link));
            idle.hang_up();
            assert_eq!(idle.end(), End::quiet(), "{link:?}");

            let mut used = Filter::linked(filter("").link(link));
            assert_eq!(used.ask("u@up.test"), REJECT);
            used.hang_up();
            assert_eq!(used.end(), End::quiet(), "{link:?}");

            // With an answer that was not read.
            let mut unread = Filter::linked(filter("").link(link));
            unread.send(Question::to("postmaster").line());
            unread.wait_for_bytes();
            unread.hang_up();
            assert_eq!(unread.end(), End::quiet(), "{link:?}");

            // With answers that cannot be written any more, or not at once.
            for count in [100, 2000] {
                let mut late = Filter::linked(filter("").link(link));
                let lines = Question::to("postmaster").line().repeat(count);
                late.send(lines);
                late.hang_up();
                assert_eq!(late.end(), End::quiet(), "{link:?}");
            }

            // Where it cannot even register.
            let mut early = filter("").link(link).start();
            early.send(CONFIG);
            early.hang_up();
            assert_eq!(early.end(), End::quiet(), "{link:?}");
        }
        // Standard output alone, when there is nothing to write.
        let mut filter = Filter::linked(filter("").link(Link::Two));
        assert_eq!(filter.ask("u@down.test"), PROCEED);
        filter.stop_reading();
        assert_eq!(filter.end(), End::quiet());
    });
}

/// The same where output is a pipe, whose other end is closed.
#[test]
fn checks_end_with_the_pipe() {
    namespace::run(|| {
        let servers = Servers::new();
        let script = r#"
            cd /etc/empty && mkfifo out
            { exec 3<out; while ! test -e asked; do sleep .01; done; } &
            "$0" "$@" >out 2>errors
            echo "$?" >&2
        "#;
        let gate = filter("").link(Link::Spawn).shell(script).start();
        gate.send(CONFIG);
        gate.send(Question::to("u@slow.test").line());
        Tcp::Established.wait_for("127.0.0.5:25".parse().unwrap());
        let started = Instant::now();
        fs::write("/etc/empty/asked", "").unwrap();
        assert_eq!(gate.end().rest, "0\n");
        assert!(started.elapsed() < SLACK);
        assert_eq!(fs::read("/etc/empty/errors").unwrap(), b"");
        assert_eq!(servers.silent.count(), 1);
    });
}

/// Somebody ends the filter, and no check goes on without it.
#[test]
fn children_end_with_the_filter() {
    namespace::run(|| {
        let _servers = Servers::new();
        for (name, number) in [("KILL", SIGKILL), ("TERM", SIGTERM)] {
            let (filter, children) = busy(Link::Socket);
            signal(name, filter.process());
            let end = filter.end();
            assert_eq!((end.signal, &*end.rest), (Some(number), ""), "{name}");
            have_ended(&children);
        }
    });
}

/// A check that was killed says nothing: the message is accepted, and the
/// postmaster is told.
#[test]
fn a_child_that_is_killed() {
    namespace::run(|| {
        let _servers = Servers::new();
        for name in ["KILL", "SEGV", "ABRT", "BUS"] {
            let mut filter = started();
            let questions = [1, 2, 3].map(|n| Question::to(&format!("u{n}@slow.test")));
            filter.send(questions.each_ref().map(Question::line).concat());
            filter.says_nothing("questions whose check goes on");
            signal(name, filter.child());
            assert_eq!(filter.answers(&questions), [PROCEED; 3], "{name}");
            assert_eq!(filter.children(), [0; 0], "{name}");
            assert_eq!(filter.ask("u@up.test"), REJECT);
            filter.hang_up();
            let said = "smtpdcheck: the check was killed\n";
            assert_eq!(filter.end(), having_said(said), "{name}");
        }
    });
}

/// Every question is answered, and by its own answer.
#[test]
fn children_that_are_killed_at_random() {
    namespace::run(|| {
        let zone = ZONE.replace("127.0.0.2", "127.0.0.3");
        let any = "* MX 10:a.test 20:me.test";
        let _names = dns::serve(&format!("{zone}{any}"));
        // So that a check takes about as long as the waiting here.
        let _late = Port::smtp().serve("127.0.0.3", &up_after(ms(5)));
        let mut filter = started();
        let mut shell = command("sh").stdin(Stdio::piped()).spawn().unwrap();
        let mut commands = shell.stdin.take().unwrap();
        let mut killed = 0;
        for n in 0..200u64 {
            let addresses = [0, 1, 2, 3, 4, 5].map(|m| match m {
                0 => "u@down.test".to_owned(),
                1 | 2 => "u@up.test".to_owned(),
                3 => "u@[192.0.2.1]".to_owned(),
                _ => format!("u@d{m}.any.test"),
            });
            let questions = addresses.each_ref().map(|address| Question::to(address));
            filter.send(questions.each_ref().map(Question::line).concat());
            thread::sleep(Duration::from_micros(n * 7919 % 10_007));
            for child in filter.children() {
                writeln!(commands, "kill -KILL {child} 2>&-").unwrap();
            }
            let found = filter.answers(&questions);
            assert_eq!([&*found[0], &*found[3]], [PROCEED; 2]);
            for m in [1, 2, 4, 5] {
                assert!([PROCEED, REJECT].contains(&&*found[m]), "{found:?}");
                killed += u32::from(found[m] == PROCEED);
            }
        }
        drop(commands);
        shell.wait().unwrap();
        assert!((1..800).contains(&killed), "{killed}");
        assert_eq!(filter.children(), [0; 0]);
        filter.hang_up();
        let end = filter.end();
        assert_eq!((end.status, &*end.rest), (Some(0), ""));
        let said = "smtpdcheck: the check was killed";
        assert!(end.stderr.lines().all(|line| line == said), "{end:?}");
        assert!(!end.stderr.is_empty());
    });
}

/// A child that does not run is waited for until two seconds after its timeout,
/// and holds up nobody else.
#[test]
fn a_child_that_hangs() {
    namespace::run(|| {
        let _servers = Servers::new();
        let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=1");
        let mut filter = Filter::start(start);
        let question = Question::to("u@slow.test");
        let started = Instant::now();
        filter.send(question.line());
        let child = filter.child();
        signal("STOP", child);
        assert_eq!(filter.ask("u@up.test"), REJECT);
        assert_eq!(filter.only_answer_to(&question), PROCEED);
        let elapsed = started.elapsed();
        assert!(elapsed >= ms(3000), "{elapsed:?}");
        assert!(elapsed < ms(3000) + SLACK, "{elapsed:?}");
        assert!(!is_running(child));
        assert_eq!(filter.children(), [0; 0]);
        assert_eq!(filter.ask("u@up.test"), REJECT);
        filter.hang_up();
        let said = "smtpdcheck: the check took too long\n";
        assert_eq!(filter.end(), having_said(said));
    });
}

/// A machine that sleeps, or an smtpd that does not read: what a check has found
/// counts, however late that is seen.
#[test]
fn a_filter_that_hangs() {
    namespace::run(|| {
        let _names = dns::serve(ZONE);
        let held = Held::new("127.0.0.2");
        let start = Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=2");
        let mut filter = Filter::start(start);
        let questions = ["u@up.test", "u@dark.test"].map(Question::to);
        let started = Instant::now();
        filter.send(questions.each_ref().map(Question::line).concat());
        Tcp::Established.wait_for("127.0.0.2:25".parse().unwrap());
        signal("STOP", filter.process());
        held.greet(1);
        // When every check would have taken too long.
        thread::sleep(ms(4100).saturating_sub(started.elapsed()));
        have_ended(&filter.children());
        signal("CONT", filter.process());
        assert_eq!(filter.answers(&questions), [REJECT, PROCEED]);
        assert_eq!(filter.ask("postmaster"), PROCEED);
        filter.hang_up();
        let said = "smtpdcheck: cannot look up the mail servers of 'dark.test': \
                    no answer in time\n";
        assert_eq!(filter.end(), having_said(said));
    });
}

/// The connection is closed while a child does not run.
#[test]
fn a_child_that_hangs_ends_with_the_connection() {
    namespace::run(|| {
        let _servers = Servers::new();
        let (mut filter, children) = busy(Link::Socket);
        for child in &children {
            signal("STOP", *child);
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
        have_ended(&children);
    });
}

/// What a child has of smtpd's connection would keep that open, and what it has
/// of another child's pipe would keep the filter from seeing that one end.
#[test]
fn a_child_has_nobody_else_s_descriptors() {
    namespace::run(|| {
        let _servers = Servers::new();
        let files = |process: u32| {
            let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
            let targets = entries.flatten().map(|entry| fs::read_link(entry.path()));
            let names = targets
                .flatten()
                .map(|path| path.to_string_lossy().into_owned());
            names.collect::<Vec<_>>()
        };
        for link in [Link::Socket, Link::Two] {
            let (mut filter, children) = busy(link);
            let mut connection = files(filter.process());
            connection.retain(|file| file.starts_with("socket:"));
            assert!(!connection.is_empty());
            for child in children {
                // It has them for a moment, until it begins its work.
                wait_until(|| !files(child).iter().any(|file| connection.contains(file)));
            }
            // The end of one is seen while the other goes on.
            let last = *filter.children().last().unwrap();
            signal("KILL", last);
            let (_, answer) = filter.next_answer();
            assert_eq!(answer, PROCEED);
            assert_eq!(filter.children().len(), 1);
        }
    });
}

/// What is said goes nowhere, and every question is answered.
#[test]
fn standard_error_is_closed() {
    namespace::run(|| {
        let _servers = Servers::new();
        // A pipe that nobody has open for reading any more.
        let unread = r#"mkfifo /etc/empty/e; : </etc/empty/e & exec 2>/etc/empty/e; wait;"#;
        for script in [
            r#"exec "$0" "$@" 2>&-"#,
            &format!(r#"{unread} exec "$0" "$@""#),
        ] {
            let mut filter = Filter::start(filter("-v").shell(script));
            for _ in 0..3 {
                assert_eq!(filter.ask("u@down.test"), PROCEED, "{script}");
                assert_eq!(filter.ask("u@other.test"), PROCEED, "{script}");
                assert_eq!(filter.ask("u@up.test"), REJECT, "{script}");
            }
            filter.hang_up();
            assert_eq!(filter.end(), End::quiet(), "{script}");
        }
    });
}

/// Nobody takes what is said: answers do not wait for that.
#[test]
fn standard_error_is_full() {
    namespace::run(|| {
        let _servers = Servers::new();
        let script = r#"
            mkfifo /etc/empty/e
            exec 3<>/etc/empty/e
            dd if=/dev/zero of=/etc/empty/e oflag=nonblock bs=4k 2>&-
            exec "$0" "$@" 2>&3
        "#;
        let mut filter = Filter::start(filter("-v").shell(script));
        for _ in 0..3 {
            assert_eq!(filter.ask("u@down.test"), PROCEED);
            assert_eq!(filter.ask("u@other.test"), PROCEED);
            assert_eq!(filter.ask("u@up.test"), REJECT);
        }
        filter.hang_up();
        assert_eq!(filter.end(), End::quiet());
    });
}
