//! Standard descriptors that are closed or cannot be written.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{self, Stdio};
use std::{env, thread};

use crate::harness::run::{LIMIT, command, each, has, ms};
use crate::harness::smtp::{Connection, DOWN, Port, Server, UP, up_after};

/// Every set of closed standard descriptors, in the words of a shell.
const CLOSED: [&str; 8] = [
    "",
    "<&-",
    ">&-",
    "<&- >&-",
    "2>&-",
    "<&- 2>&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
];

/// No server has received anything but QUIT: not the program's output, whatever
/// descriptor the connection had.
fn only_quit(servers: Vec<Server>) {
    let connections: Vec<Connection> = servers.into_iter().flat_map(Server::finish).collect();
    assert!(!connections.is_empty());
    for connection in connections {
        assert_eq!(connection.early, b"", "{connection:?}");
        assert!(
            [&b""[..], b"QUIT\r\n"].contains(&&*connection.received),
            "{connection:?}"
        );
    }
}

/// Checks servers that are up and down with each set of descriptors closed.
/// `program` are the words of a shell that run the program.
pub fn with_closed_descriptors(port: &Port, program: &str) {
    let rows: Vec<_> = ["", "-v "]
        .into_iter()
        .flat_map(|option| CLOSED.map(|closed| (option, closed)))
        .collect();
    let up = port.serve("127.0.0.2", &up_after(ms(100)));
    let down = port.serve("127.0.0.3", DOWN);
    each(&rows, |(option, closed)| {
        let script = format!("exec {program} \"$@\" {closed}");
        let run = |words: &str| port.check(&format!("{option}{words}")).shell(&script).run();

        let live = run("127.0.0.3 127.0.0.2");
        let verbose = !option.is_empty();
        let stdout = !closed.split(' ').any(|redirection| redirection == ">&-");
        let stderr = !closed.contains("2>&-");
        if stdout {
            live.answers("127.0.0.2");
        } else {
            assert_eq!(live.status, Some(2), "{live}");
        }
        if !verbose && stderr && !stdout {
            live.fails_with("cannot write to standard output: not open for writing");
        }
        assert_eq!(
            live.stderr.contains("greeting"),
            stderr && verbose,
            "{live}"
        );

        run("127.0.0.3").answers("");
    });
    only_quit(vec![up, down]);
}

#[test]
fn closed_descriptors() {
    with_closed_descriptors(&Port::new(), "\"$0\"");
}

/// An answer that cannot be written is an error. Where there is nothing to write
/// it does not matter.
#[test]
fn standard_output_that_cannot_be_written() {
    let port = Port::new();
    let servers = vec![port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let full = || Stdio::from(fs::File::create("/dev/full").unwrap());
    let unread = || {
        let reader = command("true").stdin(Stdio::piped()).spawn();
        let mut reader = reader.unwrap();
        let mut pipe = reader.stdin.take().unwrap();
        reader.wait().unwrap();
        // A process that is being started may hold the other end a moment longer.
        while pipe.write(&[0]).is_ok() {}
        Stdio::from(pipe)
    };
    let read_only = || Stdio::from(fs::File::open("/dev/null").unwrap());
    let rows: [(&dyn Fn() -> Stdio, &str); 3] = [
        (&full, "no space left on device"),
        (&unread, "broken pipe"),
        (&read_only, "not open for writing"),
    ];
    for (stdout, why) in rows {
        let check = |words: &str| port.check(words).stdout(stdout()).run();
        let reason = format!("cannot write to standard output: {why}");
        check("127.0.0.2").fails_with(&reason).at_once();
        check("127.0.0.3 127.0.0.2").fails_with(&reason);
        check("127.0.0.3").prints("");
        check("--help").fails_with(&reason);
        check("--version").fails_with(&reason);
    }
    only_quit(servers);
}

/// Another process has made the shared standard output nonblocking, and it is
/// full for a moment: the answer is written all the same.
#[test]
fn nonblocking_standard_output() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[0; 512]).is_ok() {}
    while writer.write(&[0]).is_ok() {}
    let check = port.check("127.0.0.2").stdout(OwnedFd::from(writer));
    let mut written = Vec::new();
    let run = check.run_while(|_| {
        // Time for a wrong program to fail.
        thread::sleep(ms(300));
        reader.set_read_timeout(Some(LIMIT)).unwrap();
        while !written.ends_with(b"\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            written.extend(byte);
        }
    });
    assert_eq!((run.status, &*run.stderr), (Some(1), ""), "{run}");
    assert!(written.ends_with(b"\x00127.0.0.2\n"));
}

/// The answer is the same.
#[test]
fn standard_error_that_cannot_be_written() {
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    for option in ["", "-v"] {
        let words = format!("{option} 127.0.0.3 127.0.0.2");
        let check = port.check(&words).shell("exec \"$0\" \"$@\" 2>/dev/full");
        check.run().prints("127.0.0.2");
        let check = port
            .check("--bogus")
            .shell("exec \"$0\" \"$@\" 2>/dev/full");
        assert_eq!(check.run().status, Some(2));
    }
}

/// An empty file that is deleted already.
fn file() -> File {
    let path = env::temp_dir().join(format!("smtpdcheck-output-{}", process::id()));
    let mut options = OpenOptions::new();
    let options = options.create_new(true).read(true).write(true);
    let file = options.open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file
}

/// A write past the largest file size sends a signal, SIGXFSZ, that must not
/// kill the program.
#[test]
fn files_that_may_not_grow() {
    if !has("prlimit", "files_that_may_not_grow") {
        return;
    }
    let port = Port::new();
    let _servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
    let check = |words: &str| port.check(words).under(&["prlimit", "--fsize=0"]);
    let mut output = file();
    for words in ["127.0.0.2", "127.0.0.3 127.0.0.2", "--help", "--version"] {
        let run = check(words).stdout(output.try_clone().unwrap()).run();
        let reason = "cannot write to standard output: file too large";
        run.fails_with(reason).at_once();
    }
    let run = check("127.0.0.3").stdout(output.try_clone().unwrap()).run();
    run.prints("");
    assert_eq!(output.seek(SeekFrom::End(0)).unwrap(), 0);

    // Standard error does not matter.
    let path = env::temp_dir().join(format!("smtpdcheck-error-{}", process::id()));
    let script = format!("exec \"$0\" \"$@\" 2>{}", path.display());
    let rows = [("127.0.0.3 127.0.0.2", "127.0.0.2"), ("127.0.0.3", "")];
    for (words, answer) in rows {
        let check = check(words).first("-v").shell(&script);
        check.run().prints(answer).at_once();
    }
    assert_eq!(check("--bogus").shell(&script).run().status, Some(2));
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::remove_file(&path).unwrap();
}
