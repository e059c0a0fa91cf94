//! One server: look it up, connect to its addresses, up or down.
//!
//! The loop asks a probe what to wait for and until when, tells it what has
//! happened, and lets it go on. A server's failure is a value here; errors are
//! this machine's, and what they prevented can be done later.

pub mod attempt;
mod attempts;
mod end;
mod greeting;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::lookup::pool::Token;
use crate::lookup::{Answer, FAMILIES, Lookup, Resolver};
use crate::server::Host;
use crate::sys;
use crate::sys::process::pollfd;
use crate::sys::resolver::Family;
use attempt::Attempt;
use attempts::{Addresses, Schedule};

/// What a probe is to find out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Goal {
    /// The addresses of the server.
    Addresses,
    /// Whether it is up.
    Up,
}

/// What this machine is short of.
#[derive(Clone, Copy)]
pub struct Short {
    pub connections: bool,
    pub lookups: bool,
}

/// How far a probe has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It has not begun.
    Waiting,
    /// It looks its server up, and does not connect.
    LookingUp,
    /// It looks its server up and connects.
    Probing,
    /// There is nothing left to find out, or it was abandoned.
    Over,
}

/// What is known of one server, and what is being done to know more.
pub struct Probe {
    /// The addresses of the server.
    pub lookup: Lookup,
    /// Every attempt made, in order.
    pub attempts: Vec<Attempt>,
    /// Whether the server is up, once that is known.
    pub up: Option<bool>,
    /// How long it took to know.
    pub after: Duration,
    /// When it began.
    pub begun: Option<Instant>,
    /// It is down only because the deadline passed.
    pub was_timed_out: bool,
    /// The deadline passed while this machine was short of descriptors or
    /// threads for it: whether the server is up is unknown.
    pub was_short: bool,
    /// Something was begun late, or looked at late, and that was our delay.
    pub was_delayed: bool,
    stage: Stage,
    goal: Goal,
    port: u16,
    deadline: Option<Instant>,
    schedule: Schedule,
    /// This machine is short of what is to be begun.
    is_short: bool,
    /// An attempt without an outcome went on in the latest turn.
    has_progressed: bool,
}

impl Probe {
    /// A probe of the server at `host`, which was written `text` and, unless
    /// it is a name, has this address. Nothing is begun; the server may be
    /// known to be down all the same.
    pub fn new(
        host: &Host,
        text: &[u8],
        address: Option<SocketAddr>,
        port: u16,
        families: [bool; 2],
    ) -> Self {
        let is_name = matches!(host, Host::Name(_));
        let is_usable = is_name || address.is_some_and(|ip| families[usize::from(ip.is_ipv6())]);
        Probe {
            lookup: match is_name {
                true => Lookup::of_name(text),
                false => Lookup::of_address(address),
            },
            attempts: Vec::new(),
            up: (!is_usable).then_some(false),
            after: Duration::ZERO,
            begun: None,
            was_timed_out: false,
            was_short: false,
            is_short: false,
            was_delayed: false,
            stage: match is_usable {
                true => Stage::Waiting,
                false => Stage::Over,
            },
            goal: Goal::Addresses,
            port,
            deadline: None,
            schedule: Schedule::new(),
            has_progressed: false,
        }
    }

    /// Begins to find something out, with addresses of these families. What was
    /// begun for a smaller goal goes on.
    pub fn begin(
        &mut self,
        goal: Goal,
        families: [bool; 2],
        now: Instant,
        deadline: Option<Instant>,
    ) {
        // What it waited for since its lookup ended is not the server's time.
        if self.stage != Stage::LookingUp {
            self.begun = Some(now);
        }
        self.stage = match goal {
            Goal::Addresses => Stage::LookingUp,
            Goal::Up => Stage::Probing,
        };
        self.goal = goal;
        self.deadline = deadline;
        self.lookup.want(families);
        self.schedule_first(now);
    }

    /// Sees when the first attempt is due.
    fn schedule_first(&mut self, now: Instant) {
        let is_ipv6_pending = self.lookup.is_pending(Family::V6);
        let addresses = FAMILIES.map(|family| self.lookup.addresses(family));
        self.schedule.resolved(addresses, is_ipv6_pending, now);
    }

    /// Whether it has begun to find this out, or knows it.
    pub fn has_begun_to(&self, goal: Goal) -> bool {
        self.has_begun() && (self.goal >= goal || self.up.is_some())
    }

    /// Whether anything has been done for the server.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Waiting
    }

    /// Whether something is being found out.
    pub fn is_running(&self) -> bool {
        matches!(self.stage, Stage::LookingUp | Stage::Probing)
    }

    /// Whether the loop has anything to do with the probe.
    pub fn is_active(&self) -> bool {
        self.is_running() || self.connections() > 0
    }

    /// Whether its time is over, so that nothing is begun any more.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// How many connections are open or being made.
    pub fn connections(&self) -> usize {
        self.attempts.iter().filter(|a| a.is_open()).count()
    }

    /// What to poll for, and for which attempt.
    pub fn interests(&self) -> impl Iterator<Item = (usize, pollfd)> + '_ {
        let interests = self.attempts.iter().map(Attempt::interest).enumerate();
        interests.filter_map(|(i, interest)| Some((i, interest?)))
    }

    /// When to go on though nothing has happened.
    pub fn wakes(&self, may_connect: bool) -> Option<Instant> {
        let may_connect = may_connect && self.untried().is_some();
        let due = self.schedule.due().filter(|_| may_connect);
        due.into_iter().chain(self.deadline).min()
    }

    /// Whether an attempt is due by then.
    pub fn wants_connection(&self, now: Instant) -> bool {
        self.stage == Stage::Probing && self.schedule.next_due(self.addresses(), now).is_some()
    }

    /// Whether a lookup could be submitted now.
    pub fn wants_lookup(&self) -> bool {
        self.is_running() && self.lookup.is_wanted()
    }

    /// Submits a lookup. After an error, this machine's, it is still wanted.
    pub fn submit(&mut self, resolver: &mut Resolver, token: Token) -> sys::Result<()> {
        self.lookup.submit(resolver, token)
    }

    /// Makes the next attempt, if one is due, from the source address of its
    /// family. After an error, this machine's, it is still due.
    pub fn connect(&mut self, sources: &[Option<SocketAddr>; 2], now: Instant) -> sys::Result<()> {
        let Some(address) = self.schedule.next_due(self.addresses(), now) else {
            return Ok(());
        };
        let source = sources[usize::from(address.is_ipv6())].as_ref();
        let attempt = Attempt::begin(address, source, now)?;
        self.schedule.begun(address, now);
        if !attempt.is_open() {
            self.schedule.advance();
        }
        self.attempts.push(attempt);
        Ok(())
    }

    /// Takes the answer of a lookup. An error is this machine's.
    pub fn take(&mut self, answer: Answer, now: Instant) -> sys::Result<()> {
        let result = self.lookup.take(answer, self.port);
        if self.attempts.is_empty() {
            self.schedule_first(now);
        } else if self.connections() == 0 {
            self.schedule.advance();
        }
        result
    }

    /// What an attempt waited for has happened.
    pub fn proceed(&mut self, attempt: usize, now: Instant, keep_text: bool) {
        let attempt = &mut self.attempts[attempt];
        let (had_outcome, before) = (attempt.outcome.is_some(), attempt.progress());
        attempt.proceed(now, keep_text);
        self.has_progressed |= !had_outcome && attempt.progress() != before;
        if attempt.is_up() {
            if self.up.is_none() {
                self.decide(true, now);
            }
        } else if attempt.outcome.is_some() {
            self.schedule.advance();
        }
    }

    fn addresses(&self) -> Addresses<'_> {
        FAMILIES.map(|family| self.lookup.addresses(family))
    }

    /// The next address to try, due or not.
    fn untried(&self) -> Option<SocketAddr> {
        let next = self.schedule.next(self.addresses());
        next.filter(|_| self.stage == Stage::Probing)
    }
}
