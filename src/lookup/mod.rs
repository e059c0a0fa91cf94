//! The addresses of one host: which families are asked for, and what came of
//! it. The calls themselves run in the [`pool`]; [`mx`] finds the servers of a
//! domain.
//!
//! The two families are asked for separately: with musl, one AAAA query that
//! fails or hangs would turn a good A record into a failure (`EAI_AGAIN`, after
//! five seconds).

pub mod message;
pub mod mx;
pub mod pool;

use std::ffi::CStr;
use std::net::SocketAddr;

use crate::sys;
use crate::sys::resolver::{self, Family, LookupError};
use pool::{Pool, Submitted, Ticket, Token};

/// Both families, in the order of the arrays that have an entry for each.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// How many addresses of a family are kept. musl itself returns no more, so a
/// host that has as many may have others.
const MAX_ADDRESSES: usize = 48;

/// What the threads look up.
pub enum Query {
    /// The addresses of a name in one family.
    Addresses(&'static CStr, Family),
    /// The MX records of a domain.
    Mx(&'static CStr),
}

/// What came of a query.
pub enum Answer {
    Addresses(Family, Result<Vec<SocketAddr>, LookupError>),
    Mx(mx::Answer),
}

/// The threads that look names up.
pub type Resolver = Pool<Query, Answer>;

/// A resolver that has not begun anything.
pub fn resolver() -> Resolver {
    Pool::new(|query| match query {
        Query::Addresses(name, family) => {
            Answer::Addresses(family, resolver::addresses(name, family, MAX_ADDRESSES))
        }
        Query::Mx(domain) => Answer::Mx(mx::ask(domain)),
    })
}

/// Submits a query. An error is this machine's.
fn submit(resolver: &mut Resolver, token: Token, query: Query) -> sys::Result<Submitted> {
    if !resolver.is_started() {
        #[cfg(not(test))]
        sys::process::catch_division_by_zero();
    }
    resolver.submit(token, query)
}

/// Why a family has no addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The name does not exist, or has no address of the family.
    NoSuchHost,
    /// The name servers failed.
    NameServer,
    /// There was no answer before the deadline.
    OutOfTime,
    /// The deadline passed before anybody was asked.
    NotAsked,
}

/// What is known of the addresses in one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Knowledge {
    /// There may be an answer yet.
    Open,
    /// All addresses are known, or there are none.
    Complete,
    /// Some may be missing, and will not be known any more.
    Incomplete,
}

/// How far the lookup in one family has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FamilyState {
    /// It is not wanted.
    Idle,
    /// It is wanted, but not submitted.
    Wanted,
    /// It has been submitted, and can be cancelled by this.
    Submitted(Ticket),
    /// Its addresses are known, or as many of them as are kept.
    Found(Knowledge),
    /// There are none, or they are not known.
    Failed(Failure),
}

/// The addresses of one host.
pub struct Lookup {
    /// The name to look up; empty where the address was given.
    name: &'static CStr,
    states: [FamilyState; 2],
    addresses: [Vec<SocketAddr>; 2],
    /// It waited for a free thread; the delay was ours.
    pub was_queued: bool,
}

impl Lookup {
    /// The lookup of a name, which is not wanted yet.
    pub fn of_name(name: &[u8]) -> Self {
        Lookup {
            name: sys::c_string(name),
            states: [FamilyState::Idle; 2],
            addresses: [Vec::new(), Vec::new()],
            was_queued: false,
        }
    }

    /// The lookup of an address, or of no host at all: there is nothing left
    /// to do.
    pub fn of_address(address: Option<SocketAddr>) -> Self {
        let mut lookup = Self::of_name(b"");
        lookup.states = [FamilyState::Failed(Failure::NoSuchHost); 2];
        if let Some(address) = address {
            let family = usize::from(address.is_ipv6());
            lookup.addresses[family].push(address);
            lookup.states[family] = FamilyState::Found(Knowledge::Complete);
        }
        lookup
    }

    /// Wants those families that are not wanted yet.
    pub fn want(&mut self, families: [bool; 2]) {
        for (state, wanted) in self.states.iter_mut().zip(families) {
            if wanted && *state == FamilyState::Idle {
                *state = FamilyState::Wanted;
            }
        }
    }

    /// Whether there is something to submit.
    pub fn is_wanted(&self) -> bool {
        self.states.contains(&FamilyState::Wanted)
    }

    /// Submits one family that is wanted. An error is this machine's: the
    /// family is still wanted.
    pub fn submit(&mut self, resolver: &mut Resolver, token: Token) -> sys::Result<()> {
        let is_wanted = |&family: &Family| self.states[family as usize] == FamilyState::Wanted;
        if let Some(family) = FAMILIES.into_iter().find(is_wanted) {
            let query = Query::Addresses(self.name, family);
            let submitted = submit(resolver, token, query)?;
            self.states[family as usize] = FamilyState::Submitted(submitted.ticket);
            self.was_queued |= submitted.is_queued;
        }
        Ok(())
    }

    /// Takes back what is still in the queue: it is wanted again. Returns
    /// whether there was anything.
    pub fn cancel(&mut self, resolver: &Resolver) -> bool {
        let mut any = false;
        for state in &mut self.states {
            if matches!(*state, FamilyState::Submitted(ticket) if resolver.cancel(ticket)) {
                *state = FamilyState::Wanted;
                any = true;
            }
        }
        any
    }

    /// Takes an answer, with `port` as the port of each address. An error is
    /// this machine's: the family is wanted again.
    pub fn take(&mut self, answer: Answer, port: u16) -> sys::Result<()> {
        let Answer::Addresses(family, result) = answer else {
            return Ok(());
        };
        let family = family as usize;
        if !matches!(self.states[family], FamilyState::Submitted(_)) {
            return Ok(());
        }
        self.states[family] = match result {
            Ok(addresses) => {
                let knowledge = match addresses.len() {
                    MAX_ADDRESSES.. => Knowledge::Incomplete,
                    _ => Knowledge::Complete,
                };
                let known = &mut self.addresses[family];
                for mut address in addresses {
                    address.set_port(port);
                    // A mapped IPv4 address is no answer to a query for IPv6:
                    // so only an IPv4 lookup can find an IPv4 stop host.
                    let is_mapped = address.ip().to_canonical() != address.ip();
                    if !is_mapped && !known.contains(&address) {
                        known.push(address);
                    }
                }
                match known.len() {
                    0 => FamilyState::Failed(Failure::NoSuchHost),
                    _ => FamilyState::Found(knowledge),
                }
            }
            Err(LookupError::NoSuchHost) => FamilyState::Failed(Failure::NoSuchHost),
            Err(LookupError::NameServer) => FamilyState::Failed(Failure::NameServer),
            Err(LookupError::Machine(error)) => {
                self.states[family] = FamilyState::Wanted;
                return Err(error);
            }
        };
        Ok(())
    }

    /// Gives up what has not been answered.
    pub fn time_out(&mut self) {
        for state in &mut self.states {
            match state {
                FamilyState::Wanted => *state = FamilyState::Failed(Failure::NotAsked),
                FamilyState::Submitted(_) => *state = FamilyState::Failed(Failure::OutOfTime),
                _ => {}
            }
        }
    }

    /// The known addresses of a family, in the resolver's order.
    pub fn addresses(&self, family: Family) -> &[SocketAddr] {
        &self.addresses[family as usize]
    }

    /// Whether any address is known.
    pub fn has_address(&self) -> bool {
        self.addresses.iter().any(|addresses| !addresses.is_empty())
    }

    /// Whether a family is wanted and may be answered yet.
    pub fn is_pending(&self, family: Family) -> bool {
        matches!(
            self.states[family as usize],
            FamilyState::Wanted | FamilyState::Submitted(_)
        )
    }

    /// Whether any family is wanted and may be answered yet.
    pub fn is_any_pending(&self) -> bool {
        FAMILIES.iter().any(|&family| self.is_pending(family))
    }

    /// What is known of a family's addresses, whether it is wanted or not.
    pub fn knowledge(&self, family: Family) -> Knowledge {
        match self.states[family as usize] {
            FamilyState::Idle | FamilyState::Wanted | FamilyState::Submitted(_) => Knowledge::Open,
            FamilyState::Found(knowledge) => knowledge,
            FamilyState::Failed(Failure::NoSuchHost) => Knowledge::Complete,
            FamilyState::Failed(_) => Knowledge::Incomplete,
        }
    }

    /// Why a family has no addresses.
    pub fn failure(&self, family: Family) -> Option<Failure> {
        match self.states[family as usize] {
            FamilyState::Failed(failure) if !self.name.is_empty() => Some(failure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 0))
    }

    fn submitted() -> Lookup {
        let mut lookup = Lookup::of_name(b"mx.test");
        lookup.want([true; 2]);
        let mut resolver = Pool::new(|_| Answer::Mx(Err(mx::Unknown::NoAnswer)));
        while lookup.is_wanted() {
            lookup.submit(&mut resolver, 0).expect("a thread");
        }
        lookup
    }

    fn answer(family: Family, result: Result<Vec<SocketAddr>, LookupError>) -> Answer {
        Answer::Addresses(family, result)
    }

    #[test]
    fn knowledge_of_every_answer() {
        use Failure::{NameServer, NoSuchHost};
        use Knowledge::{Complete, Incomplete};
        let many = |count| (0..count).map(address).collect::<Vec<_>>();
        let mapped = vec!["[::ffff:192.0.2.1]:0".parse().expect("an address")];
        let rows = [
            (Ok(many(1)), Complete, None, 1),
            (Ok(many(47)), Complete, None, 47),
            // musl stops here.
            (Ok(many(48)), Incomplete, None, 48),
            (Ok(vec![address(1); 47]), Complete, None, 1),
            (Ok(vec![address(1); 48]), Incomplete, None, 1),
            (Ok(vec![]), Complete, Some(NoSuchHost), 0),
            (Ok(mapped), Complete, Some(NoSuchHost), 0),
            (Err(LookupError::NoSuchHost), Complete, Some(NoSuchHost), 0),
            (
                Err(LookupError::NameServer),
                Incomplete,
                Some(NameServer),
                0,
            ),
        ];
        for (result, knowledge, failure, count) in rows {
            let mut lookup = submitted();
            let shown = format!("{result:?}");
            assert_eq!(lookup.take(answer(Family::V4, result), 25), Ok(()));
            assert_eq!(lookup.knowledge(Family::V4), knowledge, "{shown}");
            assert_eq!(lookup.failure(Family::V4), failure, "{shown}");
            let addresses = lookup.addresses(Family::V4);
            assert_eq!(addresses.len(), count, "{shown}");
            assert!(addresses.iter().all(|address| address.port() == 25));
            // The other family is not touched, and a second answer is none.
            assert!(lookup.is_pending(Family::V6));
            assert_eq!(
                lookup.take(answer(Family::V4, Ok(vec![address(200)])), 25),
                Ok(())
            );
            assert_eq!(lookup.addresses(Family::V4).len(), count, "{shown}");
        }
    }

    #[test]
    fn what_this_machine_fails_at_is_wanted_again() {
        let mut lookup = submitted();
        let failed = Err(LookupError::Machine(sys::Errno(libc::EMFILE)));
        let taken = lookup.take(answer(Family::V6, failed), 25);
        assert_eq!(taken, Err(sys::Errno(libc::EMFILE)));
        assert!(lookup.is_wanted() && lookup.is_pending(Family::V6));
        lookup.time_out();
        assert_eq!(lookup.failure(Family::V6), Some(Failure::NotAsked));
        assert_eq!(lookup.failure(Family::V4), Some(Failure::OutOfTime));
        assert_eq!(lookup.knowledge(Family::V6), Knowledge::Incomplete);
        assert!(!lookup.is_any_pending());
    }

    #[test]
    fn an_address_needs_no_lookup() {
        let mut lookup = Lookup::of_address(Some(address(1)));
        lookup.want([true; 2]);
        assert!(!lookup.is_wanted() && !lookup.is_any_pending());
        assert_eq!(lookup.addresses(Family::V4), [address(1)]);
        for family in FAMILIES {
            assert_eq!(lookup.knowledge(family), Knowledge::Complete);
            assert_eq!(lookup.failure(family), None);
        }
    }
}
