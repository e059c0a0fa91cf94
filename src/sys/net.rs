//! Sockets and interfaces.

use std::ffi::CStr;
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use libc::{c_int, socklen_t};

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

/// setsockopt(2): lets bind(2) leave the choice of a port to connect(2), which
/// knows the other end, so that no fewer connections can be made.
pub fn choose_port_late(stream: &TcpStream) -> Result<()> {
    let option = libc::IP_BIND_ADDRESS_NO_PORT;
    let yes: c_int = 1;
    let (fd, value, length) = (stream.as_raw_fd(), (&raw const yes).cast(), len_of(&yes));
    // SAFETY: the pointer and the length describe `yes`.
    check(unsafe { libc::setsockopt(fd, libc::IPPROTO_IP, option, value, length) }).map(drop)
}

/// bind(2).
pub fn bind(stream: &TcpStream, address: &SocketAddr) -> Result<()> {
    let (name, length) = name(address);
    // SAFETY: the pointer and the length describe `name`.
    check(unsafe { libc::bind(stream.as_raw_fd(), (&raw const name).cast(), length) }).map(drop)
}

/// connect(2). `EINPROGRESS` is an error like any other here.
pub fn connect(stream: &TcpStream, address: &SocketAddr) -> Result<()> {
    let (name, length) = name(address);
    // SAFETY: the pointer and the length describe `name`.
    check(unsafe { libc::connect(stream.as_raw_fd(), (&raw const name).cast(), length) }).map(drop)
}

/// A socket address as C has it.
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// A socket address as C has it, and its length.
fn name(address: &SocketAddr) -> (Name, socklen_t) {
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: all zeros is a valid `sockaddr_in`.
            let mut v4: libc::sockaddr_in = unsafe { mem::zeroed() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            (Name { v4 }, len_of(&v4))
        }
        SocketAddr::V6(address) => {
            // SAFETY: all zeros is a valid `sockaddr_in6`.
            let mut v6: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = address.ip().octets();
            v6.sin6_scope_id = address.scope_id();
            (Name { v6 }, len_of(&v6))
        }
    }
}

fn len_of<T>(_: &T) -> socklen_t {
    mem::size_of::<T>() as socklen_t
}
