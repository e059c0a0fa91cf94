//! This machine at its limits: closed descriptors, a full disk, an empty
//! chroot, no privileges, no threads, a process that is stopped; and what the
//! program asks of the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{self, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::harness::namespace::{FOLDER, sh};
use crate::harness::run::{Check, LIMIT, cannot_run, command, each, has, has_all, ms, wait_until};
use crate::harness::smtp::{
    Connection, DOWN, Port, SILENT, Send, Server, Tcp, UP, Wait, accept, down_after, up_after,
};
use crate::harness::{dns, namespace};

/// Every set of the three standard descriptors, as a shell closes it.
const CLOSED: [&str; 8] = [
    "",
    "<&-",
    ">&-",
    "<&- >&-",
    "2>&-",
    "<&- 2>&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
];

/// What every server must have received, whatever descriptor its connection
/// had: the program's own output belongs elsewhere.
fn only_quit(servers: Vec<Server>) {
    let connections: Vec<Connection> = servers.into_iter().flat_map(Server::finish).collect();
    assert!(!connections.is_empty());
    for connection in connections {
        assert_eq!(connection.early, b"", "{connection:?}");
        assert!(
            [&b""[..], b"QUIT\r\n"].contains(&&*connection.received),
            "{connection:?}"
        );
    }
}

/// Checks live and dead servers with each set of descriptors closed, by a
/// shell command that runs the program with `"$@"`.
fn with_closed_descriptors(port: &Port, program: &str) {
    let rows: Vec<_> = ["", "-v "]
        .into_iter()
        .flat_map(|option| CLOSED.map(|closed| (option, closed)))
        .collect();
    let up = port.serve("127.0.0.2", &up_after(ms(100)));
    let down = port.serve("127.0.0.3", DOWN);
    each(&rows, |(option, closed)| {
        let script = format!("exec {program} \"$@\" {closed}");
        let run = |words: &str| port.check(&format!("{option}{words}")).shell(&script).run();

        let live = run("127.0.0.3 127.0.0.2");
        let verbose = !option.is_empty();
        let stdout = !closed.split(' ').any(|redirection| redirection == ">&-");
        let stderr = !closed.contains("2>&-");
        if stdout {
            live.answers("127.0.0.2");
        } else {
            assert_eq!(live.status, Some(2), "{live}");
        }
        if !verbose && stderr && !stdout {
            live.fails();
        }
        assert_eq!(
            live.stderr.contains("greeting"),
            stderr && verbose,
            "{live}"
        );

        run("127.0.0.3").answers("");
    });
    only_quit(vec![up, down]);
}

#[test]
fn closed_descriptors() {
    with_closed_descriptors(&Port::new(), "\"$0\"");
}

/// An answer that cannot be given is an error; where there is none to give, it
/// does not matter.
#[test]
fn standard_output_that_cannot_be_written() {
    let port = Port::new();
    let servers = vec![port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let full = || Stdio::from(fs::File::create("/dev/full").unwrap());
    let unread = || {
        let reader = command("true").stdin(Stdio::piped()).spawn();
        let mut reader = reader.unwrap();
        let mut pipe = reader.stdin.take().unwrap();
        reader.wait().unwrap();
        // A process that is just being started may have the other end a moment longer.
        while pipe.write(&[0]).is_ok() {}
        Stdio::from(pipe)
    };
    let read_only = || Stdio::from(fs::File::open("/dev/null").unwrap());
    for stdout in [&full as &dyn Fn() -> Stdio, &unread, &read_only] {
        let check = |words: &str| port.check(words).stdout(stdout()).run();
        check("127.0.0.2").fails().at_once();
        check("127.0.0.3 127.0.0.2").fails();
        check("127.0.0.3").prints("");
        check("--help").fails();
        check("--version").fails();
    }
    only_quit(servers);
}

/// Somebody who shares standard output has made it not wait, and it is full
/// for a moment: the answer is given all the same.
#[test]
fn standard_output_that_does_not_wait() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[0; 512]).is_ok() {}
    while writer.write(&[0]).is_ok() {}
    let check = port.check("127.0.0.2").stdout(OwnedFd::from(writer));
    let mut written = Vec::new();
    let run = check.run_while(|_| {
        // Time for a program that errs to do so.
        thread::sleep(ms(300));
        reader.set_read_timeout(Some(LIMIT)).unwrap();
        while !written.ends_with(b"\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            written.extend(byte);
        }
    });
    assert_eq!((run.status, &*run.stderr), (Some(1), ""), "{run}");
    assert!(written.ends_with(b"\x00127.0.0.2\n"));
}

/// Standard error is only for people: where it cannot be written, the answer
/// is the same.
#[test]
fn standard_error_that_cannot_be_written() {
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    for option in ["", "-v"] {
        let words = format!("{option} 127.0.0.3 127.0.0.2");
        let check = port.check(&words).shell("exec \"$0\" \"$@\" 2>/dev/full");
        check.run().prints("127.0.0.2");
        let check = port
            .check("--bogus")
            .shell("exec \"$0\" \"$@\" 2>/dev/full");
        assert_eq!(check.run().status, Some(2));
    }
}

/// An empty file, of which the path is not needed any more.
fn file() -> File {
    let path = env::temp_dir().join(format!("smtpdcheck-output-{}", process::id()));
    let mut options = OpenOptions::new();
    let options = options.create_new(true).read(true).write(true);
    let file = options.open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file
}

/// A write past the largest size of a file sends a signal (SIGXFSZ), of which
/// the program must not die.
#[test]
fn files_that_may_not_grow() {
    if !has("prlimit", "files_that_may_not_grow") {
        return;
    }
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let check = |words: &str| port.check(words).under(&["prlimit", "--fsize=0"]);
    let mut output = file();
    for words in ["127.0.0.2", "127.0.0.3 127.0.0.2", "--help", "--version"] {
        let run = check(words).stdout(output.try_clone().unwrap()).run();
        run.fails().at_once();
        assert!(run.stderr.contains("standard output"), "{run}");
    }
    let run = check("127.0.0.3").stdout(output.try_clone().unwrap()).run();
    run.prints("");
    assert_eq!(output.seek(SeekFrom::End(0)).unwrap(), 0);

    // What is said on standard error changes nothing.
    let path = env::temp_dir().join(format!("smtpdcheck-error-{}", process::id()));
    let script = format!("exec \"$0\" \"$@\" 2>{}", path.display());
    let rows = [("127.0.0.3 127.0.0.2", "127.0.0.2"), ("127.0.0.3", "")];
    for (words, answer) in rows {
        let check = check(words).first("-v").shell(&script);
        check.run().prints(answer).at_once();
    }
    assert_eq!(check("--bogus").shell(&script).run().status, Some(2));
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::remove_file(&path).unwrap();
}

/// Makes a root of the namespace's empty folder: the program, and the libraries
/// of one that is not static. Returns whether it is static.
fn make_root() -> bool {
    let copy = namespace::copy_program();
    let libraries = command("ldd").arg(&copy).output().unwrap();
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut needed = paths.filter(|word| !word.starts_with(&copy)).peekable();
    let is_static = needed.peek().is_none();
    for library in needed {
        let (folder, _) = library.rsplit_once('/').unwrap();
        fs::create_dir_all(format!("{FOLDER}{folder}")).unwrap();
        fs::copy(library, format!("{FOLDER}{library}")).unwrap();
    }
    is_static
}

/// There is no `/dev`, no `/proc` and no `/etc`: no `/dev/null` to stand in
/// for a closed descriptor, and no configuration of any kind.
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
            // Without a resolv.conf the name server is this machine.
            let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
            chroot("mx.test").prints("mx.test").at_once();
            chroot("gone.test mx.test").prints("mx.test").at_once();
        }
    });
}

/// A check of the copy of the program, by nobody in particular and under a
/// limit.
fn limited(words: &str, limit: &[&str]) -> Check {
    Check::words(words)
        .copy(&namespace::copy_program())
        .under(namespace::unprivileged())
        .under(limit)
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

/// An address needs no thread. A name does, and where there is none to be had
/// that is this machine's failure, not the server's.
#[test]
fn without_threads() {
    namespace::run(|| {
        let test = "without_threads";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let port = Port::smtp();
        let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
        let check = |words: &str| limited(words, &["prlimit", "--nproc=0"]).run();
        check("127.0.0.2").prints("127.0.0.2").at_once();
        check("127.0.0.3 10:127.0.0.2")
            .prints("127.0.0.2")
            .at_once();
        check("127.0.0.3").prints("").at_once();
        check("--stop 127.0.0.9 127.0.0.2")
            .prints("127.0.0.2")
            .at_once();
        check("127.0.0.2 mx.test").prints("127.0.0.2").at_once();
        check("--timeout=20 mx.test").fails().at_once();
        check("--timeout=20 --stop mx.test 127.0.0.2")
            .fails()
            .at_once();
    });
}

/// With few descriptors fewer servers are probed at a time, with all of them
/// in their turn.
#[test]
fn few_descriptors() {
    if !has("prlimit", "few_descriptors") {
        return;
    }
    let addresses: Vec<_> = (1..=60).map(|n| format!("127.0.1.{n}")).collect();
    let words = format!("{} 127.0.0.2", addresses.join(" "));
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let _servers: Vec<_> = addresses.iter().map(|a| port.serve(a, DOWN)).collect();
    each(&["5:5", "6:6", "8:8", "16:16"], |limit| {
        let limit = format!("--nofile={limit}");
        let check = port.check(&words).under(&["prlimit", &limit]);
        check.run().prints("127.0.0.2").at_once();
    });
}

/// The descriptor limit that counts is the hard one. With the soft one, four
/// servers at a time, this would take ten seconds.
#[test]
fn the_soft_descriptor_limit_is_raised() {
    if !has("prlimit", "the_soft_descriptor_limit_is_raised") {
        return;
    }
    let addresses: Vec<_> = (1..=40).map(|n| format!("127.0.1.{n}")).collect();
    let port = Port::new();
    let _servers: Vec<_> = addresses
        .iter()
        .map(|a| port.serve(a, &down_after(ms(1000))))
        .collect();
    let check = port.check(&addresses.join(" "));
    let check = check.under(&["prlimit", "--nofile=7:1024"]);
    check.run().prints("").after(ms(1000));
}

/// Also where a lookup is the first to need it.
#[test]
fn the_soft_descriptor_limit_is_raised_for_lookups() {
    namespace::run(|| {
        let test = "the_soft_descriptor_limit_is_raised_for_lookups";
        if !has_all(&["ldd", "prlimit"], test) {
            return;
        }
        let _names = dns::serve(
            "mx.test A 127.0.0.2\nmx.test AAAA nodata\n\
             me.test A 127.0.0.9\nme.test AAAA nodata",
        );
        let _up = Port::smtp().serve("127.0.0.2", UP);
        // A loader needs one.
        let least = if make_root() { 3 } else { 4 };
        for soft in [least, 4, 5] {
            let limit = format!("--nofile={soft}:1024");
            for words in ["mx.test", "--stop me.test 10:mx.test 10:me.test"] {
                let answer = words.strip_prefix("--stop").map_or(words, |_| "");
                let check = Check::words(&format!("--timeout=20 {words}"));
                let run = check.under(&["prlimit", &limit]).run();
                run.prints(answer).at_once();
            }
        }
    });
}

/// Too few descriptors for any probe is this machine's failure, in whatever
/// stage it comes; just enough for one at a time is not.
#[test]
fn hardly_any_descriptors() {
    namespace::run(|| {
        let test = "hardly_any_descriptors";
        if !has_all(&["ldd", "prlimit"], test) || !namespace::has_unprivileged(test) {
            return;
        }
        if !make_root() {
            // Its loader would need a descriptor before it.
            return cannot_run(test, "the program is not static");
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let server = Port::smtp().serve("127.0.0.2", UP);
        let check = |limit: u32, words: &str| {
            let limit = format!("--nofile={limit}:{limit}");
            let check = limited(words, &["prlimit", &limit]);
            check.first("--timeout=20").run()
        };
        check(3, "127.0.0.2").fails().at_once();
        check(3, "127.0.0.2 127.0.0.3").fails().at_once();
        check(3, "mx.test").fails().at_once();
        check(3, "--stop mx.test 127.0.0.2").fails().at_once();
        check(3, "10:.").prints("");
        // One, which wakes the loop when a lookup ends.
        check(4, "mx.test").fails().at_once();
        assert_eq!(server.count(), 0);

        let _server = Port::smtp().serve("127.0.0.2", UP);
        check(4, "127.0.0.3 127.0.0.4 127.0.0.2")
            .prints("127.0.0.2")
            .at_once();
        // And one for the lookups, of one family after the other.
        check(5, "mx.test").prints("mx.test").at_once();
        check(5, "127.0.0.3 gone.test mx.test")
            .prints("mx.test")
            .at_once();
    });
}

/// A server that is up and has not come to the last line of its greeting is
/// heard out, but not where another server wants its descriptor.
#[test]
fn a_connection_for_quit_alone_gives_way() {
    namespace::run(|| {
        if !has("prlimit", "a_connection_for_quit_alone_gives_way") {
            return;
        }
        let silent = ["127.0.0.3", "127.0.0.4", "127.0.0.5"];
        let addresses = silent.iter().chain(&["127.0.0.6"]);
        let hosts: Vec<_> = addresses.map(|a| format!("{a} mx.hosts\n")).collect();
        namespace::hosts(&hosts.concat());
        let port = Port::smtp();
        let _silent = silent.map(|address| port.serve(address, SILENT));
        let _up = port.serve("127.0.0.6", UP);
        // The last address has its turn when the other server is up, or before.
        for (delay, after) in [(0, 750), (1500, 1500)] {
            let polite = port.serve("127.0.0.2", &[Wait(ms(delay)), Send(b"220-mx.test\r\n")]);
            // One descriptor wakes the loop, and four are for connections.
            let check = Check::words("--timeout=20 mx.hosts 127.0.0.2");
            let run = check.under(&["prlimit", "--nofile=8:8"]).run();
            run.prints("mx.hosts").after(ms(after));
            let connection = polite.only();
            let sent = [connection.early, connection.received].concat();
            assert_eq!(sent, b"", "{run}");
        }
    });
}

/// A lookup that was left behind has its descriptors until it ends. A server
/// that finds none meanwhile waits for them, until its time is over.
#[test]
fn lookups_left_behind_are_no_fault() {
    namespace::run(|| {
        if !has("prlimit", "lookups_left_behind_are_no_fault") {
            return;
        }
        let _names = dns::serve("* A silent\n* AAAA silent");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        // How long the C library waits for the name server, the timeout of
        // each server, the answer, and milliseconds until then at least.
        for (patience, timeout, answer, after) in [(60, 1, "", 2000), (5, 4, "127.0.0.2", 4000)] {
            namespace::resolver_timeout(patience);
            let words = format!("--jobs=1 --timeout={timeout} mx.test 127.0.0.2");
            let check = Check::words(&words).under(&["prlimit", "--nofile=6:6"]);
            check.run().prints(answer).after(ms(after));
        }
    });
}

/// With `--jobs` one server's time may be over before another's that has found
/// no descriptor yet: that one begins then, whatever else is under way.
#[test]
fn a_descriptor_freed_by_a_timeout_is_used() {
    if !has("prlimit", "a_descriptor_freed_by_a_timeout_is_used") {
        return;
    }
    let port = Port::new();
    // Two descriptors for connections. The first two servers have them; after
    // two seconds the third has the second one's for a moment, then the fourth,
    // and the fifth has none until the first server's time is over.
    let _servers = [
        port.serve("127.0.0.2", SILENT),
        port.serve("127.0.0.3", &down_after(ms(2000))),
        port.serve("127.0.0.4", DOWN),
        port.serve("127.0.0.5", SILENT),
        port.serve("127.0.0.6", &up_after(ms(300))),
    ];
    let words = "--jobs=3 --timeout=4 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6";
    let run = port.check(words).under(&["prlimit", "--nofile=5:5"]).run();
    run.prints("127.0.0.6").after(ms(6000));
}

/// musl divides by the number of attempts. One line says so, however many
/// threads come to it at the same time.
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
                // Another C library finds no name then.
                false => drop(run.prints("")),
            }
        };
        (0..20).for_each(|_| check(names));
        Check::words("127.0.0.3 127.0.0.2")
            .run()
            .prints("127.0.0.2");
        if is_static && has("strace", "a_resolver_without_attempts") {
            // Whoever writes takes its time to end the process after that.
            let check = Check::words(names).injecting("write", "delay_exit=300000");
            check.run().fails();
        }
    });
}

/// Stops a process, and waits until it is.
fn stop(process: u32) {
    sh(&format!("kill -STOP {process}"));
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    wait_until(is_stopped);
}

/// What came before the deadline counts, also where the process was kept from
/// looking until after it.
#[test]
fn what_came_before_the_deadline_counts() {
    let silent = |port: &Port| (port.listen("127.0.0.2", 16), Vec::new());
    let full = |port: &Port| port.full("127.0.0.2");
    type Serve<'a> = &'a (dyn Fn(&Port) -> (TcpListener, Vec<TcpStream>) + Sync);
    // Seconds of timeout, and the connection when the process is stopped: that
    // it is made is then another thing to be found out. Where the server's
    // queue was full, the system tries again after a second.
    let rows: [(u64, Serve, Tcp); 2] = [(5, &silent, Tcp::Established), (10, &full, Tcp::SynSent)];
    each(&rows, |(seconds, serve, state)| {
        let port = Port::new();
        let (server, waiting) = serve(&port);
        let timeout = Duration::from_secs(*seconds);
        let began = Instant::now();
        let check = port.check(&format!("--timeout={seconds} 127.0.0.2"));
        let run = check.run_while(|process| {
            state.wait(&server);
            // Its time began before it connected.
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

/// The system calls of a check, a line each, or `None` where there is no strace.
fn system_calls(test: &str, port: &Port, words: &str, answer: &str) -> Option<Vec<String>> {
    system_calls_under(&[], test, port, words, answer)
}

/// The same, with the program run by way of another.
fn system_calls_under(
    wrapper: &[&str],
    test: &str,
    port: &Port,
    words: &str,
    answer: &str,
) -> Option<Vec<String>> {
    let run = port.check(words).traced(test)?.under(wrapper).run();
    run.answers(answer);
    let calls: Vec<_> = run.stderr.lines().map(String::from).collect();
    assert!(calls.iter().any(|call| call.contains("connect(")), "{run}");
    Some(calls)
}

fn count(calls: &[String], name: &str) -> usize {
    let call = format!(" {name}(");
    calls.iter().filter(|line| line.contains(&call)).count()
}

#[test]
fn an_address_needs_no_thread_no_lookup_and_no_wake_up_descriptor() {
    let test = "an_address_needs_no_thread_no_lookup_and_no_wake_up_descriptor";
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let words = "--stop 127.0.0.9 127.0.0.3 127.0.0.2";
    let Some(calls) = system_calls(test, &port, words, "127.0.0.2") else {
        return;
    };
    let unwanted = [
        "clone",
        "clone3",
        "fork",
        "vfork",
        "eventfd",
        "eventfd2",
        "pipe",
        "pipe2",
        "socketpair",
        "alarm",
        "setitimer",
        "timer_create",
        "timerfd_create",
        "epoll_create1",
    ];
    for name in unwanted {
        assert_eq!(count(&calls, name), 0, "{name}: {calls:#?}");
    }
    for file in [
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/nsswitch.conf",
        "SOCK_DGRAM",
    ] {
        assert!(
            !calls.iter().any(|call| call.contains(file)),
            "{file}: {calls:#?}"
        );
    }
    assert_eq!(count(&calls, "socket"), 2, "{calls:#?}");
}

/// Hundreds of names are looked up by a bounded number of threads, even where
/// none of the lookups ends.
#[test]
fn lookups_share_a_bounded_number_of_threads() {
    namespace::run(|| {
        let _names = dns::serve("* A silent\n* AAAA silent");
        let port = Port::smtp();
        let _silent = port.serve("127.0.0.2", SILENT);
        let names: Vec<_> = (0..300).map(|n| format!("mx{n}.test")).collect();
        let words = format!("--timeout=1 127.0.0.2 {}", names.join(" "));
        let test = "lookups_share_a_bounded_number_of_threads";
        let Some(calls) = system_calls(test, &port, &words, "") else {
            return;
        };
        let threads = count(&calls, "clone") + count(&calls, "clone3");
        assert!((1..=100).contains(&threads), "{threads} threads");
    });
}

/// One turn for the connection, one until the deadline: a timeout that was
/// rounded down would end too soon, and take many more.
#[test]
fn waiting_is_not_busy() {
    let port = Port::new();
    let _server = port.serve("127.0.0.2", SILENT);
    for _ in 0..5 {
        let words = "--timeout=0.3 127.0.0.2";
        let Some(calls) = system_calls("waiting_is_not_busy", &port, words, "") else {
            return;
        };
        let polls = count(&calls, "poll") + count(&calls, "ppoll");
        assert!((1..=4).contains(&polls), "{polls} turns: {calls:#?}");
    }
}

/// Nor is waiting for a descriptor, though an attempt is due.
#[test]
fn waiting_for_a_descriptor_is_not_busy() {
    namespace::run(|| {
        if !has("prlimit", "waiting_for_a_descriptor_is_not_busy") {
            return;
        }
        let silent = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
        let hosts = silent.map(|address| format!("{address} mx.hosts\n"));
        namespace::hosts(&hosts.concat());
        let port = Port::smtp();
        let _silent = silent.map(|address| port.serve(address, SILENT));
        // One descriptor is strace's, one wakes the loop, and two are for
        // connections.
        let limit = ["prlimit", "--nofile=7:7"];
        let words = "-4 --timeout=1.5 mx.hosts";
        let test = "waiting_for_a_descriptor_is_not_busy";
        let Some(calls) = system_calls_under(&limit, test, &port, words, "") else {
            return;
        };
        assert!(
            calls.iter().any(|call| call.contains("EMFILE")),
            "{calls:#?}"
        );
        let polls = count(&calls, "poll") + count(&calls, "ppoll");
        assert!((1..=10).contains(&polls), "{polls} turns: {calls:#?}");
    });
}

/// What a lookup fails for may be this machine's fault: then it is made again,
/// and where it fails again that is no server's failure.
#[test]
fn lookups_that_this_machine_fails() {
    namespace::run(|| {
        if !has_all(&["ldd", "strace"], "lookups_that_this_machine_fails") {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let is_static = make_root();
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            let open = |times: &str, words: &str| {
                let error = format!("error=EMFILE:when={times}");
                let check = Check::words(words).injecting("open,openat", &error);
                check.under(&["-P", file]).run()
            };
            open("1", "--timeout=20 mx.test")
                .prints("mx.test")
                .at_once();
            // Every second time, for one thread that makes all lookups.
            let words = "-4 --jobs=1 --timeout=20 gone1.test gone2.test mx.test";
            open("1+2", words).prints("mx.test").at_once();
            // Another C library may do without the file.
            if is_static {
                open("1+", "--timeout=20 mx.test").fails().at_once();
            }
        }
    });
}

/// One thread is enough for all lookups.
#[test]
fn few_threads() {
    namespace::run(|| {
        if !has("strace", "few_threads") {
            return;
        }
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let words = "--timeout=20 gone1.test gone2.test gone3.test mx.test";
        for (times, answer) in [
            ("2+", Some("mx.test")),
            ("3+", Some("mx.test")),
            ("1+", None),
        ] {
            let error = format!("error=EAGAIN:when={times}");
            let check = Check::words(words).injecting("clone,clone3", &error);
            let run = check.run();
            match answer {
                Some(answer) => run.prints(answer).at_once(),
                None => run.fails().at_once(),
            };
        }
    });
}

/// A machine without a family of addresses has no way there.
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
