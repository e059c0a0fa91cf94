//! What checks remember for one another, in a file that their processes share.
//!
//! The [`table`] knows files, slots and locks; [`servers`] knows what is in
//! the slots.

pub mod servers;
pub mod table;
