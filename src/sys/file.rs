//! Files that processes share.

use std::ffi::CStr;
use std::fs::File;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd};

use libc::c_int;
#[cfg(not(target_env = "musl"))]
use libc::fcntl;

use super::errno::{Errno, Result, check};

/// What there is to know of a file without reading it.
#[derive(Clone, Copy)]
pub struct Status {
    /// Whether it is a regular file.
    pub is_regular: bool,
    /// The user it belongs to.
    pub owner: u32,
    /// Whether everyone may write to it.
    pub is_world_writable: bool,
    /// Whether no other name is linked to it; it may have none any more.
    pub has_one_name: bool,
    /// Its size, in bytes.
    pub size: libc::off_t,
    /// Its number in its file system.
    pub inode: u64,
}

/// lstat(2): what stands at a path; of a link, the link.
pub fn status(path: &CStr) -> Result<Status> {
    let mut raw = mem::MaybeUninit::uninit();
    // SAFETY: `path` is a C string, and `raw` is large enough.
    check(unsafe { libc::lstat(path.as_ptr(), raw.as_mut_ptr()) })?;
    // SAFETY: the call has filled it.
    Ok(Status::from(unsafe { raw.assume_init() }))
}

/// fstat(2): what has been opened.
pub fn status_of(file: &File) -> Result<Status> {
    let mut raw = mem::MaybeUninit::uninit();
    // SAFETY: `raw` is large enough.
    check(unsafe { libc::fstat(file.as_raw_fd(), raw.as_mut_ptr()) })?;
    // SAFETY: the call has filled it.
    Ok(Status::from(unsafe { raw.assume_init() }))
}

impl From<libc::stat> for Status {
    fn from(raw: libc::stat) -> Self {
        Status {
            is_regular: raw.st_mode & libc::S_IFMT == libc::S_IFREG,
            owner: raw.st_uid,
            is_world_writable: raw.st_mode & libc::S_IWOTH != 0,
            has_one_name: raw.st_nlink <= 1,
            size: raw.st_size,
            inode: raw.st_ino,
        }
    }
}

/// open(2) for reading and writing, not through a link, and without waiting
/// for whoever has a lease: `EAGAIN`. With `create` a file that is not there is
/// made, which only its owner may read and write.
pub fn open(path: &CStr, create: bool) -> Result<File> {
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let flags = if create { flags | libc::O_CREAT } else { flags };
    let mode: libc::mode_t = 0o600;
    // SAFETY: `path` is a C string.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags, mode) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// open(2) for reading, without waiting for anybody.
pub fn open_to_read(path: &CStr) -> Result<File> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: `path` is a C string.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// pread(2): reads at an offset. Returns how many bytes there are, which may
/// be fewer than asked for.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize> {
    let (fd, count) = (file.as_raw_fd(), bytes.len());
    // SAFETY: the pointer and the length describe `bytes`.
    let result =
        unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), count, offset as libc::off_t) };
    usize::try_from(result).map_err(|_| Errno::latest())
}

/// pwrite(2): writes at an offset, all of it or nothing: what does not fit on
/// the device is an error.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<()> {
    let (fd, count) = (file.as_raw_fd(), bytes.len());
    // SAFETY: the pointer and the length describe `bytes`.
    let result = unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), count, offset as libc::off_t) };
    match usize::try_from(result) {
        Ok(written) if written < count => Err(Errno(libc::ENOSPC)),
        Ok(_) => Ok(()),
        Err(_) => Err(Errno::latest()),
    }
}

/// fdatasync(2): waits until the content is on the device.
pub fn sync(file: &File) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fdatasync(file.as_raw_fd()) }).map(drop)
}

/// ftruncate(2): cuts a file off there, or fills it up with zeros.
pub fn resize(file: &File, size: libc::off_t) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), size) }).map(drop)
}

/// rename(2).
pub fn rename(from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: both are C strings.
    check(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) }).map(drop)
}

/// unlink(2).
pub fn remove(path: &CStr) -> Result<()> {
    // SAFETY: `path` is a C string.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

/// A lock on `length` bytes at `offset` for this open file alone, not waited
/// for: `EAGAIN` when somebody else has one there. It ends when the file is
/// closed, so at the latest with the process. (Linux 3.15, open file
/// description locks of fcntl(2).)
pub fn try_lock(file: &File, offset: libc::off_t, length: libc::off_t) -> Result<()> {
    set_lock(file, libc::F_WRLCK, offset, length)
}

/// Gives back a lock of [`try_lock`].
pub fn unlock(file: &File, offset: libc::off_t, length: libc::off_t) {
    // It cannot fail for an open file.
    let _ = set_lock(file, libc::F_UNLCK, offset, length);
}

fn set_lock(file: &File, kind: c_int, offset: libc::off_t, length: libc::off_t) -> Result<()> {
    // SAFETY: all zeros is a valid `flock`.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = offset;
    lock.l_len = length;
    // SAFETY: the pointer is to a `flock` of ours.
    match unsafe { fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        -1 => Err(match Errno::latest() {
            // POSIX allows both for a lock that somebody else has.
            Errno(libc::EACCES) => Errno(libc::EAGAIN),
            other => other,
        }),
        _ => Ok(()),
    }
}

/// fcntl(2), without what musl's own does for other commands.
///
/// # Safety
/// The command takes a pointer to a `flock`, which it does not change.
#[cfg(target_env = "musl")]
unsafe fn fcntl(fd: c_int, command: c_int, lock: *const libc::flock) -> libc::c_long {
    // The numbers in a `flock` have 64 bits on every machine.
    #[cfg(not(target_pointer_width = "32"))]
    use libc::SYS_fcntl;
    #[cfg(target_pointer_width = "32")]
    use libc::SYS_fcntl64 as SYS_fcntl;
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(SYS_fcntl, fd, command, lock) }
}
