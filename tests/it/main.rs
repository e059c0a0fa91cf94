//! The tests of the built program: what it prints, how it ends, when, and
//! what the servers get to see.
//!
//! The program is the one that the environment variable `SMTPDCHECK` names, or
//! else cargo's own build. Servers and name servers are scripted, and live on
//! loopback or in a private network namespace; nothing else is contacted. A
//! test that cannot run says so on standard error, and fails where `CI` is set.
//!
//! Bounds on time: a lower bound is exact; an upper one leaves a busy machine
//! [`harness::run::SLACK`], and the mistake that it is there to catch takes longer.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends at the line that says why"
)]

mod harness;

mod check;
mod options;
mod probe;
mod report;
mod store;
