//! The server argument against the standard library, and against itself: what
//! was read and is written out once more reads the same.

use std::net::{IpAddr, Ipv6Addr};
use std::str;

use crate::random::{Corpus, Random};
use crate::server::{Host, Server, ServerError};

static CORPUS: Corpus = Corpus::new(include_str!("../corpus/server"));
const WORDS: &[&[u8]] = &[
    b"10:",
    b"0:",
    b"65535:",
    b"65536:",
    b":",
    b"::",
    b"[",
    b"]",
    b"[::1]",
    b"mx",
    b"example",
    b".",
    b"..",
    b"org",
    b"127.0.0.1",
    b"1",
    b"0x7f",
    b"fe80::1",
    b"%",
    b"%lo",
    b"::ffff:192.0.2.1",
    b"2001:db8::1",
    b"2001:",
    b"2620:fe::fe",
    b"1fff::1",
    b"4000::1",
    b"_",
    b"-",
    b" ",
    b";",
    b"\0",
    b"\xc3\xa9",
    b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz0123456789-",
];

pub fn one(random: &mut Random) {
    let argument = random.text(CORPUS.inputs(), WORDS);
    let shown = argument.escape_ascii();
    let read = Server::parse(&argument);
    let priority = read.as_ref().map(|server| server.priority);
    assert_eq!(
        priority,
        second_opinion(&argument).as_ref().copied(),
        "{shown}"
    );
    if let Ok(server) = read {
        check(&argument, &server);
    }
    // Whatever `--stop` gets, a host that it reads is one that fits.
    fits(&Host::parse(&argument), &argument);
}

/// The priority of an argument, or why it is not a server.
fn second_opinion(argument: &[u8]) -> Result<Option<u16>, ServerError> {
    if argument.is_empty() {
        return Err(ServerError::Empty);
    }
    let Some((before, _)) = split(argument).filter(|_| argument[0] != b'[') else {
        return Ok(None);
    };
    let is_number = !before.is_empty() && before.iter().all(u8::is_ascii_digit);
    match bare_ipv6(argument) {
        // All that is assigned for use in the Internet.
        Some(ip) if is_number && ip.segments()[0] >> 13 == 0b001 => Err(ServerError::Brackets),
        Some(_) if !is_number => Ok(None),
        _ => priority_of(before).map(Some).ok_or(ServerError::Priority),
    }
}

/// An IPv6 address without brackets, with a zone if it is a link-local one.
fn bare_ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let text = str::from_utf8(text).ok()?;
    let Some((before, zone)) = text.split_once('%') else {
        return text.parse().ok();
    };
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ip: Ipv6Addr = before.parse().ok()?;
    let fits = (1..16).contains(&zone.len()) && zone.bytes().all(byte);
    Some(ip).filter(|ip| fits && ip.segments()[0] & 0xffc0 == 0xfe80)
}

fn check(argument: &[u8], server: &Server) {
    let shown = argument.escape_ascii();
    match server.priority {
        None => assert_eq!(server.text, argument, "{shown}"),
        Some(priority) => {
            let (before, after) = split(argument).expect("a colon");
            assert_eq!(
                (priority_of(before), after),
                (Some(priority), &server.text[..]),
                "{shown}"
            );
        }
    }
    fits(&server.host, &server.text);
    // The host is what `--stop` makes of the same text; but after a priority
    // an IPv6 address has to stand in brackets.
    let is_bare = server.text.contains(&b':') && server.text[0] != b'[';
    if server.priority.is_some() && is_bare {
        assert_eq!(server.host, Host::Nowhere, "{shown}");
    } else {
        assert_eq!(server.host, Host::parse(&server.text), "{shown}");
    }
    if let Host::Name(name) = &server.host {
        let again = Server::parse(&[b"7:", name.as_bytes()].concat()).expect("a server");
        assert_eq!(
            (again.priority, &again.host),
            (Some(7), &server.host),
            "{shown}"
        );
    }
}

/// Whether a host is what the text says, and nothing that harms.
fn fits(host: &Host, text: &[u8]) {
    let shown = text.escape_ascii();
    let inside = text
        .strip_prefix(b"[")
        .and_then(|text| text.strip_suffix(b"]"));
    match host {
        Host::Address(ip) => {
            assert_eq!(Some(*ip), address(inside.unwrap_or(text)), "{shown}");
            assert!(
                inside.is_none()
                    || str::from_utf8(inside.unwrap_or(b""))
                        .is_ok_and(|t| t.parse::<Ipv6Addr>().is_ok()),
                "{shown}"
            );
        }
        Host::LinkLocal(ip, zone) => {
            let text = str::from_utf8(inside.unwrap_or(text)).expect("ASCII");
            let (before, after) = text.split_once('%').expect("a zone");
            assert_eq!(
                (Ok(*ip), zone.as_bytes()),
                (before.parse(), after.as_bytes()),
                "{shown}"
            );
            assert!(
                ip.segments()[0] & 0xffc0 == 0xfe80 && (1..16).contains(&after.len()),
                "{shown}"
            );
            assert!(after.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
        }
        Host::Name(name) => {
            let without_dot = text.strip_suffix(b".").unwrap_or(text);
            assert!(
                name.as_bytes().eq_ignore_ascii_case(without_dot)
                    && name.to_ascii_lowercase() == *name,
                "{shown}"
            );
            assert!(looks_like_a_name(name), "{shown}");
            assert!(address(text).is_none(), "{shown}");
        }
        Host::Nowhere => {
            assert!(
                inside.is_some() || address(text).is_none_or(|ip| ip.is_ipv6() || is_mapped(text)),
                "{shown}"
            );
            let without_dot = str::from_utf8(text.strip_suffix(b".").unwrap_or(text));
            assert!(!without_dot.is_ok_and(looks_like_a_name), "{shown}");
        }
    }
}

fn split(argument: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = argument.iter().position(|&byte| byte == b':')?;
    Some((&argument[..colon], &argument[colon + 1..]))
}

fn priority_of(text: &[u8]) -> Option<u16> {
    // The standard library also takes a sign.
    let text = str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'))?;
    text.parse().ok()
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let ip: IpAddr = str::from_utf8(text).ok()?.parse().ok()?;
    Some(ip.to_canonical())
}

fn is_mapped(text: &[u8]) -> bool {
    let ip = str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<Ipv6Addr>().ok());
    ip.and_then(|ip| ip.to_ipv4_mapped()).is_some()
}

/// A name that is safe to print, to look up and to compare.
fn looks_like_a_name(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let last = labels.last().expect("one at least").to_ascii_lowercase();
    let hex = last
        .strip_prefix("0x")
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()));
    name.len() <= 253
        && labels
            .iter()
            .all(|label| (1..=63).contains(&label.len()) && label.chars().all(letter))
        && !last.chars().all(|c| c.is_ascii_digit())
        && !hex
}
