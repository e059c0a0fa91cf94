//! Other users, and disks. The namespace's own folder is one that everybody
//! can reach.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::files::{
    NO_PERMISSION, NO_SPACE, OTHER_OWNER, READ_ONLY, Servers, WORLD_WRITABLE, unchanged, warning,
};
use super::{Cache, HEADER, SIZE, SLOW, good, waiting};
use crate::harness::namespace::{self, FOLDER, sh};
use crate::harness::run::{Check, cannot_run, each};
use crate::harness::smtp::Port;

const NOBODY: u32 = 65534;

/// Gives a file away, where this user can.
pub fn give_to_nobody(path: &Path) {
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
            (12345, 12345, 0o600, OTHER_OWNER, OTHER_OWNER),
            (12345, NOBODY, 0o660, OTHER_OWNER, OTHER_OWNER),
            (12345, NOBODY, 0o666, OTHER_OWNER, OTHER_OWNER),
            (NOBODY, NOBODY, 0o600, "", OTHER_OWNER),
            (NOBODY, NOBODY, 0o400, NO_PERMISSION, OTHER_OWNER),
            (NOBODY, NOBODY, 0o200, NO_PERMISSION, OTHER_OWNER),
            (NOBODY, NOBODY, 0o602, WORLD_WRITABLE, OTHER_OWNER),
            (0, 0, 0o600, NO_PERMISSION, ""),
            (0, 0, 0o644, NO_PERMISSION, ""),
            (0, NOBODY, 0o640, NO_PERMISSION, ""),
            (0, NOBODY, 0o660, "", ""),
            (0, NOBODY, 0o662, WORLD_WRITABLE, WORLD_WRITABLE),
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
            servers.warn(&cache.path(), NO_PERMISSION, as_nobody);
        });
        fs::set_permissions(&cache.folder, Permissions::from_mode(0o1777)).unwrap();
        fs::write(cache.new_path(), b"").unwrap();
        chown(cache.new_path(), Some(12345), Some(NOBODY)).unwrap();
        fs::set_permissions(cache.new_path(), Permissions::from_mode(0o660)).unwrap();
        unchanged(&cache.folder, || {
            servers.warn(&cache.path(), OTHER_OWNER, as_nobody);
            servers.warn(&cache.path(), OTHER_OWNER, |check| check);
        });
        // And where nobody may not even look.
        fs::set_permissions(&cache.folder, Permissions::from_mode(0o700)).unwrap();
        servers.warn(&cache.path(), NO_PERMISSION, as_nobody);
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
        // With this key the servers do not share a slot.
        fs::write(&path, good()).unwrap();
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
            let words = format!("--timeout=1 {server}");
            run(&words, first).prints("").after(SLOW);
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
        sh(&format!("mount -t tmpfs -o size=512k tmpfs {folder}"));
        // Room for no page, or for some but not for the file.
        let filler = cache.folder.join("filler");
        let fill = |left: usize| {
            fs::write(&filler, b"").unwrap();
            let _ = fs::remove_file(cache.new_path());
            let _ = fs::write(&filler, vec![1; 512 * 1024]);
            let size = fs::metadata(&filler).unwrap().len();
            let file = OpenOptions::new().write(true).open(&filler).unwrap();
            file.set_len(size - left as u64).unwrap();
        };
        for left in [0, 4096, 8192, SIZE - 4096] {
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
        let check = cache.check(&port, &format!("--timeout=1 {list}"));
        let run = check.run();
        run.answers("").after(SLOW);
        assert_eq!(run.stderr, warning(&cache.path(), NO_SPACE), "{run}");
        let check = cache.check(&servers.port, "127.0.0.2");
        check.run().prints("127.0.0.2");
        // What could be written is remembered.
        assert!(cache.entries().iter().all(|entry| entry.is_new()));
    });
}
