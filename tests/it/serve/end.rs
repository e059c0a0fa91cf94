//! Ends: of the mail server's connection, of the gate, of its children.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::{DEFER, DUNNO, Servers, ZONE, gate};
use crate::harness::gate::{End, Gate, Link, Request, Start, is_running, signal};
use crate::harness::run::{SLACK, command, ms, wait_until};
use crate::harness::smtp::{Port, Tcp, up_after};
use crate::harness::{dns, namespace};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A gate whose check is under way, and would be for twenty seconds.
#[track_caller]
fn busy(link: Link) -> (Gate, u32) {
    let gate = gate("").link(link).start();
    gate.send(Request::to("u@slow.test").bytes());
    let child = gate.child();
    (gate, child)
}

/// Nobody waits for the answer any more, however that shows.
#[test]
fn a_check_ends_with_the_connection() {
    namespace::run(|| {
        let servers = Servers::new();
        type HangUp = fn(&mut Gate);
        let rows: [(Link, HangUp); 5] = [
            (Link::Spawn, Gate::hang_up),
            (Link::Socket, Gate::hang_up),
            (Link::Two, Gate::hang_up),
            (Link::Two, Gate::stop_reading),
            // The next request has come already.
            (Link::Spawn, |gate| {
                gate.send(Request::to("u@up.test").bytes());
                gate.hang_up();
            }),
        ];
        for (link, hang_up) in rows {
            let (mut gate, child) = busy(link);
            let started = Instant::now();
            hang_up(&mut gate);
            let process = gate.process();
            assert_eq!(gate.end(), End::quiet(), "{link:?}");
            assert!(started.elapsed() < SLACK, "{link:?}");
            assert!(!is_running(child), "{link:?} {process}");
        }
        let connections = servers.silent.finish();
        for connection in connections {
            assert!(connection.ended - connection.accepted < SLACK);
        }
        assert_eq!(servers.up.count(), 0);
    });
}

/// The same where output is a pipe, whose other end is closed.
#[test]
fn a_check_ends_with_the_pipe() {
    namespace::run(|| {
        let servers = Servers::new();
        let script = r#"
            cd /etc/empty && mkfifo out
            { exec 3<out; while ! test -e asked; do sleep .01; done; } &
            "$0" "$@" >out 2>errors
            echo "$?" >&2
        "#;
        let gate = gate("").shell(script).start();
        gate.send(Request::to("u@slow.test").bytes());
        Tcp::Established.wait_for("127.0.0.5:25".parse().unwrap());
        let started = Instant::now();
        fs::write("/etc/empty/asked", "").unwrap();
        assert_eq!(gate.end().rest, "0\n");
        assert!(started.elapsed() < SLACK);
        assert_eq!(fs::read("/etc/empty/errors").unwrap(), b"");
        assert_eq!(servers.silent.count(), 1);
    });
}

/// A mail server that has closed its connection between two questions.
#[test]
fn the_gate_ends_with_the_connection() {
    namespace::run(|| {
        let servers = Servers::new();
        for link in [Link::Spawn, Link::Socket, Link::Two] {
            let mut idle = gate("").link(link).start();
            idle.hang_up();
            assert_eq!(idle.end(), End::quiet(), "{link:?}");

            let mut used = gate("").link(link).start();
            assert_eq!(used.ask(&Request::to("u@up.test")), DEFER);
            used.hang_up();
            assert_eq!(used.end(), End::quiet(), "{link:?}");

            // With an answer that was not read.
            let mut unread = gate("").link(link).start();
            unread.send(Request::to("postmaster").bytes());
            unread.wait_for_bytes();
            unread.hang_up();
            assert_eq!(unread.end(), End::quiet(), "{link:?}");

            // With one that cannot be written any more.
            let mut late = gate("").link(link).start();
            let requests = Request::to("postmaster").bytes().repeat(100);
            late.send(&requests);
            late.hang_up();
            assert_eq!(late.end(), End::quiet(), "{link:?}");
        }
        drop(servers);
    });
}

/// Somebody ends the gate, and no check goes on without it.
#[test]
fn children_end_with_the_gate() {
    namespace::run(|| {
        let _servers = Servers::new();
        for (name, number) in [("KILL", SIGKILL), ("TERM", SIGTERM)] {
            let (gate, child) = busy(Link::Spawn);
            assert!(is_running(child));
            let started = Instant::now();
            signal(name, gate.process());
            let end = gate.end();
            assert_eq!((end.signal, &*end.rest), (Some(number), ""), "{name}");
            wait_until(|| !is_running(child));
            assert!(started.elapsed() < SLACK, "{name}");
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
            let (mut gate, child) = busy(Link::Spawn);
            signal(name, child);
            let answer = gate.only_answer();
            assert!(answer.starts_with("action=WARN smtpdcheck: "), "{answer}");
            assert!(answer.contains("killed"), "{answer}");
            assert_eq!(gate.children(), [0; 0], "{name}");
            assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
            gate.hang_up();
            assert_eq!(gate.end(), End::quiet());
        }
    });
}

/// Every question is answered, and by its own answer.
#[test]
fn children_that_are_killed_at_random() {
    namespace::run(|| {
        let _names = dns::serve(&ZONE.replace("127.0.0.2", "127.0.0.3"));
        // So that a check takes about as long as the waiting here.
        let _late = Port::smtp().serve("127.0.0.3", &up_after(ms(5)));
        let mut gate = gate("").start();
        let mut shell = command("sh").stdin(Stdio::piped()).spawn().unwrap();
        let mut commands = shell.stdin.take().unwrap();
        let mut killed = 0;
        for n in 0..600u64 {
            let (recipient, answer) = match n % 3 {
                0 => ("u@down.test", DUNNO),
                _ => ("u@up.test", DEFER),
            };
            gate.send(Request::to(recipient).bytes());
            thread::sleep(Duration::from_micros(n * 7919 % 10_007));
            for child in gate.children() {
                writeln!(commands, "kill -KILL {child} 2>&-").unwrap();
            }
            let found = gate.only_answer();
            if found != answer {
                assert!(found.starts_with("action=WARN smtpdcheck: "), "{found}");
                assert!(found.contains("killed"), "{found}");
                killed += 1;
            }
        }
        drop(commands);
        shell.wait().unwrap();
        assert!((1..600).contains(&killed), "{killed}");
        assert_eq!(gate.children(), [0; 0]);
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
    });
}

/// A child that does not run is waited for until two seconds after its timeout.
#[test]
fn a_child_that_hangs() {
    namespace::run(|| {
        let _servers = Servers::new();
        let mut gate = Start::words("--timeout=1").start();
        let started = Instant::now();
        gate.send(Request::to("u@slow.test").bytes());
        let child = gate.child();
        signal("STOP", child);
        let answer = gate.only_answer();
        let elapsed = started.elapsed();
        assert!(answer.starts_with("action=WARN smtpdcheck: "), "{answer}");
        assert!(elapsed >= ms(3000), "{elapsed:?}");
        assert!(elapsed < ms(3000) + SLACK, "{elapsed:?}");
        assert!(!is_running(child));
        assert_eq!(gate.children(), [0; 0]);
        assert_eq!(gate.ask(&Request::to("u@up.test")), DEFER);
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
    });
}

/// The connection is closed while a child does not run.
#[test]
fn a_child_that_hangs_ends_with_the_connection() {
    namespace::run(|| {
        let _servers = Servers::new();
        let (mut gate, child) = busy(Link::Spawn);
        signal("STOP", child);
        gate.hang_up();
        assert_eq!(gate.end(), End::quiet());
        assert!(!is_running(child));
    });
}

/// What a child has of the mail server's connection would keep that open.
#[test]
fn a_child_does_not_have_the_connection() {
    namespace::run(|| {
        let _servers = Servers::new();
        let files = |process: u32| {
            let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
            let targets = entries.flatten().map(|entry| fs::read_link(entry.path()));
            targets.flatten().collect::<Vec<_>>()
        };
        for link in [Link::Spawn, Link::Two] {
            let started = Instant::now();
            let (gate, child) = busy(link);
            let mut sockets = files(gate.process());
            sockets.retain(|file| file.to_string_lossy().starts_with("socket:"));
            assert_ne!(sockets, [""; 0].map(PathBuf::from));
            // It has them for a moment, until it begins its work.
            wait_until(|| !files(child).iter().any(|file| sockets.contains(file)));
            assert!(started.elapsed() < SLACK, "{link:?}");
        }
    });
}
