//! Looking names up, as the system does it.

use std::ffi::CStr;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{c_char, c_int, c_uchar};

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
pub fn addresses(
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

unsafe extern "C" {
    fn res_mkquery(
        operation: c_int,
        name: *const c_char,
        class: c_int,
        kind: c_int,
        data: *const c_uchar,
        data_length: c_int,
        record: *const c_uchar,
        query: *mut c_uchar,
        size: c_int,
    ) -> c_int;

    fn res_send(query: *const c_uchar, length: c_int, answer: *mut c_uchar, size: c_int) -> c_int;
}

/// Type MX and class IN (RFC 1035, section 3.2).
const TYPE_MX: c_int = 15;
const CLASS_IN: c_int = 1;
/// How long a query can be: a header, a name, its type and class.
const MAX_QUERY: usize = 12 + 255 + 4;
/// How long an answer can be: over TCP its length has two bytes.
const MAX_ANSWER: usize = 65_535;

/// A query for the MX records of a domain, and the answer to it, as they went
/// over the network.
pub struct Exchange {
    pub query: Vec<u8>,
    pub answer: Vec<u8>,
}

/// res_mkquery(3) and res_send(3): asks for the MX records of `domain`.
pub fn ask_mx(domain: &CStr) -> std::result::Result<Exchange, LookupError> {
    let mut query = vec![0; MAX_QUERY];
    // Not filled with zeros: that would touch all its pages.
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    // When no answer comes, musl returns -1 and leaves errno alone.
    clear_errno();
    // SAFETY: `domain` is a C string; the query has as much room as it says.
    let length = unsafe {
        res_mkquery(
            0,
            domain.as_ptr(),
            CLASS_IN,
            TYPE_MX,
            ptr::null(),
            0,
            ptr::null(),
            query.as_mut_ptr(),
            query.len() as c_int,
        )
    };
    let asked = usize::try_from(length).and_then(|length| {
        query.truncate(length);
        // SAFETY: query and answer are as long as they are said to be.
        let length = unsafe {
            res_send(
                query.as_ptr(),
                query.len() as c_int,
                answer.as_mut_ptr(),
                MAX_ANSWER as c_int,
            )
        };
        usize::try_from(length)
    });
    // A query for a host name can always be made, unless glibc could not read
    // its configuration.
    let Ok(length) = asked else {
        return Err(match Errno::latest() {
            error @ Errno(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                LookupError::Machine(error)
            }
            _ => LookupError::NameServer,
        });
    };
    // SAFETY: at most as many bytes as there is room for, and so many were written.
    unsafe { answer.set_len(length.min(MAX_ANSWER)) };
    Ok(Exchange { query, answer })
}

fn clear_errno() {
    // SAFETY: it is this thread's own.
    unsafe { *libc::__errno_location() = 0 };
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
