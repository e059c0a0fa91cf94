//! Long lists: the deadline holds, and what has to be worked out takes little
//! of this machine's time.

use std::time::Duration;

use crate::harness::run::{Check, Run, has, ms};
use crate::harness::smtp::{Port, SILENT};
use crate::harness::{dns, namespace};

/// Runs a check, and returns the processor time that it took as well.
fn measure(words: &str) -> (Run, Duration) {
    // The second line of `times` is that of the children.
    let script = "\"$0\" \"$@\"; status=$?; times >&2; exit $status";
    let mut run = Check::words(words).shell(script).run();
    let mut lines: Vec<_> = run.stderr.split_inclusive('\n').collect();
    let times = lines.split_off(lines.len() - 2)[1];
    let times = times.split_whitespace().map(|time| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        let minutes: f64 = minutes.parse().unwrap();
        Duration::from_secs_f64(60.0 * minutes + seconds.parse::<f64>().unwrap())
    });
    let time = times.sum();
    run.stderr = lines.concat();
    (run, time)
}

/// Twice the timeout of each run, for a busy machine and a program that is not
/// optimised: where what is known is worked out anew for each of the servers at
/// each answer, it is many times the timeout.
const MOST: Duration = ms(10_000);

/// 1,000 stop hosts, and 2,000 servers after this pattern, in which `N` stands
/// for a number.
fn long_list(pattern: &str) -> String {
    let stops = (0..1000).map(|n| format!("--stop me{n}.test "));
    let servers = (0..2000).map(|n| pattern.replace('N', &n.to_string()) + " ");
    stops.chain(servers).collect()
}

/// Each stop host has an address of its own.
fn stop_hosts() -> String {
    let host = |n| {
        let address = format!("198.18.{}.{}", n / 250, n % 250);
        format!("me{n}.test A {address}\nme{n}.test AAAA nodata\n")
    };
    (0..1000).map(host).collect()
}

#[test]
fn many_stop_hosts_and_servers() {
    namespace::run(|| {
        // Refused, one by one.
        let _names = dns::serve(&(stop_hosts() + "* A 192.0.2.240\n* AAAA nodata"));
        for pattern in ["10:mxN.test", "N:mxN.test", "mxN.test"] {
            // The C library asks again after five seconds where a busy machine
            // loses a query, and without all stop hosts there is no answer.
            let words = format!("--timeout=15 {}", long_list(pattern));
            let (run, time) = measure(&words);
            run.prints("");
            assert!(run.elapsed() < ms(15_000) + MOST, "{run}");
            assert!(time < MOST, "{time:?}{run}");
        }
    });
}

#[test]
fn many_stop_hosts_and_servers_that_do_not_answer() {
    namespace::run(|| {
        let _names = dns::serve(&(stop_hosts() + "* A 192.0.2.251\n* AAAA nodata"));
        let _silent = Port::smtp().serve("192.0.2.251", SILENT);
        // As above, all stop hosts are to be found.
        let words = format!("--timeout=12 {}", long_list("10:mxN.test"));
        let (run, time) = measure(&words);
        run.prints("");
        assert!(
            (ms(12_000)..ms(12_000) + MOST).contains(&run.elapsed()),
            "{run}"
        );
        assert!(time < MOST, "{time:?}{run}");
    });
}

#[test]
fn many_lookups_that_are_not_answered() {
    namespace::run(|| {
        let _names = dns::serve("* A silent\n* AAAA nodata");
        let words = format!("--timeout=5 {}", long_list("10:mxN.test"));
        let (run, time) = measure(&words);
        run.fails();
        assert!(
            (ms(5000)..ms(5000) + MOST).contains(&run.elapsed()),
            "{run}"
        );
        assert!(time < MOST, "{time:?}{run}");
    });
}

/// Hosts that are named twice, in two priorities, and whose lookups end one by
/// one: the lists of those who may be the answer are alike for long.
#[test]
fn many_hosts_in_two_priorities() {
    namespace::run(|| {
        let late = |n: u32, kind: &str, answer: &str| {
            format!("mx{n}.test {kind} after {} {answer}\n", 20 + n * 37 % 190)
        };
        let zone = (0..2000).map(|n| late(n, "A", "192.0.2.240") + &late(n, "AAAA", "nodata"));
        let _names = dns::serve(&zone.collect::<String>());
        let address = |n| format!("198.18.{}.{}", n / 250, n % 250);
        let twice = (0..1500).map(|n| format!("10:{0} 20:{0} ", address(n)));
        let once = (0..2000).map(|n| format!("{}:mx{n}.test ", 10 + n % 2 * 10));
        let servers: String = twice.chain(once).collect();
        let (run, time) = measure(&format!("--timeout=5 --stop 127.0.0.9 {servers}"));
        run.prints("");
        assert!(
            (ms(5000)..ms(5000) + MOST).contains(&run.elapsed()),
            "{run}"
        );
        assert!(time < MOST, "{time:?}{run}");
    });
}

/// The time that it takes to make the cache is part of the timeout.
#[test]
fn a_slow_disk_has_no_time_of_its_own() {
    let test = "a_slow_disk_has_no_time_of_its_own";
    namespace::run(|| {
        if !has("strace", test) {
            return;
        }
        let _silent = Port::smtp().serve("192.0.2.251", SILENT);
        let words = "--timeout=5.5 --cache=/etc/empty/cache 192.0.2.251";
        let run = Check::words(words)
            .injecting("fdatasync,fsync", "delay_enter=5000000")
            .run();
        run.prints("").after(ms(5500));
    });
}
