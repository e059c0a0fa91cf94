//! The verdict against every possible ending, as far as the list is short; and
//! against single endings where it is long.

use crate::check::verdict::{Known, Need, Verdict};
use crate::random::Random;

/// Lists with more unknown things than this, as a power of two of endings, are
/// not compared with all of them.
const MAX_UNKNOWN: usize = 10;

pub fn one(random: &mut Random) {
    let longest = if random.once_in(16) { 40 } else { 9 };
    let n = random.below(longest + 1);
    let priorities: Vec<Option<u16>> = (0..n)
        .map(|_| (!random.once_in(4)).then(|| random.below(4) as u16))
        .collect();
    let mut known = vec![Known::default(); n];
    let mut verdict = Verdict::new(n, |i| priorities[i]);
    // What is known becomes more and more, a server at a time; the list is
    // judged on the way, for the verdict remembers what is settled.
    let steps = random.below(2 * n + 2);
    // Few stop hosts, or most of a long list is behind one.
    let stop_once_in = *random.pick(&[2, 4, 16, 64]);
    for _ in 0..steps {
        if n == 0 {
            break;
        }
        let i = random.below(n);
        if random.once_in(2) {
            known[i].stop = known[i].stop.or_else(|| Some(random.once_in(stop_once_in)));
        } else {
            known[i].up = known[i].up.or_else(|| Some(random.once_in(3)));
        }
        verdict.learn(i, known[i]);
        if random.once_in(4) {
            verdict.judge();
        }
    }
    let done = verdict.judge();
    let needs: Vec<Need> = (0..n).map(|i| verdict.need(i)).collect();
    let bits = unknown(&known);
    if bits.len() <= MAX_UNKNOWN {
        let (mattering, answer) = every_ending(&priorities, &known, &bits);
        let show = || format!("{priorities:?} {known:?}");
        assert_eq!(done, mattering.is_empty(), "{}", show());
        if done {
            assert_eq!(verdict.answer(), answer, "{}", show());
        }
        for (i, need) in needs.iter().enumerate() {
            let expected = if mattering.contains(&(i, true)) {
                Need::Fate
            } else if mattering.contains(&(i, false)) {
                Need::Addresses
            } else {
                Need::Nothing
            };
            assert_eq!(*need, expected, "{i} of {}", show());
        }
    } else {
        some_endings(random, &priorities, &known, &bits, &needs, done, &verdict);
    }
}

/// What is not known: of which server, and whether it is that it is up.
fn unknown(known: &[Known]) -> Vec<(usize, bool)> {
    let of = |i: usize, known: &Known| {
        [
            known.stop.is_none().then_some((i, false)),
            known.up.is_none().then_some((i, true)),
        ]
    };
    known
        .iter()
        .enumerate()
        .flat_map(|(i, known)| of(i, known))
        .flatten()
        .collect()
}

/// The rule as the contract words it, for one ending.
fn rule(priorities: &[Option<u16>], stop: u64, up: u64) -> Option<usize> {
    let n = priorities.len();
    let k = (stop.trailing_zeros() as usize).min(n);
    let excluded = |i: usize| k < n && priorities[k].is_some() && priorities[i] == priorities[k];
    (0..k).find(|&i| up >> i & 1 == 1 && !excluded(i))
}

fn surely(known: &[Known], of: impl Fn(&Known) -> Option<bool>) -> u64 {
    known
        .iter()
        .enumerate()
        .map(|(i, known)| u64::from(of(known) == Some(true)) << i)
        .sum()
}

/// Those unknown things that can change the answer; and one of the answers.
fn every_ending(
    priorities: &[Option<u16>],
    known: &[Known],
    bits: &[(usize, bool)],
) -> (Vec<(usize, bool)>, Option<usize>) {
    let (base_stop, base_up) = (surely(known, |k| k.stop), surely(known, |k| k.up));
    // An answer takes a byte: these are all that is allocated.
    let mut answers = [0u8; 1 << MAX_UNKNOWN];
    let answers = &mut answers[..1 << bits.len()];
    for (ending, answer) in answers.iter_mut().enumerate() {
        let (mut stop, mut up) = (base_stop, base_up);
        for (bit, &(i, is_up)) in bits.iter().enumerate() {
            let value = (ending as u64 >> bit & 1) << i;
            if is_up { up |= value } else { stop |= value }
        }
        *answer = rule(priorities, stop, up).map_or(u8::MAX, |i| i as u8);
    }
    let matters = |bit: usize| {
        (0..answers.len()).any(|ending| answers[ending] != answers[ending ^ (1 << bit)])
    };
    let mattering = bits
        .iter()
        .enumerate()
        .filter(|(bit, _)| matters(*bit))
        .map(|(_, &thing)| thing);
    let answer = Some(answers[0])
        .filter(|&answer| answer != u8::MAX)
        .map(usize::from);
    (mattering.collect(), answer)
}

/// Random endings of a long list: what is not needed does not change the
/// answer.
fn some_endings(
    random: &mut Random,
    priorities: &[Option<u16>],
    known: &[Known],
    bits: &[(usize, bool)],
    needs: &[Need],
    done: bool,
    verdict: &Verdict,
) {
    let (base_stop, base_up) = (surely(known, |k| k.stop), surely(known, |k| k.up));
    for _ in 0..16 {
        let (mut stop, mut up) = (base_stop, base_up);
        let sparse = 1 + random.below(8);
        for &(i, is_up) in bits {
            let value = u64::from(random.once_in(sparse)) << i;
            if is_up { up |= value } else { stop |= value }
        }
        let answer = rule(priorities, stop, up);
        let show = || format!("{priorities:?} {known:?} stop {stop:b} up {up:b}");
        assert!(!done || answer == verdict.answer(), "{}", show());
        for &(i, is_up) in bits {
            let (other_stop, other_up) = if is_up {
                (stop, up ^ 1 << i)
            } else {
                (stop ^ 1 << i, up)
            };
            if answer != rule(priorities, other_stop, other_up) {
                // A fate includes the addresses.
                let least = if is_up { Need::Fate } else { Need::Addresses };
                assert!(needs[i] >= least, "{i} of {}", show());
            }
        }
    }
}
