//! What this machine's limits and its speed change, and what is asked of the
//! kernel. `make emulate` leaves these tests out, by the word `machine`, with
//! those of `check`.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::files::{Servers, TOO_LARGE, irregular, warning};
use super::users::give_to_nobody;
use super::{Cache, Crowd, Entry, Memory, Random, SIZE, SLOW, close, memory, now, quick, waiting};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::{Run, each, has, ms};
use crate::harness::smtp::{DOWN, Port, UP, down_after};
use crate::harness::{dns, smtp};

/// A process that may have no thread does not learn anything of the server.
#[test]
fn a_failure_of_this_machine_is_neither_remembered_nor_forgotten() {
    namespace::run(|| {
        let test = "a_failure_of_this_machine_is_neither_remembered_nor_forgotten";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let cache = Cache::in_folder(Path::new(FOLDER));
        let _names = dns::serve("mx.test A 192.0.2.1\nmx.test AAAA nodata");
        let port = Port::smtp();
        let check = |limit: &[&str]| {
            let check = cache.check(&port, "--timeout=1 mx.test");
            check
                .copy(&namespace::copy_program())
                .under(namespace::unprivileged())
                .under(limit)
                .run()
        };
        give_to_nobody(&cache.folder);
        check(&["prlimit", "--nproc=0"]).fails();
        assert_eq!(cache.entries(), []);
        check(&[]).prints("");
        cache.age(65);
        check(&["prlimit", "--nproc=0"]).fails();
        assert!(cache.only_entry().is_claimed());
    });
}

/// Where there are not enough descriptors for all servers before the time is
/// over, nothing is learned about those that were not asked.
#[test]
fn servers_not_asked_for_want_of_descriptors_are_not_forgotten() {
    let test = "servers_not_asked_for_want_of_descriptors_are_not_forgotten";
    if !has("prlimit", test) {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    let hosts: Vec<_> = (1..=12).map(|n| format!("127.0.1.{n}")).collect();
    let list = hosts.join(" ");
    cache.remember(&port, &list);
    let count = cache.entries().len();
    cache.age(65);
    let silent = port.listen("0.0.0.0", 1024);
    let check = cache.check(&port, &format!("--timeout=1 {list}"));
    let run = check.under(&["prlimit", "--nofile=8:8"]).run();
    run.fails().after(SLOW);
    // Five beside the standard ones, and none after the time.
    let asked = waiting(&silent);
    assert!((1..=5).contains(&asked), "{asked} asked: {run}");
    let entries = cache.entries();
    // Some may share a slot.
    assert_eq!(entries.len(), count, "{entries:?}");
    let new = entries.iter().filter(|entry| entry.is_new());
    assert!(new.count() <= asked, "{entries:?}");
}

#[test]
fn a_remembered_server_costs_no_socket_and_few_system_calls() {
    // A hosts file that has localhost.
    namespace::run(|| {
        let port = Port::new();
        for (host, server) in [("127.0.0.2", "127.0.0.2"), ("localhost", "10:localhost")] {
            let cache = Cache::new();
            cache.remember(&port, host);
            let silent = port.listen("0.0.0.0", 16);
            let check = cache.check(&port, server);
            let test = "a_remembered_server_costs_no_socket_and_few_system_calls";
            let Some(check) = check.traced(test) else {
                return;
            };
            let run = check.run();
            let calls: Vec<_> = run.stderr.lines().collect();
            let has = |word: &str| calls.iter().any(|call| call.contains(word));
            for name in ["socket", "connect", "clone", "eventfd"] {
                // A path may have such a word as well.
                let is_it = |call: &&str| {
                    let called = call.split_whitespace().nth(1);
                    called.is_some_and(|called| called.starts_with(name))
                };
                assert!(!calls.iter().any(is_it), "{name}: {calls:#?}");
            }
            assert!(!has("/etc/hosts") && !has("SETLK"), "{calls:#?}");
            // A dynamic program's loader has its own.
            let own = calls
                .iter()
                .skip_while(|call| has("ld.so.cache") && !call.contains("/cache\""));
            let own = own.count();
            assert!(own <= 20, "{own}: {calls:#?}");
            let path = cache.path();
            let path = path.to_str().unwrap();
            let opens = calls
                .iter()
                .filter(|call| call.contains("open") && call.contains(path));
            let opens: Vec<_> = opens.collect();
            assert_eq!(opens.len(), 1, "{calls:#?}");
            for flag in ["O_RDWR", "O_NOFOLLOW", "O_CLOEXEC"] {
                assert!(opens[0].contains(flag), "{opens:?}");
            }
            assert_eq!(waiting(&silent), 0);
            close(vec![silent]);
        }
    });
}

/// Killed while they make the file, claim an entry or erase one.
#[test]
fn a_thousand_processes_killed() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2 127.0.0.3");
    cache.age(5);
    let expired = cache.bytes();
    let _silent = port.listen("127.0.0.2", 1024);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let began = now();
    let (mut ended, mut made, mut claimed, mut erased) = (0, 0, 0, 0);
    for round in 0..250 {
        match round % 3 {
            0 => drop(fs::remove_file(cache.path())),
            1 => fs::write(cache.path(), &expired).unwrap(),
            _ => {}
        }
        // The second one refuses: its entry is erased.
        let words = "--timeout=.001 --cache-ttl=3 127.0.0.2 127.0.0.3";
        let mut crowd = Crowd::new(&cache, &port, words, 4);
        for child in &mut crowd.children {
            thread::sleep(Duration::from_micros(random.next() % 3000 / 2));
            child.kill().unwrap();
            ended += usize::from(child.wait().unwrap().success());
        }
        for file in cache.files() {
            assert!(["cache", "cache.new"].contains(&&*file), "{file}");
        }
        if cache.path().exists() {
            let mut entries = cache.entries();
            // One that another process has just erased may get the time since
            // when it was asked again, and is as empty.
            entries.retain(|entry| entry.tag != 0 || entry.down != 0);
            made += usize::from(round % 3 == 0);
            erased += usize::from(round % 3 == 1 && entries.len() < 2);
            for entry in entries {
                assert_eq!(entry.down, began - 5, "{entry:?}");
                let is_claimed = (began..=now()).contains(&entry.asked);
                assert!(is_claimed || entry.asked == 0, "{entry:?}");
                claimed += usize::from(is_claimed);
            }
        }
        let unfinished = fs::metadata(cache.new_path()).map_or(0, |found| found.len());
        assert!([0, SIZE as u64].contains(&unfinished), "{unfinished}");
    }
    // Otherwise this was not worth much.
    let counts = [ended, made, claimed, erased];
    assert!(ended < 1000 && !counts.contains(&0), "{counts:?}");

    // Whatever is left behind, the cache can be used, and made anew.
    for delete in [false, true] {
        if delete {
            fs::remove_file(cache.path()).unwrap();
        }
        let check = |words: &str| cache.check(&port, words).run();
        check("--timeout=1 127.0.0.2").prints("").after(SLOW);
        cache.age(0);
        let run = check("-v --timeout=20 127.0.0.2");
        assert_ne!(memory(&run), Memory::None, "{run}");
    }
    assert_eq!(cache.files(), ["cache"]);
}

/// Opening may already do something to what is no file.
#[test]
fn only_regular_files_are_opened() {
    let port = Port::new();
    for make in irregular() {
        let cache = Cache::new();
        make(&cache.path());
        let check = cache.check(&port, "127.0.0.2");
        let Some(check) = check.traced("only_regular_files_are_opened") else {
            return;
        };
        let run = check.run();
        let path = cache.path();
        let path = path.to_str().unwrap();
        let open = |call: &&str| call.contains("open") && call.contains(path);
        assert_eq!(run.stderr.lines().find(open), None);
    }
}

/// The entry that was there has been claimed and no more, and another server
/// is remembered.
#[track_caller]
fn assert_left(cache: &Cache, old: Entry, run: &Run) {
    let entries = cache.entries().into_iter();
    let (old_ones, others): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.tag == old.tag);
    let [new] = others[..] else {
        panic!("{run}{others:?}");
    };
    assert!(new.is_new(), "{run}{new:?}");
    match old_ones[..] {
        [old] => assert!(old.is_claimed(), "{run}{old:?}"),
        _ => assert_eq!(new.slot(), old.slot(), "{run}"),
    }
}

/// The same where the system has no memory for it.
#[test]
fn servers_not_asked_for_want_of_means_are_not_forgotten() {
    // A hosts file that has localhost.
    namespace::run(|| {
        let test = "servers_not_asked_for_want_of_means_are_not_forgotten";
        if !has("strace", test) {
            return;
        }
        // Of two connections the second cannot be made, or no lookup.
        let rows = [
            ("socket", "ENOBUFS:when=2+", "127.0.0.3"),
            ("eventfd2", "ENOMEM:when=1+", "localhost"),
            // A thread is to be had only when the time is over.
            ("clone,clone3", "EAGAIN:when=1", "localhost"),
        ];
        each(&rows, |(call, error, other)| {
            let (port, cache) = (Port::new(), Cache::new());
            cache.remember(&port, other);
            cache.age(65);
            let old = cache.only_entry();
            let silent = port.listen("0.0.0.0", 16);
            let check = cache.check(&port, &format!("--timeout=1 127.0.0.2 {other}"));
            let run = check.injecting(call, &format!("error={error}")).run();
            run.fails().after(SLOW);
            assert_eq!(waiting(&silent), 1, "{run}");
            assert_left(&cache, old, &run);
        });
    });
}

/// A connection that could only be begun when another server was done may
/// have had too little time. One that is refused soon is as good as any.
#[test]
fn servers_that_were_asked_late_are_not_remembered() {
    if !has("strace", "servers_that_were_asked_late_are_not_remembered") {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.3");
    cache.age(65);
    let (old, entry) = (cache.bytes(), cache.only_entry());
    let check = || {
        cache.write(&old, 0);
        let check = cache.check(&port, "--timeout=3 127.0.0.2 127.0.0.3");
        let run = check.injecting("socket", "error=ENOBUFS:when=2").run();
        run.prints("");
        run
    };
    let first = port.serve("127.0.0.2", &down_after(ms(300)));
    quick(check).after(ms(300));
    assert_eq!(cache.entries(), []);
    drop(first);

    // A second later it is not known why it was slow.
    let _first = port.serve("127.0.0.2", &down_after(SLOW));
    let run = check();
    run.after(SLOW);
    assert_left(&cache, entry, &run);

    let silent = port.listen("127.0.0.3", 16);
    let run = check();
    run.after(ms(3000));
    assert_eq!(waiting(&silent), 1, "{run}");
    assert_left(&cache, entry, &run);
}

/// Where descriptors are short, the one of the file is better used for a
/// server. What was remembered counts all the same.
#[test]
fn the_file_gives_way_to_a_connection() {
    if !has("prlimit", "the_file_gives_way_to_a_connection") {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.4");
    let servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let remembered = port.serve("127.0.0.4", UP);
    let rows = [
        ("127.0.0.2", "127.0.0.2"),
        ("127.0.0.4", ""),
        ("127.0.0.4 127.0.0.3 127.0.0.2", "127.0.0.2"),
        ("127.0.0.3", ""),
    ];
    for (words, answer) in rows {
        let check = cache.check(&port, words).first("--timeout=20");
        let check = check.under(&["prlimit", "--nofile=4:4"]);
        check.run().prints(answer).at_once();
    }
    assert_eq!(servers.map(smtp::Server::count), [2, 2]);
    assert_eq!(remembered.count(), 0);
    assert!(cache.only_entry().is_new());
}

/// What another process writes just before an entry is read does not come from
/// the future: the clock is looked at after that.
#[test]
fn the_clock_is_read_after_the_entry() {
    if !has("strace", "the_clock_is_read_after_the_entry") {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    let path = cache.path();
    // The first read is that of the header. The second takes three seconds, in
    // which the time of the entry comes.
    cache.change(|entry| entry.down = now() + 2);
    let check = cache.check(&port, "-v --timeout=20 127.0.0.2");
    let check = check.injecting("pread64", "delay_enter=3000000:when=2");
    let run = check.under(&["-P", path.to_str().unwrap()]).run();
    run.answers("").after(ms(3000));
    assert!(matches!(memory(&run), Memory::Down(0..10)), "{run}");
}

/// A file that may not be so large, or not be written that far. The write
/// sends a signal (SIGXFSZ), of which the program must not die.
#[test]
fn files_that_may_not_grow() {
    if !has("prlimit", "files_that_may_not_grow") {
        return;
    }
    let servers = Servers::new(Port::new());
    each(&["--fsize=0", "--fsize=4096", "--fsize=262143"], |limit| {
        let cache = Cache::new();
        let path = cache.path();
        servers.warn(&path, TOO_LARGE, |check| check.under(&["prlimit", limit]));
        assert!(!path.exists());
    });
    let cache = Cache::new();
    let check = |words: &str| {
        let check = cache.check(&servers.port, words);
        check.under(&["prlimit", "--fsize=262144"]).run()
    };
    check("--timeout=1 127.0.0.4").prints("").after(SLOW);
    check("--timeout=20 127.0.0.4").prints("").at_once();

    let _silent = servers.port.listen("127.0.0.5", 16);
    // A file that is there, with an entry that is good, has expired, or is not
    // there.
    for (age, words, answer, after) in [
        (0, "--timeout=20 127.0.0.4", "", 0),
        (65, "--timeout=1 127.0.0.4", "", 1000),
        (0, "--timeout=1 127.0.0.5", "", 1000),
        (0, "127.0.0.2", "127.0.0.2", 0),
    ] {
        cache.age(age);
        let before = cache.bytes();
        let check = cache.check(&servers.port, words);
        let run = check.under(&["prlimit", "--fsize=0"]).run();
        run.answers(answer).after(ms(after));
        let warning = warning(&cache.path(), TOO_LARGE);
        let expected = if after > 0 { &*warning } else { "" };
        assert_eq!(run.stderr, expected, "{run}");
        assert_eq!(cache.bytes(), before);
    }
}

/// The system has no locks to give, or knows nothing random: each is a reason
/// to do without the file.
#[test]
fn calls_that_fail() {
    if !has("strace", "calls_that_fail") {
        return;
    }
    let servers = Servers::new(Port::new());
    let rows = [
        ("fcntl", "error=ENOLCK", "no locks available"),
        ("getrandom", "error=ENOSYS", "system error 38"),
        ("fdatasync", "error=EIO", "input/output error"),
    ];
    each(&rows, |(call, error, reason)| {
        let cache = Cache::new();
        servers.warn(&cache.path(), reason, |check| check.injecting(call, error));
        assert!(!cache.path().exists());
    });

    // An expired entry cannot be claimed: everybody asks.
    let cache = Cache::new();
    let check = |words: &str| cache.check(&servers.port, words);
    check("--timeout=1 127.0.0.4").run().prints("");
    cache.age(65);
    let check = check("--timeout=1 127.0.0.4 127.0.0.2");
    let run = check.injecting("fcntl", "error=ENOLCK").run();
    run.answers("127.0.0.2").after(SLOW);
    assert_eq!(
        run.stderr,
        warning(&cache.path(), "no locks available"),
        "{run}"
    );
    assert!(cache.only_entry().is_new(), "it is remembered all the same");

    // Before anything random is known a file is not made, without a word.
    let cache = Cache::new();
    let check = cache.check(&servers.port, "127.0.0.2");
    let run = check.injecting("getrandom", "error=EAGAIN").run();
    run.prints("127.0.0.2");
    assert!(!cache.path().exists());
}

/// An error counts, though the file was closed for its descriptor afterwards.
#[test]
fn an_early_error_is_reported() {
    if !has("prlimit", "an_early_error_is_reported") {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    cache.age(65);
    let server = port.serve("127.0.0.2", UP);
    let before = cache.bytes();
    let check = cache.check(&port, "--timeout=20 127.0.0.2");
    let run = check.under(&["prlimit", "--fsize=0", "--nofile=4:4"]).run();
    run.answers("127.0.0.2").at_once();
    assert_eq!(run.stderr, warning(&cache.path(), TOO_LARGE), "{run}");
    assert_eq!(cache.bytes(), before);
    assert_eq!(server.count(), 1);
}

/// To make the file may take a disk some time.
#[test]
fn the_timeout_covers_making_the_file() {
    if !has("strace", "the_timeout_covers_making_the_file") {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    let silent = port.listen("127.0.0.2", 16);
    let check = cache.check(&port, "--timeout=7 127.0.0.2");
    let check = check.injecting("fdatasync", "delay_enter=5000000");
    check.run().prints("").after(ms(7000));
    assert_eq!(waiting(&silent), 1);
    // The server was asked late.
    assert_eq!(cache.entries(), []);
}
