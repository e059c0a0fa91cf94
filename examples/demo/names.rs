//! The name server of the demo: it knows three hosts and two domains.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

/// Types of records (RFC 1035, section 3.2.2).
const A: u16 = 1;
const MX: u16 = 15;

/// The length of a message's header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// What the name server knows, in the words of a zone file.
pub const ZONE: &str = "\
example.org      MX  10 mx1.example.org
example.org      MX  20 mx2.example.org
example.net      MX  10 mx1.example.org
mx1.example.org  A   127.0.0.2
mx2.example.org  A   127.0.0.3
";

/// Answers every query that comes to port 53 of loopback, on a thread of its
/// own.
pub fn serve() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?;
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            if let Some(response) = respond(&query[..length]) {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&response, client);
            }
        }
    });
    Ok(())
}

/// The response to a query: its own question, and the records of the zone that
/// answer it. `None` if it is no query.
fn respond(query: &[u8]) -> Option<Vec<u8>> {
    let (name, kind, question) = question(query.get(HEADER..)?)?;
    let lines = ZONE.lines().map(|line| line.split_whitespace().collect());
    let lines = lines.filter(|words: &Vec<_>| words[0] == name);
    let records: Vec<_> = lines
        .filter_map(|words| record(&words[1..], kind))
        .collect();
    let count = u8::try_from(records.len()).ok()?;
    // The same number; an answer, recursion desired and available, no error.
    let mut response = [&query[..2], &[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]].concat();
    response.extend(question);
    for data in records {
        // The name of the question; class IN, 60 seconds to live.
        response.extend([0xc0, 12]);
        response.extend(kind.to_be_bytes());
        response.extend([0, 1, 0, 0, 0, 60]);
        response.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        response.extend(data);
    }
    Some(response)
}

/// The name, the type and the bytes of the question at the beginning of these
/// bytes.
fn question(bytes: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        let label = bytes.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if label.is_empty() {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_lowercase());
    }
    let kind = bytes.get(at..at + 2)?;
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    Some((labels.join("."), kind, bytes.get(..at + 4)?))
}

/// The data of a record, if it is of this type.
fn record(words: &[&str], kind: u16) -> Option<Vec<u8>> {
    match (words, kind) {
        (["A", address], A) => Some(address.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
        (["MX", preference, host], MX) => {
            let mut data = preference.parse::<u16>().ok()?.to_be_bytes().to_vec();
            for label in host.split('.') {
                data.push(u8::try_from(label.len()).ok()?);
                data.extend(label.bytes());
            }
            data.push(0);
            Some(data)
        }
        _ => None,
    }
}
