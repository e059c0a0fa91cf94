//! The program, its manual and its README agree.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::run::Check;
use crate::harness::smtp::{Port, UP};
use crate::harness::{dns, namespace};

fn help() -> String {
    Check::words("--help").run().stdout
}

pub fn manual() -> String {
    text("src/smtpdcheck.1")
}

pub fn readme() -> String {
    text("README.md")
}

/// The text of a file of the project.
pub fn text(path: &str) -> String {
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

/// The options among the words of a text, without punctuation.
fn options(text: &str) -> BTreeSet<String> {
    let around = |c: char| c.is_whitespace() || ",|[](){}`=\"'.;:…".contains(c);
    let words = text.split(around).filter(|word| is_option(word));
    words.map(String::from).collect()
}

/// The options of a line of mdoc such as `.It Fl v , Fl -verbose`.
fn mdoc_options(line: &str) -> BTreeSet<String> {
    let flags = line.split("Fl ").skip(1);
    let names = flags.filter_map(|flag| flag.split_whitespace().next());
    names.map(|name| format!("-{name}")).collect()
}

/// What a text says of each option: its options, and their description.
type Entry = (BTreeSet<String>, String);

/// Splits a text into entries, each of which begins with a line of options.
fn entries(text: &str, options_of: impl Fn(&str) -> BTreeSet<String>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        let options = options_of(line);
        if !options.is_empty() {
            entries.push((options, String::new()));
        }
        if let Some((_, description)) = entries.last_mut() {
            description.push_str(line);
            description.push('\n');
        }
    }
    entries
}

fn help_entries() -> Vec<Entry> {
    entries(&help(), |line| match line.trim_start().starts_with('-') {
        // Two blanks separate the options from their description.
        true => options(line.trim_start().split("  ").next().unwrap()),
        false => BTreeSet::new(),
    })
}

fn manual_entries() -> Vec<Entry> {
    entries(&manual(), |line| match line.starts_with(".It Fl ") {
        true => mdoc_options(line),
        false => BTreeSet::new(),
    })
}

/// The rows of the README's table of options.
fn readme_entries() -> Vec<Entry> {
    entries(&readme(), |line| match line.starts_with("| `-") {
        true => options(line.split('|').nth(1).unwrap()),
        false => BTreeSet::new(),
    })
}

fn names(entries: Vec<Entry>) -> BTreeSet<String> {
    entries.into_iter().flat_map(|(names, _)| names).collect()
}

#[test]
fn the_manual_explains_every_option_and_no_other() {
    assert_eq!(names(manual_entries()), options(&help()));
}

#[test]
fn the_readme_explains_every_option_and_no_other() {
    assert_eq!(names(readme_entries()), options(&help()));
}

/// The first number after the word "default".
fn default_value(description: &str) -> Option<&str> {
    let (_, after) = description.split_once("efault")?;
    let mut numbers = after.split(|c: char| !c.is_ascii_digit());
    numbers.find(|number| !number.is_empty())
}

#[test]
fn every_text_names_the_defaults() {
    let texts = [
        ("help", help_entries()),
        ("manual", manual_entries()),
        ("README", readme_entries()),
    ];
    let defaults = [
        ("--timeout", "10"),
        ("--port", "25"),
        ("--cache-ttl", "60"),
        ("--cache-up-ttl", "0"),
    ];
    for (text, entries) in texts {
        for (option, value) in defaults {
            let entry = entries.iter().find(|(names, _)| names.contains(option));
            let (_, description) = entry.unwrap_or_else(|| panic!("{text}: no {option}"));
            let found = default_value(description);
            assert_eq!(found, Some(value), "{text}: {option}");
        }
    }
}

#[test]
fn every_text_has_the_synopsis() {
    let synopsis = "[prio:]server";
    assert!(help().lines().next().unwrap().contains(synopsis));
    assert!(readme().contains(synopsis), "README");
    let manual = manual();
    let (_, section) = manual.split_once(".Sh SYNOPSIS\n").unwrap();
    let (section, _) = section.split_once("\n.Sh ").unwrap();
    // Brackets are macros there.
    let macros = ["Op", "Oo", "Oc", "Ar", "Ns", "Sm", "Pf", "No", "off", "on"];
    let words = section.split_whitespace();
    let words = words.filter(|word| !macros.contains(&word.trim_start_matches('.')));
    let shown: String = words.collect();
    assert!(shown.contains("prio:server"), "manual: {shown}");
}

/// What these tests read from texts of these kinds.
#[test]
fn options_are_found() {
    let found = options("  -v, --verbose  do [--stop HOST] -4|-6 --port=25 -- a-b -");
    let expected = ["--port", "--stop", "--verbose", "-4", "-6", "-v"];
    assert_eq!(found, BTreeSet::from(expected.map(String::from)));
    let found = mdoc_options(".It Fl v , Fl -verbose Ar n");
    assert_eq!(found, BTreeSet::from(["-v", "--verbose"].map(String::from)));
    let described = [
        ("time limit (default 10; 0: no limit)", Some("10")),
        ("| Default: 25 |", Some("25")),
        ("The default is\n60.", Some("60")),
        ("as many as allowed (default: all)", None),
        ("10 seconds", None),
    ];
    for (description, value) in described {
        assert_eq!(default_value(description), value, "{description}");
    }
}

#[test]
fn every_option_of_the_help_is_one() {
    for option in options(&help()) {
        let run = Check::words(&option).run();
        assert!(!run.stderr.contains("unknown option"), "{run}");
    }
}

#[test]
fn the_help_fits_a_screen_and_explains_the_exit_status() {
    let help = help();
    assert!(help.lines().count() <= 45, "{help}");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    let (_, statuses) = help.split_once("Exit status:\n").unwrap();
    for status in ["0", "1", "2"] {
        let explained = |line: &str| line.trim_start().starts_with(&format!("{status}  "));
        assert!(statuses.lines().any(explained), "{help}");
    }
}

/// The protocols of `--serve`, as the first lines of the help name them.
fn protocols(help: &str) -> Vec<&str> {
    let mut lines = help.lines();
    let usage = lines.find_map(|line| line.split_once("--serve "));
    usage.unwrap().1.split('|').collect()
}

#[test]
fn every_text_names_every_protocol_and_no_other() {
    let (help, manual, readme) = (help(), manual(), readme());
    let protocols = protocols(&help);
    let description = |entries: Vec<Entry>| {
        let mut entries = entries.into_iter();
        let serve = entries.find(|(names, _)| names.contains("--serve"));
        serve.unwrap().1
    };
    let (help, row) = (description(help_entries()), description(readme_entries()));
    let headings = readme.lines().filter_map(|line| line.strip_prefix("## "));
    let headings: Vec<_> = headings.map(str::to_lowercase).collect();
    for protocol in &protocols {
        let check = Check::words("--stop 127.0.0.9 --serve").arguments([protocol]);
        check.run().prints("");
        assert!(help.contains(protocol), "help: {protocol}");
        assert!(row.contains(&format!("`{protocol}`")), "README: {protocol}");
        let section = format!("use with {protocol}");
        assert!(headings.contains(&section), "README: {section}");
        let section = format!(".Sh SERVING {}\n", protocol.to_uppercase());
        assert!(manual.contains(&section), "manual: {section}");
    }
    // In the synopsis and in the list of options.
    let all = format!("Fl -serve Cm {}", protocols.join(" | "));
    let lines = manual.lines().filter(|line| line.ends_with(&all));
    assert_eq!(lines.count(), 2, "manual: {all}");
    let named = manual
        .lines()
        .filter_map(|line| line.split_once("Fl -serve Cm "));
    for word in named.flat_map(|(_, words)| words.split([' ', '|', ',', '.'])) {
        assert!(
            word.is_empty() || protocols.contains(&word),
            "manual: {word}"
        );
    }
    let refused = Check::words("--stop 127.0.0.9 --serve sendmail")
        .run()
        .stderr;
    let quoted = |protocol: &&str| refused.contains(&format!("'{protocol}'"));
    assert!(protocols.iter().all(quoted), "{refused}");
}

#[test]
fn every_text_explains_every_exit_status() {
    let manual = manual();
    let (_, statuses) = manual.split_once(".Sh EXIT STATUS\n").unwrap();
    let readme = readme();
    for status in ["0", "1", "2"] {
        let item = |line: &str| {
            let words = line.strip_prefix(".It ").unwrap_or_default();
            words.split(' ').any(|word| word == status)
        };
        assert!(statuses.lines().any(item), "manual: {status}");
        let row = |line: &str| {
            let mut cells = line.split('|').map(str::trim);
            line.starts_with('|') && cells.any(|cell| cell.trim_matches('`') == status)
        };
        assert!(readme.lines().any(row), "README: {status}");
    }
}

/// The example of the help, with its first server up.
#[test]
fn the_example_of_the_help() {
    namespace::run(|| {
        let _names = dns::serve("* A 192.0.2.200\n* AAAA nodata");
        let _up = Port::smtp().serve("192.0.2.200", UP);
        let help = help();
        let mut lines = help.lines();
        let example = lines.find_map(|line| line.strip_prefix("  smtpdcheck "));
        let run = Check::words(example.unwrap()).run();
        assert_eq!((run.status, &*run.stderr), (Some(1), ""), "{run}");
    });
}

/// The keys of JSON objects in a text, one object a line.
fn members(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim_start);
    let objects = lines.filter(|line| line.starts_with('{') && line.ends_with('}'));
    let parts = objects.flat_map(|object| object.split('"'));
    let parts: Vec<_> = parts.collect();
    let keys = parts.windows(2).filter(|pair| pair[1].starts_with(':'));
    keys.map(|pair| pair[0].to_owned()).collect()
}

#[test]
fn the_texts_have_the_members_that_json_has() {
    let run = Check::words("--json 10:.").run();
    let printed = members(&run.stdout);
    assert_eq!(printed.len(), 10, "{run}");
    assert_eq!(members(&readme()), printed, "README");
    let manual = manual();
    let (_, section) = manual.split_once(".Ss JSON\n").unwrap();
    let (section, _) = section.split_once("\n.Ss ").unwrap();
    let items = section
        .lines()
        .filter_map(|line| line.strip_prefix(".It Li "));
    let items: Vec<_> = items.collect();
    // In their order; two are in both objects.
    let keys = run.stdout.split('"').collect::<Vec<_>>();
    let keys = keys.windows(2).filter(|pair| pair[1].starts_with(':'));
    let keys: Vec<_> = keys.map(|pair| pair[0]).collect();
    assert_eq!(items, keys, "manual");
}
