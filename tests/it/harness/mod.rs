//! What the tests use: running the program, as a command or as the gate, scripted
//! SMTP and name servers, private networks.

pub mod dns;
pub mod filter;
pub mod gate;
pub mod namespace;
pub mod run;
pub mod smtp;
pub mod zone;
