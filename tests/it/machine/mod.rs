//! This machine at its limits, and the system calls of the program. `make
//! emulate` leaves these tests out: there they would test the emulator.

mod calls;
mod environment;
mod mx;
mod output;
mod shortage;
mod source;

use std::fs;

use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::{Check, command};

/// Makes a root directory in the namespace's empty directory: with the program,
/// and its libraries if it is not static. Returns whether it is static.
fn make_root() -> bool {
    let copy = namespace::copy_program();
    let libraries = command("ldd").arg(&copy).output().unwrap();
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut needed = paths.filter(|word| !word.starts_with(&copy)).peekable();
    let is_static = needed.peek().is_none();
    for library in needed {
        let (folder, _) = library.rsplit_once('/').unwrap();
        fs::create_dir_all(format!("{FOLDER}{folder}")).unwrap();
        fs::copy(library, format!("{FOLDER}{library}")).unwrap();
    }
    is_static
}

/// A check by the copy of the program, without privileges and under a limit.
fn limited(words: &str, limit: &[&str]) -> Check {
    Check::words(words)
        .copy(&namespace::copy_program())
        .under(namespace::unprivileged())
        .under(limit)
}
