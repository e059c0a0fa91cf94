//! Sockets and interfaces.

use std::ffi::CStr;
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use libc::socklen_t;

use super::errno::{Errno, Result, check};

/// if_nametoindex(3): the index of an interface. `ENODEV` and `ENXIO` say that
/// there is none of this name; any other error is this machine's failure to
/// find out.
pub fn interface_index(name: &CStr) -> Result<u32> {
    // SAFETY: `name` is a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::latest()),
        index => Ok(index),
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
