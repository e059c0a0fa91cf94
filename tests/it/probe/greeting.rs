//! Greetings of every kind: up or down, when that is known, and what the server
//! receives.

use std::time::Duration;

use crate::harness::run::{each, ms};
use crate::harness::smtp::{Close, Endless, Expect, Reset, Send, Step, Wait};
use crate::harness::smtp::{Connection, DOWN, End, Port, down_after};

const QUIT: &[u8] = b"QUIT\r\n";

/// Time for a wrong client to send something. It ends when the client closes
/// the connection.
const PAUSE: Step = Wait(ms(300));

/// Greetings of servers that are up, and what the server must receive from a
/// program that waits for another server, and so has time to read to the end.
const UP: &[(&[Step], &[u8])] = &[
    (&[Send(b"220 mx.test ESMTP\r\n")], QUIT),
    (&[Send(b"220 \r\n")], QUIT),
    (&[Send(b"220 mx.test ESMTP\n")], QUIT),
    (&[Send(b"220\r\n")], QUIT),
    (&[Send(b"220\n")], QUIT),
    (&[Send(b"220 554 421\r\n")], QUIT),
    (&[Send(b"220 \0\xff\x1b[2J\r\n")], QUIT),
    (&[Send(b"220 mx.test\r\n"), Close], QUIT),
    (
        &[
            Send(b"220 mx.test\r\n"),
            Expect(QUIT),
            Send(b"221 bye\r\n"),
            Close,
        ],
        QUIT,
    ),
    (&[Send(b"220-mx.test\r\n220 ready\r\n")], QUIT),
    (&[Send(b"220-mx.test\n220-one more\n220 ready\n")], QUIT),
    (&[Send(b"220-mx.test\r\n220\r\n")], QUIT),
    (
        &[Send(b"220-mx.test\r\n"), PAUSE, Send(b"220 ready\r\n")],
        QUIT,
    ),
    (
        &[Send(b"220-mx.test\r\n220 re"), PAUSE, Send(b"ady\r\n")],
        QUIT,
    ),
    (
        &[Send(b"220-mx.test\r\n22"), PAUSE, Send(b"0 ready\r\n")],
        QUIT,
    ),
    (&[Send(b"220 mx"), PAUSE, Send(b".test\r\n")], QUIT),
    (&[Send(b"220 mx.test\r"), PAUSE, Send(b"\n")], QUIT),
    (
        &[
            Send(b"220 mx.test\r\n421 too slow\r\n"),
            Expect(QUIT),
            Close,
        ],
        QUIT,
    ),
    // Up by the first line, but the last one never comes.
    (&[Send(b"220-mx.test\r\n")], b""),
    (&[Send(b"220-mx.test\r\n"), Close], b""),
    (&[Send(b"220-")], b""),
    (&[Send(b"220 mx.test")], b""),
    (&[Send(b"220 mx.test\r")], b""),
    (&[Send(b"220 mx.test"), Close], b""),
    (&[Send(b"220-mx.test\r\n554 no\r\n")], b""),
    (&[Send(b"220-mx.test\r\n250 ready\r\n220 ready\r\n")], b""),
    (&[Send(b"220-mx.test\r\n"), PAUSE, Reset], b""),
    (&[Send(b"220 mx.test "), Endless(b"and so on ")], b""),
    (
        &[Send(b"220-mx.test\r\n"), Endless(b"220-and so on\r\n")],
        b"",
    ),
];

/// Greetings of servers that are down, which is known immediately.
const DOWN_AT_ONCE: &[&[Step]] = &[
    &[Send(b"554 mx.test takes no mail\r\n")],
    &[Send(b"554-mx.test\r\n554 takes no mail\r\n")],
    &[Send(b"421 mx.test is busy\r\n"), Close],
    &[Send(b"521 mx.test takes no mail\r\n"), Close],
    &[Send(b"554 mx.test 220 mx.test\r\n")],
    &[Send(b"554 mx.test\r\n220 mx.test\r\n")],
    &[Send(b"554-mx.test\r\n220 mx.test\r\n")],
    &[Send(b"250 mx.test\r\n")],
    &[Send(b"221 mx.test\r\n")],
    &[Send(b"200 OK\r\n")],
    &[Send(b"2200 mx.test\r\n")],
    &[Send(b"220mx.test\r\n")],
    &[Send(b"220_mx.test\r\n")],
    &[Send(b"220\tmx.test\r\n")],
    &[Send(b"220\0mx.test\r\n")],
    &[Send(b"220.mx.test\r\n")],
    &[Send(b"220\xa0mx.test\r\n")],
    &[Send(b"2 20 mx.test\r\n")],
    &[Send(b"22\r\n")],
    &[Send(b"22\n")],
    &[Send(b"2-0 mx.test\r\n")],
    &[Send(b"+220 mx.test\r\n")],
    &[Send(b" 220 mx.test\r\n")],
    &[Send(b"\t220 mx.test\r\n")],
    &[Send(b"\r\n220 mx.test\r\n")],
    &[Send(b"\n220 mx.test\r\n")],
    &[Send(b"\0\0\0\x00220 mx.test\r\n")],
    &[Send(b"\xef\xbb\xbf220 mx.test\r\n")],
    &[Send(b"\xb220 mx.test\r\n")],
    &[Send(b"Welcome\r\n220 mx.test\r\n")],
    &[Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close],
    &[Send(b"SSH-2.0-OpenSSH_9.2p1\r\n")],
    &[Send(b"\x15\x03\x01\x00\x02\x02\x0a"), Close],
    // The first wrong byte decides.
    &[Send(b"5")],
    &[Send(b"4")],
    &[Send(b"\0")],
    &[Send(b" ")],
    &[Send(b"21")],
    &[Send(b"2"), PAUSE, Send(b"5")],
    &[Send(b"22"), PAUSE, Send(b"1")],
    &[Send(b"220"), PAUSE, Send(b"0")],
    &[Endless(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")],
    &[Endless(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")],
    &[Endless(b"554-mx.test\r\n")],
    // So does the end of the connection.
    &[Close],
    &[Send(b"2"), Close],
    &[Send(b"22"), Close],
    &[Send(b"220"), Close],
    &[PAUSE, Close],
    &[Send(b"22"), PAUSE, Close],
    &[Reset],
    &[PAUSE, Reset],
    &[Send(b"22"), Reset],
    &[Send(b"220"), PAUSE, Reset],
];

/// Greetings that are undecided until the deadline.
const UNDECIDED: &[&[Step]] = &[
    &[],
    &[Send(b"2")],
    &[Send(b"22")],
    &[Send(b"220")],
    &[Send(b"22"), PAUSE, Send(b"0")],
];

/// Plays a script at 127.0.0.2 to a check of this list.
fn play(script: &[Step], list: &str, answer: &str, after: Duration) -> Connection {
    let port = Port::new();
    let server = port.serve("127.0.0.2", script);
    let _slow = port.serve("127.0.0.3", &down_after(ms(1000)));
    port.check(list).run().prints(answer).after(after);
    server.only()
}

const ALONE: &str = "--timeout=20 127.0.0.2";
/// The server in question is the second one. The first one leaves the answer
/// open for a second, and the program reads what the second one sends.
const BEHIND_A_SLOW_ONE: &str = "--timeout=20 127.0.0.3 127.0.0.2";

#[test]
fn up() {
    each(UP, |(script, received)| {
        let connection = play(script, BEHIND_A_SLOW_ONE, "127.0.0.2", ms(1000));
        assert_eq!(connection.early, b"", "{script:?} {connection:?}");
        assert_eq!(connection.received, *received, "{script:?} {connection:?}");
    });
}

/// The server is the answer: its first four bytes are enough, and QUIT is sent
/// only if the last line has come with them.
#[test]
fn up_at_once() {
    each(UP, |(script, received)| {
        let waits = |steps: &[Step]| matches!(steps, [Wait(_), Send(_)]);
        let later = script.windows(2).any(waits);
        let received = if later { b"" } else { *received };
        let longer = script.iter().map(|step| match step {
            Wait(_) => Wait(ms(3000)),
            step => *step,
        });
        let connection = play(&longer.collect::<Vec<_>>(), ALONE, "127.0.0.2", ms(0));
        assert_eq!(connection.early, b"", "{script:?} {connection:?}");
        assert_eq!(connection.received, received, "{script:?} {connection:?}");
    });
}

#[test]
fn down_at_once() {
    each(DOWN_AT_ONCE, |script| {
        let connection = play(script, ALONE, "", ms(0));
        let sent = [connection.early, connection.received].concat();
        assert_eq!(sent, b"", "{script:?}");
    });
}

#[test]
fn undecided_until_the_deadline() {
    each(UNDECIDED, |script| {
        let connection = play(script, "--timeout=1.5 127.0.0.2", "", ms(1500));
        let sent = [connection.early, connection.received].concat();
        assert_eq!(sent, b"", "{script:?}");
    });
}

/// A script that sends these pieces, with pauses between them.
fn pieces(pieces: impl IntoIterator<Item = &'static [u8]>, pause: Duration) -> Vec<Step> {
    let steps = pieces
        .into_iter()
        .flat_map(|piece| [Wait(pause), Send(piece)]);
    steps.skip(1).collect()
}

const GREETING: &[u8] = b"220 mx.test\r\n";
const LINES: &[u8] = b"220-mx.test\r\n220 go\r\n";

#[test]
fn byte_by_byte() {
    each(&[GREETING, LINES], |greeting| {
        let script = pieces(greeting.chunks(1), ms(10));
        let connection = play(&script, BEHIND_A_SLOW_ONE, "127.0.0.2", ms(1000));
        assert_eq!(connection.early, b"", "{connection:?}");
        assert_eq!(connection.received, QUIT, "{connection:?}");
    });
}

#[test]
fn split_anywhere() {
    for greeting in [GREETING, LINES] {
        let splits: Vec<_> = (1..greeting.len()).collect();
        each(&splits, |at| {
            let (head, tail) = greeting.split_at(*at);
            let script = pieces([head, tail], ms(200));
            let connection = play(&script, BEHIND_A_SLOW_ONE, "127.0.0.2", ms(1000));
            assert_eq!(connection.early, b"", "{script:?}");
            assert_eq!(connection.received, QUIT, "{script:?}");
        });
    }
}

/// There is one deadline for the greeting, however often the server sends a byte.
#[test]
fn one_byte_every_second_and_a_half() {
    let script = pieces(GREETING.chunks(1), ms(1500));
    let rows = [
        ("--timeout=20 127.0.0.2", "127.0.0.2", 4500),
        ("--timeout=3.5 127.0.0.2", "", 3500),
        ("--timeout=1 127.0.0.2", "", 1000),
    ];
    each(&rows, |(list, answer, after)| {
        let connection = play(&script, list, answer, ms(*after));
        assert_eq!([connection.early, connection.received].concat(), b"");
    });
}

#[test]
fn a_good_server_sees_an_orderly_end() {
    let script = [Send(b"220 mx.test\r\n"), Expect(QUIT)];
    for list in [ALONE, BEHIND_A_SLOW_ONE] {
        let after = if list == ALONE { 0 } else { 1000 };
        let connection = play(&script, list, "127.0.0.2", ms(after));
        assert_eq!(connection.end, End::Closed);
    }
}

/// The program reads no more of an endless greeting than it needs, though it has
/// the time.
#[test]
fn an_endless_greeting_is_not_read_to_the_end() {
    let endless: [[Step; 2]; 2] = [
        [Send(b"220 mx.test"), Endless(b" and so on")],
        [Send(b"220-mx.test\r\n"), Endless(b"220-and so on\r\n")],
    ];
    each(&endless, |script| {
        let port = Port::new();
        let server = port.serve("127.0.0.2", script);
        let _slow = port.serve("127.0.0.3", &down_after(ms(2000)));
        let run = port.check(BEHIND_A_SLOW_ONE).run();
        run.prints("127.0.0.2").after(ms(2000));
        let connection = server.only();
        assert!(connection.ended < run.ended - ms(500), "{connection:?}");
    });
}

#[test]
fn a_server_that_is_down_receives_nothing() {
    let connection = play(DOWN, BEHIND_A_SLOW_ONE, "", ms(1000));
    assert_eq!([connection.early, connection.received].concat(), b"");
}
