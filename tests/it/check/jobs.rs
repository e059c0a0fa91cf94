//! How many servers are probed at a time, and when their time begins.

use std::time::{Duration, Instant};

use crate::harness::namespace;
use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{Connection, Port, SILENT, Server, UP, down_after, up_after};

/// So many servers, from 127.0.1.1 on, and their addresses.
fn many(port: &Port, count: usize, script: &[crate::harness::smtp::Step]) -> (Vec<Server>, String) {
    let addresses: Vec<_> = (1..=count).map(|n| format!("127.0.1.{n}")).collect();
    let servers = addresses.iter().map(|a| port.serve(a, script)).collect();
    (servers, addresses.join(" "))
}

fn connections(servers: Vec<Server>) -> Vec<Connection> {
    servers.into_iter().flat_map(Server::finish).collect()
}

/// How many of the connections were open at the same time. Overlaps shorter than
/// this do not count: a server sees one connection end after the next begins.
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
fn a_thousand_servers_that_do_not_answer() {
    namespace::run(|| {
        let list: String = (0..1000)
            .map(|n| format!(" 198.18.{}.{}", n / 250, n % 250))
            .collect();
        let run = Check::words(&format!("--timeout=2 {list}")).run();
        run.prints("").after(ms(2000));
        assert!(run.elapsed() < ms(3500), "{run}");
    });
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
        // On a busy machine a server may accept a client a little late.
        assert!(between > ms(1950), "{run}{between:?}");
    }
    assert_eq!(later.count(), 1);
    assert_eq!(last.count(), 0, "the answer was known");
}

/// With two at a time, another one begins as soon as one has ended.
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
