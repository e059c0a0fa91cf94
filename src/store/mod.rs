//! What is remembered from one check to the next, in files that processes share.

pub mod servers;
