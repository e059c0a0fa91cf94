//! One server: its names, its addresses, its greeting.

mod greeting;
pub mod names;
mod servers;
