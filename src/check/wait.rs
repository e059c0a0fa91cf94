//! Waiting for something to happen, and telling everybody what has.

use std::time::{Duration, Instant};

use super::Check;
use crate::sys::process::{self, pollfd};

/// A process that wakes up this long after it wanted to was stopped, or its
/// machine was: what it did not see meanwhile says nothing about a server.
const OVERSLEPT: Duration = Duration::from_millis(500);

/// What to poll for. The first one is the resolver's.
#[derive(Default)]
pub struct Interests {
    polls: Vec<pollfd>,
    /// For each of the others, which attempt of which probe it is for.
    owners: Vec<(usize, usize)>,
}

impl Check<'_> {
    /// Waits until something happens or is to be done. Returns when that was
    /// due to end.
    pub(super) fn wait(&mut self) -> Result<Option<Instant>, String> {
        let Interests { polls, owners } = &mut self.interests;
        polls.clear();
        owners.clear();
        let wake = self.resolver.wake().unwrap_or(process::NO_DESCRIPTOR);
        polls.push(process::interest(wake, process::POLLIN));
        let mut due = self.deadline.filter(|_| self.stops.is_pending());
        due = earliest(due, self.look_again);
        for &p in &self.active {
            for (attempt, interest) in self.probes[p].interests() {
                polls.push(interest);
                owners.push((p, attempt));
            }
            due = earliest(due, self.probes[p].wakes(self.shortage.may_connect()));
        }
        if due.is_none() && !self.is_anything_pending() {
            return Err("internal error: nothing to wait for".into());
        }
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        process::poll(&mut self.interests.polls, timeout)
            .map_err(|error| format!("cannot poll: {error}"))?;
        Ok(due)
    }

    /// Tells everybody what has happened by `now`; the wait was due to end
    /// then.
    pub(super) fn react(&mut self, now: Instant, due: Option<Instant>) -> Result<(), String> {
        if due.is_some_and(|due| now.saturating_duration_since(due) > OVERSLEPT) {
            for &p in &self.active {
                self.probes[p].was_delayed = true;
            }
        }
        let is_ready = |poll: &pollfd| poll.revents != 0;
        let is_woken = self.interests.polls.first().is_some_and(is_ready);
        for i in 0..self.interests.owners.len() {
            if self.interests.polls.get(i + 1).is_some_and(is_ready) {
                let (p, attempt) = self.interests.owners[i];
                let keep_text = self.options.verbose || self.options.json;
                self.probes[p].proceed(attempt, now, keep_text);
                // Nothing may be begun that this has made unnecessary.
                self.learn(p);
            }
        }
        let mut has_stop = false;
        if is_woken {
            self.resolver.reset_wake();
            while let Some((token, answer)) = self.resolver.next_finished() {
                has_stop |= self.take(token, answer, now);
            }
        }
        if self.stops.is_pending() && self.deadline.is_some_and(|deadline| deadline <= now) {
            if let (Some(i), Some(error)) = (self.stops.next_wanted(0), self.shortage.of_lookups())
            {
                return Err(super::cannot_check(error, self.stops.text(i)));
            }
            self.stops.time_out();
            has_stop = true;
        }
        if has_stop {
            self.stops.check()?;
            self.findings.set_changed();
            self.learn_all();
        }
        Ok(())
    }
}

/// The earlier one, if there is any.
pub fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
