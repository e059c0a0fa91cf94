//! Exit statuses.

use crate::sys::process;

/// No server is up, or the message was deferred long enough, or help was
/// printed.
pub const NONE_UP: i32 = 0;
/// A server is up.
pub const UP: i32 = 1;
/// Usage error, or a local failure.
pub const FAILURE: i32 = process::FAILURE;

/// The message was deferred long enough, and nobody was asked: only a gate's
/// child ends with this.
pub const WAITED: i32 = 3;
