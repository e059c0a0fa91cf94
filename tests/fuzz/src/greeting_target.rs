//! The greeting, in pieces, against what can be said of it when it is whole.

use crate::probe::greeting::Greeting;
use crate::random::{Corpus, Random};

static CORPUS: Corpus = Corpus::new(include_str!("../corpus/greeting"));
const WORDS: &[&[u8]] = &[
    b"220",
    b"2",
    b"22",
    b"221",
    b"421",
    b"554",
    b"-",
    b" ",
    b"\r\n",
    b"\n",
    b"\r",
    b"mx ESMTP",
    b"\0",
    b"\xff",
];

pub fn one(random: &mut Random) {
    let text = random.text(CORPUS.inputs(), WORDS);
    let (up, whole_after) = second_opinion(&text);
    let mut greeting = Greeting::new();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len()));
        rest = after;
        let before = greeting.undecided();
        greeting.read(piece);
        let read = text.len() - rest.len();
        assert!(
            before.len() <= 3 && text.starts_with(before),
            "{}",
            text.escape_ascii()
        );
        assert_eq!(
            greeting.up(),
            second_opinion(&text[..read]).0,
            "{}",
            text[..read].escape_ascii()
        );
        let whole = whole_after.is_some_and(|whole| whole <= read);
        assert_eq!(
            greeting.is_complete(),
            whole,
            "{}",
            text[..read].escape_ascii()
        );
        assert!(greeting.is_over() || !whole && up != Some(false) || read < text.len());
    }
    assert_eq!(greeting.up(), up);
}

/// Whether the server is up, when these bytes tell; and after how many bytes
/// the last line has come whole.
fn second_opinion(text: &[u8]) -> (Option<bool>, Option<usize>) {
    let common = text.iter().zip(b"220").take_while(|(a, b)| a == b).count();
    let up = match (common, text.get(common)) {
        (_, None) => None,
        (3, Some(b' ' | b'-' | b'\r' | b'\n')) => Some(true),
        _ => Some(false),
    };
    let mut start = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        start += line.len();
        match line.strip_prefix(b"220") {
            Some([b'-', .., b'\n']) => {}
            Some([b'\n'] | [b' ' | b'\r', .., b'\n']) => return (up, Some(start)),
            _ => break,
        }
    }
    (up, None)
}
