//! What can still change the answer. Pure.
//!
//! While something is unknown there are several possible *endings*. A server
//! that may yet prove to be the first stop host is a possible k; each possible
//! k has its own *contenders*: its candidates that are not known to be down, a
//! host once, up to the first one that is known to be up. Whichever of the
//! contenders is the first to prove up is the answer. (If there must be a stop
//! host, "none" is a possible k without contenders, and has an answer that no
//! other k has.)
//!
//! - Whether a host is up matters if it is a contender of any possible k.
//! - Whether a server is the stop host matters if it and any later possible k
//!   have different answers in some ending; that is, if the names of their
//!   contenders differ. "The same answers" is an equivalence: while all later
//!   possible k have the same answers, comparing with the nearest is enough,
//!   and as soon as two differ, no earlier one can agree with both.
//!
//! The answer is known exactly when nothing is needed any more: endings differ
//! one step at a time, and no step changes it.

use super::list::{List, NONE, Occurrence};
use super::verdict::Verdict;

/// What about one host can still change the answer.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Need {
    /// Nothing: it is neither waited for nor asked.
    #[default]
    Nothing,
    /// Whether it is a stop host, but not whether it is up.
    Addresses,
    /// Whether it is up, and perhaps also whether it is a stop host.
    Up,
}

/// The possible stop hosts behind a server, as a walk from right to left comes
/// to know them.
struct LaterStops {
    /// The nearest of them.
    nearest: usize,
    /// Whether all of them are of one class.
    one_class: bool,
    /// Whether one of them excludes the first server that is up.
    exclude_first_up: bool,
    /// Whether the nearest one has a contender from here on.
    contender_follows: bool,
    /// Whether any two of them have different answers.
    differ: bool,
    /// Whether they are no more than the end of a list in which there must be a
    /// stop host.
    is_none: bool,
}

/// What is needed of each host of a list.
pub struct Needs {
    of_host: Vec<Need>,
    /// See [`Contest`]; kept, so that nothing is allocated at each turn.
    first_of_class: Vec<usize>,
}

impl Needs {
    /// What is needed of the hosts of this list: nothing yet.
    pub fn new(list: &List) -> Self {
        Needs {
            of_host: vec![Need::Nothing; list.hosts.len()],
            first_of_class: vec![NONE; list.servers.len()],
        }
    }

    /// What [`work_out`](Self::work_out) found to be needed of a host.
    pub fn of(&self, host: usize) -> Need {
        self.of_host[host]
    }

    /// Works out what is needed of each host. Returns false if that is
    /// nothing: then the verdict's answer is final.
    #[inline(never)]
    pub fn work_out(&mut self, verdict: &mut Verdict) -> bool {
        let from = verdict.first_open();
        self.of_host.fill(Need::Nothing);
        let contest = Contest::new(verdict, from, &mut self.first_of_class);
        let list = &verdict.list;
        let mut stops = LaterStops {
            nearest: contest.end,
            one_class: true,
            exclude_first_up: contest.excludes_first_up(contest.end),
            contender_follows: false,
            differ: false,
            is_none: verdict.misses_stop(contest.end),
        };
        let mut any = false;
        for i in (from..contest.end).rev() {
            let is_possible_stop = verdict.stop(i).is_none();
            stops.contender_follows |= contest.is_contender(i, stops.nearest);
            if is_possible_stop && !stops.differ {
                stops.differ = !contest.agree(i, stops.nearest, stops.contender_follows);
            }
            let need = if verdict.up(i).is_none() && contest.may_contend(i, &stops) {
                Need::Up
            } else if is_possible_stop && stops.differ {
                Need::Addresses
            } else {
                Need::Nothing
            };
            any |= need != Need::Nothing;
            let of_host = &mut self.of_host[list.servers[i].host];
            *of_host = need.max(*of_host);
            if is_possible_stop {
                stops.one_class &= stops.is_none || list.class(i) == list.class(stops.nearest);
                stops.is_none = false;
                stops.exclude_first_up |= contest.excludes_first_up(i);
                stops.contender_follows = false;
                stops.nearest = i;
            }
        }
        any
    }
}

/// The servers that may be the answer.
struct Contest<'a> {
    verdict: &'a Verdict,
    list: &'a List,
    /// Where the servers that matter begin, and where they end: at the first
    /// one known to be a stop host.
    from: usize,
    end: usize,
    /// The first server that is up, and the first one of another class.
    first_up: usize,
    other_up: usize,
    /// For each class the first member that is not known to be down.
    first_of_class: &'a [usize],
}

impl<'a> Contest<'a> {
    fn new(verdict: &'a Verdict, from: usize, first_of_class: &'a mut [usize]) -> Self {
        let list = &verdict.list;
        let end = verdict.sure_stop();
        let (mut first_up, mut other_up) = (NONE, NONE);
        first_of_class.fill(NONE);
        for i in (from..end).filter(|&i| verdict.up(i) != Some(false)) {
            let first = &mut first_of_class[list.class(i)];
            *first = (*first).min(i);
            if verdict.up(i) != Some(true) {
                continue;
            }
            if first_up == NONE {
                first_up = i;
            } else if other_up == NONE && list.class(i) != list.class(first_up) {
                other_up = i;
            }
        }
        Contest {
            verdict,
            list,
            from,
            end,
            first_up,
            other_up,
            first_of_class,
        }
    }

    fn excludes_first_up(&self, k: usize) -> bool {
        self.first_up != NONE && self.list.class(k) == self.list.class(self.first_up)
    }

    /// The first candidate of `k` that is known to be up.
    fn last_contender(&self, k: usize) -> usize {
        match self.excludes_first_up(k) {
            true => self.other_up,
            false => self.first_up,
        }
    }

    /// Whether server `i` is a contender if `k` is the first stop host.
    fn is_contender(&self, i: usize, k: usize) -> bool {
        let server = &self.list.servers[i];
        i < k
            && !self.verdict.misses_stop(k)
            && i <= self.last_contender(k)
            && self.verdict.up(i) != Some(false)
            && server.class != self.list.class(k)
            && match server.occurrence {
                Occurrence::First => true,
                Occurrence::Spare => {
                    self.list.class(self.list.hosts[server.host]) == self.list.class(k)
                }
                Occurrence::Redundant => false,
            }
    }

    /// Whether server `i`, of which it is not known whether it is up, is a
    /// contender of any of the possible stop hosts behind it. (A repeated server
    /// may answer true on behalf of its host's first.)
    fn may_contend(&self, i: usize, stops: &LaterStops) -> bool {
        let class = self.list.class(i);
        if stops.is_none {
            false
        } else if i < self.first_up {
            !stops.one_class || class != self.list.class(stops.nearest)
        } else {
            i < self.other_up && stops.exclude_first_up && class != self.list.class(self.first_up)
        }
    }

    /// Whether `i` and `k`, the nearest possible stop host behind it, have the
    /// same answers. `contender_between` says whether `k` has a contender
    /// among the servers from `i` on.
    fn agree(&self, i: usize, k: usize, contender_between: bool) -> bool {
        if self.verdict.misses_stop(k) {
            return false;
        }
        let same_class = self.list.class(i) == self.list.class(k);
        if same_class || self.excludes_nobody(i) && self.excludes_nobody(k) {
            // They have the same contenders before `i`.
            return !contender_between;
        }
        let (mut of_i, mut of_k) = (self.from, self.from);
        loop {
            of_i = self.next_contender(of_i, i);
            of_k = self.next_contender(of_k, k);
            let name = |contender: usize| self.list.servers.get(contender).map(|s| s.name);
            if name(of_i) != name(of_k) {
                return false;
            }
            if of_i == NONE {
                return true;
            }
            (of_i, of_k) = (of_i + 1, of_k + 1);
        }
    }

    /// Whether no server before `k` that may be up has its priority.
    fn excludes_nobody(&self, k: usize) -> bool {
        let first = self.first_of_class.get(self.list.class(k));
        first.is_none_or(|&first| first >= k)
    }

    /// The first contender of `k` from `from` on.
    fn next_contender(&self, from: usize, k: usize) -> usize {
        let mut contenders = (from..k.min(self.end)).filter(|&i| self.is_contender(i, k));
        contenders.next().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::verdict::{Answer, Known};
    use crate::server::{Host, Server};

    /// A server of a list: its host and its priority.
    type Pattern = (usize, Option<u16>);

    /// Stands for the answer that there is no stop host.
    const NO_STOP: Option<usize> = Some(usize::MAX);

    /// The rule as the contract words it, for one ending; the host of the
    /// answer.
    fn rule(pattern: &[Pattern], must_stop: bool, stop: usize, up: usize) -> Option<usize> {
        let bit = |set: usize, host: usize| set >> host & 1 == 1;
        let k = pattern.iter().position(|&(host, _)| bit(stop, host));
        if must_stop && k.is_none() {
            return NO_STOP;
        }
        let excluded = |priority: Option<u16>| {
            k.is_some_and(|k| priority.is_some() && priority == pattern[k].1)
        };
        pattern[..k.unwrap_or(pattern.len())]
            .iter()
            .find(|&&(host, priority)| bit(up, host) && !excluded(priority))
            .map(|&(host, _)| host)
    }

    /// All lists of `n` servers, but for the names of hosts and priorities.
    fn patterns(n: usize) -> Vec<Vec<Pattern>> {
        let mut patterns = vec![vec![]];
        for _ in 0..n {
            patterns = patterns.iter().flat_map(|p| longer(p)).collect();
        }
        patterns
    }

    fn longer(pattern: &[Pattern]) -> Vec<Vec<Pattern>> {
        let hosts = pattern.iter().map(|&(host, _)| host + 1).max().unwrap_or(0);
        let priorities = pattern.iter().filter_map(|&(_, p)| p);
        let fresh = priorities.max().map_or(0, |max| max + 1);
        let choices = (0..=fresh).map(Some).chain([None]);
        choices
            .flat_map(|priority| (0..=hosts).map(move |host| (host, priority)))
            .map(|last| [pattern, &[last]].concat())
            .collect()
    }

    fn list(pattern: &[Pattern]) -> List {
        let server = |&(host, priority): &Pattern| Server {
            priority,
            text: host.to_string().into(),
            host: Host::Name(host.to_string()),
        };
        List::new(&pattern.iter().map(server).collect::<Vec<_>>())
    }

    const STATES: [Known; 9] = {
        let mut states = [Known {
            stop: None,
            up: None,
        }; 9];
        let values = [None, Some(false), Some(true)];
        let mut i = 0;
        while i < 9 {
            states[i] = Known {
                stop: values[i / 3],
                up: values[i % 3],
            };
            i += 1;
        }
        states
    };

    /// Compares what is needed, and the answer, with every ending of every
    /// list of `n` servers in every state of knowledge.
    fn compare_with_every_ending(n: usize, must_stop: bool) {
        for pattern in patterns(n) {
            let mut verdict = Verdict::new(list(&pattern), must_stop);
            let mut needs = Needs::new(&verdict.list);
            let hosts = verdict.list.hosts.len();
            // An ending is a number: a bit a host for stop, and one for up.
            let answers: Vec<Option<usize>> = (0..1 << (2 * hosts))
                .map(|ending: usize| rule(&pattern, must_stop, ending, ending >> hosts))
                .collect();
            for state in 0..STATES.len().pow(u32::try_from(hosts).expect("a few")) {
                let of = |host| STATES[state / STATES.len().pow(host) % STATES.len()];
                let known: Vec<Known> = (0..u32::try_from(hosts).expect("a few")).map(of).collect();
                let (mut base, mut free) = (0, 0);
                for (host, known) in known.iter().enumerate() {
                    for (value, bit) in [(known.stop, host), (known.up, hosts + host)] {
                        base |= usize::from(value == Some(true)) << bit;
                        free |= usize::from(value.is_none()) << bit;
                    }
                }
                // Which unknown things can change the answer.
                let (mut matters, mut subset) = (0, free);
                loop {
                    let ending = base | subset;
                    for bit in (0..2 * hosts).map(|bit| 1 << bit) {
                        if free & bit != 0 && answers[ending] != answers[ending ^ bit] {
                            matters |= bit;
                        }
                    }
                    if subset == 0 {
                        break;
                    }
                    subset = (subset - 1) & free;
                }
                verdict.begin_anew();
                (0..hosts).for_each(|host| verdict.learn(host, known[host]));
                let done = !needs.work_out(&mut verdict);
                let shown = || format!("{pattern:?} {known:?}");
                assert_eq!(done, matters == 0, "{}", shown());
                if done {
                    let answer = match verdict.answer() {
                        Answer::Up(i) => Some(verdict.list.servers[i].host),
                        Answer::NoneUp => None,
                        Answer::NoStop => NO_STOP,
                    };
                    assert_eq!(answer, answers[base], "{}", shown());
                }
                for host in 0..hosts {
                    let expected = match (matters >> host & 1, matters >> (hosts + host) & 1) {
                        (0, 0) => Need::Nothing,
                        (_, 0) => Need::Addresses,
                        _ => Need::Up,
                    };
                    assert_eq!(needs.of(host), expected, "{host} of {}", shown());
                }
            }
        }
    }

    #[test]
    fn lists_of_up_to_four_agree_with_every_ending() {
        for n in 0..=4 {
            compare_with_every_ending(n, false);
            compare_with_every_ending(n, true);
        }
    }

    #[test]
    fn lists_of_five_agree_with_every_ending() {
        compare_with_every_ending(5, false);
    }

    #[test]
    fn lists_of_five_that_must_stop_agree_with_every_ending() {
        compare_with_every_ending(5, true);
    }

    /// A host that the list spells in two ways prints two names.
    #[test]
    fn names_are_compared_as_they_are_printed() {
        let parse = |text: &str| Server::parse(text.as_bytes()).expect("a server");
        for (second, done) in [("20:up", true), ("20:UP", false)] {
            let servers = ["10:up", second, "10:later"].map(parse);
            let mut verdict = Verdict::new(List::new(&servers), false);
            let (stop, up) = (Some(false), Some(true));
            verdict.learn(0, Known { stop, up });
            let mut needs = Needs::new(&verdict.list);
            assert_eq!(!needs.work_out(&mut verdict), done, "{second}");
        }
    }
}
