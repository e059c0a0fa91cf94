//! The program, its manual and its README say the same.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::run::Check;
use crate::probe::names::CLASSIC_USE;

fn help() -> String {
    Check::words("--help").run().stdout
}

/// The text of a file of the project.
fn text(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_option(word: &str) -> bool {
    let name = word.strip_prefix("--").or(word.strip_prefix('-'));
    name.is_some_and(|name| {
        let bytes = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        !name.is_empty() && !name.starts_with('-') && name.as_bytes().iter().all(bytes)
    })
}

/// The options among the words of a text, whatever stands around them.
fn options(text: &str) -> BTreeSet<String> {
    let around = |c: char| c.is_whitespace() || ",|[](){}`=\"'.;:…".contains(c);
    let words = text.split(around).filter(|word| is_option(word));
    words.map(String::from).collect()
}

/// The options that the manual explains: `.It Fl v , Fl -verbose`.
fn manual_options() -> BTreeSet<String> {
    let manual = text("src/smtpdcheck.1");
    let items = manual.lines().filter_map(|line| line.strip_prefix(".It "));
    let flags = items.flat_map(|item| item.split("Fl ").skip(1));
    let names = flags.map(|flag| flag.trim().split(' ').next().unwrap().to_owned());
    names.map(|name| format!("-{name}")).collect()
}

/// The options of the README's table of them: rows that begin with one.
fn readme_options() -> BTreeSet<String> {
    let readme = text("README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `-"));
    rows.flat_map(|row| options(row.split('|').nth(1).unwrap()))
        .collect()
}

#[test]
fn the_manual_explains_every_option_and_no_other() {
    assert_eq!(manual_options(), options(&help()));
}

#[test]
fn the_readme_explains_every_option_and_no_other() {
    assert_eq!(readme_options(), options(&help()));
}

/// A test runs this very script.
#[test]
fn the_readme_has_the_classic_use() {
    let readme = text("README.md");
    for line in CLASSIC_USE.lines() {
        assert!(readme.contains(line), "{line}");
    }
}

/// What this finds in texts of the kind that it reads.
#[test]
fn options_are_found() {
    let found = options("  -v, --verbose  do [--stop HOST] -4|-6 --port=25 -- a-b -");
    let expected = ["--port", "--stop", "--verbose", "-4", "-6", "-v"];
    assert_eq!(found, BTreeSet::from(expected.map(String::from)));
}

#[test]
fn every_option_of_the_help_is_one() {
    for option in options(&help()) {
        let run = Check::words(&option).run();
        assert!(!run.stderr.contains("does not exist"), "{run}");
    }
}

#[test]
fn the_help_fits_a_screen_and_explains_the_exit_status() {
    let help = help();
    assert!(help.lines().count() <= 24, "{help}");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    let (_, statuses) = help.split_once("Exit status:\n").unwrap();
    for status in ["0", "1", "2"] {
        let explained = |line: &str| line.trim_start().starts_with(&format!("{status}  "));
        assert!(statuses.lines().any(explained), "{help}");
    }
}

#[test]
fn every_text_explains_every_exit_status() {
    let manual = text("src/smtpdcheck.1");
    let (_, statuses) = manual.split_once(".Sh EXIT STATUS\n").unwrap();
    let readme = text("README.md");
    for status in ["0", "1", "2"] {
        assert!(
            statuses.contains(&format!(".It {status}\n")),
            "manual: {status}"
        );
        let row = |line: &str| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            line.starts_with('|') && cells.iter().any(|cell| cell.trim_matches('`') == status)
        };
        assert!(readme.lines().any(row), "README: {status}");
    }
}
