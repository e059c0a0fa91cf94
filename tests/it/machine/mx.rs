//! `--mx` with too few descriptors or threads: status 2.

use std::fs;

use super::calls::{calls_of, count};
use super::{limited, make_root};
use crate::harness::run::{Check, each, has, has_all, has_glibc, ms};
use crate::harness::smtp::{Port, SILENT, UP};
use crate::harness::{dns, namespace};

const ZONE: &str = "
list.test MX 10:mx.test 20:me.test
mx.test A 127.0.0.2
mx.test AAAA nodata
me.test A 127.0.0.9
me.test AAAA nodata
late.test MX after 500 10:mx.test
";

fn cannot_look_up(why: &str) -> String {
    format!("cannot look up the mail servers of 'list.test': {why}")
}

#[test]
fn hardly_any_descriptors() {
    namespace::run(|| {
        let test = "hardly_any_descriptors";
        if !has_all(&["ldd", "prlimit"], test) || !namespace::has_unprivileged(test) {
            return;
        }
        let is_static = make_root();
        let _names = dns::serve(ZONE);
        let server = Port::smtp().serve("127.0.0.2", UP);
        let check = |limit: &str, words: &str| {
            let limit = format!("--nofile={limit}");
            let check = limited(words, &["prlimit", &limit]);
            check.first("--timeout=20").run()
        };
        let why = cannot_look_up("too many open files");
        // One wakes the loop, one is for the lookup. A loader needs one, too.
        let rows = if is_static {
            &["3:3", "4:4"][..]
        } else {
            &["4:4"]
        };
        for limit in rows {
            check(limit, "--mx list.test").fails_with(&why).at_once();
            let stop = "--stop me.test --mx list.test";
            check(limit, stop).fails_with(&why).at_once();
        }
        assert_eq!(server.count(), 0);

        let _server = Port::smtp().serve("127.0.0.2", UP);
        // With glibc, one of two lookups at a time may fail for what the other
        // has open, and say that there is no such name.
        let enough = if is_static { "5:5" } else { "12:12" };
        check(enough, "--mx list.test").prints("mx.test").at_once();
        // The limit is raised as far as that goes.
        for limit in if is_static {
            &["3:1024", "4:1024"][..]
        } else {
            &["4:1024"]
        } {
            for options in ["", "--stop me.test"] {
                let words = format!("{options} --mx list.test");
                check(limit, &words).prints("mx.test").at_once();
            }
        }
    });
}

/// Whichever call it is that fails.
#[test]
fn lookups_of_the_list_that_this_machine_fails() {
    namespace::run(|| {
        if !has("strace", "lookups_of_the_list_that_this_machine_fails") {
            return;
        }
        let _names = dns::serve(ZONE);
        let server = Port::smtp().serve("127.0.0.2", UP);
        let rows = [
            ("eventfd2", "EMFILE", "too many open files"),
            ("eventfd2", "ENFILE", "too many open files in system"),
            ("clone,clone3", "EAGAIN", "cannot create a thread"),
            ("socket", "EMFILE", "too many open files"),
            ("socket", "ENFILE", "too many open files in system"),
            ("socket", "ENOBUFS", "out of memory"),
            ("socket", "ENOMEM", "out of memory"),
        ];
        each(&rows, |(calls, error, why)| {
            let error = format!("error={error}");
            let check = Check::words("--timeout=20 --mx list.test").injecting(calls, &error);
            let run = check.run();
            run.fails_with(&cannot_look_up(why));
            run.at_once();
        });
        assert_eq!(server.count(), 0);
    });
}

#[test]
fn without_threads() {
    namespace::run(|| {
        let test = "without_threads";
        if !has("prlimit", test) || !namespace::has_unprivileged(test) {
            return;
        }
        let _names = dns::serve(ZONE);
        let server = Port::smtp().serve("127.0.0.2", UP);
        for options in ["", "--stop 127.0.0.9"] {
            let words = format!("{options} --mx list.test");
            let run = limited(&words, &["prlimit", "--nproc=0"]).run();
            run.fails_with(&cannot_look_up("cannot create a thread"));
            run.at_once();
        }
        assert_eq!(server.count(), 0);
    });
}

/// musl divides by the number of attempts; to glibc none is no answer.
#[test]
fn no_attempts() {
    namespace::run(|| {
        let _names = dns::serve(ZONE);
        let text = "nameserver 127.0.0.1\noptions attempts:0\n";
        fs::write("/etc/resolv.conf", text).unwrap();
        let run = Check::words("--timeout=20 --mx list.test").run();
        let reason = match has_glibc() {
            true => cannot_look_up("no usable answer from the name servers"),
            false => "cannot look up names: resolv.conf says 'attempts:0'".into(),
        };
        run.fails_with(&reason).at_once();
    });
}

/// One turn for the answer, and one thread for all lookups that follow one
/// another.
#[test]
fn waiting_for_the_list_is_not_busy() {
    namespace::run(|| {
        let _names = dns::serve(ZONE);
        let _silent = Port::smtp().serve("127.0.0.2", SILENT);
        let check = Check::words("-4 --timeout=1 --mx late.test");
        let Some(check) = check.traced("waiting_for_the_list_is_not_busy") else {
            return;
        };
        let run = check.run();
        run.answers("").after(ms(1000));
        let calls = calls_of(&run);
        let main = calls[0].split_whitespace().next().unwrap();
        let of_main = calls.iter().filter(|call| call.starts_with(main));
        let of_main: Vec<_> = of_main.cloned().collect();
        let polls = count(&of_main, "poll") + count(&of_main, "ppoll");
        // The list, the address, the connection, the deadline.
        assert!((1..=6).contains(&polls), "{calls:#?}");
        let threads = count(&calls, "clone") + count(&calls, "clone3");
        assert_eq!(threads, 1, "{calls:#?}");
    });
}
