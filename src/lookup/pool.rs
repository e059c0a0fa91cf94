//! Threads for calls that block, and the descriptor that wakes the loop when
//! one of them has returned.
//!
//! A call cannot be stopped; one that nobody waits for any more is left
//! behind. The pool does not look into the queries, and knows their callers
//! only by a token that it hands back.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::sys::{self, process};

/// How many calls run at a time. Name servers answer in milliseconds; when
/// they do not, this many threads and sockets a process are enough.
const MAX_THREADS: usize = 64;

/// What a caller knows its query by; the pool does not look into it.
pub type Token = usize;

/// What a query that was submitted can be cancelled by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(usize);

/// Queries in the order in which they were submitted.
///
/// `length` is the number of entries that are not `None`; all entries before
/// `next` are `None`.
struct Queue<Q> {
    /// Every query submitted; `None` once started or cancelled.
    entries: Vec<Option<Q>>,
    next: usize,
    length: usize,
}

impl<Q> Queue<Q> {
    fn push(&mut self, query: Q) -> Ticket {
        self.entries.push(Some(query));
        self.length += 1;
        Ticket(self.entries.len() - 1)
    }

    fn pop(&mut self) -> Option<Q> {
        while self.length > 0 {
            let query = self.entries.get_mut(self.next)?.take();
            self.next += 1;
            if query.is_some() {
                self.length -= 1;
                return query;
            }
        }
        None
    }

    /// Returns false if the query has been started or cancelled already.
    fn cancel(&mut self, ticket: Ticket) -> bool {
        let cancelled = self.entries.get_mut(ticket.0).and_then(Option::take);
        self.length -= usize::from(cancelled.is_some());
        cancelled.is_some()
    }
}

/// What the threads and the loop share.
///
/// Each thread either runs a call (`running`), waits for one or is about to look
/// for one (`idle`), or has been woken and is about to take one from the queue.
struct Work<Q, A> {
    queue: Queue<(Token, Q)>,
    finished: Vec<(Token, A)>,
    threads: usize,
    idle: usize,
    running: usize,
}

struct Shared<Q, A> {
    work: Mutex<Work<Q, A>>,
    /// Tells the threads of queries.
    submitted: Condvar,
    /// Tells the loop of answers.
    wake: OwnedFd,
    call: fn(Q) -> A,
}

impl<Q, A> Shared<Q, A> {
    #[inline(never)]
    fn lock(&self) -> MutexGuard<'_, Work<Q, A>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does, for as long as the process lives.
    fn serve(&self) {
        let mut work = self.lock();
        loop {
            if let Some((token, query)) = work.queue.pop() {
                work.running += 1;
                drop(work);
                let answer = (self.call)(query);
                work = self.lock();
                work.running -= 1;
                work.finished.push((token, answer));
                work.idle += 1;
                // The loop would wait for the lock.
                drop(work);
                // It can fail only when the counter is full, and then it wakes.
                let _ = process::write(self.wake.as_raw_fd(), &1u64.to_ne_bytes());
                work = self.lock();
                work.idle -= 1;
            } else {
                work.idle += 1;
                let woken = self.submitted.wait(work);
                work = woken.unwrap_or_else(PoisonError::into_inner);
                work.idle -= 1;
            }
        }
    }
}

/// The threads. There are none, and no descriptor, until a query is submitted.
pub struct Pool<Q: 'static, A: 'static> {
    call: fn(Q) -> A,
    /// It is never freed: a call left behind may come back to it.
    shared: Option<&'static Shared<Q, A>>,
    lacks_threads: bool,
}

/// A query that was submitted.
pub struct Submitted {
    pub ticket: Ticket,
    /// Whether all threads are busy, so that it has to wait for one of them.
    pub is_queued: bool,
}

impl<Q: Send, A: Send> Pool<Q, A> {
    /// A pool of threads that answer queries by `call`.
    pub fn new(call: fn(Q) -> A) -> Self {
        Pool {
            call,
            shared: None,
            lacks_threads: false,
        }
    }

    /// Whether any query was ever submitted.
    pub fn is_started(&self) -> bool {
        self.shared.is_some()
    }

    /// Hands a query to a thread, or queues it. An error is this machine's:
    /// the query has not been submitted.
    pub fn submit(&mut self, token: Token, query: Q) -> sys::Result<Submitted> {
        let shared = match self.shared {
            Some(shared) => shared,
            None => Box::leak(Box::new(Shared {
                work: Mutex::new(Work {
                    queue: Queue {
                        entries: Vec::new(),
                        next: 0,
                        length: 0,
                    },
                    finished: Vec::new(),
                    threads: 0,
                    idle: 0,
                    running: 0,
                }),
                submitted: Condvar::new(),
                wake: process::event_counter()?,
                call: self.call,
            })),
        };
        self.shared = Some(shared);
        let mut work = shared.lock();
        let ticket = work.queue.push((token, query));
        let has_idle = work.idle > 0;
        let mut is_queued = work.queue.length > work.idle;
        let may_spawn = is_queued && work.threads < MAX_THREADS;
        work.threads += usize::from(may_spawn);
        // A new thread would wait for the lock.
        drop(work);
        if has_idle {
            shared.submitted.notify_one();
        }
        if may_spawn {
            match process::spawn(move || shared.serve()) {
                Ok(()) => is_queued = false,
                Err(error) => {
                    let mut work = shared.lock();
                    work.threads -= 1;
                    if work.threads == 0 {
                        work.queue.cancel(ticket);
                        return Err(error);
                    }
                    // Those that are running will come to it.
                    self.lacks_threads = true;
                }
            }
        }
        Ok(Submitted { ticket, is_queued })
    }

    /// Takes a query back that no thread has begun to answer. Returns false if
    /// one has.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        self.shared
            .is_some_and(|shared| shared.lock().queue.cancel(ticket))
    }

    /// Whether any answer has yet to come or to be collected.
    pub fn is_busy(&self) -> bool {
        self.shared.is_some_and(|shared| {
            let work = shared.lock();
            work.queue.length + work.running + work.finished.len() > 0
        })
    }

    /// Whether this machine has refused another thread, so that queries wait
    /// for fewer threads than there may be.
    pub fn lacks_threads(&self) -> bool {
        self.lacks_threads
    }

    /// The descriptor that is readable when there are answers.
    pub fn wake(&self) -> Option<RawFd> {
        self.shared.map(|shared| shared.wake.as_raw_fd())
    }

    /// Resets the descriptor that wakes the loop. Answers are to be collected
    /// after that.
    pub fn reset_wake(&self) {
        if let Some(shared) = self.shared {
            let mut counter = [0; 8];
            // It fails when the counter is zero: then there is nothing to reset.
            let _ = process::read(shared.wake.as_raw_fd(), &mut counter);
        }
    }

    /// An answer that has not been collected, with its query's token.
    pub fn next_finished(&mut self) -> Option<(Token, A)> {
        self.shared?.lock().finished.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue<char> {
        Queue {
            entries: Vec::new(),
            next: 0,
            length: 0,
        }
    }

    #[test]
    fn queries_leave_in_the_order_in_which_they_came() {
        let mut queue = queue();
        assert_eq!(queue.pop(), None);
        let tickets = ['a', 'b', 'c', 'd'].map(|query| queue.push(query));
        assert_eq!(queue.length, 4);
        assert_eq!(queue.pop(), Some('a'));
        assert!(!queue.cancel(tickets[0]), "it has been started");
        assert!(queue.cancel(tickets[2]));
        assert!(!queue.cancel(tickets[2]), "it has been cancelled");
        assert_eq!(queue.length, 2);
        assert_eq!(queue.pop(), Some('b'));
        let last = queue.push('e');
        assert_eq!(queue.pop(), Some('d'));
        assert!(queue.cancel(last));
        assert_eq!((queue.pop(), queue.length), (None, 0));
        queue.push('f');
        assert_eq!(queue.pop(), Some('f'));
    }

    /// More queries than threads, of which the first ones wait for the last.
    #[test]
    fn every_query_is_answered_once() {
        fn double(query: usize) -> usize {
            2 * query
        }
        let mut pool = Pool::new(double);
        assert!(pool.wake().is_none() && !pool.is_busy());
        let count = 3 * MAX_THREADS;
        let mut cancelled = 0;
        for query in 0..count {
            let submitted = pool.submit(query, query).expect("a thread");
            if query % 5 == 0 && pool.cancel(submitted.ticket) {
                cancelled += 1;
            }
        }
        let mut answers = Vec::new();
        while pool.is_busy() {
            answers.extend(pool.next_finished());
            std::thread::yield_now();
        }
        answers.sort_unstable();
        answers.dedup();
        assert_eq!(answers.len() + cancelled, count);
        assert!(answers.iter().all(|&(token, answer)| answer == 2 * token));
    }
}
