//! What the tests are made with: running the program, scripted SMTP and name
//! servers, and networks of their own.

pub mod dns;
pub mod namespace;
pub mod run;
pub mod smtp;
