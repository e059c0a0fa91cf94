//! An empty chroot, no privileges, a missing address family, a resolver without
//! attempts, a process that is stopped.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::output::with_closed_descriptors;
use super::{limited, make_root};
use crate::harness::dns;
use crate::harness::namespace::{self, FOLDER, sh};
use crate::harness::run::{Check, each, has, has_all, wait_until};
use crate::harness::smtp::{Port, Tcp, UP, accept};

/// Without `/dev`, `/proc` and `/etc`: no `/dev/null` to replace a closed
/// descriptor, and no configuration.
#[test]
fn an_empty_chroot() {
    namespace::run(|| {
        if !has_all(&["ldd", "chroot"], "an_empty_chroot") {
            return;
        }
        let is_static = make_root();
        let port = Port::smtp();
        with_closed_descriptors(&port, &format!("chroot {FOLDER} /smtpdcheck"));

        let _up = port.serve("127.0.0.2", UP);
        let chroot = |words: &str| {
            let check = Check::words(words).copy("/smtpdcheck");
            check.under(&["chroot", FOLDER]).run()
        };
        chroot("127.0.0.3 127.0.0.2").prints("127.0.0.2").at_once();
        chroot("").fails();
        if is_static {
            // Without resolv.conf, the name server is 127.0.0.1.
            let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
            chroot("mx.test").prints("mx.test").at_once();
            chroot("gone.test mx.test").prints("mx.test").at_once();
        }
    });
}

#[test]
fn without_privileges() {
    namespace::run(|| {
        if !namespace::has_unprivileged("without_privileges") {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        for server in ["127.0.0.2", "mx.test"] {
            limited(server, &[]).run().prints(server).at_once();
        }
        limited("gone.test 127.0.0.3", &[])
            .run()
            .prints("")
            .at_once();
    });
}

/// A machine without an address family has no route to such an address.
#[test]
fn without_a_family() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    if !has("strace", "without_a_family") {
        return;
    }
    let check = |words: &str| {
        let check = port.check(words);
        check.injecting("socket", "error=EAFNOSUPPORT:when=1").run()
    };
    check("[::1] 127.0.0.2").prints("127.0.0.2").at_once();
    let run = check("-v [::1]");
    run.answers("").at_once();
    assert!(run.stderr.contains("  down  [::1]: unreachable"), "{run}");
}

/// musl divides by the number of attempts. One line says so, even if several
/// threads divide at the same time.
#[test]
fn a_resolver_without_attempts() {
    namespace::run(|| {
        if !has("ldd", "a_resolver_without_attempts") {
            return;
        }
        let is_static = make_root();
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let text = "nameserver 127.0.0.1\noptions attempts:0\n";
        fs::write("/etc/resolv.conf", text).unwrap();
        let names = "mx1.test mx2.test mx3.test mx4.test";
        let check = |words: &str| {
            let run = Check::words(words).run();
            match is_static {
                true => {
                    run.fails().at_once();
                    assert!(run.stderr.contains("resolv.conf"), "{run}");
                }
                // Other C libraries find no name then.
                false => drop(run.prints("")),
            }
        };
        (0..20).for_each(|_| check(names));
        Check::words("127.0.0.3 127.0.0.2")
            .run()
            .prints("127.0.0.2");
        if is_static && has("strace", "a_resolver_without_attempts") {
            // A thread that writes ends the process only after a delay.
            let check = Check::words(names).injecting("write", "delay_exit=300000");
            check.run().fails();
        }
    });
}

/// Stops a process, and waits until it is stopped.
fn stop(process: u32) {
    sh(&format!("kill -STOP {process}"));
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    wait_until(is_stopped);
}

/// A greeting that comes before the deadline counts, even if the process is
/// stopped then and can read it only later.
#[test]
fn a_greeting_before_the_deadline_counts() {
    let silent = |port: &Port| (port.listen("127.0.0.2", 16), Vec::new());
    let full = |port: &Port| port.full("127.0.0.2");
    type Serve<'a> = &'a (dyn Fn(&Port) -> (TcpListener, Vec<TcpStream>) + Sync);
    // Seconds of timeout, and the state of the connection when the process is
    // stopped. A connection to a full queue is tried again by the system after
    // a second, and the process has two things to find out when it goes on.
    let rows: [(u64, Serve, Tcp); 2] = [(5, &silent, Tcp::Established), (10, &full, Tcp::SynSent)];
    each(&rows, |(seconds, serve, state)| {
        let port = Port::new();
        let (server, waiting) = serve(&port);
        let timeout = Duration::from_secs(*seconds);
        let began = Instant::now();
        let check = port.check(&format!("--timeout={seconds} 127.0.0.2"));
        let run = check.run_while(|process| {
            state.wait(&server);
            // Its time began before this.
            let over = Instant::now() + timeout;
            stop(process);
            let mut clients: Vec<_> = (0..=waiting.len()).map(|_| accept(&server)).collect();
            clients[waiting.len()]
                .write_all(b"220 mx.test\r\n")
                .unwrap();
            assert!(began.elapsed() < timeout, "this machine is too slow");
            thread::sleep(over.saturating_duration_since(Instant::now()));
            sh(&format!("kill -CONT {process}"));
        });
        run.prints("127.0.0.2").after(timeout);
    });
}
