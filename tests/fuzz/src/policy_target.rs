//! Requests of Postfix's policy protocol, in any pieces, against a reader that
//! has all of them at once.

use crate::random::{Corpus, Random};
use crate::serve::postfix::Request;
use crate::serve::question::Question;

static CORPUS: Corpus = Corpus::new(include_str!("../corpus/policy"));
const WORDS: &[&[u8]] = &[
    b"request=",
    b"smtpd_access_policy",
    b"protocol_state=RCPT",
    b"sender=",
    b"recipient=",
    b"client_address=",
    b"sasl_username=",
    b"instance=",
    b"server_address=",
    b"@",
    b"example.test",
    b"=",
    b"\n",
    b"\n\n",
    b"\r",
    b"\0",
];

/// Domain, recipient, sender, client, server, message.
type Texts = [Vec<u8>; 6];

pub fn one(random: &mut Random) {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        bytes.extend(random.text(CORPUS.inputs(), WORDS));
    }
    let expected = second_opinion(&bytes);
    if random.once_in(50) {
        // Before a line, one that is too long and not needed is as nothing.
        let starts = (0..bytes.len()).filter(|&i| i == 0 || bytes[i - 1] == b'\n');
        let at = random
            .pick(&starts.chain([0]).collect::<Vec<_>>())
            .to_owned();
        let long = [
            &b"recipient="[..],
            &vec![b'x'; 8192 + random.below(9000)],
            b"\n",
        ]
        .concat();
        bytes.splice(at..at, long);
    }
    let shown = bytes.escape_ascii();
    let mut request = Request::EMPTY;
    let mut found = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(1 + random.below(rest.len()));
        while let Some(length) = request.take(piece) {
            piece = &piece[length..];
            found.push(request.question().map(|question| texts(&question)));
            request.clear();
        }
        rest = behind;
    }
    assert_eq!(found, expected, "{shown}");
}

fn texts(question: &Question) -> Texts {
    [
        question.domain,
        question.recipient,
        question.sender,
        question.client,
        question.server,
        question.message,
    ]
    .map(<[u8]>::to_vec)
}

fn second_opinion(bytes: &[u8]) -> Vec<Option<Texts>> {
    let mut requests = Vec::new();
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut all: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    // What has no end is no line.
    all.pop();
    for line in all {
        if !line.is_empty() {
            lines.push(line);
            continue;
        }
        let value = |name: &str| {
            let start = [name.as_bytes(), b"="].concat();
            let values = lines
                .iter()
                .filter_map(|line| line.strip_prefix(&start[..]));
            values.last().unwrap_or_default().to_ascii_lowercase()
        };
        let recipient = value("recipient");
        let domain = recipient.split(|&byte| byte == b'@').skip(1).last();
        let domain = domain.map(|domain| domain.strip_suffix(b".").unwrap_or(domain));
        let domain =
            domain.filter(|domain| domain.first() != Some(&b'[') && domain.last() != Some(&b'.'));
        let is_asked = value("request") == b"smtpd_access_policy"
            && value("protocol_state") == b"rcpt"
            && value("sasl_username").is_empty();
        requests.push(domain.filter(|_| is_asked).map(|domain| {
            [
                domain.to_vec(),
                recipient.clone(),
                value("sender"),
                value("client_address"),
                value("server_address"),
                value("instance"),
            ]
        }));
        lines.clear();
    }
    requests
}
