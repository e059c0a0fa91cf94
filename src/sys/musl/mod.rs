//! Functions of the C library, nearly all for musl's resolver. musl's own are
//! made for speed, for every locale, for every notation of a number, and for
//! all that can be done with a file. These do what the resolver needs, and make
//! the program 6 KiB smaller.
//!
//! The linker leaves out what a static program defines itself. Where these
//! functions do less than the manual says, only musl calls them.

mod numbers;
mod streams;
mod texts;

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::ptr;

/// qsort(3), for the few addresses of a host.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn qsort(
    list: *mut c_void,
    count: usize,
    size: usize,
    compare: extern "C" fn(*const c_void, *const c_void) -> c_int,
) {
    let list = list.cast::<u8>();
    for sorted in 1..count {
        for i in (0..sorted).rev() {
            // SAFETY: the list has `count` elements of `size` bytes.
            unsafe {
                let (one, next) = (list.add(i * size), list.add((i + 1) * size));
                if compare(one.cast(), next.cast()) <= 0 {
                    break;
                }
                for byte in 0..size {
                    ptr::swap(one.add(byte), next.add(byte));
                }
            }
        }
    }
}

/// A port and protocol of a service, as musl's resolver has it.
#[repr(C)]
#[cfg_attr(test, allow(dead_code))]
struct Service {
    port: u16,
    protocol: u8,
    kind: u8,
}

/// The part of getaddrinfo(3) that looks up a service in /etc/services: here it
/// is asked for TCP and no service. Returns how many there are.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __lookup_serv(
    services: *mut Service,
    _name: *const c_char,
    _protocol: c_int,
    _kind: c_int,
    _flags: c_int,
) -> c_int {
    let service = Service {
        port: 0,
        protocol: libc::IPPROTO_TCP as u8,
        kind: libc::SOCK_STREAM as u8,
    };
    // SAFETY: the list has room for two.
    unsafe { services.write(service) };
    1
}

/// What musl's fstat(2) asks for where the kernel is older than Linux 3.6: the
/// path `/proc/self/fd/` and a number, for which there is room.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __procfdname(path: *mut u8, fd: c_uint) {
    let folder = *b"/proc/self/fd/";
    let (mut rest, mut end) = (fd, folder.len() + 1);
    while rest > 9 {
        (rest, end) = (rest / 10, end + 1);
    }
    rest = fd;
    // SAFETY: the caller's promise.
    unsafe {
        path.cast::<[u8; 14]>().write(folder);
        *path.add(end) = 0;
        while end > folder.len() {
            end -= 1;
            *path.add(end) = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// sendmsg(2), without control messages.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const c_void, flags: c_int) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_sendmsg, fd, message, flags) }
}

/// recvmsg(2), without control messages.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut c_void, flags: c_int) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_recvmsg, fd, message, flags) }
}

/// calloc(3), for a size that does not overflow.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: any size will do, and the memory has it.
    unsafe {
        let memory = libc::malloc(count * size);
        if !memory.is_null() {
            ptr::write_bytes(memory.cast::<u8>(), 0, count * size);
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn descriptors_have_paths() {
        for fd in [0, 9, 10, 99, 100, 1_000_000_000, c_uint::MAX] {
            let mut path = [b'x'; 32];
            // SAFETY: there is room for 32 bytes.
            unsafe { __procfdname(path.as_mut_ptr(), fd) };
            let path = CStr::from_bytes_until_nul(&path).expect("a C string");
            assert_eq!(path.to_str(), Ok(&*format!("/proc/self/fd/{fd}")));
        }
    }

    #[test]
    fn messages_are_sent_and_received() {
        let mut fds = [0; 2];
        let (mut sent, mut received) = (*b"message", [0; 16]);
        for (bytes, is_sent) in [(&mut sent[..], true), (&mut received[..], false)] {
            // SAFETY: all zeros is a valid `msghdr`, and all pointers are ours.
            let count = unsafe {
                if is_sent {
                    libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, fds.as_mut_ptr());
                }
                let mut part = libc::iovec {
                    iov_base: bytes.as_mut_ptr().cast(),
                    iov_len: bytes.len(),
                };
                let mut message: libc::msghdr = std::mem::zeroed();
                (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
                match is_sent {
                    true => sendmsg(fds[0], (&raw const message).cast(), 0),
                    false => recvmsg(fds[1], (&raw mut message).cast(), 0),
                }
            };
            assert_eq!(count, 7);
        }
        assert_eq!(&received[..7], b"message");
        // SAFETY: they are open, and nobody else's.
        let _ = fds.map(|fd| unsafe { libc::close(fd) });
    }

    #[test]
    fn memory_is_cleared() {
        // SAFETY: it is as large as was asked for, and freed once.
        unsafe {
            let memory = calloc(3, 5);
            assert_eq!(memory.cast::<[u8; 15]>().read(), [0; 15]);
            libc::free(memory);
        }
    }

    #[test]
    fn lists_are_sorted() {
        extern "C" fn compare(one: *const c_void, other: *const c_void) -> c_int {
            // SAFETY: they are elements of the list below.
            let first = |item: *const c_void| unsafe { *item.cast::<[u8; 3]>() }[0];
            c_int::from(first(one)) - c_int::from(first(other))
        }
        for count in 0..40u8 {
            // 37 is prime, and the second and third byte follow the first.
            let mut list: Vec<[u8; 3]> = (0..count)
                .map(|i| (i + 1) * 5 % 37)
                .map(|first| [first, first ^ 1, first ^ 2])
                .collect();
            let mut expected = list.clone();
            expected.sort_by_key(|item| item[0]);
            // SAFETY: the list has as many elements of this size.
            unsafe { qsort(list.as_mut_ptr().cast(), list.len(), 3, compare) };
            assert_eq!(list, expected);
        }
    }
}
