//! The servers of a domain, as its MX records name them (RFC 5321, section
//! 5.1).

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};
use std::time::Instant;

use super::message::{self, Mx};
use super::{Answer as AnyAnswer, Query, Resolver, submit};
use crate::server::Server;
use crate::sys::resolver::{self, LookupError};
use crate::sys::{self, Errno, process};

/// Why it is not known which servers a domain has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// The name servers did not answer, or failed.
    NoAnswer,
    /// There was no answer before the deadline.
    OutOfTime,
    /// The answer says nothing.
    Answer(message::Unknown),
    /// This machine failed.
    Machine(Errno),
}

/// What came of asking for MX records.
pub type Answer = Result<Mx, Unknown>;

impl Display for Unknown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        use message::Unknown::{Code, Malformed, Referral, Truncated, Unrelated};
        f.write_str(match self {
            Unknown::NoAnswer => "no usable answer from the name servers",
            Unknown::OutOfTime => "no answer in time",
            Unknown::Answer(Code(2)) => "name server failed (SERVFAIL)",
            Unknown::Answer(Code(5)) => "name server refused (REFUSED)",
            Unknown::Answer(Code(code)) => return write!(f, "name server failed (code {code})"),
            Unknown::Answer(Truncated) => "truncated answer",
            Unknown::Answer(Malformed) => "malformed answer",
            Unknown::Answer(Unrelated) => "answer to another query",
            Unknown::Answer(Referral) => "name server does not offer recursion",
            Unknown::Machine(error) => return error.fmt(f),
        })
    }
}

/// Asks the name servers. Runs on a thread of the pool.
pub fn ask(domain: &CStr) -> Answer {
    match resolver::ask_mx(domain) {
        Ok(exchange) => message::read(&exchange.query, &exchange.answer).map_err(Unknown::Answer),
        Err(LookupError::NoSuchHost | LookupError::NameServer) => Err(Unknown::NoAnswer),
        Err(LookupError::Machine(error)) => Err(Unknown::Machine(error)),
    }
}

/// Asks for the servers of a domain, and waits for the answer.
pub fn look_up(
    resolver: &mut Resolver,
    domain: &[u8],
    deadline: Option<Instant>,
) -> Result<Servers, Unknown> {
    let name = sys::c_string(domain);
    loop {
        let submitted = submit(resolver, 0, Query::Mx(name)).map_err(Unknown::Machine);
        match submitted.and_then(|_| wait(resolver, deadline)) {
            Err(Unknown::Machine(error))
                if error.is_descriptor_shortage() && process::raise_descriptor_limit() => {}
            answer => return answer.map(|answer| Servers::new(domain, answer)),
        }
    }
}

fn wait(resolver: &mut Resolver, deadline: Option<Instant>) -> Answer {
    loop {
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Unknown::OutOfTime);
        }
        let wake = resolver.wake().unwrap_or(process::NO_DESCRIPTOR);
        let mut interests = [process::interest(wake, process::POLLIN)];
        process::poll(&mut interests, timeout).map_err(Unknown::Machine)?;
        resolver.reset_wake();
        if let Some((_, AnyAnswer::Mx(answer))) = resolver.next_finished() {
            return answer;
        }
    }
}

/// What DNS says of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Records,
    /// Its only MX record says that it accepts no mail (RFC 7505).
    NullRecord,
    NoRecord,
    NoDomain,
}

/// The servers of a domain, the most preferred one first, and where they come
/// from.
pub struct Servers {
    pub kind: Kind,
    pub list: Vec<Server>,
}

impl Servers {
    fn new(domain: &[u8], answer: Mx) -> Self {
        let mut list: Vec<Server> = Vec::new();
        let kind = match answer {
            Mx::NoDomain => Kind::NoDomain,
            Mx::NoRecord => {
                list.push(Server::of_record(0, domain));
                Kind::NoRecord
            }
            Mx::Records(records) if matches!(&records[..], [(_, name)] if name == b".") => {
                Kind::NullRecord
            }
            Mx::Records(records) => {
                for (preference, name) in records {
                    let at = list.partition_point(|server| server.priority <= Some(preference));
                    list.insert(at, Server::of_record(preference, &name));
                }
                Kind::Records
            }
        };
        Servers { kind, list }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Host;

    fn texts(answer: Mx) -> Vec<String> {
        let servers = Servers::new(b"example.org", answer).list.into_iter();
        servers
            .map(|server| {
                let text = String::from_utf8_lossy(&server.text).into_owned();
                format!("{}:{text}", server.priority.unwrap_or(u16::MAX))
            })
            .collect()
    }

    #[test]
    fn lists() {
        let records = |list: &[(u16, &str)]| {
            let owned = |&(preference, name): &(u16, &str)| (preference, name.into());
            Mx::Records(list.iter().map(owned).collect())
        };
        let table: [(Mx, &[&str]); 7] = [
            (Mx::NoDomain, &[]),
            (Mx::NoRecord, &["0:example.org"]),
            (records(&[(0, ".")]), &[]),
            (records(&[(10, ".")]), &[]),
            (records(&[(0, "."), (10, "a")]), &["0:.", "10:a"]),
            (records(&[(10, "a"), (10, ".")]), &["10:a", "10:."]),
            (
                records(&[(20, "b"), (10, "z"), (20, "a"), (0, "c"), (10, "y")]),
                &["0:c", "10:z", "10:y", "20:b", "20:a"],
            ),
        ];
        for (answer, list) in table {
            assert_eq!(texts(answer), list);
        }
    }

    #[test]
    fn names_that_are_no_hosts_are_servers_that_are_down() {
        for name in [".", "mx\\.test", "db8::1", "::1", "a b", "*"] {
            let records = Mx::Records(vec![(10, name.into()), (20, b"mx".to_vec())]);
            assert_eq!(
                Servers::new(b"example.org", records).list[0].host,
                Host::Nowhere
            );
        }
    }
}
