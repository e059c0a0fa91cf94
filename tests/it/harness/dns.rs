//! A scripted name server, for tests in a private network.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::run::ms;

/// RFC 1035, section 4.1.1.
const HEADER: usize = 12;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

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
/// The name `*` stands for every name without a line of its own; the type is A
/// or AAAA. An answer is one or more addresses, or `nodata`, `nxdomain`,
/// `servfail` or `silent`. Several answers are given in turn, and then the last
/// one again and again. Any other name does not exist.
pub fn serve(zone: &str) -> NameServer {
    let mut lines: Vec<Line> = zone.lines().filter_map(Line::parse).collect();
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap());
    let server = NameServer {
        asked: Arc::default(),
    };
    let asked = Arc::clone(&server.asked);
    thread::spawn(move || {
        let mut query = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut query).unwrap();
            let query = Query::parse(&query[..length]);
            asked.lock().unwrap().push(query.text());
            let answer = answer(&mut lines, &query);
            let socket = Arc::clone(&socket);
            thread::spawn(move || {
                thread::sleep(answer.delay);
                if let Some(response) = query.respond(&answer.kind) {
                    socket.send_to(&response, client).unwrap();
                }
            });
        }
    });
    server
}

impl NameServer {
    /// How often it was asked a question such as `mx.test AAAA`.
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
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Addresses(Vec<IpAddr>),
    Error(u8),
    Silent,
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
    fn parse(words: &[&str]) -> Self {
        let (delay, words) = match words {
            ["after", delay, words @ ..] => (ms(delay.parse().unwrap()), words),
            words => (Duration::ZERO, words),
        };
        let kind = match words {
            ["silent"] => Kind::Silent,
            ["servfail"] => Kind::Error(SERVFAIL),
            ["nxdomain"] => Kind::Error(NXDOMAIN),
            ["nodata"] => Kind::Addresses(Vec::new()),
            addresses => Kind::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect()),
        };
        Answer { delay, kind }
    }
}

fn answer(lines: &mut [Line], query: &Query) -> Answer {
    let of_name = |name: &str| lines.iter().any(|line| line.name == name);
    let name = if of_name(&query.name) {
        &query.name
    } else {
        "*"
    };
    let kind = if of_name(name) {
        Kind::Addresses(Vec::new())
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
            delay: Duration::ZERO,
            kind,
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

    fn respond(&self, kind: &Kind) -> Option<Vec<u8>> {
        let (error, addresses) = match kind {
            Kind::Silent => return None,
            Kind::Error(error) => (*error, &[][..]),
            Kind::Addresses(addresses) => (0, &addresses[..]),
        };
        let mut response = self.message.clone();
        // A response, recursion desired and available; one question.
        response[2..4].copy_from_slice(&[0x81, 0x80 | error]);
        response[4..HEADER].fill(0);
        response[5] = 1;
        response[7] = u8::try_from(addresses.len()).unwrap();
        for address in addresses {
            let (kind, bytes) = match address {
                IpAddr::V4(ipv4) => (1, ipv4.octets().to_vec()),
                IpAddr::V6(ipv6) => (28, ipv6.octets().to_vec()),
            };
            let length = u8::try_from(bytes.len()).unwrap();
            // The question's name, the type, class IN, 60 seconds to live.
            response.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length]);
            response.extend(bytes);
        }
        Some(response)
    }
}
