//! The lines of `--json`: an object for each server, then one with the answer
//! (RFC 8259).

use std::fmt::{self, Display, Formatter, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::text::Address;
use super::{Fact, Report, Unneeded, facts, state, text};
use crate::escape::Quoted;
use crate::probe::Probe;
use crate::probe::attempt::Attempt;
use crate::server::Server;
use crate::store::servers::Entry;

/// The line about a server, with `@` for each value.
const SERVER: &str = "{\"text\":@,\"priority\":@,\"state\":@,\"stage\":@,\"cause\":@,\
                      \"address\":@,\"milliseconds\":@,\"remembered\":@}\n";

/// The last line.
const ANSWER: &str = "{\"answer\":@,\"domain\":@,\"cause\":@,\"milliseconds\":@}\n";

impl Report {
    /// At the end: adds the line about a server. The cache had `entry` of it;
    /// `why` says why it was not needed, if so.
    pub fn add_json(
        &self,
        lines: &mut String,
        server: &Server,
        probe: &Probe,
        entry: Entry,
        why: Option<&Unneeded>,
    ) {
        let is_remembered = entry.up().is_some();
        let (mut stage, mut address, mut time) = (Value::Null, Value::Null, Value::Null);
        let mut known = Vec::new();
        if probe.up.is_some() {
            known = facts(server, probe, entry);
            if let Some(attempt) = furthest(&probe.attempts) {
                address = Value::Address(&attempt.address);
                stage = Value::Text(match attempt.connected {
                    Some(_) => b"greeting",
                    None => b"connect",
                });
                known = vec![Fact::Attempt(attempt)];
            } else if let Some(Fact::Lookup(..)) = known.first() {
                stage = Value::Text(b"lookup");
            }
            if probe.begun.is_some() && !is_remembered {
                time = milliseconds(probe.after);
            }
        }
        let rest = why.and_then(|why| self.rest(server, why, probe));
        let (state, cause) = rest.unwrap_or_else(|| {
            let is_stop = matches!(why, Some(Unneeded::Stop));
            let cause = text::result(&known, self.timeout, None);
            (state(is_stop, probe.up), cause)
        });
        let priority = match server.priority {
            Some(priority) => Value::Number(priority.into()),
            None => Value::Null,
        };
        let values = [
            Value::Text(&server.text),
            priority,
            Value::Text(state.as_bytes()),
            stage,
            Value::Text(cause.as_bytes()),
            address,
            time,
            Value::Bool(is_remembered),
        ];
        add(lines, SERVER, &values);
    }
}

/// Of several attempts, the one that came furthest.
fn furthest(attempts: &[Attempt]) -> Option<&Attempt> {
    let up = attempts.iter().find(|of| of.is_up());
    let connected = || attempts.iter().find(|of| of.connected.is_some());
    up.or_else(connected).or(attempts.first())
}

/// Adds the last line: which server is the answer, and what else decided, such
/// as that the domain does not exist.
pub fn add_answer(
    lines: &mut String,
    answer: Option<&[u8]>,
    domain: Option<&[u8]>,
    cause: Option<&str>,
    after: Duration,
) {
    let text = |text: Option<_>| text.map_or(Value::Null, Value::Text);
    let cause = cause.map(str::as_bytes);
    let values = [text(answer), text(domain), text(cause), milliseconds(after)];
    add(lines, ANSWER, &values);
}

fn milliseconds(time: Duration) -> Value<'static> {
    Value::Number(time.as_secs() * 1000 + u64::from(time.subsec_millis()))
}

/// Adds a line of this form, with a value in place of each `@`.
fn add(lines: &mut String, form: &str, values: &[Value]) {
    // A string takes all that is written to it.
    let _ = write!(lines, "{}", Line { form, values });
}

struct Line<'a> {
    form: &'a str,
    values: &'a [Value<'a>],
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut values = self.values.iter();
        for byte in self.form.bytes() {
            match byte {
                b'@' => values.next().unwrap_or(&Value::Null).fmt(f)?,
                _ => f.write_char(byte.into())?,
            }
        }
        Ok(())
    }
}

/// A value in an object.
#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Bool(bool),
    Number(u64),
    Address(&'a SocketAddr),
    Text(&'a [u8]),
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(is) => f.write_str(if *is { "true" } else { "false" }),
            Value::Number(number) => number.fmt(f),
            Value::Address(address) => write!(f, "\"{}\"", Address(**address)),
            Value::Text(text) => Quoted(text).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_their_places() {
        let address = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 25));
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Bool(false),
            Value::Number(u64::MAX),
            Value::Address(&address),
            Value::Text(b"@\"\xff"),
        ];
        let mut lines = String::from("{}\n");
        add(&mut lines, "{@,@,@,@,@,@}\n", &values);
        let expected = r#"{null,true,false,18446744073709551615,"[2001:db8::1]","@\"\u00ff"}"#;
        assert_eq!(lines, format!("{{}}\n{expected}\n"));
    }

    #[test]
    fn the_forms_are_json() {
        for (form, count) in [(SERVER, 8), (ANSWER, 4)] {
            let mut line = String::new();
            add(&mut line, form, &[]);
            assert_eq!(line.matches(":null").count(), count);
            assert_eq!(line.matches('@').count(), 0);
            assert!(line.starts_with("{\"") && line.ends_with("}\n"), "{line}");
        }
    }

    #[test]
    fn times_are_whole_milliseconds() {
        for (time, text) in [
            (999, "0"),
            (1_000, "1"),
            (4_294_967_295_999_999, "4294967295999"),
        ] {
            let time = milliseconds(Duration::from_micros(time));
            assert_eq!(
                Line {
                    form: "@",
                    values: &[time]
                }
                .to_string(),
                text
            );
        }
    }
}
