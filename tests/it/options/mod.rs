//! The command line, and the texts that explain it.

mod configurations;
mod mx;
mod servers;
mod slips;
mod usage;
mod words;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::harness::run::Check;

fn is_usage_error(arguments: &[&[u8]], reason: &str) {
    let run = Check::new(arguments.iter().map(|a| OsStr::from_bytes(a))).run();
    run.fails_with(reason).at_once();
}
