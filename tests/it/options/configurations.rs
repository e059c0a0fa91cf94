//! The examples for mail servers, and what README and manual show of them.

use std::collections::BTreeSet;
use std::{fs, path::Path};

use super::words::{manual, readme, text};

/// The folders of `examples`, one for each mail server. Those of Cargo's examples
/// have a `main.rs`.
fn folders() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| {
        entry.file_type().unwrap().is_dir() && !entry.path().join("main.rs").exists()
    });
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    names.collect()
}

/// Each text after this one, up to what cannot be part of a path.
fn paths<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c));
    let after = text.split(start).skip(1);
    let paths = after.map(|text| text.split(is_end).next().unwrap());
    paths
        .map(|path| path.trim_end_matches(['.', '/']))
        .collect()
}

#[test]
fn the_readme_names_every_folder_and_only_what_exists() {
    let readme = readme();
    let paths = paths(&readme, "examples/");
    for path in &paths {
        let exists = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(path)
            .exists();
        assert!(exists, "examples/{path}");
    }
    let named = paths.iter().filter_map(|path| path.split('/').next());
    let named: BTreeSet<_> = named.map(String::from).collect();
    assert_eq!(named, folders());
}

#[test]
fn the_manual_names_every_folder_and_no_other() {
    let manual = manual();
    let (_, files) = manual.split_once(".Sh FILES\n").unwrap();
    let (files, _) = files.split_once("\n.Sh ").unwrap();
    let named = files
        .lines()
        .filter_map(|line| line.strip_prefix(".Pq Pa "));
    let named = named.filter_map(|words| words.split(' ').next());
    let named: BTreeSet<_> = named.map(String::from).collect();
    assert_eq!(named, folders());
}

/// GitHub's name of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let name: String = heading.to_lowercase().chars().filter(kept).collect();
    name.replace(' ', "-")
}

#[test]
fn the_links_of_the_readme_lead_somewhere() {
    let readme = readme();
    let headings = readme.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches(['#', ' ']));
    let anchors: BTreeSet<_> = headings.map(anchor).collect();
    let links = readme.split("](").skip(1);
    for link in links.filter_map(|text| text.split(')').next()) {
        match link.strip_prefix('#') {
            Some(name) => assert!(anchors.contains(name), "{link}"),
            None if link.contains("://") => {}
            None => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
                assert!(path.exists(), "{link}");
            }
        }
    }
}

/// What a mail server reads of a configuration: words without comments, line
/// ends and indentation.
fn bare(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(|line| line.trim_end_matches('\\').split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// The paragraphs of a text that contain this, without indentation; macros
/// that mark a block separate paragraphs, too.
fn paragraphs(text: &str, part: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty() || line.starts_with('.'));
    let paragraphs = paragraphs.map(|lines| lines.join("\n"));
    paragraphs.filter(|text| text.contains(part)).collect()
}

/// A part of what README and manual show of a configuration, and the files one
/// of which has all of that.
const SHOWN: &[(&str, &[&str])] = &[
    (
        "argv=/usr/local/bin/smtpdcheck",
        &["postfix/master.cf", "postfix/master-cache.cf"],
    ),
    ("check_policy_service {", &["postfix/main.cf"]),
    ("proc-exec", &["opensmtpd/smtpd.conf"]),
];

#[test]
fn the_texts_show_the_examples_as_they_are() {
    let manual = manual().replace(r"\e", r"\");
    for (part, files) in SHOWN {
        let files = files.iter().map(|file| text(&format!("examples/{file}")));
        let files: Vec<_> = files.map(|text| bare(&text)).collect();
        for (name, text) in [("README", readme()), ("manual", manual.clone())] {
            let shown = paragraphs(&text, part);
            assert!(!shown.is_empty(), "{name}: {part}");
            for shown in shown {
                let shown = bare(&shown);
                let is_there = files.iter().any(|file| file.contains(&shown));
                assert!(is_there, "{name}: {shown}");
            }
        }
    }
}
