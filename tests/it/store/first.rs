//! A server of which nothing is known, at which many processes come at once:
//! where up is remembered, one asks, and the others wait for that for a while.

use std::fs::{self, File};
use std::io::Write;
use std::thread;
use std::time::Duration;

use super::files::warning;
use super::{
    Cache, Crowd, END, HEADER, Memory, SLOT, SLOW, good, lock, memory, quick, try_lock, waiting,
};
use crate::harness::run::{Run, has, ms, together, wait_until};
use crate::harness::smtp::{self, DOWN, Port, Send, UP, Wait, up_after};
use crate::harness::{dns, namespace};

/// A cache without entries; servers at 127.0.0.1 to 127.0.0.9 do not share a
/// slot under its key.
fn empty() -> Cache {
    let cache = Cache::new();
    fs::write(cache.path(), good()).unwrap();
    cache
}

/// Locks all slots of servers, as a process does that asks all of them.
fn lock_all(cache: &Cache) -> File {
    lock(&cache.path(), HEADER, END - HEADER)
}

fn check(cache: &Cache, port: &Port, words: &str) -> Run {
    let check = cache.check(port, words).first("--cache-up-ttl=60");
    check.run()
}

#[test]
fn thirty_processes_at_once_make_one_connection() {
    for _ in 0..3 {
        let (port, cache) = (Port::new(), empty());
        let server = port.serve("127.0.0.2", &up_after(ms(100)));
        together(30, || {
            let check = cache.check(&port, "--timeout=20 --cache-up-ttl=5 127.0.0.2");
            check.run().prints("127.0.0.2");
        });
        assert_eq!(server.count(), 1);
        assert!(cache.only_entry().is_newly_up());
    }
}

/// What the other process finds out is taken from it.
#[test]
fn what_is_waited_for_is_remembered_then() {
    let (port, cache) = (Port::new(), empty());
    let silent = port.listen("127.0.0.2", 16);
    let words = "-v --timeout=20 127.0.0.2";
    thread::scope(|scope| {
        let first = scope.spawn(|| check(&cache, &port, words));
        let mut client = smtp::accept(&silent);
        let second = scope.spawn(|| check(&cache, &port, words));
        thread::sleep(ms(200));
        client.write_all(b"220 mx.test\r\n").unwrap();
        let [first, second] = [first, second].map(|run| run.join().unwrap());
        first.answers("127.0.0.2");
        second.answers("127.0.0.2");
        assert_eq!(memory(&first), Memory::None);
        let found = memory(&second);
        assert!(matches!(found, Memory::Up(0..10)), "{second}");
    });
    assert_eq!(waiting(&silent), 0);
}

/// A process that does not come to an end is waited for for five seconds, or
/// half of the time that there is.
#[test]
fn the_wait_for_another_process_has_an_end() {
    for (words, time) in [
        ("--timeout=20", ms(5000)),
        ("--timeout=0", ms(5000)),
        ("--jobs=1", ms(5000)),
        ("--timeout=2", ms(1000)),
        ("--timeout=.6 --jobs=1", ms(300)),
    ] {
        let (port, cache) = (Port::new(), empty());
        let server = port.serve("127.0.0.2", UP);
        let _lock = lock_all(&cache);
        let empty = cache.bytes();
        let runs = std::iter::repeat_with(|| {
            cache.write(&empty, 0);
            check(&cache, &port, &format!("{words} 127.0.0.2"))
        });
        // On a machine that is not too busy, not much longer.
        let mut runs = runs.take(10);
        let run = runs.find(|run| run.after(time).elapsed() < time * 3 / 2);
        run.expect("a machine that is less busy")
            .prints("127.0.0.2");
        // What it finds out then is remembered for others.
        assert!(cache.only_entry().is_newly_up());
        let words = "-v --timeout=20 127.0.0.2";
        let run = quick(|| check(&cache, &port, words));
        assert!(matches!(memory(&run), Memory::Up(_)), "{run}");
        assert!(server.count() <= 10);
    }
}

/// The deadline is that of a process that does not wait.
#[test]
fn waiting_is_part_of_the_timeout() {
    let (port, cache) = (Port::new(), empty());
    let silent = port.listen("127.0.0.2", 16);
    let _lock = lock_all(&cache);
    let run = check(&cache, &port, "--timeout=3 127.0.0.2");
    run.prints("").after(ms(3000));
    assert!(run.elapsed() < ms(4000), "{run}");
    assert_eq!(waiting(&silent), 1);
}

/// With the lock free and nothing remembered, whoever waits asks.
#[test]
fn a_process_that_ends_without_a_result_is_replaced_at_once() {
    let (port, cache) = (Port::new(), empty());
    let _server = port.serve("127.0.0.2", UP);
    let run = quick(|| {
        cache.write(&good(), 0);
        let all = lock_all(&cache);
        let check = cache.check(&port, "--timeout=20 --cache-up-ttl=60 127.0.0.2");
        let run = check.run_while(|_| {
            thread::sleep(ms(200));
            drop(all);
        });
        run.prints("127.0.0.2");
        run
    });
    run.after(ms(200));
}

#[test]
fn a_killed_process_is_replaced() {
    let (port, cache) = (Port::new(), empty());
    let silent = port.listen("127.0.0.2", 16);
    let run = quick(|| {
        cache.write(&good(), 0);
        let words = "--timeout=20 --cache-up-ttl=60 127.0.0.2";
        let asking = Crowd::new(&cache, &port, words, 1);
        let _client = smtp::accept(&silent);
        let run = cache.check(&port, words).run_while(|_| {
            thread::sleep(ms(100));
            assert_eq!(waiting(&silent), 0);
            drop(asking);
            let mut client = smtp::accept(&silent);
            client.write_all(b"220 mx.test\r\n").unwrap();
        });
        run.prints("127.0.0.2");
        run
    });
    run.after(ms(100));
    assert!(cache.only_entry().is_newly_up());
}

#[test]
fn nobody_waits_where_up_is_not_remembered() {
    let (port, cache) = (Port::new(), empty());
    let server = port.serve("127.0.0.2", UP);
    let _lock = lock_all(&cache);
    for words in ["", "--cache-up-ttl=0"] {
        let check = || {
            let check = cache.check(&port, &format!("--timeout=20 {words} 127.0.0.2"));
            check.run()
        };
        quick(check).prints("127.0.0.2");
    }
    assert!(server.count() >= 2);

    // Not even a lock is taken.
    let check = cache.check(&port, "127.0.0.3");
    if let Some(check) = check.traced("nobody_waits_where_up_is_not_remembered") {
        let run = check.run();
        assert!(run.stderr.contains("pread"), "{run}");
        assert!(!run.stderr.contains("SETLK"), "{run}");
    }
}

/// Locks the slot of one server.
fn lock_one(cache: &Cache, port: &Port, server: &str) -> File {
    let before = cache.bytes();
    let up = port.serve(server, UP);
    check(cache, port, server).prints(server);
    let offset = cache.offset();
    drop(up);
    cache.write(&before, 0);
    lock(&cache.path(), offset, SLOT)
}

/// Other servers are asked meanwhile; with `--jobs`, one that is waited for
/// counts as being asked.
#[test]
fn others_are_asked_meanwhile() {
    let (port, cache) = (Port::new(), empty());
    let _lock = lock_one(&cache, &port, "127.0.0.3");
    let _later = port.serve("127.0.0.3", UP);
    for (jobs, other, is_asked) in [
        ("", "127.0.0.2", true),
        ("--jobs=2", "127.0.0.4", true),
        ("--jobs=1", "127.0.0.5", false),
    ] {
        cache.write(&good(), 0);
        let words = format!("{jobs} --timeout=2 127.0.0.3 {other}");
        let other = port.serve(other, DOWN);
        let run = check(&cache, &port, &words);
        run.prints("127.0.0.3").after(SLOW);
        let asked = other.finish();
        assert_eq!(asked.len(), usize::from(is_asked), "{run}");
        for connection in asked {
            let before = run.ended - connection.accepted;
            assert!(before > ms(700), "{before:?} {run}");
        }
    }
}

/// Also while things happen that wake this process up.
#[test]
fn one_that_is_waited_for_counts_as_being_asked() {
    let (port, cache) = (Port::new(), empty());
    let _lock = lock_one(&cache, &port, "127.0.0.3");
    // It is unknown for long whether this one is up.
    let slow = [
        Send(b"2"),
        Wait(ms(33)),
        Send(b"2"),
        Wait(ms(33)),
        Send(b"0"),
        Wait(ms(1500)),
        Send(b"x"),
    ];
    let _slow = port.serve("127.0.0.4", &slow);
    let _awaited = port.serve("127.0.0.3", UP);
    let other = port.serve("127.0.0.2", UP);
    let words = "--jobs=2 --timeout=2 127.0.0.4 127.0.0.3 127.0.0.2";
    check(&cache, &port, words).prints("127.0.0.3");
    assert_eq!(other.count(), 0);
}

/// A server is waited for no longer than it is needed.
#[test]
fn what_is_not_needed_is_not_waited_for() {
    let (port, cache) = (Port::new(), empty());
    let _lock = lock_one(&cache, &port, "127.0.0.3");
    let _up = port.serve("127.0.0.2", &up_after(ms(100)));
    let other = port.serve("127.0.0.3", UP);
    let run = quick(|| {
        cache.write(&good(), 0);
        let words = "-v --timeout=20 127.0.0.2 127.0.0.3";
        let run = check(&cache, &port, words);
        run.answers("127.0.0.2");
        run
    });
    let line = "127.0.0.3  skip  not asked: the answer is 127.0.0.2\n";
    assert!(run.stderr.ends_with(line), "{run}");
    assert_eq!(other.count(), 0);
}

/// A process that goes on asking one server does not keep others from asking
/// those that it has done with: one that is up, one that was quickly down, and
/// one that is not needed any more.
#[test]
fn what_is_done_with_is_left_to_others() {
    let (port, cache) = (Port::new(), empty());
    let silent = ["127.0.0.2", "127.0.0.5"].map(|host| port.listen(host, 64));
    let down = port.serve("127.0.0.3", DOWN);
    let up = port.serve("127.0.0.4", &up_after(ms(300)));
    let list = "--timeout=20 --cache-up-ttl=60 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5";
    let _asking = Crowd::new(&cache, &port, list, 1);
    // It has the last one asked, and does not need it once the one before is
    // up: then it ends that connection.
    let mut unneeded = smtp::accept(&silent[1]);
    let mut byte = [0];
    assert_eq!(std::io::Read::read(&mut unneeded, &mut byte).unwrap(), 0);

    let run = quick(|| check(&cache, &port, "-v --timeout=20 127.0.0.3"));
    run.answers("");
    assert_eq!(memory(&run), Memory::None);
    let run = quick(|| check(&cache, &port, "-v --timeout=20 127.0.0.4"));
    assert!(matches!(memory(&run), Memory::Up(_)), "{run}");
    let run = quick(|| {
        let check = cache.check(&port, "--timeout=20 --cache-up-ttl=60 127.0.0.5");
        let run = check.run_while(|_| {
            let mut client = smtp::accept(&silent[1]);
            client.write_all(b"554 mx.test\r\n").unwrap();
        });
        run.prints("");
        run
    });
    drop(run);
    // The one that is still asked is waited for.
    let run = check(&cache, &port, "--timeout=2 127.0.0.2");
    run.prints("").after(ms(2000));
    assert_eq!(waiting(&silent[0]), 2);
    assert!(down.count() >= 2 && up.count() == 1);
}

/// Nor does one of which only the addresses are needed any more.
#[test]
fn a_server_that_is_only_looked_up_is_left_to_others() {
    namespace::run(|| {
        let names = dns::serve(
            "mx.test A 127.0.0.2\nmx.test AAAA nodata\n\
             slow.test A silent\nslow.test AAAA silent",
        );
        let (port, cache) = (Port::smtp(), empty());
        let _up = port.serve("127.0.0.2", &up_after(ms(300)));
        // If the second one is this machine, the first one is not better.
        let words = "--timeout=0 --cache-up-ttl=60 --stop 127.0.0.9 10:mx.test 10:slow.test";
        let mut asking = Crowd::new(&cache, &port, words, 1);
        wait_until(|| names.asked("slow.test A") > 0);
        let locked = try_lock(&cache.path(), HEADER, END - HEADER);
        assert!(locked.is_err() || !cache.entries().is_empty());
        wait_until(|| !cache.entries().is_empty());
        wait_until(|| try_lock(&cache.path(), HEADER, END - HEADER).is_ok());
        // It still looks it up.
        assert!(asking.children[0].try_wait().unwrap().is_none());
    });
}

/// While somebody else asks, this process wakes up fifty times a second, and
/// not more often.
#[test]
fn waiting_costs_little() {
    if !has("strace", "waiting_costs_little") {
        return;
    }
    let (port, cache) = (Port::new(), empty());
    let _server = port.serve("127.0.0.2", UP);
    let _lock = lock_all(&cache);
    let words = "--timeout=2 --cache-up-ttl=60 127.0.0.2";
    let check = cache.check(&port, words).traced("waiting_costs_little");
    let run = check.unwrap().run();
    run.after(SLOW);
    let calls = |name: &str| {
        let is_it = |call: &&str| {
            call.split_whitespace()
                .nth(1)
                .is_some_and(|c| c.starts_with(name))
        };
        run.stderr.lines().filter(is_it).count()
    };
    for (name, most) in [
        ("fcntl", 60),
        ("pread64", 120),
        ("poll", 70),
        ("brk", 12),
        ("mmap", 40),
    ] {
        assert!(calls(name) <= most, "{name}: {run}");
    }
    assert!(calls("fcntl") >= 10, "{run}");
}

/// Where there are no locks, everybody asks, and a warning says so.
#[test]
fn without_locks_everybody_asks() {
    if !has("strace", "without_locks_everybody_asks") {
        return;
    }
    let (port, cache) = (Port::new(), empty());
    let _server = port.serve("127.0.0.2", UP);
    let check = cache.check(&port, "--cache-up-ttl=60 127.0.0.2");
    let run = check.injecting("fcntl", "error=ENOLCK").run();
    run.answers("127.0.0.2");
    let expected = warning(&cache.path(), "no locks available");
    assert_eq!(run.stderr, expected, "{run}");
    assert!(cache.only_entry().is_newly_up());
}

/// Only as long as this takes does a crowd at a refusing server.
#[test]
fn a_crowd_at_a_server_that_refuses_is_not_kept_waiting() {
    let (port, cache) = (Port::new(), empty());
    let words = "--timeout=20 --cache-up-ttl=60 127.0.0.2";
    let began = std::time::Instant::now();
    Crowd::new(&cache, &port, words, 30).finish(|_| {});
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(cache.entries(), []);
}
