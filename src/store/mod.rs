//! What checks remember for one another, in a file that their processes share.
//!
//! The [`table`] knows files, slots and locks; [`servers`] and [`senders`] know
//! what is in the slots.

pub mod senders;
pub mod servers;
pub mod table;

use std::cell::Cell;
use std::time::Duration;

use crate::sys::{self, Errno};
use servers::Lifetimes;
use table::{Table, Unusable};

/// An open file.
pub struct Cache {
    /// `None` once it is closed: then nothing is remembered.
    table: Option<Table>,
    lifetimes: Lifetimes,
    /// The first failure to lock or to write.
    error: Cell<Option<Errno>>,
}

impl Cache {
    /// Opens the file, or makes it. The entries of servers count for so many
    /// seconds, down and up; who asks again after that knows more after
    /// `timeout`. A file that cannot be used is left as it is.
    pub fn open(path: &[u8], ttls: [u32; 2], timeout: Option<Duration>) -> Result<Self, Unusable> {
        Ok(Cache {
            table: Some(Table::open(path)?),
            lifetimes: Lifetimes::new(ttls, timeout),
            error: Cell::new(None),
        })
    }

    /// Closes the file, and so gives its descriptor back. Returns false if
    /// that has been done.
    pub fn close(&mut self) -> bool {
        self.table.take().is_some()
    }

    /// The first failure to lock or to write.
    pub fn error(&self) -> Option<Errno> {
        self.error.get()
    }

    fn note(&self, result: sys::Result<()>) {
        if let Err(error) = result {
            self.error.set(self.error.get().or(Some(error)));
        }
    }
}
