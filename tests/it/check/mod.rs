//! Which server is the answer, when that is known, and what this machine needs
//! for it.

mod machine;
mod rules;
