//! The words of `--verbose`. What came from the network has been escaped
//! where it was kept.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Fact, Unneeded};
use crate::escape::Escaped;
use crate::lookup::Failure;
use crate::probe::attempt::{Attempt, Cause};
use crate::sys::resolver::Family;

/// Why a server is up or down; `after` is how long that took.
pub fn result(facts: &[Fact], timeout: Duration, after: Duration) -> String {
    let mut text = String::new();
    for fact in facts {
        let one = match fact {
            Fact::Remembered(age) => format!("remembered: found down {age} s ago"),
            Fact::AskedElsewhere(age) => {
                format!("remembered; another process has been asking again for {age} s")
            }
            Fact::Attempt(of) => match attempt(of, timeout) {
                Some(what) => format!("{}: {what}", Address(of.address)),
                None => continue,
            },
            Fact::Lookup(family, why) => lookup(*family, *why, timeout, after),
            Fact::NotAHost => "neither a host name nor an address".into(),
            Fact::NoSuchInterface => "no such interface".into(),
            Fact::NoAddress(family) => format!("no {} address", name(*family)),
        };
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&one);
    }
    text
}

/// Why a server was not waited for, or is not the answer though it is up.
pub fn unneeded(why: &Unneeded, up: Option<bool>, has_begun: bool) -> String {
    let what = match (up, has_begun) {
        (Some(_), _) => "up, but ignored",
        (None, true) => "not waited for",
        (None, false) => "not asked",
    };
    let (why, server) = match why {
        Unneeded::Stop => return what.into(),
        Unneeded::Doubtful => {
            return format!(
                "{what}: may be a --stop host, because not all of its addresses are known"
            );
        }
        Unneeded::After(stop) => ("after the --stop host", stop),
        Unneeded::SamePriority(stop) => ("same priority as the --stop host", stop),
        Unneeded::Answered(up) => ("the answer is", up),
    };
    format!("{what}: {why} {}", Escaped(&server.text))
}

/// What came of an attempt; `None` if it was given up.
fn attempt(attempt: &Attempt, timeout: Duration) -> Option<String> {
    let outcome = attempt.outcome.as_ref()?;
    let text = &outcome.text;
    let what = match outcome.result {
        Ok(()) => format!("greeting {text}"),
        Err(Cause::Greeting) if is_reply(text) => format!("greeting {text}"),
        Err(Cause::Greeting) => format!("not an SMTP greeting: \"{text}\""),
        Err(Cause::Refused) => "connection refused".into(),
        Err(Cause::Unreachable) => "unreachable".into(),
        Err(Cause::Reset) => "connection reset".into(),
        Err(Cause::Unacknowledged) => "connection timed out".into(),
        Err(Cause::Closed) => "connection closed before the greeting".into(),
        Err(Cause::OutOfTime) => {
            let timeout = Time(timeout);
            return Some(match attempt.connected {
                None => format!("no connection within {timeout}"),
                Some(after) => {
                    let after = Time(after);
                    format!("no greeting within {timeout} (connected after {after})")
                }
            });
        }
    };
    Some(format!("{what} ({})", Time(outcome.after)))
}

/// Why a lookup failed; `after` is how long that took at most.
fn lookup(family: Option<Family>, why: Failure, timeout: Duration, after: Duration) -> String {
    let of = family.map(name).unwrap_or_default();
    let colon = if family.is_some() { ": " } else { "" };
    let after = Time(after);
    match why {
        Failure::NoSuchHost if family.is_some() => format!("no {of} address ({after})"),
        Failure::NoSuchHost => format!("no such host ({after})"),
        Failure::NameServer => format!("{of}{colon}name server failed ({after})"),
        Failure::NotAsked => format!("{of}{colon}not looked up in time"),
        Failure::OutOfTime => {
            format!(
                "{of}{colon}no answer from name server within {}",
                Time(timeout)
            )
        }
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Whether the beginning of a line is that of an SMTP reply.
fn is_reply(text: &str) -> bool {
    let (code, rest) = text.as_bytes().split_at(text.len().min(3));
    !code.is_empty()
        && code.iter().all(u8::is_ascii_digit)
        && matches!(rest.first(), None | Some(b' ' | b'-'))
}

/// An address as it is written in an argument.
struct Address(SocketAddr);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => write!(f, "{}", address.ip()),
            SocketAddr::V6(address) if address.scope_id() == 0 => write!(f, "[{}]", address.ip()),
            SocketAddr::V6(address) => write!(f, "[{}%{}]", address.ip(), address.scope_id()),
        }
    }
}

/// A time, to the millisecond below a second and to the tenth above.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (0, 0) => write!(f, "<1 ms"),
            (0, milliseconds) => write!(f, "{milliseconds} ms"),
            (seconds, 0..100) => write!(f, "{seconds} s"),
            (seconds, milliseconds) => write!(f, "{seconds}.{} s", milliseconds / 100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table = [
            (Duration::ZERO, "<1 ms"),
            (Duration::from_micros(999), "<1 ms"),
            (Duration::from_millis(14), "14 ms"),
            (Duration::from_millis(999), "999 ms"),
            (Duration::from_millis(1000), "1 s"),
            (Duration::from_millis(1099), "1 s"),
            (Duration::from_millis(2500), "2.5 s"),
            (Duration::from_secs(10), "10 s"),
        ];
        for (time, text) in table {
            assert_eq!(Time(time).to_string(), text);
        }
    }

    #[test]
    fn replies() {
        for text in ["554", "554 no", "554-no", "55", "5"] {
            assert!(is_reply(text), "{text}");
        }
        for text in ["", "5544", "HTTP/1.1 400", "\\x15\\x03"] {
            assert!(!is_reply(text), "{text}");
        }
    }

    #[test]
    fn lookups() {
        use Failure::{NameServer, NoSuchHost, NotAsked, OutOfTime};
        let table = [
            (None, NoSuchHost, "no such host (3 ms)"),
            (Some(Family::V6), NoSuchHost, "no IPv6 address (3 ms)"),
            (None, NameServer, "name server failed (3 ms)"),
            (
                Some(Family::V4),
                NameServer,
                "IPv4: name server failed (3 ms)",
            ),
            (None, NotAsked, "not looked up in time"),
            (Some(Family::V6), NotAsked, "IPv6: not looked up in time"),
            (None, OutOfTime, "no answer from name server within 10 s"),
            (
                Some(Family::V4),
                OutOfTime,
                "IPv4: no answer from name server within 10 s",
            ),
        ];
        let (timeout, after) = (Duration::from_secs(10), Duration::from_millis(3));
        for (family, failure, text) in table {
            assert_eq!(lookup(family, failure, timeout, after), text);
        }
    }

    #[test]
    fn servers_that_were_not_needed() {
        let server = crate::server::Server::parse(b"10:mx\x1b.test").expect("a server");
        let table = [
            (
                Unneeded::After(&server),
                None,
                false,
                "not asked: after the --stop host mx\\x1b.test",
            ),
            (
                Unneeded::SamePriority(&server),
                Some(true),
                true,
                "up, but ignored: same priority as the --stop host mx\\x1b.test",
            ),
            (
                Unneeded::Answered(&server),
                None,
                true,
                "not waited for: the answer is mx\\x1b.test",
            ),
            (
                Unneeded::Doubtful,
                Some(true),
                true,
                "up, but ignored: may be a --stop host, because not all of its addresses are known",
            ),
        ];
        for (why, up, has_begun, text) in table {
            assert_eq!(unneeded(&why, up, has_begun), text);
        }
    }
}
