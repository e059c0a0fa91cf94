//! Random numbers that are the same on every machine, and texts made of them.

use std::sync::OnceLock;

/// SplitMix64 (Steele, Lea and Flood, 2014): small, fast, and good from any
/// seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A text: a seed, some of one and some of another, or words put together;
    /// then some bytes of it changed, doubled or left out.
    pub fn text(&mut self, seeds: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        let mut text = match self.below(3) {
            0 => self.pick(seeds).clone(),
            1 => {
                let (one, other) = (self.pick(seeds).clone(), self.pick(seeds).clone());
                let (end, start) = (self.below(one.len() + 1), self.below(other.len() + 1));
                [&one[..end], &other[start..]].concat()
            }
            _ => (0..self.below(8))
                .flat_map(|_| self.pick(words).to_vec())
                .collect(),
        };
        while self.once_in(2) {
            let at = self.below(text.len() + 1);
            match self.below(4) {
                0 => text.insert(at, self.next() as u8),
                1 => drop(text.splice(at..at, self.pick(words).iter().copied())),
                2 if at < text.len() => drop(text.remove(at)),
                3 if at < text.len() => text[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        text
    }
}

/// The seed corpus: one input a line, with Rust's escapes.
pub struct Corpus {
    text: &'static str,
    inputs: OnceLock<Vec<Vec<u8>>>,
}

impl Corpus {
    pub const fn new(text: &'static str) -> Self {
        Corpus {
            text,
            inputs: OnceLock::new(),
        }
    }

    pub fn inputs(&self) -> &[Vec<u8>] {
        self.inputs
            .get_or_init(|| self.text.lines().map(unescape).collect())
    }
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = line.bytes();
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
                }
                other => panic!("no such escape: {other:?}"),
            },
            byte => byte,
        });
    }
    text
}
