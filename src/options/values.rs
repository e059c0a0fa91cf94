//! Texts of the command line to values, and what is said of bad ones. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::Protocol;
use crate::escape::Escaped;
use crate::server::{Host, Server, ServerError, decimal};

/// The host of `--stop`.
pub fn stop(value: &[u8]) -> Result<Host, &'static str> {
    match Host::parse(value) {
        Host::Nowhere => Err("is neither a host name nor an address"),
        host => Ok(host),
    }
}

/// Whether the address of `--source` is an IPv6 address. Given one of many
/// machines, or of none, bind(2) would succeed, and the system choose another.
pub fn is_ipv6_source(value: &[u8]) -> Result<bool, &'static str> {
    match Host::parse(value) {
        Host::Address(IpAddr::V4(ip)) if matches!(ip.octets()[0], 1..224) => Ok(false),
        Host::Address(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
            Err("needs an interface, as in fe80::1%eth0")
        }
        Host::Address(IpAddr::V6(ip)) if !ip.is_multicast() && !ip.is_unspecified() => Ok(true),
        Host::LinkLocal(..) => Ok(true),
        Host::Address(_) => Err("is not a unicast address"),
        _ => Err("is not an IP address"),
    }
}

/// The domain of `--mx`: a host name.
pub fn domain(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    match Host::parse(value) {
        Host::Name(_) => Ok(value.to_vec()),
        _ => Err("is not a domain name"),
    }
}

/// The protocol of `--serve`.
pub fn protocol(value: &[u8]) -> Result<Protocol, &'static str> {
    match value {
        b"postfix" => Ok(Protocol::Postfix),
        b"opensmtpd" => Ok(Protocol::OpenSmtpd),
        _ => Err("is neither 'postfix' nor 'opensmtpd'"),
    }
}

/// A time in whole seconds.
pub fn time(value: &[u8]) -> Result<u32, &'static str> {
    let why = "is not a time such as 10, 30s, 5m, 4h or 2d (whole numbers only)";
    parse_time(value).ok_or(why)
}

/// A time that is not zero.
pub fn positive_time(value: &[u8]) -> Result<u32, &'static str> {
    match time(value)? {
        0 => Err("must be at least 1 second"),
        seconds => Ok(seconds),
    }
}

/// How long deferred messages are remembered, in seconds: after that none is
/// old enough.
const FORGOTTEN: u32 = 5 * 24 * 60 * 60;

/// The time of `--max-defer`.
pub fn max_defer(value: &[u8]) -> Result<u32, &'static str> {
    match positive_time(value)? {
        FORGOTTEN.. => Err("must be less than 5d, for which deferred messages are remembered"),
        seconds => Ok(seconds),
    }
}

/// A whole number of seconds, or of what the letter behind it stands for.
fn parse_time(value: &[u8]) -> Option<u32> {
    let (number, seconds) = match value {
        [number @ .., b's'] => (number, 1),
        [number @ .., b'm'] => (number, 60),
        [number @ .., b'h'] => (number, 60 * 60),
        [number @ .., b'd'] => (number, 24 * 60 * 60),
        number => (number, 1),
    };
    decimal(number)?.checked_mul(seconds)
}

/// A time, of which seconds may have a fraction; `None` is zero, which means
/// no limit.
pub fn timeout(value: &[u8]) -> Result<Option<Duration>, &'static str> {
    let why = "is not a time such as 10, 2.5, 30s or 5m (no decimals with a unit)";
    parse_timeout(value).ok_or(why)
}

fn parse_timeout(value: &[u8]) -> Option<Option<Duration>> {
    if let Some(seconds) = parse_time(value) {
        return Some((seconds > 0).then(|| Duration::from_secs(seconds.into())));
    }
    let point = value.iter().position(|&b| b == b'.').unwrap_or(value.len());
    let whole = &value[..point];
    let fraction = value.get(point + 1..).unwrap_or_default();
    let digits = || whole.iter().chain(fraction);
    if digits().count() == 0 || !digits().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { decimal(whole)? };
    let mut nanoseconds = 0;
    for i in 0..9 {
        let digit = fraction.get(i).map_or(0, |digit| digit - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    let timeout = Duration::new(seconds.into(), nanoseconds);
    let is_zero = digits().all(|&digit| digit == b'0');
    // What is less than a nanosecond must not become zero.
    Some((!is_zero).then(|| timeout.max(Duration::from_nanos(1))))
}

/// The number of `--port`.
pub fn port(value: &[u8]) -> Result<u16, &'static str> {
    let number = decimal(value).and_then(|number| u16::try_from(number).ok());
    let port = number.filter(|&number| number > 0);
    port.ok_or("is not a port from 1 to 65535")
}

/// A number that is not zero.
pub fn positive(value: &[u8]) -> Result<u32, &'static str> {
    let number = decimal(value).filter(|&number| number > 0);
    number.ok_or("is not a whole number from 1 to 4294967295")
}

/// The text of `--key`.
pub fn key(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    match value {
        [] => Err("is empty"),
        key => Ok(key.to_vec()),
    }
}

/// The path of a file.
pub fn path(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    match value {
        [] => Err("is not a file name"),
        path => Ok(path.to_vec()),
    }
}

/// A server argument. The error is a message.
pub fn server(argument: &[u8]) -> Result<Server, String> {
    Server::parse(argument).map_err(|error| {
        let shown = Escaped(argument);
        match error {
            ServerError::Empty => "a server argument is empty".into(),
            ServerError::Priority => format!(
                "server '{shown}': the text before the first colon must be a priority \
                 from 0 to 65535 (for a port, use --port)"
            ),
            ServerError::Brackets => {
                format!("server '{shown}': an IPv6 address needs brackets: [{shown}]")
            }
        }
    })
}

/// A warning about a list of servers that was passed as one argument: it names
/// no host, and so nobody would notice that no server is asked.
pub fn warning(servers: &[Server]) -> Option<String> {
    let has_blank = |server: &&Server| server.text.iter().any(|b| b" \t\n".contains(b));
    let server = servers.iter().find(has_blank)?;
    let priority = server.priority.map(|priority| format!("{priority}:"));
    Some(format!(
        "'{}{}' contains white space and counts as down; pass each server as a separate argument",
        priority.unwrap_or_default(),
        Escaped(&server.text)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let table = [
            ("10", Some(Some(Duration::from_secs(10)))),
            ("2.5", Some(Some(Duration::from_millis(2500)))),
            (".25", Some(Some(Duration::from_millis(250)))),
            ("5.", Some(Some(Duration::from_secs(5)))),
            ("007", Some(Some(Duration::from_secs(7)))),
            ("1.0000000019", Some(Some(Duration::new(1, 1)))),
            ("0.00000000001", Some(Some(Duration::from_nanos(1)))),
            ("4294967295", Some(Some(Duration::from_secs(4_294_967_295)))),
            ("0", Some(None)),
            ("0.000", Some(None)),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("1,5", None),
            ("1.2.3", None),
            (" 1", None),
            ("1 ", None),
            ("inf", None),
            ("nan", None),
            ("0x10", None),
            ("4294967296", None),
            ("30s", Some(Some(Duration::from_secs(30)))),
            ("2m", Some(Some(Duration::from_secs(120)))),
            ("0h", Some(None)),
            ("2.5s", None),
            ("2.5m", None),
            ("5.s", None),
            ("s", None),
        ];
        for (value, expected) in table {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn times() {
        let table = [
            ("0", Some(0)),
            ("10", Some(10)),
            ("007", Some(7)),
            ("30s", Some(30)),
            ("5m", Some(300)),
            ("4h", Some(14_400)),
            ("2d", Some(172_800)),
            ("0d", Some(0)),
            ("4294967295", Some(u32::MAX)),
            ("4294967295s", Some(u32::MAX)),
            ("71582788m", Some(4_294_967_280)),
            ("1193046h", Some(4_294_965_600)),
            ("49710d", Some(4_294_944_000)),
            // One more is too many.
            ("4294967296", None),
            ("4294967296s", None),
            ("71582789m", None),
            ("1193047h", None),
            ("49711d", None),
            ("99999999999999999999d", None),
            ("", None),
            ("s", None),
            ("m", None),
            ("h", None),
            ("d", None),
            ("2.5", None),
            ("2.5s", None),
            ("1.h", None),
            ("1w", None),
            ("1y", None),
            ("1S", None),
            ("1M", None),
            ("1ms", None),
            ("1min", None),
            ("1h30m", None),
            ("1hh", None),
            ("1 h", None),
            ("1h ", None),
            (" 1h", None),
            ("-1h", None),
            ("-1", None),
            ("+1h", None),
            ("h1", None),
            ("1e3", None),
            ("0x10", None),
        ];
        for (value, expected) in table {
            assert_eq!(parse_time(value.as_bytes()), expected, "{value}");
            assert_eq!(time(value.as_bytes()).ok(), expected, "{value}");
            let positive = expected.filter(|&seconds| seconds > 0);
            assert_eq!(positive_time(value.as_bytes()).ok(), positive, "{value}");
        }
    }

    #[test]
    fn messages_are_accepted_before_they_are_forgotten() {
        let table = [
            ("1", Some(1)),
            ("4h", Some(14_400)),
            ("4d", Some(345_600)),
            ("431999", Some(431_999)),
            ("432000", None),
            ("5d", None),
            ("49710d", None),
            ("0", None),
            ("1w", None),
            ("2.5", None),
        ];
        for (value, expected) in table {
            assert_eq!(max_defer(value.as_bytes()).ok(), expected, "{value}");
        }
        assert_eq!(FORGOTTEN, crate::store::senders::LIFETIME);
    }

    #[test]
    fn ports() {
        for (value, port) in [("1", Some(1)), ("65535", Some(65535)), ("025", Some(25))] {
            assert_eq!(super::port(value.as_bytes()).ok(), port, "{value}");
        }
        for value in ["", "0", "65536", "-1", "25.0", "smtp", "4294967297"] {
            assert!(super::port(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn lists_in_one_argument_are_noticed() {
        let parse = |text: &&str| Server::parse(text.as_bytes()).expect("a server");
        let table: [(&[&str], bool); 5] = [
            (&["10:mx1.test", "20:mx2.test"], false),
            (&["10:mx1.test 20:mx2.test"], true),
            (&["a", "10:mx1\tmx2"], true),
            (&["10:mx1\n20:mx2"], true),
            (&["10:.", "a;b", "10:"], false),
        ];
        for (list, expected) in table {
            let servers: Vec<_> = list.iter().map(parse).collect();
            assert_eq!(warning(&servers).is_some(), expected, "{list:?}");
        }
    }
}
