//! The only `unsafe`: what the standard library does not offer, one call of
//! the C library a function. No policy, no SMTP, no printing.

#![allow(unsafe_code)]
// Constants and sizes of C's types, which fit wherever C wants them.
#![allow(clippy::cast_possible_truncation)]

mod errno;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libc::{c_int, c_void, socklen_t};

pub use libc::{POLLIN, POLLNVAL, POLLOUT, pollfd};

/// How the program starts, gets memory and ends.
#[cfg(not(test))]
mod process {
    use std::alloc::{GlobalAlloc, Layout};
    use std::ffi::{CStr, OsStr, c_char, c_int};
    use std::mem;
    use std::os::unix::ffi::OsStrExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Where the program starts: C's `main`, not the standard library's,
    /// which opens `/dev/null` for closed descriptors and aborts where there
    /// is none.
    #[unsafe(no_mangle)]
    extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
        let count = usize::try_from(argc).unwrap_or(0);
        let arguments = (1..count).map(|i| {
            // SAFETY: argv has argc strings, which live as long as the
            // process.
            let argument = unsafe { CStr::from_ptr(*argv.add(i)) };
            OsStr::from_bytes(argument.to_bytes()).to_owned()
        });
        exit(crate::start(arguments))
    }

    /// Ends at once: `exit` might wait for a lookup that was left behind, and
    /// there is nothing of ours to flush.
    fn exit(status: c_int) -> ! {
        // SAFETY: `_exit` can be called at any time.
        unsafe { libc::_exit(status) }
    }

    /// Ends with a line on standard error, whatever thread it is that cannot
    /// go on. If several cannot, one of them says so.
    fn fail(line: &str) -> ! {
        static FAILED: AtomicBool = AtomicBool::new(false);
        while FAILED.swap(true, Ordering::Relaxed) {
            // The one that says so is about to end the process.
            std::hint::spin_loop();
        }
        exit(crate::fail(line))
    }

    /// Lets the process end in words of its own where musl's resolver divides
    /// by zero: by the number of attempts that `resolv.conf` allows.
    pub fn catch_division_by_zero() {
        extern "C" fn end(_: c_int) {
            fail("smtpdcheck: cannot look names up: resolv.conf says 'attempts:0'\n");
        }
        let handler = end as extern "C" fn(c_int);
        // SAFETY: all that the handler calls can be called at any time.
        unsafe { libc::signal(libc::SIGFPE, handler as libc::sighandler_t) };
    }

    /// Memory is taken, and given back when the process ends: a check takes a
    /// few kilobytes a server and is over in seconds. A program that refers to
    /// `free` nowhere gets musl's simplest allocator, which is 7 KiB smaller
    /// and costs three system calls less.
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
                fail("smtpdcheck: no memory left\n");
            }
            memory.cast()
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
}

#[cfg(not(test))]
pub use process::catch_division_by_zero;

/// Why a call failed. Unlike the standard library's error it owns nothing, so
/// that no code is needed to drop it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub c_int);

/// What a call gives.
pub type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    fn latest() -> Self {
        io::Error::last_os_error().into()
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Turns the C library's -1 into its errno.
fn check(result: c_int) -> Result<c_int> {
    match result {
        -1 => Err(Errno::latest()),
        other => Ok(other),
    }
}

/// What C takes for a string; nothing, if a NUL byte is in the way.
pub fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes.to_vec()).unwrap_or_default()
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

/// open(2) of the root folder for no more than its name: the descriptor can
/// be neither read nor written, and opening it needs no permission.
pub fn open_root() -> Result<OwnedFd> {
    // SAFETY: the path is a C string.
    let fd = check(unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a write fail, instead of ending the process, that nobody reads or
/// that makes a file too large: the signals that it sends are blocked.
pub fn block_write_signals() {
    let mut signals = mem::MaybeUninit::uninit();
    let signals = signals.as_mut_ptr();
    // SAFETY: the set is initialised before it is used. None of the calls can
    // fail for signals that exist.
    unsafe {
        libc::sigemptyset(signals);
        libc::sigaddset(signals, libc::SIGPIPE);
        libc::sigaddset(signals, libc::SIGXFSZ);
        libc::sigprocmask(libc::SIG_BLOCK, signals, ptr::null_mut());
    }
}

/// write(2), once.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the pointer and the length describe `bytes`.
    let result = unsafe { libc::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
    usize::try_from(result).map_err(|_| Errno::latest())
}

/// eventfd(2): a counter that wakes a poll.
pub fn event_counter() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises the soft limit of descriptors to the hard one. Returns false when
/// there was nothing to raise, or it was not allowed.
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
    // SAFETY: there is room for the thread's name; the box goes to the new
    // thread, or stays ours when there is none.
    let code = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run::<F>, work) };
    if code == 0 {
        return Ok(());
    }
    // SAFETY: no thread has taken the box.
    drop(unsafe { Box::from_raw(work.cast::<F>()) });
    Err(Errno(code))
}

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
    // SAFETY: `path` is a C string, and `raw` has room for the answer.
    check(unsafe { libc::lstat(path.as_ptr(), raw.as_mut_ptr()) })?;
    // SAFETY: the call has filled it.
    Ok(Status::from(unsafe { raw.assume_init() }))
}

/// fstat(2): what has been opened.
pub fn status_of(file: &File) -> Result<Status> {
    let mut raw = mem::MaybeUninit::uninit();
    // SAFETY: `raw` has room for the answer.
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

/// Seconds since 1970, or 0 when the clock is set to before. Not by time(2),
/// which on glibc is some milliseconds behind every other clock: what another
/// program has just written would seem to come from the future.
pub fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(0))
}

/// flock(2), exclusively; `EAGAIN` when another process has the lock.
pub fn try_lock(file: &File) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Gives back the lock of [`try_lock`], which otherwise ends with the file.
pub fn unlock(file: &File) {
    // SAFETY: no pointers. It cannot fail for an open file.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// getrandom(2): fills `bytes`, of which there are at most 256; `EAGAIN` when
/// the machine has just started and knows nothing random yet.
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

/// if_nametoindex(3): the number of the interface of this name.
pub fn interface(name: &CStr) -> Option<u32> {
    // SAFETY: `name` is a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// A socket for TCP to addresses of this one's family.
pub fn stream_socket(address: &SocketAddr) -> Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { TcpStream::from_raw_fd(fd) })
}

/// connect(2). `EINPROGRESS` is an error like any other here.
pub fn connect(stream: &TcpStream, address: &SocketAddr) -> Result<()> {
    let fd = stream.as_raw_fd();
    let result = match address {
        SocketAddr::V4(address) => {
            // SAFETY: all zeros is a valid `sockaddr_in`.
            let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = address.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            // SAFETY: the pointer and the length describe `raw`.
            unsafe { libc::connect(fd, (&raw const raw).cast(), len_of(&raw)) }
        }
        SocketAddr::V6(address) => {
            // SAFETY: all zeros is a valid `sockaddr_in6`.
            let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = address.port().to_be();
            raw.sin6_addr.s6_addr = address.ip().octets();
            raw.sin6_scope_id = address.scope_id();
            // SAFETY: the pointer and the length describe `raw`.
            unsafe { libc::connect(fd, (&raw const raw).cast(), len_of(&raw)) }
        }
    };
    check(result).map(drop)
}

fn len_of<T>(_: &T) -> socklen_t {
    mem::size_of::<T>() as socklen_t
}

/// Which addresses a lookup asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4, or `A` records.
    V4,
    /// IPv6, or `AAAA` records.
    V6,
}

/// How a lookup failed.
#[derive(Debug)]
pub enum LookupError {
    /// The name does not exist or has no address of the family.
    NoSuchHost,
    /// The name servers did not answer, or did not know this time.
    TryAgain,
    /// The name servers do not know.
    NameServer,
    /// This machine failed.
    Machine(Errno),
}

/// getaddrinfo(3): the addresses of `name` in one family, at most `limit`, in
/// the order of preference, with the port 0.
pub fn lookup(
    name: &CStr,
    family: Family,
    limit: usize,
) -> std::result::Result<Vec<SocketAddr>, LookupError> {
    // SAFETY: all zeros, null pointers among them, are valid hints.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    hints.ai_family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let mut list = ptr::null_mut();
    // SAFETY: `name` is a C string; hints and list are ours.
    let code =
        unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list) };
    match code {
        0 => {}
        // musl says EAI_BADFLAGS when it cannot read its configuration.
        libc::EAI_SYSTEM | libc::EAI_BADFLAGS => {
            return Err(LookupError::Machine(Errno::latest()));
        }
        libc::EAI_MEMORY => {
            return Err(LookupError::Machine(Errno(libc::ENOMEM)));
        }
        libc::EAI_AGAIN => return Err(LookupError::TryAgain),
        libc::EAI_FAIL => return Err(LookupError::NameServer),
        _ => return Err(LookupError::NoSuchHost),
    }
    let mut addresses = Vec::new();
    let mut entry = list;
    // SAFETY: getaddrinfo made a list that ends with a null pointer. Like all
    // memory here it is never freed.
    while let Some(info) = unsafe { entry.as_ref() } {
        // SAFETY: `ai_addr` is null or an address of the family it says.
        let address = unsafe { address(info.ai_addr) };
        if let Some(address) = address.filter(|_| addresses.len() < limit) {
            addresses.push(address);
        }
        entry = info.ai_next;
    }
    Ok(addresses)
}

/// Copies an address.
///
/// # Safety
/// `raw` is null or points to an address as long as its family's are.
unsafe fn address(raw: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: the caller's promise, here and below.
    let family = unsafe { raw.as_ref() }?.sa_family;
    match c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a `sockaddr_in`.
            let raw = unsafe { ptr::read_unaligned(raw.cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a `sockaddr_in6`.
            let raw = unsafe { ptr::read_unaligned(raw.cast::<libc::sockaddr_in6>()) };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}
