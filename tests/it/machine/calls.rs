//! The system calls of a check.

use crate::harness::run::Run;
use crate::harness::smtp::{DOWN, Port, SILENT, UP};
use crate::harness::{dns, namespace};

/// The system calls of a check, a line each; `None` if strace is not installed.
fn system_calls(test: &str, port: &Port, words: &str, answer: &str) -> Option<Vec<String>> {
    let run = port.check(words).traced(test)?.run();
    run.answers(answer);
    Some(calls_of(&run))
}

pub fn calls_of(run: &Run) -> Vec<String> {
    let calls: Vec<_> = run.stderr.lines().map(String::from).collect();
    assert!(calls.iter().any(|call| call.contains("connect(")), "{run}");
    calls
}

pub fn count(calls: &[String], name: &str) -> usize {
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

/// However many names there are, and even if no lookup ends.
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

/// One turn for the connection, one until the deadline. A timeout that is rounded
/// down would end too soon, and cause many more.
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
