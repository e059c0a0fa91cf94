//! The last part of the demo: a conversation with the service for Postfix.
//!
//! The service asks DNS for the mail servers of a domain, and connects to port
//! 25 of them. So this part runs in another process, in a network and an `/etc`
//! of its own, where the demo's name server is the only one. An ordinary user
//! may make these where the system allows user namespaces.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::{names, serve};

/// The argument that starts this part of the demo in its own network.
pub const INSIDE: &str = "--inside";

/// Makes loopback work, and hides this machine's `/etc`.
const SET_UP: &str = "ip link set lo up && mount -t tmpfs tmpfs /etc";

/// The primary, as the zone of the name server has it.
const PRIMARY: &str = "127.0.0.2";

/// Runs this part of the demo in its own network, or says why it cannot.
pub fn show(program: &OsStr) -> Result<(), Box<dyn Error>> {
    let tried = private().args(["sh", "-c", SET_UP]).output();
    let reason = match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(reason) = reason {
        let reason = reason.lines().next().unwrap_or("unshare fails");
        let what = "# The service for Postfix cannot be shown here: it needs a private network";
        writeln!(io::stdout(), "{what} ({reason})")?;
        return Ok(());
    }
    let demo = env::current_exe()?;
    let status = private().arg(demo).arg(INSIDE).arg(program).status()?;
    match status.success() {
        true => Ok(()),
        false => Err("the service for Postfix could not be shown".into()),
    }
}

/// Runs a command in namespaces of its own.
fn private() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        command.arg("--map-root-user");
    }
    command.arg("--");
    command
}

/// The conversation, in its own network.
pub fn inside(program: &OsStr) -> Result<(), Box<dyn Error>> {
    let set_up = Command::new("sh").args(["-c", SET_UP]).status()?;
    if !set_up.success() {
        return Err("a private network cannot be made".into());
    }
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.1\n")?;
    names::serve()?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "The service for Postfix, in a private network, with a name server that has:\n\n\
         {}\n\
         This machine is mx2.example.org, the secondary for example.org. There Postfix runs\n\n\
         $ smtpdcheck --serve postfix --stop mx2.example.org\n\n\
         and asks about each recipient. > marks what it sends, < the answer.\n",
        names::ZONE
    )?;
    let mut service = Command::new(program)
        .args(["--serve", "postfix", "--stop", "mx2.example.org"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut postfix = Postfix {
        to: service.stdin.take().ok_or("no standard input")?,
        from: BufReader::new(service.stdout.take().ok_or("no standard output")?),
        out,
    };
    postfix.ask(
        "The primary is down: Postfix goes on, and accepts the message.",
        "you@example.org",
    )?;
    let primary = TcpListener::bind((PRIMARY, 25))?;
    serve(primary, b"220 mx1.example.org ESMTP\r\n");
    postfix.ask(
        "The primary is up again: Postfix defers the message.",
        "you@example.org",
    )?;
    postfix.ask(
        "It cannot tell: Postfix logs the reason, and accepts the message.",
        "you@example.net",
    )?;
    let Postfix { to, mut out, .. } = postfix;
    drop(to);
    let status = service.wait()?.code();
    let status = status.ok_or("smtpdcheck was killed")?;
    writeln!(
        out,
        "# Postfix closes the connection.\nexit status {status}"
    )?;
    Ok(())
}

/// What stands for Postfix.
struct Postfix<Out> {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    out: Out,
}

impl<Out: Write> Postfix<Out> {
    /// Asks about a recipient, and shows the question and the answer. There are
    /// more attributes in a request of Postfix's.
    fn ask(&mut self, title: &str, recipient: &str) -> io::Result<()> {
        let request = format!(
            "request=smtpd_access_policy\n\
             protocol_state=RCPT\n\
             sender=sender@client.example\n\
             recipient={recipient}\n\n"
        );
        writeln!(self.out, "# {title}")?;
        for line in request.lines() {
            writeln!(self.out, "{}", format!("> {line}").trim_end())?;
        }
        self.to.write_all(request.as_bytes())?;
        // An empty line ends an answer.
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line)?;
            writeln!(self.out, "{}", format!("< {line}").trim_end())?;
            if line.trim_end().is_empty() {
                return writeln!(self.out);
            }
        }
    }
}
