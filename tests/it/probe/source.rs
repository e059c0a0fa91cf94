//! `--source`: the address to connect from.

use std::fs;
use std::net::IpAddr;

use crate::harness::namespace::{FOLDER, sh};
use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, Server, UP, down_after, up_after};
use crate::harness::{dns, namespace};

/// More addresses of this machine. `bind` must fail for all others.
fn add_addresses() {
    sh("ip address add 2001:db8:1::2/128 dev lo nodad
        ip address add 2001:db8:1::3/128 dev lo nodad
        ip address add fe80::2/64 dev lo nodad");
    fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "0").unwrap();
}

/// The addresses that a server's connections came from.
fn clients(server: Server) -> Vec<IpAddr> {
    let connections = server.finish().into_iter();
    connections.map(|connection| connection.client).collect()
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).into()
}

/// Options and a server, where that is, and the address that it sees.
const SEEN: &[(&str, &str, &str)] = &[
    ("127.0.0.2", "127.0.0.2", "127.0.0.1"),
    ("--source 127.0.0.5 127.0.0.2", "127.0.0.2", "127.0.0.5"),
    ("127.0.0.2 --source=127.0.0.5", "127.0.0.2", "127.0.0.5"),
    (
        "--source ::ffff:127.0.0.5 127.0.0.2",
        "127.0.0.2",
        "127.0.0.5",
    ),
    (
        "--source [::ffff:127.0.0.5] ::ffff:127.0.0.2",
        "127.0.0.2",
        "127.0.0.5",
    ),
    ("--source 127.0.0.5 ipv4.test", "127.0.0.2", "127.0.0.5"),
    (
        "--source 127.0.0.5 --mx mail.test",
        "127.0.0.2",
        "127.0.0.5",
    ),
    (
        "--source 127.0.0.5 --jobs 1 127.0.0.9 127.0.0.2",
        "127.0.0.2",
        "127.0.0.5",
    ),
    ("--source 2001:db8:1::2 [::1]", "::1", "2001:db8:1::2"),
    ("--source [2001:db8:1::2] ipv6.test", "::1", "2001:db8:1::2"),
    ("--source fe80::2%lo fe80::1%lo", "fe80::1%1", "fe80::2"),
    ("--source [fe80::2%1] [fe80::1%lo]", "fe80::1%1", "fe80::2"),
    // One of the other family changes nothing, whether that is used or not.
    ("--source 2001:db8:1::2 127.0.0.2", "127.0.0.2", "127.0.0.1"),
    ("--source 127.0.0.5 [::1]", "::1", "::1"),
    (
        "-4 --source 2001:db8:1::2 127.0.0.2",
        "127.0.0.2",
        "127.0.0.1",
    ),
    ("-6 --source 127.0.0.5 [::1]", "::1", "::1"),
    (
        "-4 --source 127.0.0.5 --source 2001:db8:1::2 both.test",
        "127.0.0.2",
        "127.0.0.5",
    ),
    // The later one of the same family counts; the earlier one is not tried.
    (
        "--source 127.0.0.6 --source 127.0.0.5 127.0.0.2",
        "127.0.0.2",
        "127.0.0.5",
    ),
    (
        "--source 192.0.2.9 --source 127.0.0.5 127.0.0.2",
        "127.0.0.2",
        "127.0.0.5",
    ),
    (
        "--source 192.0.2.9 --source ::ffff:127.0.0.5 127.0.0.2",
        "127.0.0.2",
        "127.0.0.5",
    ),
    (
        "--source fe80::2%lo --source 2001:db8:1::2 [::1]",
        "::1",
        "2001:db8:1::2",
    ),
];

#[test]
fn the_server_sees_the_address() {
    namespace::run(|| {
        add_addresses();
        let _names = dns::serve(
            "mail.test MX 10:ipv4.test
             ipv4.test A 127.0.0.2
             ipv4.test AAAA nodata
             ipv6.test A nodata
             ipv6.test AAAA ::1
             both.test A 127.0.0.2
             both.test AAAA ::1",
        );
        let port = Port::smtp();
        for (words, address, seen) in SEEN {
            let server = port.serve(address, UP);
            let run = Check::words(words).first("--timeout=20").run();
            assert_eq!((run.status, &*run.stderr), (Some(1), ""), "{run}");
            assert_eq!(clients(server), addresses([seen]), "{run}");
        }
    });
}

/// Each address of a server is connected to from that of its family.
#[test]
fn one_address_for_each_family() {
    namespace::run(|| {
        add_addresses();
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA ::1");
        let port = Port::smtp();
        // Both are asked, whichever lookup is done first.
        let servers = ["127.0.0.2", "::1"].map(|address| port.serve(address, DOWN));
        let words = "--timeout=20 --source 127.0.0.5 --source 2001:db8:1::2 mx.test";
        Check::words(words).run().prints("").at_once();
        let [ipv4, ipv6] = servers.map(clients);
        assert_eq!(ipv4, addresses(["127.0.0.5"]));
        assert_eq!(ipv6, addresses(["2001:db8:1::2"]));
    });
}

/// It does not depend on the servers, nor on what is remembered of them, nor on
/// the families. Nobody is asked anything.
#[test]
fn an_address_that_is_not_this_machine_s() {
    namespace::run(|| {
        add_addresses();
        let names = dns::serve("* MX 10:mx.test\n* A 127.0.0.2\n* AAAA nodata");
        let server = Port::smtp().serve("127.0.0.2", UP);
        let cache = format!("--cache={FOLDER}/cache");
        let silent = Port::smtp().serve("127.0.0.3", SILENT);
        let remember = format!("--timeout=1 {cache} 127.0.0.3");
        Check::words(&remember).run().prints("").after(ms(1000));
        assert_eq!(silent.count(), 1);
        let not_mine = "not an address of this machine";
        let sources = [
            ("192.0.2.9", not_mine),
            ("::ffff:192.0.2.9", not_mine),
            ("198.51.100.2", not_mine),
            ("2001:db8::9", not_mine),
            ("[2001:db8:1::9]", not_mine),
            ("fe80::9%lo", not_mine),
            ("fe80::2%void", not_mine),
            ("fe80::2%nowhere", "no such interface"),
            ("fe80::2%99", "no such interface"),
        ];
        let arguments = [
            "127.0.0.2",
            "[::1]",
            "10:.",
            "--stop 127.0.0.2 127.0.0.2",
            "--stop mx.test mx.test",
            "--mx mail.test",
            "-4 127.0.0.2",
            "-6 127.0.0.2",
            "--source 127.0.0.5 --source 2001:db8:1::2 127.0.0.2",
            &format!("{cache} 127.0.0.3"),
        ];
        each(&sources, |(source, why)| {
            for words in arguments {
                let words = format!("{words} --source {source}");
                let run = Check::words(&words).run();
                let reason = format!("--source '{source}': {why}");
                run.fails_with(&reason).at_once();
            }
        });
        assert_eq!(server.count(), 0);
        assert_eq!(names.questions(), [""; 0]);
    });
}

/// A server is remembered for the addresses that it was asked from.
#[test]
fn what_is_remembered_is_so_for_one_address() {
    namespace::run(|| {
        add_addresses();
        namespace::hosts("127.0.0.2 mx.hosts\n");
        let silent = Port::smtp().serve("127.0.0.2", SILENT);
        let sources = [
            "",
            "--source=127.0.0.5",
            "--source=127.0.0.6",
            "--source=2001:db8:1::2",
            "--source=2001:db8:1::3",
            "--source=fe80::1%lo",
            "--source=127.0.0.5 --source=2001:db8:1::2",
            "--source=127.0.0.5 --source=2001:db8:1::3",
        ];
        let check = |timeout: u32, source: &str| {
            let words = format!("--cache={FOLDER}/cache --timeout={timeout} {source} mx.hosts");
            Check::words(&words).run()
        };
        // The file is made by the first; what others find while it is not there
        // would not be kept.
        check(2, sources[0]).prints("").after(ms(2000));
        each(&sources[1..], |source| {
            check(2, source).prints("").after(ms(2000));
        });
        // However it is written.
        let same = ["--source=::ffff:127.0.0.5", "--source=[fe80::1%1]"];
        each(&[&sources[..], &same].concat(), |source| {
            check(20, source).prints("").at_once();
        });
        assert_eq!(silent.count(), sources.len());
    });
}

/// The only port that the system may choose serves for two connections, as
/// without the option.
#[test]
fn a_port_is_chosen_when_connecting() {
    namespace::run(|| {
        let port = Port::smtp();
        let servers = [
            port.serve("127.0.0.2", &down_after(ms(1500))),
            port.serve("127.0.0.3", &up_after(ms(1500))),
        ];
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        let before = fs::read(range).unwrap();
        fs::write(range, "40000 40000").unwrap();
        let words = "--timeout=20 --source=127.0.0.5 127.0.0.2 127.0.0.3";
        let run = Check::words(words).run();
        fs::write(range, before).unwrap();
        // One after the other would take twice as long.
        let [first, second] = servers.map(Server::only);
        assert!(second.accepted < first.ended, "{run}");
        run.prints("127.0.0.3").after(ms(1500));
    });
}
