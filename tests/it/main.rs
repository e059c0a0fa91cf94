//! Tests of the built program: what it prints, its exit status, how long it
//! takes, and what it sends to servers.
//!
//! The environment variable `SMTPDCHECK` names the program; without it, it is
//! cargo's own build. Servers and name servers are scripted, and run on
//! loopback or in a private network namespace; nothing else is contacted. A
//! test that cannot run says so on standard error, and fails if `CI` is set.
//!
//! Lower bounds on time are exact. Upper bounds allow [`harness::run::SLACK`]
//! for a busy machine, and the bug that they are to catch takes longer.

#![allow(
    clippy::unwrap_used,
    reason = "a panic names the line at which a test failed"
)]

mod harness;

mod check;
mod examples;
mod lookup;
mod machine;
mod options;
mod probe;
mod report;
mod serve;
mod store;
