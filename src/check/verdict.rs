//! Which name is printed, and when that is known. Pure: no clock, no network.
//!
//! The rule, for servers s0 … sn-1 of which some have a priority: let k be the
//! first stop host, or n where there is none. Candidates are the servers
//! before k, less those of k's priority. The answer is the first candidate
//! that is up.
//!
//! While something is unknown there are several possible *endings*. A server
//! that may yet prove to be the first stop host is a possible k; each possible
//! k has its own candidates. A server's fate or addresses are needed when two
//! endings that differ in nothing else give different answers. The answer is
//! known exactly when nothing is needed any more: endings differ one step at
//! a time, and no step changes it.

use std::cmp::{Ordering, min};

/// What has been found out about one server. `None`: nothing yet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Known {
    /// Whether the server is a stop host.
    pub stop: Option<bool>,
    /// Whether the server is up.
    pub up: Option<bool>,
}

/// What about one server can still change the answer.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Need {
    /// Nothing: it is neither waited for nor asked.
    #[default]
    Nothing,
    /// Whether it is a stop host, but not whether it is up.
    Addresses,
    /// Whether it is up, and perhaps also whether it is a stop host.
    Fate,
}

/// Stands for "no such server" where an index is expected: it is after all.
const NONE: usize = usize::MAX;

/// The rule, for one list of servers.
pub struct Verdict {
    servers: Vec<Entry>,
    /// All servers before this one are down and no stop hosts.
    settled: usize,
}

struct Entry {
    /// The first server of the same priority. A server without a priority is
    /// alone in its class.
    class: usize,
    /// Of the class that this server is the first of: the first member that
    /// is not known to be down.
    first: usize,
    known: Known,
    need: Need,
}

impl Verdict {
    /// The rule for `count` servers with these priorities, of which nothing
    /// is known.
    pub fn new(count: usize, priority: impl Fn(usize) -> Option<u16>) -> Self {
        let class = first_equal(count, &|a, b| {
            // Those without are ordered by position, so that no two are equal.
            let key = |i| (priority(i), priority(i).map_or(i, |_| 0));
            key(a).cmp(&key(b))
        });
        let entry = |class| Entry {
            class,
            first: NONE,
            known: Known::default(),
            need: Need::Nothing,
        };
        Verdict {
            servers: class.into_iter().map(entry).collect(),
            settled: 0,
        }
    }

    /// Notes what is known of a server. It can only become more.
    pub fn learn(&mut self, i: usize, known: Known) {
        self.servers[i].known = known;
    }

    /// What has been noted of a server.
    pub fn known(&self, i: usize) -> Known {
        self.servers[i].known
    }

    /// What [`judge`](Self::judge) found to be needed of a server.
    pub fn need(&self, i: usize) -> Need {
        self.servers[i].need
    }

    /// Works out what is needed of each server. Returns true when that is
    /// nothing at all: then [`answer`](Self::answer) is final.
    pub fn judge(&mut self) -> bool {
        while self.servers.get(self.settled).is_some_and(|server| {
            server.known.up == Some(false) && server.known.stop == Some(false)
        }) {
            self.servers[self.settled].need = Need::Nothing;
            self.settled += 1;
        }
        let sure = self.sure_stop();
        for server in &mut self.servers[sure..] {
            server.need = Need::Nothing;
        }

        // The first server that is up, and the first of another class.
        let (mut up, mut other_up) = (NONE, NONE);
        for i in self.settled..min(sure + 1, self.servers.len()) {
            let class = self.servers[i].class;
            self.servers[class].first = NONE;
        }
        for i in (self.settled..sure).rev() {
            let Entry { class, known, .. } = self.servers[i];
            if known.up == Some(false) {
                continue;
            }
            self.servers[class].first = i;
            if known.up == Some(true) {
                if up != NONE && class != self.servers[up].class {
                    other_up = up;
                }
                up = i;
            }
        }
        let up_class = self.class(up);
        // Were a server of this class the stop host: the last server that
        // could be the answer.
        let last = |class: usize| if class == up_class { other_up } else { up };

        // From right to left; `k` is the nearest possible stop host after i.
        let mut k = sure;
        // Whether all possible stop hosts after i are of one class, k's.
        let mut one_class = true;
        // Whether one of them is of the class of `up`.
        let mut up_excluded = up != NONE && self.class(k) == up_class;
        // Whether, among i … k-1, k leaves a server that may be the answer.
        let mut between = false;
        // Whether the answer may depend on which of them is the stop host.
        let mut varied = false;
        let mut any = false;
        for i in (self.settled..sure).rev() {
            let (known, class, k_class) = (self.known(i), self.class(i), self.class(k));
            // A server matters if some k leaves it a candidate, and no
            // earlier candidate is up.
            let fate = known.up.is_none()
                && if i < up {
                    !one_class || class != k_class
                } else {
                    i < other_up && up_excluded && class != up_class
                };
            between |= known.up != Some(false) && class != k_class && i <= last(k_class);
            let stop = known.stop.is_none();
            if stop {
                // Servers before i that only one of i and k excludes.
                let may_answer = |j: usize, last: usize| j < i && j <= last;
                let differ = class != k_class
                    && (may_answer(self.first(class), last(k_class))
                        || may_answer(self.first(k_class), last(class)));
                varied |= between || differ;
                one_class &= class == k_class;
                up_excluded |= up != NONE && class == up_class;
                between = false;
                k = i;
            }
            let need = match (fate, stop && varied) {
                (true, _) => Need::Fate,
                (false, true) => Need::Addresses,
                (false, false) => Need::Nothing,
            };
            any |= need != Need::Nothing;
            self.servers[i].need = need;
        }
        !any
    }

    /// The class of a server, or `NONE` after the last one.
    fn class(&self, i: usize) -> usize {
        self.servers.get(i).map_or(NONE, |server| server.class)
    }

    /// The first server of a class that is not known to be down.
    fn first(&self, class: usize) -> usize {
        self.servers.get(class).map_or(NONE, |server| server.first)
    }

    /// The first candidate that is up, taking what is unknown for "no".
    pub fn answer(&self) -> Option<usize> {
        let stop = self.sure_stop();
        let is_up = |i: usize| self.servers[i].known.up == Some(true);
        (self.settled..stop).find(|&i| is_up(i) && !self.excludes(stop, i))
    }

    /// Whether the stop host `stop` has the priority of server `i`.
    pub fn excludes(&self, stop: usize, i: usize) -> bool {
        self.class(stop) == self.class(i)
    }

    /// The first server known to be a stop host, or the length of the list.
    pub fn sure_stop(&self) -> usize {
        let is_stop = |i: &usize| self.servers[*i].known.stop == Some(true);
        let stop = (self.settled..self.servers.len()).find(is_stop);
        stop.unwrap_or(self.servers.len())
    }
}

/// For each of 0 … `len`-1 the first number that `compare` finds equal.
pub fn first_equal(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_unstable_by(|&a, &b| compare(a, b).then(a.cmp(&b)));
    let mut first: Vec<usize> = (0..len).collect();
    for pair in order.windows(2) {
        if compare(pair[0], pair[1]).is_eq() {
            first[pair[1]] = first[pair[0]];
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as the contract words it, for one ending.
    fn rule(priorities: &[Option<u16>], stop: &[bool], up: &[bool]) -> Option<usize> {
        let k = stop.iter().position(|&s| s).unwrap_or(stop.len());
        let excluded =
            |i: usize| k < stop.len() && priorities[k].is_some() && priorities[i] == priorities[k];
        (0..k).find(|&i| up[i] && !excluded(i))
    }

    /// All ways to give `n` servers no priority or one of up to `n`, but for
    /// the names of the priorities.
    fn priority_patterns(n: usize) -> Vec<Vec<Option<u16>>> {
        let mut patterns = vec![vec![]];
        for _ in 0..n {
            patterns = patterns
                .iter()
                .flat_map(|pattern: &Vec<Option<u16>>| {
                    let fresh = pattern.iter().flatten().max().map_or(0, |m| m + 1);
                    let choices = (0..=fresh).map(Some).chain([None]);
                    choices.map(|choice| {
                        let mut longer = pattern.clone();
                        longer.push(choice);
                        longer
                    })
                })
                .collect();
        }
        patterns
    }

    const UNKNOWN: Option<bool> = None;

    /// Every state of knowledge of one server.
    fn states() -> Vec<Known> {
        let values = [UNKNOWN, Some(false), Some(true)];
        values
            .iter()
            .flat_map(|&stop| values.map(|up| Known { stop, up }))
            .collect()
    }

    /// An ending of `n` servers as a number: two bits a server, stop and up.
    fn ending(stop: &[bool], up: &[bool]) -> usize {
        (0..stop.len())
            .map(|i| usize::from(stop[i]) << (2 * i) | usize::from(up[i]) << (2 * i + 1))
            .sum()
    }

    /// Compares `needs` and `answer` with every ending of every list of `n`
    /// servers in every state of knowledge.
    fn compare_with_every_ending(n: usize) {
        let states = states();
        for priorities in priority_patterns(n) {
            let answers: Vec<Option<usize>> = (0..1 << (2 * n))
                .map(|e: usize| {
                    let bits = |offset: usize| {
                        (0..n)
                            .map(|i| e >> (2 * i + offset) & 1 == 1)
                            .collect::<Vec<_>>()
                    };
                    rule(&priorities, &bits(0), &bits(1))
                })
                .collect();
            let mut verdict = Verdict::new(n, |i| priorities[i]);
            for state in 0..states.len().pow(u32::try_from(n).expect("a few")) {
                let mut rest = state;
                let known: Vec<Known> = (0..n)
                    .map(|_| {
                        let one = states[rest % states.len()];
                        rest /= states.len();
                        one
                    })
                    .collect();
                let base = ending(
                    &known
                        .iter()
                        .map(|k| k.stop == Some(true))
                        .collect::<Vec<_>>(),
                    &known.iter().map(|k| k.up == Some(true)).collect::<Vec<_>>(),
                );
                let unknown: Vec<usize> = (0..n)
                    .flat_map(|i| {
                        let stop = known[i].stop.is_none().then_some(1 << (2 * i));
                        let up = known[i].up.is_none().then_some(1 << (2 * i + 1));
                        stop.into_iter().chain(up)
                    })
                    .collect();
                // Which unknown things can change the answer.
                let free: usize = unknown.iter().sum();
                let mut matters = 0;
                let mut subset = free;
                loop {
                    for &bit in &unknown {
                        if answers[base | subset] != answers[(base | subset) ^ bit] {
                            matters |= bit;
                        }
                    }
                    if subset == 0 {
                        break;
                    }
                    subset = (subset - 1) & free;
                }
                verdict.settled = 0;
                (0..n).for_each(|i| verdict.learn(i, known[i]));
                let done = verdict.judge();
                assert_eq!(done, matters == 0, "{priorities:?} {known:?}");
                if done {
                    assert_eq!(verdict.answer(), answers[base], "{priorities:?} {known:?}");
                }
                for i in 0..n {
                    let expected = match matters >> (2 * i) & 3 {
                        0 => Need::Nothing,
                        1 => Need::Addresses,
                        _ => Need::Fate,
                    };
                    assert_eq!(verdict.need(i), expected, "{i} of {priorities:?} {known:?}");
                }
            }
        }
    }

    #[test]
    fn lists_of_up_to_four_agree_with_every_ending() {
        for n in 0..=4 {
            compare_with_every_ending(n);
        }
    }

    #[test]
    fn lists_of_five_agree_with_every_ending() {
        compare_with_every_ending(5);
    }
}
