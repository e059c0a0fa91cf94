//! A question about one recipient, and what came of it.

/// What a mail server asks about one recipient, in bytes as it says them but in
/// lower case.
pub struct Question<'a> {
    /// What follows the last `@` of the recipient, without a final dot.
    pub domain: &'a [u8],
    pub recipient: &'a [u8],
    /// The sender; empty for the null sender.
    pub sender: &'a [u8],
    /// The client's address.
    pub client: &'a [u8],
    /// The address that the client has connected to.
    pub server: &'a [u8],
    /// What all recipients of one message have in common; empty if not known.
    pub message: &'a [u8],
}

impl<'a> Question<'a> {
    /// A question that says no more than the domain.
    pub fn about(domain: &'a [u8]) -> Self {
        Question {
            domain,
            recipient: b"",
            sender: b"",
            client: b"",
            server: b"",
            message: b"",
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// None is up, or there is nothing to check.
    NoneUp,
    /// A better server is up. The last line that was printed is its name.
    Up,
    /// The message has been deferred long enough.
    Waited,
    /// It cannot be told. The last line that was printed says why.
    Unknown,
}
