//! The scripts of `examples/`, README and manual, as users run them.
//!
//! Those of `examples/` run as they are. They name the program and its folders
//! where they are installed, so these folders are empty in the test's namespace.

mod avenger;
mod qmail;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::dns::{self, NameServer};
use crate::harness::namespace::sh;
use crate::harness::run::program;

/// Where the scripts look for the program.
const PROGRAM: &str = "/usr/local/bin/smtpdcheck";

/// The secondary of the examples is mx2.example.org.
const ZONE: &str = "
example.org MX 10:mx1.example.org 20:mx2.example.org
other.example MX 10:mx1.example.org
mx1.example.org A 127.0.0.2
mx1.example.org AAAA nodata
mx2.example.org A 127.0.0.9
mx2.example.org AAAA nodata
";

/// The primary of the examples.
const PRIMARY: &str = "127.0.0.2";

/// What is said of a domain that is not ours.
const NOT_OURS: &str = "smtpdcheck: other.example: none of its mail servers is a --stop host\n";

/// Installs the program where the scripts look for it, and starts a name
/// server.
fn install() -> NameServer {
    sh("mount -t tmpfs tmpfs /usr/local/bin && mount -t tmpfs tmpfs /var");
    sh("mkdir -p /var/lib/smtpdcheck /var/qmail/bin");
    fs::copy(program(), PROGRAM).unwrap();
    dns::serve(ZONE)
}

/// Puts a shell script in place of a program.
fn replace(path: &str, script: &str) {
    // It may be running.
    let _ = fs::remove_file(path);
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The path of a file of the project.
fn path(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
fn text(name: &str) -> String {
    let path = path(name);
    let text = fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every example in README and manual that contains this text: the lines around
/// it, up to empty ones and macros.
fn shown(part: &str) -> Vec<String> {
    let manual = text("src/smtpdcheck.1");
    let manual = manual.replace(r"\(ga", "`").replace(r"\(dq", "\"");
    let texts = [text("README.md"), manual.replace(r"\e", "\\")];
    let found = texts.iter().map(|text| blocks(text, part));
    let found: Vec<_> = found.collect();
    assert!(!found.iter().any(Vec::is_empty), "{part}: {found:?}");
    found.concat()
}

fn blocks(text: &str, part: &str) -> Vec<String> {
    // A line of mdoc that begins with a dot is a macro.
    let is_end = |line: &&str| line.is_empty() || line.starts_with('.');
    let lines: Vec<_> = text.lines().collect();
    let blocks = lines.split(is_end).map(|lines| lines.join("\n"));
    blocks.filter(|block| block.contains(part)).collect()
}

/// The same script with the command that is commented out, in place of the one
/// before it.
fn with_cache(script: &str) -> String {
    let is_command = |line: &str| line.contains("=$(/usr/local/bin/");
    let mut lines = Vec::new();
    let mut rest = script.lines();
    while let Some(line) = rest.next() {
        if !is_command(line) {
            lines.push(line);
            continue;
        }
        let mut command = vec![line];
        while command.last().is_some_and(|line| line.ends_with('\\')) {
            command.extend(rest.next());
        }
        let code = command
            .iter()
            .map(|line| line.trim_start().strip_prefix('#'));
        lines.extend(code.flatten());
    }
    let script = lines.join("\n");
    let commands = lines.iter().filter(|line| is_command(line));
    assert_eq!(commands.count(), 1, "{script}");
    assert!(script.contains("\n    --cache "), "{script}");
    script
}
