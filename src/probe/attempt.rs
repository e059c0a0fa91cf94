//! One attempt: a connection to one address, its greeting, and `QUIT`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use libc::{EAFNOSUPPORT, EAGAIN, ECONNREFUSED, ECONNRESET, EINPROGRESS, EMFILE, ENFILE};
use libc::{ENOBUFS, ENOMEM, EPIPE, ETIMEDOUT};

use crate::escape::Escaped;
use crate::probe::greeting::Greeting;
use crate::sys::{self, Errno, pollfd};

/// How much of a greeting is read at most, in bytes. RFC 5321, section
/// 4.5.3.1.5, allows 512 a line; a server that goes on is hung up on.
const MAX_GREETING: usize = 4096;
/// How much of the first line is kept for the report, in bytes.
const MAX_TEXT: usize = 60;

/// Why an attempt failed.
#[derive(PartialEq, Eq, Debug)]
pub enum Cause {
    /// Nobody listens there.
    Refused,
    /// There is no way there.
    Unreachable,
    /// The connection was reset.
    Reset,
    /// The system gave up waiting for an acknowledgement.
    Unacknowledged,
    /// The deadline passed before it was connected, or before the greeting.
    OutOfTime,
    /// The server hung up before its greeting could be told.
    Closed,
    /// What came is not a greeting with 220.
    Greeting,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the server greeted with 220, or why it did not.
    pub result: Result<(), Cause>,
    /// How long that took.
    pub after: Duration,
    /// The beginning of the first line, escaped; empty unless it was wanted.
    pub text: String,
}

/// A connection to one address.
#[derive(Debug)]
pub struct Attempt {
    /// Where it goes.
    pub address: SocketAddr,
    /// How long connecting took.
    pub connected: Option<Duration>,
    /// How it ended. The connection may outlive it until the greeting's last
    /// line has come.
    pub outcome: Option<Outcome>,
    begun: Instant,
    /// The connection, while it is open or being made.
    stream: Option<TcpStream>,
    greeting: Greeting,
    /// How many bytes of the greeting have come.
    count: usize,
}

impl Attempt {
    /// Begins to connect. An error is this machine's, and the attempt can be
    /// made later.
    pub fn begin(address: SocketAddr, now: Instant) -> sys::Result<Self> {
        let mut attempt = Attempt {
            address,
            connected: None,
            outcome: None,
            begun: now,
            stream: None,
            greeting: Greeting::new(),
            count: 0,
        };
        let stream = match sys::stream_socket(&address) {
            // A machine without the family has no way there.
            Err(Errno(EAFNOSUPPORT)) => {
                attempt.end(now, Err(Cause::Unreachable));
                return Ok(attempt);
            }
            other => other?,
        };
        match sys::connect(&stream, &address) {
            Ok(()) => attempt.connected = Some(Duration::ZERO),
            Err(Errno(EINPROGRESS)) => {}
            Err(error @ Errno(EMFILE | ENFILE | ENOBUFS | ENOMEM)) => return Err(error),
            Err(error) => {
                attempt.end(now, Err(cause(error)));
                return Ok(attempt);
            }
        }
        attempt.stream = Some(stream);
        Ok(attempt)
    }

    /// What to wait for, while there is a connection.
    pub fn interest(&self) -> Option<pollfd> {
        let events = match self.connected {
            None => sys::POLLOUT,
            Some(_) => sys::POLLIN,
        };
        let stream = self.stream.as_ref()?;
        Some(sys::interest(stream.as_raw_fd(), events))
    }

    /// Goes on when what it waited for has happened. With `keep_text` the
    /// outcome says how the greeting begins.
    pub fn proceed(&mut self, now: Instant, keep_text: bool) {
        let done = match self.connected {
            None => self.finish_connecting(now),
            Some(_) => self.read(now, keep_text),
        };
        if let Err(error) = done {
            self.end(now, Err(cause(error)));
            self.hang_up();
        }
    }

    fn finish_connecting(&mut self, now: Instant) -> sys::Result<()> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        // A connection that failed can be written to as well.
        if let Some(error) = stream.take_error()? {
            return Err(error.into());
        }
        self.connected = Some(now.saturating_duration_since(self.begun));
        Ok(())
    }

    /// Reads what has come.
    fn read(&mut self, now: Instant, keep_text: bool) -> sys::Result<()> {
        while let Some(stream) = &mut self.stream {
            let mut buffer = [0; 512];
            let bytes = match stream.read(&mut buffer).map_err(Errno::from) {
                Err(Errno(EAGAIN)) => break,
                length => &buffer[..length?],
            };
            let mut text = String::new();
            if keep_text && self.outcome.is_none() {
                text = first_line(self.greeting.undecided(), bytes);
            }
            self.count += bytes.len();
            self.greeting.read(bytes);
            if self.greeting.is_whole() {
                // The server closes when it has read it. Nobody waits for
                // that, nor would anything change if it could not be sent.
                let _ = stream.write(b"QUIT\r\n");
            }
            match self.greeting.up() {
                Some(true) => self.end_with(now, Ok(()), text),
                Some(false) => self.end_with(now, Err(Cause::Greeting), text),
                None if bytes.is_empty() => self.end(now, Err(Cause::Closed)),
                None => {}
            }
            let all = bytes.len() < buffer.len();
            if bytes.is_empty() || self.greeting.is_over() || self.count >= MAX_GREETING {
                self.hang_up();
            }
            if all {
                break;
            }
        }
        Ok(())
    }

    /// Ends an attempt that is under way, because the deadline has passed.
    pub fn time_out(&mut self, now: Instant) {
        self.end(now, Err(Cause::OutOfTime));
        self.hang_up();
    }

    /// Closes the connection.
    pub fn hang_up(&mut self) {
        self.stream = None;
    }

    fn end(&mut self, now: Instant, result: Result<(), Cause>) {
        self.end_with(now, result, String::new());
    }

    /// The first end counts: a server that is up stays up.
    fn end_with(&mut self, now: Instant, result: Result<(), Cause>, text: String) {
        let after = now.saturating_duration_since(self.begun);
        self.outcome.get_or_insert(Outcome {
            result,
            after,
            text,
        });
    }
}

fn cause(error: Errno) -> Cause {
    match error.0 {
        ECONNREFUSED => Cause::Refused,
        ECONNRESET | EPIPE => Cause::Reset,
        ETIMEDOUT => Cause::Unacknowledged,
        _ => Cause::Unreachable,
    }
}

/// The beginning of the first line, of which `before` was read earlier.
fn first_line(before: &[u8], bytes: &[u8]) -> String {
    let length = bytes
        .iter()
        .position(|&byte| byte == b'\r' || byte == b'\n');
    let line = &bytes[..length.unwrap_or(bytes.len()).min(MAX_TEXT)];
    format!("{}{}", Escaped(before), Escaped(line))
}
