//! smtpdcheck: start, dispatch, print, exit status.
//!
//! The modules use one another downward only, in this order.

#![cfg_attr(not(test), no_main)]

mod serve;

mod check;

mod report;

mod probe;
mod store;

mod lookup;
mod options;

mod escape;
mod server;
mod status;

mod sys;

use std::ffi::OsString;
use std::fmt::Display;
use std::mem::ManuallyDrop;
use std::time::Instant;

use escape::Escaped;
use lookup::Resolver;
use lookup::mx::{self, Servers};
use options::{Command, Options, help};
use report::{Report, json};
use serve::domains;
use status::{FAILURE, NONE_UP, UP, WAITED};
use store::Cache;
use store::table::Unusable;
use sys::process::{self, STANDARD_ERROR, STANDARD_OUTPUT};

#[cfg(not(test))]
sys::start::entry_point!(start);

/// The program: takes the arguments without its name, returns the exit status.
#[cfg_attr(test, allow(dead_code))]
fn start(arguments: impl Iterator<Item = OsString>) -> i32 {
    exit_status(run(arguments.collect()))
}

/// The exit status. Says why there is no other.
fn exit_status(result: Result<i32, String>) -> i32 {
    result.unwrap_or_else(|message| {
        say(&format!("smtpdcheck: {message}\n"));
        FAILURE
    })
}

/// The error is a message of one line.
fn run(arguments: Vec<OsString>) -> Result<i32, String> {
    let now = Instant::now();
    let is_serve = arguments.iter().any(options::is_serve);
    let mut arranged = process::occupy_standard_descriptors();
    if is_serve && arranged.is_ok() {
        arranged = process::silence_joined_error();
    }
    // It can fail only where there may not even be three descriptors.
    if let Err(error) = arranged {
        return match is_serve {
            // A message might be taken for an answer.
            true => Ok(FAILURE),
            false => Err(format!("cannot start: {error}")),
        };
    }
    process::block_write_signals();
    match options::parse(arguments)? {
        Command::Help => print(help::HELP.as_bytes()).map(|()| NONE_UP),
        Command::Version => print(help::VERSION.as_bytes()).map(|()| NONE_UP),
        // The process ends with the check: freeing is left to it.
        Command::Check(options) => {
            let status = check(&mut ManuallyDrop::new(options), now)?;
            Ok(if status == WAITED { NONE_UP } else { status })
        }
        Command::Serve(options, protocol) => {
            // A file that cannot be read is noticed at the start.
            is_ours(&options)?;
            let check = |options: &mut Options| exit_status(check(options, Instant::now()));
            serve::serve(&mut ManuallyDrop::new(options), protocol, check).map(|()| NONE_UP)
        }
    }
}

/// Checks as the options say, and returns the exit status.
fn check(options: &mut Options, now: Instant) -> Result<i32, String> {
    if !is_ours(options)? {
        return Ok(NONE_UP);
    }
    check::source::set_source_addresses(options)?;
    let ttls = [options.cache_ttl, options.cache_up_ttl];
    let open = |path: &Vec<u8>| Cache::open(path, ttls, options.timeout);
    let (mut cache, mut problem) = match options.cache.as_ref().map(open) {
        None => (None, None),
        Some(Ok(cache)) => (Some(cache), None),
        // A file that another process is just making is no problem.
        Some(Err(Unusable::Busy)) => (None, None),
        Some(Err(why)) => (None, Some(why)),
    };
    let status = match deferred_enough(options, cache.as_ref()) {
        Some(age) => {
            report_accepted(options, age, now)?;
            WAITED
        }
        None => ask(options, &mut cache, now)?,
    };
    problem = problem.or_else(|| Some(Unusable::System(cache?.error()?)));
    let problem = problem.map(|why| about_file("cache", &options.cache, &why));
    if options.serve.is_some() && status == UP {
        // The answer has no place for a warning. Without one, a message might
        // be deferred for ever.
        return match problem.filter(|_| options.max_defer.is_some()) {
            Some(problem) => Err(problem),
            None => Ok(UP),
        };
    }
    // Where the status is 2, its reason is the only line.
    for warning in options.warning().iter().chain(&problem) {
        warn(warning);
    }
    Ok(status)
}

/// Whether the domain is one to answer for.
fn is_ours(options: &Options) -> Result<bool, String> {
    let Some(path) = &options.domains else {
        return Ok(true);
    };
    domains::contains(path, options.domain.as_deref().unwrap_or_default())
        .map_err(|error| about_file("domains", &options.domains, &error))
}

/// What is wrong with a file, as a message.
fn about_file(what: &str, path: &Option<Vec<u8>>, why: &dyn Display) -> String {
    let path = Escaped(path.as_deref().unwrap_or_default());
    format!("{what} '{path}': {why}")
}

/// How long ago the message was first deferred, in seconds, if that is so long
/// that it is accepted now.
fn deferred_enough(options: &Options, cache: Option<&Cache>) -> Option<u32> {
    let (limit, key) = (options.max_defer?, options.key.as_ref()?);
    cache?.deferred_for(key).filter(|&age| age >= limit)
}

/// Reports that a message is accepted for its age.
fn report_accepted(options: &Options, age: u32, now: Instant) -> Result<(), String> {
    let why = report::first_deferred(age);
    if options.verbose {
        let key = options.key.as_deref().unwrap_or_default();
        say(&report::accepted(key, &why));
    }
    print_answer(options, String::new(), None, Some(&why), now)
}

/// Prints the answer; with `--json` these lines before it, and in its own what
/// else decided.
fn print_answer(
    options: &Options,
    mut lines: String,
    answer: Option<&[u8]>,
    cause: Option<&str>,
    now: Instant,
) -> Result<(), String> {
    if options.json {
        let domain = options.domain.as_deref();
        json::add_answer(&mut lines, answer, domain, cause, now.elapsed());
    } else if let Some(name) = answer {
        lines = format!("{}\n", Escaped(name));
    }
    print(lines.as_bytes())
}

/// Asks the servers, unless one is known to be up. Prints which one it is, and
/// records that the message is deferred.
fn ask(options: &mut Options, cache: &mut Option<Cache>, now: Instant) -> Result<i32, String> {
    if !options.is_up_known && !find_up(options, cache, now)? {
        return Ok(NONE_UP);
    }
    if let (Some(cache), Some(key)) = (cache, &options.key) {
        cache.record(key);
    }
    Ok(UP)
}

/// Asks the servers. Returns whether one is up, and prints its name.
fn find_up(options: &mut Options, cache: &mut Option<Cache>, now: Instant) -> Result<bool, String> {
    if options.serve.is_some() && options.stops.is_empty() {
        return Err("no --stop given, and the mail server did not report its own address".into());
    }
    let mut resolver = lookup::resolver();
    let mut cause = None;
    if let Some(domain) = &options.domain {
        let found = servers_of(domain, options, &mut resolver, now)?;
        cause = report::no_records(&found);
        options.servers = found.list;
    }
    let options = &*options;
    let (mut answer, mut lines) = (None, String::new());
    if !options.servers.is_empty() {
        let report = Report::new(options, say);
        (answer, lines) = check::check(options, resolver, cache, &report, now)?;
    }
    let name = answer.and_then(|answer| options.servers.get(answer));
    let name = name.map(|server| &server.text[..]);
    print_answer(options, lines, name, cause, now)?;
    Ok(name.is_some())
}

/// The servers of a domain, as DNS lists them.
fn servers_of(
    domain: &[u8],
    options: &Options,
    resolver: &mut Resolver,
    now: Instant,
) -> Result<Servers, String> {
    let found = mx::look_up(resolver, domain, options.deadline(now));
    if options.verbose {
        say(&report::domain(domain, &found, now.elapsed()));
    }
    found.map_err(|why| {
        let domain = Escaped(domain);
        format!("cannot look up the mail servers of '{domain}': {why}")
    })
}

/// Writes to standard output.
fn print(bytes: &[u8]) -> Result<(), String> {
    process::write_all(STANDARD_OUTPUT, bytes)
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

/// Writes to standard error. Whether that can be done changes nothing.
fn say(text: &str) {
    let _ = process::write_all(STANDARD_ERROR, text.as_bytes());
}

fn warn(text: &str) {
    say(&format!("smtpdcheck: warning: {text}\n"));
}
