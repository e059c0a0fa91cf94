//! Why this machine fails, in the same words with every C library.

use std::io;

/// The reason behind an error of the system.
pub fn reason(error: &io::Error) -> String {
    let words = match error.raw_os_error().unwrap_or(0) {
        libc::EMFILE | libc::ENFILE => "no descriptors left",
        libc::ENOMEM | libc::ENOBUFS => "no memory left",
        libc::EAGAIN => "no threads left",
        libc::EACCES | libc::EPERM => "not allowed",
        libc::ENOSPC | libc::EDQUOT => "no space left",
        libc::EROFS => "the file system is read-only",
        libc::ENOENT | libc::ENOTDIR => "there is no such folder",
        libc::EPIPE => "nobody reads it",
        libc::EBADF => "it is closed",
        number => return format!("system error {number}"),
    };
    words.into()
}
