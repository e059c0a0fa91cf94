//! Lines for an OpenSMTPD filter, in any pieces, against a reader that has all
//! of them at once and splits them into fields; and its answers.

use crate::random::{Corpus, Random};
use crate::serve::opensmtpd::{Line, Message, answer};

static CORPUS: Corpus = Corpus::new(include_str!("../corpus/opensmtpd"));
const WORDS: &[&[u8]] = &[
    b"config|ready\n",
    b"filter|0.7|1795536152.7|smtp-in|rcpt-to|0e43|693d|",
    b"filter|",
    b"report|",
    b"smtp-in|",
    b"rcpt-to|",
    b"example.test",
    b"EXAMPLE.Test.",
    b"@",
    b"|",
    b"||",
    b".",
    b"[",
    b"\n",
    b"\r",
    b"\0",
];

/// How much of a line is kept, and how much an answer repeats.
const MAX_LINE: usize = 8192;
const MAX_KEY: usize = 900;

/// What a line says: of a question the session and token, and the domain.
#[derive(PartialEq, Eq, Debug)]
enum Says {
    Ready,
    Question(Vec<u8>, Vec<u8>),
    Other,
}

pub fn one(random: &mut Random) {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        bytes.extend(random.text(CORPUS.inputs(), WORDS));
    }
    if random.once_in(50) && !bytes.is_empty() {
        // About as long as what is kept, or much longer.
        let at = random.below(bytes.len());
        let length = random.pick(&[0, 700, 8000, 20_000]) + random.below(300);
        let long = vec![*random.pick(b"x|@."); length];
        bytes.splice(at..at, long);
    }
    let shown = bytes.escape_ascii();
    let mut line = Line::EMPTY;
    let mut found = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(1 + random.below(rest.len()));
        while let Some(length) = line.take(piece) {
            piece = &piece[length..];
            found.push(match line.message() {
                Message::Ready => Says::Ready,
                Message::Question { key, domain } => {
                    answers(key, domain);
                    Says::Question(key.to_vec(), domain.to_vec())
                }
                Message::Other => Says::Other,
            });
            line.clear();
        }
        rest = behind;
    }
    let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    // What has no end is no line.
    lines.pop();
    let expected: Vec<_> = lines.into_iter().map(second_opinion).collect();
    assert_eq!(found, expected, "{shown}");
}

/// Both answers, with any name for a server, are one line that smtpd can read.
fn answers(key: &[u8], name: &[u8]) {
    let start = [b"filter-result|", key].concat();
    let proceed = [&start[..], b"|proceed\n"].concat();
    assert_eq!(answer(key, None).bytes(), proceed);
    // Who has a longer one has no check.
    if key.len() <= 64 && name.len() <= 253 {
        let reject = [&start[..], b"|reject|450 4.3.2 Please use ", name, b"\n"].concat();
        assert_eq!(answer(key, Some(name)).bytes(), reject);
    }
}

fn second_opinion(line: &[u8]) -> Says {
    if line == b"config|ready" {
        return Says::Ready;
    }
    let kept = &line[..line.len().min(MAX_LINE)];
    let fields: Vec<_> = kept.splitn(8, |&byte| byte == b'|').collect();
    let [
        b"filter",
        _version,
        _time,
        b"smtp-in",
        b"rcpt-to",
        session,
        token,
        address,
    ] = fields[..]
    else {
        return Says::Other;
    };
    let key = [session, token].join(&b'|');
    if key.len() > MAX_KEY {
        return Says::Other;
    }
    let mut domain = match address.split(|&byte| byte == b'@').skip(1).last() {
        Some(domain) if kept == line => domain.to_ascii_lowercase(),
        _ => Vec::new(),
    };
    if domain.last() == Some(&b'.') {
        domain.pop();
    }
    if domain.last() == Some(&b'.') || domain.first() == Some(&b'[') {
        domain.clear();
    }
    Says::Question(key, domain)
}
