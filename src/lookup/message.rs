//! A DNS answer to a query for the MX records of a domain (RFC 1035, section
//! 4). Pure.
//!
//! Every byte may have been chosen by a stranger: each length is checked, a
//! compressed name may only point backwards, and what is not understood makes
//! the answer unknown, never empty.

/// The length of the header, in bytes.
const HEADER: usize = 12;
/// How many aliases are followed at most. A resolver follows them itself; this
/// ends a loop.
const MAX_ALIASES: usize = 16;
/// The longest name on the wire, in bytes, the root included: RFC 1035, section
/// 2.3.4.
const MAX_NAME: usize = 255;

const TYPE_CNAME: u16 = 5;
const TYPE_MX: u16 = 15;
const CLASS_IN: u16 = 1;

const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;

/// What the name servers say of the MX records of a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mx {
    /// It has these MX records: their preferences, and their names as text, in
    /// the order of the answer.
    Records(Vec<(u16, Vec<u8>)>),
    /// It exists, but has no MX record.
    NoRecord,
    /// It does not exist.
    NoDomain,
}

/// Why an answer says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// The name server failed or refused, with this code.
    Code(u8),
    /// The answer was cut off, and not fetched again over TCP.
    Truncated,
    /// The answer is malformed.
    Malformed,
    /// It is an answer to another query, or none at all.
    Unrelated,
    /// The name server does not know, and will not ask others.
    Referral,
}

/// Reads the answer to `query`.
pub fn read(query: &[u8], answer: &[u8]) -> Result<Mx, Unknown> {
    let mut asked = Reader::new(query);
    let mut reader = Reader::new(answer);
    let (query_header, header) = (asked.header(), reader.header());
    if asked.is_broken || query_header.questions != 1 {
        return Err(Unknown::Unrelated);
    }
    if reader.is_broken {
        return Err(Unknown::Malformed);
    }
    if !header.is_answer || header.id != query_header.id || header.questions > 1 {
        return Err(Unknown::Unrelated);
    }
    match header.code {
        // Some name servers leave the question out when they fail.
        code if ![NO_ERROR, NAME_ERROR].contains(&code) => return Err(Unknown::Code(code)),
        _ if header.is_truncated => return Err(Unknown::Truncated),
        _ if header.questions == 0 => return Err(Unknown::Unrelated),
        _ => {}
    }
    let (question, asked_for) = (asked.question(), reader.question());
    if reader.is_broken {
        return Err(Unknown::Malformed);
    }
    if question != asked_for {
        return Err(Unknown::Unrelated);
    }
    let records = reader.records(header.answers);
    if reader.is_broken {
        return Err(Unknown::Malformed);
    }
    let owner = follow(&records, question.name.clone())?;
    // An authority speaks for its own zone, not for what an alias in it names.
    let is_final = header.is_recursive || header.is_authoritative && owner == question.name;
    if header.code == NAME_ERROR {
        return is_final.then_some(Mx::NoDomain).ok_or(Unknown::Referral);
    }
    let of_owner = records.into_iter().filter(|record| record.owner == owner);
    let exchanges = of_owner.filter_map(|record| match record.data {
        Data::Mx(preference, exchange) => Some((preference, exchange.text())),
        Data::Alias(_) => None,
    });
    match exchanges.collect::<Vec<_>>() {
        records if !records.is_empty() => Ok(Mx::Records(records)),
        _ if is_final => Ok(Mx::NoRecord),
        _ => Err(Unknown::Referral),
    }
}

/// Follows the aliases of a name to the last one.
fn follow(records: &[Record], mut name: Name) -> Result<Name, Unknown> {
    for _ in 0..=MAX_ALIASES {
        let mut aliases = records.iter().filter_map(|record| match &record.data {
            Data::Alias(target) if record.owner == name => Some(target),
            _ => None,
        });
        match aliases.next() {
            Some(target) => name = target.clone(),
            None => return Ok(name),
        }
    }
    Err(Unknown::Malformed)
}

struct Header {
    id: u16,
    is_answer: bool,
    is_authoritative: bool,
    is_truncated: bool,
    is_recursive: bool,
    code: u8,
    questions: u16,
    answers: u16,
}

#[derive(PartialEq, Eq)]
struct Question {
    name: Name,
    kind: u16,
    class: u16,
}

struct Record {
    owner: Name,
    data: Data,
}

enum Data {
    Mx(u16, Name),
    Alias(Name),
}

/// A name: its labels, each after its length, without the root's. They compare
/// without regard to ASCII case.
#[derive(Clone, Default)]
struct Name(Vec<u8>);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        // The lengths, at most 63, are no letters.
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Name {
    /// The name as text, without a final dot; the root is a dot. A dot or a
    /// backslash in a label is escaped, so that it cannot look like another
    /// name.
    fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut rest = &self.0[..];
        while let [length, tail @ ..] = rest {
            let (label, after) = tail.split_at(usize::from(*length).min(tail.len()));
            if !text.is_empty() {
                text.push(b'.');
            }
            for &byte in label {
                if byte == b'.' || byte == b'\\' {
                    text.push(b'\\');
                }
                text.push(byte);
            }
            rest = after;
        }
        if text.is_empty() {
            text.push(b'.');
        }
        text
    }
}

/// Reads a message from front to back. After the first thing that is not there
/// it is broken, and gives zeros.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    is_broken: bool,
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8]) -> Self {
        Reader {
            message,
            at: 0,
            is_broken: false,
        }
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let rest = self.message.get(self.at..).unwrap_or_default();
        match rest.get(..count) {
            Some(bytes) if !self.is_broken => {
                self.at += count;
                bytes
            }
            _ => {
                self.is_broken = true;
                &[]
            }
        }
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn header(&mut self) -> Header {
        let (id, flags, code) = (self.word(), self.byte(), self.byte());
        let (questions, answers) = (self.word(), self.word());
        self.bytes(HEADER - 8);
        Header {
            id,
            // Of a plain query, whose operation is 0.
            is_answer: flags & 0xf8 == 0x80,
            is_authoritative: flags & 0x04 != 0,
            is_truncated: flags & 0x02 != 0,
            is_recursive: code & 0x80 != 0,
            code: code & 0x0f,
            questions,
            answers,
        }
    }

    fn question(&mut self) -> Question {
        Question {
            name: self.name(),
            kind: self.word(),
            class: self.word(),
        }
    }

    /// The records of the answer section that matter; all are read.
    fn records(&mut self, count: u16) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..count {
            if self.is_broken {
                break;
            }
            let (owner, kind, class) = (self.name(), self.word(), self.word());
            self.bytes(4);
            let length = self.word();
            let end = self.at + usize::from(length);
            let data = match (class, kind) {
                (CLASS_IN, TYPE_MX) => Data::Mx(self.word(), self.name()),
                (CLASS_IN, TYPE_CNAME) => Data::Alias(self.name()),
                _ => {
                    self.bytes(length.into());
                    continue;
                }
            };
            self.is_broken |= self.at != end;
            records.push(Record { owner, data });
        }
        records
    }

    /// A name, which may continue at an earlier place (RFC 1035, section
    /// 4.1.4).
    fn name(&mut self) -> Name {
        let mut name = Vec::new();
        // Where to go on after the first pointer.
        let mut after = None;
        let mut earliest = self.at;
        loop {
            let length = self.byte();
            match length {
                0 => break,
                1..64 => {
                    name.push(length);
                    name.extend(self.bytes(length.into()));
                }
                0xc0.. => {
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, self.byte()]));
                    after = after.or(Some(self.at));
                    // Only backwards, so that it comes to an end.
                    self.is_broken |= to < HEADER || to >= earliest;
                    (self.at, earliest) = (to, to);
                }
                _ => self.is_broken = true,
            }
            // With the root's length.
            self.is_broken |= name.len() + 1 > MAX_NAME;
            if self.is_broken {
                return Name::default();
            }
        }
        if self.is_broken {
            return Name::default();
        }
        self.at = after.unwrap_or(self.at);
        Name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message, written front to back.
    #[derive(Clone, Default)]
    struct Message(Vec<u8>);

    impl Message {
        /// The two bytes of flags, and how many questions and answers follow.
        fn header(flags: [u8; 2], questions: u8, answers: u8) -> Self {
            let counts = [0, questions, 0, answers, 0, 0, 0, 0];
            Message([&[0x12, 0x34], &flags[..], &counts].concat())
        }

        fn bytes(mut self, bytes: &[u8]) -> Self {
            self.0.extend(bytes);
            self
        }

        fn name(mut self, text: &str) -> Self {
            for label in text.split('.').filter(|label| !label.is_empty()) {
                self.0.push(u8::try_from(label.len()).expect("a label"));
                self.0.extend(label.as_bytes());
            }
            self.bytes(&[0])
        }

        fn question(self, text: &str) -> Self {
            self.name(text).bytes(&[0, 15, 0, 1])
        }

        /// A record of any kind, class IN, with its data.
        fn record(self, owner: &str, kind: u8, data: &[u8]) -> Self {
            let length = u16::try_from(data.len()).expect("short data");
            self.name(owner)
                .bytes(&[0, kind, 0, 1, 0, 0, 0, 60])
                .bytes(&length.to_be_bytes())
                .bytes(data)
        }

        fn mx(self, owner: &str, preference: u16, exchange: &str) -> Self {
            let data = Message::default().bytes(&preference.to_be_bytes());
            self.record(owner, 15, &data.name(exchange).0)
        }

        fn alias(self, owner: &str, target: &str) -> Self {
            self.record(owner, 5, &Message::default().name(target).0)
        }
    }

    const DOMAIN: &str = "example.org";
    /// An answer, recursion desired and available.
    const GOOD: [u8; 2] = [0x81, 0x80];

    fn query() -> Vec<u8> {
        Message::header([1, 0], 1, 0).question(DOMAIN).0
    }

    fn answer(answers: u8) -> Message {
        Message::header(GOOD, 1, answers).question(DOMAIN)
    }

    fn records(records: &[(u16, &str)]) -> Result<Mx, Unknown> {
        let owned = |&(preference, name): &(u16, &str)| (preference, name.into());
        Ok(Mx::Records(records.iter().map(owned).collect()))
    }

    #[test]
    fn every_kind_of_answer() {
        let with_flags = |flags| Message::header(flags, 1, 0).question(DOMAIN);
        let long = "a".repeat(63);
        let longest = format!("{long}.{long}.{long}.{}", "b".repeat(61));
        let table = [
            (answer(0), Ok(Mx::NoRecord)),
            (
                answer(1).mx(DOMAIN, 10, "mx.test"),
                records(&[(10, "mx.test")]),
            ),
            (
                answer(3)
                    .mx(DOMAIN, 20, "b")
                    .mx(DOMAIN, 10, "a")
                    .mx(DOMAIN, 20, "c"),
                records(&[(20, "b"), (10, "a"), (20, "c")]),
            ),
            (answer(1).mx(DOMAIN, 0, ""), records(&[(0, ".")])),
            (
                answer(1).mx(DOMAIN, 65535, &longest),
                records(&[(65535, &longest)]),
            ),
            (
                answer(1).mx("EXAMPLE.Org", 1, "MX.Test"),
                records(&[(1, "MX.Test")]),
            ),
            // Other records, and those of others, are skipped.
            (
                answer(3)
                    .record(DOMAIN, 1, &[192, 0, 2, 1])
                    .mx("other.test", 5, "wrong.test")
                    .mx(DOMAIN, 10, "mx.test"),
                records(&[(10, "mx.test")]),
            ),
            // Aliases, in any order.
            (
                answer(3)
                    .alias(DOMAIN, "b.test")
                    .alias("b.test", "c.test")
                    .mx("c.test", 1, "mx"),
                records(&[(1, "mx")]),
            ),
            (
                answer(3)
                    .mx("c.test", 1, "mx")
                    .alias("B.test", "c.test")
                    .alias(DOMAIN, "b.test"),
                records(&[(1, "mx")]),
            ),
            (answer(1).alias(DOMAIN, "b.test"), Ok(Mx::NoRecord)),
            (
                answer(2).alias(DOMAIN, "b.test").mx(DOMAIN, 1, "mx"),
                Ok(Mx::NoRecord),
            ),
            (
                answer(2).alias(DOMAIN, "b.test").alias("b.test", DOMAIN),
                Err(Unknown::Malformed),
            ),
            (answer(1).alias(DOMAIN, DOMAIN), Err(Unknown::Malformed)),
            // The codes.
            (with_flags([0x81, 0x83]), Ok(Mx::NoDomain)),
            (
                Message::header([0x81, 0x83], 1, 1)
                    .question(DOMAIN)
                    .alias(DOMAIN, "gone.test"),
                Ok(Mx::NoDomain),
            ),
            (with_flags([0x81, 0x81]), Err(Unknown::Code(1))),
            (with_flags([0x81, 0x82]), Err(Unknown::Code(2))),
            (with_flags([0x81, 0x85]), Err(Unknown::Code(5))),
            (Message::header([0x81, 0x82], 0, 0), Err(Unknown::Code(2))),
            // Cut off: neither an answer nor no record.
            (with_flags([0x83, 0x80]), Err(Unknown::Truncated)),
            (
                Message::header([0x83, 0x80], 1, 1)
                    .question(DOMAIN)
                    .mx(DOMAIN, 1, "mx"),
                Err(Unknown::Truncated),
            ),
            // No recursion: only one's own word counts for "no record".
            (with_flags([0x80, 0]), Err(Unknown::Referral)),
            (with_flags([0x84, 0]), Ok(Mx::NoRecord)),
            (with_flags([0x84, 3]), Ok(Mx::NoDomain)),
            (with_flags([0x80, 3]), Err(Unknown::Referral)),
            (
                Message::header([0x84, 0], 1, 1)
                    .question(DOMAIN)
                    .alias(DOMAIN, "other.test"),
                Err(Unknown::Referral),
            ),
            (with_flags([0xa1, 0x80]), Err(Unknown::Unrelated)),
            // Something else.
            (with_flags([0x01, 0x80]), Err(Unknown::Unrelated)),
            (Message::header(GOOD, 0, 0), Err(Unknown::Unrelated)),
            (
                Message::header(GOOD, 1, 0).question("other.org"),
                Err(Unknown::Unrelated),
            ),
            (
                Message::header(GOOD, 1, 0)
                    .name(DOMAIN)
                    .bytes(&[0, 1, 0, 1]),
                Err(Unknown::Unrelated),
            ),
            (
                Message::header(GOOD, 1, 0)
                    .name(DOMAIN)
                    .bytes(&[0, 15, 0, 3]),
                Err(Unknown::Unrelated),
            ),
            (
                Message::header(GOOD, 2, 0)
                    .question(DOMAIN)
                    .question(DOMAIN),
                Err(Unknown::Unrelated),
            ),
            (
                Message(b"\x12\x35".to_vec()).bytes(&answer(0).0[2..]),
                Err(Unknown::Unrelated),
            ),
            // More is promised than comes.
            (answer(1), Err(Unknown::Malformed)),
            (answer(2).mx(DOMAIN, 1, "mx"), Err(Unknown::Malformed)),
        ];
        for (message, expected) in table {
            let shown = message.0.escape_ascii().to_string();
            assert_eq!(read(&query(), &message.0), expected, "{shown}");
        }
    }

    /// A name that would be a host if its labels were not looked at.
    #[test]
    fn names_that_are_no_hosts_do_not_look_like_any() {
        let table: [(&[u8], &str); 4] = [
            (b"\x07mx.test\x00", "mx\\.test"),
            (b"\x02a\\\x01b\x00", "a\\\\.b"),
            (b"\x03::1\x00", "::1"),
            (b"\x01a\x03\x00\n \x00", "a.\0\n "),
        ];
        for (name, text) in table {
            let data = [&[0, 5], name].concat();
            let message = answer(1).record(DOMAIN, 15, &data);
            assert_eq!(read(&query(), &message.0), records(&[(5, text)]));
        }
    }

    #[test]
    fn compressed_names() {
        // The question's name is at byte 12, its last label at byte 20.
        let pointer = [0xc0, 12];
        let table: [(&[u8], Option<&str>); 13] = [
            (&pointer, Some(DOMAIN)),
            (&[2, b'm', b'x', 0xc0, 20], Some("mx.org")),
            (&[2, b'm', b'x', 0xc0, 12], Some("mx.example.org")),
            // To itself, ahead, past the end, into the header.
            (&[0xc0, 0], None),
            (&[0xc0, 11], None),
            (&[0xc0, 43], None),
            (&[0xc0, 60], None),
            (&[0xff, 0xff], None),
            (&[1, b'a', 0xc0, 43], None),
            // Kinds of labels that there are not, as long as they would be.
            (&[0x40, 0], None),
            (&[0x80, 12], None),
            (&[&[0x40][..], &[b'a'; 64], &[0]].concat(), None),
            (&[&[0x80][..], &[b'a'; 128], &[0]].concat(), None),
        ];
        for (name, expected) in table {
            let length = u8::try_from(name.len() + 2).expect("short");
            let fixed = [0, 15, 0, 1, 0, 0, 0, 60, 0, length, 0, 5];
            let message = answer(1).bytes(&pointer).bytes(&fixed).bytes(name);
            let expected = match expected {
                Some(text) => records(&[(5, text)]),
                None => Err(Unknown::Malformed),
            };
            assert_eq!(read(&query(), &message.0), expected, "{name:x?}");
        }
    }

    #[test]
    fn lengths_that_lie() {
        let good = answer(2)
            .mx(DOMAIN, 1, "mx.test")
            .mx(DOMAIN, 2, "mx2.test")
            .0;
        assert!(read(&query(), &good).is_ok());
        // Cut off anywhere.
        for length in 0..good.len() {
            let result = read(&query(), &good[..length]);
            assert!(result.is_err(), "{length} bytes: {result:?}");
        }
        // The length of the first record's data: 17 bytes behind its name.
        let at = query().len() + Message::default().name(DOMAIN).0.len() + 9;
        for length in 0..=255 {
            let mut lying = good.clone();
            let truth = std::mem::replace(&mut lying[at], length);
            let is_good = read(&query(), &lying).is_ok();
            assert_eq!(is_good, length == truth, "{length}");
        }
    }

    /// A name of 253 bytes as text is the longest.
    #[test]
    fn names_and_chains_of_any_length() {
        let label = "a".repeat(63);
        for (length, is_good) in [(61, true), (62, false), (63, false)] {
            let name = format!("{label}.{label}.{label}.{}", "b".repeat(length));
            let message = answer(1).mx(DOMAIN, 1, &name);
            assert_eq!(read(&query(), &message.0).is_ok(), is_good, "{length}");
        }
        for count in 0..20u8 {
            let name = |i: u8| {
                if i == 0 {
                    DOMAIN.into()
                } else {
                    format!("a{i}.test")
                }
            };
            let aliases = (0..count).fold(answer(count + 1), |message, i| {
                message.alias(&name(i), &name(i + 1))
            });
            let message = aliases.mx(&name(count), 1, "mx");
            let is_good = usize::from(count) <= MAX_ALIASES;
            assert_eq!(read(&query(), &message.0).is_ok(), is_good, "{count}");
        }
    }

    /// A record of another class is nobody's, and a name goes on where its first
    /// pointer stood, however many follow.
    #[test]
    fn other_classes_and_pointers_to_pointers() {
        let mut message = answer(2).mx(DOMAIN, 1, "wrong").mx(DOMAIN, 2, "mx");
        let class = query().len() + Message::default().name(DOMAIN).0.len() + 3;
        message.0[class] = 3;
        assert_eq!(read(&query(), &message.0), records(&[(2, "mx")]));

        // The first owner is a pointer; the second one points there.
        let at = u8::try_from(query().len()).expect("short");
        let data = |name| [0, 15, 0, 1, 0, 0, 0, 60, 0, 5, 0, 7, 1, name, 0];
        let message = answer(2)
            .bytes(&[0xc0, 12])
            .bytes(&data(b'a'))
            .bytes(&[0xc0, at])
            .bytes(&data(b'b'));
        let expected = records(&[(7, "a"), (7, "b")]);
        assert_eq!(read(&query(), &message.0), expected);
    }

    #[test]
    fn any_byte_may_be_any_other() {
        let good = answer(2)
            .alias(DOMAIN, "b.test")
            .mx("b.test", 2, "mx.test")
            .0;
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[at] = byte;
                // It comes to an end, and does not panic.
                let _ = read(&query(), &bad);
            }
        }
    }
}
