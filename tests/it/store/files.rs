//! How the file is made, and files that must not be touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::{Cache, HEADER, MAGIC, SIZE, SLOW, good, is_valid, lock};
use crate::harness::namespace::sh;
use crate::harness::run::{Check, each};
use crate::harness::smtp::{self, DOWN, Port, UP};

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
    let (port, cache) = (Port::new(), Cache::new());
    let _up = port.serve("127.0.0.2", UP);
    fs::write(cache.new_path(), b"").unwrap();
    let path = cache.new_path();
    let _lock = lock(&path, 0, SIZE);
    for (server, answer) in [("127.0.0.2", "127.0.0.2"), ("127.0.0.3", "")] {
        let check = cache.check(&port, server);
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
pub fn unchanged(folder: &Path, done: impl FnOnce()) {
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

const IRREGULAR: &str = "not a regular file";
pub const OTHER_OWNER: &str = "owned by another user";
pub const WORLD_WRITABLE: &str = "writable by everyone";
const FOREIGN: &str = "not an smtpdcheck cache";
const OTHER_VERSION: &str =
    "created by another version of smtpdcheck; remove it, and a new one will be created";
pub const NO_PERMISSION: &str = "permission denied";
const NO_FOLDER: &str = "no such directory";
const NOT_A_FOLDER: &str = "not a directory";
pub const READ_ONLY: &str = "read-only file system";
pub const NO_SPACE: &str = "no space left on device";
pub const TOO_LARGE: &str = "file too large";
const TOO_LONG: &str = "file name too long";

/// What is said of a cache that cannot be used.
pub fn warning(path: &Path, reason: &str) -> String {
    let path = path.display();
    format!("smtpdcheck: warning: cache '{path}': {reason}\n")
}

/// Servers of all kinds, to be checked with a cache that cannot be used.
pub struct Servers {
    pub port: Port,
    _servers: [smtp::Server; 2],
    _silent: TcpListener,
}

impl Servers {
    pub fn new(port: Port) -> Self {
        Servers {
            _servers: [port.serve("127.0.0.2", UP), port.serve("127.0.0.3", DOWN)],
            _silent: port.listen("127.0.0.4", 1024),
            port,
        }
    }

    /// Checks servers with a cache that must be left as it is, for this
    /// reason: each check says so, and answers as if there were none.
    #[track_caller]
    pub fn warn(&self, path: &Path, reason: &str, prepare: impl Fn(Check) -> Check) {
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
            run("--timeout=1 127.0.0.4").answers("").after(SLOW);
        }
    }
}

/// Makes something that must be left as it is.
pub type Make = Box<dyn Fn(&Path) + Sync>;

/// Regular files that are something else.
fn foreign() -> Vec<Vec<u8>> {
    let mut upper = good();
    upper[0] = b'S';
    vec![
        b"".to_vec(),
        b"x".to_vec(),
        MAGIC.to_vec(),
        good()[..HEADER - 1].to_vec(),
        good()[..HEADER].to_vec(),
        good()[1..].to_vec(),
        good()[..SIZE - 1].to_vec(),
        [&good()[..], b"\0"].concat(),
        [good(), good()].concat(),
        vec![0; SIZE],
        vec![b' '; SIZE],
        upper,
    ]
}

/// Caches of other versions, or that a transfer as text has changed.
fn other_versions() -> Vec<Vec<u8>> {
    let change = |at: usize, byte: u8| {
        let mut bytes = good();
        bytes[at] = byte;
        bytes
    };
    // It has lost a byte, and got one at its end.
    let mut text = good();
    text.remove(12);
    text.push(b'\n');
    let mut first = vec![0; 8224];
    first[..HEADER].copy_from_slice(&change(11, b'1')[..HEADER]);
    let mut second = vec![0; 16_416];
    second[..HEADER].copy_from_slice(&change(11, b'2')[..HEADER]);
    let versions = [b'1', b'2', b'4'].map(|version| change(11, version));
    [vec![first, second, change(15, 1), text], versions.into()].concat()
}

/// What is no regular file.
pub fn irregular() -> Vec<Make> {
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
    let write = |bytes: Vec<u8>| -> Make { Box::new(move |path| fs::write(path, &bytes).unwrap()) };
    let foreign = foreign().into_iter().map(|bytes| (write(bytes), FOREIGN));
    let versions = other_versions().into_iter();
    let versions = versions.map(|bytes| (write(bytes), OTHER_VERSION));
    let irregular = irregular().into_iter().map(|make| (make, IRREGULAR));
    let open = [0o666, 0o602, 0o1777].map(|mode| {
        let make: Make = Box::new(move |path| {
            fs::write(path, good()).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        });
        (make, WORLD_WRITABLE)
    });
    foreign
        .chain(versions)
        .chain(irregular)
        .chain(open)
        .collect()
}

/// Checks with each of these files, and with each in the place where a new
/// one is made.
#[test]
fn files_that_are_no_cache_are_left_alone() {
    let servers = Servers::new(Port::new());
    each(&refused(), |(make, reason)| {
        let cache = Cache::new();
        make(&cache.path());
        let path = cache.path();
        unchanged(&cache.folder, || servers.warn(&path, reason, |check| check));

        let cache = Cache::new();
        make(&cache.new_path());
        let found = fs::symlink_metadata(cache.new_path()).unwrap();
        let left_behind = [0, SIZE as u64].contains(&found.len());
        // What is begun has no version yet.
        let is_content = [FOREIGN, OTHER_VERSION].contains(reason);
        if !(found.is_file() && left_behind && is_content) {
            let reason = if is_content { FOREIGN } else { reason };
            let path = cache.path();
            unchanged(&cache.folder, || servers.warn(&path, reason, |check| check));
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
        let paths = [
            ("none/cache", NO_FOLDER),
            ("none/none/cache", NO_FOLDER),
            ("file/cache", NOT_A_FOLDER),
            ("none/", NO_FOLDER),
        ];
        each(&paths, |(path, reason)| {
            servers.warn(&cache.folder.join(path), reason, |check| check);
        });
        servers.warn(&cache.folder.join(""), IRREGULAR, |check| check);
    });
}

/// A name with bytes that nobody should see.
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
    let end = format!("none\\x1b/x': {NO_FOLDER}\n");
    assert!(run.stderr.ends_with(&end), "{run}");
    assert_eq!(cache.files().len(), 1);
}

/// The name under which a file is made may be one that is too long.
#[test]
fn long_names() {
    let servers = Servers::new(Port::new());
    each(&[251, 252, 253, 254, 255], |length| {
        let cache = Cache::new();
        let name = "x".repeat(*length);
        let path = cache.folder.join(&name);
        let option = format!("--cache={}", path.display());
        let check = |words: &str| servers.port.check(words).first(&option).run();
        check("--timeout=1 127.0.0.4").prints("").after(SLOW);
        check("--timeout=20 127.0.0.4").prints("").at_once();
        assert_eq!(cache.files(), [name]);
        assert!(is_valid(&fs::read(&path).unwrap()));
    });
    let cache = Cache::new();
    servers.warn(&cache.folder.join("x".repeat(256)), TOO_LONG, |check| check);
    assert_eq!(cache.files(), [""; 0]);
}

/// Where the status is 2, its reason is all that is said.
#[test]
fn a_failure_is_the_only_line() {
    let port = Port::new();
    let _up = port.serve("127.0.0.2", UP);
    let cache = Cache::new();
    fs::write(cache.path(), b"x").unwrap();
    let check = |words: &str| cache.check(&port, words);
    let run = check("127.0.0.3").run();
    assert_eq!(run.answers("").stderr, warning(&cache.path(), FOREIGN));
    let full = File::options().write(true).open("/dev/full").unwrap();
    check("127.0.0.2").stdout(full).run().fails().at_once();
    let check = check("--stop fe80::1%none 127.0.0.2");
    check.run().fails().at_once();
}
