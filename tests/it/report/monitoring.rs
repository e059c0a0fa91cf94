//! The scripts of `examples/monitoring`, the very files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::{env, process};

use crate::harness::run::{Ended, LIMIT, command, each, finish, program};
use crate::harness::smtp::{DOWN, Port, SILENT, Send, Step, UP};
use crate::harness::{dns, namespace};

/// A directory of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("smtpdcheck-monitoring-{test}-{}", process::id());
        let folder = Folder(env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap();
        // On Debian, awk is a link to one in /etc, which a namespace hides.
        let known = ["mawk", "gawk"].map(|name| Path::new("/usr/bin").join(name));
        if let Some(awk) = known.iter().find(|path| path.exists()) {
            symlink(awk, folder.0.join("awk")).unwrap();
        }
        folder
    }

    /// A script of `examples/monitoring` that runs the program under test.
    fn script(&self, name: &str) -> PathBuf {
        let path = format!("{}/examples/monitoring/{name}", env!("CARGO_MANIFEST_DIR"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{path} cannot be run");
        let text = fs::read_to_string(&path).unwrap();
        let installed = "/usr/local/bin/smtpdcheck";
        assert_eq!(text.matches(installed).count(), 1, "{path}");
        let script = self.0.join(name);
        let program = program().into_os_string().into_string().unwrap();
        fs::write(&script, text.replace(installed, &format!("'{program}'"))).unwrap();
        script
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Runs a script. Each argument may be any bytes.
fn run(script: &Path, arguments: &[&[u8]]) -> Ended {
    let mut command = command("sh");
    let folder = script.parent().unwrap().display();
    command.env("PATH", format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command.arg(script).stdout(process::Stdio::piped());
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    finish(command, LIMIT)
}

fn words(text: &str) -> Vec<&[u8]> {
    text.split(' ').map(str::as_bytes).collect()
}

/// What a check printed, with T for each number after `=`, and its status.
fn result(ended: Ended) -> (String, Option<i32>) {
    assert_eq!(ended.stderr, b"");
    let output = String::from_utf8(ended.stdout).unwrap();
    let mut parts = output.split("'=");
    let first = parts.next().unwrap().to_owned();
    let rest = parts.map(|part| match part.split_once("ms;") {
        Some((time, rest)) if time.parse::<u32>().is_ok() => format!("'=Tms;{rest}"),
        _ => format!("'={part}"),
    });
    (
        [first].into_iter().chain(rest).collect(),
        ended.status.code(),
    )
}

#[test]
fn the_check_has_four_results() {
    let folder = Folder::new("check");
    let script = folder.script("check_smtpdcheck");
    let port = Port::new();
    let _down = port.serve("127.0.0.2", DOWN);
    let _up = port.serve("127.0.0.3", UP);
    let rows = [
        (
            "--stop 127.0.0.9 10:127.0.0.3 20:127.0.0.9 30:127.0.0.2",
            0,
            "SMTP OK - 127.0.0.3 is up | '127.0.0.3'=Tms;;;0\n\
             127.0.0.3 up: greeting 220 mx.test ESMTP\n\
             127.0.0.9 stop: matches --stop\n\
             127.0.0.2 skip: not asked: after the --stop host 127.0.0.9\n",
        ),
        (
            "--jobs 1 10:127.0.0.2 10:127.0.0.4 20:127.0.0.3 20:127.0.0.5 20:127.0.0.2",
            1,
            "SMTP WARNING - 127.0.0.3 is up, but not 127.0.0.2, 127.0.0.4 | \
             '127.0.0.2'=Tms;;;0 '127.0.0.4'=Tms;;;0 '127.0.0.3'=Tms;;;0\n\
             127.0.0.2 down: greeting 554 mx.test takes no mail\n\
             127.0.0.4 down: connection refused\n\
             127.0.0.3 up: greeting 220 mx.test ESMTP\n\
             127.0.0.5 skip: not asked: the answer is 127.0.0.3\n\
             127.0.0.2 down: greeting 554 mx.test takes no mail\n",
        ),
        (
            "127.0.0.2 10:.",
            2,
            "SMTP CRITICAL - no server is up | '127.0.0.2'=Tms;;;0\n\
             127.0.0.2 down: greeting 554 mx.test takes no mail\n\
             . down: neither a host name nor an address\n",
        ),
        (
            "--source 192.0.2.1 127.0.0.2",
            3,
            "SMTP UNKNOWN - smtpdcheck: --source '192.0.2.1': not an address of this machine\n",
        ),
        (
            "--nonsense",
            3,
            "SMTP UNKNOWN - smtpdcheck: unknown option '--nonsense'; see --help\n",
        ),
        (
            "--cache /nonexistent/cache 127.0.0.3",
            0,
            "SMTP OK - 127.0.0.3 is up | '127.0.0.3'=Tms;;;0\n\
             127.0.0.3 up: greeting 220 mx.test ESMTP\n\
             smtpdcheck: warning: cache '/nonexistent/cache': no such directory\n",
        ),
    ];
    let number = port.number.to_string();
    each(&rows, |(arguments, status, output)| {
        let mut all = words("--port");
        all.push(number.as_bytes());
        all.extend(words(arguments));
        let found = result(run(&script, &all));
        assert_eq!(found, (output.to_string(), Some(*status)));
    });
}

/// A bar would begin performance data, and a line break a line.
#[test]
fn strangers_cannot_add_performance_data() {
    let folder = Folder::new("strangers");
    let script = folder.script("check_smtpdcheck");
    let port = Port::new();
    let greeting: &[Step] = &[Send(b"554 no | 'a'=1\\ \"quoted\" \x1b\r\n")];
    let _down = port.serve("127.0.0.2", greeting);
    let number = port.number.to_string();
    let (output, status) = result(run(
        &script,
        &[
            b"--port",
            number.as_bytes(),
            b"127.0.0.2",
            b"a|b\"\\\n\xffc,}",
        ],
    ));
    let expected = "SMTP CRITICAL - no server is up | '127.0.0.2'=Tms;;;0\n\
                    127.0.0.2 down: greeting 554 no / 'a'=1/ \"quoted\" /x1b\n\
                    a/b\"/??c,} down: neither a host name nor an address\n";
    let expected = expected.to_owned()
        + "smtpdcheck: warning: 'a/b\"\\\\x0a\\xffc,}' contains white space and counts as down; \
           pass each server as a separate argument\n";
    assert_eq!((output, status), (expected, Some(2)));
}

#[test]
fn a_domain() {
    namespace::run(|| {
        let _names = dns::serve(
            "example.org MX 10:mx1.example.org 20:mx2.example.org
             mx1.example.org A 127.0.0.2
             mx1.example.org AAAA nodata
             mx2.example.org A 127.0.0.9
             mx2.example.org AAAA nodata
             fails.example AAAA nodata",
        );
        let _up = Port::smtp().serve("127.0.0.2", UP);
        let folder = Folder::new("domain");
        let script = folder.script("check_smtpdcheck");
        let check = |arguments: &str| result(run(&script, &words(arguments)));
        let (output, status) = check("--mx example.org --stop mx2.example.org");
        assert_eq!(
            output,
            "SMTP OK - mx1.example.org is up | 'mx1.example.org'=Tms;;;0\n\
             mx1.example.org up: greeting 220 mx.test ESMTP\n\
             mx2.example.org stop: matches --stop\n"
        );
        assert_eq!(status, Some(0));
        let (output, status) = check("--mx gone.example");
        assert_eq!(output, "SMTP CRITICAL - no server is up: no such domain\n");
        assert_eq!(status, Some(2));

        let script = folder.script("smtpdcheck-textfile");
        let file = folder.0.join("example.prom");
        let path = file.as_os_str().as_bytes();
        for arguments in ["--mx example.org", "--mx=example.org -4"] {
            let arguments: Vec<_> = [path].into_iter().chain(words(arguments)).collect();
            let ended = run(&script, &arguments);
            assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
            let labels = "{domain=\"example.org\",server=\"mx1.example.org\",priority=\"10\"}";
            let up = "# HELP smtpdcheck_server_up Whether the mail server is up.\n\
                      # TYPE smtpdcheck_server_up gauge\nsmtpdcheck_server_up";
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(&format!("{up}{labels} 1\n")), "{text}");
            assert!(
                text.contains("\nsmtpdcheck_status{domain=\"example.org\"} 1\n"),
                "{text}"
            );
        }
    });
}

/// The metrics, with T for every time.
fn metrics(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(
        |line| match line.strip_prefix("smtpdcheck_server_seconds") {
            Some(rest) => {
                let (labels, time) = rest.rsplit_once(' ').unwrap();
                assert!(time.parse::<f64>().is_ok_and(|time| time < 30.0), "{text}");
                format!("smtpdcheck_server_seconds{labels} T\n")
            }
            None => format!("{line}\n"),
        },
    );
    lines.collect()
}

const STATUS: &str = "\
# HELP smtpdcheck_status Exit status: 0 no server is up, 1 a server is up, 2 cannot tell.
# TYPE smtpdcheck_status gauge
";

#[test]
fn metrics_take_the_place_of_the_old_ones_at_once() {
    let folder = Folder::new("textfile");
    let script = folder.script("smtpdcheck-textfile");
    let metrics_folder = folder.0.join("metrics");
    fs::create_dir(&metrics_folder).unwrap();
    let file = metrics_folder.join("mail.prom");
    let port = Port::new();
    let _down = port.serve("127.0.0.2", DOWN);
    let _up = port.serve("127.0.0.3", UP);
    let _not_waited_for = port.serve("127.0.0.4", SILENT);
    let number = port.number.to_string();
    let write = |arguments: &[&[u8]]| {
        let first = [file.as_os_str().as_bytes(), b"--port", number.as_bytes()];
        run(&script, &[&first[..], arguments].concat())
    };

    fs::write(&file, "old\n").unwrap();
    let (mut old, inode) = (
        File::open(&file).unwrap(),
        fs::metadata(&file).unwrap().ino(),
    );
    // One server twice, and texts that name no host.
    let ended = write(&[
        b"10:127.0.0.2",
        b"10:127.0.0.2",
        b"a\"\\b\n",
        b"\xff",
        b"20:127.0.0.3",
        b"127.0.0.4",
    ]);
    assert_eq!(ended.status.code(), Some(0));
    let labels = |server: &str, priority: &str| {
        format!("{{domain=\"\",server=\"{server}\",priority=\"{priority}\"}}")
    };
    let (down, up) = (labels("127.0.0.2", "10"), labels("127.0.0.3", "20"));
    let (quoted, byte) = (labels("a\\\"\\\\b?", ""), labels("?", ""));
    let expected = format!(
        "{STATUS}smtpdcheck_status{{domain=\"\"}} 1\n\
         # HELP smtpdcheck_server_up Whether the mail server is up.\n\
         # TYPE smtpdcheck_server_up gauge\n\
         smtpdcheck_server_up{down} 0\n\
         smtpdcheck_server_up{quoted} 0\n\
         smtpdcheck_server_up{byte} 0\n\
         smtpdcheck_server_up{up} 1\n\
         # HELP smtpdcheck_server_seconds How long it took to find out whether the mail server is up.\n\
         # TYPE smtpdcheck_server_seconds gauge\n\
         smtpdcheck_server_seconds{down} T\n\
         smtpdcheck_server_seconds{up} T\n"
    );
    assert_eq!(metrics(&file), expected);
    // Whoever was reading the old file still reads all of it.
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old\n");
    assert_ne!(fs::metadata(&file).unwrap().ino(), inode);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    // What cannot be told is a metric, too, and a message.
    let ended = write(&[b"--source=192.0.2.1", b"127.0.0.3"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.starts_with(b"smtpdcheck: --source "));
    let expected = format!("{STATUS}smtpdcheck_status{{domain=\"\"}} 2\n");
    assert_eq!(metrics(&file), expected);
    // There is nothing else, such as a file that was not renamed.
    assert_eq!(fs::read_dir(&metrics_folder).unwrap().count(), 1);

    let missing = folder.0.join("missing/mail.prom");
    let ended = run(&script, &[missing.as_os_str().as_bytes(), b"10:."]);
    assert!(!ended.status.success() && !ended.stderr.is_empty());
    let ended = run(&script, &[]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.starts_with(b"usage: "));
}
