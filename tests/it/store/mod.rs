//! The cache: what is remembered, what that changes, and that the file is
//! never of any harm.
//!
//! Nobody waits here for time to pass: instead the times in the file are moved
//! the other way. What takes the program long is given an end by the test, or
//! by a short `--timeout`; a check that must not take long has 20 seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use crate::harness::namespace::{self, FOLDER, sh};
use crate::harness::run::{
    Check, LIMIT, Run, cannot_run, each, has, ms, program, together, wait_until,
};
use crate::harness::smtp::{
    Close, DOWN, Port, Reset, SILENT, Send, Step, UP, down_after, up_after,
};
use crate::harness::{dns, smtp};

const MAGIC: &[u8; 16] = b"smtpdcheck 1\r\n\x1a\0";
/// The magic and the key.
const HEADER: usize = 32;
/// A tag and a time.
const SLOT: usize = 8;
const SIZE: usize = 8224;
/// Set in the tag of an entry that a process has taken over.
const TAKEN: u32 = 1 << 31;

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u32::try_from(now.as_secs()).unwrap()
}

/// An entry of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u32,
    time: u32,
}

impl Entry {
    fn parse(slot: &[u8]) -> Self {
        Entry {
            tag: u32::from_le_bytes(slot[..4].try_into().unwrap()),
            time: u32::from_le_bytes(slot[4..].try_into().unwrap()),
        }
    }

    fn is_taken(self) -> bool {
        self.tag & TAKEN != 0
    }

    /// Whether it says that a server was found down within this test.
    fn is_new(self) -> bool {
        !self.is_taken() && self.time <= now() && now() - self.time < 60
    }
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
    fn new() -> Self {
        Self::in_folder(&env::temp_dir())
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
        let slots = bytes[HEADER..].chunks_exact(SLOT).map(Entry::parse);
        let empty = Entry { tag: 0, time: 0 };
        slots.filter(|entry| *entry != empty).collect()
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
        for slot in bytes[HEADER..].chunks_exact_mut(SLOT) {
            if slot != [0; SLOT] {
                let mut entry = Entry::parse(slot);
                change(&mut entry);
                slot[..4].copy_from_slice(&entry.tag.to_le_bytes());
                slot[4..].copy_from_slice(&entry.time.to_le_bytes());
            }
        }
        self.write(&bytes, 0);
    }

    /// Lets all entries be so many seconds old.
    #[track_caller]
    fn age(&self, seconds: u32) {
        let time = now() - seconds;
        self.change(|entry| entry.time = time);
    }

    /// Has servers remembered that are not there any more afterwards.
    #[track_caller]
    fn remember(&self, port: &Port, servers: &str) {
        let addresses = servers.replace("localhost", "127.0.0.1");
        let silent = addresses.split_whitespace();
        let silent: Vec<_> = silent.map(|server| port.listen(server, 16)).collect();
        let words = format!("--timeout=.1 {servers}");
        let before = if self.path().exists() {
            self.entries()
        } else {
            Vec::new()
        };
        // Nothing is remembered where a busy machine tells the program a name's
        // address only when the time is over.
        wait_until(|| {
            self.check(port, &words).run().prints("").after(ms(100));
            let mut new = self.entries().into_iter().filter(|entry| entry.is_new());
            new.any(|entry| !before.contains(&entry))
        });
        close(silent);
    }
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

/// How a server came to be down, as `--verbose` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Memory {
    /// It was asked.
    None,
    /// It was remembered, from so many seconds ago.
    Down(u32),
    /// Another process was asking it again, since so many seconds ago.
    Taken(u32),
}

/// What the only line of `--verbose` says of the cache.
#[track_caller]
fn memory(run: &Run) -> Memory {
    let (_, why) = run.stderr.split_once("  down  ").expect("a verbose line");
    let Some(memory) = why.strip_prefix("remembered, ") else {
        assert!(!why.contains("remembered"), "{run}");
        return Memory::None;
    };
    let mut words = memory.trim_end().split(' ');
    match (
        memory.starts_with(|c: char| c.is_ascii_digit()),
        words.find_map(|w| w.parse().ok()),
    ) {
        (true, Some(age)) => Memory::Down(age),
        (false, Some(age)) => Memory::Taken(age),
        (_, None) => panic!("{run}"),
    }
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

// What is remembered.

#[test]
fn a_server_that_runs_out_of_time_is_remembered() {
    type Serve = fn(&Port) -> Box<dyn std::any::Any>;
    let rows: [(&str, Serve); 6] = [
        ("silent", |port| Box::new(port.serve("127.0.0.2", SILENT))),
        ("slow", |port| {
            Box::new(port.serve("127.0.0.2", &[Send(b"22")]))
        }),
        ("late", |port| {
            Box::new(port.serve("127.0.0.2", &up_after(ms(2000))))
        }),
        ("never accepted", |port| {
            Box::new(port.listen("127.0.0.2", 16))
        }),
        ("never connected", |port| Box::new(port.full("127.0.0.2"))),
        ("slow to come to an end", |port| {
            Box::new(port.serve("127.0.0.2", &[Send(b"2"), smtp::Wait(ms(400)), Close]))
        }),
    ];
    each(&rows, |(name, serve)| {
        let (port, cache) = (Port::new(), Cache::new());
        let _server = serve(&port);
        let check = |words: &str| cache.check(&port, words).run();
        check("--timeout=.3 127.0.0.2").prints("").after(ms(300));
        assert!(cache.only_entry().is_new(), "{name}");
        check("--timeout=20 127.0.0.2").prints("").at_once();
        let run = check("-v --timeout=20 127.0.0.2");
        assert!(matches!(memory(&run), Memory::Down(0..10)), "{name}: {run}");
    });
}

/// What is cheap to ask again is not remembered, and an older memory of it is
/// erased.
#[test]
fn a_server_that_is_up_or_quickly_down_is_forgotten() {
    let late = up_after(ms(150));
    let rows: [(&str, Option<&[Step]>); 10] = [
        ("", None),
        ("", Some(DOWN)),
        ("", Some(&[Send(b"421 busy\r\n")])),
        ("", Some(&[Send(b"22"), Close])),
        ("", Some(&[Close])),
        ("", Some(&[Reset])),
        ("", Some(&[Send(b"HTTP/1.1 400\r\n\r\n")])),
        ("127.0.0.2", Some(UP)),
        ("127.0.0.2", Some(&late)),
        // Up is enough, whatever becomes of the rest of its greeting.
        ("127.0.0.2", Some(&[Send(b"220-")])),
    ];
    each(&rows, |(answer, script)| {
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.2");
        cache.age(65);
        let server = script.map(|script| port.serve("127.0.0.2", script));
        for cache in [&Cache::new(), &cache] {
            for _ in 0..2 {
                let run = cache.check(&port, "--timeout=20 127.0.0.2").run();
                run.prints(answer).at_once();
                assert_eq!(cache.entries(), [], "{script:?}");
            }
        }
        let count = server.map_or(4, smtp::Server::count);
        assert_eq!(count, 4, "{script:?}");
    });
}

/// The process that would know does not wait for the server's fate.
#[test]
fn a_server_nobody_waited_for_is_not_remembered_and_not_forgotten() {
    let (port, cache) = (Port::new(), Cache::new());
    let _up = port.serve("127.0.0.2", UP);
    let check = || cache.check(&port, "--timeout=20 127.0.0.2 127.0.0.3").run();
    let silent = port.listen("127.0.0.3", 16);
    check().prints("127.0.0.2").at_once();
    assert_eq!(cache.entries(), []);
    close(vec![silent]);

    cache.remember(&port, "127.0.0.3");
    cache.age(65);
    let _silent = port.listen("127.0.0.3", 16);
    check().prints("127.0.0.2").at_once();
    let entry = cache.only_entry();
    assert!(entry.is_taken() && entry.time + 30 > now(), "{entry:?}");
}

#[test]
fn servers_that_were_not_asked_are_not_remembered() {
    let cache = Cache::new();
    let port = Port::new();
    let rows = [
        "10:.",
        "bad;name",
        "-6 127.0.0.2",
        "-4 [::1]",
        "fe80::1%none",
        "--stop 127.0.0.2 127.0.0.2 127.0.0.3",
        "--stop 127.0.0.9 10:127.0.0.2 10:127.0.0.9",
    ];
    let silent = port.listen("0.0.0.0", 16);
    for words in rows {
        let run = cache.check(&port, words).first("--timeout=.2").run();
        run.prints("").at_once();
        assert_eq!(cache.entries(), [], "{run}");
    }
    assert_eq!(waiting(&silent), 0);
}

/// What becomes of the memory of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Becomes {
    /// It is remembered from now on.
    New,
    /// It is erased, if there was one.
    Gone,
    /// It is left as it was; it had run out, and was taken over.
    Left,
}

/// The answers of the name server, IPv4 and IPv6, and what comes of them.
const LOOKUPS: [(&str, &str, Becomes); 16] = [
    ("silent", "silent", Becomes::New),
    ("127.0.0.4", "silent", Becomes::New),
    ("silent", "nodata", Becomes::New),
    ("servfail", "servfail", Becomes::New),
    ("servfail", "nodata", Becomes::New),
    ("192.0.2.1", "nodata", Becomes::New),
    ("nodata", "2001:db8::d:1", Becomes::New),
    ("127.0.0.4 192.0.2.1", "nodata", Becomes::New),
    ("192.0.2.1 192.0.2.65", "nodata", Becomes::New),
    ("nxdomain", "nxdomain", Becomes::Gone),
    ("nodata", "nodata", Becomes::Gone),
    ("127.0.0.4", "nodata", Becomes::Gone),
    ("127.0.0.4", "2001:db8::e:1", Becomes::Gone),
    ("192.0.2.65", "nodata", Becomes::Left),
    ("203.0.113.1", "nodata", Becomes::Left),
    ("192.0.2.65", "2001:db8::e:1", Becomes::Left),
];

#[test]
fn lookups_and_routes_that_fail() {
    namespace::run(|| {
        let rows: Vec<_> = LOOKUPS.iter().enumerate().collect();
        // At first an old one swallows what is sent there.
        let lines = rows.iter().map(|(n, (ipv4, ipv6, _))| {
            format!(
                "cold{n}.test A {ipv4}\ncold{n}.test AAAA {ipv6}\n\
                 old{n}.test A 192.0.2.1 / {ipv4}\nold{n}.test AAAA nodata / {ipv6}\n"
            )
        });
        let zone: String = lines.collect();
        let _names = dns::serve(&zone);
        namespace::resolver_timeout(1);
        let port = Port::smtp();
        each(&rows, |(n, (ipv4, ipv6, becomes))| {
            // The C library's own timeout is a second; a name server that
            // fails is to be heard of.
            let timeout = match ipv4.contains("servfail") {
                true => "--timeout=10",
                false => "--timeout=.5",
            };
            let (cold, old) = (Cache::new(), Cache::new());
            let check = old.check(&port, &format!("--timeout=.5 old{n}.test"));
            check.run().prints("").after(ms(500));
            old.age(65);
            for (name, cache) in [("cold", cold), ("old", old)] {
                let check = cache.check(&port, &format!("{timeout} {name}{n}.test"));
                let run = check.run();
                run.prints("").at_once();
                let found = match cache.entries()[..] {
                    [entry] if entry.is_new() => Becomes::New,
                    [entry] if entry.is_taken() => Becomes::Left,
                    // There was nothing to be left.
                    [] if name == "cold" && *becomes == Becomes::Left => Becomes::Left,
                    [] => Becomes::Gone,
                    ref other => panic!("{run}{other:?}"),
                };
                assert_eq!(found, *becomes, "{ipv4}, {ipv6}: {run}");
            }
        });
    });
}

/// Lookups that hang keep others in the line for a thread, and nothing is
/// learned about these.
#[test]
fn servers_that_were_not_looked_up_are_not_remembered() {
    namespace::run(|| {
        let _names = dns::serve("* A silent\n* AAAA silent");
        let (port, cache) = (Port::smtp(), Cache::new());
        let list: String = (0..100).map(|n| format!("mx{n}.test ")).collect();
        let check = |words: &str| cache.check(&port, &format!("-v --timeout=1 {words}")).run();
        let run = check(&list);
        run.answers("").after(ms(1000));
        let line = "\nmx99.test  down  not looked up in time\n";
        assert!(run.stderr.contains(line), "{run}");
        assert_eq!(memory(&check("mx99.test")), Memory::None, "{run}");
        // Of the first ones, which were asked for, one may have lost its slot.
        let mut first = ["mx0.test", "mx1.test", "mx2.test"].iter();
        let is_remembered = |name: &&str| memory(&check(name)) != Memory::None;
        assert!(first.any(is_remembered), "{run}");
    });
}

/// Nor about one whose lookup had to wait in that line for most of the time.
#[test]
fn servers_that_were_looked_up_late_are_not_remembered() {
    namespace::run(|| {
        let _names = dns::serve(
            "* A after 1500 nxdomain
             * AAAA after 1500 nxdomain
             mx.test A 127.0.0.2
             mx.test AAAA nodata",
        );
        let (port, cache) = (Port::smtp(), Cache::new());
        let silent = port.listen("127.0.0.2", 16);
        let slow: String = (0..40).map(|n| format!("slow{n}.test ")).collect();
        let check = |words: &str| cache.check(&port, words).run();
        let run = check(&format!("--timeout=3 {slow} mx.test"));
        run.prints("").after(ms(3000));
        assert_eq!((waiting(&silent), cache.entries()), (1, vec![]), "{run}");
        check("--timeout=.5 mx.test").prints("").after(ms(500));
        assert!(cache.only_entry().is_new());
    });
}

/// The system's time is over before the program's: that took long as well.
#[test]
fn a_connection_that_the_system_gives_up_is_remembered() {
    namespace::run(|| {
        fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
        let (port, cache) = (Port::smtp(), Cache::new());
        let run = cache.check(&port, "--timeout=20 192.0.2.1").run();
        run.prints("").after(ms(1000));
        assert!(cache.only_entry().is_new(), "{run}");
    });
}

// What that changes.

/// A host has one entry, however it is written.
#[test]
fn names_that_mean_the_same_share_an_entry() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.1\nmx.test AAAA nodata");
        let rows = [
            ["mx.test", "MX.Test."],
            ["10:mX.teSt.", "mx.test"],
            ["127.0.0.2", "10:127.0.0.2"],
            ["::1", "::1"],
            ["7:[::1]", "[::1]"],
            ["fe80::1%lo", "fe80::1%lo"],
        ];
        let port = Port::smtp();
        let _silent = ["127.0.0.2", "::1", "fe80::1%1"].map(|address| port.listen(address, 16));
        each(&rows, |[one, other]| {
            let cache = Cache::new();
            let words = format!("--timeout=.5 {one}");
            cache.check(&port, &words).run().prints("").after(ms(500));
            let words = format!("-v --timeout=20 {other}");
            let run = cache.check(&port, &words).run();
            assert!(matches!(memory(&run), Memory::Down(_)), "{run}");
            assert!(cache.only_entry().is_new());
        });
    });
}

/// Another port is another server, and so are other addresses of a name.
#[test]
fn ports_families_and_hosts_have_entries_of_their_own() {
    let cache = Cache::new();
    let ports = [Port::new(), Port::new()];
    let servers = ports.each_ref().map(|port| port.listen("0.0.0.0", 16));
    let rows = [
        (0, "127.0.0.2", [1, 0]),
        (1, "127.0.0.2", [0, 1]),
        (0, "-4 127.0.0.2", [1, 0]),
        (0, "127.0.0.3", [1, 0]),
        (0, "127.0.0.2", [0, 0]),
        (1, "127.0.0.2", [0, 0]),
        (0, "-4 127.0.0.2", [0, 0]),
        (0, "127.0.0.3", [0, 0]),
        (1, "127.0.0.3", [0, 1]),
    ];
    for (i, words, asked) in rows {
        let words = format!("--timeout=.2 {words}");
        let run = cache.check(&ports[i], &words).run();
        run.prints("");
        assert_eq!(servers.each_ref().map(waiting), asked, "{run}");
    }
}

/// A name's addresses may fare differently.
#[test]
fn families_have_entries_of_their_own() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 127.0.0.2\nmx.test AAAA ::1");
        let (port, cache) = (Port::smtp(), Cache::new());
        let servers = ["127.0.0.2", "::1"].map(|address| port.listen(address, 16));
        for (words, asked) in [
            ("-4 mx.test", [1, 0]),
            ("-4 mx.test", [0, 0]),
            ("-6 mx.test", [0, 1]),
            ("-6 mx.test", [0, 0]),
            ("mx.test", [1, 1]),
            ("mx.test", [0, 0]),
        ] {
            let words = format!("--timeout=.6 {words}");
            let run = cache.check(&port, &words).run();
            run.prints("");
            assert_eq!(servers.each_ref().map(waiting), asked, "{run}");
        }
        assert_eq!(cache.entries().len(), 3);
    });
}

/// Only the stop rule may need the addresses of a remembered server.
#[test]
fn a_remembered_server_is_looked_up_only_for_the_stop_rule() {
    namespace::run(|| {
        let names = dns::serve(
            "mx.test A 192.0.2.200\nmx.test AAAA nodata\n\
             up.test A 127.0.0.2\nup.test AAAA nodata\n",
        );
        let (port, cache) = (Port::smtp(), Cache::new());
        let silent = port.listen("192.0.2.200", 16);
        let _up = port.serve("127.0.0.2", UP);
        let run = |words: &str| cache.check(&port, words).run();
        run("--timeout=.5 mx.test").prints("").after(ms(500));
        assert_eq!(waiting(&silent), 1);
        let rows = [
            ("mx.test", "", 0),
            ("mx.test up.test", "up.test", 0),
            ("up.test mx.test", "up.test", 0),
            ("--jobs=1 mx.test up.test", "up.test", 0),
            ("--stop 192.0.2.200 mx.test", "", 0),
            ("--stop up.test mx.test up.test", "", 0),
            ("--stop 192.0.2.200 up.test mx.test", "up.test", 0),
            ("--stop 192.0.2.200 10:up.test 20:mx.test", "up.test", 0),
            // Here it may be the stop host.
            ("--stop 192.0.2.200 mx.test up.test", "", 1),
            ("--stop 192.0.2.201 mx.test up.test", "up.test", 1),
            ("--stop 192.0.2.200 10:up.test 10:mx.test", "", 1),
            ("--stop 192.0.2.201 10:up.test 10:mx.test", "up.test", 1),
            ("--jobs=1 --stop 192.0.2.200 mx.test up.test", "", 1),
        ];
        let asked = || names.asked("mx.test A") + names.asked("mx.test AAAA");
        for (words, answer, lookups) in rows {
            let before = asked();
            let run = run(&format!("--timeout=20 {words}"));
            run.prints(answer).at_once();
            assert_eq!(asked() - before, lookups, "{run}");
        }
        assert_eq!(waiting(&silent), 0);
    });
}

/// A check with a cache, new or of other servers, answers like one without.
#[test]
fn the_answer_is_the_same_as_without() {
    let (port, cache) = (Port::new(), Cache::new());
    let _servers = [
        port.serve("127.0.0.2", UP),
        port.serve("127.0.0.3", DOWN),
        port.serve("127.0.0.4", &up_after(ms(100))),
    ];
    let rows = [
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.4 127.0.0.2",
        "127.0.0.3 127.0.0.5 10:127.0.0.2 127.0.0.4",
        "--jobs=1 127.0.0.3 127.0.0.4",
        "127.0.0.2 127.0.0.2",
        "--stop 127.0.0.3 127.0.0.3 127.0.0.2",
        "--stop 127.0.0.3 10:127.0.0.3 5:127.0.0.2",
        "--stop 127.0.0.3 10:127.0.0.2 10:127.0.0.3",
        "--stop fe80::1%none 127.0.0.2",
        "-6 127.0.0.2",
        "10:.",
        "",
        "70000:mx",
    ];
    let test = |cache: &Cache| {
        each(&rows, |words| {
            let [with, without] = [cache.check(&port, words).run(), port.check(words).run()];
            let said = |run: &Run| (run.status, run.stdout.clone(), run.stderr.clone());
            assert_eq!(said(&with), said(&without), "{with}");
        });
    };
    test(&cache);
    cache.remember(&port, "127.0.0.6 127.0.0.7");
    test(&cache);

    let check = cache.check(&port, "--timeout=20 127.0.0.6 127.0.0.2 127.0.0.7");
    check.run().prints("127.0.0.2").at_once();
    let check = cache.check(&port, "--timeout=20 --jobs=1 127.0.0.7 127.0.0.6 127.0.0.4");
    check.run().prints("127.0.0.4").at_once();
}

/// A server that was remembered, and is asked only because the memory is no
/// longer good, or never was.
struct Remembered {
    port: Port,
    cache: Cache,
}

impl Remembered {
    fn new() -> Self {
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.2");
        Remembered { port, cache }
    }

    /// Checks the server. Nobody is there now, which is quick to find out, and
    /// erases the memory.
    #[track_caller]
    fn ask(&self, words: &str, wrapper: &[&str]) -> Memory {
        let words = format!("-v {words} 127.0.0.2");
        let run = self.cache.check(&self.port, &words).under(wrapper).run();
        run.answers("").at_once();
        let memory = memory(&run);
        let asked = memory == Memory::None;
        let entries = self.cache.entries();
        assert_eq!(entries.len(), usize::from(!asked), "{run}{entries:?}");
        memory
    }
}

/// Whether what is so many seconds old is remembered under this option.
#[test]
fn entries_last_as_long_as_the_option_says() {
    let rows = [
        ("", 0, true),
        ("", 50, true),
        ("", 62, false),
        ("--cache-ttl=100", 90, true),
        ("--cache-ttl 100", 102, false),
        ("--cache-ttl=1", 5, false),
        ("--cache-ttl=3 --cache-ttl=0100", 90, true),
        ("--cache-ttl=4294967295", 1_000_000_000, true),
        ("--cache-ttl=1000000", 1_000_100, false),
    ];
    each(&rows, |(option, age, remembered)| {
        let server = Remembered::new();
        server.cache.age(*age);
        let found = server.ask(&format!("--timeout=20 {option}"), &[]);
        let expected = match found {
            Memory::Down(found) => *remembered && (*age..age + 10).contains(&found),
            found => !remembered && found == Memory::None,
        };
        assert!(expected, "{option} {age}: {found:?}");
    });
}

#[test]
fn bad_values_of_the_options() {
    let rows = [
        "--cache-ttl=0 127.0.0.2",
        "--cache-ttl=-1 127.0.0.2",
        "--cache-ttl=1.5 127.0.0.2",
        "--cache-ttl= 127.0.0.2",
        "--cache-ttl=1s 127.0.0.2",
        "--cache-ttl=+5 127.0.0.2",
        "--cache-ttl=4294967296 127.0.0.2",
        "127.0.0.2 --cache-ttl",
        "127.0.0.2 --cache",
        "--cache= 127.0.0.2",
    ];
    let cache = Cache::new();
    each(&rows, |words| {
        // Even where no cache is used, and before any is made.
        Check::words(words).run().fails().at_once();
        let check = Check::words(words).first(&cache.option());
        check.run().fails().at_once();
    });
    assert_eq!(cache.files(), [""; 0]);
    // The option alone does nothing.
    Port::new()
        .check("--cache-ttl=5 127.0.0.2")
        .run()
        .prints("");
}

/// The clock has moved on, or back, or the entry was never good.
#[test]
fn the_clock_moves() {
    /// The time of the entry: before the present, or an absolute one.
    enum At {
        Ago(i64),
        Time(u32),
    }
    use At::{Ago, Time};
    let (down, taken) = (Memory::Down(0), Memory::Taken(0));
    let rows = [
        (false, Ago(0), down),
        (false, Ago(30), down),
        (false, Ago(62), Memory::None),
        (false, Ago(100_000_000), Memory::None),
        (false, Ago(-30), Memory::None),
        (false, Ago(-100_000_000), Memory::None),
        (false, Time(0), Memory::None),
        (false, Time(1), Memory::None),
        (false, Time(u32::MAX), Memory::None),
        (true, Ago(0), taken),
        (true, Ago(15), taken),
        (true, Ago(23), Memory::None),
        // As long as an entry that was not taken over would have lasted.
        (true, Ago(50), Memory::None),
        (true, Ago(-30), Memory::None),
        (true, Time(0), Memory::None),
        (true, Time(1), Memory::None),
        (true, Time(u32::MAX), Memory::None),
    ];
    each(&rows, |(is_taken, at, expected)| {
        let server = Remembered::new();
        let (ago, time) = match *at {
            Ago(ago) => (ago, u32::try_from(i64::from(now()) - ago).unwrap()),
            Time(time) => (0, time),
        };
        server.cache.change(|entry| {
            entry.time = time;
            entry.tag |= if *is_taken { TAKEN } else { 0 };
        });
        let found = server.ask("--timeout=20", &[]);
        let ages = |age: u32| (ago..ago + 10).contains(&age.into());
        match (found, *expected) {
            (Memory::Down(age), Memory::Down(_)) => assert!(ages(age), "{found:?}, not {ago}"),
            (Memory::Taken(age), Memory::Taken(_)) => assert!(ages(age), "{found:?}, not {ago}"),
            (found, expected) => assert_eq!(found, expected, "{is_taken} {ago} {time}"),
        }
    });
}

/// The program's clock is not behind that of others: what was written just now
/// does not come from the future.
#[test]
fn an_entry_of_the_second_that_has_just_begun_counts() {
    let server = Remembered::new();
    let before = now();
    wait_until(|| now() != before);
    server.cache.age(0);
    let found = server.ask("--timeout=20", &[]);
    assert!(matches!(found, Memory::Down(0..10)), "{found:?}");
}

/// An entry from the future is overwritten with one of the present.
#[test]
fn a_clock_set_back_is_no_obstacle() {
    let port = Port::new();
    for seconds in [30, 1_000_000] {
        let cache = Cache::new();
        cache.remember(&port, "127.0.0.2");
        cache.change(|entry| entry.time += seconds);
        cache.remember(&port, "127.0.0.2");
        assert!(cache.only_entry().is_new());
    }
}

/// How long an entry that was taken over lasts depends on the timeout.
#[test]
fn taken_entries_last_a_timeout() {
    let rows = [
        ("--timeout=100", 90, true),
        ("--timeout=100", 103, false),
        ("--timeout=.5", 4, false),
        ("--timeout=30.5", 20, true),
        // Without any, as long as others.
        ("--timeout=0", 50, true),
        ("--timeout=0", 63, false),
        ("--timeout=0 --cache-ttl=100", 90, true),
        ("", 5, true),
        ("", 13, false),
    ];
    each(&rows, |(option, age, remembered)| {
        let server = Remembered::new();
        server.cache.age(*age);
        server.cache.change(|entry| entry.tag |= TAKEN);
        let found = server.ask(option, &[]);
        let is_remembered = found != Memory::None;
        assert_eq!(is_remembered, *remembered, "{option} {age}: {found:?}");
    });
}

/// While another process has the lock, what has just run out still counts;
/// nothing else needs the lock, and nobody waits for it.
#[test]
fn a_busy_lock_is_not_waited_for() {
    if !has("flock", "a_busy_lock_is_not_waited_for") {
        return;
    }
    let rows = [
        (0, false, Memory::Down(0)),
        (62, false, Memory::Taken(0)),
        (75, false, Memory::Taken(0)),
        (83, false, Memory::None),
        (1000, false, Memory::None),
        (10, true, Memory::Taken(10)),
        (25, true, Memory::Taken(0)),
        (50, true, Memory::None),
    ];
    each(&rows, |(age, is_taken, expected)| {
        let server = Remembered::new();
        server.cache.age(*age);
        server
            .cache
            .change(|entry| entry.tag |= if *is_taken { TAKEN } else { 0 });
        let before = server.cache.bytes();
        let path = server.cache.path();
        let lock = ["flock", "--no-fork", path.to_str().unwrap()];
        let found = server.ask("--timeout=20", &lock);
        match (found, *expected) {
            (Memory::Down(0..10), Memory::Down(_)) => {}
            (Memory::Taken(since), Memory::Taken(least))
                if (least..least + 10).contains(&since) => {}
            (Memory::None, Memory::None) => return,
            _ => panic!("{age} {is_taken}: {found:?}, not {expected:?}"),
        }
        assert_eq!(server.cache.bytes(), before);
    });

    // A server is remembered without the lock as well.
    let (port, cache) = (Port::new(), Cache::new());
    fs::write(cache.path(), good()).unwrap();
    let _silent = port.listen("127.0.0.2", 16);
    let path = cache.path();
    let check = cache.check(&port, "--timeout=.2 127.0.0.2");
    let check = check.under(&["flock", "--no-fork", path.to_str().unwrap()]);
    check.run().prints("").after(ms(200));
    assert!(cache.only_entry().is_new());
}

/// Whatever is in the slots, a server that was not found down is asked, and
/// one that was is remembered; no other slot changes.
#[test]
fn garbage_in_the_slots_is_no_memory() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let time = now().to_le_bytes();
    let mut noise = vec![0; SIZE - HEADER];
    random.fill(&mut noise);
    // Entries that are all fresh, each with its own tag or all with this one.
    let fresh = |tag: Option<u32>| {
        let mut table = noise.clone();
        for slot in table.chunks_exact_mut(SLOT) {
            if let Some(tag) = tag {
                slot[..4].copy_from_slice(&tag.to_le_bytes());
            }
            slot[4..].copy_from_slice(&time);
        }
        table
    };
    let tables = [
        vec![0xff; SIZE - HEADER],
        fresh(None),
        fresh(Some(0)),
        fresh(Some(TAKEN)),
        noise.clone(),
    ];
    each(&tables, |table| {
        let (port, cache) = (Port::new(), Cache::new());
        let _up = port.serve("127.0.0.2", UP);
        let _silent = port.listen("127.0.0.3", 16);
        fs::write(cache.path(), [&good()[..HEADER], table].concat()).unwrap();
        let before = cache.bytes();
        let list: String = (1..=60).map(|n| format!("127.0.1.{n} ")).collect();
        let run = cache.check(&port, &format!("-v {list} 127.0.0.2")).run();
        run.answers("127.0.0.2").at_once();
        assert!(!run.stderr.contains("remembered"), "{run}");
        assert_eq!(run.stderr.matches("refused").count(), 60, "{run}");
        assert_eq!(cache.bytes(), before);

        let check = cache.check(&port, "--timeout=.2 127.0.0.3");
        check.run().prints("").after(ms(200));
        let check = cache.check(&port, "-v --timeout=20 127.0.0.3");
        assert!(matches!(memory(&check.run()), Memory::Down(_)));
        let after = cache.bytes();
        let (old, new) = (before.chunks(SLOT), after.chunks(SLOT));
        let changed = old.zip(new).filter(|(old, new)| old != new);
        assert_eq!(changed.count(), 1);
    });
}

/// The file does not grow; servers that share a slot displace each other, and
/// a file's key decides which those are.
#[test]
fn many_servers_share_the_table() {
    let port = Port::new();
    let silent = port.listen("0.0.0.0", 1024);
    let list: String = (1..=250).map(|n| format!("127.0.2.{n} ")).collect();
    let caches = [Cache::new(), Cache::new()];
    let [one, other] = caches.each_ref().map(|cache| {
        let check = cache.check(&port, &format!("--timeout=.5 {list}"));
        check.run().prints("");
        assert_eq!(waiting(&silent), 250);
        let entries = cache.entries();
        // Of 250 balls in 1024 urns, some 28 hit one that is not empty.
        assert!((200..250).contains(&entries.len()), "{}", entries.len());
        assert!(entries.iter().all(|entry| entry.is_new()));
        let run = cache.check(&port, &format!("-v --timeout=.5 {list}")).run();
        run.answers("");
        assert_eq!(run.stderr.matches("remembered").count(), entries.len());
        assert_eq!(waiting(&silent), 250 - entries.len());
        entries
            .iter()
            .map(|entry| entry.tag)
            .collect::<BTreeSet<_>>()
    });
    assert_eq!(one.intersection(&other).count(), 0);
}

// Many processes.

#[test]
fn two_hundred_processes_at_once() {
    let (port, cache) = (Port::new(), Cache::new());
    let silent = port.listen("127.0.0.2", 1024);
    let crowd = Crowd::new(&cache, &port, "--timeout=2 127.0.0.2", 200);
    // The files that the processes have open as the cache.
    let mut inodes = BTreeSet::new();
    let path = cache.path();
    crowd.finish(|process| {
        let link = format!("/proc/{process}/fd/3");
        let target = fs::read_link(&link).unwrap_or_default();
        let target = target.to_string_lossy();
        if target.strip_suffix(" (deleted)").unwrap_or(&target) == path.to_string_lossy() {
            inodes.extend(fs::metadata(&link).map(|found| found.ino()).ok());
        }
    });
    let cold = waiting(&silent);
    assert!((1..=200).contains(&cold), "{cold} connections");
    let inode = fs::metadata(&path).unwrap().ino();
    assert_eq!(inodes, BTreeSet::from([inode]), "files with a key each");
    assert_eq!(cache.files(), ["cache"]);
    assert!(cache.only_entry().is_new());

    let before = cache.bytes();
    let crowd = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 200);
    crowd.finish(|_| {});
    assert_eq!(waiting(&silent), 0);
    assert_eq!(cache.bytes(), before);
}

/// When an entry runs out, one process asks; the others do not wait.
#[test]
fn one_of_many_processes_asks_again() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    let silent = port.listen("127.0.0.2", 1024);
    for _ in 0..3 {
        cache.age(62);
        let mut crowd = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 100);
        crowd.wait(1, |_| {});
        let client = smtp::accept(&silent);
        assert!(cache.only_entry().is_taken());
        assert_eq!(waiting(&silent), 0);
        drop(client);
        crowd.finish(|_| {});
        assert_eq!(waiting(&silent), 0);
        assert_eq!(cache.entries(), []);
        fs::remove_file(cache.path()).unwrap();
        let check = cache.check(&port, "--timeout=.1 127.0.0.2");
        check.run().prints("").after(ms(100));
        assert_eq!(waiting(&silent), 1);
    }
}

/// Six checks of a silent server, each of which comes to its first lock half a
/// second late: nobody has it before all of them want it. Returns how many
/// connections there were, or `None` where there is no strace.
fn late_to_lock(test: &str, port: &Port, cache: &Cache) -> Option<usize> {
    if !has("strace", test) {
        return None;
    }
    let silent = port.listen("127.0.0.2", 16);
    let late = "delay_enter=500000:when=1";
    together(6, || {
        let check = cache.check(port, "--timeout=2.5 127.0.0.2");
        check.injecting("flock", late).run().prints("");
    });
    // They agree on the key, or else this would be in several slots.
    assert!(cache.only_entry().is_new());
    assert_eq!(cache.files(), ["cache"]);
    Some(waiting(&silent))
}

#[test]
fn one_of_those_that_want_to_ask_asks() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    cache.age(62);
    let count = late_to_lock("one_of_those_that_want_to_ask_asks", &port, &cache);
    assert!(matches!(count, None | Some(1)), "{count:?}");
}

#[test]
fn one_of_those_that_want_to_make_the_file_makes_it() {
    let (port, cache) = (Port::new(), Cache::new());
    let test = "one_of_those_that_want_to_make_the_file_makes_it";
    let count = late_to_lock(test, &port, &cache);
    assert!(count.is_none_or(|count| count > 0));
}

/// Who takes an entry over and is killed is followed by another, a timeout
/// later.
#[test]
fn a_killed_process_is_replaced() {
    let (port, cache) = (Port::new(), Cache::new());
    cache.remember(&port, "127.0.0.2");
    cache.age(65);
    let silent = port.listen("127.0.0.2", 16);
    for _ in 0..3 {
        let asking = Crowd::new(&cache, &port, "--timeout=20 127.0.0.2", 1);
        let _client = smtp::accept(&silent);
        drop(asking);
        let entry = cache.only_entry();
        assert!(entry.is_taken() && entry.time + 20 > now(), "{entry:?}");
        for age in [0, 15] {
            cache.age(age);
            let run = cache.check(&port, "-v --timeout=20 127.0.0.2").run();
            run.answers("").at_once();
            assert!(matches!(memory(&run), Memory::Taken(_)), "{run}");
        }
        assert_eq!(waiting(&silent), 0);
        cache.age(23);
    }
    let check = cache.check(&port, "--timeout=.2 127.0.0.2");
    check.run().prints("").after(ms(200));
    assert!(cache.only_entry().is_new());
}

/// What a killed process may leave behind under the other name.
#[test]
fn an_unfinished_file_is_made_anew() {
    let rows = [vec![], vec![0; SIZE], good()];
    each(&rows, |unfinished| {
        let (port, cache) = (Port::new(), Cache::new());
        fs::write(cache.new_path(), unfinished).unwrap();
        cache.remember(&port, "127.0.0.2");
        assert!(cache.only_entry().is_new());
        assert_eq!(cache.files(), ["cache"]);
        let key = &cache.bytes()[MAGIC.len()..HEADER];
        assert!(
            key != &good()[MAGIC.len()..HEADER] && key != [0; 16],
            "{key:?}"
        );

        // Beside a good file it is nobody's business.
        fs::write(cache.new_path(), unfinished).unwrap();
        let check = cache.check(&port, "--timeout=20 127.0.0.2");
        check.run().prints("").at_once();
        assert_eq!(fs::read(cache.new_path()).unwrap(), *unfinished);
    });
}

/// While another process makes the file, the check goes on without, and
/// without a word.
#[test]
fn a_file_in_the_making_is_not_waited_for() {
    if !has("flock", "a_file_in_the_making_is_not_waited_for") {
        return;
    }
    let (port, cache) = (Port::new(), Cache::new());
    let _up = port.serve("127.0.0.2", UP);
    fs::write(cache.new_path(), b"").unwrap();
    let path = cache.new_path();
    for (server, answer) in [("127.0.0.2", "127.0.0.2"), ("127.0.0.3", "")] {
        let check = cache.check(&port, server);
        let check = check.under(&["flock", "--no-fork", path.to_str().unwrap()]);
        check.run().prints(answer).at_once();
        assert_eq!(cache.files(), ["cache.new"]);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    let (port, cache) = (Port::new(), Cache::new());
    let mut keys = BTreeSet::new();
    for mask in ["0", "022", "077"] {
        let script = format!("umask {mask}; exec \"$0\" \"$@\"");
        cache
            .check(&port, "127.0.0.2")
            .shell(&script)
            .run()
            .prints("");
        let mode = fs::metadata(cache.path()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let bytes = cache.bytes();
        assert_eq!(bytes[HEADER..], [0; SIZE - HEADER]);
        keys.insert(bytes[..HEADER].to_vec());
        fs::remove_file(cache.path()).unwrap();
    }
    assert_eq!(keys.len(), 3, "{keys:?}");
}

// Files that must not be touched.

/// All there is to know of a folder and its files, but for when they were read.
fn look(folder: &Path) -> BTreeMap<PathBuf, (String, Vec<u8>)> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let all = files.chain([folder.to_path_buf()]).map(|path| {
        let found = fs::symlink_metadata(&path).unwrap();
        let content = match () {
            () if found.is_file() => fs::read(&path).unwrap(),
            () if found.is_symlink() => {
                let target = fs::read_link(&path).unwrap();
                target.into_os_string().into_encoded_bytes()
            }
            () => Vec::new(),
        };
        let who = format!("{:o} {}:{}", found.mode(), found.uid(), found.gid());
        let what = format!("{}*{} {}", found.ino(), found.nlink(), found.len());
        let times = [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ];
        (path, (format!("{who} {what} {times:?}"), content))
    });
    all.collect()
}

/// Has this done, which changes nothing in the folder.
#[track_caller]
fn unchanged(folder: &Path, done: impl FnOnce()) {
    let before = look(folder);
    done();
    let mut after = look(folder);
    for (path, old) in before {
        let new = after.remove(&path);
        let equal = new.as_ref() == Some(&old);
        assert!(
            equal,
            "{path:?} {:?}, was {:?}",
            new.map(|new| new.0),
            old.0
        );
    }
    assert!(after.is_empty(), "new: {:?}", after.keys());
}

const IRREGULAR: &str = "it is no regular file";
const STRANGER: &str = "it belongs to somebody else";
const OPEN: &str = "everyone may write to it";
const FOREIGN: &str = "it is something else";
const NOT_ALLOWED: &str = "not allowed";
const NO_FOLDER: &str = "there is no such folder";
const READ_ONLY: &str = "the file system is read-only";
const NO_SPACE: &str = "no space left";

/// What is said of a cache that is of no use.
fn warning(path: &Path, reason: &str) -> String {
    let path = path.display();
    format!("smtpdcheck: warning: cache '{path}' cannot be used: {reason}\n")
}

/// Servers of all kinds, to be checked with a cache that is of no use.
struct Servers {
    port: Port,
    _servers: [smtp::Server; 2],
    _silent: TcpListener,
}

impl Servers {
    fn new(port: Port) -> Self {
        Servers {
            _servers: [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)],
            _silent: port.listen("127.0.0.4", 1024),
            port,
        }
    }

    /// Checks servers with a cache that must be left as it is, for this
    /// reason: each check says so, and answers as if there were none.
    #[track_caller]
    fn warn(&self, path: &Path, reason: &str, prepare: impl Fn(Check) -> Check) {
        let option = format!("--cache={}", path.display());
        let run = |words: &str| {
            let check = self.port.check(words).first(&option);
            let run = prepare(check).run();
            assert_eq!(run.stderr, warning(path, reason), "{run}");
            run
        };
        run("127.0.0.2").answers("127.0.0.2").at_once();
        run("127.0.0.3").answers("").at_once();
        // It is not remembered.
        for _ in 0..2 {
            run("--timeout=.2 127.0.0.4").answers("").after(ms(200));
        }
    }
}

/// Makes something that must be left as it is.
type Make = Box<dyn Fn(&Path) + Sync>;

/// Regular files that are something else, or another version.
fn foreign() -> Vec<Vec<u8>> {
    let change = |at: usize, byte: u8| {
        let mut bytes = good();
        bytes[at] = byte;
        bytes
    };
    // As a text it lost a byte, and got one at its end.
    let mut text = good();
    text.remove(12);
    text.push(b'\n');
    vec![
        b"".to_vec(),
        b"x".to_vec(),
        good()[..HEADER].to_vec(),
        good()[1..].to_vec(),
        good()[..SIZE - 1].to_vec(),
        [&good()[..], b"\0"].concat(),
        [good(), good()].concat(),
        vec![0; SIZE],
        vec![b' '; SIZE],
        change(0, b'S'),
        change(11, b'2'),
        change(15, 1),
        text,
    ]
}

/// What is no regular file.
fn irregular() -> Vec<Make> {
    vec![
        Box::new(|path| fs::create_dir(path).unwrap()),
        Box::new(|path| symlink(path, path).unwrap()),
        Box::new(|path| symlink("missing", path).unwrap()),
        Box::new(|path| {
            let target = path.with_extension("good");
            fs::write(&target, good()).unwrap();
            symlink(target, path).unwrap();
        }),
        Box::new(|path| drop(UnixListener::bind(path).unwrap())),
        Box::new(|path| sh(&format!("mkfifo {}", path.display()))),
    ]
}

/// Everything that must be left as it is, and why.
fn refused() -> Vec<(Make, &'static str)> {
    let foreign = foreign().into_iter().map(|bytes| {
        let make: Make = Box::new(move |path| fs::write(path, &bytes).unwrap());
        (make, FOREIGN)
    });
    let irregular = irregular().into_iter().map(|make| (make, IRREGULAR));
    let open = [0o666, 0o602, 0o1777].map(|mode| {
        let make: Make = Box::new(move |path| {
            fs::write(path, good()).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        });
        (make, OPEN)
    });
    foreign.chain(irregular).chain(open).collect()
}

/// Checks with each of these files, and with each in the place where a new
/// one is made.
#[test]
fn files_that_are_no_cache_are_left_alone() {
    let servers = Servers::new(Port::new());
    each(&refused(), |(make, reason)| {
        let cache = Cache::new();
        make(&cache.path());
        let warn = |cache: &Cache| servers.warn(&cache.path(), reason, |check| check);
        unchanged(&cache.folder, || warn(&cache));

        let cache = Cache::new();
        make(&cache.new_path());
        let found = fs::symlink_metadata(cache.new_path()).unwrap();
        let left_behind = [0, SIZE as u64].contains(&found.len());
        if !(found.is_file() && left_behind && *reason == FOREIGN) {
            unchanged(&cache.folder, || warn(&cache));
        }
    });
}

/// Where a new file is made may stand another name of somebody's file, which
/// has the size of one that is left behind.
#[test]
fn a_file_of_two_names_is_not_made_anew() {
    let servers = Servers::new(Port::new());
    each(&[vec![], vec![b'x'; SIZE]], |bytes| {
        let cache = Cache::new();
        fs::write(cache.folder.join("own"), bytes).unwrap();
        fs::hard_link(cache.folder.join("own"), cache.new_path()).unwrap();
        unchanged(&cache.folder, || {
            servers.warn(&cache.path(), FOREIGN, |check| check);
        });
    });
}

#[test]
fn devices_are_left_alone() {
    let servers = Servers::new(Port::new());
    each(&["/dev/null", "/dev/zero"], |device| {
        servers.warn(Path::new(device), IRREGULAR, |check| check);
        assert!(!Path::new(&format!("{device}.new")).exists());
    });
}

#[test]
fn folders_that_are_not_there() {
    let servers = Servers::new(Port::new());
    let cache = Cache::new();
    fs::write(cache.folder.join("file"), b"x").unwrap();
    unchanged(&cache.folder, || {
        let paths = ["none/cache", "none/none/cache", "file/cache", "none/"];
        each(&paths, |path| {
            servers.warn(&cache.folder.join(path), NO_FOLDER, |check| check);
        });
        servers.warn(&cache.folder.join(""), IRREGULAR, |check| check);
    });
}

/// A name that is too long, or has bytes that nobody should see.
#[test]
fn odd_names() {
    let (port, cache) = (Port::new(), Cache::new());
    let name = cache.folder.join("ca\x1bche \u{e9}'\n");
    let options = [
        format!("--cache={}", name.display()),
        format!("--cache={}", cache.folder.join("none\x1b/x").display()),
    ];
    let run = port.check("127.0.0.2").first(&options[0]).run();
    run.prints("");
    assert!(is_valid(&fs::read(&name).unwrap()));
    let run = port.check("127.0.0.2").first(&options[1]).run();
    run.answers("");
    assert!(
        run.stderr.contains("none\\x1b/x' cannot be used: "),
        "{run}"
    );
    let long = cache.folder.join("x".repeat(300));
    let run = port
        .check("127.0.0.2")
        .first(&format!("--cache={}", long.display()))
        .run();
    run.answers("");
    assert!(run.stderr.contains("x' cannot be used: "), "{run}");
    assert_eq!(cache.files().len(), 1);
}

// Other users, and disks. The namespace's own folder is one that everybody
// can reach.

const NOBODY: u32 = 65534;

/// Gives a file away, where this user can.
fn give_to_nobody(path: &Path) {
    if !namespace::unprivileged().is_empty() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Whether there are other users to become; where not, says that the test did
/// not run.
fn has_users(test: &str) -> bool {
    let has = !namespace::unprivileged().is_empty();
    if !has {
        cannot_run(test, "only root can become another user");
    }
    has && namespace::has_unprivileged(test)
}

#[test]
fn files_of_other_users_are_left_alone() {
    namespace::run(|| {
        if !has_users("files_of_other_users_are_left_alone") {
            return;
        }
        let program = namespace::copy_program();
        let servers = Servers::new(Port::smtp());
        let folder = Path::new(FOLDER);
        let as_nobody = |check: Check| check.copy(&program).under(namespace::unprivileged());
        // Owner, group and mode of the file, and why nobody, and root, does
        // not use it; where nothing is said, it is used.
        let rows = [
            (12345, 12345, 0o600, STRANGER, STRANGER),
            (12345, NOBODY, 0o660, STRANGER, STRANGER),
            (12345, NOBODY, 0o666, STRANGER, STRANGER),
            (NOBODY, NOBODY, 0o600, "", STRANGER),
            (NOBODY, NOBODY, 0o400, NOT_ALLOWED, STRANGER),
            (NOBODY, NOBODY, 0o200, NOT_ALLOWED, STRANGER),
            (NOBODY, NOBODY, 0o602, OPEN, STRANGER),
            (0, 0, 0o600, NOT_ALLOWED, ""),
            (0, 0, 0o644, NOT_ALLOWED, ""),
            (0, NOBODY, 0o640, NOT_ALLOWED, ""),
            (0, NOBODY, 0o660, "", ""),
            (0, NOBODY, 0o662, OPEN, OPEN),
            (0, NOBODY, 0o2760, "", ""),
        ];
        each(&rows, |(owner, group, mode, nobody, root)| {
            let cache = Cache::in_folder(folder);
            let path = cache.path();
            fs::write(&path, good()).unwrap();
            chown(&path, Some(*owner), Some(*group)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            unchanged(&cache.folder, || {
                if !nobody.is_empty() {
                    servers.warn(&path, nobody, as_nobody);
                }
                if !root.is_empty() {
                    servers.warn(&path, root, |check| check);
                }
            });
            let check = || cache.check(&servers.port, "127.0.0.2");
            if nobody.is_empty() {
                as_nobody(check()).run().prints("127.0.0.2");
            }
            if root.is_empty() {
                check().run().prints("127.0.0.2");
            }
        });

        // Where nobody may make a file, and where somebody else has begun to.
        let cache = Cache::in_folder(folder);
        unchanged(&cache.folder, || {
            servers.warn(&cache.path(), NOT_ALLOWED, as_nobody);
        });
        fs::set_permissions(&cache.folder, Permissions::from_mode(0o1777)).unwrap();
        fs::write(cache.new_path(), b"").unwrap();
        chown(cache.new_path(), Some(12345), Some(NOBODY)).unwrap();
        fs::set_permissions(cache.new_path(), Permissions::from_mode(0o660)).unwrap();
        unchanged(&cache.folder, || {
            servers.warn(&cache.path(), STRANGER, as_nobody);
            servers.warn(&cache.path(), STRANGER, |check| check);
        });
        // And where nobody may not even look.
        fs::set_permissions(&cache.folder, Permissions::from_mode(0o700)).unwrap();
        servers.warn(&cache.path(), NOT_ALLOWED, as_nobody);
    });
}

/// A file of root's that a group may write is shared with its members.
#[test]
fn two_users_share_a_file() {
    namespace::run(|| {
        if !has_users("two_users_share_a_file") {
            return;
        }
        let program = namespace::copy_program();
        let (port, cache) = (Port::smtp(), Cache::in_folder(Path::new(FOLDER)));
        let path = cache.path();
        cache.check(&port, "127.0.0.3").run().prints("");
        chown(&path, None, Some(NOBODY)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        let silent = port.listen("0.0.0.0", 16);
        let run = |words: &str, as_nobody: bool| {
            let check = cache.check(&port, words);
            match as_nobody {
                true => check.copy(&program).under(namespace::unprivileged()).run(),
                false => check.run(),
            }
        };
        for (server, first) in [("127.0.0.4", true), ("127.0.0.5", false)] {
            let words = format!("--timeout=.2 {server}");
            run(&words, first).prints("").after(ms(200));
            assert_eq!(waiting(&silent), 1);
            for user in [true, false] {
                let words = format!("--timeout=20 {server}");
                run(&words, user).prints("").at_once();
            }
            assert_eq!(waiting(&silent), 0);
        }
        assert_eq!(cache.entries().len(), 2);
        let found = fs::metadata(&path).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (0, NOBODY, 0o660)
        );

        // Nobody's own file is nobody's.
        let own = Cache::in_folder(Path::new(FOLDER));
        give_to_nobody(&own.folder);
        let check = own.check(&port, "--timeout=.1 127.0.0.3").copy(&program);
        check.under(namespace::unprivileged()).run();
        let found = fs::metadata(own.path()).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (NOBODY, 0o600));
    });
}

#[test]
fn a_read_only_file_system() {
    namespace::run(|| {
        let servers = Servers::new(Port::smtp());
        let cache = Cache::in_folder(Path::new(FOLDER));
        let folder = cache.folder.display();
        let full = cache.folder.join("full");
        fs::write(&full, good()).unwrap();
        sh(&format!(
            "mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
        ));
        unchanged(&cache.folder, || {
            for path in [&cache.path(), &full] {
                servers.warn(path, READ_ONLY, |check| check);
            }
        });
    });
}

#[test]
fn a_full_disk() {
    namespace::run(|| {
        let servers = Servers::new(Port::smtp());
        let cache = Cache::in_folder(Path::new(FOLDER));
        let folder = cache.folder.display();
        sh(&format!("mount -t tmpfs -o size=64k tmpfs {folder}"));
        // Room for no page, or for some but not for the file.
        let filler = cache.folder.join("filler");
        let fill = |left: usize| {
            fs::write(&filler, b"").unwrap();
            let _ = fs::remove_file(cache.new_path());
            let _ = fs::write(&filler, vec![1; 64 * 1024]);
            let size = fs::metadata(&filler).unwrap().len();
            let file = OpenOptions::new().write(true).open(&filler).unwrap();
            file.set_len(size - left as u64).unwrap();
        };
        for left in [0, 4096, 8192] {
            fill(left);
            servers.warn(&cache.path(), NO_SPACE, |check| check);
            // It may have been begun, but not more than once.
            assert!(!cache.path().exists());
            let begun = fs::metadata(cache.new_path()).map_or(0, |found| found.len());
            assert!([0, SIZE as u64].contains(&begun), "{begun}");
            assert!(cache.files().len() <= 2, "{:?}", cache.files());
        }
        fs::remove_file(&filler).unwrap();
        let check = cache.check(&servers.port, "127.0.0.2");
        check.run().prints("127.0.0.2");
        cache.bytes();
        assert_eq!(cache.files(), ["cache"]);

        // A file with holes, which there is no room to fill.
        fs::remove_file(cache.path()).unwrap();
        fs::write(cache.path(), &good()[..HEADER]).unwrap();
        let file = OpenOptions::new().write(true).open(cache.path()).unwrap();
        file.set_len(SIZE as u64).unwrap();
        fill(0);
        let port = Port::new();
        let _silent = port.listen("0.0.0.0", 64);
        let list: String = (1..=16).map(|n| format!("127.0.1.{n} ")).collect();
        let check = cache.check(&port, &format!("--timeout=.3 {list}"));
        let run = check.run();
        run.answers("").after(ms(300));
        assert_eq!(run.stderr, warning(&cache.path(), NO_SPACE), "{run}");
        let check = cache.check(&servers.port, "127.0.0.2");
        check.run().prints("127.0.0.2");
        // What could be written is remembered.
        assert!(cache.entries().iter().all(|entry| entry.is_new()));
    });
}

/// What this machine's limits and its speed change, and what is asked of the
/// kernel. `make emulate` leaves these tests out, by the word `machine`, with
/// those of that file.
mod machine {
    use super::*;

    /// A process that may have no thread does not learn anything of the server.
    #[test]
    fn a_failure_of_this_machine_is_neither_remembered_nor_forgotten() {
        namespace::run(|| {
            let test = "a_failure_of_this_machine_is_neither_remembered_nor_forgotten";
            if !has("prlimit", test) || !namespace::has_unprivileged(test) {
                return;
            }
            let cache = Cache::in_folder(Path::new(FOLDER));
            let _names = dns::serve("mx.test A 192.0.2.1\nmx.test AAAA nodata");
            let port = Port::smtp();
            let check = |limit: &[&str]| {
                let check = cache.check(&port, "--timeout=.5 mx.test");
                check
                    .copy(&namespace::copy_program())
                    .under(namespace::unprivileged())
                    .under(limit)
                    .run()
            };
            give_to_nobody(&cache.folder);
            check(&["prlimit", "--nproc=0"]).fails();
            assert_eq!(cache.entries(), []);
            check(&[]).prints("");
            cache.age(65);
            check(&["prlimit", "--nproc=0"]).fails();
            assert!(cache.only_entry().is_taken());
        });
    }

    /// Where there are not enough descriptors for all servers before the time is
    /// over, nothing is learned about those that were not asked.
    #[test]
    fn servers_not_asked_for_want_of_descriptors_are_not_forgotten() {
        let test = "servers_not_asked_for_want_of_descriptors_are_not_forgotten";
        if !has("prlimit", test) {
            return;
        }
        let (port, cache) = (Port::new(), Cache::new());
        let hosts: Vec<_> = (1..=12).map(|n| format!("127.0.1.{n}")).collect();
        let list = hosts.join(" ");
        cache.remember(&port, &list);
        let count = cache.entries().len();
        cache.age(65);
        let silent = port.listen("0.0.0.0", 1024);
        let check = cache.check(&port, &format!("--timeout=.5 {list}"));
        let run = check.under(&["prlimit", "--nofile=8:8"]).run();
        run.prints("").at_once();
        // Five beside the standard ones, and none after the time.
        let asked = waiting(&silent);
        assert!((1..=5).contains(&asked), "{asked} asked: {run}");
        let entries = cache.entries();
        // Some may share a slot.
        assert_eq!(entries.len(), count, "{entries:?}");
        let new = entries.iter().filter(|entry| entry.is_new());
        assert!(new.count() <= asked, "{entries:?}");
    }

    #[test]
    fn a_remembered_server_costs_no_socket_and_few_system_calls() {
        namespace::run(|| {
            let (port, cache) = (Port::new(), Cache::new());
            cache.remember(&port, "127.0.0.2");
            cache.remember(&port, "localhost");
            let silent = port.listen("0.0.0.0", 16);
            for server in ["127.0.0.2", "10:localhost"] {
                let check = cache.check(&port, server);
                let test = "a_remembered_server_costs_no_socket_and_few_system_calls";
                let Some(check) = check.traced(test) else {
                    return;
                };
                let run = check.run();
                let calls: Vec<_> = run.stderr.lines().collect();
                let has = |word: &str| calls.iter().any(|call| call.contains(word));
                for name in ["socket", "connect", "clone", "eventfd", "flock"] {
                    // A path may have such a word as well.
                    let is_it = |call: &&str| {
                        let called = call.split_whitespace().nth(1);
                        called.is_some_and(|called| called.starts_with(name))
                    };
                    assert!(!calls.iter().any(is_it), "{name}: {calls:#?}");
                }
                assert!(!has("/etc/hosts"), "{calls:#?}");
                // A dynamic program's loader has its own.
                let own = calls
                    .iter()
                    .skip_while(|call| has("ld.so.cache") && !call.contains("/cache\""));
                let own = own.count();
                assert!(own <= 20, "{own}: {calls:#?}");
                let path = cache.path();
                let path = path.to_str().unwrap();
                let opens = calls
                    .iter()
                    .filter(|call| call.contains("open") && call.contains(path));
                let opens: Vec<_> = opens.collect();
                assert_eq!(opens.len(), 1, "{calls:#?}");
                for flag in ["O_RDWR", "O_NOFOLLOW", "O_CLOEXEC"] {
                    assert!(opens[0].contains(flag), "{opens:?}");
                }
            }
            assert_eq!(waiting(&silent), 0);
        });
    }

    #[test]
    fn a_thousand_processes_killed() {
        let (port, cache) = (Port::new(), Cache::new());
        let _silent = port.listen("127.0.0.2", 1024);
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let began = now();
        let (mut ended, mut made) = (0, 0);
        for round in 0..250 {
            match round % 3 {
                0 => drop(fs::remove_file(cache.path())),
                1 if cache.path().exists() => cache.age(5),
                _ => {}
            }
            let words = "--timeout=.001 --cache-ttl=3 127.0.0.2 127.0.0.3";
            let mut crowd = Crowd::new(&cache, &port, words, 4);
            for child in &mut crowd.children {
                thread::sleep(Duration::from_micros(random.next() % 3000 / 2));
                child.kill().unwrap();
                ended += usize::from(child.wait().unwrap().success());
            }
            for file in cache.files() {
                assert!(["cache", "cache.new"].contains(&&*file), "{file}");
            }
            if cache.path().exists() {
                made += 1;
                let times = began - 10..=now();
                for entry in cache.entries() {
                    assert!(times.contains(&entry.time), "{entry:?}");
                }
            }
            let unfinished = fs::metadata(cache.new_path()).map_or(0, |found| found.len());
            assert!([0, SIZE as u64].contains(&unfinished), "{unfinished}");
        }
        // Otherwise this was not worth much.
        assert!((1..1000).contains(&ended) && made > 0, "{ended}, {made}");

        // Whatever is left behind, the cache can be used, and made anew.
        for delete in [false, true] {
            if delete {
                fs::remove_file(cache.path()).unwrap();
            }
            let check = |words: &str| cache.check(&port, words).run();
            let run = check("--timeout=.1 127.0.0.2");
            run.prints("");
            cache.age(0);
            let run = check("-v --timeout=20 127.0.0.2");
            assert_ne!(memory(&run), Memory::None, "{run}");
        }
        assert_eq!(cache.files(), ["cache"]);
    }

    /// Opening may already do something to what is no file.
    #[test]
    fn only_regular_files_are_opened() {
        let port = Port::new();
        for make in irregular() {
            let cache = Cache::new();
            make(&cache.path());
            let check = cache.check(&port, "127.0.0.2");
            let Some(check) = check.traced("only_regular_files_are_opened") else {
                return;
            };
            let run = check.run();
            let path = cache.path();
            let path = path.to_str().unwrap();
            let open = |call: &&str| call.contains("open") && call.contains(path);
            assert_eq!(run.stderr.lines().find(open), None);
        }
    }

    /// The same where the system has none left.
    #[test]
    fn servers_not_asked_for_want_of_means_are_not_forgotten() {
        namespace::run(|| {
            let test = "servers_not_asked_for_want_of_means_are_not_forgotten";
            if !has("strace", test) {
                return;
            }
            // Of two connections the second cannot be made, or no lookup.
            let rows = [
                ("socket", "2+", "127.0.0.3"),
                ("eventfd2", "1+", "localhost"),
                // A thread is to be had only when the time is over.
                ("clone,clone3", "1", "localhost"),
            ];
            each(&rows, |(call, times, other)| {
                let (port, cache) = (Port::new(), Cache::new());
                cache.remember(&port, other);
                cache.age(65);
                let silent = port.listen("0.0.0.0", 16);
                let check = cache.check(&port, &format!("--timeout=.5 127.0.0.2 {other}"));
                let error = format!("error=ENFILE:when={times}");
                let run = check.injecting(call, &error).run();
                run.prints("").after(ms(500));
                assert_eq!(waiting(&silent), 1, "{run}");
                let (taken, new): (Vec<_>, Vec<_>) = cache
                    .entries()
                    .into_iter()
                    .partition(|entry| entry.is_taken());
                assert_eq!((taken.len(), new.len()), (1, 1), "{run}{taken:?} {new:?}");
                assert!(new[0].is_new(), "{run}{new:?}");
            });
        });
    }

    /// A connection that could only be begun when another server was done may
    /// have had too little time. One that is refused then is as good as any.
    #[test]
    fn servers_that_were_asked_late_are_not_remembered() {
        if !has("strace", "servers_that_were_asked_late_are_not_remembered") {
            return;
        }
        let (port, cache) = (Port::new(), Cache::new());
        let _first = port.serve("127.0.0.2", &down_after(ms(500)));
        let check = || {
            let check = cache.check(&port, "--timeout=2 127.0.0.2 127.0.0.3");
            check.injecting("socket", "error=ENFILE:when=2").run()
        };
        cache.remember(&port, "127.0.0.3");
        cache.age(65);
        check().prints("").after(ms(500));
        assert_eq!(cache.entries(), []);

        let silent = port.listen("127.0.0.3", 16);
        let run = check();
        run.prints("").after(ms(2000));
        assert_eq!((waiting(&silent), cache.entries()), (1, vec![]), "{run}");
    }

    /// Where descriptors are short, the one of the file is better used for a
    /// server. What was remembered counts all the same.
    #[test]
    fn the_file_gives_way_to_a_connection() {
        if !has("prlimit", "the_file_gives_way_to_a_connection") {
            return;
        }
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.4");
        let servers = [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)];
        let remembered = port.serve("127.0.0.4", UP);
        let rows = [
            ("127.0.0.2", "127.0.0.2"),
            ("127.0.0.4", ""),
            ("127.0.0.4 127.0.0.3 127.0.0.2", "127.0.0.2"),
            ("127.0.0.3", ""),
        ];
        for (words, answer) in rows {
            let check = cache.check(&port, words).first("--timeout=20");
            let check = check.under(&["prlimit", "--nofile=4:4"]);
            check.run().prints(answer).at_once();
        }
        assert_eq!(servers.map(smtp::Server::count), [2, 2]);
        assert_eq!(remembered.count(), 0);
        assert!(cache.only_entry().is_new());
    }

    /// What another process writes just before an entry is read does not come from
    /// the future: the clock is looked at after that.
    #[test]
    fn the_clock_is_read_after_the_entry() {
        if !has("strace", "the_clock_is_read_after_the_entry") {
            return;
        }
        let (port, cache) = (Port::new(), Cache::new());
        cache.remember(&port, "127.0.0.2");
        let path = cache.path();
        // The first read is that of the header. The second takes three seconds, in
        // which the time of the entry comes.
        cache.change(|entry| entry.time = now() + 2);
        let check = cache.check(&port, "-v --timeout=20 127.0.0.2");
        let check = check.injecting("pread64", "delay_enter=3000000:when=2");
        let run = check.under(&["-P", path.to_str().unwrap()]).run();
        run.answers("").after(ms(3000));
        assert!(matches!(memory(&run), Memory::Down(0..10)), "{run}");
    }

    /// A file that may not be so large, or not be written that far. The write
    /// sends a signal (SIGXFSZ), of which the program must not die.
    #[test]
    fn files_that_may_not_grow() {
        if !has("prlimit", "files_that_may_not_grow") {
            return;
        }
        let servers = Servers::new(Port::new());
        each(&["--fsize=0", "--fsize=4096", "--fsize=8223"], |limit| {
            let cache = Cache::new();
            let path = cache.path();
            servers.warn(&path, NO_SPACE, |check| check.under(&["prlimit", limit]));
            assert!(!path.exists());
        });
        let cache = Cache::new();
        let check = |words: &str| {
            let check = cache.check(&servers.port, words);
            check.under(&["prlimit", "--fsize=8224"]).run()
        };
        check("--timeout=.2 127.0.0.4").prints("").after(ms(200));
        check("--timeout=20 127.0.0.4").prints("").at_once();

        let _silent = servers.port.listen("127.0.0.5", 16);
        // A file that is there, with an entry that is good, has run out, or is
        // not there.
        for (age, words, answer, after) in [
            (0, "--timeout=20 127.0.0.4", "", 0),
            (65, "--timeout=.2 127.0.0.4", "", 200),
            (0, "--timeout=.2 127.0.0.5", "", 200),
            (0, "127.0.0.2", "127.0.0.2", 0),
        ] {
            cache.age(age);
            let before = cache.bytes();
            let check = cache.check(&servers.port, words);
            let run = check.under(&["prlimit", "--fsize=0"]).run();
            run.answers(answer).after(ms(after));
            let warning = warning(&cache.path(), NO_SPACE);
            let expected = if after > 0 { &*warning } else { "" };
            assert_eq!(run.stderr, expected, "{run}");
            assert_eq!(cache.bytes(), before);
        }
    }

    /// The system has no locks to give, or knows nothing random: each is a reason
    /// to do without the file.
    #[test]
    fn calls_that_fail() {
        if !has("strace", "calls_that_fail") {
            return;
        }
        let servers = Servers::new(Port::new());
        let rows = [
            ("flock", "error=ENOLCK", "system error 37"),
            ("getrandom", "error=ENOSYS", "system error 38"),
            ("fdatasync", "error=EIO", "system error 5"),
        ];
        each(&rows, |(call, error, reason)| {
            let cache = Cache::new();
            servers.warn(&cache.path(), reason, |check| check.injecting(call, error));
            assert!(!cache.path().exists());
        });

        // An entry that has run out cannot be taken over: everybody asks.
        let cache = Cache::new();
        let check = |words: &str| cache.check(&servers.port, words);
        check("--timeout=.2 127.0.0.4").run().prints("");
        cache.age(65);
        let before = cache.bytes();
        let check = check("--timeout=.2 127.0.0.4 127.0.0.2");
        let run = check.injecting("flock", "error=ENOLCK").run();
        run.answers("127.0.0.2").after(ms(200));
        assert!(
            run.stderr.ends_with("cannot be used: system error 37\n"),
            "{run}"
        );
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
        assert_ne!(cache.bytes(), before, "it is remembered all the same");

        // Before anything random is known a file is not made, without a word.
        let cache = Cache::new();
        let check = cache.check(&servers.port, "127.0.0.2");
        let run = check.injecting("getrandom", "error=EAGAIN").run();
        run.prints("127.0.0.2");
        assert!(!cache.path().exists());
    }
}
