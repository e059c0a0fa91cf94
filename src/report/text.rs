//! The words of `--verbose` and `--json`. What came from the network has been escaped
//! where it was kept.

use std::fmt::{self, Display, Formatter, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Fact, Unneeded};
use crate::escape::Escaped;
use crate::lookup::Failure;
use crate::lookup::mx::{Kind, Servers, Unknown};
use crate::probe::attempt::{Attempt, Cause};
use crate::sys::resolver::Family;

/// Why a server is up or down. `after` is how long that took; without it, there
/// are no addresses and no measured times.
pub fn result(facts: &[Fact], timeout: Duration, after: Option<Duration>) -> String {
    let mut text = String::new();
    for fact in facts {
        if matches!(fact, Fact::Attempt(attempt) if attempt.outcome.is_none()) {
            // It was given up.
            continue;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        // A string takes all that is written to it, here and below.
        if let (Fact::Attempt(of), Some(_)) = (fact, after) {
            let _ = write!(text, "{}: ", Address(of.address));
        }
        let _ = match fact {
            Fact::Remembered(is_up, age) => {
                let state = if *is_up { "up" } else { "down" };
                write!(text, "remembered: found {state} {age} s ago")
            }
            Fact::AskedElsewhere(age) => write!(
                text,
                "remembered; another process has been asking again for {age} s"
            ),
            Fact::Address(address) => write!(text, "{}", Address(*address)),
            Fact::Attempt(of) => attempt(&mut text, of, timeout),
            Fact::Lookup(family, why) => lookup(&mut text, *family, *why, timeout),
            Fact::NotAHost => text.write_str("neither a host name nor an address"),
            Fact::NoSuchInterface => text.write_str("no such interface"),
            Fact::NoAddress(family) => write!(text, "no {} address", name(*family)),
        };
        if let Some(after) = after {
            let _ = time(&mut text, fact, after);
        }
    }
    text
}

/// How long it took, where the words do not say so.
fn time(text: &mut String, fact: &Fact, after: Duration) -> fmt::Result {
    let (what, after) = match fact {
        Fact::Attempt(Attempt {
            outcome: Some(outcome),
            connected,
            ..
        }) => match (outcome.result, connected) {
            (Err(Cause::OutOfTime), None) => return Ok(()),
            (Err(Cause::OutOfTime), Some(after)) => ("connected after ", *after),
            _ => ("", outcome.after),
        },
        Fact::Lookup(_, Failure::NoSuchHost | Failure::NameServer) => ("", after),
        _ => return Ok(()),
    };
    write!(text, " ({what}{})", Time(after))
}

/// Why a server was not waited for, or is not the answer though it is up.
pub fn unneeded(why: &Unneeded, up: Option<bool>, has_begun: bool) -> String {
    let what = match (up, has_begun) {
        (Some(_), _) => "up, but ignored",
        (None, true) => "not waited for",
        (None, false) => "not asked",
    };
    let (why, server) = match why {
        Unneeded::Stop | Unneeded::NoStop => return what.into(),
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

/// What DNS says of a domain's mail servers.
pub fn domain(found: &Result<Servers, Unknown>, after: Duration) -> String {
    let mut text = String::new();
    // A string takes all that is written to it, here and below.
    let _ = match found {
        Ok(servers) => text.write_str(match servers.kind {
            Kind::NoRecord => "no MX record: ",
            other => kind(other).unwrap_or_default(),
        }),
        Err(why) => write!(text, "{why}"),
    };
    for (i, server) in found.iter().flat_map(|found| &found.list).enumerate() {
        let separator = if i > 0 { ", " } else { "" };
        let (priority, name) = (server.priority.unwrap_or(0), Escaped(&server.text));
        let _ = write!(text, "{separator}{priority}:{name}");
    }
    let _ = write!(text, " ({})", Time(after));
    text
}

/// What a domain has in place of MX records.
pub fn kind(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Records => return None,
        Kind::NullRecord => "accepts no mail (null MX)",
        Kind::NoRecord => "no MX record",
        Kind::NoDomain => "no such domain",
    })
}

/// What came of an attempt that was not given up.
fn attempt(text: &mut String, attempt: &Attempt, timeout: Duration) -> fmt::Result {
    let Some(outcome) = &attempt.outcome else {
        return Ok(());
    };
    let greeting = &outcome.text;
    text.write_str(match outcome.result {
        Err(Cause::Greeting) if !is_reply(greeting) => {
            return write!(text, "not an SMTP greeting: \"{greeting}\"");
        }
        Ok(()) | Err(Cause::Greeting) => return write!(text, "greeting {greeting}"),
        Err(Cause::OutOfTime) => {
            let what = match attempt.connected {
                None => "connection",
                Some(_) => "greeting",
            };
            return write!(text, "no {what} within {}", Time(timeout));
        }
        Err(Cause::Refused) => "connection refused",
        Err(Cause::Unreachable) => "unreachable",
        Err(Cause::Reset) => "connection reset",
        Err(Cause::Unacknowledged) => "connection timed out",
        Err(Cause::Closed) => "connection closed before the greeting",
    })
}

/// Why a lookup failed.
fn lookup(
    text: &mut String,
    family: Option<Family>,
    why: Failure,
    timeout: Duration,
) -> fmt::Result {
    match (family, why) {
        (Some(family), Failure::NoSuchHost) => {
            return write!(text, "no {} address", name(family));
        }
        (Some(family), _) => write!(text, "{}: ", name(family))?,
        (None, _) => {}
    }
    text.write_str(match why {
        Failure::NoSuchHost => "no such host",
        Failure::NameServer => "name server failed",
        Failure::NotAsked => "not looked up in time",
        Failure::OutOfTime => {
            return write!(text, "no answer from name server within {}", Time(timeout));
        }
    })
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
pub struct Address(pub SocketAddr);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => {
                let [a, b, c, d] = address.ip().octets().map(u32::from);
                write!(f, "{a}.{b}.{c}.{d}")
            }
            SocketAddr::V6(address) => {
                f.write_char('[')?;
                ipv6(f, address.ip().segments())?;
                if address.scope_id() != 0 {
                    write!(f, "%{}", address.scope_id())?;
                }
                f.write_char(']')
            }
        }
    }
}

/// An IPv6 address that is not a mapped IPv4 one (RFC 5952, section 4).
fn ipv6(f: &mut Formatter<'_>, groups: [u16; 8]) -> fmt::Result {
    // The first of the longest rows of zeros, which has at least two.
    let (mut zeros, mut longest) = (8..8, 1);
    for i in 0..8 {
        let count = groups[i..].iter().take_while(|&&group| group == 0).count();
        if count > longest {
            (zeros, longest) = (i..i + count, count);
        }
    }
    for (i, &group) in groups.iter().enumerate() {
        if i == zeros.start {
            f.write_str("::")?;
        } else if !zeros.contains(&i) {
            let separator = if i == 0 || i == zeros.end { "" } else { ":" };
            write!(f, "{separator}{group:x}")?;
        }
    }
    Ok(())
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
    fn addresses() {
        for text in ["0.0.0.0", "192.0.2.1", "255.255.255.255"] {
            let address = format!("{text}:25").parse().expect("an address");
            assert_eq!(Address(address).to_string(), text);
        }
        // All places of zeros, and a scope.
        for set in 0..256u16 {
            let groups = std::array::from_fn(|i| (set >> i & 1) * 0xa0b);
            let ip = std::net::Ipv6Addr::from(groups);
            let address = std::net::SocketAddrV6::new(ip, 25, 0, u32::from(set));
            let scope = if set == 0 {
                "".into()
            } else {
                format!("%{set}")
            };
            assert_eq!(
                Address(address.into()).to_string(),
                format!("[{ip}{scope}]")
            );
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
            let facts = [Fact::Lookup(family, failure)];
            assert_eq!(result(&facts, timeout, Some(after)), text);
            // The cause alone has no time of this check.
            let cause = text.strip_suffix(" (3 ms)").unwrap_or(text);
            assert_eq!(result(&facts, timeout, None), cause);
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
