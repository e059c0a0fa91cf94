//! A scripted name server, for tests in a private network.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::run::ms;

/// RFC 1035, section 4.1.1.
pub const HEADER: usize = 12;
/// The longest message over UDP: RFC 1035, section 2.3.4.
const MAX_UDP: usize = 512;
/// The flag TC, in its byte of the header.
const TRUNCATED: u8 = 2;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// A running name server. It ends with its network.
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
}

/// Starts a name server on port 53 of 127.0.0.1. A line of its zone is
///
/// ```text
/// name type [after milliseconds] answer [/ [after milliseconds] answer ...]
/// ```
///
/// The name `*` stands for every name without a line of its own; the type is
/// A, AAAA or MX. Several answers are given in turn, and then the last one
/// again and again. Any other name does not exist. An answer is
///
/// | answer | what is sent |
/// | --- | --- |
/// | `192.0.2.1 ...` | addresses |
/// | `10:mx.test ...` | MX records in this order; `0:.` is the null MX |
/// | `=other.test ...` | an alias; the records behind it are the other name's |
/// | `nodata`, `nxdomain`, `servfail`, `notimp`, `refused` | no record, and this code |
/// | `referral` | no record, from a server that does not ask others |
/// | `silent` | nothing |
/// | `raw 8180...` | these bytes in hexadecimal, after the query's number |
///
/// Before it may stand `other-id`, for another number than the query's, or how
/// the answer is cut off: `truncated` over UDP only, `cut` over TCP also, and
/// `no-tcp` where the connection is closed. Over UDP, what is longer than 512
/// bytes is cut off in any case.
pub fn serve(zone: &str) -> NameServer {
    let lines: Vec<Line> = zone.lines().filter_map(Line::parse).collect();
    let lines = Arc::new(Mutex::new(lines));
    let server = NameServer {
        asked: Arc::default(),
    };
    let address = (Ipv4Addr::LOCALHOST, 53);
    let socket = Arc::new(UdpSocket::bind(address).unwrap());
    let listener = TcpListener::bind(address).unwrap();
    let (tcp_lines, tcp_asked) = (Arc::clone(&lines), Arc::clone(&server.asked));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (lines, asked) = (Arc::clone(&tcp_lines), Arc::clone(&tcp_asked));
            // It fails when the client hangs up.
            thread::spawn(move || serve_tcp(client.unwrap(), &lines, &asked));
        }
    });
    let asked = Arc::clone(&server.asked);
    thread::spawn(move || {
        let mut query = [0; MAX_UDP];
        loop {
            let (length, client) = socket.recv_from(&mut query).unwrap();
            let query = Query::parse(&query[..length]);
            asked.lock().unwrap().push(query.text());
            let answer = answer(&mut lines.lock().unwrap(), &query);
            let socket = Arc::clone(&socket);
            thread::spawn(move || {
                thread::sleep(answer.delay);
                if let Some(response) = query.respond_over_udp(&answer) {
                    socket.send_to(&response, client).unwrap();
                }
            });
        }
    });
    server
}

/// Answers the queries of one connection, each after its length.
fn serve_tcp(
    mut client: TcpStream,
    lines: &Mutex<Vec<Line>>,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        client.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        client.read_exact(&mut query)?;
        let query = Query::parse(&query);
        asked.lock().unwrap().push(format!("{} TCP", query.text()));
        let answer = answer(&mut lines.lock().unwrap(), &query);
        thread::sleep(answer.delay);
        let Some(response) = query.respond_over_tcp(&answer) else {
            return Ok(());
        };
        let length = u16::try_from(response.len()).unwrap();
        client.write_all(&[&length.to_be_bytes()[..], &response].concat())?;
    }
}

impl NameServer {
    /// How often it was asked a question such as `mx.test AAAA`, or over TCP
    /// `mx.test AAAA TCP`.
    pub fn asked(&self, question: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|query| *query == question).count()
    }

    /// Every question that it was asked.
    pub fn questions(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

struct Line {
    name: String,
    kind: String,
    answers: Vec<Answer>,
}

#[derive(Clone)]
struct Answer {
    delay: Duration,
    has_other_id: bool,
    cut: Cut,
    kind: Kind,
}

/// How an answer is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Over UDP if it is too long.
    Long,
    Udp,
    UdpAndTcp,
    /// Over UDP, and there is none over TCP.
    NoTcp,
}

#[derive(Clone)]
enum Kind {
    Records(Vec<Record>),
    Error(u8),
    Referral,
    Silent,
    Raw(Vec<u8>),
}

#[derive(Clone)]
enum Record {
    Address(IpAddr),
    Mx(u16, String),
    Alias(String),
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        Some(Line {
            name: words.next()?.into(),
            kind: words.next()?.into(),
            answers: words
                .collect::<Vec<_>>()
                .split(|word| *word == "/")
                .map(Answer::parse)
                .collect(),
        })
    }
}

impl Answer {
    fn parse(mut words: &[&str]) -> Self {
        let mut answer = Answer {
            delay: Duration::ZERO,
            has_other_id: false,
            cut: Cut::Long,
            kind: Kind::Silent,
        };
        if let ["after", delay, rest @ ..] = words {
            answer.delay = ms(delay.parse().unwrap());
            words = rest;
        }
        if let ["other-id", rest @ ..] = words {
            answer.has_other_id = true;
            words = rest;
        }
        if let [how @ ("truncated" | "cut" | "no-tcp"), rest @ ..] = words {
            answer.cut = match *how {
                "truncated" => Cut::Udp,
                "cut" => Cut::UdpAndTcp,
                _ => Cut::NoTcp,
            };
            words = rest;
        }
        answer.kind = match words {
            ["silent"] => Kind::Silent,
            ["servfail"] => Kind::Error(SERVFAIL),
            ["nxdomain"] => Kind::Error(NXDOMAIN),
            ["notimp"] => Kind::Error(NOTIMP),
            ["refused"] => Kind::Error(REFUSED),
            ["referral"] => Kind::Referral,
            ["nodata"] => Kind::Records(Vec::new()),
            ["raw"] => Kind::Raw(Vec::new()),
            ["raw", digits] => Kind::Raw(bytes(digits)),
            records => Kind::Records(records.iter().map(|word| Record::parse(word)).collect()),
        };
        answer
    }
}

/// Bytes in hexadecimal.
fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

impl Record {
    fn parse(word: &str) -> Self {
        if let Ok(address) = word.parse() {
            return Record::Address(address);
        }
        if let Some(target) = word.strip_prefix('=') {
            return Record::Alias(target.into());
        }
        let (preference, name) = word.split_once(':').unwrap();
        Record::Mx(preference.parse().unwrap(), name.into())
    }

    /// Its type and data.
    fn data(&self) -> (u8, Vec<u8>) {
        match self {
            Record::Address(IpAddr::V4(ipv4)) => (1, ipv4.octets().to_vec()),
            Record::Address(IpAddr::V6(ipv6)) => (28, ipv6.octets().to_vec()),
            Record::Mx(preference, target) => {
                let preference = &preference.to_be_bytes()[..];
                (15, [preference, &name(target)].concat())
            }
            Record::Alias(target) => (5, name(target)),
        }
    }
}

/// A name as it is in a message: each label after its length. A byte of a label
/// may be escaped, as `\\046`.
pub fn name(text: &str) -> Vec<u8> {
    let mut name = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        let mut bytes = Vec::new();
        let mut rest = label.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'\\' => {
                    let digits: String = rest.by_ref().take(3).map(char::from).collect();
                    digits.parse().unwrap()
                }
                byte => byte,
            });
        }
        name.push(u8::try_from(bytes.len()).unwrap());
        name.extend(bytes);
    }
    name.push(0);
    name
}

fn answer(lines: &mut [Line], query: &Query) -> Answer {
    let of_name = |name: &str| lines.iter().any(|line| line.name == name);
    let name = if of_name(&query.name) {
        &query.name
    } else {
        "*"
    };
    let kind = if of_name(name) {
        Kind::Records(Vec::new())
    } else {
        Kind::Error(NXDOMAIN)
    };
    match lines
        .iter_mut()
        .find(|line| line.name == name && line.kind == query.kind)
    {
        Some(line) if line.answers.len() > 1 => line.answers.remove(0),
        Some(line) => line.answers[0].clone(),
        None => Answer {
            kind,
            ..Answer::parse(&["silent"])
        },
    }
}

struct Query {
    message: Vec<u8>,
    /// In lower case.
    name: String,
    kind: String,
}

impl Query {
    fn parse(message: &[u8]) -> Self {
        let mut labels = Vec::new();
        let mut at = HEADER;
        while message[at] != 0 {
            let end = at + 1 + usize::from(message[at]);
            labels.push(String::from_utf8_lossy(&message[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        let kind = match u16::from_be_bytes([message[at + 1], message[at + 2]]) {
            1 => "A".into(),
            15 => "MX".into(),
            28 => "AAAA".into(),
            other => other.to_string(),
        };
        Query {
            message: message[..at + 5].to_vec(),
            name: labels.join("."),
            kind,
        }
    }

    fn text(&self) -> String {
        format!("{} {}", self.name, self.kind)
    }

    fn respond_over_udp(&self, answer: &Answer) -> Option<Vec<u8>> {
        let mut response = self.respond(answer)?;
        if answer.cut != Cut::Long {
            response[2] |= TRUNCATED;
        } else if response.len() > MAX_UDP {
            response.truncate(self.message.len());
            response[2] |= TRUNCATED;
            response[6..8].fill(0);
        }
        Some(response)
    }

    fn respond_over_tcp(&self, answer: &Answer) -> Option<Vec<u8>> {
        let mut response = self.respond(answer).filter(|_| answer.cut != Cut::NoTcp)?;
        if answer.cut == Cut::UdpAndTcp {
            response[2] |= TRUNCATED;
        }
        Some(response)
    }

    fn respond(&self, answer: &Answer) -> Option<Vec<u8>> {
        // A response, recursion desired and available; one question.
        let (flags, records) = match &answer.kind {
            Kind::Silent => return None,
            Kind::Raw(bytes) => return Some([&self.message[..2], bytes].concat()),
            Kind::Error(error) => ([0x81, 0x80 | error], &[][..]),
            Kind::Referral => ([0x81, 0], &[][..]),
            Kind::Records(records) => ([0x81, 0x80], &records[..]),
        };
        let mut response = self.message.clone();
        response[0] ^= u8::from(answer.has_other_id);
        response[2..4].copy_from_slice(&flags);
        response[4..HEADER].fill(0);
        response[5] = 1;
        let count = u16::try_from(records.len()).unwrap();
        response[6..8].copy_from_slice(&count.to_be_bytes());
        // The question's name, until an alias.
        let mut owner = vec![0xc0, 12];
        for record in records {
            let (kind, data) = record.data();
            let length = u16::try_from(data.len()).unwrap();
            // The type, class IN, 60 seconds to live.
            response.extend([&owner[..], &[0, kind, 0, 1, 0, 0, 0, 60]].concat());
            response.extend(length.to_be_bytes());
            response.extend(&data);
            if let Record::Alias(_) = record {
                owner = data;
            }
        }
        Some(response)
    }
}
