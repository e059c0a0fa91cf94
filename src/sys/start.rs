//! How the program starts and ends, and its memory. Not for unit tests, which
//! have the standard library's.

use std::ffi::{CStr, OsStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

use super::process;

/// Makes `$start`, which takes the arguments and returns the exit status, the
/// program. It is C's `main`: the standard library's opens `/dev/null` for
/// closed descriptors, and aborts where there is none.
macro_rules! entry_point {
    ($start:path) => {
        #[allow(unsafe_code, reason = "the C library calls it")]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: std::ffi::c_int,
            words: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            // SAFETY: these are what the C library gives to `main`.
            let arguments = unsafe { $crate::sys::start::arguments(count, words) };
            $crate::sys::process::exit($start(arguments))
        }
    };
}
pub(crate) use entry_point;

/// The arguments of the command line, without the program's name.
///
/// # Safety
/// `words` has `count` C strings, which live as long as the process.
pub unsafe fn arguments(
    count: c_int,
    words: *const *const c_char,
) -> impl Iterator<Item = OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    (1..count).map(move |i| {
        // SAFETY: the caller's promise.
        let argument = unsafe { CStr::from_ptr(*words.add(i)) };
        OsStr::from_bytes(argument.to_bytes()).to_owned()
    })
}

/// Ends with a line on standard error, whichever thread it is that cannot go
/// on. If several cannot, one of them says so.
pub fn abort(line: &str) -> ! {
    static ABORTING: AtomicBool = AtomicBool::new(false);
    while ABORTING.swap(true, Ordering::Relaxed) {
        // The thread that says so is about to end the process.
        std::hint::spin_loop();
    }
    // Whether it can be written changes nothing.
    let _ = process::write_all(process::STANDARD_ERROR, line.as_bytes());
    process::exit(process::FAILURE)
}

/// Memory is freed only when the process ends: a check uses a few kilobytes a
/// server and is over in seconds. A program that refers to `free`
/// nowhere gets musl's simplest allocator, which is 7 KiB smaller and costs
/// three system calls less.
mod memory {
    use std::alloc::{GlobalAlloc, Layout};
    use std::mem;

    struct Malloc;

    #[global_allocator]
    static MALLOC: Malloc = Malloc;

    // SAFETY: malloc keeps the contract for alignments up to that of the
    // largest type; nothing here has a larger one.
    unsafe impl GlobalAlloc for Malloc {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: any size will do.
            let memory = unsafe { libc::malloc(layout.size()) };
            if memory.is_null() || layout.align() > mem::align_of::<libc::max_align_t>() {
                super::abort("smtpdcheck: out of memory\n");
            }
            memory.cast()
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
}
