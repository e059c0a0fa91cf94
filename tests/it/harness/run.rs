//! Running the program: one [`Check`] makes one [`Run`].

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How much longer than expected a run may take on a busy machine.
pub const SLACK: Duration = Duration::from_secs(4);

/// A run that takes longer is killed, and its test fails.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The program under test.
pub fn program() -> PathBuf {
    let path = env::var_os("SMTPDCHECK").unwrap_or_else(|| env!("CARGO_BIN_EXE_smtpdcheck").into());
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Whether the program has glibc in place of musl: the two do not take the same
/// answers from a name server.
pub fn has_glibc() -> bool {
    static HAS_GLIBC: OnceLock<bool> = OnceLock::new();
    *HAS_GLIBC.get_or_init(|| {
        let program = fs::read(program()).unwrap();
        let version = b"GLIBC_2.";
        program.windows(version.len()).any(|part| part == version)
    })
}

/// Bytes as the program escapes them: everything but printable ASCII in
/// hexadecimal.
pub fn escaped(bytes: &[u8]) -> String {
    let shown = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(shown).collect()
}

/// A run of the program that has not begun.
pub struct Check {
    wrapper: Vec<OsString>,
    program: PathBuf,
    arguments: Vec<OsString>,
    stdout: Stdio,
}

impl Check {
    pub fn new(arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        let check = Check {
            wrapper: Vec::new(),
            program: program(),
            arguments: Vec::new(),
            stdout: Stdio::piped(),
        };
        check.arguments(arguments)
    }

    /// Arguments separated by blanks.
    pub fn words(words: &str) -> Self {
        Self::new(words.split_whitespace())
    }

    /// Adds arguments, which may contain blanks and any other bytes.
    pub fn arguments(mut self, more: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        let more = more.into_iter();
        self.arguments
            .extend(more.map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds a word before the arguments.
    pub fn first(mut self, argument: &str) -> Self {
        self.arguments.insert(0, argument.into());
        self
    }

    /// Runs the program by means of another command, such as
    /// `prlimit --nofile=8`.
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

    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// Runs the program under strace, if that is installed. Standard error has
    /// a line for each system call, and nothing that the program writes there.
    #[track_caller]
    pub fn traced(self, test: &str) -> Option<Self> {
        let script = "exec strace -f -qq -o /dev/fd/3 \"$@\" 3>&2 2>/dev/null";
        has("strace", test).then(|| self.under(&["sh", "-c", script, "sh"]))
    }

    /// Lets strace tamper with system calls such as `open,openat`, for example
    /// by `error=EMFILE:when=1`; see [`has`].
    pub fn injecting(self, calls: &str, how: &str) -> Self {
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{how}"));
        let quiet = self.under(&["strace", "-f", "-qq", "-o", "/dev/null"]);
        quiet.under(&["-e", &trace, "-e", &inject])
    }

    /// Runs the program. In every case it must end by itself with one of its
    /// three statuses, and print nothing but printable characters.
    #[track_caller]
    pub fn run(self) -> Run {
        self.run_while(|_| {})
    }

    /// The same. While the program runs, `meanwhile` is called with its process
    /// number.
    #[track_caller]
    pub fn run_while(self, meanwhile: impl FnOnce(u32)) -> Run {
        let words = self.wrapper.into_iter().chain([self.program.into()]);
        let words: Vec<_> = words.chain(self.arguments).collect();
        let mut command = command(&words[0]);
        command.args(&words[1..]).stdout(self.stdout);
        let ended = finish_while(command, LIMIT, meanwhile);
        let run = Run {
            command: words,
            status: ended.status.code(),
            stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
            started: ended.started,
            ended: ended.ended,
        };
        assert!(matches!(run.status, Some(0..=2)), "{run}{}", ended.status);
        let printable = |b: &u8| (b' '..=b'~').contains(b) || *b == b'\n';
        let printed = [ended.stdout, ended.stderr].concat();
        assert!(printed.iter().all(printable), "{run}not printable");
        run
    }
}

/// The result of a run.
pub struct Run {
    command: Vec<OsString>,
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    started: Instant,
    pub ended: Instant,
}

impl Run {
    /// The answer is `name`, or, if that is empty, that no server is up.
    /// Standard error is empty.
    #[track_caller]
    pub fn prints(&self, name: &str) -> &Self {
        assert_eq!(self.stderr, "", "{self}");
        self.answers(name)
    }

    /// The same, with anything on standard error.
    #[track_caller]
    pub fn answers(&self, name: &str) -> &Self {
        let (status, stdout) = match name {
            "" => (0, String::new()),
            name => (1, format!("{name}\n")),
        };
        assert_eq!(self.stdout, stdout, "{self}");
        assert_eq!(self.status, Some(status), "{self}");
        self
    }

    /// Status 2, nothing on standard output, and one line on standard error.
    #[track_caller]
    pub fn fails(&self) -> &Self {
        let reason = self.stderr.strip_prefix("smtpdcheck: ");
        let line = reason.and_then(|reason| reason.strip_suffix('\n'));
        assert!(
            line.is_some_and(|line| !line.is_empty() && !line.contains('\n')),
            "{self}"
        );
        assert_eq!((self.status, &*self.stdout), (Some(2), ""), "{self}");
        self
    }

    /// The same, with this reason.
    #[track_caller]
    pub fn fails_with(&self, reason: &str) -> &Self {
        assert_eq!(self.stderr, format!("smtpdcheck: {reason}\n"), "{self}");
        self.fails()
    }

    pub fn elapsed(&self) -> Duration {
        self.ended - self.started
    }

    /// The run took this long, and not much longer: see [`SLACK`].
    #[track_caller]
    pub fn after(&self, least: Duration) -> &Self {
        let elapsed = self.elapsed();
        assert!(elapsed >= least, "{self}too soon, not after {least:?}");
        assert!(
            elapsed < least + SLACK,
            "{self}too late, not after {least:?}"
        );
        self
    }

    #[track_caller]
    pub fn at_once(&self) -> &Self {
        self.after(Duration::ZERO)
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n$")?;
        for word in &self.command {
            write!(f, " {}", escaped(word.as_encoded_bytes()))?;
        }
        write!(f, "\nstandard output: {:?}", self.stdout)?;
        write!(f, "\nstandard error: {:?}", self.stderr)?;
        write!(f, "\nstatus {:?} after {:?}\n", self.status, self.elapsed())
    }
}

/// The result of a command.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub started: Instant,
    pub ended: Instant,
}

/// Runs a command with nothing to read. If it takes longer than `limit`, it is
/// killed.
#[track_caller]
pub fn finish(command: Command, limit: Duration) -> Ended {
    finish_while(command, limit, |_| {})
}

/// A process that ends with the test at the latest.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn finish_while(mut command: Command, limit: Duration, meanwhile: impl FnOnce(u32)) -> Ended {
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut child = Process(child);
    let stdout = read(child.0.stdout.take());
    let stderr = read(child.0.stderr.take());
    meanwhile(child.0.id());
    // The standard library cannot wait with a limit.
    let mut status = child.0.try_wait().unwrap();
    while status.is_none() && started.elapsed() < limit {
        thread::sleep(ms(1));
        status = child.0.try_wait().unwrap();
    }
    let ended = Instant::now();
    drop(child);
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let Some(status) = status else {
        let printed = [stdout, stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        panic!("{command:?}: killed after {limit:?}, having printed:\n{printed}");
    };
    Ended {
        status,
        stdout,
        stderr,
        started,
        ended,
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).unwrap();
        }
        bytes
    })
}

/// Waits for something that will be true soon.
#[track_caller]
pub fn wait_until(condition: impl Fn() -> bool) {
    let until = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < until, "not after {LIMIT:?}");
        thread::sleep(ms(1));
    }
}

/// How many rows of tables run at a time in this process. A row needs about ten
/// descriptors, and at most 25, so that a limit of 1,024 is enough.
const ROWS: usize = 24;

/// How many more rows may run.
static PERMITS: (Mutex<usize>, Condvar) = (Mutex::new(ROWS), Condvar::new());

/// The permission to run one row.
struct Permit;

impl Permit {
    fn wait() -> Self {
        let (permits, returned) = &PERMITS;
        let permits = permits.lock().unwrap();
        *returned.wait_while(permits, |left| *left == 0).unwrap() -= 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (permits, returned) = &PERMITS;
        *permits.lock().unwrap() += 1;
        returned.notify_one();
    }
}

/// Tests all rows of a table, many at a time; a panic names the row. A row must
/// not call this again: it might wait for its own permit.
pub fn each<T: Sync>(rows: &[T], test: impl Fn(&T) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for (i, row) in rows.iter().enumerate() {
            let permit = Permit::wait();
            let run = move || {
                let _permit = permit;
                test(row);
            };
            let thread = thread::Builder::new().name(format!("row {i}"));
            thread.spawn_scoped(scope, run).unwrap();
        }
    });
}

/// Does something several times at the same time.
pub fn together(count: usize, test: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(&test);
        }
    });
}

/// Says that a test did not run.
pub fn cannot_run(test: &str, why: &str) {
    say(&format!("\n*** {test} DID NOT RUN: {why} ***\n"));
    assert!(
        env::var_os("CI").is_none(),
        "{test}: {why}; in CI no test may be left out"
    );
}

/// Writes to standard error itself: the test harness captures what `eprintln!`
/// writes, and shows nothing of a test that passes.
pub fn say(text: &str) {
    io::stderr().write_all(text.as_bytes()).unwrap();
}

/// Where commands are looked for. On Debian the last two directories are not in
/// an ordinary user's search path, but have `ip` and `chroot`.
fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::join_paths(env::split_paths(&path).chain(system)).unwrap()
}

/// The path of a command, if it is installed.
fn find(name: &OsStr) -> Option<PathBuf> {
    let folders = search_path();
    let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
    paths.find(|path| path.is_file())
}

/// A command in any of these directories, as may be those that it runs.
pub fn command(name: impl AsRef<OsStr>) -> Command {
    let name = name.as_ref();
    // Given a path, the standard library starts it without a fork.
    let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
    command.env("PATH", search_path());
    command
}

/// Whether all these commands are installed. If one is not, says that the test
/// did not run.
pub fn has_all(commands: &[&str], test: &str) -> bool {
    commands.iter().all(|command| has(command, test))
}

/// Whether a command is installed. If it is not, says that the test did not run.
pub fn has(command: &str, test: &str) -> bool {
    let found = find(command.as_ref()).is_some();
    if !found {
        cannot_run(test, &format!("{command} is not installed"));
    }
    found
}
