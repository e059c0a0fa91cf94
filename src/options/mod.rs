//! The command line: [`Options`], [`parse`]. No I/O.

pub mod help;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use lexopt::Arg;

use crate::escape::Escaped;
use crate::server::{Host, Server};

/// What the command line asks for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is only one, ever")]
pub enum Command {
    /// To print [`help::HELP`].
    Help,
    /// To print [`help::VERSION`].
    Version,
    /// To check servers.
    Check(Options),
    /// To answer a mail server's questions.
    Serve(Options, Protocol),
}

/// How a mail server asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Postfix's policy protocol.
    Postfix,
    /// That of OpenSMTPD's filters.
    OpenSmtpd,
}

/// A `--stop` host.
#[derive(Debug)]
pub struct Stop {
    /// The value as given.
    pub text: Vec<u8>,
    /// The host that it names; never `Nowhere`.
    pub host: Host,
}

/// Which servers to check, and how.
#[derive(Debug)]
pub struct Options {
    /// Whose questions to answer; `None`: no mail server's.
    pub serve: Option<Protocol>,
    /// The path of the file with the domains to answer for; `None`: for all.
    pub domains: Option<Vec<u8>>,
    /// The domain whose mail servers are the list.
    pub domain: Option<Vec<u8>>,
    /// The servers in the order given; at least one, unless there is a domain.
    pub servers: Vec<Server>,
    /// The stop hosts.
    pub stops: Vec<Stop>,
    /// How long a check may take; `None`: no limit.
    pub timeout: Option<Duration>,
    /// The TCP port to connect to.
    pub port: u16,
    /// The addresses to connect from, for IPv4 and for IPv6, as given; each an
    /// address, or empty.
    pub sources: [Vec<u8>; 2],
    /// The same, once it is known that they are addresses of this machine.
    pub source_addresses: [Option<SocketAddr>; 2],
    /// Whether IPv4 addresses are used, and whether IPv6 addresses are.
    pub families: [bool; 2],
    /// How many servers are probed at a time; `None`: all.
    pub jobs: Option<u32>,
    /// Whether to report on each server.
    pub verbose: bool,
    /// Whether to print results as JSON.
    pub json: bool,
    /// The path of the cache.
    pub cache: Option<Vec<u8>>,
    /// How long the cache remembers a server that was slow to fail, in seconds.
    pub cache_ttl: u32,
    /// How long it remembers one that is up, in seconds; 0: not at all.
    pub cache_up_ttl: u32,
    /// A message that was first deferred this long ago, in seconds, or longer,
    /// is accepted. Then there is a cache.
    pub max_defer: Option<u32>,
    /// The message that this is about, if there is a limit to that.
    pub key: Option<Vec<u8>>,
    /// Whether it is known that a server is up, so that nobody need be asked.
    pub is_up_known: bool,
}

impl Options {
    /// The deadline of what begins now.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.timeout?)
    }

    /// Whether a stop host must be in the list. Others write a list from DNS;
    /// only a stop host in it shows that this machine serves the domain.
    pub fn must_stop(&self) -> bool {
        self.domain.is_some() && !self.stops.is_empty()
    }

    /// What does not go together, or is missing, as a message.
    fn conflict(&self) -> Option<String> {
        let (has_servers, has_domain) = (!self.servers.is_empty(), self.domain.is_some());
        let (has_key, defers) = (self.key.is_some(), self.max_defer.is_some());
        let is_serve = self.serve.is_some();
        let is_opensmtpd = self.serve == Some(Protocol::OpenSmtpd);
        let excluded = match is_serve {
            _ if self.families == [false; 2] => Some(("-4", "-6")),
            _ if has_servers && has_domain => Some(("servers", "--mx")),
            true if has_servers => Some(("servers", "--serve")),
            true if has_domain => Some(("--mx", "--serve")),
            true if self.jobs.is_some() => Some(("--jobs", "--serve")),
            true if has_key => Some(("--key", "--serve")),
            true if self.json => Some(("--json", "--serve")),
            true if self.timeout.is_none() => Some(("--serve", "--timeout 0")),
            // It does not say who the sender is.
            _ if is_opensmtpd && defers => Some(("--max-defer", "--serve opensmtpd")),
            _ => None,
        };
        if let Some((one, other)) = excluded {
            return Some(format!("{one} and {other} cannot be used together"));
        }
        let missing = match is_serve {
            // It does not say which address the client has connected to.
            _ if is_opensmtpd && self.stops.is_empty() => "--serve opensmtpd needs --stop",
            false if self.domains.is_some() => "--domains needs --serve",
            _ if defers && self.cache.is_none() => "--max-defer needs --cache",
            false if defers && !has_key => "--max-defer needs --key",
            false if has_key && !defers => "--key needs --max-defer",
            false if !has_servers && !has_domain => "no server given",
            _ => return None,
        };
        Some(format!("{missing}; see --help"))
    }

    /// What is most likely a mistake, as a message.
    pub fn warning(&self) -> Option<String> {
        match self.domain {
            // A name from DNS was not quoted by mistake.
            Some(_) => None,
            None => values::warning(&self.servers),
        }
    }
}

/// Reads the command line, without the program's name. The error
/// is a message of one line for the user.
#[inline(never)]
pub fn parse(arguments: Vec<OsString>) -> Result<Command, String> {
    let mut options = Options {
        serve: None,
        domains: None,
        domain: None,
        servers: Vec::new(),
        stops: Vec::new(),
        timeout: Some(Duration::from_secs(10)),
        port: 25,
        sources: [Vec::new(), Vec::new()],
        source_addresses: [None; 2],
        families: [true; 2],
        jobs: None,
        verbose: false,
        json: false,
        cache: None,
        cache_ttl: 60,
        cache_up_ttl: 0,
        max_defer: None,
        key: None,
        is_up_known: false,
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(explain)? {
        match argument {
            Arg::Short('4') => options.families[1] = false,
            Arg::Short('6') => options.families[0] = false,
            Arg::Short('v') | Arg::Long("verbose") => options.verbose = true,
            Arg::Long("json") => options.json = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) => options.servers.push(values::server(value.as_bytes())?),
            Arg::Long(name) => {
                let Some(set) = option_with_value(name) else {
                    return Err(explain(argument.unexpected()));
                };
                let name = name.to_owned();
                let value = parser.value().map_err(explain)?;
                let value = value.as_bytes();
                set(&mut options, value)
                    .map_err(|why| format!("--{name} '{}' {why}", Escaped(value)))?;
            }
            other => return Err(explain(other.unexpected())),
        }
    }
    if let Some(message) = options.conflict() {
        return Err(message);
    }
    Ok(match options.serve {
        Some(protocol) => Command::Serve(options, protocol),
        None => Command::Check(options),
    })
}

/// Whether an argument may be `--serve`. That is to be known before the command
/// line is understood.
pub fn is_serve(argument: &OsString) -> bool {
    argument.as_bytes().starts_with(b"--serve")
}

/// Sets an option to a value; the error is what is wrong with the value.
type Set = fn(&mut Options, &[u8]) -> Result<(), &'static str>;

/// How an option with a value is set; `None` if there is no such option.
fn option_with_value(name: &str) -> Option<Set> {
    Some(match name {
        "serve" => |options, value| {
            options.serve = Some(values::protocol(value)?);
            Ok(())
        },
        "domains" => |options, value| {
            options.domains = Some(values::path(value)?);
            Ok(())
        },
        "mx" => |options, value| {
            options.domain = Some(values::domain(value)?);
            Ok(())
        },
        "stop" => |options, value| {
            let host = values::stop(value)?;
            let text = value.to_vec();
            options.stops.push(Stop { text, host });
            Ok(())
        },
        "timeout" => |options, value| {
            options.timeout = values::timeout(value)?;
            Ok(())
        },
        "port" => |options, value| {
            options.port = values::port(value)?;
            Ok(())
        },
        "source" => |options, value| {
            let is_ipv6 = values::is_ipv6_source(value)?;
            options.sources[usize::from(is_ipv6)] = value.to_vec();
            Ok(())
        },
        "jobs" => |options, value| {
            options.jobs = Some(values::positive(value)?);
            Ok(())
        },
        "cache" => |options, value| {
            options.cache = Some(values::path(value)?);
            Ok(())
        },
        "cache-ttl" => |options, value| {
            options.cache_ttl = values::positive_time(value)?;
            Ok(())
        },
        "cache-up-ttl" => |options, value| {
            options.cache_up_ttl = values::time(value)?;
            Ok(())
        },
        "max-defer" => |options, value| {
            options.max_defer = Some(values::max_defer(value)?);
            Ok(())
        },
        "key" => |options, value| {
            options.key = Some(values::key(value)?);
            Ok(())
        },
        _ => return None,
    })
}

fn explain(error: lexopt::Error) -> String {
    use lexopt::Error;
    match error {
        Error::MissingValue {
            option: Some(option),
        } => format!("{option} needs a value; see --help"),
        Error::UnexpectedOption(option) => {
            let option = Escaped(option.as_bytes());
            format!("unknown option '{option}'; see --help")
        }
        Error::UnexpectedValue { option, .. } => {
            format!("{option} takes no value; see --help")
        }
        // There is no other that lexopt returns to a caller of these methods.
        _ => "invalid arguments; see --help".into(),
    }
}
