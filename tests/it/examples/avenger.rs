//! Scripts for Mail Avenger.

use std::thread;
use std::time::Instant;

use super::{NOT_OURS, PRIMARY, PROGRAM, install, replace, shown, text, with_cache};
use crate::harness::namespace;
use crate::harness::run::{Check, Run, SLACK, ms};
use crate::harness::smtp::{Port, UP};

/// What Mail Avenger provides for its scripts.
const AVENGER: &str = r#"
PATH=/usr/local/bin:$PATH
dns() { test "$2 $3" = "mx example.org" && RECIP_MXES="10:mx1.example.org 20:mx2.example.org"; }
defer() { echo "450 $1"; exit; }
logger() { echo "log: $5"; }
CLIENT_IP=198.51.100.7
MYIP=127.0.0.9
RECIPIENT=you@$RECIPIENT_HOST
"#;

/// Runs a script for a message to a domain.
fn run(script: &str, domain: &str, sender: &str) -> Run {
    let begin = r#"RECIPIENT_HOST=$1 SENDER=$2"#;
    let script = format!("{begin}\n{AVENGER}\n{script}\necho accepted");
    Check::new([domain, sender]).shell(&script).run()
}

#[track_caller]
fn says(run: &Run, stdout: &str, stderr: &str) {
    assert_eq!((&*run.stdout, &*run.stderr), (stdout, stderr), "{run}");
}

const SENDER: &str = "sender@client.example";
const DEFERRED: &str = "450 Please use server mx1.example.org\n";
const ACCEPTED: &str = "accepted\n";

/// What is logged where smtpdcheck cannot tell.
fn cannot_tell(domain: &str) -> String {
    format!("log: cannot tell whether to defer mail for {domain}\n{ACCEPTED}")
}

/// The example, and what README and manual show of it.
fn scripts() -> Vec<String> {
    let mut scripts = shown("--mx \"$RECIPIENT_HOST\"");
    scripts.push(text("examples/avenger/rcpt"));
    scripts.push(with_cache(scripts.last().unwrap()));
    scripts
}

#[test]
fn a_message_is_deferred_while_the_primary_is_up() {
    namespace::run(|| {
        let _names = install();
        let primary = Port::smtp().serve(PRIMARY, UP);
        let scripts = scripts();
        for script in &scripts {
            says(&run(script, "example.org", SENDER), DEFERRED, "");
            says(&run(script, "Example.ORG.", SENDER), DEFERRED, "");
            says(&run(script, "example.org", ""), DEFERRED, "");
            says(&run(script, "missing.example", SENDER), ACCEPTED, "");
        }
        // With the cache, the primary was asked once.
        assert_eq!(primary.count(), 3 * (scripts.len() - 1) + 1);
        for script in &scripts[..scripts.len() - 1] {
            says(&run(script, "example.org", SENDER), ACCEPTED, "");
        }
    });
}

#[test]
fn the_scripts_of_the_original() {
    namespace::run(|| {
        let _names = install();
        let scripts = shown("smtpdcheck --stop $MYIP");
        for script in &scripts {
            says(&run(script, "example.org", SENDER), ACCEPTED, "");
        }
        let _primary = Port::smtp().serve(PRIMARY, UP);
        for script in &scripts {
            says(&run(script, "example.org", SENDER), DEFERRED, "");
            let script = script.replace(" $RECIP_MXES", " -- $RECIP_MXES");
            says(&run(&script, "example.org", SENDER), DEFERRED, "");
        }
    });
}

#[test]
fn a_message_is_accepted_where_smtpdcheck_cannot_tell() {
    namespace::run(|| {
        let _names = install();
        let _primary = Port::smtp().serve(PRIMARY, UP);
        for script in scripts() {
            says(
                &run(&script, "other.example", SENDER),
                &cannot_tell("other.example"),
                NOT_OURS,
            );
            // No names of hosts.
            for domain in ["", "example.org -v", "[192.0.2.1]", "$(kill $$)", "*"] {
                let run = run(&script, domain, SENDER);
                assert_eq!(run.stdout, cannot_tell(domain), "{run}");
                assert!(run.stderr.starts_with("smtpdcheck: "), "{run}");
                assert_eq!(run.stderr.lines().count(), 1, "{run}");
            }
            // Names that do not exist.
            for domain in ["-v", "--help", "--mx"] {
                says(&run(&script, domain, SENDER), ACCEPTED, "");
            }
        }
        for broken in ["kill -KILL $$", "exit 2", "exit 127"] {
            replace(PROGRAM, broken);
            for script in scripts() {
                let run = run(&script, "example.org", SENDER);
                assert_eq!(run.stdout, cannot_tell("example.org"), "{broken}: {run}");
            }
        }
    });
}

#[test]
fn a_message_is_not_deferred_for_ever() {
    namespace::run(|| {
        let _names = install();
        let _primary = Port::smtp().serve(PRIMARY, UP);
        let script = with_cache(&text("examples/avenger/rcpt"));
        let script = script.replace("--max-defer 4h", "--max-defer 2s");
        for sender in [SENDER, ""] {
            let begun = Instant::now();
            says(&run(&script, "example.org", sender), DEFERRED, "");
            while run(&script, "example.org", sender).stdout == DEFERRED {
                assert!(begun.elapsed() < ms(2000) + SLACK);
                thread::sleep(ms(20));
            }
            // Whole seconds count.
            assert!(begun.elapsed() > ms(1000));
            says(&run(&script, "example.org", sender), ACCEPTED, "");
            says(
                &run(&script, "example.org", "another@client.example"),
                DEFERRED,
                "",
            );
            namespace::sh("rm /var/lib/smtpdcheck/cache");
        }
    });
}
