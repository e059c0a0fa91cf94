//! The system as the cache sees it, in the place of the program's own module:
//! two names that stand for files, a clock, locks and other processes that the
//! target sets, and calls that fail when it says so. The files are true ones.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io;
use std::ops::Range;

pub type Result<T> = std::result::Result<T, Errno>;

/// The name of the cache; any other is the one under which it is made.
pub const PATH: &[u8] = b"cache";
/// Who asks.
pub const USER: u32 = 1000;
/// What every random byte is.
pub const RANDOM: u8 = 0xa5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(0))
    }
}

impl Display for Errno {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A file that has a name.
#[derive(Debug)]
pub struct Named {
    pub file: File,
    /// All but the size and the number, which are the file's own.
    pub status: file::Status,
}

/// What another process does just before this one has a lock, or has not.
#[derive(Clone, Debug)]
pub enum Other {
    /// It writes into the cache.
    Writes(Vec<u8>, u64),
    /// It completes the file that is being made, with this content; and
    /// perhaps a third one begins another.
    Completes(Vec<u8>, bool),
    /// It makes a file of its own, with this content.
    Makes(Vec<u8>),
}

/// What a thread's calls find.
#[derive(Default)]
pub struct World {
    pub cache: Option<Named>,
    /// The file that is being made.
    pub new: Option<Named>,
    /// Files without a name, to make new ones of.
    pub spare: Vec<File>,
    pub now: u32,
    /// The bytes on which another process has the lock.
    pub locked: Range<u64>,
    /// The bytes on which this process has locks.
    pub own_locks: Vec<Range<u64>>,
    /// Why no lock can be had at all.
    pub lock_error: Option<Errno>,
    pub before_lock: Option<Other>,
    /// Which call fails: 1 is the next one, 0 is none.
    pub failing: u32,
    /// Files that are opened cannot be written.
    pub is_read_only: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Looks at this thread's world, or changes it.
pub fn world<T>(change: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(change)
}

impl World {
    fn named(&mut self, path: &CStr) -> &mut Option<Named> {
        if path.to_bytes() == PATH {
            &mut self.cache
        } else {
            &mut self.new
        }
    }

    /// A call begins; it may be the one that fails.
    fn call(&mut self) -> Result<()> {
        let fails = self.failing == 1;
        self.failing = self.failing.saturating_sub(1);
        if fails { Err(Errno(libc::EIO)) } else { Ok(()) }
    }
}

pub fn c_string(bytes: &[u8]) -> &'static CStr {
    match bytes {
        PATH => c"cache",
        b"cache.new" => c"cache.new",
        other => panic!("no such file: {other:?}"),
    }
}

pub mod net {
    use std::net::{Ipv4Addr, Ipv6Addr};

    pub fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
        parse(libc::AF_INET, text).map(Ipv4Addr::from)
    }

    pub fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
        parse(libc::AF_INET6, text).map(Ipv6Addr::from)
    }

    #[cfg(not(miri))]
    fn parse<const N: usize>(family: i32, text: &[u8]) -> Option<[u8; N]> {
        unsafe extern "C" {
            fn inet_pton(family: i32, text: *const libc::c_char, address: *mut u8) -> i32;
        }
        let text = std::ffi::CString::new(text).ok()?;
        let mut address = [0; N];
        // SAFETY: the text is a C string; an address of the family has `N` bytes.
        let code = unsafe { inet_pton(family, text.as_ptr(), address.as_mut_ptr()) };
        (code == 1).then_some(address)
    }

    /// Miri has no inet_pton.
    #[cfg(miri)]
    fn parse<const N: usize>(_: i32, text: &[u8]) -> Option<[u8; N]> {
        let address: std::net::IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
        match address {
            std::net::IpAddr::V4(ip) => ip.octets()[..].try_into().ok(),
            std::net::IpAddr::V6(ip) => ip.octets()[..].try_into().ok(),
        }
    }
}

pub mod file {
    use std::ffi::CStr;
    use std::fs::File;
    use std::ops::Range;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::{Errno, Named, Other, PATH, Result, USER, World, world};

    #[derive(Clone, Copy, Debug)]
    pub struct Status {
        pub is_regular: bool,
        pub owner: u32,
        pub is_world_writable: bool,
        pub has_one_name: bool,
        pub size: libc::off_t,
        pub inode: u64,
    }

    pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize> {
        Ok(FileExt::read_at(file, bytes, offset)?)
    }

    pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<()> {
        match FileExt::write_at(file, bytes, offset)? {
            written if written < bytes.len() => Err(Errno(libc::ENOSPC)),
            _ => Ok(()),
        }
    }

    pub fn sync(file: &File) -> Result<()> {
        Ok(file.sync_data()?)
    }

    /// What a file is that this program has made.
    pub const OWN: Status = Status {
        is_regular: true,
        owner: USER,
        is_world_writable: false,
        has_one_name: true,
        size: 0,
        inode: 0,
    };

    impl Named {
        fn status(&self) -> Result<Status> {
            let found = self.file.metadata()?;
            Ok(Status {
                size: libc::off_t::try_from(found.size()).expect("a small file"),
                inode: found.ino(),
                ..self.status
            })
        }
    }

    pub fn status(path: &CStr) -> Result<Status> {
        world(|world| {
            world.call()?;
            let named = world.named(path).as_ref().ok_or(Errno(libc::ENOENT))?;
            named.status()
        })
    }

    pub fn status_of(file: &File) -> Result<Status> {
        let inode = file.metadata()?.ino();
        world(|world| {
            world.call()?;
            for named in [&world.cache, &world.new].into_iter().flatten() {
                let status = named.status()?;
                if status.inode == inode {
                    return Ok(status);
                }
            }
            panic!("a file without a name is open");
        })
    }

    pub fn open(path: &CStr, create: bool) -> Result<File> {
        world(|world| {
            world.call()?;
            if create && world.named(path).is_none() {
                let file = world.spare.pop().expect("a spare file");
                file.set_len(0)?;
                *world.named(path) = Some(Named { file, status: OWN });
            }
            let is_read_only = world.is_read_only;
            let named = world.named(path).as_ref().ok_or(Errno(libc::ENOENT))?;
            if is_read_only {
                let number = named.file.as_raw_fd();
                return Ok(File::open(format!("/proc/self/fd/{number}"))?);
            }
            Ok(named.file.try_clone()?)
        })
    }

    pub fn resize(file: &File, size: libc::off_t) -> Result<()> {
        world(World::call)?;
        Ok(file.set_len(u64::try_from(size).expect("a size"))?)
    }

    pub fn rename(from: &CStr, to: &CStr) -> Result<()> {
        world(|world| {
            world.call()?;
            assert!(world.named(to).is_none(), "a cache is replaced");
            *world.named(to) = world.named(from).take();
            Ok(())
        })
    }

    pub fn remove(path: &CStr) -> Result<()> {
        assert_ne!(path.to_bytes(), PATH, "a cache is removed");
        world(|world| {
            world.call()?;
            let named = world.named(path).take().expect("the new file");
            world.spare.push(named.file);
            Ok(())
        })
    }

    /// The lock is one on these bytes: others may have theirs on other bytes.
    pub fn try_lock(_: &File, offset: libc::off_t, length: libc::off_t) -> Result<()> {
        let wanted = range(offset, length);
        world(|world| {
            match world.before_lock.take() {
                Some(Other::Writes(bytes, offset)) => {
                    let cache = world.cache.as_ref().expect("the cache");
                    cache.file.write_all_at(&bytes, offset)?;
                }
                Some(Other::Completes(content, is_begun)) => {
                    let named = world.new.take().expect("the new file");
                    fill(&named.file, &content)?;
                    world.cache = Some(named);
                    if is_begun {
                        let file = world.spare.pop().expect("a spare file");
                        file.set_len(0)?;
                        world.new = Some(Named { file, status: OWN });
                    }
                }
                Some(Other::Makes(content)) => {
                    let file = world.spare.pop().expect("a spare file");
                    fill(&file, &content)?;
                    world.cache = Some(Named { file, status: OWN });
                }
                None => {}
            }
            world.call()?;
            if let Some(error) = world.lock_error {
                return Err(error);
            }
            let locked = &world.locked;
            if locked.start < wanted.end && wanted.start < locked.end {
                return Err(Errno(libc::EAGAIN));
            }
            if !world.own_locks.contains(&wanted) {
                world.own_locks.push(wanted);
            }
            Ok(())
        })
    }

    pub fn unlock(_: &File, offset: libc::off_t, length: libc::off_t) {
        let given_back = range(offset, length);
        world(|world| world.own_locks.retain(|lock| *lock != given_back));
    }

    fn range(offset: libc::off_t, length: libc::off_t) -> Range<u64> {
        let start = u64::try_from(offset).expect("an offset");
        start..start + u64::try_from(length).expect("a length")
    }

    fn fill(file: &File, content: &[u8]) -> Result<()> {
        file.set_len(content.len() as u64)?;
        Ok(file.write_all_at(content, 0)?)
    }
}

pub mod process {
    use super::{RANDOM, Result, USER, World, world};

    pub fn seconds() -> u32 {
        world(|world| world.now)
    }

    pub fn random(bytes: &mut [u8]) -> Result<()> {
        world(World::call)?;
        bytes.fill(RANDOM);
        Ok(())
    }

    pub fn effective_user() -> u32 {
        USER
    }
}
