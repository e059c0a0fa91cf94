//! OpenSMTPD's questions, many at a time: one filter serves all sessions of
//! smtpd, which ends when its filter ends.

use std::time::{Duration, Instant};

use super::child::Child;
use super::opensmtpd::{self, Line, Message};
use super::question::{Outcome, Question};
use super::text::Printed;
use super::{Check, HungUp};
use crate::options::Options;
use crate::sys::Errno;
use crate::sys::process::{self, STANDARD_ERROR, STANDARD_INPUT, STANDARD_OUTPUT};

/// How many checks there are at a time.
const CHECKS: usize = 32;

/// How many questions are not answered yet. Then nothing more is read.
const QUESTIONS: usize = 512;

/// The longest session and token, in bytes: smtpd's have 33 together.
const MAX_KEY: usize = 64;

/// The longest domain, in bytes: RFC 1035, section 2.3.4.
const MAX_DOMAIN: usize = 253;

/// How long to wait where no check runs.
const LONG: Duration = Duration::from_secs(3600);

/// How long to wait when this machine can do nothing else.
const PAUSE: Duration = Duration::from_millis(100);

/// A check of a domain.
struct Running {
    child: Child,
    printed: Printed,
}

/// A question that is not answered yet. All that are about one domain have the
/// same check.
#[derive(Clone, Copy)]
struct Waiting {
    /// The number of its check. From `CHECKS` on: it has not begun, and the
    /// lowest number is the next.
    check: u64,
    key: [u8; MAX_KEY],
    /// The length of the key; 0: nobody waits here.
    key_length: usize,
    domain: [u8; MAX_DOMAIN],
    domain_length: usize,
}

impl Waiting {
    const NOBODY: Waiting = Waiting {
        check: 0,
        key: [0; MAX_KEY],
        key_length: 0,
        domain: [0; MAX_DOMAIN],
        domain_length: 0,
    };

    fn is_free(&self) -> bool {
        self.key_length == 0
    }

    /// Whether it is about this domain.
    fn is_about(&self, domain: &[u8]) -> bool {
        !self.is_free() && self.domain[..self.domain_length] == *domain
    }
}

/// What is being answered.
struct Gate<'a> {
    options: &'a mut Options,
    check: Check,
    checks: &'a mut [Option<Running>; CHECKS],
    waiting: &'a mut [Waiting; QUESTIONS],
    /// In all places from here on nobody waits. They are filled from the front,
    /// and mostly few are in use.
    end: usize,
    /// The number of the latest check that has not begun.
    latest: u64,
}

/// Answers until smtpd closes standard input or output. The error is a message.
// Not inlined: the gate for Postfix would have its 240 KiB on the stack as well.
#[inline(never)]
pub fn serve(options: &mut Options, check: Check) -> Result<(), String> {
    let mut gate = Gate {
        options,
        check,
        checks: &mut [const { None }; CHECKS],
        waiting: &mut [Waiting::NOBODY; QUESTIONS],
        end: 0,
        latest: CHECKS as u64,
    };
    let mut line = Line::EMPTY;
    let mut bytes = [0; 4096];
    // What has been read and not been taken.
    let (mut start, mut end) = (0, 0);
    loop {
        while start < end && gate.has_room() {
            let Some(length) = line.take(&bytes[start..end]) else {
                start = end;
                break;
            };
            start += length;
            if gate.begin(line.message()).is_err() {
                return Ok(());
            }
            line.clear();
        }
        let Ok(is_readable) = gate.wait(start == end && gate.has_room()) else {
            return Ok(());
        };
        if is_readable {
            match process::read(STANDARD_INPUT, &mut bytes) {
                Ok(0) | Err(Errno(libc::ECONNRESET)) => return Ok(()),
                Ok(count) => (start, end) = (0, count),
                Err(Errno(libc::EINTR | libc::EAGAIN)) => {}
                Err(error) => return Err(format!("cannot read from standard input: {error}")),
            }
        }
    }
}

impl Gate<'_> {
    /// Whether there may be another question.
    fn has_room(&self) -> bool {
        self.waiting.iter().any(Waiting::is_free)
    }

    /// Begins to answer. There is room.
    fn begin(&mut self, message: Message) -> Result<(), HungUp> {
        let (key, domain) = match message {
            Message::Ready => return write(opensmtpd::REGISTRATION),
            Message::Question { key, domain } => (key, domain),
            Message::Other => return Ok(()),
        };
        self.latest += 1;
        let waiting = &self.waiting[..self.end];
        let same = waiting.iter().find(|waiting| waiting.is_about(domain));
        let check = same.map_or(self.latest, |same| same.check);
        let free = self.waiting.iter().position(Waiting::is_free);
        let (1..=MAX_KEY, 1..=MAX_DOMAIN, Some(place)) = (key.len(), domain.len(), free) else {
            return answer(key, None);
        };
        self.end = self.end.max(place + 1);
        let free = &mut self.waiting[place];
        free.check = check;
        free.key_length = key.len();
        free.key[..key.len()].copy_from_slice(key);
        free.domain_length = domain.len();
        free.domain[..domain.len()].copy_from_slice(domain);
        self.start()
    }

    /// Begins the checks that have not begun, as far as there may be more.
    fn start(&mut self) -> Result<(), HungUp> {
        while let Some(check) = self.checks.iter().position(Option::is_none) {
            let has_not_begun =
                |waiting: &&Waiting| !waiting.is_free() && waiting.check >= CHECKS as u64;
            let waiting = self.waiting[..self.end].iter().filter(has_not_begun);
            let Some(&next) = waiting.min_by_key(|waiting| waiting.check) else {
                break;
            };
            let domain = &next.domain[..next.domain_length];
            for waiting in &mut self.waiting[..self.end] {
                if waiting.is_about(domain) {
                    waiting.check = check as u64;
                }
            }
            match Child::begin(self.options, &Question::about(domain), false, self.check) {
                Ok(child) => {
                    let printed = Printed::NOTHING;
                    self.checks[check] = Some(Running { child, printed });
                }
                Err(why) => {
                    say(why);
                    self.answer(check, None)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until there is something to do, and answers what can be answered.
    /// Returns whether standard input can be read, if that is wanted.
    fn wait(&mut self, reads: bool) -> Result<bool, HungUp> {
        let mut polls = [process::interest(process::NO_DESCRIPTOR, 0); 2 + CHECKS];
        if reads {
            polls[0] = process::interest(STANDARD_INPUT, process::POLLIN);
        }
        // A hangup is reported unasked.
        polls[1] = process::interest(STANDARD_OUTPUT, 0);
        // No more than there are descriptors: see poll(2).
        let mut count = 2;
        let now = Instant::now();
        let mut rest = LONG;
        for running in self.checks.iter().flatten() {
            polls[count] = running.child.interest();
            count += 1;
            rest = rest.min(running.child.rest(now));
        }
        let polls = &mut polls[..count];
        if process::poll(polls, Some(rest)).is_err() {
            // There is no memory for it.
            let _ = process::poll(&mut [], Some(PAUSE));
        }
        let (ends, polls) = polls.split_at(2);
        if ends[1].revents & (process::POLLHUP | process::POLLERR) != 0 {
            return Err(HungUp);
        }
        let now = Instant::now();
        let mut polls = polls.iter();
        for i in 0..CHECKS {
            let Some(running) = &mut self.checks[i] else {
                continue;
            };
            // In the order of above.
            let Some(poll) = polls.next() else {
                break;
            };
            let goes_on = poll.revents == 0 || running.child.read(&mut running.printed);
            if !goes_on || running.child.rest(now).is_zero() {
                self.end(i)?;
            }
        }
        self.start()?;
        Ok(ends[0].revents != 0)
    }

    /// Ends a check, and answers the questions that wait for it.
    fn end(&mut self, check: usize) -> Result<(), HungUp> {
        let Some(running) = self.checks[check].take() else {
            return Ok(());
        };
        let mut printed = running.printed;
        let outcome = running.child.end(&mut printed);
        let note = opensmtpd::note(outcome, &printed, self.options.verbose);
        if !note.bytes().is_empty() {
            say(note.bytes());
        }
        let better = (outcome == Outcome::Up).then(|| printed.last_line());
        self.answer(check, better)
    }

    /// Answers the questions that wait for a check.
    fn answer(&mut self, check: usize, better: Option<&[u8]>) -> Result<(), HungUp> {
        let mut end = 0;
        for (i, waiting) in self.waiting[..self.end].iter_mut().enumerate() {
            if !waiting.is_free() && waiting.check == check as u64 {
                answer(&waiting.key[..waiting.key_length], better)?;
                waiting.key_length = 0;
            }
            if !waiting.is_free() {
                end = i + 1;
            }
        }
        self.end = end;
        Ok(())
    }
}

/// Answers a question.
fn answer(key: &[u8], better: Option<&[u8]>) -> Result<(), HungUp> {
    write(opensmtpd::answer(key, better).bytes())
}

/// Writes to smtpd. After any error its answers would not be whole.
fn write(bytes: &[u8]) -> Result<(), HungUp> {
    process::write_all(STANDARD_OUTPUT, bytes).map_err(|_| HungUp)
}

/// Writes to the log, unless nobody reads it: answers must not wait for that.
fn say(line: &[u8]) {
    let mut polls = [process::interest(STANDARD_ERROR, process::POLLOUT)];
    let polled = process::poll(&mut polls, Some(Duration::ZERO));
    // What is ready takes a whole line: PIPE_BUF bytes at least, see pipe(7).
    if polled.is_ok() && polls[0].revents & process::POLLOUT != 0 {
        let _ = process::write_all(STANDARD_ERROR, line);
    }
}
