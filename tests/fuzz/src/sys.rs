//! The system as the cache sees it, in the place of the program's own module:
//! two names that stand for files, a clock and a lock that the target sets,
//! and calls that fail when it says so. The files are true ones.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

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

#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub is_regular: bool,
    pub owner: u32,
    pub is_world_writable: bool,
    pub has_one_name: bool,
    pub size: libc::off_t,
    pub inode: u64,
}

/// A file that has a name.
#[derive(Debug)]
pub struct Named {
    pub file: File,
    /// All but the size and the number, which are the file's own.
    pub status: Status,
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
    /// What taking the lock comes to.
    pub lock: Option<Errno>,
    /// What another process writes before the lock is taken, and where.
    pub before_lock: Option<([u8; 8], u64)>,
    /// Which call fails: 1 is the next one, 0 is none.
    pub failing: u32,
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

/// What a file is that this program has made.
pub const OWN: Status = Status {
    is_regular: true,
    owner: USER,
    is_world_writable: false,
    has_one_name: true,
    size: 0,
    inode: 0,
};

pub fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("a path")
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
        let named = world.named(path).as_ref().ok_or(Errno(libc::ENOENT))?;
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

pub fn seconds() -> u32 {
    world(|world| world.now)
}

pub fn try_lock(file: &File) -> Result<()> {
    world(|world| {
        if let Some((bytes, offset)) = world.before_lock.take() {
            std::os::unix::fs::FileExt::write_all_at(file, &bytes, offset)?;
        }
        world.call()?;
        world.lock.map_or(Ok(()), Err)
    })
}

pub fn unlock(_: &File) {}

pub fn random(bytes: &mut [u8]) -> Result<()> {
    world(World::call)?;
    bytes.fill(RANDOM);
    Ok(())
}

pub fn effective_user() -> u32 {
    USER
}
