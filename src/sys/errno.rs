//! Why this machine fails, in the same words with every C library.

use std::fmt::{self, Display, Formatter};

use crate::sys::Errno;

impl Display for Errno {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            libc::EMFILE | libc::ENFILE => "no descriptors left",
            libc::ENOMEM | libc::ENOBUFS => "no memory left",
            libc::EAGAIN => "no threads left",
            libc::EACCES | libc::EPERM => "not allowed",
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => "no space left",
            libc::EROFS => "the file system is read-only",
            libc::ENOENT | libc::ENOTDIR => "there is no such folder",
            libc::EPIPE => "nobody reads it",
            libc::EBADF => "it is closed",
            number => return write!(f, "system error {number}"),
        })
    }
}
