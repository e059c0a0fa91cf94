//! Texts of the command line to values, and what is said of bad ones. Pure.

use std::time::Duration;

use crate::escape::Escaped;
use crate::server::{Host, Server, ServerError, decimal};

/// The host of `--stop`.
pub fn stop(value: &[u8]) -> Result<Host, &'static str> {
    match Host::parse(value) {
        Host::Nowhere => Err("is neither a host name nor an address"),
        host => Ok(host),
    }
}

/// The domain of `--mx`: a host name.
pub fn domain(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    match Host::parse(value) {
        Host::Name(_) => Ok(value.to_vec()),
        _ => Err("is not a domain name"),
    }
}

/// Seconds with an optional fraction; `None` is zero, which means no limit.
pub fn timeout(value: &[u8]) -> Result<Option<Duration>, &'static str> {
    parse_timeout(value).ok_or("is not a number of seconds, such as 10 or 2.5 (at most 4294967295)")
}

fn parse_timeout(value: &[u8]) -> Option<Option<Duration>> {
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
        "'{}{}' contains a blank, so it names no host; pass each server as a separate argument",
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
        ];
        for (value, expected) in table {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value}");
        }
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
