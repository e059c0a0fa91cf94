//! The C library's error numbers, and this program's words for them: the same
//! with every C library, which an error table of its own would not be.

use std::fmt::{self, Display, Formatter};
use std::io;

use libc::c_int;

/// Why a call failed. Unlike the standard library's error it owns nothing, so
/// that no code is needed to drop it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub c_int);

/// What a call gives.
pub type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    /// `errno`, as the latest failed call has left it.
    pub(super) fn latest() -> Self {
        match io::Error::last_os_error().into() {
            Errno(0) => Errno(libc::EIO),
            error => error,
        }
    }

    /// Whether there are too many open files, here or in the whole system.
    pub fn is_descriptor_shortage(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl Display for Errno {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            libc::EMFILE => "too many open files",
            libc::ENFILE => "too many open files in system",
            libc::ENOMEM | libc::ENOBUFS => "out of memory",
            libc::EAGAIN => "cannot create a thread",
            libc::EAFNOSUPPORT => "address family not supported",
            libc::EADDRNOTAVAIL => "not an address of this machine",
            libc::ENODEV => "no such interface",
            libc::EACCES => "permission denied",
            libc::EPERM => "operation not permitted",
            libc::ENOSPC => "no space left on device",
            libc::EDQUOT => "disk quota exceeded",
            libc::EFBIG => "file too large",
            libc::EROFS => "read-only file system",
            libc::ENOENT => "no such file or directory",
            libc::ENOTDIR => "not a directory",
            libc::ELOOP => "too many levels of symbolic links",
            libc::ESPIPE => "not a regular file",
            libc::EISDIR => "is a directory",
            libc::ENAMETOOLONG => "file name too long",
            libc::EPIPE => "broken pipe",
            libc::EBADF => "not open for writing",
            libc::EIO => "input/output error",
            libc::ENOLCK => "no locks available",
            number => return write!(f, "system error {number}"),
        })
    }
}

/// Turns the C library's -1 into its `errno`.
pub(super) fn check(result: c_int) -> Result<c_int> {
    match result {
        -1 => Err(Errno::latest()),
        other => Ok(other),
    }
}
