//! The verdict, and what it still needs, against every possible ending, as far
//! as the list is short; and against single endings where it is long.

use crate::check::list::List;
use crate::check::need::{Need, Needs};
use crate::check::verdict::{Answer, Known, Verdict};
use crate::random::Random;
use crate::server::{Host, Server};

/// Lists with more unknown things than this, as a power of two of endings, are
/// not compared with all of them.
const MAX_UNKNOWN: usize = 10;

/// One server of a list.
#[derive(Clone, Copy, Debug)]
struct Item {
    host: usize,
    priority: Option<u16>,
    /// Its name is written in capitals, which is another name to print.
    upper: bool,
}

/// What a server prints.
type Name = (usize, bool);

/// Stands for the answer that there is no stop host.
const NO_STOP: Option<Name> = Some((usize::MAX, false));

pub fn one(random: &mut Random) {
    let longest = if random.once_in(16) { 40 } else { 9 };
    let n = random.below(longest + 1);
    // Most often no host stands in the list twice.
    let many_once_in = *random.pick(&[2, 4, 1000, 1000]);
    let mut hosts = 0;
    let items: Vec<Item> = (0..n)
        .map(|_| {
            let host = match hosts > 0 && random.once_in(many_once_in) {
                true => random.below(hosts),
                false => hosts,
            };
            hosts = hosts.max(host + 1);
            Item {
                host,
                priority: (!random.once_in(4)).then(|| random.below(4) as u16),
                upper: random.once_in(4),
            }
        })
        .collect();
    let servers: Vec<Server> = items.iter().map(server).collect();
    // Whether there must be a stop host.
    let must_stop = random.once_in(3);
    let mut verdict = Verdict::new(List::new(&servers), must_stop);
    let mut needs = Needs::new(&verdict.list);
    assert_eq!(verdict.list.hosts.len(), hosts, "{items:?}");
    let mut known = vec![Known::default(); hosts];
    // What is known becomes more and more, a host at a time; what is needed is
    // worked out on the way, for the verdict remembers what is settled.
    let steps = random.below(2 * hosts + 2);
    // Few stop hosts, or most of a long list is behind one.
    let stop_once_in = *random.pick(&[2, 4, 16, 64]);
    for _ in 0..steps {
        if hosts == 0 {
            break;
        }
        let host = random.below(hosts);
        let known = &mut known[host];
        if random.once_in(2) {
            known.stop = known.stop.or_else(|| Some(random.once_in(stop_once_in)));
        } else {
            known.up = known.up.or_else(|| Some(random.once_in(3)));
        }
        verdict.learn(host, *known);
        if random.once_in(4) {
            needs.work_out(&mut verdict);
        }
    }
    let done = !needs.work_out(&mut verdict);
    let found = Found {
        done,
        answer: match verdict.answer() {
            Answer::Up(i) => Some(items[i].name()),
            Answer::NoneUp => None,
            Answer::NoStop => NO_STOP,
        },
        needs: (0..hosts).map(|host| needs.of(host)).collect(),
    };
    let bits = unknown(&known);
    let rule = |stop, up| rule(&items, must_stop, stop, up);
    if bits.len() <= MAX_UNKNOWN {
        compare_with_every_ending(&rule, &items, &known, &bits, &found);
    } else {
        compare_with_some_endings(random, &rule, &items, &known, &bits, &found);
    }
}

/// What the program says.
struct Found {
    done: bool,
    answer: Option<Name>,
    needs: Vec<Need>,
}

impl Item {
    fn name(self) -> Name {
        (self.host, self.upper)
    }
}

fn server(item: &Item) -> Server {
    let name = format!("mx{}", item.host);
    let text = match item.upper {
        true => name.to_ascii_uppercase(),
        false => name.clone(),
    };
    Server {
        priority: item.priority,
        text: text.into(),
        host: Host::Name(name),
    }
}

/// What is not known: of which host, and whether it is that it is up.
fn unknown(known: &[Known]) -> Vec<(usize, bool)> {
    let of = |host: usize, known: &Known| {
        [
            known.stop.is_none().then_some((host, false)),
            known.up.is_none().then_some((host, true)),
        ]
    };
    known
        .iter()
        .enumerate()
        .flat_map(|(host, known)| of(host, known))
        .flatten()
        .collect()
}

/// The rule as the contract words it, for one ending, a bit a host.
fn rule(items: &[Item], must_stop: bool, stop: u64, up: u64) -> Option<Name> {
    let has = |set: u64, item: &Item| set >> item.host & 1 == 1;
    let k = items.iter().position(|item| has(stop, item));
    if must_stop && k.is_none() {
        return NO_STOP;
    }
    let of_stop = k.and_then(|k| items[k].priority);
    let candidates = items[..k.unwrap_or(items.len())]
        .iter()
        .filter(|item| item.priority.is_none() || item.priority != of_stop);
    let mut up = candidates.filter(|item| has(up, item));
    up.next().map(|item| item.name())
}

fn surely(known: &[Known], of: impl Fn(&Known) -> Option<bool>) -> u64 {
    known
        .iter()
        .enumerate()
        .map(|(host, known)| u64::from(of(known) == Some(true)) << host)
        .sum()
}

/// Which unknown things can change the answer, and what it is if none can.
fn compare_with_every_ending(
    rule: &dyn Fn(u64, u64) -> Option<Name>,
    items: &[Item],
    known: &[Known],
    bits: &[(usize, bool)],
    found: &Found,
) {
    let (base_stop, base_up) = (surely(known, |k| k.stop), surely(known, |k| k.up));
    // A name takes a byte: these are all that is allocated.
    let mut answers = [0u8; 1 << MAX_UNKNOWN];
    let answers = &mut answers[..1 << bits.len()];
    for (ending, answer) in answers.iter_mut().enumerate() {
        let (mut stop, mut up) = (base_stop, base_up);
        for (bit, &(host, is_up)) in bits.iter().enumerate() {
            let value = (ending as u64 >> bit & 1) << host;
            if is_up { up |= value } else { stop |= value }
        }
        *answer = number(rule(stop, up));
    }
    let matters = |bit: usize| {
        (0..answers.len()).any(|ending| answers[ending] != answers[ending ^ (1 << bit)])
    };
    let mut expected = vec![Need::Nothing; known.len()];
    for (bit, &(host, is_up)) in bits.iter().enumerate() {
        if matters(bit) {
            let need = if is_up { Need::Up } else { Need::Addresses };
            expected[host] = expected[host].max(need);
        }
    }
    let show = || format!("{items:?} {known:?}");
    assert_eq!(found.needs, expected, "{}", show());
    let is_open = expected.iter().any(|&need| need != Need::Nothing);
    assert_eq!(found.done, !is_open, "{}", show());
    if found.done {
        assert_eq!(number(found.answer), answers[0], "{}", show());
    }
}

fn number(name: Option<Name>) -> u8 {
    match name {
        NO_STOP => u8::MAX - 1,
        Some((host, upper)) => 2 * host as u8 + u8::from(upper),
        None => u8::MAX,
    }
}

/// Random endings of a long list: what is not needed does not change the
/// answer.
fn compare_with_some_endings(
    random: &mut Random,
    rule: &dyn Fn(u64, u64) -> Option<Name>,
    items: &[Item],
    known: &[Known],
    bits: &[(usize, bool)],
    found: &Found,
) {
    let (base_stop, base_up) = (surely(known, |k| k.stop), surely(known, |k| k.up));
    for _ in 0..16 {
        let (mut stop, mut up) = (base_stop, base_up);
        let sparse = 1 + random.below(8);
        for &(host, is_up) in bits {
            let value = u64::from(random.once_in(sparse)) << host;
            if is_up { up |= value } else { stop |= value }
        }
        let answer = rule(stop, up);
        let show = || format!("{items:?} {known:?} stop {stop:b} up {up:b}");
        assert!(!found.done || answer == found.answer, "{}", show());
        for &(host, is_up) in bits {
            let (other_stop, other_up) = if is_up {
                (stop, up ^ 1 << host)
            } else {
                (stop ^ 1 << host, up)
            };
            if answer != rule(other_stop, other_up) {
                // To know whether it is up includes the addresses.
                let least = if is_up { Need::Up } else { Need::Addresses };
                assert!(found.needs[host] >= least, "{host} of {}", show());
            }
        }
    }
}
