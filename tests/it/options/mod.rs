//! The command line, and the texts that explain it.

mod usage;
mod words;
