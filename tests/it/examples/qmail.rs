//! The scripts for qmail, and the function that they and others use.

use std::fs;
use std::thread;
use std::time::Instant;

use super::{NOT_OURS, PRIMARY, PROGRAM, install, path, replace, shown, text, with_cache};
use crate::harness::namespace::{self, FOLDER, sh};
use crate::harness::run::{Check, Run, SLACK, ms};
use crate::harness::smtp::{Port, UP};

/// Where the scripts look for the function.
const FUNCTION: &str = "/var/qmail/bin/better_server.sh";

/// Calls the function that a script defines, as README and manual show it.
fn call(script: &str, arguments: &[&str]) -> Run {
    let script = format!(
        "set -eu\n{script}\n\
         if server=$(better_server \"$@\"); then echo \"450 $server\"; else echo accepted; fi"
    );
    Check::new(arguments).shell(&script).run()
}

#[track_caller]
fn says(run: &Run, stdout: &str, stderr: &str) {
    assert_eq!((&*run.stdout, &*run.stderr), (stdout, stderr), "{run}");
}

const DEFERRED: &str = "450 mx1.example.org\n";
const ACCEPTED: &str = "accepted\n";

/// The function of the examples, as it is and with a cache, and that of the
/// manual.
fn functions() -> [String; 3] {
    let file = path("examples/qmail/better_server.sh");
    let cached = with_cache(&fs::read_to_string(&file).unwrap());
    fs::write(format!("{FOLDER}/cached.sh"), cached).unwrap();
    let manual = super::blocks(&text("src/smtpdcheck.1"), "better_server() (");
    let (manual, _) = manual[0].split_once("\nif ").unwrap();
    [
        format!(". '{file}'"),
        format!(". {FOLDER}/cached.sh"),
        format!("PATH=/usr/local/bin:$PATH\n{manual}"),
    ]
}

#[test]
fn the_function_names_a_better_server() {
    namespace::run(|| {
        let names = install();
        let functions = functions();
        for function in &functions {
            says(&call(function, &["example.org"]), ACCEPTED, "");
        }
        let primary = Port::smtp().serve(PRIMARY, UP);
        for function in &functions {
            says(&call(function, &["example.org"]), DEFERRED, "");
            says(&call(function, &["Example.ORG."]), DEFERRED, "");
            says(
                &call(function, &["example.org", "a@x.example", "b@example.org"]),
                DEFERRED,
                "",
            );
            says(&call(function, &["missing.example"]), ACCEPTED, "");
            says(&call(function, &["other.example"]), ACCEPTED, NOT_OURS);
        }
        assert_eq!(primary.count(), 3 + 1 + 3);
        // Where there is no domain, nothing is run.
        let before = names.questions().len();
        replace(PROGRAM, "echo mx1.example.org; exit 1");
        for function in &functions {
            says(&call(function, &["example.org"]), DEFERRED, "");
            says(&call(function, &[]), ACCEPTED, "");
            for domain in ["", "-", "-v", "--help", "--mx=example.org"] {
                says(&call(function, &[domain]), ACCEPTED, "");
            }
        }
        assert_eq!(names.questions().len(), before);
        says(&call(&functions[0], &["[192.0.2.1]"]), ACCEPTED, "");
    });
}

#[test]
fn the_function_says_why_it_cannot_tell() {
    namespace::run(|| {
        let _names = install();
        let _primary = Port::smtp().serve(PRIMARY, UP);
        let functions = functions();
        for function in &functions {
            for domain in ["example.org example.org", "$(kill $$)", "*", "a;b"] {
                let run = call(function, &[domain]);
                assert_eq!(run.stdout, ACCEPTED, "{run}");
                assert!(run.stderr.starts_with("smtpdcheck: "), "{run}");
            }
        }
        let broken = [
            ("kill -KILL $$", "status 137"),
            ("exit 1", "status 1"),
            ("echo mx1.example.org; exit 3", "status 3"),
            ("echo mx1.example.org; kill -TERM $$", "status 143"),
        ];
        for (script, why) in broken {
            replace(PROGRAM, script);
            for function in &functions {
                fails(&call(function, &["example.org"]), why);
            }
        }
        sh(&format!("chmod -x {PROGRAM}"));
        for function in &functions[..2] {
            fails(&call(function, &["example.org"]), "status 126");
        }
        fs::remove_file(PROGRAM).unwrap();
        for function in &functions {
            // It may also be installed on this machine.
            let function = function.replace(":$PATH", "");
            fails(&call(&function, &["example.org"]), "status 127");
        }
    });
}

/// The message is accepted, and the last line of standard error says why.
#[track_caller]
fn fails(run: &Run, why: &str) {
    assert_eq!(run.stdout, ACCEPTED, "{run}");
    let line = run.stderr.lines().last().unwrap_or_default();
    assert!(
        line.ends_with(&format!("smtpdcheck failed with {why}")),
        "{run}"
    );
}

/// It may be the client's connection.
#[test]
fn the_function_leaves_standard_input_alone() {
    namespace::run(|| {
        let _names = install();
        replace(PROGRAM, "cat >&2");
        for function in functions() {
            let script =
                format!("{function}\necho MAIL FROM:x | {{ better_server example.org || cat; }}");
            says(&Check::words("").shell(&script).run(), "MAIL FROM:x\n", "");
        }
    });
}

#[test]
fn a_message_is_not_deferred_for_ever() {
    namespace::run(|| {
        let _names = install();
        let _primary = Port::smtp().serve(PRIMARY, UP);
        let script = with_cache(&text("examples/qmail/better_server.sh"));
        let script = script.replace("--max-defer=4h", "--max-defer=2s");
        let message = ["example.org", "a@x.example", "you@example.org"];
        let begun = Instant::now();
        while call(&script, &message).stdout == DEFERRED {
            assert!(begun.elapsed() < ms(2000) + SLACK);
            thread::sleep(ms(20));
        }
        // Whole seconds count.
        assert!(begun.elapsed() > ms(1000));
        says(&call(&script, &message), ACCEPTED, "");
        let another = ["example.org", "b@x.example", "you@example.org"];
        says(&call(&script, &another), DEFERRED, "");
        says(&call(&script, &["example.org"]), DEFERRED, "");
    });
}

/// Installs a script as its comments say. The programs that it runs say so.
fn install_script(name: &str) {
    sh(&format!(
        "install {} {} /var/qmail/bin",
        path("examples/qmail/better_server.sh"),
        path(&format!("examples/qmail/{name}")),
    ));
    assert!(fs::exists(FUNCTION).unwrap());
    replace(
        "/var/qmail/bin/qmail-smtpd",
        "echo \"qmail-smtpd $RBLSMTPD\"",
    );
    replace("/usr/local/bin/rblsmtpd", "echo \"451 $RBLSMTPD: $*\"");
}

/// Runs a script with these variables in its environment.
fn run_script(name: &str, variables: &str) -> Run {
    let script = format!(
        "PATH=/usr/local/bin:$PATH\nunset RBLSMTPD RELAYCLIENT SMTPAUTHUSER TCPREMOTEIP\n\
         env {variables} /var/qmail/bin/{name}"
    );
    Check::words("").shell(&script).run()
}

#[test]
fn qmail_defers_clients() {
    namespace::run(|| {
        let _names = install();
        install_script("smtpd");
        let accepted = "qmail-smtpd \n";
        says(&run_script("smtpd", ""), accepted, "");
        let _primary = Port::smtp().serve(PRIMARY, UP);
        let deferred = "451 Please use mx1.example.org: /var/qmail/bin/qmail-smtpd\n";
        says(&run_script("smtpd", ""), deferred, "");
        says(&run_script("smtpd", "RELAYCLIENT="), accepted, "");
        // Whatever is missing, mail is accepted.
        fs::remove_file("/usr/local/bin/rblsmtpd").unwrap();
        says(&run_script("smtpd", ""), accepted, "");
        install_script("smtpd");
        fs::remove_file(PROGRAM).unwrap();
        let run = run_script("smtpd", "");
        assert_eq!(run.stdout, accepted, "{run}");
        assert!(run.stderr.ends_with("failed with status 127\n"), "{run}");
        fs::remove_file(FUNCTION).unwrap();
        assert_eq!(run_script("smtpd", "").stdout, accepted);
    });
}

#[test]
fn a_plugin_of_qmail_defers_recipients() {
    namespace::run(|| {
        let _names = install();
        install_script("plugin");
        let run = |recipient: &str, more: &str| {
            let variables = format!("SMTPMAILFROM=a@x.example SMTPRCPTTO='{recipient}' {more}");
            run_script("plugin", &variables)
        };
        says(&run("you@example.org", ""), "", "");
        let primary = Port::smtp().serve(PRIMARY, UP);
        let deferred = "E450 4.3.2 Please use mx1.example.org\n";
        says(&run("you@example.org", ""), deferred, "");
        says(&run("you@x@Example.org", "SMTPRCPTHOSTSOK=1"), deferred, "");
        says(
            &run("you@example.org", "SMTPMAILFROM= TCPREMOTEIP=192.0.2.1"),
            deferred,
            "",
        );
        for more in ["RELAYCLIENT=", "SMTPAUTHUSER=me", "SMTPRCPTHOSTSOK=0"] {
            says(&run("you@example.org", more), "", "");
        }
        for recipient in ["", "postmaster", "you@", "you@-v", "you@[192.0.2.1]"] {
            says(&run(recipient, ""), "", "");
        }
        says(&run("you@other.example", ""), "", NOT_OURS);
        assert_eq!(primary.count(), 3);
        fs::remove_file(FUNCTION).unwrap();
        let run = run("you@example.org", "");
        assert_eq!((run.status, &*run.stdout), (Some(0), ""), "{run}");
    });
}

#[test]
fn the_scripts_that_the_texts_show() {
    namespace::run(|| {
        let _names = install();
        let _primary = Port::smtp().serve(PRIMARY, UP);
        sh(&format!(
            "cp {} {FUNCTION}",
            path("examples/qmail/better_server.sh")
        ));
        let begin = "PATH=/usr/local/bin:$PATH domain=example.org sender= recipient=";
        for script in shown("server=$(better_server \"$domain\"") {
            let script = format!("{begin}\n{script}");
            let run = Check::words("").shell(&script).run();
            says(&run, "450 4.3.2 Please use mx1.example.org\n", "");
        }
    });
}
