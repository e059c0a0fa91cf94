//! What to do when this machine is short of descriptors or threads. Pure: it
//! is told what happened, and says what may be tried.
//!
//! What failed is tried again when something else has ended. If nothing is
//! under way that could end, it is tried once more all the same, for it may
//! have failed for what others had at that moment; and then lookups are made
//! one at a time, for several at once may again use up what each of them needs.
//! Only if that fails as well, the check fails.

use crate::sys::Errno;

/// What failed, and for which server.
pub type Reason = (Errno, usize);

/// The state of one check.
#[derive(Default)]
pub struct Shortage {
    /// No connection can be made until something ends.
    connection: Option<Reason>,
    /// No lookup can be made until something ends.
    lookup: Option<Reason>,
    /// Nothing has ended since the last retry.
    retried: bool,
    /// A lookup is under way beside which no other is begun.
    is_lookup_alone: bool,
    /// The latest failure.
    latest: Option<Reason>,
}

impl Shortage {
    pub fn may_connect(&self) -> bool {
        self.connection.is_none()
    }

    pub fn may_look_up(&self) -> bool {
        self.lookup.is_none() && !self.is_lookup_alone
    }

    /// Whether closing a descriptor might help.
    pub fn is_of_descriptors(&self) -> bool {
        let reasons = self.connection.iter().chain(&self.lookup);
        reasons.into_iter().any(|(e, _)| e.is_descriptor_shortage())
    }

    /// Why no lookup can be made.
    pub fn of_lookups(&self) -> Option<Errno> {
        self.lookup.map(|(error, _)| error)
    }

    /// The latest failure, if there ever was one.
    pub fn latest(&self) -> Option<Reason> {
        self.latest
    }

    pub fn connect_failed(&mut self, reason: Reason) {
        self.connection = Some(reason);
        self.latest = self.connection;
    }

    pub fn lookup_failed(&mut self, reason: Reason) {
        self.lookup = Some(reason);
        self.latest = self.lookup;
    }

    /// A connection was attempted. Even if that failed at once, it may have had
    /// what a lookup needs.
    pub fn connected(&mut self) {
        self.retried = false;
    }

    /// A lookup has begun.
    pub fn lookup_begun(&mut self) {
        self.is_lookup_alone = self.retried;
    }

    /// A lookup has ended or was cancelled.
    pub fn lookup_ended(&mut self) {
        self.is_lookup_alone = false;
    }

    /// Something has ended. Returns whether there is something to try again.
    pub fn freed(&mut self) -> bool {
        self.retried = false;
        self.connection.take().is_some() | self.lookup.take().is_some()
    }

    /// Nothing is under way that could end. Returns whether there is something
    /// to try again; the error is that this has been done.
    pub fn try_again(&mut self) -> Result<bool, Reason> {
        let lookup = self.lookup.take();
        match self.connection.take().or(lookup) {
            Some(reason) if self.retried => Err(reason),
            Some(_) => {
                self.retried = true;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTORS: Reason = (Errno(libc::EMFILE), 3);
    const THREADS: Reason = (Errno(libc::EAGAIN), 4);

    #[test]
    fn nothing_is_short_at_first() {
        let mut shortage = Shortage::default();
        assert!(shortage.may_connect() && shortage.may_look_up());
        assert!(!shortage.is_of_descriptors());
        assert!(!shortage.freed());
        assert_eq!(shortage.try_again(), Ok(false));
        assert_eq!(shortage.latest(), None);
    }

    #[test]
    fn what_failed_waits_until_something_ends() {
        let mut shortage = Shortage::default();
        shortage.connect_failed(DESCRIPTORS);
        assert!(!shortage.may_connect() && shortage.may_look_up());
        assert!(shortage.is_of_descriptors());
        assert!(shortage.freed());
        assert!(shortage.may_connect());
        shortage.lookup_failed(THREADS);
        assert!(shortage.may_connect() && !shortage.may_look_up());
        assert_eq!(shortage.of_lookups(), Some(THREADS.0));
        assert!(!shortage.is_of_descriptors());
        assert!(shortage.freed());
        assert!(shortage.may_look_up());
        assert_eq!(shortage.latest(), Some(THREADS));
    }

    #[test]
    fn where_nothing_can_end_it_is_tried_once_more() {
        let mut shortage = Shortage::default();
        shortage.connect_failed(DESCRIPTORS);
        assert_eq!(shortage.try_again(), Ok(true));
        assert!(shortage.may_connect());
        shortage.connect_failed(DESCRIPTORS);
        assert_eq!(shortage.try_again(), Err(DESCRIPTORS));

        // Anything that has ended gives it another chance.
        let mut shortage = Shortage::default();
        for ended in [Shortage::connected, |shortage: &mut Shortage| {
            shortage.freed();
        }] {
            shortage.lookup_failed(THREADS);
            assert_eq!(shortage.try_again(), Ok(true));
            ended(&mut shortage);
        }
        shortage.lookup_failed(THREADS);
        assert_eq!(shortage.try_again(), Ok(true));
        shortage.lookup_failed(THREADS);
        assert_eq!(shortage.try_again(), Err(THREADS));
    }

    #[test]
    fn after_a_round_of_failures_one_lookup_is_made_alone() {
        let mut shortage = Shortage::default();
        shortage.lookup_begun();
        assert!(shortage.may_look_up(), "lookups run at the same time");
        shortage.lookup_failed(DESCRIPTORS);
        assert_eq!(shortage.try_again(), Ok(true));
        shortage.lookup_begun();
        assert!(!shortage.may_look_up(), "one runs alone");
        shortage.lookup_ended();
        assert!(shortage.may_look_up());
        shortage.freed();
        shortage.lookup_begun();
        assert!(shortage.may_look_up());
    }
}
