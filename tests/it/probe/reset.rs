//! Servers that reset the connection: what they sent before counts.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::harness::namespace::sh;
use crate::harness::run::{each, wait_until};
use crate::harness::smtp::{Port, Reset, Send, Step, Tcp, accept};

/// A first line that is longer than what is read at a time, and one that is
/// longer than what is read at all.
const LONG: &[u8] = &{
    let mut line = [b'x'; 600];
    (line[0], line[1], line[2], line[3]) = (b'2', b'2', b'0', b' ');
    line
};
const ENDLESS: &[u8] = &{
    let mut line = [b'x'; 5000];
    (line[0], line[1], line[2], line[3]) = (b'2', b'2', b'0', b'-');
    line
};

/// What a server sends before it resets the connection, and whether it is up.
const SCRIPTS: [(&[u8], bool); 14] = [
    (b"220 mx.test ESMTP\r\n", true),
    (b"220-mx.test\r\n", true),
    (b"220-mx.test\r\n220 go\r\n", true),
    (b"220\r\n", true),
    (b"220 ", true),
    (LONG, true),
    (ENDLESS, true),
    (b"", false),
    (b"2", false),
    (b"22", false),
    (b"220", false),
    (b"2200 mx.test\r\n", false),
    (b"554 no\r\n", false),
    (b"\r\n220 mx.test\r\n", false),
];

/// The server accepts, writes and resets at once: the program sees that in
/// whatever order the system may show it.
#[test]
fn a_greeting_and_a_reset_that_come_together() {
    each(&SCRIPTS, |(bytes, is_up)| {
        let port = Port::new();
        let script: &[Step] = match bytes {
            [] => &[Reset],
            bytes => &[Send(bytes), Reset],
        };
        let _server = port.serve("127.0.0.2", script);
        for _ in 0..30 {
            let run = port.check("--timeout=20 127.0.0.2").run();
            let answer = if *is_up { "127.0.0.2" } else { "" };
            run.prints(answer).at_once();
        }
    });
}

fn stop(process: u32) {
    sh(&format!("kill -STOP {process}"));
    let stat = || std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    wait_until(|| stat().rsplit(") ").next().unwrap().starts_with('T'));
}

/// Accepts a client that is not one of these, nor one that has hung up, as those
/// have that had to wait.
fn accept_other(server: &TcpListener, waiting: &[TcpStream]) -> TcpStream {
    loop {
        let client = accept(server);
        let address = client.peer_addr().unwrap();
        client.set_nonblocking(true).unwrap();
        let peeked = client.peek(&mut [0]).map_err(|error| error.kind());
        let has_hung_up = peeked != Err(ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        let is_known = |known: &TcpStream| known.local_addr().unwrap() == address;
        if !has_hung_up && !waiting.iter().any(is_known) {
            return client;
        }
    }
}

fn reset(client: TcpStream) {
    let now = Some(Duration::ZERO);
    SockRef::from(&client).set_linger(now).unwrap();
}

/// The program is stopped, and looks only when both are there; and perhaps
/// does not even know that it is connected.
#[test]
fn a_greeting_and_a_reset_that_are_seen_together() {
    each(&SCRIPTS, |(bytes, is_up)| {
        for was_full in [false, true] {
            let port = Port::new();
            let (server, waiting) = match was_full {
                true => port.full("127.0.0.2"),
                false => (port.listen("127.0.0.2", 16), Vec::new()),
            };
            let state = if was_full {
                Tcp::SynSent
            } else {
                Tcp::Established
            };
            let check = port.check("--timeout=20 127.0.0.2");
            let run = check.run_while(|process| {
                state.wait(&server);
                stop(process);
                let mut client = accept_other(&server, &waiting);
                client.write_all(bytes).unwrap();
                reset(client);
                sh(&format!("kill -CONT {process}"));
            });
            run.prints(if *is_up { "127.0.0.2" } else { "" });
        }
    });
}

#[test]
fn a_reset_is_reported_where_it_came_first() {
    let port = Port::new();
    let _servers = [
        port.serve("127.0.0.2", &[Send(b"22"), Reset]),
        port.serve("127.0.0.3", &[Send(b"220 mx.test\r\n"), Reset]),
    ];
    let run = port.check("--timeout=20 127.0.0.2 127.0.0.3").run();
    run.prints("127.0.0.3").at_once();
    for (address, what) in [
        ("127.0.0.2", "connection reset ("),
        ("127.0.0.3", "greeting 220"),
    ] {
        let run = port.check(&format!("-v {address}")).run();
        assert!(run.stderr.contains(what), "{run}");
    }
}
