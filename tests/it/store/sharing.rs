//! Many processes that share one file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use super::{Cache, Crowd, Memory, SLOW, close, memory, signal, waiting};
use crate::harness::run::{SLACK, has, ms, together};
use crate::harness::smtp::{self, Port, UP, up_after};

#[test]
fn two_hundred_processes_at_once() {
    let (port, cache) = (Port::new(), Cache::new());
    let silent = port.listen("127.0.0.2", 1024);
    let crowd = Crowd::new(&cache, &port, "--timeout=2 127.0.0.2", 200);
    // The files that the processes have open as the cache.
    let mut inodes = BTreeSet::new();
    let path = cache.path();
    crowd.finish(|process| {
        let link = format!("/proc/{process}/fd/3");
        let target = fs::read_link(&link).unwrap_or_default();
        let target = target.to_string_lossy();
        if target.strip_suffix(" (deleted)").unwrap_or(&target) == path.to_string_lossy() {
            inodes.extend(fs::metadata(&link).map(|found| found.ino()).ok());
        }
    });
    let cold = waiting(&silent);
    assert!((1..=200).contains(&cold), "{cold} connections");
    let inode = fs::metadata(&path).unwrap().ino();
    assert_eq!(inodes, BTreeSet::from([inode]), "files with a key each");
    assert_eq!(cache.files(), ["cache"]);
    assert!(cache.only_entry().is_new());

    let before = cache.bytes();
    let crowd = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 200);
    crowd.finish(|_| {});
    assert_eq!(waiting(&silent), 0);
    assert_eq!(cache.bytes(), before);
}

/// When an entry expires, one process asks; the others do not wait.
#[test]
fn one_of_many_processes_asks_again() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    let silent = port.listen("127.0.0.2", 1024);
    for _ in 0..3 {
        cache.age(62);
        let mut crowd = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 100);
        crowd.wait(1, |_| {});
        let client = smtp::accept(&silent);
        assert!(cache.only_entry().is_claimed());
        assert_eq!(waiting(&silent), 0);
        // So it is slow.
        thread::sleep(SLOW);
        drop(client);
        crowd.finish(|_| {});
        assert_eq!(waiting(&silent), 0);
        assert!(cache.only_entry().is_new());
    }
}

/// Six checks of a silent server, each of which comes to its first lock half a
/// second late: nobody has it before all of them want it. Returns how many
/// connections there were, or `None` where there is no strace.
fn late_to_lock(test: &str, port: &Port, cache: &Cache) -> Option<usize> {
    if !has("strace", test) {
        return None;
    }
    let silent = port.listen("127.0.0.2", 16);
    together(6, || {
        let check = cache.check(port, "--timeout=4 127.0.0.2");
        let late = check.injecting("fcntl", "delay_enter=500000");
        late.run().prints("");
    });
    // They agree on the key, or else this would be in several slots.
    assert!(cache.only_entry().is_new());
    assert_eq!(cache.files(), ["cache"]);
    Some(waiting(&silent))
}

#[test]
fn one_of_those_that_want_to_ask_asks() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    cache.age(62);
    let count = late_to_lock("one_of_those_that_want_to_ask_asks", &port, &cache);
    assert!(matches!(count, None | Some(1)), "{count:?}");
}

#[test]
fn one_of_those_that_want_to_make_the_file_makes_it() {
    let (port, cache) = (Port::new(), Cache::new());
    let test = "one_of_those_that_want_to_make_the_file_makes_it";
    let count = late_to_lock(test, &port, &cache);
    assert!(count.is_none_or(|count| count > 0));
}

/// A claim ends with its process.
#[test]
fn a_killed_process_is_replaced_at_once() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    cache.age(65);
    let silent = port.listen("127.0.0.2", 16);
    for _ in 0..3 {
        let asking = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 1);
        let _client = smtp::accept(&silent);
        assert!(cache.only_entry().is_claimed());
        for asked in [0, 15] {
            cache.claim(asked);
            let run = cache.check(&port, "-v --timeout=20 127.0.0.2").run();
            run.answers("").at_once();
            assert!(matches!(memory(&run), Memory::Asked(_)), "{run}");
        }
        assert_eq!(waiting(&silent), 0);
        cache.claim(0);
        drop(asking);
    }
    let check = cache.check(&port, "--timeout=1 127.0.0.2");
    check.run().prints("").after(SLOW);
    assert_eq!(waiting(&silent), 1);
    assert!(cache.only_entry().is_new());
}

/// A process that has claimed an entry and does not go on is waited for no
/// longer than a timeout and a second: after that everybody asks.
#[test]
fn a_stopped_process_is_not_waited_for() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    cache.age(100);
    let silent = port.listen("127.0.0.2", 16);
    let asking = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 1);
    let _client = smtp::accept(&silent);
    signal("STOP", asking.children[0].id());
    let run = || {
        let run = cache.check(&port, "-v --timeout=20 127.0.0.2").run();
        run.answers("").at_once();
        memory(&run)
    };
    for asked in [0, 15] {
        cache.claim(asked);
        assert!(matches!(run(), Memory::Asked(_)));
    }
    assert_eq!(waiting(&silent), 0);
    // To find out that nobody is there is quick, and erases the entry.
    close(vec![silent]);
    cache.claim(23);
    let claimed = cache.bytes();
    for _ in 0..2 {
        cache.write(&claimed, 0);
        assert_eq!(run(), Memory::None);
        assert_eq!(cache.entries(), []);
    }
}

/// Servers of which only the first is up, so it seems: the second one has an
/// expired entry, but is back.
struct Back {
    port: Port,
    cache: Cache,
    expired: Vec<u8>,
    _servers: [smtp::Server; 2],
}

impl Back {
    fn new() -> Self {
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.3");
        cache.age(20);
        Back {
            expired: cache.bytes(),
            // A check of both has its answer before the second one greets.
            _servers: [
                port.serve("127.0.0.2", UP),
                port.serve("127.0.0.3", &up_after(ms(400))),
            ],
            port,
            cache,
        }
    }

    /// Checks both: it asks the second one, and loses interest.
    fn both(&self) {
        let words = "--timeout=1 --cache-ttl=2 127.0.0.2 127.0.0.3";
        let run = self.cache.check(&self.port, words).run();
        run.prints("127.0.0.2");
    }

    /// Does so for some time.
    fn both_for(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.both();
        }
    }

    /// Checks the second one alone. Returns whether it was asked.
    #[track_caller]
    fn ask(&self) -> bool {
        let words = "-v --timeout=1 --cache-ttl=2 127.0.0.3";
        let run = self.cache.check(&self.port, words).run();
        run.at_once();
        let is_asked = !run.stderr.contains("remembered");
        // A second may be too short on a busy machine.
        if is_asked && run.elapsed() < SLOW {
            run.answers("127.0.0.3");
        }
        is_asked
    }
}

#[test]
fn a_server_that_is_back_is_seen_at_once_where_nobody_asks() {
    let back = Back::new();
    for _ in 0..5 {
        back.cache.write(&back.expired, 0);
        (0..3).for_each(|_| back.both());
        assert_ne!(back.cache.only_entry().asked, 0);
        assert!(back.ask());
    }
}

/// However many processes have claimed the entry since it expired, the first
/// of them counts.
#[test]
fn a_server_that_is_back_is_seen_whoever_has_lost_interest() {
    let back = Back::new();
    back.cache.write(&back.expired, 0);
    back.both_for(ms(3000));
    assert_ne!(back.cache.only_entry().asked, 0);
    let _lock = back.cache.lock();
    assert!(back.ask());
}

/// Whoever has the lock.
#[test]
fn a_server_that_is_back_is_seen_after_a_timeout_and_a_second() {
    let back = Back::new();
    back.cache.write(&back.expired, 0);
    let _lock = back.cache.lock();
    let began = Instant::now();
    assert!(!back.ask());
    while !back.ask() {
        assert!(began.elapsed() < ms(2000) + SLACK);
        thread::sleep(ms(10));
    }
    // As the file has it, in whole seconds.
    assert!(began.elapsed() > ms(1000), "{:?}", began.elapsed());
}

/// While others go on asking and losing interest.
#[test]
fn a_server_that_is_back_is_seen_in_a_crowd() {
    let back = Back::new();
    thread::scope(|scope| {
        back.cache.write(&back.expired, 0);
        for _ in 0..4 {
            scope.spawn(|| back.both_for(ms(4000)));
        }
        // More than a timeout and a second, by the clock of the file.
        thread::sleep(ms(3000));
        assert!(back.ask());
    });
}
