//! The process: its descriptors, signals, threads and clock.

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, pollfd};
use libc::{c_int, c_void};

use super::errno::{Errno, Result, check};

pub const STANDARD_INPUT: RawFd = 0;
pub const STANDARD_OUTPUT: RawFd = 1;
pub const STANDARD_ERROR: RawFd = 2;

/// The exit status of a process that cannot go on.
pub const FAILURE: c_int = 2;

/// Occupies descriptors 0 to 2 if closed; otherwise a socket could get that
/// number, and our output would go to a mail server. A write to the substitute
/// fails, as to a closed descriptor.
pub fn occupy_standard_descriptors() -> Result<()> {
    let numbers = [STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR];
    let mut standard = numbers.map(|fd| interest(fd, 0));
    poll(&mut standard, Some(Duration::ZERO))?;
    for fd in standard.iter().filter(|fd| fd.revents & POLLNVAL != 0) {
        // The lowest free number is this one: it stays occupied.
        let root = open_root()?;
        debug_assert_eq!(root.as_raw_fd(), fd.fd);
        mem::forget(root);
    }
    Ok(())
}

/// Silences standard error where it is the same file as standard output, unless
/// that is a terminal: the mail server would take a message for an answer.
pub fn silence_joined_error() -> Result<()> {
    let (output, error) = (stat(STANDARD_OUTPUT)?, stat(STANDARD_ERROR)?);
    let is_terminal = output.st_mode & libc::S_IFMT == libc::S_IFCHR;
    if (output.st_dev, output.st_ino) == (error.st_dev, error.st_ino) && !is_terminal {
        // SAFETY: nothing owns the descriptor, and the number is taken at once.
        unsafe { libc::close(STANDARD_ERROR) };
        mem::forget(open_root()?);
    }
    Ok(())
}

/// fstat(2).
fn stat(fd: RawFd) -> Result<libc::stat> {
    let mut raw = mem::MaybeUninit::uninit();
    // SAFETY: `raw` is large enough.
    check(unsafe { libc::fstat(fd, raw.as_mut_ptr()) })?;
    // SAFETY: the call has filled it.
    Ok(unsafe { raw.assume_init() })
}

/// open(2) of the root directory for no more than its name: the descriptor
/// can be neither read nor written, and opening it needs no permission.
fn open_root() -> Result<OwnedFd> {
    // SAFETY: the path is a C string.
    let fd = check(unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// _exit(2): ends at once. exit(3) might wait for a lookup that was left
/// behind, and there is nothing of ours to flush.
pub fn exit(status: c_int) -> ! {
    // SAFETY: it can be called at any time.
    unsafe { libc::_exit(status) }
}

/// write(2), until all is written.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(Errno(libc::EIO)),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno(libc::EINTR)) => {}
            // Another process that shares it has made it nonblocking. The
            // bytes are wanted all the same.
            Err(Errno(libc::EAGAIN)) => poll(&mut [interest(fd, POLLOUT)], None)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// read(2), once.
pub fn read(fd: RawFd, bytes: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and the length describe `bytes`.
    let result = unsafe { libc::read(fd, bytes.as_mut_ptr().cast::<c_void>(), bytes.len()) };
    usize::try_from(result).map_err(|_| Errno::latest())
}

/// write(2), once.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the pointer and the length describe `bytes`.
    let result = unsafe { libc::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
    usize::try_from(result).map_err(|_| Errno::latest())
}

/// Stands for a descriptor that poll passes over.
pub const NO_DESCRIPTOR: RawFd = -1;

/// A `pollfd` that waits for `events` on `fd`.
pub fn interest(fd: RawFd, events: i16) -> pollfd {
    pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// poll(2), for at most `timeout` rounded up to milliseconds, or for ever.
/// A signal ends it early, as if nothing had happened.
pub fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> Result<()> {
    let timeout = timeout.map_or(-1, |timeout| {
        let rest = timeout.subsec_nanos().div_ceil(1_000_000);
        let milliseconds = timeout
            .as_secs()
            .saturating_mul(1000)
            .saturating_add(rest.into());
        c_int::try_from(milliseconds).unwrap_or(c_int::MAX)
    });
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the pointer and the count describe `fds`.
    let result = unsafe { libc::poll(fds.as_mut_ptr(), count, timeout) };
    match check(result) {
        Err(Errno(libc::EINTR)) => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// eventfd(2): a counter that wakes a poll.
pub fn event_counter() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises the soft limit of descriptors to the hard one. Returns whether there
/// can be more now.
pub fn raise_descriptor_limit() -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let kind = libc::RLIMIT_NOFILE;
    // SAFETY: the pointers are null or to a `rlimit` of ours, here and below.
    if unsafe { libc::prlimit(0, kind, ptr::null(), &raw mut limit) } == -1
        || limit.rlim_cur >= limit.rlim_max
    {
        return false;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    unsafe { libc::prlimit(0, kind, &raw const limit, ptr::null_mut()) == 0 }
}

/// Blocks SIGPIPE and SIGXFSZ, so that writes to a closed pipe or past the
/// largest file size fail instead of killing us.
pub fn block_write_signals() {
    change_signals(libc::SIG_BLOCK, &[libc::SIGPIPE, libc::SIGXFSZ]);
}

/// Ends the process with a message where musl's resolver divides by zero: by
/// the number of attempts that `resolv.conf` allows.
#[cfg(not(test))]
pub fn catch_division_by_zero() {
    extern "C" fn end(_: c_int) {
        super::start::abort("smtpdcheck: cannot look up names: resolv.conf says 'attempts:0'\n");
    }
    let handler = end as extern "C" fn(c_int);
    // SAFETY: all that the handler calls can be called at any time.
    unsafe { libc::signal(libc::SIGFPE, handler as libc::sighandler_t) };
    // Where the parent has blocked it, the kernel would kill us instead.
    change_signals(libc::SIG_UNBLOCK, &[libc::SIGFPE]);
}

/// sigprocmask(2).
fn change_signals(how: c_int, signals: &[c_int]) {
    let mut set = mem::MaybeUninit::uninit();
    let set = set.as_mut_ptr();
    // SAFETY: the set is initialised before it is used. None of the calls can
    // fail for signals that exist.
    unsafe {
        libc::sigemptyset(set);
        for &signal in signals {
            libc::sigaddset(set, signal);
        }
        libc::sigprocmask(how, set, ptr::null_mut());
    }
}

/// Runs `work`, which never returns, on a new thread.
///
/// The standard library's threads carry a name, a handle and a guard against
/// stack overflow, which nobody needs here and which cost 20 KiB.
pub fn spawn<F: FnOnce() + Send + 'static>(work: F) -> Result<()> {
    extern "C" fn run<F: FnOnce()>(work: *mut c_void) -> *mut c_void {
        // SAFETY: it is the box that was given to this thread, and only to it.
        let work = unsafe { Box::from_raw(work.cast::<F>()) };
        work();
        ptr::null_mut()
    }
    let mut thread = mem::MaybeUninit::uninit();
    let work = Box::into_raw(Box::new(work)).cast::<c_void>();
    // SAFETY: `thread` is large enough; the box goes to the new
    // thread, or stays ours when there is none.
    let code = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run::<F>, work) };
    if code == 0 {
        return Ok(());
    }
    // SAFETY: no thread owns the box.
    drop(unsafe { Box::from_raw(work.cast::<F>()) });
    Err(Errno(code))
}

/// Seconds since 1970, or 0 when the clock is set to before. Not time(2), which
/// with glibc is some milliseconds behind every other clock: what another
/// program has just written would seem to come from the future.
pub fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(0))
}

/// getrandom(2): fills `bytes`, of which there are at most 256; `EAGAIN` when
/// the machine has just started and has gathered no randomness yet.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    // SAFETY: the pointer and the length describe `bytes`.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) } {
        -1 => Err(Errno::latest()),
        _ => Ok(()),
    }
}

/// geteuid(2).
pub fn effective_user() -> u32 {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() }
}
