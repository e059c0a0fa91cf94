//! What `--verbose` and `--json` report of each server: the facts first, then
//! the words.

pub mod json;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::escape::Escaped;
use crate::lookup::mx::{Servers, Unknown};
use crate::lookup::{FAMILIES, Failure};
use crate::options::Options;
use crate::probe::Probe;
use crate::probe::attempt::Attempt;
use crate::server::{Host, Server};
use crate::store::servers::Entry;
use crate::sys::resolver::Family;

/// The widest column of names, in bytes. A longer name pushes the rest of its
/// line.
const MAX_WIDTH: usize = 40;

/// One reason why a server is up or down.
enum Fact<'a> {
    /// The cache has it from so many seconds ago that it is up, or down.
    Remembered(bool, u32),
    /// The cache had it, and another process has been asking it again for so
    /// many seconds.
    AskedElsewhere(u32),
    /// It has this address.
    Address(SocketAddr),
    /// What came of connecting to one address.
    Attempt(&'a Attempt),
    /// A lookup failed, in one family or in both.
    Lookup(Option<Family>, Failure),
    /// The text is neither a host name nor an address.
    NotAHost,
    NoSuchInterface,
    /// All its addresses are of the family that is not used.
    NoAddress(Family),
}

/// Why a server was not waited for, or is not the answer though it is up.
pub enum Unneeded<'a> {
    /// It is a stop host.
    Stop,
    /// There must be a stop host, but there is none.
    NoStop,
    /// It may be a stop host.
    Doubtful,
    /// It comes after the first stop host.
    After(&'a Server),
    /// It has the priority of the first stop host.
    SamePriority(&'a Server),
    /// The answer was known: this server.
    Answered(&'a Server),
}

/// The line about a domain: what DNS says of its mail servers.
pub fn domain(domain: &[u8], found: &Result<Servers, Unknown>, after: Duration) -> String {
    let text = text::domain(found, after);
    format!("{}  mx    {text}\n", Escaped(domain))
}

/// Why a message is accepted that was first deferred so many seconds ago.
pub fn first_deferred(age: u32) -> String {
    format!("first deferred {age} s ago")
}

/// The line about a message that is accepted.
pub fn accepted(key: &[u8], why: &str) -> String {
    format!("{}  accept  {why}\n", Escaped(key))
}

/// What a domain has in place of MX records.
pub fn no_records(found: &Servers) -> Option<&'static str> {
    text::kind(found.kind)
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

    /// A server proved up or down; the cache had `entry` of it.
    pub fn result(&self, server: &Server, probe: &Probe, entry: Entry, is_stop: bool) {
        let state = state(is_stop, probe.up);
        let why = text::result(
            &facts(server, probe, entry),
            self.timeout,
            Some(probe.after),
        );
        self.line(server, state, &why);
    }

    /// At the end: a server was not waited for, or is not the answer though it
    /// is up.
    pub fn unneeded(&self, server: &Server, why: &Unneeded, probe: &Probe) {
        if let Some((state, why)) = self.rest(server, why, probe) {
            self.line(server, state, &why);
        }
    }

    /// The state of a server that was not waited for, or is not the answer
    /// though it is up, and why.
    fn rest(
        &self,
        server: &Server,
        why: &Unneeded,
        probe: &Probe,
    ) -> Option<(&'static str, String)> {
        Some(match (why, probe.up) {
            (Unneeded::Answered(_) | Unneeded::Stop, Some(_)) | (_, Some(false)) => return None,
            (Unneeded::Stop, None) => ("stop", "matches --stop".into()),
            (Unneeded::NoStop, None) if probe.has_begun() => {
                let facts = facts(server, probe, Entry::Absent);
                let why = text::result(&facts, self.timeout, Some(probe.after));
                ("skip", format!("does not match --stop: {why}"))
            }
            _ => ("skip", text::unneeded(why, probe.up, probe.has_begun())),
        })
    }

    fn line(&self, server: &Server, state: &str, why: &str) {
        let width = self.width;
        let name = Escaped(&server.text).to_string();
        (self.say)(&format!("{name:width$}  {state:4}  {why}\n"));
    }
}

fn state(is_stop: bool, up: Option<bool>) -> &'static str {
    match (is_stop, up) {
        (true, _) => "stop",
        (false, Some(true)) => "up",
        (false, _) => "down",
    }
}

/// Why a server is up or down.
fn facts<'a>(server: &Server, probe: &'a Probe, entry: Entry) -> Vec<Fact<'a>> {
    let mut facts = Vec::new();
    match entry {
        Entry::Absent | Entry::Claimed | Entry::Awaited | Entry::Expired => {}
        Entry::Remembered { is_up, age } => facts.push(Fact::Remembered(is_up, age)),
        Entry::AskedElsewhere { asked_for, .. } => facts.push(Fact::AskedElsewhere(asked_for)),
    }
    facts.extend(probe.attempts.iter().map(Fact::Attempt));
    if probe.up.is_none() {
        let addresses = FAMILIES.iter().flat_map(|&f| probe.lookup.addresses(f));
        facts.extend(addresses.map(|&address| Fact::Address(address)));
    }
    if probe.up != Some(true) {
        lookup_facts(probe, &mut facts);
    }
    if facts.is_empty() {
        facts.push(match &server.host {
            Host::Nowhere => Fact::NotAHost,
            Host::LinkLocal(..) if !probe.lookup.has_address() => Fact::NoSuchInterface,
            Host::Address(IpAddr::V4(_)) => Fact::NoAddress(Family::V6),
            _ => Fact::NoAddress(Family::V4),
        });
    }
    facts
}

fn lookup_facts<'a>(probe: &'a Probe, facts: &mut Vec<Fact<'a>>) {
    let failures = FAMILIES.map(|family| probe.lookup.failure(family));
    if let [Some(one), Some(other)] = failures {
        if one == other {
            facts.push(Fact::Lookup(None, one));
            return;
        }
    }
    for (family, failure) in FAMILIES.into_iter().zip(failures) {
        match failure {
            // To have addresses of only one family is not an error.
            Some(Failure::NoSuchHost) if probe.lookup.has_address() => {}
            Some(failure) => facts.push(Fact::Lookup(Some(family), failure)),
            None => {}
        }
    }
}
