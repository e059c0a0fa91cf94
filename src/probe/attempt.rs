//! One attempt: a connection to one address, its greeting, and `QUIT`.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use libc::{EAFNOSUPPORT, EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINPROGRESS};
use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM, EPIPE, ETIMEDOUT};

use super::greeting::Greeting;
use crate::escape::Escaped;
use crate::sys::process::{self, pollfd};
use crate::sys::{self, Errno, net};

/// How much of a greeting is read at most, in bytes. RFC 5321, section
/// 4.5.3.1.5, allows 512 a line; a server that goes on is not waited for.
const MAX_GREETING: usize = 4096;
/// How much of the first line is kept for the report, in bytes.
const MAX_TEXT: usize = 60;

/// Why an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The connection was refused.
    Refused,
    /// There is no route to the address.
    Unreachable,
    /// The connection was reset.
    Reset,
    /// The system gave up waiting for an acknowledgement.
    Unacknowledged,
    /// The deadline passed before it was connected, or before the greeting.
    OutOfTime,
    /// The server closed the connection before its greeting was decided.
    Closed,
    /// What came is not a 220 greeting.
    Greeting,
}

/// How an attempt ended.
pub struct Outcome {
    /// Whether the server greeted with 220, or why it did not.
    pub result: Result<(), Cause>,
    /// How long that took.
    pub after: Duration,
    /// The beginning of the first line, escaped; empty unless it was wanted.
    pub text: String,
}

/// A connection to one address.
pub struct Attempt {
    /// Where it goes.
    pub address: SocketAddr,
    /// How long connecting took; `None` until it is connected.
    pub connected: Option<Duration>,
    /// How it ended. The connection may outlive it until the last line of the
    /// greeting has come.
    pub outcome: Option<Outcome>,
    begun: Instant,
    /// The connection, while it is open or being made.
    stream: Option<TcpStream>,
    greeting: Greeting,
    /// How many bytes of the greeting have been read.
    count: usize,
}

impl Attempt {
    /// Begins to connect, from `source` if there is one. An error is this
    /// machine's, and the attempt can be made later.
    pub fn begin(
        address: SocketAddr,
        source: Option<&SocketAddr>,
        now: Instant,
    ) -> sys::Result<Self> {
        let mut attempt = Attempt {
            address,
            connected: None,
            outcome: None,
            begun: now,
            stream: None,
            greeting: Greeting::new(),
            count: 0,
        };
        let stream = match socket(&address, source) {
            // This machine has no such family, so no route either.
            Err(Errno(EAFNOSUPPORT)) => {
                attempt.end(now, Err(Cause::Unreachable));
                return Ok(attempt);
            }
            other => other?,
        };
        match net::connect(&stream, &address) {
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

    /// Whether there is a connection, or one is being made.
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// What to wait for, while it is open.
    pub fn interest(&self) -> Option<pollfd> {
        let events = match self.connected {
            None => process::POLLOUT,
            Some(_) => process::POLLIN,
        };
        let stream = self.stream.as_ref()?;
        Some(process::interest(stream.as_raw_fd(), events))
    }

    /// Whether it is known that the server greeted with 220.
    pub fn is_up(&self) -> bool {
        matches!(&self.outcome, Some(outcome) if outcome.result.is_ok())
    }

    /// Changes when it goes on.
    pub fn progress(&self) -> (bool, bool, usize) {
        (self.connected.is_some(), self.outcome.is_some(), self.count)
    }

    /// Goes on when what it waited for has happened. With `keep_text` the
    /// outcome says how the greeting begins.
    pub fn proceed(&mut self, now: Instant, keep_text: bool) {
        if let Err(error) = self.read(now, keep_text) {
            self.end(now, Err(cause(error)));
            self.close();
        }
    }

    /// Reads what has come. That comes before any error, and so also tells
    /// whether connecting has succeeded: a server can greet and reset the
    /// connection before this process looks.
    fn read(&mut self, now: Instant, keep_text: bool) -> sys::Result<()> {
        while let Some(stream) = &self.stream {
            let mut buffer = [0; 512];
            let length = match process::read(stream.as_raw_fd(), &mut buffer) {
                // Linux ends an attempt that gets an ICMP error, but only
                // queues the error if connect(2) or read(2) is at work on the
                // socket in that moment. Then the first EAGAIN looks like that
                // of a connection, and poll reports an error again.
                Err(Errno(EAGAIN))
                    if self.connected.is_some()
                        && net::take_icmp_error(stream)
                        && !net::is_connected(stream) =>
                {
                    self.connected = None;
                    return Err(Errno(EHOSTUNREACH));
                }
                Err(Errno(EAGAIN)) => None,
                length => Some(length?),
            };
            let elapsed = now.saturating_duration_since(self.begun);
            self.connected.get_or_insert(elapsed);
            let Some(length) = length else { break };
            self.take(&buffer[..length], now, keep_text);
            if length == 0 || self.greeting.is_over() || self.count >= MAX_GREETING {
                self.close();
            }
            if length < buffer.len() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next bytes of the greeting; none when the server has closed
    /// the connection.
    fn take(&mut self, bytes: &[u8], now: Instant, keep_text: bool) {
        let mut text = String::new();
        if keep_text && self.outcome.is_none() {
            text = first_line(self.greeting.undecided(), bytes);
        }
        self.count += bytes.len();
        self.greeting.read(bytes);
        if let (true, Some(stream)) = (self.greeting.is_complete(), &self.stream) {
            // Its answer is not waited for, nor would it change anything if
            // this could not be sent.
            let _ = process::write(stream.as_raw_fd(), b"QUIT\r\n");
        }
        match self.greeting.up() {
            Some(true) => self.end_with(now, Ok(()), text),
            Some(false) => self.end_with(now, Err(Cause::Greeting), text),
            None if bytes.is_empty() => self.end(now, Err(Cause::Closed)),
            None => {}
        }
    }

    /// Ends an attempt that is under way, because the deadline has passed.
    pub fn time_out(&mut self, now: Instant) {
        self.end(now, Err(Cause::OutOfTime));
        self.close();
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        self.stream = None;
    }

    fn end(&mut self, now: Instant, result: Result<(), Cause>) {
        self.end_with(now, result, String::new());
    }

    /// The first outcome counts: a server that is up stays up.
    fn end_with(&mut self, now: Instant, result: Result<(), Cause>, text: String) {
        let after = now.saturating_duration_since(self.begun);
        self.outcome.get_or_insert(Outcome {
            result,
            after,
            text,
        });
    }
}

/// A socket to connect to an address, from `source` if there is one. An error
/// is this machine's: the source address is none of its own any more, say.
pub fn socket(address: &SocketAddr, source: Option<&SocketAddr>) -> sys::Result<TcpStream> {
    let stream = net::stream_socket(address)?;
    if let Some(source) = source {
        // Linux before 4.2 cannot, and chooses a port now.
        let _ = net::choose_port_late(&stream);
        net::bind(&stream, source)?;
    }
    Ok(stream)
}

fn cause(error: Errno) -> Cause {
    match error.0 {
        ECONNREFUSED => Cause::Refused,
        ECONNRESET | EPIPE => Cause::Reset,
        ETIMEDOUT => Cause::Unacknowledged,
        _ => Cause::Unreachable,
    }
}

/// The beginning of the first line, escaped. `before` was read earlier.
fn first_line(before: &[u8], bytes: &[u8]) -> String {
    let length = bytes
        .iter()
        .position(|&byte| byte == b'\r' || byte == b'\n');
    let line = &bytes[..length.unwrap_or(bytes.len()).min(MAX_TEXT)];
    format!("{}{}", Escaped(before), Escaped(line))
}
