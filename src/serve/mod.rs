//! The gate: a mail server's questions in, a child process for each, and the
//! answers out.
//!
//! The parent has no threads and allocates nothing for a question. All that it
//! knows of a child is what a shell would know: what it printed, and its exit
//! status. Whatever becomes of a child, the question is answered.

mod answers;
mod at_once;
mod child;
pub mod domains;
mod in_turn;
mod opensmtpd;
mod postfix;
mod question;
mod text;

use crate::options::{Options, Protocol};
use crate::sys;

/// Does what the command does, and returns its exit status.
pub type Check = fn(&mut Options) -> i32;

/// The mail server no longer waits for answers.
struct HungUp;

/// Answers a mail server's questions until it closes standard input or output.
/// The error is a message.
pub fn serve(options: &mut Options, protocol: Protocol, check: Check) -> Result<(), String> {
    sys::child::reset_child_signal();
    match protocol {
        Protocol::Postfix => in_turn::serve(options, check),
        Protocol::OpenSmtpd => at_once::serve(options, check),
    }
}
