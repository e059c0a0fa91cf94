//! A DNS answer, against a second reading of the whole message: by recursion,
//! into labels, with an `Option` at each step.

use crate::lookup::message::{Mx, Unknown, read};
use crate::random::{Corpus, Random};

static CORPUS: Corpus = Corpus::new(include_str!("../corpus/message"));
/// The number of each query, and the question: the MX records of example.org.
const ID: &[u8] = b"\x12\x34";
const QUESTION: &[u8] = b"\x07example\x03org\x00\x00\x0f\x00\x01";

const WORDS: &[&[u8]] = &[
    b"\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00",
    QUESTION,
    b"\xc0\x0c",
    b"\xc0\x14",
    b"\xc0\x1d",
    b"\xff\xff",
    b"\x00\x0f\x00\x01",
    b"\x00\x05\x00\x01",
    b"\x00\x00\x00\x3c",
    b"\x00\x04",
    b"\x00",
    b"\x02mx",
    b"\x3f",
    b"\x40",
];

/// Names, of which some are written in two ways, and some continue elsewhere.
const NAMES: &[&[u8]] = &[
    b"\xc0\x0c",
    b"\xc0\x0c",
    b"\x07EXAMPLE\x03Org\x00",
    b"\x01b\x04test\x00",
    b"\x01B\x04TEST\x00",
    b"\x01c\x04test\x00",
    b"\x01d\xc0\x14",
    b"\x01d\x03org\x00",
    b"\x00",
    b"\x04a.b\\\x00",
    b"\xc0\x14",
    b"\x02mx\xc0\x1d",
    b"\xc0\x2b",
    b"\xc1\x00",
];

pub fn one(random: &mut Random) {
    let query = [ID, b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", QUESTION].concat();
    let answer = match random.below(4) {
        0 => random.text(CORPUS.inputs(), WORDS),
        1 => changed(random, CORPUS.inputs()),
        _ => {
            let message = message(random);
            changed(random, &[message])
        }
    };
    let shown = answer.escape_ascii();
    let found = read(&query, &answer);
    assert_eq!(found, second_reading(&answer), "{shown}");
    // Nothing behind the answers counts.
    if found != Err(Unknown::Malformed) {
        let longer = [&answer[..], b"\x01a\x00"].concat();
        assert_eq!(read(&query, &longer), found, "{shown}");
    }
    // A piece of it says nothing that the whole does not say.
    let piece = &answer[..random.below(answer.len() + 1)];
    let of_piece = read(&query, piece);
    let is_cut = of_piece == Err(Unknown::Malformed);
    assert!(
        is_cut || of_piece == found,
        "{} bytes of {shown}",
        piece.len()
    );
}

/// A message of records that fit together more often than not.
fn message(random: &mut Random) -> Vec<u8> {
    let count = random.below(6);
    let flags = *random.pick(&[
        b"\x81\x80",
        b"\x81\x80",
        b"\x81\x80",
        b"\x84\x00",
        b"\x80\x00",
        b"\x81\x83",
    ]);
    let mut message = [ID, flags, &[0, 1, 0, count as u8, 0, 0, 0, 0], QUESTION].concat();
    for _ in 0..count {
        let (kind, class) = (*random.pick(&[15, 15, 15, 5, 5, 1]), random.once_in(8));
        message.extend(*random.pick(NAMES));
        message.extend([0, kind, 0, if class { 3 } else { 1 }, 0, 0, 0, 60]);
        let mut data = Vec::new();
        if kind == 15 {
            data.extend([0, random.next() as u8]);
        }
        data.extend(*random.pick(NAMES));
        if random.once_in(16) {
            // A name of any length, also too long.
            data.pop();
            for _ in 0..1 + random.below(5) {
                let length = 1 + random.below(63);
                data.push(length as u8);
                data.extend(std::iter::repeat_n(b'x', length));
            }
            data.push(0);
        }
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}

/// One of these, in half of the cases with some bytes changed.
fn changed(random: &mut Random, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut message = random.pick(messages).clone();
    while random.once_in(2) {
        let at = random.below(message.len());
        message[at] = match random.below(4) {
            0 => random.next() as u8,
            1 => message[at].wrapping_add(1),
            2 => message[at].wrapping_sub(1),
            _ => message[at] ^ 1 << random.below(8),
        };
    }
    message
}

/// The labels of a name.
type Labels = Vec<Vec<u8>>;

fn second_reading(answer: &[u8]) -> Result<Mx, Unknown> {
    let malformed = Unknown::Malformed;
    let header = answer.get(..12).ok_or(malformed)?;
    let (flags, code) = (header[2], header[3] & 15);
    let questions = usize::from(header[4]) << 8 | usize::from(header[5]);
    let count = usize::from(header[6]) << 8 | usize::from(header[7]);
    if &header[..2] != ID || flags >> 3 != 16 || questions > 1 {
        return Err(Unknown::Unrelated);
    }
    if code != 0 && code != 3 {
        return Err(Unknown::Code(code));
    }
    if flags & 2 != 0 {
        return Err(Unknown::Truncated);
    }
    if questions == 0 {
        return Err(Unknown::Unrelated);
    }
    let (asked, behind) = name(answer, 12).ok_or(malformed)?;
    let kind = answer.get(behind..behind + 4).ok_or(malformed)?;
    if lower(&asked) != [b"example".to_vec(), b"org".to_vec()]
        || kind != &QUESTION[QUESTION.len() - 4..]
    {
        return Err(Unknown::Unrelated);
    }
    let records = records(answer, behind + 4, count).ok_or(malformed)?;
    let last = last_alias(&records, lower(&asked), 16).ok_or(malformed)?;
    // Who recurs speaks for everybody; an authority for the name it was asked.
    let is_final = header[3] & 0x80 != 0 || flags & 4 != 0 && last == lower(&asked);
    if code == 3 && is_final {
        return Ok(Mx::NoDomain);
    }
    if code == 3 {
        return Err(Unknown::Referral);
    }
    let of_last = records.iter().filter(|record| record.owner == last);
    let list: Vec<_> = of_last
        .filter_map(|record| Some((record.preference?, text(&record.target))))
        .collect();
    if !list.is_empty() {
        Ok(Mx::Records(list))
    } else if is_final {
        Ok(Mx::NoRecord)
    } else {
        Err(Unknown::Referral)
    }
}

/// An MX record, or without a preference an alias.
struct Record {
    owner: Labels,
    preference: Option<u16>,
    target: Labels,
}

fn records(message: &[u8], mut at: usize, count: usize) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (owner, behind) = name(message, at)?;
        let fixed = message.get(behind..behind + 10)?;
        let begin = behind + 10;
        let end = begin + (usize::from(fixed[8]) << 8 | usize::from(fixed[9]));
        let data = message.get(begin..end);
        let preference = match &fixed[..4] {
            [0, 15, 0, 1] => Some(u16::from_be_bytes([
                *message.get(begin)?,
                *message.get(begin + 1)?,
            ])),
            [0, 5, 0, 1] => None,
            _ => {
                data?;
                at = end;
                continue;
            }
        };
        let (target, behind) = name(message, begin + preference.map_or(0, |_| 2))?;
        if behind != end {
            return None;
        }
        records.push(Record {
            owner: lower(&owner),
            preference,
            target,
        });
        at = end;
    }
    Some(records)
}

/// The name at a place, and what comes behind it.
fn name(message: &[u8], from: usize) -> Option<(Labels, usize)> {
    let mut labels = Labels::new();
    let mut at = from;
    let behind = loop {
        match *message.get(at)? {
            0 => break at + 1,
            length @ 1..=63 => {
                at += 1;
                labels.push(message.get(at..at + usize::from(length))?.to_vec());
                at += usize::from(length);
            }
            high @ 192.. => {
                let to = usize::from(high - 192) << 8 | usize::from(*message.get(at + 1)?);
                if to < 12 || to >= from {
                    return None;
                }
                labels.extend(name(message, to)?.0);
                break at + 2;
            }
            _ => return None,
        }
    };
    let length: usize = labels.iter().map(|label| label.len() + 1).sum();
    (length < 255).then_some((labels, behind))
}

fn last_alias(records: &[Record], name: Labels, more: usize) -> Option<Labels> {
    let is_alias = |record: &&Record| record.preference.is_none() && record.owner == name;
    match records.iter().find(is_alias) {
        None => Some(name),
        Some(_) if more == 0 => None,
        Some(alias) => last_alias(records, lower(&alias.target), more - 1),
    }
}

fn lower(labels: &Labels) -> Labels {
    labels
        .iter()
        .map(|label| label.to_ascii_lowercase())
        .collect()
}

fn text(labels: &Labels) -> Vec<u8> {
    let escaped = |label: &Vec<u8>| {
        let bytes = label.iter().flat_map(|&byte| match byte {
            b'.' | b'\\' => vec![b'\\', byte],
            _ => vec![byte],
        });
        bytes.collect::<Vec<u8>>()
    };
    match labels.is_empty() {
        true => b".".to_vec(),
        false => labels.iter().map(escaped).collect::<Vec<_>>().join(&b'.'),
    }
}
