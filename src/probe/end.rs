//! How a probe comes to its end: by the deadline, by having tried everything,
//! or because it is not needed any more.

use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::{Probe, Short, Stage};

impl Probe {
    /// Ends what has come to its end: by the deadline, or because nothing is
    /// left to try.
    pub fn conclude(&mut self, now: Instant, short: Short) {
        if !self.is_late(now) {
            self.is_short = short.lookups && self.wants_lookup()
                || short.connections && self.wants_connection(self.deadline.unwrap_or(now));
        }
        self.was_delayed |= self.is_short || self.lookup.was_queued;
        // What has come before the deadline counts, even if this process could
        // not look: so it goes on until nothing more has come.
        let has_progressed = std::mem::take(&mut self.has_progressed);
        if self.is_late(now) {
            if !has_progressed {
                self.time_out(now);
            }
        } else if self.lookup.is_any_pending() {
            // The name servers may have more addresses.
        } else if self.stage == Stage::LookingUp {
            self.stage = Stage::Over;
            if self.up.is_none() {
                self.after = self.elapsed(now);
            }
        } else if self.stage == Stage::Probing
            && self.untried().is_none()
            && self.connections() == 0
        {
            self.decide(false, now);
        }
    }

    /// The deadline will pass before a query that was taken out of the queue is
    /// answered, because this machine refused more threads.
    pub fn set_short(&mut self) {
        self.is_short = true;
    }

    fn time_out(&mut self, now: Instant) {
        if self.is_running() {
            self.lookup.time_out();
            for attempt in &mut self.attempts {
                if attempt.outcome.is_none() {
                    attempt.time_out(now);
                }
            }
            self.was_short = self.is_short;
            if self.stage == Stage::Probing && !self.was_short {
                self.was_timed_out = true;
                // The server had no more time, however late this process looks.
                let deadline = self.deadline.unwrap_or(now);
                self.decide(false, deadline.min(now));
            }
        }
        self.stage = Stage::Over;
        self.attempts.iter_mut().for_each(Attempt::close);
    }

    /// The server is up or down. Only the stop rule may still need addresses
    /// of the other family.
    pub(super) fn decide(&mut self, up: bool, now: Instant) {
        self.up = Some(up);
        self.after = self.elapsed(now);
        self.stop_connecting();
    }

    fn elapsed(&self, now: Instant) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| now - begun)
    }

    /// Stops connecting; a pending lookup still counts.
    pub fn stop_connecting(&mut self) {
        if self.stage == Stage::Probing {
            self.stage = Stage::LookingUp;
        }
        let attempts = self.attempts.iter_mut();
        attempts.filter(|a| !a.is_up()).for_each(Attempt::close);
    }

    /// Stops everything, except that a server that is up may complete its
    /// greeting, so that `QUIT` can be sent.
    pub fn abandon(&mut self) {
        self.stop_connecting();
        self.stage = Stage::Over;
    }

    /// Closes a connection that is only open for `QUIT`. Returns whether there
    /// was one.
    pub fn skip_quit(&mut self) -> bool {
        let is_open = self.up == Some(true) && self.connections() > 0;
        if is_open {
            self.attempts.iter_mut().for_each(Attempt::close);
        }
        is_open
    }
}
