//! The process that answers one question.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::question::{Outcome, Question};
use super::text::Printed;
use super::{Check, HungUp};
use crate::options::{Options, Stop};
use crate::server::Host;
use crate::status;
use crate::sys::process::{self, STANDARD_ERROR, STANDARD_INPUT, STANDARD_OUTPUT};
use crate::sys::{self, Errno, child};

/// How much longer than its timeout a check may take, because of this machine.
const MARGIN: Duration = Duration::from_secs(2);

/// Checks in a child process. What that prints is added to `printed`, which is
/// empty. If it is known that a better server is up, only the message is judged.
pub fn run(
    options: &mut Options,
    question: &Question,
    is_up_known: bool,
    check: Check,
    printed: &mut Printed,
) -> Result<Outcome, HungUp> {
    let Ok((output, input)) = child::pipe() else {
        return Ok(unknown(printed, b"smtpdcheck: too many open files"));
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
        Err(_) => return Ok(unknown(printed, b"smtpdcheck: cannot create a process")),
    };
    drop(input);
    let limit = options.timeout.unwrap_or_default() + MARGIN;
    let has_ended = read_until_end(&output, printed, Instant::now() + limit);
    if !matches!(has_ended, Ok(true)) {
        child::kill(process);
    }
    let status = child::wait(process);
    let has_ended = has_ended?;
    let says_why = !printed.last_line().is_empty();
    Ok(match status {
        Some(status::NONE_UP) => Outcome::NoneUp,
        Some(status::WAITED) => Outcome::Waited,
        // Of two recipients of one message, the second needs no name.
        Some(status::UP) if says_why || is_up_known => Outcome::Up,
        Some(status::FAILURE) if says_why => Outcome::Unknown,
        _ if has_ended => unknown(printed, b"\nsmtpdcheck: the check was killed"),
        _ => unknown(printed, b"\nsmtpdcheck: the check took too long"),
    })
}

/// It cannot be told, for this reason.
fn unknown(printed: &mut Printed, why: &[u8]) -> Outcome {
    for (free, byte) in printed.free().iter_mut().zip(why) {
        *free = *byte;
    }
    printed.add(why.len());
    Outcome::Unknown
}

/// Keeps what a child prints. Returns whether it has ended by the deadline.
fn read_until_end(
    output: &OwnedFd,
    printed: &mut Printed,
    deadline: Instant,
) -> Result<bool, HungUp> {
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let mut polls = [
            process::interest(output.as_raw_fd(), process::POLLIN),
            // A hangup is reported unasked.
            process::interest(STANDARD_OUTPUT, 0),
        ];
        let polled = process::poll(&mut polls, Some(rest));
        let [output, answers] = polls;
        if answers.revents & (process::POLLHUP | process::POLLERR) != 0 {
            return Err(HungUp);
        } else if output.revents != 0 {
            match process::read(output.fd, printed.free()) {
                Ok(0) => return Ok(true),
                Ok(count) => printed.add(count),
                Err(Errno(libc::EINTR)) => {}
                Err(_) => return Ok(false),
            }
        } else if polled.is_err() || rest.is_zero() {
            return Ok(false);
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
