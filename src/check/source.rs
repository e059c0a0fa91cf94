//! The addresses to connect from: whether they are this machine's.

use std::net::SocketAddr;

use libc::ENODEV;

use super::address::address;
use crate::escape::Escaped;
use crate::options::Options;
use crate::probe::attempt;
use crate::server::Host;
use crate::sys::process::raise_descriptor_limit;
use crate::sys::{self, Errno};

/// Sets the socket addresses of the `--source` addresses. The error is a
/// message about one that cannot be connected from.
///
/// This is done before anything else, so that a wrong address is found
/// whichever servers are asked, and whatever is remembered of them.
pub fn set_source_addresses(options: &mut Options) -> Result<(), String> {
    for (text, address) in options.sources.iter().zip(&mut options.source_addresses) {
        if !text.is_empty() {
            set(address, text).map_err(|error| format!("--source '{}': {error}", Escaped(text)))?;
        }
    }
    Ok(())
}

/// Sets the socket address of one, to which a socket can be bound.
fn set(to: &mut Option<SocketAddr>, text: &[u8]) -> sys::Result<()> {
    *to = address(&Host::parse(text), 0, &mut raise_descriptor_limit)?;
    let address = to.as_ref().ok_or(Errno(ENODEV))?;
    while let Err(error) = attempt::socket(address, Some(address)) {
        if !error.is_descriptor_shortage() || !raise_descriptor_limit() {
            return Err(error);
        }
    }
    Ok(())
}
