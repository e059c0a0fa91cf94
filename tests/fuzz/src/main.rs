//! Feeds random inputs to the program's modules, and compares what they
//! say with a second opinion: another way to say the same rule, slower and
//! with less cleverness in it.
//!
//!     cargo run --release --manifest-path tests/fuzz/Cargo.toml -- [TARGET [COUNT [SEED]]]
//!
//! TARGET is a name in [`TARGETS`] or `all`. COUNT inputs are tried, by default
//! ten million, and a hundredth of that for `cache`; what they are depends on SEED alone, by default 1 (`random`
//! takes one from the system and prints it). An input that fails is printed
//! and ends the run with a panic; it belongs into the module's unit tests.
//!
//! The seeds of the texts are the files in `corpus/`, one input a line with
//! Rust's escapes.

#![allow(dead_code, reason = "the modules serve the program, not this")]

mod random;
mod sys;

#[path = "../../../src/server.rs"]
mod server;
// The modules that are tried here, in the program's own folders.
#[path = "../../../src/check"]
mod check {
    pub mod list;
    pub mod need;
    pub mod verdict;
}
#[path = "../../../src/lookup"]
mod lookup {
    pub mod message;
}
#[path = "../../../src/probe"]
mod probe {
    pub mod greeting;
}
#[path = "../../../src/serve"]
mod serve {
    pub mod opensmtpd;
    pub mod postfix;
    pub mod question;
    pub mod text;
}
#[path = "../../../src/store/mod.rs"]
mod store;

mod cache_target;
mod greeting_target;
mod message_target;
mod opensmtpd_target;
mod policy_target;
mod server_target;
mod verdict_target;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Instant;

use random::Random;

/// A target tries one input, made of these random numbers.
type Target = fn(&mut Random);

/// All targets, by name, and which part of COUNT each is given.
const TARGETS: &[(&str, Target, u64)] = &[
    ("greeting", greeting_target::one, 1),
    ("message", message_target::one, 1),
    ("opensmtpd", opensmtpd_target::one, 1),
    ("policy", policy_target::one, 1),
    // Miri reads less of a file than it was asked for, as no system does.
    #[cfg(not(miri))]
    // An input is a file of 256 KiB, and a hundred calls.
    ("cache", cache_target::one, 100),
    ("server", server_target::one, 1),
    ("verdict", verdict_target::one, 1),
];

/// So many inputs at least, each of a thread's own numbers.
fn run(name: &str, target: Target, count: u64, seed: u64) {
    let started = Instant::now();
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                // Input i is the same on every machine, however many threads share the work.
                for i in (thread..count).step_by(threads as usize) {
                    let mut random = Random::new(seed.wrapping_mul(0x1_0000_0001).wrapping_add(i));
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&mut random))) {
                        eprintln!("{name}: input {i} of seed {seed} fails");
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
    println!(
        "{name}: {count} inputs of seed {seed}, {:.1} s",
        started.elapsed().as_secs_f32()
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |i: usize, default: &'static str| arguments.get(i).map_or(default, String::as_str);
    let wanted = argument(0, "all");
    let count: u64 = argument(1, "10000000").parse().expect("COUNT is a number");
    let seed = match argument(2, "1") {
        "random" => RandomState::new().hash_one(0),
        number => number.parse().expect("SEED is a number, or 'random'"),
    };
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|(name, ..)| wanted == "all" || wanted == *name)
        .collect();
    assert!(!chosen.is_empty(), "no target '{wanted}'");
    for (name, target, part) in chosen {
        run(name, *target, count / part, seed);
    }
}
