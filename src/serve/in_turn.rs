//! Postfix's questions, one after the other: each smtpd process has a gate of
//! its own, and waits for an answer before it asks again.

use std::time::{Duration, Instant};

use super::answers::{Answers, MOMENT};
use super::child::Child;
use super::postfix::{self, Request};
use super::question::{Outcome, Question};
use super::text::{Printed, Text};
use super::{Check, HungUp};
use crate::options::Options;
use crate::sys::Errno;
use crate::sys::process::{self, STANDARD_INPUT, STANDARD_OUTPUT};

/// Answers Postfix's questions until it closes standard input or output. The
/// error is a message.
// Not inlined: every check would touch the pages of its buffers, on the stack.
#[inline(never)]
pub fn serve(options: &mut Options, check: Check) -> Result<(), String> {
    let mut request = Request::EMPTY;
    let mut answers = Answers::NONE;
    let begun = Instant::now();
    // What is remembered here is part of the time that a server counts as up.
    let moment = match options.cache_up_ttl {
        0 | 1 => Duration::ZERO,
        _ => MOMENT,
    };
    options.cache_up_ttl -= u32::from(!moment.is_zero());
    let mut bytes = [0; 4096];
    loop {
        let count = match process::read(STANDARD_INPUT, &mut bytes) {
            Ok(0) | Err(Errno(libc::ECONNRESET)) => return Ok(()),
            Ok(count) => count,
            Err(Errno(libc::EINTR)) => continue,
            Err(Errno(libc::EAGAIN)) => {
                let polls = &mut [process::interest(STANDARD_INPUT, process::POLLIN)];
                process::poll(polls, None).map_err(|error| format!("cannot poll: {error}"))?;
                continue;
            }
            Err(error) => return Err(format!("cannot read from standard input: {error}")),
        };
        let mut rest = &bytes[..count];
        while let Some(length) = request.take(rest) {
            rest = &rest[length..];
            let answer = match request.question() {
                Some(question) => {
                    let now = begun.elapsed();
                    answer(options, &question, &mut answers, now, moment, check)
                }
                None => Ok(postfix::accept()),
            };
            let Ok(answer) = answer else {
                return Ok(());
            };
            match process::write_all(STANDARD_OUTPUT, answer.bytes()) {
                Ok(()) => request.clear(),
                Err(Errno(libc::EPIPE | libc::ECONNRESET)) => return Ok(()),
                Err(error) => return Err(format!("cannot write to standard output: {error}")),
            }
        }
    }
}

/// Keeps what a check prints, and returns how it ended.
fn wait_for(mut child: Child, printed: &mut Printed) -> Result<Outcome, HungUp> {
    loop {
        // A hangup is reported unasked.
        let mut polls = [child.interest(), process::interest(STANDARD_OUTPUT, 0)];
        let rest = child.rest(Instant::now());
        let polled = process::poll(&mut polls, Some(rest));
        if polls[1].revents & (process::POLLHUP | process::POLLERR) != 0 {
            child.end(printed);
            return Err(HungUp);
        }
        let goes_on = polls[0].revents == 0 || child.read(printed);
        if !goes_on || polled.is_err() || rest.is_zero() {
            return Ok(child.end(printed));
        }
    }
}

/// Finds out the answer for one recipient. That a server is up holds for
/// `moment` from `now` on.
fn answer(
    options: &mut Options,
    question: &Question,
    answers: &mut Answers,
    now: Duration,
    moment: Duration,
    check: Check,
) -> Result<Text, HungUp> {
    let known = answers.find(question, now);
    // Where a better server is up, each message may have waited long enough.
    let is_up_known = known.is_some_and(|known| known.is_up && options.max_defer.is_some());
    if let (Some(known), false) = (known, is_up_known) {
        return Ok(known.text);
    }
    let mut printed = Printed::NOTHING;
    let outcome = match Child::begin(options, question, is_up_known, check) {
        Ok(child) => wait_for(child, &mut printed)?,
        Err(why) => printed.fail(why),
    };
    if let (Some(known), Outcome::Up) = (known, outcome) {
        return Ok(known.text);
    }
    let answer = postfix::answer(outcome, &printed, options.verbose);
    if known.is_none() && outcome != Outcome::Waited {
        let is_up = outcome == Outcome::Up;
        answers.remember(question, is_up, answer, now + moment);
    }
    Ok(answer)
}
