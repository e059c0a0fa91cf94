//! What is known of each host, told to the verdict, the cache and the report.

use std::time::{Duration, Instant};

use super::list::List;
use super::stops::Standing;
use super::verdict::{Answer, Known, Verdict};
use crate::options::Options;
use crate::probe::Probe;
use crate::report::{Report, Unneeded};
use crate::server::Server;
use crate::store::Cache;
use crate::store::servers::{Entry, Found, Subject};

/// A server that took at least this long to prove down is remembered as such.
/// What is cheap to find out again is not.
const SLOW: Duration = Duration::from_secs(1);

/// How long another process is waited for at most that asks the same server:
/// long enough for one that greets late.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How to find out whether a host is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// It is remembered.
    Known(bool),
    /// Another process is asking: what it finds out is waited for.
    Wait,
    /// By a probe.
    Ask,
}

/// What is known of one host.
#[derive(Clone, Copy)]
struct Finding {
    /// What the cache had of it.
    entry: Entry,
    /// Until when another process is waited for, if that was ever begun.
    waits_until: Option<Instant>,
    standing: Standing,
    /// Whether it is up, as its probe or the cache knows.
    up: Option<bool>,
}

/// What is known of all hosts.
pub struct Findings<'a> {
    options: &'a Options,
    report: &'a Report,
    pub cache: &'a mut Option<Cache>,
    pub verdict: Verdict,
    of_host: Vec<Finding>,
    /// Something is to be worked out anew.
    changed: bool,
}

impl<'a> Findings<'a> {
    /// Nothing is known.
    pub fn new(
        options: &'a Options,
        report: &'a Report,
        cache: &'a mut Option<Cache>,
        list: List,
    ) -> Self {
        let nothing = Finding {
            entry: Entry::Absent,
            waits_until: None,
            standing: Standing::Open {
                may_be_doubtful: false,
            },
            up: None,
        };
        Findings {
            options,
            report,
            cache,
            of_host: vec![nothing; list.hosts.len()],
            verdict: Verdict::new(list, options.must_stop()),
            changed: true,
        }
    }

    /// The first server of a host.
    pub fn server(&self, host: usize) -> &'a Server {
        &self.options.servers[self.verdict.list.hosts[host]]
    }

    /// There is something to work out anew.
    pub fn set_changed(&mut self) {
        self.changed = true;
    }

    pub fn has_changed(&self) -> bool {
        self.changed
    }

    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Looks a host up in the cache that is to be probed, with this deadline if
    /// it begins now.
    pub fn look_up(&mut self, host: usize, now: Instant, deadline: Option<Instant>) -> Way {
        let mut entry = match &*self.cache {
            Some(cache) => cache.look_up(&self.subject(host)),
            None => Entry::Absent,
        };
        let finding = &mut self.of_host[host];
        if entry == Entry::Awaited {
            let until = *finding.waits_until.get_or_insert_with(|| {
                // Half of the time is left to ask.
                let left = deadline.map_or(Duration::MAX, |deadline| deadline - now);
                now + MAX_WAIT.min(left / 2)
            });
            if now < until {
                return Way::Wait;
            }
            entry = Entry::Absent;
        }
        finding.entry = entry;
        entry.up().map_or(Way::Ask, Way::Known)
    }

    /// Lets other processes ask about a host, if they leave that to this one.
    pub fn release(&mut self, host: usize) {
        self.settle(host, Found::Nothing);
    }

    /// Remembers what was found out about a host, and lets other processes ask.
    fn settle(&mut self, host: usize, found: Found) {
        let is_claim = self.of_host[host].entry.is_claim();
        if is_claim {
            self.of_host[host].entry = Entry::Absent;
        }
        if let (Some(cache), true) = (&*self.cache, is_claim || found != Found::Nothing) {
            cache.settle(&self.subject(host), found, is_claim);
        }
    }

    fn subject(&self, host: usize) -> Subject<'a> {
        Subject {
            server: self.server(host),
            port: self.options.port,
            families: self.options.families,
            sources: &self.options.source_addresses,
        }
    }

    /// Notes what a probe has found out about its host, and what that is to
    /// the stop rule.
    pub fn learn(&mut self, host: usize, standing: Standing, probe: &Probe) {
        let finding = &mut self.of_host[host];
        finding.standing = standing;
        let is_result = finding.up != probe.up;
        finding.up = probe.up;
        let entry = finding.entry;
        if is_result {
            // What is from the cache is nothing new.
            if entry.up().is_none() {
                self.settle(host, found_out(probe, self.options.timeout));
            }
            if self.options.verbose {
                let is_stop = standing == Standing::Stop;
                for i in self.verdict.list.servers_of(host) {
                    let server = &self.options.servers[i];
                    self.report.result(server, probe, entry, is_stop);
                }
            }
        }
        let known = as_known(standing, probe.up);
        if known != self.verdict.known(host) && !probe.was_short {
            self.verdict.learn(host, known);
            self.changed = true;
        }
    }

    /// Reports the servers whose results were not waited for, or not used.
    /// Returns all results as JSON, if they are wanted so.
    pub fn report_rest(&self, answer: Answer, probes: &[Probe]) -> String {
        let mut json = String::new();
        if !self.options.verbose && !self.options.json {
            return json;
        }
        for (i, item) in self.verdict.list.servers.iter().enumerate() {
            let (server, probe) = (&self.options.servers[i], &probes[item.host]);
            let why = self.unneeded(answer, i);
            if let (Some(why), true) = (&why, self.options.verbose) {
                self.report.unneeded(server, why, probe);
            }
            if self.options.json {
                let entry = self.of_host[item.host].entry;
                self.report
                    .add_json(&mut json, server, probe, entry, why.as_ref());
            }
        }
        json
    }

    /// Why the result of a server was not needed, if so.
    fn unneeded(&self, answer: Answer, i: usize) -> Option<Unneeded<'a>> {
        let servers = &self.options.servers;
        let host = self.verdict.list.servers[i].host;
        let stop = self.verdict.sure_stop();
        let is_doubtful = matches!(
            self.of_host[host].standing,
            Standing::Doubtful | Standing::StopOrDoubtful
        );
        Some(if answer == Answer::NoStop && !is_doubtful {
            Unneeded::NoStop
        } else if self.verdict.known(host).stop == Some(true) {
            Unneeded::Stop
        } else if i > stop {
            Unneeded::After(&servers[stop])
        } else if self.verdict.excludes(stop, i) {
            Unneeded::SamePriority(&servers[stop])
        } else if is_doubtful {
            Unneeded::Doubtful
        } else if let Answer::Up(answer) = answer {
            Unneeded::Answered(&servers[answer])
        } else {
            return None;
        })
    }
}

/// What the cache is told of a result. A server that was asked late, and so had
/// less than half of the timeout, may still be up.
fn found_out(probe: &Probe, timeout: Option<Duration>) -> Found {
    let is_slow = probe.after >= SLOW;
    let was_late = timeout.is_some_and(|timeout| probe.after < timeout / 2);
    if probe.begun.is_none() {
        Found::Nothing
    } else if probe.up == Some(true) {
        Found::Up
    } else if !is_slow && !probe.was_timed_out {
        Found::Transient
    } else if is_slow && !probe.was_delayed && !(probe.was_timed_out && was_late) {
        Found::Down
    } else {
        Found::Nothing
    }
}

/// What the verdict is told. A host some of whose addresses are unknown may be
/// this machine, so it counts as down. While that may still happen, it does not
/// count as up.
fn as_known(standing: Standing, up: Option<bool>) -> Known {
    let unless_up = up.filter(|&up| !up);
    let (stop, up) = match standing {
        Standing::Stop => (Some(true), up),
        Standing::Other => (Some(false), up),
        Standing::Doubtful => (Some(false), Some(false)),
        Standing::StopOrDoubtful => (None, Some(false)),
        Standing::Open {
            may_be_doubtful: true,
        } => (None, unless_up),
        Standing::Open {
            may_be_doubtful: false,
        } => (None, up),
    };
    Known { stop, up }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_may_be_this_machine_is_never_up() {
        let open = |may_be_doubtful| Standing::Open { may_be_doubtful };
        let (yes, no) = (Some(true), Some(false));
        let rows = [
            (Standing::Stop, yes, (yes, yes)),
            (Standing::Other, yes, (no, yes)),
            (Standing::Other, None, (no, None)),
            (Standing::Doubtful, yes, (no, no)),
            (Standing::Doubtful, None, (no, no)),
            (Standing::StopOrDoubtful, yes, (None, no)),
            (Standing::StopOrDoubtful, None, (None, no)),
            (open(true), yes, (None, None)),
            (open(true), no, (None, no)),
            (open(false), yes, (None, yes)),
            (open(false), None, (None, None)),
        ];
        for (standing, up, (stop, known_up)) in rows {
            let expected = Known { stop, up: known_up };
            assert_eq!(as_known(standing, up), expected, "{standing:?} {up:?}");
        }
    }
}
