//! What the tests use: running the program, scripted SMTP and name servers,
//! private networks.

pub mod dns;
pub mod namespace;
pub mod run;
pub mod smtp;
pub mod zone;
