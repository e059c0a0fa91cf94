//! One server: its addresses, its deadline, its greeting.

mod attempts;
mod greeting;
mod reset;
mod servers;
mod source;
