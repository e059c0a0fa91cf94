//! Too few descriptors for all servers: what could not be asked in time is not
//! known, and that is this machine's failure, not the server's.

use std::io::Write;
use std::time::Instant;
use std::{fs, thread};

use crate::harness::namespace::sh;
use crate::harness::run::{Check, Run, cannot_run, command, each, has, ms, program, wait_until};
use crate::harness::smtp::{DOWN, Port, SILENT, Server, UP, accept, up_after};
use crate::harness::{dns, namespace};

/// Whether the program under test is static. The loader of another one needs a
/// descriptor, and another C library looks names and interfaces up in its own
/// way.
pub fn is_static() -> bool {
    let libraries = command("ldd").arg(program()).output().unwrap();
    !String::from_utf8_lossy(&libraries.stdout).contains("=>")
}

/// The same; where it is not static, says that the test did not run.
pub fn has_static(test: &str) -> bool {
    if !has("ldd", test) {
        return false;
    }
    if !is_static() {
        cannot_run(test, "the program is not static");
    }
    is_static()
}

/// A check under a limit of descriptors, the hard one.
fn limited(port: &Port, limit: u32, words: &str) -> Run {
    let limit = format!("--nofile={limit}:{limit}");
    port.check(words).under(&["prlimit", &limit]).run()
}

#[track_caller]
fn lacked(run: &Run, server: &str) {
    run.fails();
    let line = format!("smtpdcheck: cannot check '{server}': too many open files\n");
    assert_eq!(run.stderr, line, "{run}");
}

/// Servers at 127.0.0.2 to 5: one that is up, one that is up after a second,
/// one that is down, and one that never says anything; and some more of those.
fn serve(port: &Port) -> Vec<Server> {
    let mut servers = vec![
        port.serve("127.0.0.2", UP),
        port.serve("127.0.0.3", &up_after(ms(1000))),
        port.serve("127.0.0.4", DOWN),
    ];
    servers.extend((5..9).map(|n| port.serve(&format!("127.0.0.{n}"), SILENT)));
    servers
}

/// Limit, arguments, the server that could not be asked, and milliseconds
/// until that is known.
#[test]
fn a_server_that_could_not_be_asked_in_time() {
    if !has("prlimit", "a_server_that_could_not_be_asked_in_time") {
        return;
    }
    let rows = [
        (4, "--timeout=1 127.0.0.5 127.0.0.2", "127.0.0.2", 1000),
        (
            4,
            "--timeout=1 10:127.0.0.5 20:127.0.0.2",
            "127.0.0.2",
            1000,
        ),
        (
            4,
            "--timeout=1 127.0.0.5 127.0.0.2 127.0.0.6",
            "127.0.0.2",
            1000,
        ),
        (
            5,
            "--timeout=1 127.0.0.5 127.0.0.6 127.0.0.2",
            "127.0.0.2",
            1000,
        ),
        // Two of them, one after the other.
        (
            4,
            "--timeout=1 127.0.0.4 127.0.0.5 127.0.0.2",
            "127.0.0.2",
            1000,
        ),
        (
            4,
            "--timeout=1 --jobs=2 127.0.0.5 127.0.0.2",
            "127.0.0.2",
            1000,
        ),
        (
            4,
            "--timeout=1 --jobs=3 127.0.0.5 127.0.0.2",
            "127.0.0.2",
            1000,
        ),
        // A stop host behind it does not make it down.
        (
            4,
            "--timeout=1 --stop 127.0.0.9 10:127.0.0.5 20:127.0.0.2 30:127.0.0.9",
            "127.0.0.2",
            1000,
        ),
    ];
    each(&rows, |(limit, words, server, after)| {
        let port = Port::new();
        let _servers = serve(&port);
        let run = limited(&port, *limit, words);
        lacked(run.after(ms(*after)), server);
    });
}

/// Limit, arguments, answer, and milliseconds until it is given.
#[test]
fn a_server_that_makes_no_difference_may_not_have_been_asked() {
    let test = "a_server_that_makes_no_difference_may_not_have_been_asked";
    if !has("prlimit", test) {
        return;
    }
    let rows = [
        (4, "--timeout=20 127.0.0.2 127.0.0.5", "127.0.0.2", 0),
        (4, "--timeout=20 127.0.0.3 127.0.0.2", "127.0.0.3", 1000),
        (4, "--timeout=20 127.0.0.4 127.0.0.2", "127.0.0.2", 0),
        (
            5,
            "--timeout=20 127.0.0.4 127.0.0.3 127.0.0.5 127.0.0.6",
            "127.0.0.3",
            1000,
        ),
        // Behind the stop host, and of its priority.
        (
            4,
            "--timeout=1 --stop 127.0.0.9 127.0.0.5 127.0.0.9 127.0.0.2",
            "",
            1000,
        ),
        (
            4,
            "--timeout=1 --stop 127.0.0.9 5:127.0.0.5 10:127.0.0.2 10:127.0.0.9",
            "",
            1000,
        ),
        // Each has its own time.
        (
            4,
            "--timeout=1 --jobs=1 127.0.0.5 127.0.0.2",
            "127.0.0.2",
            1000,
        ),
        (
            4,
            "--timeout=1 --jobs=1 127.0.0.5 127.0.0.6 127.0.0.2",
            "127.0.0.2",
            2000,
        ),
        // There is one for each.
        (5, "--timeout=1 127.0.0.5 127.0.0.2", "127.0.0.2", 1000),
    ];
    each(&rows, |(limit, words, answer, after)| {
        let port = Port::new();
        let _servers = serve(&port);
        let run = limited(&port, *limit, words);
        run.prints(answer).after(ms(*after));
    });
}

/// The same by name: one descriptor wakes the loop, and a lookup needs one for
/// a moment.
#[test]
fn a_name_that_could_not_be_looked_up_in_time() {
    namespace::run(|| {
        let test = "a_name_that_could_not_be_looked_up_in_time";
        if !has("prlimit", test) || !has_static(test) {
            return;
        }
        namespace::hosts("127.0.0.5 silent.hosts\n127.0.0.2 up.hosts\n127.0.0.3 later.hosts\n");
        let _names = dns::serve(
            "silent.test A 127.0.0.5
             silent.test AAAA nodata
             up.test A 127.0.0.2
             up.test AAAA nodata
             slow.test A after 500 127.0.0.2
             slow.test AAAA nodata
             hangs.test A silent
             hangs.test AAAA silent
             me.test A 127.0.0.9
             me.test AAAA nodata",
        );
        let port = Port::smtp();
        let _servers = serve(&port);
        let rows = [
            (5, "127.0.0.5 up.hosts", "up.hosts"),
            (5, "127.0.0.5 up.test", "up.test"),
            (5, "127.0.0.5 slow.test", "slow.test"),
            // Whichever is the first to have it.
            (5, "hangs.test 127.0.0.2", ""),
            (5, "--jobs=2 127.0.0.5 up.hosts", "up.hosts"),
            // The name server has not answered when the next server's time is
            // over: the lookup that was left behind has the descriptor.
            (6, "--jobs=1 hangs.test 127.0.0.2", "127.0.0.2"),
            (5, "--stop me.test 127.0.0.5 up.test 127.0.0.9", ""),
        ];
        each(&rows, |(limit, words, server)| {
            let run = limited(&port, *limit, &format!("--timeout=1 {words}"));
            match *server {
                "" => {
                    run.fails().after(ms(1000));
                    assert!(run.stderr.contains("too many open files"), "{run}");
                }
                server => lacked(run.after(ms(1000)), server),
            }
        });
        for limit in [7, 8] {
            for words in ["silent.hosts up.hosts", "--jobs=2 silent.test up.test"] {
                let answer = words.split(' ').next_back().unwrap();
                let run = limited(&port, limit, &format!("--timeout=2 {words}"));
                run.prints(answer).after(ms(2000));
            }
        }
    });
}

/// A process whose parent has blocked the signal is told all the same that musl
/// divides by the number of attempts.
#[test]
fn a_division_by_zero_that_is_blocked() {
    namespace::run(|| {
        let test = "a_division_by_zero_that_is_blocked";
        if !has("python3", test) || !has_static(test) {
            return;
        }
        let text = "nameserver 127.0.0.1\noptions attempts:0\n";
        fs::write("/etc/resolv.conf", text).unwrap();
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let block = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGFPE])
os.execv(sys.argv[1], sys.argv[1:])";
        let check = |words: &str| Check::words(words).under(&["python3", "-c", block]).run();
        for words in ["mx.test", "--stop mx.test 127.0.0.2", "a.test b.test"] {
            let run = check(words);
            run.fails();
            assert!(run.stderr.contains("attempts:0"), "{run}");
        }
        check("127.0.0.2").prints("127.0.0.2");
    });
}

/// Where the status is 2, its reason is the only line, whatever else there is
/// to say.
#[test]
fn an_error_is_one_line() {
    namespace::run(|| {
        let port = Port::smtp();
        let _up = port.serve("127.0.0.2", UP);
        let _names = dns::serve("");
        for cache in ["/etc/hosts", "/etc/empty", "/etc/gone/cache", "/dev/null"] {
            let words = format!("--timeout=20 --cache={cache} --stop gone.test");
            Check::words(&words).arguments(["127.0.0.2"]).run().fails();
            Check::words(&words).arguments(["10:a 20:b"]).run().fails();
            let words = format!("--cache={cache}");
            let closed = |words: &str| Check::words(words).shell("exec \"$0\" \"$@\" >&-");
            closed(&words).arguments(["127.0.0.2"]).run().fails();
            let run = closed(&words).arguments(["10:a 20:b", "127.0.0.2"]).run();
            run.fails();
            // A warning it is where there is an answer.
            let run = Check::words(&words).arguments(["127.0.0.2"]).run();
            run.answers("127.0.0.2");
            assert_eq!(run.stderr.lines().count(), 1, "{run}");
        }
    });
}

/// Stops the process until this moment; meanwhile something is done.
fn stopped_until(process: u32, until: Instant, meanwhile: impl FnOnce()) {
    sh(&format!("kill -STOP {process}"));
    let stat = || fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    wait_until(|| stat().rsplit(") ").next().unwrap().starts_with('T'));
    meanwhile();
    assert!(Instant::now() < until, "this machine is too slow");
    thread::sleep(until.saturating_duration_since(Instant::now()));
    sh(&format!("kill -CONT {process}"));
}

/// Two servers, of which the second one lacks a descriptor to the end. What the
/// first one has said in time is seen only after the deadline: where it is up,
/// the second one makes no difference; where it is down, its descriptor comes
/// too late.
#[test]
fn what_is_seen_late_does_not_hide_what_was_lacking() {
    let test = "what_is_seen_late_does_not_hide_what_was_lacking";
    if !has("prlimit", test) {
        return;
    }
    let rows: [(&[u8], bool); 3] = [
        (b"220 mx.test\r\n", true),
        (b"554 no\r\n", false),
        (b"", false),
    ];
    each(&rows, |(bytes, is_up)| {
        let port = Port::new();
        let server = port.listen("127.0.0.5", 16);
        let _up = port.serve("127.0.0.2", UP);
        let check = port.check("--timeout=5 127.0.0.5 127.0.0.2");
        let check = check.under(&["prlimit", "--nofile=4:4"]);
        let run = check.run_while(|process| {
            let mut client = accept(&server);
            let over = Instant::now() + ms(5000);
            stopped_until(process, over, || {
                client.write_all(bytes).unwrap();
                drop(client);
            });
        });
        run.after(ms(5000));
        match is_up {
            true => drop(run.prints("127.0.0.5")),
            false => lacked(&run, "127.0.0.2"),
        }
    });
}

/// A server with two addresses lacks a descriptor for the second one. A
/// greeting that has begun at the first one, and a descriptor that is free just
/// after the deadline, do not make it down.
#[test]
fn a_greeting_that_has_begun_does_not_hide_what_was_lacking() {
    namespace::run(|| {
        let test = "a_greeting_that_has_begun_does_not_hide_what_was_lacking";
        if !has("prlimit", test) {
            return;
        }
        namespace::hosts("192.0.2.201 mx.hosts\n192.0.2.202 mx.hosts\n");
        let port = Port::smtp();
        let _servers = [
            port.serve("127.0.0.5", SILENT),
            port.serve("192.0.2.202", UP),
        ];
        let server = port.listen("192.0.2.201", 16);
        // One wakes the loop, and two are for connections.
        let check = Check::words("-4 --timeout=5 127.0.0.5 mx.hosts");
        let check = check.under(&["prlimit", "--nofile=6:6"]);
        let run = check.run_while(|process| {
            let mut client = accept(&server);
            let over = Instant::now() + ms(5000);
            // Time to try the second address.
            thread::sleep(ms(2000));
            stopped_until(process, over, || client.write_all(b"22").unwrap());
            drop(client);
        });
        lacked(run.after(ms(5000)), "mx.hosts");
    });
}
