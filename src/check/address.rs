//! The socket address of a host that is given by address.

use std::net::{SocketAddr, SocketAddrV6};

use crate::server::{Host, decimal};
use crate::sys::{self, Errno, net};

/// The socket address of a host; `None` if it is a name, or if its interface
/// does not exist. To look up an interface takes a descriptor for a moment:
/// `free_descriptor` is called where there is none, and returns false if it
/// cannot help. An error is this machine's.
pub fn address(
    host: &Host,
    port: u16,
    free_descriptor: &mut dyn FnMut() -> bool,
) -> sys::Result<Option<SocketAddr>> {
    let (ip, interface) = match host {
        Host::Address(ip) => return Ok(Some(SocketAddr::new(*ip, port))),
        Host::LinkLocal(ip, interface) => (ip, interface),
        Host::Name(_) | Host::Nowhere => return Ok(None),
    };
    let index = loop {
        if let Some(index) = decimal(interface.as_bytes()) {
            break index;
        }
        match net::interface_index(sys::c_string(interface.as_bytes())) {
            Ok(index) => break index,
            Err(Errno(libc::ENODEV | libc::ENXIO)) => return Ok(None),
            Err(error) if error.is_descriptor_shortage() && free_descriptor() => {}
            Err(error) => return Err(error),
        }
    };
    Ok(Some(SocketAddrV6::new(*ip, port, 0, index).into()))
}
