//! The lines of `--json`: an object for each server in the order of the list,
//! and one with the answer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::run::{Check, Run, command, each, has, ms};
use crate::harness::smtp::{
    Close, DOWN, Port, Reset, SILENT, Send, Step, UP, Wait, down_after, up_after,
};
use crate::harness::{dns, namespace};

/// What follows `"milliseconds":`, if that is a number.
fn split_time(text: &str) -> (Option<u64>, &str) {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (text[..text.len() - rest.len()].parse().ok(), rest)
}

/// The lines, with T for every time.
fn lines(run: &Run) -> Vec<String> {
    assert!(run.stdout.ends_with("}\n"), "{run}");
    let lines = run.stdout.lines().map(|line| {
        let (text, after) = line.split_once("\"milliseconds\":").unwrap();
        match split_time(after) {
            (Some(_), rest) => format!("{text}\"milliseconds\":T{rest}"),
            (None, _) => line.to_owned(),
        }
    });
    lines.collect()
}

/// The times, in the order of the lines.
fn times(run: &Run) -> Vec<Option<Duration>> {
    let parts = run.stdout.split("\"milliseconds\":").skip(1);
    parts.map(|part| split_time(part).0.map(ms)).collect()
}

/// The line about a server that has no priority and is not remembered. What is
/// not `null` here needs quotes.
fn server(text: &str, state: &str, stage: &str, cause: &str, address: &str, time: &str) -> String {
    format!(
        r#"{{"text":"{text}","priority":null,"state":"{state}","stage":{stage},"cause":"{cause}","address":{address},"milliseconds":{time},"remembered":false}}"#
    )
}

/// The line with the answer where there is no domain.
fn answer(name: &str) -> String {
    let name = match name {
        "" => "null".into(),
        name => format!("\"{name}\""),
    };
    format!(r#"{{"answer":{name},"domain":null,"cause":null,"milliseconds":T}}"#)
}

/// The lines, and the status that goes with the answer. Nothing is on standard
/// error.
#[track_caller]
fn says(run: &Run, expected: &[String]) {
    assert_eq!(lines(run), expected, "{run}");
    let status = i32::from(!expected.last().unwrap().contains(r#"{"answer":null"#));
    assert_eq!((run.status, &*run.stderr), (Some(status), ""), "{run}");
}

/// What the server at 127.0.0.2 does, its state, stage and cause.
#[test]
fn every_result_has_its_stage_and_cause() {
    let rows: [(&[Step], &str, &str); 9] = [
        (UP, "up", "greeting 220 mx.test ESMTP"),
        (DOWN, "down", "greeting 554 mx.test takes no mail"),
        (
            &[Send(b"220 \"a\\b\" \x1b]0;x\x07\xe9\r\n")],
            "up",
            r#"greeting 220 \"a\\b\" \\x1b]0;x\\x07\\xe9"#,
        ),
        (
            &[Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close],
            "down",
            r#"not an SMTP greeting: \"HTTP/1.1 400 Bad Request\""#,
        ),
        (
            &[Send(b"\x15\x03\x01"), Close],
            "down",
            r#"not an SMTP greeting: \"\\x15\\x03\\x01\""#,
        ),
        (&[Close], "down", "connection closed before the greeting"),
        (
            &[Send(b"22"), Wait(ms(100)), Reset],
            "down",
            "connection reset",
        ),
        (SILENT, "down", "no greeting within 1.5 s"),
        (&up_after(ms(500)), "up", "greeting 220 mx.test ESMTP"),
    ];
    each(&rows, |(script, state, cause)| {
        let port = Port::new();
        let _server = port.serve("127.0.0.2", script);
        let run = port.check("--json --timeout=1.5 127.0.0.2").run();
        let (text, address) = ("127.0.0.2", "\"127.0.0.2\"");
        let expected = server(text, state, "\"greeting\"", cause, address, "T");
        let name = if *state == "up" { text } else { "" };
        says(&run, &[expected, answer(name)]);
    });
}

#[test]
fn a_connection_that_is_not_made() {
    let port = Port::new();
    let _full = port.full("127.0.0.4");
    let run = port.check("--json --timeout=2 127.0.0.3 127.0.0.4").run();
    let line = |text: &str, cause| {
        let address = format!("\"{text}\"");
        server(text, "down", "\"connect\"", cause, &address, "T")
    };
    says(
        &run,
        &[
            line("127.0.0.3", "connection refused"),
            line("127.0.0.4", "no connection within 2 s"),
            answer(""),
        ],
    );
    let times = times(&run);
    assert!(
        times[0] < Some(ms(1500)) && times[1] >= Some(ms(2000)),
        "{run}"
    );
}

#[test]
fn lookups_and_several_addresses() {
    namespace::run(|| {
        namespace::resolver_timeout(1);
        let _names = dns::serve(
            "mx.test A 192.0.2.250 192.0.2.240 192.0.2.200
             mx.test AAAA nodata
             down.test A 192.0.2.240 192.0.2.250 192.0.2.241
             down.test AAAA nodata
             refuses.test A 192.0.2.240 192.0.2.241
             refuses.test AAAA servfail
             hangs.test A silent
             hangs.test AAAA silent
             fails.test A servfail
             fails.test AAAA nodata
             four.test A 192.0.2.200
             four.test AAAA nodata
             slow.test A after 700 nxdomain
             slow.test AAAA nxdomain
             me.test A 192.0.2.200
             me.test AAAA nodata",
        );
        let port = Port::smtp();
        let _down = port.serve("192.0.2.250", DOWN);
        let _up = port.serve("192.0.2.200", UP);
        let greets_554 = "greeting 554 mx.test takes no mail";
        let (lookup, connect, greeting) = ("\"lookup\"", "\"connect\"", "\"greeting\"");
        let rows = [
            (
                "mx.test",
                "up",
                greeting,
                "greeting 220 mx.test ESMTP",
                "\"192.0.2.200\"",
            ),
            ("down.test", "down", greeting, greets_554, "\"192.0.2.250\""),
            (
                "refuses.test",
                "down",
                connect,
                "connection refused",
                "\"192.0.2.240\"",
            ),
            (
                "[2001:db8::e:1]",
                "down",
                connect,
                "unreachable",
                "\"[2001:db8::e:1]\"",
            ),
            ("gone.test", "down", lookup, "no such host", "null"),
            ("slow.test", "down", lookup, "no such host", "null"),
            (
                "fails.test",
                "down",
                lookup,
                "IPv4: name server failed; no IPv6 address",
                "null",
            ),
            (
                "--timeout=0.7 hangs.test",
                "down",
                lookup,
                "no answer from name server within 700 ms",
                "null",
            ),
            ("-6 four.test", "down", lookup, "no IPv6 address", "null"),
        ];
        each(&rows, |(words, state, stage, cause, address)| {
            let run = Check::words(&format!("--json --timeout=2.5 {words}")).run();
            let text = words.split(' ').next_back().unwrap();
            let name = if *state == "up" { text } else { "" };
            let expected = server(text, state, stage, cause, address, "T");
            says(&run, &[expected, answer(name)]);
            if text == "slow.test" {
                assert!(times(&run)[0] >= Some(ms(700)), "{run}");
            }
        });
        let rows = [
            ("-4 [::1]", "down", "no IPv4 address"),
            ("-6 192.0.2.200", "down", "no IPv6 address"),
            ("a;b", "down", "neither a host name nor an address"),
            ("fe80::1%none", "down", "no such interface"),
            ("--stop 192.0.2.200 me.test", "stop", "matches --stop"),
        ];
        each(&rows, |(words, state, cause)| {
            let run = Check::words(&format!("--json {words}")).run();
            let text = words.split(' ').next_back().unwrap();
            let expected = server(text, state, "null", cause, "null", "null");
            says(&run, &[expected, answer("")]);
        });
    });
}

/// In the order of the list, whatever the order of the results.
#[test]
fn every_server_has_one_line() {
    let port = Port::new();
    let _slow = port.serve("127.0.0.2", &down_after(ms(700)));
    let _up = port.serve("127.0.0.3", UP);
    let _silent = port.serve("127.0.0.4", SILENT);
    let words = "--json --stop 127.0.0.9 10:127.0.0.2 127.0.0.3 127.0.0.2 \
                 30:127.0.0.4 40:127.0.0.5 40:127.0.0.9 127.0.0.6 127.0.0.3";
    let run = port.check(words).run();
    let line = |priority: &str, text: &str, state, stage, cause: &str, address: &str, time| {
        let line = server(text, state, stage, cause, address, time);
        line.replacen("null", priority, 1)
    };
    let tried = |priority, text: &str, state, cause| {
        let address = format!("\"{text}\"");
        line(priority, text, state, "\"greeting\"", cause, &address, "T")
    };
    let skip = |priority, text, cause| line(priority, text, "skip", "null", cause, "null", "null");
    let takes_no_mail = "greeting 554 mx.test takes no mail";
    let after = "not asked: after the --stop host 127.0.0.9";
    says(
        &run,
        &[
            tried("10", "127.0.0.2", "down", takes_no_mail),
            tried("null", "127.0.0.3", "up", "greeting 220 mx.test ESMTP"),
            tried("null", "127.0.0.2", "down", takes_no_mail),
            skip("30", "127.0.0.4", "not waited for: the answer is 127.0.0.3"),
            skip(
                "40",
                "127.0.0.5",
                "not asked: same priority as the --stop host 127.0.0.9",
            ),
            line(
                "40",
                "127.0.0.9",
                "stop",
                "null",
                "matches --stop",
                "null",
                "null",
            ),
            skip("null", "127.0.0.6", after),
            skip(
                "null",
                "127.0.0.3",
                &after.replace("not asked", "up, but ignored"),
            )
            .replace("\"stage\":null", "\"stage\":\"greeting\"")
            .replace("\"address\":null", "\"address\":\"127.0.0.3\"")
            .replace("\"milliseconds\":null", "\"milliseconds\":T"),
            answer("127.0.0.3"),
        ],
    );
    assert!(times(&run)[0] >= Some(ms(700)), "{run}");
}

/// It was asked before its name was known to be this machine's.
#[test]
fn a_stop_host_that_is_up() {
    namespace::run(|| {
        let _names = dns::serve("me.test A after 1500 127.0.0.2\nme.test AAAA nodata");
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let run = Check::words("--json --stop me.test 127.0.0.2").run();
        let (text, address) = ("127.0.0.2", "\"127.0.0.2\"");
        let cause = "greeting 220 mx.test ESMTP";
        let expected = server(text, "stop", "\"greeting\"", cause, address, "T");
        says(&run, &[expected, answer("")]);
    });
}

#[test]
fn one_after_another() {
    let port = Port::new();
    let _down = port.serve("127.0.0.2", DOWN);
    let _up = port.serve("127.0.0.3", UP);
    let run = port
        .check("--json --jobs 1 127.0.0.2 127.0.0.3 127.0.0.4")
        .run();
    let tried = |text: &str, state, cause| {
        let address = format!("\"{text}\"");
        server(text, state, "\"greeting\"", cause, &address, "T")
    };
    let unasked = "not asked: the answer is 127.0.0.3";
    says(
        &run,
        &[
            tried("127.0.0.2", "down", "greeting 554 mx.test takes no mail"),
            tried("127.0.0.3", "up", "greeting 220 mx.test ESMTP"),
            server("127.0.0.4", "skip", "null", unasked, "null", "null"),
            answer("127.0.0.3"),
        ],
    );
}

/// The list of a domain, and what the last line says of it.
#[test]
fn domains() {
    namespace::run(|| {
        let _names = dns::serve(
            "a.test MX 10:mx.test 20:me.test
             mx.test A 127.0.0.2
             mx.test AAAA nodata
             me.test A 127.0.0.9
             me.test AAAA nodata
             null.test MX 0:.
             bare.test MX nodata
             bare.test A 127.0.0.3
             bare.test AAAA nodata
             fails.test MX servfail",
        );
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let check = |words: &str| Check::words(&format!("--json {words}")).run();
        let last = |answer: &str, domain: &str, cause: &str| {
            format!(r#"{{"answer":{answer},"domain":"{domain}","cause":{cause},"milliseconds":T}}"#)
        };
        let up = server(
            "mx.test",
            "up",
            "\"greeting\"",
            "greeting 220 mx.test ESMTP",
            "\"127.0.0.2\"",
            "T",
        );
        let stop = server("me.test", "stop", "null", "matches --stop", "null", "null");
        says(
            &check("--stop 127.0.0.9 --mx a.test"),
            &[
                up.replace("\"priority\":null", "\"priority\":10"),
                stop.replace("\"priority\":null", "\"priority\":20"),
                last("\"mx.test\"", "a.test", "null"),
            ],
        );
        let refused = server(
            "bare.test",
            "down",
            "\"connect\"",
            "connection refused",
            "\"127.0.0.3\"",
            "T",
        );
        says(
            &check("--mx bare.test"),
            &[
                refused.replace("\"priority\":null", "\"priority\":0"),
                last("null", "bare.test", "\"no MX record\""),
            ],
        );
        says(
            &check("--mx null.test"),
            &[last("null", "null.test", "\"accepts no mail (null MX)\"")],
        );
        says(
            &check("--mx Gone.test"),
            &[last("null", "Gone.test", "\"no such domain\"")],
        );
        // With status 2 there is nothing that could be taken for a result.
        check("--timeout=1 --mx fails.test").fails();
        check("--stop 127.0.0.1 --mx a.test")
            .fails_with("a.test: none of its mail servers is a --stop host");
    });
}

#[test]
fn what_is_remembered() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let path = std::env::temp_dir().join(format!("smtpdcheck-json-{}", std::process::id()));
    let words = format!(
        "--json --cache {} --cache-up-ttl=60 --max-defer=1 --key=k 127.0.0.2",
        path.display()
    );
    let check = || port.check(&words).run();
    let first = server(
        "127.0.0.2",
        "up",
        "\"greeting\"",
        "greeting 220 mx.test ESMTP",
        "\"127.0.0.2\"",
        "T",
    );
    says(&check(), &[first, answer("127.0.0.2")]);
    let second = lines(&check());
    let (age, waited) = loop {
        // Until the message has waited for a second.
        let run = check();
        if run.status == Some(0) {
            break (second, run);
        }
        assert_eq!(run.status, Some(1), "{run}");
    };
    fs::remove_file(&path).unwrap();
    let cause = |line: &str| {
        let (_, rest) = line.split_once("\"cause\":\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    if age.len() == 2 {
        let found = cause(&age[0]);
        assert!(
            found.starts_with("remembered: found up ") && found.ends_with(" s ago"),
            "{found}"
        );
        let expected = server("127.0.0.2", "up", "null", &found, "null", "null");
        let expected = expected.replace("\"remembered\":false", "\"remembered\":true");
        assert_eq!(age, [expected, answer("127.0.0.2")]);
    }
    let found = cause(&waited.stdout);
    assert!(
        found.starts_with("first deferred ") && found.ends_with(" s ago"),
        "{found}"
    );
    let expected = format!(r#"{{"answer":null,"domain":null,"cause":"{found}","milliseconds":T}}"#);
    says(&waited, &[expected]);
}

/// With `--verbose` the report is on standard error as without `--json`.
#[test]
fn with_verbose_there_are_both() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let run = port.check("-v --json 127.0.0.3 127.0.0.2").run();
    assert_eq!(run.stderr.lines().count(), 2, "{run}");
    assert!(
        run.stderr
            .contains("127.0.0.2  up    127.0.0.2: greeting 220"),
        "{run}"
    );
    assert_eq!((run.status, lines(&run).len()), (Some(1), 3), "{run}");
}

#[test]
fn what_cannot_be_written_is_an_error() {
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let run = Check::words("--json 10:.").stdout(full).run();
        run.fails_with("cannot write to standard output: no space left on device");
    }
    let run = Check::words("--json 10:.")
        .shell("exec \"$0\" \"$@\" >&-")
        .run();
    run.fails_with("cannot write to standard output: not open for writing");
}

/// Python's parser, which takes no other escapes and no bytes beyond ASCII
/// here, reads from each line what was given as an argument.
#[test]
fn any_bytes_make_json() {
    if !has("python3", "any_bytes_make_json") {
        return;
    }
    let all: Vec<u8> = (1..=255).collect();
    let texts: [&[u8]; 6] = [
        &all,
        b"\"",
        b"\\",
        b"\\u0041\\",
        b"\xff\xfe",
        "m\u{fc}\u{1f600}".as_bytes(),
    ];
    let arguments = texts.iter().map(|text| [b"7:", *text].concat());
    let arguments: Vec<_> = arguments.collect();
    let arguments = arguments.iter().map(|bytes| OsStr::from_bytes(bytes));
    let run = Check::words("--json --").arguments(arguments).run();
    assert_eq!(run.status, Some(0), "{run}");
    let script = "
import json, sys
for line in sys.stdin.buffer:
    found = json.loads(line.decode('ascii'))
    if 'text' in found:
        assert found['priority'] == 7 and found['remembered'] is False, found
        print(found['text'].encode('latin-1').hex())
    else:
        assert found['answer'] is None, found
        print('end')
";
    let mut python = command("python3");
    python
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(run.stdout.as_bytes())
        .unwrap();
    let ended = python.wait_with_output().unwrap();
    let hex = |text: &&[u8]| {
        text.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let expected: Vec<_> = texts.iter().map(hex).chain(["end".into()]).collect();
    let found = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{run}");
}
