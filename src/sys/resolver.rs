//! Looking names up, as the system does it.

use std::ffi::CStr;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::c_int;

use super::errno::Errno;

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
    /// The name servers failed or did not answer.
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
        libc::EAI_AGAIN | libc::EAI_FAIL => return Err(LookupError::NameServer),
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
