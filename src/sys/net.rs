//! Sockets and interfaces.

use std::ffi::{CStr, c_char, c_void};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

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

unsafe extern "C" {
    /// The libc crate does not declare it.
    fn inet_pton(family: c_int, text: *const c_char, address: *mut c_void) -> c_int;
}

/// inet_pton(3): an IPv4 address, four plain decimal parts.
pub fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    parse(libc::AF_INET, text).map(Ipv4Addr::from)
}

/// inet_pton(3): an IPv6 address.
pub fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    parse(libc::AF_INET6, text).map(Ipv6Addr::from)
}

/// inet_pton(3): the bytes of an address, of which a family has `N`.
fn parse<const N: usize>(family: c_int, text: &[u8]) -> Option<[u8; N]> {
    // The longest text of an address, and a NUL byte (POSIX, INET6_ADDRSTRLEN).
    let mut string = [0u8; 46];
    if text.len() >= string.len() || text.contains(&0) {
        return None;
    }
    string[..text.len()].copy_from_slice(text);
    let mut address = [0; N];
    let (text, to) = (string.as_ptr().cast(), address.as_mut_ptr().cast());
    // SAFETY: the text is a C string; an address of the family has `N` bytes.
    (unsafe { inet_pton(family, text, to) } == 1).then_some(address)
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

/// Takes an ICMP error out of the socket's error queue; whether there was one.
/// While it is there, poll(2) returns `POLLERR` at once, and read(2) `EAGAIN`.
pub fn take_icmp_error(stream: &TcpStream) -> bool {
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: nothing is written to a buffer of no length.
    unsafe { libc::recv(stream.as_raw_fd(), ptr::null_mut(), 0, flags) >= 0 }
}

/// getpeername(2): whether it is connected; not before, nor after it has failed.
pub fn is_connected(stream: &TcpStream) -> bool {
    let mut length = 0;
    // SAFETY: nothing is written to a buffer of no length.
    unsafe { libc::getpeername(stream.as_raw_fd(), ptr::null_mut(), &raw mut length) == 0 }
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
