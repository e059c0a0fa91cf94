//! Which name is printed, and when: as soon as nothing can change it.

use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Server, UP, Wait, down_after, up_after};
use crate::harness::{dns, namespace};

/// The servers of the table, and their addresses.
const SERVERS: [(&str, &str); 4] = [
    ("a", "127.0.0.2"),
    ("b", "127.0.0.3"),
    ("c", "127.0.0.4"),
    ("me", "127.0.0.9"),
];

/// Arguments, the servers that are up, the answer, and the servers that are
/// asked if all are given by address.
///
/// `me` is always up; a server that is not up greets with 554. `a` greets later
/// than `b`.
const TABLE: &[[&str; 4]] = &[
    ["a b", "b", "b", "a b"],
    ["a b", "a b", "a", "a b"],
    ["a b", "a", "a", "a b"],
    ["a b", "", "", "a b"],
    ["a", "a", "a", "a"],
    ["--stop me a me b", "b", "", "a"],
    ["--stop me a me b", "a b", "a", "a"],
    ["--stop me 10:a 10:me", "a", "", ""],
    ["--stop me 5:a 10:me", "a", "a", "a"],
    ["--stop me 5:a 10:me", "", "", "a"],
    ["--stop me 10:a 5:b 10:me", "a b", "b", "b"],
    ["--stop me 20:a 10:me", "a", "a", "a"],
    ["--stop me a 10:me", "a", "a", "a"],
    ["--stop me 10:a me", "a", "a", "a"],
    ["--stop me a me", "a", "a", "a"],
    ["--stop me 10:a 20:me 20:b 10:me", "a", "a", "a"],
    ["--stop me 10:a 20:me 5:b", "a b", "a", "a"],
    ["--stop me 10:a 20:me 5:b", "b", "", "a"],
    ["--stop me a b", "b", "b", "a b"],
    ["--stop me 20:a 10:b", "a b", "a", "a b"],
    ["--stop me me a b", "a b", "", ""],
    ["--stop me 10:me 5:a", "a", "", ""],
    ["--stop me 0:a 0:me", "a", "", ""],
    ["--stop me 10:a 20:b 20:c 20:me", "a b c", "a", "a"],
    ["--stop me 20:a 10:b 20:c 20:me", "a b c", "b", "b"],
    ["--stop me 20:a 20:b 20:c 20:me", "a b c", "", ""],
    ["--stop me --stop b a b c", "c", "", "a"],
    ["--stop b --stop me 10:a 20:b 10:me", "a", "a", "a"],
    ["--stop me --stop me a me b", "a", "a", "a"],
    // The address of b, whether servers are given by name or by address.
    ["--stop 127.0.0.3 10:a 10:b", "a b", "", ""],
    ["--stop 127.0.0.3 5:a 10:b", "a b", "a", "a"],
    // An address that no server of the list has.
    ["--stop 192.0.2.9 a b", "a b", "a", "a b"],
];

fn check_row(port: &Port, [arguments, up, answer, asked]: [&str; 4], by_name: bool) {
    let has = |list: &str, name: &str| list.split(' ').any(|word| word == name);
    let servers = SERVERS.map(|(name, address)| {
        let script = if has(up, name) || name == "me" {
            UP
        } else {
            DOWN
        };
        let delay = Wait(ms(if name == "a" { 150 } else { 0 }));
        port.serve(address, &[delay, script[0]])
    });
    let address = |word: &str| {
        let (name, address) = SERVERS.into_iter().find(|(name, _)| word == *name)?;
        Some(if by_name { name } else { address }.to_owned())
    };
    let translate = |word: &str| match word.split_once(':') {
        Some((priority, name)) => format!("{priority}:{}", address(name).unwrap()),
        None => address(word).unwrap_or(word.to_owned()),
    };
    let words: Vec<_> = arguments.split(' ').map(translate).collect();
    let run = port.check(&words.join(" ")).run();
    run.prints(&translate(answer)).at_once();
    for ((name, _), server) in SERVERS.into_iter().zip(servers) {
        let count = server.count();
        let expected = usize::from(has(asked, name));
        assert!(
            by_name || count == expected,
            "{run}{count} connections to {name}"
        );
    }
}

#[test]
fn the_table_by_address() {
    each(TABLE, |row| check_row(&Port::new(), *row, false));
}

#[test]
fn the_table_by_name() {
    namespace::run(|| {
        let _names = dns::serve("");
        let hosts = SERVERS.map(|(name, address)| format!("{address} {name}\n"));
        namespace::hosts(&hosts.concat());
        for row in TABLE {
            check_row(&Port::smtp(), *row, true);
        }
    });
}

/// Three servers of these kinds, at 127.0.0.2 to 4.
fn three(port: &Port, kinds: [&str; 3]) -> [Server; 3] {
    let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    std::array::from_fn(|i| match kinds[i] {
        "up" => port.serve(addresses[i], UP),
        "up later" => port.serve(addresses[i], &up_after(ms(2000))),
        "down" => port.serve(addresses[i], DOWN),
        "down later" => port.serve(addresses[i], &down_after(ms(2000))),
        "silent" => port.serve(addresses[i], SILENT),
        other => panic!("{other}"),
    })
}

/// Servers in the order of the list, seconds of timeout, the answer, and
/// milliseconds until it is given.
#[test]
fn the_answer_is_given_the_moment_it_is_known() {
    let rows = [
        (["up", "silent", "silent"], "20", "127.0.0.2", 0),
        (["up later", "up", "silent"], "20", "127.0.0.2", 2000),
        (["up later", "up later", "silent"], "20", "127.0.0.2", 2000),
        (["down", "up", "silent"], "20", "127.0.0.3", 0),
        (["down later", "up", "silent"], "20", "127.0.0.3", 2000),
        (
            ["down later", "up later", "silent"],
            "20",
            "127.0.0.3",
            2000,
        ),
        (["down later", "down", "up"], "20", "127.0.0.4", 2000),
        (["down later", "down later", "down later"], "20", "", 2000),
        (["down", "down", "up later"], "20", "127.0.0.4", 2000),
        (["silent", "up", "up"], "1.5", "127.0.0.3", 1500),
        (["silent", "silent", "up"], "1.5", "127.0.0.4", 1500),
        (["silent", "silent", "silent"], "1.5", "", 1500),
        (["up later", "silent", "up"], "0.5", "127.0.0.4", 500),
    ];
    each(&rows, |(kinds, timeout, answer, after)| {
        let port = Port::new();
        let _servers = three(&port, *kinds);
        let words = format!("--timeout {timeout} 127.0.0.2 127.0.0.3 127.0.0.4");
        port.check(&words).run().prints(answer).after(ms(*after));
    });
}

#[test]
fn a_server_given_twice_is_asked_once() {
    let lists = [
        "127.0.0.2 127.0.0.2",
        "10:127.0.0.2 20:127.0.0.2 127.0.0.2",
        "10:127.0.0.2 20:[::ffff:127.0.0.2]",
        "--jobs 1 127.0.0.2 127.0.0.2",
    ];
    each(&lists, |list| {
        let first = list.split(' ').find(|word| word.contains('.')).unwrap();
        let first = first.rsplit(':').next().unwrap();
        for (script, answer) in [(DOWN, ""), (UP, first)] {
            let port = Port::new();
            let server = port.serve("127.0.0.2", script);
            let run = port.check(list).run();
            run.prints(answer).at_once();
            assert_eq!(server.count(), 1, "{run}");
        }
    });
}

#[test]
fn a_name_given_twice_is_asked_once() {
    namespace::run(|| {
        let names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA nodata");
        let port = Port::smtp();
        let server = port.serve("127.0.0.2", DOWN);
        Check::words("mx.test 10:mx.test MX.test mx.test.")
            .run()
            .prints("");
        assert_eq!(server.count(), 1);
        assert_eq!(names.asked("mx.test A"), 1);

        let _server = port.serve("127.0.0.2", UP);
        Check::words("MX.test. mx.test").run().prints("MX.test.");
    });
}
