//! The only `unsafe`: what the standard library does not offer, one call of
//! the C library a function. No policy, no SMTP.
//!
//! Each file is about one kind of thing; all of them fail with an [`Errno`].

#![allow(unsafe_code)]
// Constants and sizes of C's types, which fit wherever C wants them.
#![allow(clippy::cast_possible_truncation)]

pub mod child;
mod errno;
pub mod file;
// A program that loads musl would lend these functions to other libraries.
#[cfg(any(test, all(target_env = "musl", target_feature = "crt-static")))]
mod musl;
pub mod net;
pub mod process;
pub mod resolver;
#[cfg(not(test))]
pub mod start;

use std::ffi::CStr;

pub use errno::{Errno, Result};

/// `bytes` as C takes a string; the empty one if there is a NUL byte among
/// them. It is never freed: a call that was left behind may come back to it.
pub fn c_string(bytes: &[u8]) -> &'static CStr {
    if bytes.contains(&0) {
        return c"";
    }
    // SAFETY: the only NUL byte is the last one.
    unsafe { CStr::from_bytes_with_nul_unchecked([bytes, b"\0"].concat().leak()) }
}
