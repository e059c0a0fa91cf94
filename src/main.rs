//! smtpdcheck: parse, run, print, exit status.
//!
//! Each module uses only those that come after it in this list, except that
//! `sys` starts the program and ends it.

#![cfg_attr(not(test), no_main)]

mod check;
mod probe;
mod report;

mod lookup;
mod options;
mod store;

mod escape;
mod server;

mod sys;

use std::ffi::OsString;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use escape::Escaped;
use options::{Command, Options};
use report::Report;
use store::servers::Cache;
use sys::Errno;

const INPUT: RawFd = 0;
const OUTPUT: RawFd = 1;
const ERROR: RawFd = 2;

/// Nothing was printed: no server is up, or help was asked for.
const NONE_UP: i32 = 0;
/// A server is up.
const UP: i32 = 1;
/// This machine or the command line is at fault.
const FAULT: i32 = 2;

/// The program: takes the arguments without its name, returns the exit
/// status.
#[cfg_attr(test, allow(dead_code))]
fn start(arguments: impl Iterator<Item = OsString>) -> i32 {
    let status = occupy_closed().and_then(|()| {
        sys::block_write_signals();
        match options::parse(arguments)? {
            Command::Help => print(options::HELP.as_bytes()).map(|()| NONE_UP),
            Command::Version => print(options::VERSION.as_bytes()).map(|()| NONE_UP),
            // The process ends with the check: freeing is left to it.
            Command::Check(options) => check(&ManuallyDrop::new(options)),
        }
    });
    status.unwrap_or_else(|message| fail(&format!("smtpdcheck: {message}\n")))
}

/// What happens when the program cannot go on. Returns the exit status;
/// allocates nothing.
fn fail(line: &str) -> i32 {
    say(line);
    FAULT
}

fn check(options: &Options) -> Result<i32, String> {
    let mut cache = None;
    let mut trouble = None;
    if let Some(path) = &options.cache {
        match Cache::open(path, options.cache_ttl, options.timeout) {
            Ok(opened) => cache = opened,
            Err(why) => trouble = Some(why),
        }
    }
    let answer = check::run(options, &mut cache, &Report::new(options, say));
    trouble = trouble.or_else(|| cache?.trouble());
    if let (Some(path), Some(why)) = (&options.cache, trouble) {
        let path = Escaped(path);
        say(&format!(
            "smtpdcheck: warning: cache '{path}' cannot be used: {why}\n"
        ));
    }
    let answer = answer?;
    let Some(server) = answer.and_then(|answer| options.servers.get(answer)) else {
        return Ok(NONE_UP);
    };
    let mut line = server.text.clone();
    line.push(b'\n');
    print(&line).map(|()| UP)
}

/// Fills the places of closed standard descriptors, so that no connection
/// gets one of their numbers and then what is printed. A write to the
/// substitute fails, as to a closed descriptor.
fn occupy_closed() -> Result<(), String> {
    let mut standard = [INPUT, OUTPUT, ERROR].map(|fd| sys::interest(fd, 0));
    // Each call can fail only where there may not even be three descriptors.
    let fail = |_| String::from("cannot start: no descriptors left");
    sys::poll(&mut standard, Some(Duration::ZERO)).map_err(fail)?;
    for fd in standard.iter().filter(|fd| fd.revents & sys::POLLNVAL != 0) {
        // The lowest free number is this one: it stays taken.
        let root = sys::open_root().map_err(fail)?;
        debug_assert_eq!(root.as_raw_fd(), fd.fd);
        mem::forget(root);
    }
    Ok(())
}

/// Writes to standard output, all of it.
fn print(bytes: &[u8]) -> Result<(), String> {
    write_all(OUTPUT, bytes).map_err(|error| format!("cannot write to standard output: {error}"))
}

/// Writes to standard error. Whether that can be done changes nothing.
fn say(text: &str) {
    let _ = write_all(ERROR, text.as_bytes());
}

fn write_all(fd: RawFd, mut bytes: &[u8]) -> sys::Result<()> {
    while !bytes.is_empty() {
        match sys::write(fd, bytes) {
            Ok(0) => return Err(Errno(libc::EIO)),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno(libc::EINTR)) => {}
            // Somebody has made it not wait. The line is wanted all the same.
            Err(Errno(libc::EAGAIN)) => sys::poll(&mut [sys::interest(fd, sys::POLLOUT)], None)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
