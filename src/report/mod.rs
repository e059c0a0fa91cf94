//! The lines of `--verbose`: one a server, in columns.
//!
//! What came from the network is escaped already where it was kept.

use std::fmt::{self, Display, Formatter, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::check::verdict::Known;
use crate::escape::Escaped;
use crate::lookup::{FAMILIES, Failure};
use crate::options::Options;
use crate::probe::Probe;
use crate::probe::attempt::{Attempt, Cause, Outcome};
use crate::server::{Host, Server};
use crate::store::servers::Memory;

/// The widest column of names. A longer name pushes the rest of its line.
const MAX_WIDTH: usize = 40;

/// Why nobody waited for a server.
pub enum Unneeded<'a> {
    /// It is a stop host.
    Stop,
    /// It comes after the first stop host.
    After(&'a Server),
    /// It has the priority of the first stop host.
    SamePriority(&'a Server),
    /// The answer was known: this server.
    Answered(&'a Server),
}

/// How to write the lines.
pub struct Report {
    width: usize,
    timeout: Duration,
    say: fn(&str),
}

impl Report {
    /// A report on these servers, each line of which is handed to `say`.
    pub fn new(options: &Options, say: fn(&str)) -> Self {
        let servers = options.servers.iter().filter(|_| options.verbose);
        let widths = servers.map(|server| Escaped(&server.text).to_string().len());
        Report {
            width: widths
                .filter(|&width| width <= MAX_WIDTH)
                .max()
                .unwrap_or(0),
            timeout: options.timeout.unwrap_or_default(),
            say,
        }
    }

    /// A server is up or down.
    pub fn fate(&self, server: &Server, probe: &Probe, known: Known) {
        let up = known.up == Some(true);
        let mut why = match probe.memory {
            Memory::None => None,
            Memory::Down(age) => Some(("", age)),
            Memory::Taken(age) => Some(("asked again ", age)),
        }
        .map_or(String::new(), |(what, age)| {
            format!("remembered, {what}{age} s ago")
        });
        let mut tell = |who: &dyn Display, what: &dyn Display| {
            let separator = if why.is_empty() { "" } else { "; " };
            // A string takes all that is written to it.
            let _ = write!(why, "{separator}{who}{what}");
        };
        for attempt in &probe.attempts {
            if let Some(outcome) = &attempt.outcome {
                tell(&Address(attempt.address), &self.fared(attempt, outcome));
            }
        }
        let failures = FAMILIES.map(|family| probe.lookup.failure(family).filter(|_| !up));
        match failures {
            [Some(one), Some(other)] if one == other => tell(&"", &self.failed(one, probe)),
            _ => {
                for (family, failure) in ["IPv4", "IPv6"].iter().zip(failures) {
                    match failure {
                        // That a host has addresses of one family only is no
                        // news.
                        Some(Failure::NoSuchHost) if !probe.attempts.is_empty() => {}
                        Some(Failure::NoSuchHost) => {
                            let after = Time(probe.after);
                            tell(&"", &format_args!("no {family} address (after {after})"));
                        }
                        Some(failure) => {
                            let failed = self.failed(failure, probe);
                            tell(&"", &format_args!("{family}: {failed}"));
                        }
                        None => {}
                    }
                }
            }
        }
        if why.is_empty() {
            why.push_str(self.not_tried(server, probe));
        }
        let state = match (known.stop, up) {
            (Some(true), _) => "stop",
            (_, true) => "up",
            (_, false) => "down",
        };
        self.line(server, state, &why);
    }

    /// At the end: nobody waited for a server, or it was up for nothing.
    pub fn unneeded(&self, server: &Server, why: &Unneeded, probe: &Probe) {
        let what = match (probe.up, probe.has_begun()) {
            (Some(true), _) => "up, but passed over",
            (Some(false), _) => return,
            (None, true) => "not waited for",
            (None, false) => "not asked",
        };
        let (why, whom) = match why {
            Unneeded::Stop | Unneeded::Answered(_) if probe.up.is_some() => return,
            Unneeded::Stop => return self.line(server, "stop", "a --stop host"),
            Unneeded::After(stop) => ("after the stop host", stop),
            Unneeded::SamePriority(stop) => ("same priority as the stop host", stop),
            Unneeded::Answered(up) => ("the answer is", up),
        };
        let whom = Escaped(&whom.text);
        self.line(server, "skip", &format!("{what}: {why} {whom}"));
    }

    /// How an attempt fared.
    fn fared(&self, attempt: &Attempt, outcome: &Outcome) -> String {
        let text = &outcome.text;
        let what = match &outcome.result {
            Ok(()) => format!("greeting {text}"),
            Err(Cause::Greeting) if is_reply(text) => format!("greeting {text}"),
            Err(Cause::Greeting) => format!("not SMTP: \"{text}\""),
            Err(Cause::Refused) => "refused".into(),
            Err(Cause::Unreachable) => "unreachable".into(),
            Err(Cause::Reset) => "reset".into(),
            Err(Cause::Unacknowledged) => "connection timed out".into(),
            Err(Cause::Closed) => "closed before greeting".into(),
            Err(Cause::OutOfTime) => {
                let timeout = Time(self.timeout);
                return match attempt.connected {
                    None => format!("no connection within {timeout}"),
                    Some(after) => {
                        let after = Time(after);
                        format!("no greeting within {timeout} (connected after {after})")
                    }
                };
            }
        };
        format!("{what} (after {})", Time(outcome.after))
    }

    /// How a lookup failed.
    fn failed(&self, failure: Failure, probe: &Probe) -> String {
        let what = match failure {
            Failure::NoSuchHost => "no such host",
            Failure::NameServer | Failure::TryAgain => "name server failed",
            Failure::NotAsked => return "not looked up in time".into(),
            Failure::OutOfTime => {
                return format!("lookup: no answer within {}", Time(self.timeout));
            }
        };
        format!("{what} (after {})", Time(probe.after))
    }

    /// Why a server is down to which nothing was tried.
    fn not_tried(&self, server: &Server, probe: &Probe) -> &'static str {
        match &server.host {
            Host::Nowhere => "not a host name",
            _ if probe.begun.is_some() => "not asked in time",
            Host::Address(IpAddr::V4(_)) => "no IPv6 address",
            Host::LinkLocal(..) if !probe.lookup.has_address() => "no such interface",
            _ => "no IPv4 address",
        }
    }

    fn line(&self, server: &Server, state: &str, why: &str) {
        let width = self.width;
        let name = Escaped(&server.text).to_string();
        (self.say)(&format!("{name:width$}  {state:4}  {why}\n"));
    }
}

/// Whether the beginning of a line is that of an SMTP reply.
fn is_reply(text: &str) -> bool {
    let (code, rest) = text.as_bytes().split_at(text.len().min(3));
    !code.is_empty()
        && code.iter().all(u8::is_ascii_digit)
        && matches!(rest.first(), None | Some(b' ' | b'-'))
}

/// An address as it is written in an argument, and a colon.
struct Address(SocketAddr);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => write!(f, "{}: ", address.ip()),
            SocketAddr::V6(address) if address.scope_id() == 0 => write!(f, "[{}]: ", address.ip()),
            SocketAddr::V6(address) => write!(f, "[{}%{}]: ", address.ip(), address.scope_id()),
        }
    }
}

/// A time, to the millisecond below a second and to the tenth above.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (0, 0) => write!(f, "under 1 ms"),
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
            (Duration::ZERO, "under 1 ms"),
            (Duration::from_micros(999), "under 1 ms"),
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
}
