//! The greeting of an SMTP server, as its bytes come in. Pure.
//!
//! It tells two things: whether the server is up, which at most four bytes
//! decide, and when the last line is complete, so that `QUIT` can be sent.
//! Nothing is buffered.

/// The reply code of a server that is ready: RFC 5321, section 4.3.2.
const CODE: &[u8; 3] = b"220";

/// How far a greeting has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// This many bytes of the line have come, all of them the code's.
    Code(usize),
    /// The code has come; the next byte says whether the line is the last.
    Separator,
    /// The line goes on, and is not the last.
    Continued,
    /// The line goes on, and is the last.
    Last,
    /// The last line is complete.
    Complete,
    /// A line does not belong to a 220 greeting: no last line can come.
    Broken,
}

/// A greeting, read so far.
#[derive(Debug)]
pub struct Greeting {
    state: State,
    up: Option<bool>,
}

impl Greeting {
    /// A greeting of which nothing has been read.
    pub fn new() -> Self {
        Greeting {
            state: State::Code(0),
            up: None,
        }
    }

    /// Reads the next bytes.
    pub fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Code(n), _) if byte == CODE[n] && n + 1 == CODE.len() => State::Separator,
                (State::Code(n), _) if byte == CODE[n] => State::Code(n + 1),
                (State::Code(_), _) => State::Broken,
                (State::Separator, b'-') => State::Continued,
                (State::Separator, b' ' | b'\r') => State::Last,
                // RFC 5321, section 4.2: a code alone is a reply too. LF alone
                // ends no line there, but does with some servers.
                (State::Separator | State::Last, b'\n') => State::Complete,
                (State::Separator, _) => State::Broken,
                (State::Continued, b'\n') => State::Code(0),
                (state, _) => state,
            };
            self.up = self.up.or(match self.state {
                State::Code(_) | State::Separator => None,
                State::Continued | State::Last | State::Complete => Some(true),
                State::Broken => Some(false),
            });
        }
    }

    /// Whether the server is up, when that is certain.
    pub fn up(&self) -> Option<bool> {
        self.up
    }

    /// Whether the last line is complete, so that it is the client's turn.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether more bytes can change anything.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Complete | State::Broken)
    }

    /// What has been read while it is not known whether the server is up: it
    /// can only be the beginning of the code.
    pub fn undecided(&self) -> &'static [u8] {
        match self.state {
            State::Code(n) if self.up.is_none() => &CODE[..n],
            State::Separator if self.up.is_none() => CODE,
            _ => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Greeting, whether up, whether its last line is complete, and how many
    /// bytes it takes to know whether it is up.
    const TABLE: &[(&[u8], Option<bool>, bool, usize)] = &[
        (b"220 mx.example.org ESMTP\r\n", Some(true), true, 4),
        (b"220 mx.example.org ESMTP\n", Some(true), true, 4),
        (b"220 mx.example.org ESMTP", Some(true), false, 4),
        (b"220 mx.example.org ESMTP\r", Some(true), false, 4),
        (b"220 \r\n", Some(true), true, 4),
        (b"220\r\n", Some(true), true, 4),
        (b"220\n", Some(true), true, 4),
        (b"220\r", Some(true), false, 4),
        (b"220-one\r\n220 two\r\n", Some(true), true, 4),
        (b"220-one\r\n220-two\r\n220\r\n", Some(true), true, 4),
        (b"220-one\n220 two\n", Some(true), true, 4),
        (b"220-one\r\n220-two\r\n", Some(true), false, 4),
        (b"220-one\r\n", Some(true), false, 4),
        (b"220-", Some(true), false, 4),
        (b"220-one\r\n554 two\r\n", Some(true), false, 4),
        (b"220-one\r\nfoo\r\n220 two\r\n", Some(true), false, 4),
        (b"220-one\r\n2200two\r\n220 two\r\n", Some(true), false, 4),
        (b"220 one\r\n220 two\r\n", Some(true), true, 4),
        (b"220 \0\xff\x1b\r\n", Some(true), true, 4),
        (b"", None, false, 0),
        (b"2", None, false, 1),
        (b"22", None, false, 2),
        (b"220", None, false, 3),
        (b"2200\r\n", Some(false), false, 4),
        (b"220\t\r\n", Some(false), false, 4),
        (b"220\0\r\n", Some(false), false, 4),
        (b"221 mx\r\n", Some(false), false, 3),
        (b"250 mx\r\n", Some(false), false, 2),
        (b"554 no\r\n", Some(false), false, 1),
        (b"554 no 220 yes\r\n", Some(false), false, 1),
        (b"554-no\r\n220 yes\r\n", Some(false), false, 1),
        (b"421 later\r\n", Some(false), false, 1),
        (b"521 never\r\n", Some(false), false, 1),
        (b" 220 mx\r\n", Some(false), false, 1),
        (b"\r\n220 mx\r\n", Some(false), false, 1),
        (b"\n220 mx\r\n", Some(false), false, 1),
        (b"\x00220 mx\r\n", Some(false), false, 1),
        (b"HTTP/1.1 400 Bad Request\r\n", Some(false), false, 1),
        (b"\x15\x03\x01\0\x02\x02\x32", Some(false), false, 1),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Some(false), false, 1),
        (b"2\r\n", Some(false), false, 2),
        (b"22\n", Some(false), false, 3),
    ];

    fn read(chunks: &[&[u8]]) -> (Option<bool>, bool) {
        let mut greeting = Greeting::new();
        for chunk in chunks {
            greeting.read(chunk);
        }
        (greeting.up(), greeting.is_complete())
    }

    #[test]
    fn whole_byte_by_byte_and_at_every_split() {
        for &(bytes, up, complete, _) in TABLE {
            let expected = (up, complete);
            let shown = bytes.escape_ascii();
            assert_eq!(read(&[bytes]), expected, "{shown}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&single), expected, "{shown} byte by byte");
            for at in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(at);
                assert_eq!(read(&[head, tail]), expected, "{shown} split at {at}");
            }
        }
    }

    #[test]
    fn known_from_the_deciding_byte_on() {
        for &(bytes, up, _, deciding) in TABLE {
            for n in 0..=bytes.len() {
                let expected = up.filter(|_| n >= deciding);
                let mut greeting = Greeting::new();
                greeting.read(&bytes[..n]);
                assert_eq!(
                    greeting.up(),
                    expected,
                    "{} bytes of {}",
                    n,
                    bytes.escape_ascii()
                );
                if expected.is_none() {
                    assert_eq!(greeting.undecided(), &bytes[..n]);
                }
            }
        }
    }

    #[test]
    fn over_when_complete_or_broken() {
        let table: &[(&[u8], bool)] = &[
            (b"", false),
            (b"22", false),
            (b"220", false),
            (b"220 mx", false),
            (b"220 mx\r\n", true),
            (b"220\n", true),
            (b"220-mx\r\n", false),
            (b"220-mx\r\n22", false),
            (b"220-mx\r\n221", true),
            (b"220-mx\r\n\r\n", true),
            (b"221", true),
            (b"2200", true),
            (b"HTTP", true),
        ];
        for &(bytes, over) in table {
            let mut greeting = Greeting::new();
            greeting.read(bytes);
            assert_eq!(greeting.is_over(), over, "{}", bytes.escape_ascii());
        }
    }
}
