//! One server: looking it up, connecting to its addresses, up or down.
//!
//! The loop asks a probe what to wait for and until when, tells it what has
//! happened, and lets it go on. A server's failure is a value here; errors
//! are this machine's, and what they kept from being done is done later.

pub mod attempt;
mod greeting;

use std::net::{SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use crate::lookup::{Answer, Asker, FAMILIES, Failure, Helpers, Lookup};
use crate::probe::attempt::{Attempt, Cause};
use crate::server::{Host, decimal};
use crate::store::servers::Memory;
use crate::sys::{self, Family, pollfd};

/// How long to wait for IPv6 addresses when the IPv4 ones are there: the
/// resolution delay of RFC 8305, section 3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long one attempt has the field to itself: the connection attempt delay
/// of RFC 8305, section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How far a probe has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It has not begun.
    Waiting,
    /// Its addresses are being looked up; it does not connect.
    Looking,
    /// It looks up and connects.
    Probing,
    /// There is nothing left to find out, or nobody wants to know.
    Over,
}

/// What the fate of a server teaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lesson {
    /// The server is down, and it took long to find out.
    TookLong,
    /// The server is up, or was quick to prove down.
    Quick,
}

/// What is known of one server, and what is being done to know more.
#[derive(Debug)]
pub struct Probe {
    /// The addresses of the server.
    pub lookup: Lookup,
    /// Every attempt made, in order.
    pub attempts: Vec<Attempt>,
    /// Whether the server is up, when that is known.
    pub up: Option<bool>,
    /// What the cache said of it.
    pub memory: Memory,
    /// How long it took to know.
    pub after: Duration,
    state: State,
    port: u16,
    /// When it began.
    pub begun: Option<Instant>,
    deadline: Option<Instant>,
    /// When the next attempt may be made; `None`: at any time.
    next_attempt: Option<Instant>,
    /// How many addresses of each family have been tried.
    tried: [usize; 2],
    /// The family of the latest attempt.
    latest: Family,
    /// Whether this machine began something late, or not at all. That does not
    /// matter where all has come to its end.
    held_back: bool,
    /// Whether a connection without an outcome went on in the latest turn.
    progress: bool,
}

impl Probe {
    /// A probe of `host`, which was written `text`, for which nothing has
    /// been done. The server may be known to be down all the same.
    pub fn new(host: &Host, text: &[u8], port: u16, families: [bool; 2]) -> Self {
        let address = address(host, port);
        let usable = match (host, address) {
            (Host::Name(_), _) => true,
            (_, Some(address)) => families[usize::from(address.is_ipv6())],
            (_, None) => false,
        };
        Probe {
            lookup: match host {
                Host::Name(_) => Lookup::of_name(text),
                _ => Lookup::of_address(address),
            },
            attempts: Vec::new(),
            up: (!usable).then_some(false),
            memory: Memory::None,
            after: Duration::ZERO,
            state: if usable { State::Waiting } else { State::Over },
            port,
            begun: None,
            deadline: None,
            next_attempt: None,
            tried: [0; 2],
            latest: Family::V4,
            held_back: false,
            progress: false,
        }
    }

    /// Takes the server for down because the cache says so.
    pub fn recall(&mut self, memory: Memory) {
        self.memory = memory;
        if memory != Memory::None {
            self.up = Some(false);
        }
    }

    /// Begins to find out whether the server is up, or with `only_look_up`
    /// just its addresses, in these families.
    pub fn begin(
        &mut self,
        only_look_up: bool,
        families: [bool; 2],
        now: Instant,
        deadline: Option<Instant>,
    ) {
        self.state = match only_look_up {
            true => State::Looking,
            false => State::Probing,
        };
        self.begun = Some(now);
        self.deadline = deadline;
        self.lookup.want(families);
    }

    /// Whether anything has been done for the server.
    pub fn has_begun(&self) -> bool {
        self.state != State::Waiting
    }

    /// Whether something is being done that is waited for.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Looking | State::Probing)
    }

    /// Whether the loop has anything to do with the probe.
    pub fn is_active(&self) -> bool {
        self.is_running() || self.interests().next().is_some()
    }

    /// What to poll for.
    pub fn interests(&self) -> impl Iterator<Item = pollfd> + '_ {
        self.attempts.iter().filter_map(Attempt::interest)
    }

    /// When to go on though nothing has happened.
    pub fn wakes(&self, may_connect: bool) -> Option<Instant> {
        let may_connect = may_connect && self.state == State::Probing && self.untried().is_some();
        let next = self.next_attempt.filter(|_| may_connect);
        next.into_iter().chain(self.deadline).min()
    }

    /// Takes as many results of the poll as it had interests.
    pub fn hear<'a>(
        &mut self,
        results: &mut impl Iterator<Item = &'a pollfd>,
        now: Instant,
        keep_text: bool,
    ) {
        let mut up = false;
        for attempt in &mut self.attempts {
            if attempt.interest().is_none() {
                continue;
            }
            if results.next().is_none_or(|result| result.revents == 0) {
                continue;
            }
            self.progress |= attempt.outcome.is_none();
            attempt.proceed(now, keep_text);
            match attempt.outcome.as_ref().map(|outcome| &outcome.result) {
                Some(Ok(())) => up = true,
                Some(Err(_)) => self.next_attempt = None,
                None => {}
            }
        }
        if up && self.up.is_none() {
            self.settle(true, now);
        }
    }

    /// Takes a lookup's answer. An error is this machine's.
    pub fn take(&mut self, answer: Answer, now: Instant) -> sys::Result<()> {
        let result = self.lookup.take(answer, self.port);
        if self.attempts.is_empty() {
            let wait = self.lookup.addresses(Family::V6).is_empty()
                && self.lookup.is_open(Family::V6)
                && !self.lookup.addresses(Family::V4).is_empty();
            self.next_attempt = wait.then(|| now + RESOLUTION_DELAY);
        } else if self.interests().next().is_none() {
            self.next_attempt = None;
        }
        result
    }

    /// Whether there is something to look up that nobody was asked for.
    pub fn wants_lookup(&self) -> bool {
        self.is_running() && self.lookup.is_wanted()
    }

    /// Hands what is to be looked up to the helpers. After an error, this
    /// machine's, something is left to do.
    pub fn ask(&mut self, helpers: &mut Helpers, asker: Asker) -> sys::Result<()> {
        self.lookup.ask(helpers, asker)
    }

    /// Makes the attempts that are due. After an error, this machine's,
    /// something is left to do.
    pub fn connect(&mut self, now: Instant) -> sys::Result<()> {
        while self.state == State::Probing && self.next_attempt.is_none_or(|next| next <= now) {
            let Some((family, address)) = self.untried() else {
                break;
            };
            let attempt = Attempt::begin(address, now)?;
            self.tried[family as usize] += 1;
            self.latest = family;
            self.next_attempt = attempt.interest().map(|_| now + ATTEMPT_DELAY);
            self.attempts.push(attempt);
        }
        Ok(())
    }

    /// Whether its time is over: nothing is begun any more.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Ends what has come to its end: by the deadline, or because there is
    /// nothing left to try.
    pub fn conclude(&mut self, now: Instant) {
        // What is due and has not been begun by now waits for this machine.
        let is_due = self.next_attempt.is_none_or(|next| next <= now);
        self.held_back |= self.lookup.is_wanted()
            || self.lookup.stood_in_line
            || is_due && self.untried().is_some();
        // What has come before the deadline counts, even if this process was
        // kept from looking: so it looks until nothing more has come.
        let progress = std::mem::take(&mut self.progress);
        let open = self.lookup.is_any_open();
        if self.is_late(now) {
            if !progress {
                self.time_out(now);
            }
        } else if open {
            // The name servers may have more addresses.
        } else if self.state == State::Looking {
            self.state = State::Over;
        } else if self.state == State::Probing
            && self.untried().is_none()
            && self.interests().next().is_none()
        {
            self.held_back = false;
            self.settle(false, now);
        }
    }

    /// The next address: the families take turns, IPv6 first (RFC 8305,
    /// section 4).
    fn untried(&self) -> Option<(Family, SocketAddr)> {
        let turns = match self.latest {
            Family::V4 => [Family::V6, Family::V4],
            Family::V6 => [Family::V4, Family::V6],
        };
        turns.into_iter().find_map(|family| {
            let addresses = self.lookup.addresses(family);
            Some((family, *addresses.get(self.tried[family as usize])?))
        })
    }

    /// What the cache is to learn when the server's fate is known; nothing if
    /// the server was not asked, or if this machine is to blame.
    pub fn lesson(&self) -> Option<Lesson> {
        self.begun?;
        if self.up == Some(true) {
            return Some(Lesson::Quick);
        }
        let failed = |failure| {
            FAMILIES
                .iter()
                .any(|&f| self.lookup.failure(f) == Some(failure))
        };
        let mut slow =
            failed(Failure::OutOfTime) || failed(Failure::TryAgain) && self.attempts.is_empty();
        let mut unreachable = !self.attempts.is_empty();
        for attempt in &self.attempts {
            match attempt.outcome.as_ref()?.result {
                Err(Cause::OutOfTime | Cause::Unacknowledged) => slow = true,
                Err(Cause::Unreachable) => continue,
                _ => {}
            }
            unreachable = false;
        }
        if self.held_back || unreachable {
            return None;
        }
        Some(if slow {
            Lesson::TookLong
        } else {
            Lesson::Quick
        })
    }

    fn time_out(&mut self, now: Instant) {
        if self.is_running() {
            self.lookup.time_out();
            for attempt in &mut self.attempts {
                if attempt.outcome.is_none() {
                    attempt.time_out(now);
                }
            }
            if self.state == State::Probing {
                self.settle(false, now);
            }
        }
        self.state = State::Over;
        self.attempts.iter_mut().for_each(Attempt::hang_up);
    }

    /// The server is up or down. Only the stop rule may still need addresses
    /// of the other family.
    fn settle(&mut self, up: bool, now: Instant) {
        self.up = Some(up);
        self.after = self.begun.map_or(Duration::ZERO, |begun| now - begun);
        self.stop_connecting();
    }

    /// Stops connecting; what is being looked up still counts.
    pub fn stop_connecting(&mut self) {
        if self.state == State::Probing {
            self.state = State::Looking;
        }
        for attempt in &mut self.attempts {
            if attempt
                .outcome
                .as_ref()
                .is_none_or(|outcome| outcome.result.is_err())
            {
                attempt.hang_up();
            }
        }
    }

    /// Stops everything, except hearing a server out that is up, so that
    /// `QUIT` can be sent when its greeting has come whole.
    pub fn abandon(&mut self) {
        self.stop_connecting();
        self.state = State::Over;
    }

    /// Does not hear a server out that is up. Returns whether there was one.
    pub fn hang_up(&mut self) -> bool {
        let heard = self.up == Some(true) && self.interests().next().is_some();
        if heard {
            self.attempts.iter_mut().for_each(Attempt::hang_up);
        }
        heard
    }
}

/// The socket address of a host that is given by address.
pub fn address(host: &Host, port: u16) -> Option<SocketAddr> {
    match host {
        Host::Address(ip) => Some(SocketAddr::new(*ip, port)),
        Host::LinkLocal(ip, zone) => {
            let index = match decimal(zone.as_bytes()) {
                Some(index) => index,
                None => sys::interface(&sys::c_string(zone.as_bytes()))?,
            };
            Some(SocketAddrV6::new(*ip, port, 0, index).into())
        }
        Host::Name(_) | Host::Nowhere => None,
    }
}
