//! The `--stop` hosts: their addresses, and which server is one of them.

use std::net::SocketAddr;

use crate::escape::Escaped;
use crate::lookup::pool::Token;
use crate::lookup::{Answer, FAMILIES, Failure, Knowledge, Lookup, Resolver};
use crate::options::Stop;
use crate::server::Host;
use crate::sys;

/// What a server is to the stop rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is a stop host.
    Stop,
    /// It is none.
    Other,
    /// It may be one, and that will not be known any more: the name servers
    /// did not tell all its addresses.
    Doubtful,
    /// It will prove to be a stop host or doubtful.
    StopOrDoubtful,
    /// It may prove to be one; with `may_be_doubtful`, it may also end as
    /// doubtful.
    Open { may_be_doubtful: bool },
}

/// The stop hosts.
pub struct Stops<'a> {
    given: &'a [Stop],
    /// Their lookups, in the same order.
    lookups: Vec<Lookup>,
    /// All addresses known so far, sorted.
    addresses: Vec<Identity>,
    /// The families that are used.
    families: [bool; 2],
    /// Whether any lookup may be answered yet.
    is_pending: bool,
    /// The families in which a server can be a stop host.
    relevant_families: [bool; 2],
}

/// An address, an IPv4 one as it is mapped to IPv6, and the interface of one
/// that is link-local, or zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Identity {
    ip: [u8; 16],
    interface: u32,
}

impl Identity {
    #[inline(never)]
    fn of(address: &SocketAddr) -> Self {
        let (ip, interface) = match address {
            SocketAddr::V4(ipv4) => (ipv4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(ipv6) => (*ipv6.ip(), ipv6.scope_id()),
        };
        let ip = ip.octets();
        Identity { ip, interface }
    }
}

/// Inserts into a sorted list, unless it has an equal one.
fn insert(list: &mut Vec<Identity>, address: Identity) {
    let at = list.partition_point(|other| *other < address);
    if list.get(at) != Some(&address) {
        list.insert(at, address);
    }
}

impl<'a> Stops<'a> {
    /// The stop hosts as they were given. `addresses` has those of the hosts
    /// that were given by address; the others are to be looked up in these
    /// families.
    #[inline(never)]
    pub fn new(given: &'a [Stop], addresses: &[Option<SocketAddr>], families: [bool; 2]) -> Self {
        let mut stops = Stops {
            given,
            lookups: Vec::new(),
            addresses: Vec::new(),
            families,
            is_pending: false,
            relevant_families: families,
        };
        for (stop, address) in given.iter().zip(addresses) {
            let lookup = match &stop.host {
                Host::Name(_) => {
                    let mut lookup = Lookup::of_name(&stop.text);
                    lookup.want(families);
                    lookup
                }
                _ => Lookup::of_address(*address),
            };
            stops.lookups.push(lookup);
        }
        for address in addresses.iter().flatten() {
            insert(&mut stops.addresses, Identity::of(address));
        }
        stops.update();
        stops
    }

    /// Brings what follows from the lookups up to date.
    fn update(&mut self) {
        self.is_pending = self.lookups.iter().any(Lookup::is_any_pending);
        let mut has_address = [false; 2];
        for lookup in &self.lookups {
            for family in FAMILIES {
                has_address[family as usize] |= !lookup.addresses(family).is_empty();
            }
        }
        self.relevant_families = FAMILIES.map(|family| {
            let is_relevant = self.is_pending || has_address[family as usize];
            self.families[family as usize] && is_relevant
        });
    }

    /// Whether any lookup may be answered yet. Until then one may fail.
    pub fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// The first one from `from` on that has something to submit.
    pub fn next_wanted(&self, from: usize) -> Option<usize> {
        (from..self.lookups.len()).find(|&i| self.lookups[i].is_wanted())
    }

    /// Submits a lookup. After an error, this machine's, it is still wanted.
    pub fn submit(&mut self, i: usize, resolver: &mut Resolver, token: Token) -> sys::Result<()> {
        self.lookups[i].submit(resolver, token)
    }

    /// Takes the answer of a lookup. An error is this machine's.
    pub fn take(&mut self, i: usize, answer: Answer) -> sys::Result<()> {
        let lookup = &mut self.lookups[i];
        let result = lookup.take(answer, 0);
        for family in FAMILIES {
            for address in lookup.addresses(family) {
                insert(&mut self.addresses, Identity::of(address));
            }
        }
        self.update();
        result
    }

    /// Gives up what has not been answered.
    pub fn time_out(&mut self) {
        self.lookups.iter_mut().for_each(Lookup::time_out);
        self.update();
    }

    /// What a failed lookup means for the check, as a message.
    pub fn check(&self) -> Result<(), String> {
        for (stop, lookup) in self.given.iter().zip(&self.lookups) {
            let failed = |with: &[Failure]| {
                let failures = FAMILIES.iter().filter_map(|&family| lookup.failure(family));
                failures.into_iter().any(|failure| with.contains(&failure))
            };
            let why = if failed(&[Failure::OutOfTime, Failure::NotAsked]) {
                "no answer in time"
            } else if failed(&[Failure::NameServer]) {
                "name server failed"
            } else if lookup.is_any_pending() || lookup.has_address() {
                continue;
            } else {
                "no such host"
            };
            let stop = Escaped(&stop.text);
            return Err(format!("cannot look up --stop '{stop}': {why}"));
        }
        Ok(())
    }

    /// The text of a stop host, for messages.
    pub fn text(&self, i: usize) -> &'a [u8] {
        &self.given[i].text
    }

    /// The families in which a server can be a stop host.
    pub fn relevant_families(&self) -> [bool; 2] {
        self.relevant_families
    }

    /// Whether a host is a stop host by its name.
    pub fn is_named(&self, host: &Host) -> bool {
        let is_name = matches!(host, Host::Name(_));
        is_name && self.given.iter().any(|stop| stop.host == *host)
    }

    /// What a server with these addresses is to the stop rule.
    pub fn standing(&self, lookup: &Lookup) -> Standing {
        // A host that was given by address has one in a family that is not
        // used, too.
        let mut addresses = FAMILIES.iter().flat_map(|&f| lookup.addresses(f));
        if addresses.any(|of| self.has(of)) {
            return Standing::Stop;
        }
        let (mut is_open, mut is_doubtful) = (self.is_pending, false);
        let mut may_be_doubtful = false;
        for (family, is_relevant) in FAMILIES.into_iter().zip(self.relevant_families) {
            match lookup.knowledge(family) {
                Knowledge::Open if is_relevant => (is_open, may_be_doubtful) = (true, true),
                Knowledge::Incomplete if is_relevant => {
                    (is_doubtful, may_be_doubtful) = (true, true);
                }
                _ => {}
            }
        }
        match (is_open, is_doubtful) {
            // Until the stop hosts are known, a family may prove irrelevant.
            (true, true) if !self.is_pending => Standing::StopOrDoubtful,
            (true, _) => Standing::Open { may_be_doubtful },
            (false, true) => Standing::Doubtful,
            (false, false) => Standing::Other,
        }
    }

    /// Whether this is the address of a stop host. Where one of the two has no
    /// interface, any will do.
    fn has(&self, address: &SocketAddr) -> bool {
        let Identity { ip, interface } = Identity::of(address);
        let from = self.addresses.partition_point(|known| known.ip < ip);
        let same = self.addresses[from..].iter();
        same.take_while(|known| known.ip == ip)
            .any(|known| known.interface == interface || known.interface == 0 || interface == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn stop(text: &str) -> Stop {
        Stop {
            text: text.into(),
            host: Host::parse(text.as_bytes()),
        }
    }

    fn socket(ip: &str, scope: u32) -> SocketAddr {
        match ip.parse().expect("an address") {
            IpAddr::V4(ip) => SocketAddr::from((ip, 25)),
            IpAddr::V6(ip) => std::net::SocketAddrV6::new(ip, 25, 0, scope).into(),
        }
    }

    #[test]
    fn addresses_compare_by_value_and_interface() {
        let given = ["192.0.2.9", "fe80::1", "fe80::2", "fe80::2"].map(stop);
        let addresses = [
            Some(socket("192.0.2.9", 0)),
            Some(socket("fe80::1", 0)),
            Some(socket("fe80::2", 3)),
            Some(socket("fe80::2", 4)),
        ];
        let stops = Stops::new(&given, &addresses, [true; 2]);
        assert!(!stops.is_pending());
        assert_eq!(stops.relevant_families(), [true; 2]);
        let rows = [
            ("192.0.2.9", 0, Standing::Stop),
            ("192.0.2.90", 0, Standing::Other),
            ("2001:db8::9", 0, Standing::Other),
            ("fe80::1", 0, Standing::Stop),
            ("fe80::1", 7, Standing::Stop),
            ("fe80::2", 3, Standing::Stop),
            ("fe80::2", 4, Standing::Stop),
            ("fe80::2", 0, Standing::Stop),
            ("fe80::2", 5, Standing::Other),
        ];
        for (ip, scope, standing) in rows {
            let lookup = Lookup::of_address(Some(socket(ip, scope)));
            let found = stops.standing(&lookup);
            assert_eq!(found, standing, "{ip} {scope}");
        }
    }

    /// An address in a family that is not used is this machine's all the same.
    #[test]
    fn unused_families_count_where_both_addresses_are_given() {
        let given = [stop("2001:db8::9")];
        let stops = Stops::new(&given, &[Some(socket("2001:db8::9", 0))], [true, false]);
        let lookup = |ip| Lookup::of_address(Some(socket(ip, 0)));
        assert_eq!(stops.standing(&lookup("2001:db8::9")), Standing::Stop);
        assert_eq!(stops.standing(&lookup("192.0.2.9")), Standing::Other);
    }

    #[test]
    fn names_compare_as_hosts() {
        let given = ["me.test", "Also.test."].map(stop);
        let stops = Stops::new(&given, &[None, None], [true; 2]);
        for (name, expected) in [("ME.test", true), ("also.test", true), ("a.test", false)] {
            assert_eq!(stops.is_named(&Host::parse(name.as_bytes())), expected);
        }
        assert!(!stops.is_named(&Host::Nowhere));
    }

    #[test]
    fn a_server_of_unknown_addresses_is_open_where_they_matter() {
        let name = Lookup::of_name(b"mx.test");
        let open = Standing::Open {
            may_be_doubtful: true,
        };
        let rows: [(&[&str], [bool; 2], Standing); 3] = [
            (&["192.0.2.9"], [true, true], open),
            (&["2001:db8::9"], [true, false], Standing::Other),
            (&[], [true, true], Standing::Other),
        ];
        for (given, families, standing) in rows {
            let addresses: Vec<_> = given.iter().map(|ip| Some(socket(ip, 0))).collect();
            let given: Vec<_> = given.iter().copied().map(stop).collect();
            let stops = Stops::new(&given, &addresses, families);
            let found = stops.standing(&name);
            assert_eq!(found, standing, "{} {families:?}", given.len());
        }
        // Until the stop hosts are known, any server may be one.
        let given = [stop("me.test")];
        let stops = Stops::new(&given, &[None], [true; 2]);
        let lookup = Lookup::of_address(Some(socket("192.0.2.1", 0)));
        let found = stops.standing(&lookup);
        let may_be_doubtful = false;
        assert_eq!(found, Standing::Open { may_be_doubtful });
    }
}
