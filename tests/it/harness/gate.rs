//! The gate, `smtpdcheck --serve`, as a mail server runs it, and as Postfix asks
//! it. For OpenSMTPD, see [`filter`](super::filter).

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStderr, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::harness::namespace::sh;
use crate::harness::run::{LIMIT, Process, command, ms, program};

/// What the gate has as standard input, output and error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// One socket for all three, as under spawn(8).
    Spawn,
    /// One socket for input and output.
    Socket,
    /// The same, but each piece that is sent is read by itself.
    Packets,
    /// A socket for input, and another one for output.
    Two,
}

/// A gate that does not run yet.
pub struct Start {
    link: Link,
    wrapper: Vec<OsString>,
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Start {
    /// Arguments, separated by blanks, after `--serve postfix`.
    pub fn words(words: &str) -> Self {
        let words = words.split_whitespace();
        Self::bare("--serve postfix").arguments(words)
    }

    /// The same without `--serve postfix`.
    pub fn bare(words: &str) -> Self {
        let start = Start {
            link: Link::Spawn,
            wrapper: Vec::new(),
            program: program(),
            arguments: Vec::new(),
        };
        start.arguments(words.split_whitespace())
    }

    pub fn arguments(mut self, more: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        let more = more.into_iter();
        self.arguments
            .extend(more.map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Runs the program by means of another command, which must become it for
    /// [`Gate::process`] to be the gate.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper.extend(wrapper.iter().map(OsString::from));
        self
    }

    /// Runs the program from a shell script, in which `"$0" "$@"` is the
    /// program with its arguments.
    pub fn shell(self, script: &str) -> Self {
        self.under(&["sh", "-c", script])
    }

    /// Runs another copy of the program.
    pub fn copy(mut self, program: &str) -> Self {
        self.program = program.into();
        self
    }

    #[track_caller]
    pub fn start(self) -> Gate {
        let kind = match self.link {
            Link::Packets => Type::SEQPACKET,
            _ => Type::STREAM,
        };
        let pair = || Socket::pair(Domain::UNIX, kind, None).unwrap();
        let (ours, theirs) = pair();
        let (to, stdout, stdin) = match self.link {
            Link::Two => {
                let (to, stdin) = pair();
                (to, theirs, stdin)
            }
            _ => {
                let to = ours.try_clone().unwrap();
                (to, theirs.try_clone().unwrap(), theirs)
            }
        };
        let stderr = match self.link {
            Link::Spawn => stdio(stdout.try_clone().unwrap()),
            _ => Stdio::piped(),
        };
        let words = self.wrapper.into_iter().chain([self.program.into()]);
        let words: Vec<_> = words.chain(self.arguments).collect();
        let mut command = command(&words[0]);
        command.args(&words[1..]);
        command
            .stdin(stdio(stdin))
            .stdout(stdio(stdout))
            .stderr(stderr);
        let child = command.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().map(read_all);
        to.set_write_timeout(Some(LIMIT)).unwrap();
        Gate {
            process: Process(child),
            to: Some(to),
            from: Some(ours),
            come: Vec::new(),
            stderr,
        }
    }
}

fn stdio(socket: Socket) -> Stdio {
    OwnedFd::from(socket).into()
}

fn read_all(mut pipe: ChildStderr) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// A running gate. It ends with the test at the latest.
pub struct Gate {
    process: Process,
    /// Where questions go, and where answers come from.
    to: Option<Socket>,
    from: Option<Socket>,
    /// What has come and was not taken yet.
    come: Vec<u8>,
    stderr: Option<JoinHandle<String>>,
}

/// How a gate ended.
#[derive(PartialEq, Eq, Debug)]
pub struct End {
    /// What had come from it, besides the answers that were taken.
    pub rest: String,
    pub stderr: String,
    pub status: Option<i32>,
    pub signal: Option<i32>,
}

impl End {
    /// With status 0, and without another byte.
    pub fn quiet() -> Self {
        End {
            rest: String::new(),
            stderr: String::new(),
            status: Some(0),
            signal: None,
        }
    }
}

impl Gate {
    /// Sends bytes, in one piece.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        let mut to = self.to.as_ref().unwrap();
        to.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends them while answers are taken, without which the gate may not read
    /// so much.
    pub fn send_meanwhile(&self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut to = self.to.as_ref().unwrap().try_clone().unwrap();
        thread::spawn(move || to.write_all(&bytes).unwrap())
    }

    /// Sends them where the gate may have closed its end.
    pub fn send_if_open(&self, bytes: impl AsRef<[u8]>) {
        let mut to = self.to.as_ref().unwrap();
        let _ = to.write_all(bytes.as_ref());
    }

    /// The next bytes that come, up to these.
    #[track_caller]
    pub fn take(&mut self, last: &[u8]) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            let ends = self.come.windows(last.len()).position(|end| end == last);
            if let Some(start) = ends {
                let taken = self.come.drain(..start + last.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            assert!(self.read(until), "no answer: {:?}", self.come);
        }
    }

    /// The next answer, without the empty line at its end.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let answer = self.take(b"\n\n");
        let answer = answer.trim_end_matches('\n').to_owned();
        let is_line = answer.starts_with("action=") && !answer.contains('\n');
        assert!(is_line, "not an answer: {answer:?}");
        answer
    }

    /// Nothing has come but what was taken.
    #[track_caller]
    pub fn has_no_more(&self, behind: &str) {
        let come = String::from_utf8_lossy(&self.come);
        assert_eq!(come, "", "behind {behind:?}");
    }

    /// Asks and waits for the answer: then there is no other.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> String {
        self.send(request.bytes());
        self.only_answer()
    }

    /// The next answer, with which nothing else has come.
    #[track_caller]
    pub fn only_answer(&mut self) -> String {
        let answer = self.answer();
        self.has_no_more(&answer);
        answer
    }

    /// Reads what has come. Returns whether there is more to come.
    #[track_caller]
    fn read(&mut self, until: Instant) -> bool {
        let mut from = self.from.as_ref().unwrap();
        let left = until.saturating_duration_since(Instant::now());
        from.set_read_timeout(Some(left.max(ms(1)))).unwrap();
        let mut bytes = [0; 4096];
        match from.read(&mut bytes) {
            Ok(count) => {
                self.come.extend(&bytes[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => panic!("{error}; {:?}", String::from_utf8_lossy(&self.come)),
        }
    }

    /// Waits until something has come, which is still to be taken.
    #[track_caller]
    pub fn wait_for_bytes(&self) {
        let from = self.from.as_ref().unwrap();
        from.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(from.peek(&mut [MaybeUninit::uninit()]).unwrap(), 1);
    }

    /// Sends nothing more, but still takes answers.
    pub fn finish_sending(&mut self) {
        let to = self.to.take().unwrap();
        // Where both directions are one socket, there is another handle of it.
        to.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes its end, as a mail server that does not need the gate any more.
    pub fn hang_up(&mut self) {
        (self.to, self.from) = (None, None);
    }

    /// Takes no more answers, but still could send.
    pub fn stop_reading(&mut self) {
        self.from = None;
    }

    /// Waits for the gate to end.
    #[track_caller]
    pub fn end(mut self) -> End {
        let until = Instant::now() + LIMIT;
        while self.from.is_some() && self.read(until) {}
        let mut status = self.process.0.try_wait().unwrap();
        while status.is_none() {
            assert!(Instant::now() < until, "it does not end");
            thread::sleep(ms(1));
            status = self.process.0.try_wait().unwrap();
        }
        let status = status.unwrap();
        let stderr = self.stderr.take().map(|text| text.join().unwrap());
        End {
            rest: String::from_utf8_lossy(&self.come).into_owned(),
            stderr: stderr.unwrap_or_default(),
            status: status.code(),
            signal: status.signal(),
        }
    }

    pub fn process(&self) -> u32 {
        self.process.0.id()
    }

    /// Its children, with those that have ended and were not waited for.
    pub fn children(&self) -> Vec<u32> {
        children(self.process())
    }

    /// Waits until it has a child.
    #[track_caller]
    pub fn child(&self) -> u32 {
        let until = Instant::now() + LIMIT;
        loop {
            match self.children()[..] {
                [child] => return child,
                [] if Instant::now() < until => thread::sleep(ms(1)),
                ref others => panic!("children: {others:?}"),
            }
        }
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> Vec<String> {
        let folder = format!("/proc/{}/fd", self.process());
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Its address space, and how much of it is memory, in KiB.
    pub fn memory(&self) -> [u32; 2] {
        let size = number(&format!("/proc/{}/status", self.process()), "VmSize:");
        let memory = number(&format!("/proc/{}/smaps_rollup", self.process()), "Rss:");
        [size, memory]
    }

    pub fn belongings(&self) -> Belongings {
        (self.memory(), self.descriptors(), self.children())
    }
}

/// What a gate has: its memory, its descriptors and its children.
pub type Belongings = ([u32; 2], Vec<String>, Vec<u32>);

/// The number after a word at the beginning of a line of a file.
fn number(path: &str, word: &str) -> u32 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}

/// The children of a process of one thread, with those that have ended and were
/// not waited for.
pub fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap();
    let numbers = text.split_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// Whether a process is running: not if it has ended and was not waited for.
pub fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    !matches!(state, None | Some("Z" | "X"))
}

/// Sends a signal.
#[track_caller]
pub fn signal(name: &str, process: u32) {
    sh(&format!("kill -{name} {process}"));
}

/// A question about one recipient.
#[derive(Clone)]
pub struct Request(Vec<(String, String)>);

/// All attributes of Postfix 3.7 (SMTPD_POLICY_README), as a client has them
/// that is neither authenticated nor encrypted.
const ATTRIBUTES: &str = "\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=198.51.100.7
client_name=client.test
client_port=40000
reverse_client_name=client.test
server_address=127.0.0.9
server_port=25
helo_name=client.test
sender=sender@client.test
recipient=
recipient_count=0
queue_id=
instance=
size=1024
etrn_domain=
stress=
sasl_method=
sasl_username=
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=
encryption_cipher=
encryption_keysize=0
policy_context=
compatibility_level=3.6
mail_version=3.7.11
";

impl Request {
    /// About this recipient of a message of its own.
    pub fn to(recipient: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lines = ATTRIBUTES.lines();
        let pairs = lines.map(|line| line.split_once('=').unwrap());
        let request = Request(pairs.map(|(n, v)| (n.into(), v.into())).collect());
        let request = request.with("instance", &format!("1e7a.6564b2c1.{number:x}.0"));
        request.with("recipient", recipient)
    }

    /// With another value of an attribute.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let attribute = self.0.iter_mut().find(|(other, _)| other == name);
        attribute.unwrap().1 = value.into();
        self
    }

    /// Without an attribute.
    pub fn without(mut self, name: &str) -> Self {
        let before = self.0.len();
        self.0.retain(|(other, _)| other != name);
        assert_eq!(self.0.len(), before - 1, "{name}");
        self
    }

    /// With a line at this place.
    pub fn insert(mut self, place: usize, name: &str, value: &str) -> Self {
        self.0.insert(place, (name.into(), value.into()));
        self
    }

    /// With its lines in the opposite order.
    pub fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    /// How many lines it has, without the empty one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            writeln!(text, "{name}={value}").unwrap();
        }
        text + "\n"
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.text().into_bytes()
    }
}
