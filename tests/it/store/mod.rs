//! The cache: what is remembered, what that changes, and that the file is
//! never of any harm.
//!
//! Hardly anybody waits here for time to pass: instead the times in the file
//! are moved the other way. What takes the program long is ended by the test,
//! or by a short `--timeout`; a check that must not take long has 20 seconds.

mod clock;
mod defer;
mod effects;
mod files;
mod first;
mod machine;
mod remembered;
mod sharing;
mod up;
mod users;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, mem, thread};

use crate::harness::namespace::sh;
use crate::harness::run::{Check, LIMIT, Run, ms, program};
use crate::harness::smtp::{Port, down_after};

const MAGIC: &[u8; 16] = b"smtpdcheck 3\r\n\x1a\0";
/// The magic and the key.
const HEADER: usize = 32;
/// A tag and two times.
const SLOT: usize = 16;
/// Where the table of servers ends.
const END: usize = HEADER + 1024 * SLOT;
const SIZE: usize = 256 * 1024;
/// Set in every tag.
const SET: u64 = 1 << 63;
/// Set in the tag of a server that was found up.
const UP: u64 = 1 << 62;

/// A server that takes this long to prove down is remembered.
const SLOW: Duration = Duration::from_secs(1);
/// How long it is remembered where no option says so, in seconds.
const TTL: u32 = 60;

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u32::try_from(now.as_secs()).unwrap()
}

/// An entry of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u64,
    /// When the server was found down, or up.
    down: u32,
    /// Since when another process has been asking it again; 0: nobody has.
    asked: u32,
}

impl Entry {
    fn parse(slot: &[u8]) -> Self {
        let half = |at: usize| u32::from_le_bytes(slot[at..at + 4].try_into().unwrap());
        Entry {
            tag: u64::from_le_bytes(slot[..8].try_into().unwrap()),
            down: half(8),
            asked: half(12),
        }
    }

    fn bytes(self) -> [u8; SLOT] {
        let times = [self.down.to_le_bytes(), self.asked.to_le_bytes()];
        let bytes = [&self.tag.to_le_bytes()[..], &times[0], &times[1]].concat();
        bytes.try_into().unwrap()
    }

    /// Which slot it has.
    fn slot(self) -> u64 {
        self.tag % 1024
    }

    /// Whether it says that a server was found down within this test.
    fn is_new(self) -> bool {
        self.tag & UP == 0 && self.is_newly_found()
    }

    /// Whether it says that a server was found up within this test.
    fn is_newly_up(self) -> bool {
        self.tag & UP != 0 && self.is_newly_found()
    }

    fn is_newly_found(self) -> bool {
        self.tag & SET != 0 && is_recent(self.down) && self.asked == 0
    }

    /// Whether it has expired, and a process has claimed it within this test.
    fn is_claimed(self) -> bool {
        self.tag & SET != 0 && self.down + TTL <= now() && is_recent(self.asked)
    }
}

fn is_recent(time: u32) -> bool {
    now().checked_sub(time).is_some_and(|age| age < TTL)
}

/// A cache, to be made in a folder of its own, which is removed in the end.
struct Cache {
    folder: PathBuf,
}

impl Drop for Cache {
    fn drop(&mut self) {
        // In a namespace it is gone in any case.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Cache {
    /// In memory where that has a folder: the program waits for the disk when it
    /// makes the file, and on a busy machine that takes part of its timeout.
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self::in_folder(memory),
            false => Self::in_folder(&env::temp_dir()),
        }
    }

    fn in_folder(parent: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("smtpdcheck-cache-{}-{number}", process::id());
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        Cache { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// The name under which the file is made.
    fn new_path(&self) -> PathBuf {
        self.folder.join("cache.new")
    }

    fn option(&self) -> String {
        format!("--cache={}", self.path().display())
    }

    fn check(&self, port: &Port, words: &str) -> Check {
        port.check(words).first(&self.option())
    }

    /// The names of the files in the folder.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// The bytes of the file, which is a valid one.
    #[track_caller]
    fn bytes(&self) -> Vec<u8> {
        let bytes = fs::read(self.path()).unwrap();
        assert!(is_valid(&bytes), "{} bytes: {bytes:?}", bytes.len());
        bytes
    }

    #[track_caller]
    fn entries(&self) -> Vec<Entry> {
        let bytes = self.bytes();
        let slots = bytes[HEADER..END].chunks_exact(SLOT).map(Entry::parse);
        slots.filter(|entry| entry.bytes() != [0; SLOT]).collect()
    }

    #[track_caller]
    fn only_entry(&self) -> Entry {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0]
    }

    /// Writes into the file as it is, without making it anew.
    fn write(&self, bytes: &[u8], at: usize) {
        let file = OpenOptions::new().write(true).open(self.path()).unwrap();
        file.write_all_at(bytes, at as u64).unwrap();
    }

    /// Changes all entries.
    #[track_caller]
    fn change(&self, change: impl Fn(&mut Entry)) {
        let mut bytes = self.bytes();
        for slot in bytes[HEADER..END].chunks_exact_mut(SLOT) {
            if slot != [0; SLOT] {
                let mut entry = Entry::parse(slot);
                change(&mut entry);
                slot.copy_from_slice(&entry.bytes());
            }
        }
        self.write(&bytes, 0);
    }

    /// Lets all entries be so many seconds old, and not claimed.
    #[track_caller]
    fn age(&self, seconds: u32) {
        let down = now() - seconds;
        self.change(|entry| (entry.down, entry.asked) = (down, 0));
    }

    /// Lets it be so many seconds ago that all entries were claimed.
    #[track_caller]
    fn claim(&self, seconds: u32) {
        let asked = now() - seconds;
        self.change(|entry| entry.asked = asked);
    }

    /// Where the only entry is in the file.
    #[track_caller]
    fn offset(&self) -> usize {
        HEADER + SLOT * usize::try_from(self.only_entry().slot()).unwrap()
    }

    /// Locks the only entry, as a process does that has claimed it, until the
    /// returned file is closed.
    #[track_caller]
    fn lock(&self) -> File {
        lock(&self.path(), self.offset(), SLOT)
    }

    /// Has servers remembered that are not there any more afterwards.
    #[track_caller]
    fn remember(&self, port: &Port, servers: &str) {
        let addresses = servers.replace("localhost", "127.0.0.1");
        let slow = addresses.split_whitespace();
        let slow = slow.map(|server| port.serve(server, &down_after(SLOW)));
        let slow: Vec<_> = slow.collect();
        let words = format!("--timeout=20 {servers}");
        self.check(port, &words).run().prints("").after(SLOW);
        drop(slow);
        // A process that is just being started has them open a moment longer.
        for address in addresses.split_whitespace() {
            while TcpStream::connect((address, port.number)).is_ok() {}
        }
    }
}

/// Locks some bytes of a file, as another process would, for as long as the
/// returned file is open.
#[track_caller]
fn lock(path: &Path, start: usize, length: usize) -> File {
    try_lock(path, start, length).expect("a lock that nobody has")
}

/// The same; an error if another process has a lock there.
#[allow(
    unsafe_code,
    reason = "the standard library has no locks on parts of a file"
)]
fn try_lock(path: &Path, start: usize, length: usize) -> io::Result<File> {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    // SAFETY: all zeros is a valid `flock`.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = libc::F_WRLCK.try_into().unwrap();
    lock.l_whence = libc::SEEK_SET.try_into().unwrap();
    lock.l_start = start.try_into().unwrap();
    lock.l_len = length.try_into().unwrap();
    // SAFETY: the pointer is to a `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    match result {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs a check that takes less than a second: once more where this machine
/// was too busy for that.
#[track_caller]
fn quick(check: impl FnMut() -> Run) -> Run {
    let mut runs = std::iter::repeat_with(check).take(10);
    let run = runs.find(|run| run.elapsed() < SLOW);
    run.expect("a machine that is less busy")
}

/// Stops a process, or lets it go on.
#[track_caller]
fn signal(name: &str, process: u32) {
    sh(&format!("kill -{name} {process}"));
}

/// Ends servers: after that connections are refused.
fn close(servers: Vec<TcpListener>) {
    let addresses: Vec<_> = servers.iter().map(|s| s.local_addr().unwrap()).collect();
    drop(servers);
    // A process that is just being started has them open a moment longer.
    for address in addresses {
        while TcpStream::connect(address).is_ok() {}
    }
}

fn is_valid(bytes: &[u8]) -> bool {
    bytes.len() == SIZE && bytes.starts_with(MAGIC)
}

/// A valid cache without entries.
fn good() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..HEADER].copy_from_slice(b"0123456789abcdef");
    bytes
}

/// What the cache had of a server, as `--verbose` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Memory {
    /// Nothing that counted: the server was asked.
    None,
    /// It was remembered as down, from so many seconds ago.
    Down(u32),
    /// It was remembered as up, from so many seconds ago.
    Up(u32),
    /// Another process has been asking it again for so many seconds.
    Asked(u32),
}

/// What the only line of `--verbose` says of the cache.
#[track_caller]
fn memory(run: &Run) -> Memory {
    let line = ["  down  ", "  up    "].map(|state| run.stderr.split_once(state));
    let [line, _] = if line[0].is_some() {
        line
    } else {
        [line[1], None]
    };
    let (_, why) = line.expect("a verbose line");
    let seconds = |before: &str, after: &str| {
        let number = why.strip_prefix(before)?.strip_suffix(after)?;
        number.parse().ok()
    };
    if let Some(age) = seconds("remembered: found down ", " s ago\n") {
        return Memory::Down(age);
    }
    if let Some(age) = seconds("remembered: found up ", " s ago\n") {
        return Memory::Up(age);
    }
    if let Some(age) = seconds(
        "remembered; another process has been asking again for ",
        " s\n",
    ) {
        return Memory::Asked(age);
    }
    assert!(!why.contains("remembered"), "{run}");
    Memory::None
}

/// How many clients wait for a server that does not accept them.
fn waiting(server: &TcpListener) -> usize {
    server.set_nonblocking(true).unwrap();
    let clients = std::iter::from_fn(|| match server.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        client => Some(client.unwrap()),
    });
    let count = clients.count();
    server.set_nonblocking(false).unwrap();
    count
}

/// Processes that run at the same time; they are killed in the end.
struct Crowd {
    children: Vec<Child>,
    /// What all of them print.
    output: File,
}

impl Crowd {
    fn new(cache: &Cache, port: &Port, words: &str, count: usize) -> Self {
        let path = cache.folder.with_extension("output");
        let mut options = OpenOptions::new();
        let options = options.create_new(true).read(true).append(true);
        let output = options.open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut command = Command::new(program());
        command
            .arg(cache.option())
            .arg(format!("--port={}", port.number))
            .args(words.split_whitespace())
            .stdin(Stdio::null());
        let children = (0..count).map(|_| {
            let output = || output.try_clone().unwrap();
            command.stdout(output()).stderr(output());
            command.spawn().unwrap()
        });
        let children = children.collect();
        Crowd { children, output }
    }

    /// Waits until no more than so many are left, all others having found no
    /// server up; `meanwhile` is told the numbers of those that still run.
    #[track_caller]
    fn wait(&mut self, left: usize, mut meanwhile: impl FnMut(u32)) {
        let until = Instant::now() + LIMIT;
        while self.children.len() > left {
            assert!(Instant::now() < until, "{} left", self.children.len());
            self.children.retain_mut(|child| {
                let status = child.try_wait().unwrap();
                assert!(status.is_none_or(|status| status.success()), "{status:?}");
                meanwhile(child.id());
                status.is_none()
            });
            thread::sleep(ms(2));
        }
    }

    /// Waits until all have ended, having found no server up and said nothing.
    #[track_caller]
    fn finish(mut self, meanwhile: impl FnMut(u32)) {
        self.wait(0, meanwhile);
        let mut output = String::new();
        self.output.rewind().unwrap();
        self.output.read_to_string(&mut output).unwrap();
        assert_eq!(output, "");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Numbers that look random; the same ones each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
