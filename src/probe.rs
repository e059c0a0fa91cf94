//! One server: looking it up, connecting to its addresses, up or down.
//!
//! The loop asks a probe what to wait for and until when, tells it what has
//! happened, and lets it go on. A server's failure is a value here; errors
//! are this machine's, and what they kept from being done is done later.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use crate::attempt::Attempt;
use crate::lookup::{Answer, Asker, Helpers, Lookup};
use crate::server::{Host, decimal};
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

/// What is known of one server, and what is being done to know more.
#[derive(Debug)]
pub struct Probe {
    /// The addresses of the server.
    pub lookup: Lookup,
    /// Every attempt made, in order.
    pub attempts: Vec<Attempt>,
    /// Whether the server is up, when that is known.
    pub up: Option<bool>,
    /// How long it took to know.
    pub after: Duration,
    state: State,
    port: u16,
    /// When it began.
    pub begun: Option<Instant>,
    deadline: Option<Instant>,
    /// When the next attempt may be made.
    next: Option<Instant>,
    /// How many addresses of each family have been tried.
    tried: [usize; 2],
    /// The family of the latest attempt.
    latest: Family,
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
            after: Duration::ZERO,
            state: if usable { State::Waiting } else { State::Over },
            port,
            begun: None,
            deadline: None,
            next: None,
            tried: [0; 2],
            latest: Family::V4,
        }
    }

    /// Begins to find out whether the server is up.
    pub fn begin(&mut self, families: [bool; 2], now: Instant, deadline: Option<Instant>) {
        self.look_up(families, now, deadline);
        self.state = State::Probing;
    }

    /// Begins to find out the server's addresses, and no more.
    pub fn look_up(&mut self, families: [bool; 2], now: Instant, deadline: Option<Instant>) {
        self.state = State::Looking;
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

    /// Whether something will happen although nothing more can be begun.
    pub fn is_moving(&self) -> bool {
        self.lookup.is_asked() && self.is_running() || self.interests().next().is_some()
    }

    /// What to poll for.
    pub fn interests(&self) -> impl Iterator<Item = pollfd> + '_ {
        self.attempts.iter().filter_map(Attempt::interest)
    }

    /// When to go on though nothing has happened. With `short` no attempt can
    /// be made.
    pub fn wakes(&self, short: bool) -> Option<Instant> {
        let may_connect = !short && self.state == State::Probing && self.untried().is_some();
        let next = self.next.filter(|_| may_connect);
        match (next, self.deadline) {
            (Some(next), Some(deadline)) => Some(next.min(deadline)),
            (next, deadline) => next.or(deadline),
        }
    }

    /// Takes as many results of the poll as it had interests. Returns whether
    /// a connection was closed.
    pub fn hear<'a>(
        &mut self,
        results: &mut impl Iterator<Item = &'a pollfd>,
        now: Instant,
        keep_text: bool,
    ) -> bool {
        let (mut closed, mut up) = (false, false);
        for attempt in &mut self.attempts {
            if attempt.interest().is_none() {
                continue;
            }
            if results.next().is_none_or(|result| result.revents == 0) {
                continue;
            }
            attempt.proceed(now, keep_text);
            closed |= attempt.interest().is_none();
            match attempt.outcome.as_ref().map(|outcome| &outcome.result) {
                Some(Ok(())) => up = true,
                Some(Err(_)) => self.next = Some(now),
                None => {}
            }
        }
        if up && self.up.is_none() {
            self.settle(true, now);
        }
        closed
    }

    /// Takes a lookup's answer. An error is this machine's.
    pub fn take(&mut self, answer: Answer, now: Instant) -> io::Result<()> {
        let result = self.lookup.take(answer, self.port);
        if self.attempts.is_empty() {
            let wait = self.lookup.addresses(Family::V6).is_empty()
                && self.lookup.is_open(Family::V6)
                && !self.lookup.addresses(Family::V4).is_empty();
            self.next = Some(if wait { now + RESOLUTION_DELAY } else { now });
        } else if self.interests().next().is_none() {
            self.next = Some(now);
        }
        result
    }

    /// Does what can be done now: asks, connects, gives up. With `short` it
    /// neither asks nor connects; with an error, this machine's, something is
    /// left to do.
    pub fn advance(
        &mut self,
        helpers: &mut Helpers,
        asker: Asker,
        now: Instant,
        short: bool,
    ) -> io::Result<()> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.time_out(now);
            return Ok(());
        }
        let mut done = Ok(());
        if self.is_running() && !short {
            done = self.lookup.ask(helpers, asker);
        }
        if self.state == State::Probing && !short {
            done = self.connect(now).and(done);
        }
        let open = self.lookup.is_any_open();
        match self.state {
            State::Looking if !open => self.state = State::Over,
            State::Probing
                if !open && self.untried().is_none() && self.interests().next().is_none() =>
            {
                self.settle(false, now);
            }
            _ => {}
        }
        done
    }

    /// Makes the attempts that are due.
    fn connect(&mut self, now: Instant) -> io::Result<()> {
        while self.next.is_none_or(|next| next <= now) {
            let Some((family, address)) = self.untried() else {
                break;
            };
            let attempt = Attempt::begin(address, now)?;
            self.tried[family as usize] += 1;
            self.latest = family;
            self.next = attempt.interest().map(|_| now + ATTEMPT_DELAY);
            self.attempts.push(attempt);
        }
        Ok(())
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

    /// Gives up without having begun: the deadline came first.
    pub fn give_up(&mut self) {
        self.lookup.want([true; 2]);
        self.lookup.time_out();
        self.up = self.up.or(Some(false));
        self.state = State::Over;
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
            self.abandon();
            self.state = State::Looking;
        }
    }

    /// Stops everything, except hearing a server out that is up, so that
    /// `QUIT` can be sent when its greeting has come whole.
    pub fn abandon(&mut self) {
        self.state = State::Over;
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
}

/// The socket address of a host that is given by address.
pub fn address(host: &Host, port: u16) -> Option<SocketAddr> {
    match host {
        Host::Address(ip) => Some(SocketAddr::new(*ip, port)),
        Host::LinkLocal(ip, zone) => {
            let index = match decimal(zone.to_bytes()) {
                Some(index) => index,
                None => sys::interface(zone)?,
            };
            Some(SocketAddrV6::new(*ip, port, 0, index).into())
        }
        Host::Name(_) | Host::Nowhere => None,
    }
}

/// Whether two addresses are the same but for the port. The interface counts
/// only where both name one.
pub fn same_host(one: &SocketAddr, other: &SocketAddr) -> bool {
    let zone = |address: &SocketAddr| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let canonical = |ip: IpAddr| ip.to_canonical();
    canonical(one.ip()) == canonical(other.ip())
        && (zone(one) == zone(other) || zone(one) == 0 || zone(other) == 0)
}
