//! The process that answers one question.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::pid_t;

use super::Check;
use super::question::{Outcome, Question};
use super::text::Printed;
use crate::options::{Options, Stop};
use crate::server::Host;
use crate::status;
use crate::sys::process::{self, STANDARD_ERROR, STANDARD_INPUT, STANDARD_OUTPUT, pollfd};
use crate::sys::{self, Errno, child};

/// How much longer than its timeout a check may take, because of this machine.
const MARGIN: Duration = Duration::from_secs(2);

/// A check in a child process.
pub struct Child {
    process: pid_t,
    /// What it prints.
    output: OwnedFd,
    /// When it has taken too long.
    deadline: Instant,
    /// Whether it has closed its output.
    has_ended: bool,
    /// Whether it need not print a name.
    is_up_known: bool,
}

impl Child {
    /// Begins to check. If it is known that a better server is up, only the
    /// message is judged. The error is a reason.
    pub fn begin(
        options: &mut Options,
        question: &Question,
        is_up_known: bool,
        check: Check,
    ) -> Result<Child, &'static [u8]> {
        let Ok((output, input)) = child::pipe() else {
            return Err(b"smtpdcheck: too many open files\n");
        };
        let parent = child::this_process();
        let process = match child::fork() {
            Ok(Some(process)) => process,
            Ok(None) => {
                child::end_with_parent(parent);
                let status = match redirect_to(&input) {
                    Ok(()) => {
                        options.is_up_known = is_up_known;
                        answer(options, question, check)
                    }
                    Err(_) => status::FAILURE,
                };
                process::exit(status)
            }
            Err(_) => return Err(b"smtpdcheck: cannot create a process\n"),
        };
        let limit = options.timeout.unwrap_or_default() + MARGIN;
        Ok(Child {
            process,
            output,
            deadline: Instant::now() + limit,
            has_ended: false,
            is_up_known,
        })
    }

    /// What to poll for; then comes [`read`](Self::read).
    pub fn interest(&self) -> pollfd {
        process::interest(self.output.as_raw_fd(), process::POLLIN)
    }

    /// How long it may still take; then comes [`end`](Self::end).
    pub fn rest(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// Adds what it prints. Returns whether more may come.
    pub fn read(&mut self, printed: &mut Printed) -> bool {
        match process::read(self.output.as_raw_fd(), printed.free()) {
            Ok(0) => self.has_ended = true,
            Ok(count) => {
                printed.add(count);
                return true;
            }
            Err(error) => return error == Errno(libc::EINTR),
        }
        false
    }

    /// Waits for its end, at once if it has not ended. Returns how it ended;
    /// the last line that was printed may be added here.
    pub fn end(self, printed: &mut Printed) -> Outcome {
        if !self.has_ended {
            child::kill(self.process);
        }
        let status = child::wait(self.process);
        let says_why = !printed.last_line().is_empty();
        match status {
            Some(status::NONE_UP) => Outcome::NoneUp,
            Some(status::WAITED) => Outcome::Waited,
            // Of two recipients of one message, the second needs no name.
            Some(status::UP) if says_why || self.is_up_known => Outcome::Up,
            Some(status::FAILURE) if says_why => Outcome::Unknown,
            _ if self.has_ended => printed.fail(b"\nsmtpdcheck: the check was killed"),
            _ => printed.fail(b"\nsmtpdcheck: the check took too long"),
        }
    }
}

/// Makes a child's standard input, output and error the pipe, so that it cannot
/// touch the mail server's connection.
fn redirect_to(pipe: &OwnedFd) -> sys::Result<()> {
    for fd in [STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR] {
        child::replace(fd, pipe)?;
    }
    Ok(())
}

/// Does the check for one question, and returns the exit status.
fn answer(options: &mut Options, question: &Question, check: Check) -> i32 {
    let Host::Name(domain) = Host::parse(question.domain) else {
        return status::NONE_UP;
    };
    options.domain = Some(domain.into_bytes());
    // A server that does not know its address says `unknown`.
    if let host @ (Host::Address(_) | Host::LinkLocal(..)) = Host::parse(question.server) {
        let text = question.server.to_vec();
        options.stops.push(Stop { text, host });
    }
    options.key = options.max_defer.map(|_| key(question));
    check(options)
}

/// What a message is known by: the sender, or for the null sender the network
/// of the client, and the recipient.
fn key(question: &Question) -> Vec<u8> {
    let octets;
    let sender = match (question.sender, Host::parse(question.client)) {
        ([], Host::Address(IpAddr::V4(ip))) => {
            octets = ip.to_ipv6_mapped().octets();
            &octets[12..15]
        }
        ([], Host::Address(IpAddr::V6(ip))) => {
            octets = ip.octets();
            &octets[..8]
        }
        (sender, _) => sender,
    };
    [sender, b" ", question.recipient].concat()
}
