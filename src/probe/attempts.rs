//! Which address is tried next, and when (RFC 8305). Pure: no socket, no
//! clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sys::resolver::Family;

/// How long to wait for IPv6 addresses when the IPv4 ones are there: the
/// resolution delay of RFC 8305, section 3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long one attempt has for itself before the next one begins: the
/// connection attempt delay of RFC 8305, section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The known addresses of a host, a list a family.
pub type Addresses<'a> = [&'a [SocketAddr]; 2];

/// The order of attempts at the addresses of one host, of which more may
/// become known meanwhile.
pub struct Schedule {
    /// How many addresses of each family have been tried.
    tried: [usize; 2],
    /// The family of the latest attempt.
    latest: Family,
    /// When the next attempt is due; `None`: at once.
    due: Option<Instant>,
}

impl Schedule {
    /// No address has been tried.
    pub fn new() -> Self {
        Schedule {
            tried: [0; 2],
            latest: Family::V4,
            due: None,
        }
    }

    /// The next address, if one is left: the families take turns, IPv6 first
    /// (RFC 8305, section 4).
    pub fn next(&self, addresses: Addresses) -> Option<SocketAddr> {
        let turns = match self.latest {
            Family::V4 => [Family::V6, Family::V4],
            Family::V6 => [Family::V4, Family::V6],
        };
        let untried = |family| addresses[family as usize].get(self.tried[family as usize]);
        turns.into_iter().find_map(untried).copied()
    }

    /// The next address, if it is due.
    pub fn next_due(&self, addresses: Addresses, now: Instant) -> Option<SocketAddr> {
        let is_due = self.due.is_none_or(|due| due <= now);
        self.next(addresses).filter(|_| is_due)
    }

    /// When the next attempt is due; `None`: at once.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// More addresses are known. None has been tried yet; `is_ipv6_pending`
    /// says whether those of IPv6 may still come.
    pub fn resolved(&mut self, addresses: Addresses, is_ipv6_pending: bool, now: Instant) {
        let [ipv4, ipv6] = addresses;
        let waits = is_ipv6_pending && ipv6.is_empty() && !ipv4.is_empty();
        self.due = waits.then(|| now + RESOLUTION_DELAY);
    }

    /// An attempt at the next address has begun.
    pub fn begun(&mut self, address: SocketAddr, now: Instant) {
        self.latest = match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        self.tried[self.latest as usize] += 1;
        self.due = Some(now + ATTEMPT_DELAY);
    }

    /// An attempt has failed, or none is under way: the next one is due.
    pub fn advance(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 25))
    }

    fn ipv6(number: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 25))
    }

    fn order(ipv4: &[SocketAddr], ipv6: &[SocketAddr]) -> Vec<SocketAddr> {
        let (mut schedule, now) = (Schedule::new(), Instant::now());
        std::iter::from_fn(|| {
            let next = schedule.next([ipv4, ipv6])?;
            schedule.begun(next, now);
            Some(next)
        })
        .collect()
    }

    #[test]
    fn families_take_turns_in_the_resolver_s_order() {
        let (v4, v6) = ([1, 2, 3].map(ipv4), [1, 2, 3].map(ipv6));
        assert_eq!(order(&[], &[]), []);
        assert_eq!(order(&v4, &[]), v4);
        assert_eq!(order(&[], &v6), v6);
        assert_eq!(order(&v4[..2], &v6[..1]), [v6[0], v4[0], v4[1]]);
        assert_eq!(order(&v4[..1], &v6), [v6[0], v4[0], v6[1], v6[2]]);
        assert_eq!(order(&v4, &v6), [v6[0], v4[0], v6[1], v4[1], v6[2], v4[2]]);
    }

    #[test]
    fn addresses_that_come_late_take_their_turn() {
        let (mut schedule, now) = (Schedule::new(), Instant::now());
        let v4 = [1, 2].map(ipv4);
        schedule.begun(v4[0], now);
        assert_eq!(schedule.next([&v4, &[ipv6(1)]]), Some(ipv6(1)));
        schedule.begun(ipv6(1), now);
        assert_eq!(schedule.next([&v4, &[ipv6(1)]]), Some(v4[1]));
    }

    #[test]
    fn the_next_attempt_waits_or_follows_a_failure() {
        let (mut schedule, now) = (Schedule::new(), Instant::now());
        let v4: &[SocketAddr] = &[1, 2].map(ipv4);
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        let addresses = [v4, &[]];
        schedule.begun(v4[0], now);
        assert_eq!(schedule.next_due(addresses, at(249)), None);
        assert_eq!(schedule.next_due(addresses, at(250)), Some(v4[1]));
        schedule.advance();
        assert_eq!(schedule.next_due(addresses, now), Some(v4[1]));
        schedule.begun(v4[1], now);
        assert_eq!(schedule.next_due(addresses, at(1000)), None);
    }

    /// Pending IPv6 addresses, IPv4 and IPv6 addresses, and whether to wait.
    #[test]
    fn ipv4_waits_a_moment_for_ipv6() {
        let (v4, v6) = ([ipv4(1)], [ipv6(1)]);
        let rows: [(bool, Addresses, bool); 5] = [
            (true, [&v4, &[]], true),
            (false, [&v4, &[]], false),
            (true, [&[], &[]], false),
            (true, [&[], &v6], false),
            (true, [&v4, &v6], false),
        ];
        let now = Instant::now();
        for (pending, addresses, waits) in rows {
            let mut schedule = Schedule::new();
            schedule.resolved(addresses, pending, now);
            let due = waits.then(|| now + Duration::from_millis(50));
            assert_eq!(schedule.due(), due, "{pending} {addresses:?}");
        }
    }
}
