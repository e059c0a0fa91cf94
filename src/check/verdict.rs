//! Which server is the answer. Pure: no clock, no network.
//!
//! The rule, for servers s0 … sn-1 of which some have a priority: let k be the
//! first stop host, or n where there is none. Candidates are the servers
//! before k, less those of k's priority. The answer is the first candidate
//! that is up. If there must be a stop host and there is none, that is the
//! answer.
//!
//! What is not known yet, and can still change the answer, is [`super::need`].

use super::list::{List, Occurrence};

/// What has been found out about one host. `None`: nothing yet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Known {
    /// Whether it is a stop host.
    pub stop: Option<bool>,
    /// Whether it is up.
    pub up: Option<bool>,
}

/// What the rule comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// This server is up.
    Up(usize),
    NoneUp,
    /// There must be a stop host, but there is none.
    NoStop,
}

/// The rule, for one list of servers.
pub struct Verdict {
    /// The list.
    pub list: List,
    /// What is known of each host.
    known: Vec<Known>,
    /// All servers before this one are down and no stop hosts.
    settled: usize,
    /// Whether there must be a stop host.
    must_stop: bool,
}

impl Verdict {
    /// The rule for a list of which nothing is known.
    pub fn new(list: List, must_stop: bool) -> Self {
        let count = list.hosts.len();
        Verdict {
            list,
            known: vec![Known::default(); count],
            settled: 0,
            must_stop,
        }
    }

    /// Notes what is known of a host. It can only become more.
    pub fn learn(&mut self, host: usize, known: Known) {
        self.known[host] = known;
    }

    /// What is known of a host.
    pub fn known(&self, host: usize) -> Known {
        self.known[host]
    }

    /// The first server that is not known to be down and no stop host.
    pub fn first_open(&mut self) -> usize {
        while self.settled < self.list.servers.len()
            && self.up(self.settled) == Some(false)
            && self.stop(self.settled) == Some(false)
        {
            self.settled += 1;
        }
        self.settled
    }

    /// Whether a server is up.
    pub fn up(&self, i: usize) -> Option<bool> {
        self.known[self.list.servers[i].host].up
    }

    /// Whether a server is a stop host, as far as that matters: of the servers
    /// of one host only the first one can be the first stop host.
    pub fn stop(&self, i: usize) -> Option<bool> {
        let server = &self.list.servers[i];
        match server.occurrence {
            Occurrence::First => self.known[server.host].stop,
            _ => Some(false),
        }
    }

    /// The answer, taking what is unknown for "no".
    pub fn answer(&self) -> Answer {
        let stop = self.sure_stop();
        if self.misses_stop(stop) {
            return Answer::NoStop;
        }
        let is_answer = |&i: &usize| self.up(i) == Some(true) && !self.excludes(stop, i);
        let answer = (self.settled..stop).find(is_answer);
        answer.map_or(Answer::NoneUp, Answer::Up)
    }

    /// Whether there must be a stop host, and `k` is none.
    pub fn misses_stop(&self, k: usize) -> bool {
        self.must_stop && k == self.list.servers.len()
    }

    /// Whether the stop host `stop` has the priority of server `i`.
    pub fn excludes(&self, stop: usize, i: usize) -> bool {
        self.list.class(stop) == self.list.class(i)
    }

    /// The first server known to be a stop host, or the length of the list.
    pub fn sure_stop(&self) -> usize {
        let count = self.list.servers.len();
        let stop = (self.settled..count).find(|&i| self.stop(i) == Some(true));
        stop.unwrap_or(count)
    }
}

#[cfg(test)]
impl Verdict {
    /// Forgets what was settled, for a test that makes what is known less.
    pub fn begin_anew(&mut self) {
        self.settled = 0;
    }
}
