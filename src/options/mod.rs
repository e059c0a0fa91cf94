//! The command line: usage text, [`Options`], [`parse`]. No I/O.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use lexopt::Arg;

use crate::escape::Escaped;
use crate::server::{Host, Misuse, Server, decimal};

/// What `--help` prints.
pub const HELP: &str = "\
Usage: smtpdcheck [option ...] [prio:]server ...
Print the first server in the list that greets with 220 on its SMTP port.

      --stop HOST        pass over HOST (address or name; may be repeated), all
                         servers after it and those of the same priority
      --timeout SECONDS  how long to wait at most (10; 0: as long as it takes)
      --port N           connect to port N (25)
  -4, -6                 use IPv4 addresses only, IPv6 addresses only
      --jobs N           ask at most N servers at a time, each with its own
                         timeout
      --cache FILE       remember in FILE which servers were slow to prove down
      --cache-ttl SECONDS  for how long they are not asked again (60)
  -v, --verbose          say on standard error how each server fared
  -h, --help             print this text and exit
  -V, --version          print the version and exit

A server is a name, an IPv4 address or an IPv6 address in brackets:
  smtpdcheck --stop 192.0.2.9 10:mx1.example.org 20:[2001:db8::2] 30:192.0.2.9

Exit status:
  0  no server is up: nothing is printed, take the mail
  1  a server is up: its name is printed, defer the mail
  2  this machine or the command line is at fault: the reason is on standard
     error
";

/// What `--version` prints.
pub const VERSION: &str = concat!("smtpdcheck ", env!("CARGO_PKG_VERSION"), "\n");

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// To print [`HELP`].
    Help,
    /// To print [`VERSION`].
    Version,
    /// To check servers.
    Check(Options),
}

/// A `--stop` host.
#[derive(Debug)]
pub struct Stop {
    /// The value as given.
    pub text: Vec<u8>,
    /// The host that it names, never `Nowhere`.
    pub host: Host,
}

/// How to check which servers.
#[derive(Debug)]
pub struct Options {
    /// The servers in the order given; at least one.
    pub servers: Vec<Server>,
    /// The stop hosts.
    pub stops: Vec<Stop>,
    /// How long a check may take; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// The TCP port to connect to.
    pub port: u16,
    /// Whether IPv4 addresses are used, and whether IPv6 addresses are.
    pub families: [bool; 2],
    /// How many servers are probed at a time; `None`: all.
    pub jobs: Option<u32>,
    /// Whether to report on each server.
    pub verbose: bool,
    /// The file that remembers servers that were down.
    pub cache: Option<Vec<u8>>,
    /// How long they are remembered, in seconds.
    pub cache_ttl: u32,
}

impl Options {
    /// When what begins now has taken too long.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.timeout?)
    }
}

/// Reads the command line, which comes without the program's name. The error
/// is a message of one line for the user.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut options = Options {
        servers: Vec::new(),
        stops: Vec::new(),
        timeout: Some(Duration::from_secs(10)),
        port: 25,
        families: [true; 2],
        jobs: None,
        verbose: false,
        cache: None,
        cache_ttl: 60,
    };
    let mut parser = lexopt::Parser::from_args(arguments.collect::<Vec<_>>());
    while let Some(argument) = parser.next().map_err(explain)? {
        match argument {
            Arg::Short('4') => options.families[1] = false,
            Arg::Short('6') => options.families[0] = false,
            Arg::Short('v') | Arg::Long("verbose") => options.verbose = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) => options.servers.push(server(value.as_bytes())?),
            Arg::Long(name) => {
                let Some((set, why)) = with_value(name) else {
                    return Err(explain(argument.unexpected()));
                };
                let name = name.to_owned();
                let value = parser.value().map_err(explain)?;
                let value = value.as_bytes();
                set(&mut options, value).ok_or_else(|| complain(&name, value, why))?;
            }
            other => return Err(explain(other.unexpected())),
        }
    }
    if options.families == [false; 2] {
        return Err("-4 and -6 leave no addresses: give one of them".into());
    }
    if options.servers.is_empty() {
        return Err("no server given; smtpdcheck --help shows how".into());
    }
    Ok(Command::Check(options))
}

/// Takes the value of an option, unless it makes no sense.
type Set = fn(&mut Options, &[u8]) -> Option<()>;

/// How an option with a value takes it, and what is said of a value that makes
/// no sense.
fn with_value(name: &str) -> Option<(Set, &'static str)> {
    Some(match name {
        "stop" => (set_stop, "is no host name and no address"),
        "timeout" => {
            let why = "is no number of seconds up to 4294967295, such as 10 or 2.5";
            (set_timeout, why)
        }
        "port" => (set_port, "is no port from 1 to 65535"),
        "jobs" => (set_jobs, NO_NUMBER),
        "cache" => (set_cache, "names no file"),
        "cache-ttl" => (set_cache_ttl, NO_NUMBER),
        _ => return None,
    })
}

const NO_NUMBER: &str = "is no whole number from 1 to 4294967295";

fn set_stop(options: &mut Options, value: &[u8]) -> Option<()> {
    let host = Host::parse(value);
    let text = value.to_vec();
    if host == Host::Nowhere {
        return None;
    }
    options.stops.push(Stop { text, host });
    Some(())
}

fn set_timeout(options: &mut Options, value: &[u8]) -> Option<()> {
    options.timeout = timeout(value)?;
    Some(())
}

fn set_port(options: &mut Options, value: &[u8]) -> Option<()> {
    options.port = u16::try_from(positive(value)?).ok()?;
    Some(())
}

fn set_jobs(options: &mut Options, value: &[u8]) -> Option<()> {
    options.jobs = Some(positive(value)?);
    Some(())
}

fn set_cache(options: &mut Options, value: &[u8]) -> Option<()> {
    options.cache = Some(value.to_vec());
    (!value.is_empty()).then_some(())
}

fn set_cache_ttl(options: &mut Options, value: &[u8]) -> Option<()> {
    options.cache_ttl = positive(value)?;
    Some(())
}

fn positive(value: &[u8]) -> Option<u32> {
    decimal(value).filter(|&number| number > 0)
}

/// The message for an option with a value that anybody may have chosen.
fn complain(option: &str, value: &[u8], why: &str) -> String {
    format!("--{option} '{}' {why}", Escaped(value))
}

fn explain(error: lexopt::Error) -> String {
    use lexopt::Error;
    match error {
        Error::MissingValue {
            option: Some(option),
        } => format!("{option} needs a value"),
        Error::UnexpectedOption(option) => {
            let option = Escaped(option.as_bytes());
            format!("option '{option}' does not exist; --help lists them all")
        }
        Error::UnexpectedValue { option, value } => {
            let value = Escaped(value.as_bytes());
            format!("{option} '{value}' is one word too many: it takes no value")
        }
        // There is no other that lexopt returns to a caller of these methods.
        _ => "bad arguments; --help shows good ones".into(),
    }
}

fn server(argument: &[u8]) -> Result<Server, String> {
    Server::parse(argument).map_err(|misuse| {
        let shown = Escaped(argument);
        match misuse {
            Misuse::Empty => "a server is an empty argument".into(),
            Misuse::Priority => format!(
                "server '{shown}' has a bad priority: \
                 a number from 0 to 65535 comes before the first colon \
                 (a port is given with --port)"
            ),
            Misuse::Brackets => format!(
                "server '{shown}' is an IPv6 address without brackets: write [{shown}], \
                 or number:[address] with a priority"
            ),
        }
    })
}

/// Seconds with an optional fraction; zero means no timeout. What is less
/// than a nanosecond counts as one, so that it does not become zero.
fn timeout(value: &[u8]) -> Option<Option<Duration>> {
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
    let zero = digits().all(|&digit| digit == b'0');
    Some((!zero).then(|| timeout.max(Duration::from_nanos(1))))
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
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn help_fits_a_screen() {
        assert!(HELP.lines().count() <= 24);
        for line in HELP.lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }
}
