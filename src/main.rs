//! smtpdcheck: start, dispatch, print, exit status.
//!
//! The modules use one another downward only, in this order.

#![cfg_attr(not(test), no_main)]

mod check;

mod report;

mod probe;
mod store;

mod lookup;
mod options;

mod escape;
mod server;

mod sys;

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::time::Instant;

use escape::Escaped;
use lookup::{Resolver, mx};
use options::{Command, Options};
use report::Report;
use server::Server;
use store::Cache;
use store::table::Unusable;
use sys::process::{self, STANDARD_ERROR, STANDARD_OUTPUT};

/// No server is up, or the message was deferred long enough, or help was
/// printed.
const NONE_UP: i32 = 0;
/// A server is up.
const UP: i32 = 1;
/// Usage error, or a local failure.
const FAILURE: i32 = process::FAILURE;

/// What to do with a message.
enum Outcome {
    /// To accept it: no server is up.
    NoneUp,
    /// To defer it: a server is up, and its name has been printed.
    Up,
    /// To accept it: it has been deferred long enough. Nobody was asked.
    DeferredEnough,
}

#[cfg(not(test))]
sys::start::entry_point!(start);

/// The program: takes the arguments without its name, returns the exit status.
#[cfg_attr(test, allow(dead_code))]
fn start(arguments: impl Iterator<Item = OsString>) -> i32 {
    run(arguments).unwrap_or_else(|message| {
        say(&format!("smtpdcheck: {message}\n"));
        FAILURE
    })
}

/// The error is a message of one line.
fn run(arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let now = Instant::now();
    // It can fail only where there may not even be three descriptors.
    process::occupy_standard_descriptors().map_err(|error| format!("cannot start: {error}"))?;
    process::block_write_signals();
    match options::parse(arguments)? {
        Command::Help => print(options::HELP.as_bytes()).map(|()| NONE_UP),
        Command::Version => print(options::VERSION.as_bytes()).map(|()| NONE_UP),
        // The process ends with the check: freeing is left to it.
        Command::Check(options) => {
            let outcome = check(&mut ManuallyDrop::new(options), now)?;
            Ok(match outcome {
                Outcome::Up => UP,
                Outcome::NoneUp | Outcome::DeferredEnough => NONE_UP,
            })
        }
    }
}

fn check(options: &mut Options, now: Instant) -> Result<Outcome, String> {
    check::source::set_source_addresses(options)?;
    let opened = match options.cache.as_deref() {
        None => Err(Unusable::Busy),
        Some(path) => {
            let ttls = [options.cache_ttl, options.cache_up_ttl];
            Cache::open(path, ttls, options.timeout)
        }
    };
    let mut problem = opened.as_ref().err().copied();
    let mut cache = opened.ok();
    let outcome = match was_deferred_enough(options, cache.as_ref()) {
        true => Outcome::DeferredEnough,
        false => ask(options, &mut cache, now)?,
    };
    // Where the status is 2, its reason is the only line.
    if let Some(warning) = options.warning() {
        warn(&warning);
    }
    // A file that another process is just making is no reason for a warning.
    problem = problem.or_else(|| Some(Unusable::System(cache?.error()?)));
    if let Some(why) = problem.filter(|&why| why != Unusable::Busy) {
        let path = Escaped(options.cache.as_deref().unwrap_or_default());
        warn(&format!("cache '{path}': {why}"));
    }
    Ok(outcome)
}

/// Whether the message was first deferred so long ago that it is accepted now.
fn was_deferred_enough(options: &Options, cache: Option<&Cache>) -> bool {
    let (Some(limit), Some(key), Some(cache)) = (options.max_defer, &options.key, cache) else {
        return false;
    };
    let age = cache.deferred_for(key).filter(|&age| age >= limit);
    if let (Some(age), true) = (age, options.verbose) {
        say(&report::accepted(key, age));
    }
    age.is_some()
}

/// Asks the servers, and prints which one is up.
fn ask(options: &mut Options, cache: &mut Option<Cache>, now: Instant) -> Result<Outcome, String> {
    let mut resolver = lookup::resolver();
    if let Some(domain) = &options.domain {
        options.servers = servers_of(domain, options, &mut resolver, now)?;
        if options.servers.is_empty() {
            return Ok(Outcome::NoneUp);
        }
    }
    let options = &*options;
    let report = Report::new(options, say);
    let answer = check::check(options, resolver, cache, &report, now)?;
    let Some(server) = answer.and_then(|answer| options.servers.get(answer)) else {
        return Ok(Outcome::NoneUp);
    };
    let mut line = server.text.clone();
    line.push(b'\n');
    print(&line)?;
    if let (Some(cache), Some(key)) = (cache, &options.key) {
        cache.record(key);
    }
    Ok(Outcome::Up)
}

/// The servers of a domain, as DNS lists them.
fn servers_of(
    domain: &[u8],
    options: &Options,
    resolver: &mut Resolver,
    now: Instant,
) -> Result<Vec<Server>, String> {
    let found = mx::look_up(resolver, domain, options.deadline(now));
    if options.verbose {
        say(&report::domain(domain, &found, now.elapsed()));
    }
    let found = found.map_err(|why| {
        let domain = Escaped(domain);
        format!("cannot look up the mail servers of '{domain}': {why}")
    })?;
    Ok(found.list)
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
