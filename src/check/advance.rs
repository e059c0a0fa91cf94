//! How what is under way goes on, and what to do when this machine is short of
//! descriptors or threads.

use std::time::Instant;

use super::Check;
use crate::lookup::Answer;
use crate::lookup::pool::Token;
use crate::probe::Short;
use crate::store::Cache;
use crate::sys::{self, Errno, process};

impl<'a> Check<'a> {
    /// Lets everything that is under way go on.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.shortage.is_of_descriptors() {
            self.skip_quits();
        }
        if self.count_connections() < self.connections {
            self.freed();
        }
        let mut next = 0;
        while let (true, Some(i)) = (self.shortage.may_look_up(), self.stops.next_wanted(next)) {
            let submitted = self.stops.submit(i, &mut self.resolver, i);
            self.note_lookup(submitted, i);
            next = i;
        }
        for at in 0..self.active.len() {
            self.advance_one(self.active[at], now);
        }
        self.active.retain(|&p| self.probes[p].is_active());
        self.connections = self.count_connections();
    }

    /// Lets one probe go on.
    fn advance_one(&mut self, p: usize, now: Instant) {
        let connections = self.probes[p].connections();
        let is_late = self.probes[p].is_late(now);
        if is_late || !self.probes[p].is_running() {
            if self.probes[p].lookup.cancel(&self.resolver) {
                self.shortage.lookup_ended();
                if self.resolver.lacks_threads() {
                    self.probes[p].set_short();
                }
            }
        } else {
            self.begin_due(p, now);
        }
        let short = Short {
            connections: !self.shortage.may_connect(),
            lookups: !self.shortage.may_look_up(),
        };
        let probe = &mut self.probes[p];
        let was_running = probe.is_running();
        probe.conclude(now, short);
        // With `--jobs`, the next one may begin.
        if probe.was_short || was_running && !probe.is_running() {
            self.findings.set_changed();
        }
        if probe.connections() < connections {
            self.freed();
        }
        self.learn(p);
    }

    /// Makes the lookups and attempts of a probe that are due.
    fn begin_due(&mut self, p: usize, now: Instant) {
        let token = self.options.stops.len() + p;
        while self.shortage.may_look_up() && self.probes[p].wants_lookup() {
            let submitted = self.probes[p].submit(&mut self.resolver, token);
            self.note_lookup(submitted, token);
        }
        while self.shortage.may_connect() && self.probes[p].wants_connection(now) {
            match self.probes[p].connect(&self.options.source_addresses, now) {
                Ok(()) => self.shortage.connected(),
                Err(error) if self.free_descriptor(error) => {}
                Err(error) => self.shortage.connect_failed((error, token)),
            }
        }
    }

    fn count_connections(&self) -> usize {
        let connections = self.active.iter().map(|&p| self.probes[p].connections());
        connections.sum()
    }

    /// Notes that a lookup has begun, or why it could not, unless another
    /// descriptor could be had for it.
    fn note_lookup(&mut self, result: sys::Result<()>, token: Token) {
        match result {
            Ok(()) => self.shortage.lookup_begun(),
            Err(error) if self.free_descriptor(error) => {}
            Err(error) => self.shortage.lookup_failed((error, token)),
        }
    }

    /// Raises this process's limit of descriptors, or frees one. Returns false
    /// if neither is possible, or it was another limit.
    fn free_descriptor(&mut self, error: Errno) -> bool {
        error == Errno(libc::EMFILE)
            && (process::raise_descriptor_limit()
                || self.skip_quits()
                || self.findings.cache.as_mut().is_some_and(Cache::close))
    }

    /// Closes connections that are only open for `QUIT`: that courtesy counts
    /// for less than another server. Returns whether there were any.
    fn skip_quits(&mut self) -> bool {
        let mut any = false;
        for &p in &self.active {
            any |= self.probes[p].skip_quit();
        }
        any
    }

    /// Something has ended: what failed for want of it may be tried again.
    fn freed(&mut self) {
        if self.shortage.freed() {
            self.findings.set_changed();
        }
    }

    /// Whether anything is under way that will end by itself: a connection, a
    /// lookup, be it one that was left behind, or what another process does.
    pub(super) fn is_anything_pending(&self) -> bool {
        self.resolver.is_busy() || self.count_connections() > 0 || self.look_again.is_some()
    }

    /// Whether to try something again although nothing has ended.
    pub(super) fn try_again(&mut self) -> Result<bool, String> {
        if self.is_anything_pending() {
            return Ok(false);
        }
        let tried = self.shortage.try_again();
        tried.map_err(|(error, token)| super::cannot_check(error, self.text(token)))
    }

    /// What a token stands for: the stop hosts come first, then the probes.
    fn text(&self, token: Token) -> &'a [u8] {
        match token.checked_sub(self.options.stops.len()) {
            Some(p) => &self.findings.server(p).text,
            None => self.stops.text(token),
        }
    }

    /// Takes the answer of a lookup. Returns whether it is a stop host's.
    pub(super) fn take(&mut self, token: Token, answer: Answer, now: Instant) -> bool {
        self.shortage.lookup_ended();
        let probe = token.checked_sub(self.options.stops.len());
        let (result, is_wanted) = match probe {
            None => (self.stops.take(token, answer), true),
            Some(p) => {
                let is_wanted = self.probes[p].is_running();
                let result = self.probes[p].take(answer, now);
                self.learn(p);
                (result, is_wanted)
            }
        };
        if result.is_ok() || !is_wanted {
            self.freed();
        } else {
            self.note_lookup(result, token);
        }
        probe.is_none()
    }
}
