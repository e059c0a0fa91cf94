//! Probes by address: the deadline, the port, how many at a time, and servers
//! that fail in other ways than by their greeting.

use std::time::{Duration, Instant};

use crate::harness::run::{each, ms};
use crate::harness::smtp::{
    Connection, DOWN, Port, SILENT, Send, Server, UP, Wait, down_after, up_after,
};

/// So many servers, from 127.0.1.1 on, and their addresses.
fn many(port: &Port, count: usize, script: &[crate::harness::smtp::Step]) -> (Vec<Server>, String) {
    let addresses: Vec<_> = (1..=count).map(|n| format!("127.0.1.{n}")).collect();
    let servers = addresses.iter().map(|a| port.serve(a, script)).collect();
    (servers, addresses.join(" "))
}

fn connections(servers: Vec<Server>) -> Vec<Connection> {
    servers.into_iter().flat_map(Server::finish).collect()
}

/// How many of the connections there were at the same time, for so long: a
/// server sees the end of one connection later than the beginning of the next.
fn most_at_a_time(connections: &[Connection], while_at_least: Duration) -> usize {
    let during = |moment: Instant| {
        let open = |c: &&Connection| c.accepted <= moment && moment < c.ended;
        connections.iter().filter(open).count()
    };
    let moments = connections.iter().map(|c| c.accepted + while_at_least);
    moments.map(during).max().unwrap()
}

#[test]
fn all_servers_are_probed_at_the_same_time() {
    let port = Port::new();
    let (servers, list) = many(&port, 40, &down_after(ms(1500)));
    port.check(&list).run().prints("").after(ms(1500));
    let connections = connections(servers);
    assert_eq!(connections.len(), 40);
    assert_eq!(most_at_a_time(&connections, ms(0)), 40);
}

#[test]
fn all_deadlines_begin_together() {
    let port = Port::new();
    let (_servers, list) = many(&port, 40, SILENT);
    let words = format!("--timeout 1.5 {list}");
    port.check(&words).run().prints("").after(ms(1500));
}

#[test]
fn the_timeout_is_the_one_given() {
    let rows = [
        ("--timeout 0.5", SILENT, "", 500),
        ("--timeout=.25", SILENT, "", 250),
        ("--timeout 1", SILENT, "", 1000),
        ("--timeout 2.", SILENT, "", 2000),
        ("--timeout 1.125", SILENT, "", 1125),
        (
            "--timeout 0.5 --timeout 6",
            &up_after(ms(1200)),
            "127.0.0.2",
            1200,
        ),
        ("--timeout 0.5", &up_after(ms(3000)), "", 500),
        // Ten seconds where none is given, and none at all where it is 0.
        ("", SILENT, "", 10_000),
        ("", &up_after(ms(7000)), "127.0.0.2", 7000),
        ("--timeout 0", &up_after(ms(11_000)), "127.0.0.2", 11_000),
        ("--timeout 0.0", &down_after(ms(11_000)), "", 11_000),
        ("--timeout 15", &up_after(ms(11_000)), "127.0.0.2", 11_000),
    ];
    each(&rows, |(option, script, answer, after)| {
        let port = Port::new();
        let _server = port.serve("127.0.0.2", script);
        let check = port.check(&format!("{option} 127.0.0.2"));
        check.run().prints(answer).after(ms(*after));
    });
}

/// Neither refused, nor accepted and never read, nor unanswered is an error.
#[test]
fn servers_that_do_not_answer_are_down() {
    let port = Port::new();
    let _queue = port.listen("127.0.0.3", 16);
    let _full = port.full("127.0.0.4");
    let rows = [
        ("127.0.0.2", 0),
        ("127.0.0.2 127.0.0.5 127.0.0.6", 0),
        ("127.0.0.3", 1500),
        ("127.0.0.4", 1500),
        ("127.0.0.2 127.0.0.3 127.0.0.4", 1500),
        ("0.0.0.0", 0),
    ];
    each(&rows, |(list, after)| {
        let check = port.check(&format!("--timeout=1.5 {list}"));
        check.run().prints("").after(ms(*after));
    });
    let _up = port.serve("127.0.0.7", UP);
    let list = "--timeout=1.5 127.0.0.2 127.0.0.4 127.0.0.7";
    port.check(list).run().prints("127.0.0.7").after(ms(1500));
    let list = "--timeout=20 127.0.0.7 127.0.0.3 127.0.0.4";
    port.check(list).run().prints("127.0.0.7").at_once();
}

#[test]
fn the_port_is_the_one_given() {
    let (port, other) = (Port::new(), Port::new());
    let _down = port.serve("127.0.0.2", DOWN);
    let _up = other.serve("127.0.0.2", UP);
    port.check("127.0.0.2").run().prints("");
    other.check("127.0.0.2").run().prints("127.0.0.2");
}

#[test]
fn jobs_limits_how_many_are_probed_at_a_time() {
    let rows = [(1, 4), (2, 6), (3, 7), (7, 7), (100, 8)];
    each(&rows, |(jobs, count)| {
        let port = Port::new();
        let (servers, list) = many(&port, *count, &down_after(ms(500)));
        let rounds = u32::try_from(count.div_ceil(*jobs)).unwrap();
        let run = port.check(&format!("--jobs {jobs} {list}")).run();
        run.prints("").after(ms(500) * rounds);
        let connections = connections(servers);
        assert_eq!(connections.len(), *count, "{run}");
        assert!(
            most_at_a_time(&connections, ms(250)) <= *jobs,
            "{run}{connections:?}"
        );
    });
}

#[test]
fn jobs_1_probes_in_succession_each_with_its_own_deadline() {
    let port = Port::new();
    let (silent, list) = many(&port, 2, SILENT);
    let later = port.serve("127.0.0.2", &up_after(ms(700)));
    let last = port.serve("127.0.0.3", UP);
    let words = format!("--jobs 1 --timeout 2 {list} 127.0.0.2 127.0.0.3");
    let run = port.check(&words).run();
    run.prints("127.0.0.2").after(ms(4700));
    let connections = connections(silent);
    for pair in connections.windows(2) {
        let between = pair[1].accepted - pair[0].accepted;
        // A busy machine may show a server its client a little late.
        assert!(between > ms(1950), "{run}{between:?}");
    }
    assert_eq!(later.count(), 1);
    assert_eq!(last.count(), 0, "the answer was known");
}

/// With two at a time, the second place is taken again as soon as it is free.
#[test]
fn jobs_begin_when_another_ends() {
    let port = Port::new();
    let slow = port.serve("127.0.0.2", &down_after(ms(1500)));
    let (servers, list) = many(&port, 4, &down_after(ms(100)));
    let check = port.check(&format!("--jobs 2 127.0.0.2 {list}"));
    check.run().prints("").after(ms(1500));
    let until = slow.only().ended;
    assert!(connections(servers).iter().all(|c| c.ended < until));
}

/// The answer comes with the byte that decides it. A busy machine may miss
/// that now and then, but not always.
#[test]
fn the_answer_comes_within_milliseconds() {
    let script = [Send(b"22"), Wait(ms(150)), Send(b"0 mx.test\r\n")];
    let soonest = |measure: &dyn Fn() -> Duration| (0..20).map(|_| measure()).min().unwrap();

    let after_the_byte = soonest(&|| {
        let port = Port::new();
        let server = port.serve("127.0.0.2", &script);
        let run = port.check("127.0.0.2").run();
        run.prints("127.0.0.2");
        run.ended.saturating_duration_since(server.only().sent)
    });
    assert!(after_the_byte < ms(20), "{after_the_byte:?}");

    let in_all = soonest(&|| {
        let port = Port::new();
        let _server = port.serve("127.0.0.2", UP);
        port.check("127.0.0.2").run().elapsed()
    });
    assert!(in_all < ms(40), "{in_all:?}");
}
