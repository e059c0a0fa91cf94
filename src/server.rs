//! A `[prio:]server` argument, and the address or name in it. Pure.
//!
//! Servers come from other people's DNS zones. A text that is not a host name
//! or address is no error but a server that is down. It must be escaped before
//! it is printed; any other text can be printed as it is.

use std::net::{IpAddr, Ipv6Addr};
use std::str;

use crate::sys::net;

/// The longest name, in bytes and without a final dot: RFC 1035, section
/// 2.3.4, allows 255 octets, of which two are the first length and the root.
const MAX_NAME: usize = 253;
/// The longest label, in bytes: RFC 1035, section 2.3.4.
const MAX_LABEL: usize = 63;
/// The longest name of an interface, in bytes: Linux, `IFNAMSIZ` less its NUL.
const MAX_ZONE: usize = 15;

/// One server of the list.
#[derive(PartialEq, Eq, Debug)]
pub struct Server {
    /// The number before the first colon.
    pub priority: Option<u16>,
    /// What was given after it. If `host` is `Nowhere`, it can be any bytes.
    pub text: Vec<u8>,
    /// The host that the text names.
    pub host: Host,
}

/// What a text names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Host {
    /// An address; a mapped IPv4 address is the IPv4 address.
    Address(IpAddr),
    /// A link-local IPv6 address, and the name or number of its interface.
    LinkLocal(Ipv6Addr, String),
    /// A host name, in lower case and without a final dot.
    Name(String),
    /// No host.
    Nowhere,
}

/// Why an argument is not a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerError {
    /// It is empty.
    Empty,
    /// What stands before its first colon is not a number from 0 to 65535.
    Priority,
    /// It is an IPv6 address that would read as a priority and a server.
    Brackets,
}

impl Server {
    /// Reads one argument.
    pub fn parse(argument: &[u8]) -> Result<Self, ServerError> {
        if argument.is_empty() {
            return Err(ServerError::Empty);
        }
        let colon = argument.iter().position(|&b| b == b':');
        let Some(colon) = colon.filter(|_| argument[0] != b'[') else {
            return Ok(Self::new(None, argument));
        };
        let (number, text) = (&argument[..colon], &argument[colon + 1..]);
        if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
            return match ipv6(argument) {
                Some(_) => Ok(Self::new(None, argument)),
                None => Err(ServerError::Priority),
            };
        }
        if ipv6(argument).is_some_and(|host| host.is_global_unicast()) {
            return Err(ServerError::Brackets);
        }
        let priority = decimal(number).and_then(|number| u16::try_from(number).ok());
        Ok(Self::new(
            Some(priority.ok_or(ServerError::Priority)?),
            text,
        ))
    }

    /// A server of a zone, with its MX record's preference and name.
    pub fn of_record(preference: u16, name: &[u8]) -> Self {
        Self::new(Some(preference), name)
    }

    fn new(priority: Option<u16>, text: &[u8]) -> Self {
        // After a priority an IPv6 address stands in brackets.
        let is_bare_address = priority.is_some() && !text.starts_with(b"[") && text.contains(&b':');
        Server {
            priority,
            text: text.to_vec(),
            host: if is_bare_address {
                Host::Nowhere
            } else {
                Host::parse(text)
            },
        }
    }
}

impl Host {
    /// Reads an address, IPv6 with or without brackets, or a name.
    pub fn parse(text: &[u8]) -> Self {
        let inside = text
            .strip_prefix(b"[")
            .and_then(|text| text.strip_suffix(b"]"));
        let host = match inside {
            Some(inside) => ipv6(inside),
            None => ipv6(text).or_else(|| ipv4_or_name(text)),
        };
        host.unwrap_or(Host::Nowhere)
    }

    /// Whether it is an address of 2000::/3, all that is assigned of IPv6 for
    /// use in the Internet (RFC 4291, section 2.4).
    fn is_global_unicast(&self) -> bool {
        matches!(self, Host::Address(IpAddr::V6(address)) if address.octets()[0] >> 5 == 1)
    }
}

/// An IPv6 address without brackets.
fn ipv6(text: &[u8]) -> Option<Host> {
    if !text.contains(&b':') {
        return None;
    }
    let percent = text.iter().position(|&b| b == b'%').unwrap_or(text.len());
    let (address, zone) = text.split_at(percent);
    let address = net::ipv6(address)?;
    let [b'%', zone @ ..] = zone else {
        return Some(Host::Address(IpAddr::V6(address).to_canonical()));
    };
    let zone_byte = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let fits = (1..=MAX_ZONE).contains(&zone.len()) && zone.iter().all(zone_byte);
    let zone = Some(zone).filter(|_| fits && address.is_unicast_link_local())?;
    Some(Host::LinkLocal(address, str::from_utf8(zone).ok()?.into()))
}

/// Four plain decimal parts, or a name that no C library takes for an address.
fn ipv4_or_name(text: &[u8]) -> Option<Host> {
    if let Some(address) = net::ipv4(text) {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    let text = str::from_utf8(text).ok()?;
    let name = text.strip_suffix('.').unwrap_or(text);
    let mut last_is_number = false;
    for label in name.as_bytes().split(|&b| b == b'.') {
        let fits = label
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
        if !fits || label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        last_is_number = is_number(label);
    }
    let fits = name.len() <= MAX_NAME && !last_is_number;
    fits.then(|| Host::Name(name.to_ascii_lowercase()))
}

/// Whether inet_aton(3) would take this label for a number: `127.1`,
/// `2130706433` and `0x7f.1` are addresses to it, and so to getaddrinfo.
fn is_number(label: &[u8]) -> bool {
    match label {
        [b'0', b'x' | b'X', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

/// The value of a decimal number, digits and nothing else, that fits.
pub fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = Some(digit).filter(|digit| digit.is_ascii_digit())?;
        value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Host {
        Host::Name(text.into())
    }

    fn address(text: &str) -> Host {
        Host::Address(text.parse().expect("an address"))
    }

    #[test]
    fn arguments() {
        let link_local = Host::LinkLocal("fe80::1".parse().expect("an address"), "eth0".into());
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        let table: &[(&str, Option<u16>, Host)] = &[
            ("mx.example.org", None, name("mx.example.org")),
            ("10:mx.example.org", Some(10), name("mx.example.org")),
            ("0:MX.Example.ORG.", Some(0), name("mx.example.org")),
            ("65535:a", Some(65535), name("a")),
            ("00010:a", Some(10), name("a")),
            ("_a-b.c_d", None, name("_a-b.c_d")),
            ("1.2.3.mx4", None, name("1.2.3.mx4")),
            ("0xg", None, name("0xg")),
            (&longest, None, name(&longest)),
            ("10:192.0.2.1", Some(10), address("192.0.2.1")),
            ("192.0.2.1", None, address("192.0.2.1")),
            ("10:[2001:db8::1]", Some(10), address("2001:db8::1")),
            ("[2001:db8::1]", None, address("2001:db8::1")),
            ("[::ffff:192.0.2.1]", None, address("192.0.2.1")),
            ("::ffff:192.0.2.1", None, address("192.0.2.1")),
            ("::1", None, address("::1")),
            ("::", None, address("::")),
            ("fe80::1", None, address("fe80::1")),
            ("fe80::1%eth0", None, link_local.clone()),
            ("5:[fe80::1%eth0]", Some(5), link_local),
        ];
        for (argument, priority, host) in table {
            let server = Server::parse(argument.as_bytes()).expect(argument);
            assert_eq!(
                (&server.priority, &server.host),
                (priority, host),
                "{argument}"
            );
            let text = argument.strip_prefix(&format!("{}:", priority.unwrap_or(0)));
            if !argument.starts_with("000") {
                assert_eq!(server.text, text.unwrap_or(argument).as_bytes());
            }
        }
    }

    #[test]
    fn texts_that_name_no_host() {
        let long_label = format!("10:{}.org", "a".repeat(64));
        let long_name = format!("{}b.cc", "a234567890.".repeat(23));
        assert_eq!(long_name.len(), 257);
        let table: &[&[u8]] = &[
            b"10:",
            b"10:.",
            b".",
            b"10:a..b",
            b"10:.a",
            b"10:a..",
            b"10:a b",
            b"a;b",
            b"10:a\nb",
            b"10:\x1b[2J",
            b"10:\xff\xfe",
            b"10:a\0b",
            b"m\xc3\xbc.example",
            b"10:127.1",
            b"2130706433",
            b"10:192.0.2.1.",
            b"192.0.2.256",
            b"192.0.2.01",
            b"10:0x7f000001",
            b"127.0.0x1",
            b"0x",
            b"10:::1",
            b"10:foo:bar",
            b"2001:db8::zz",
            // From a zone whose MX is a bare address: the priority is its own.
            b"10:2001:db8::1",
            b"20:db8::1",
            b"1::",
            b"1999::1",
            b"4000::1",
            b"0:0:0:0:0:0:0:1",
            b"5::192.0.2.1",
            b"10:[::1",
            b"[::1]x",
            b"[192.0.2.1]",
            b"[mx.example.org]",
            b"[]",
            b"[",
            b"10:[2001:db8::1%eth0]",
            b"[fe80::1%]",
            b"[fe80::1%e;0]",
            b"[fe80::1%abcdefghijklmnop]",
            long_label.as_bytes(),
            long_name.as_bytes(),
        ];
        for argument in table {
            let server = Server::parse(argument).expect("a server");
            assert_eq!(server.host, Host::Nowhere, "{}", argument.escape_ascii());
        }
    }

    #[test]
    fn arguments_that_are_no_server() {
        let table: &[(&[u8], ServerError)] = &[
            (b"", ServerError::Empty),
            (b":", ServerError::Priority),
            (b":mx", ServerError::Priority),
            (b"x:mx", ServerError::Priority),
            (b"+5:mx", ServerError::Priority),
            (b"-5:mx", ServerError::Priority),
            (b" 5:mx", ServerError::Priority),
            (b"5 :mx", ServerError::Priority),
            (b"65536:mx", ServerError::Priority),
            (b"99999999999999999999:mx", ServerError::Priority),
            (b"\xff:mx", ServerError::Priority),
            (b"mx:25", ServerError::Priority),
            (b"192.0.2.1:25", ServerError::Priority),
            (b"2001:db8::1", ServerError::Brackets),
            (b"2620:fe::fe", ServerError::Brackets),
            (b"3000::1", ServerError::Brackets),
            (b"2001::", ServerError::Brackets),
        ];
        for (argument, error) in table {
            assert_eq!(
                Server::parse(argument),
                Err(*error),
                "{}",
                argument.escape_ascii()
            );
        }
    }

    #[test]
    fn stop_hosts() {
        let table: &[(&str, Host)] = &[
            ("Me.Example.org.", name("me.example.org")),
            ("192.0.2.9", address("192.0.2.9")),
            ("2001:db8::9", address("2001:db8::9")),
            ("[2001:db8::9]", address("2001:db8::9")),
            ("::ffff:192.0.2.9", address("192.0.2.9")),
            ("10:me", Host::Nowhere),
            ("", Host::Nowhere),
            ("[me]", Host::Nowhere),
            ("[192.0.2.9]", Host::Nowhere),
        ];
        for (text, host) in table {
            assert_eq!(Host::parse(text.as_bytes()), *host, "{text}");
        }
    }
}
