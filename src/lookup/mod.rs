//! Looking names up: getaddrinfo on helper threads, and the descriptor that
//! wakes the loop when one of them has an answer.
//!
//! The two families are asked for apart: with musl, one AAAA query that fails
//! or hangs would turn a good A record into a failure (`EAI_AGAIN`, after five
//! seconds). A lookup cannot be stopped; one that nobody waits for any more is
//! left behind.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::sys::{self, Family, LookupError};

/// Both families, in the order of the arrays that have an entry for each.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// How many addresses of a family are kept. musl itself returns no more.
const MAX_ADDRESSES: usize = 48;
/// How many lookups run at a time. Name servers answer in milliseconds; when
/// they do not, this many threads and sockets a process are enough.
const MAX_THREADS: usize = 64;

/// Why a family has no addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The name does not exist, or has no address of the family.
    NoSuchHost,
    /// The name servers did not answer, or did not know this time.
    TryAgain,
    /// The name servers do not know.
    NameServer,
    /// There was no answer before the deadline.
    OutOfTime,
    /// Nobody had begun to ask before the deadline.
    NotAsked,
}

/// How far the lookup in one family has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nobody wants it.
    Unwanted,
    /// It is to be asked for.
    Wanted,
    /// It has been asked for, and stands at this place in the helpers' line.
    Asked(usize),
    /// Its addresses are known, or there are none.
    Over(Result<(), Failure>),
}

/// The addresses of one host.
#[derive(Debug)]
pub struct Lookup {
    /// The name to look up; empty where the address was given.
    name: &'static CStr,
    states: [State; 2],
    /// Whether it had to wait in the helpers' line: this machine was late, not
    /// a server.
    pub stood_in_line: bool,
    addresses: [Vec<SocketAddr>; 2],
}

impl Lookup {
    /// The lookup of a name, which nobody wants yet.
    pub fn of_name(name: &[u8]) -> Self {
        Lookup {
            // It is never freed: a lookup left behind may come back to it.
            name: Box::leak(sys::c_string(name).into_boxed_c_str()),
            states: [State::Unwanted; 2],
            stood_in_line: false,
            addresses: [Vec::new(), Vec::new()],
        }
    }

    /// The lookup of an address, or of what names no host: it is over.
    pub fn of_address(address: Option<SocketAddr>) -> Self {
        let mut lookup = Self::of_name(b"");
        lookup.states = [State::Over(Ok(())); 2];
        if let Some(address) = address {
            lookup.addresses[usize::from(address.is_ipv6())].push(address);
        }
        lookup
    }

    /// Asks for those families that have not been asked for.
    pub fn want(&mut self, families: [bool; 2]) {
        for (state, wanted) in self.states.iter_mut().zip(families) {
            if wanted && *state == State::Unwanted {
                *state = State::Wanted;
            }
        }
    }

    /// Hands one family that is wanted to the helpers. An error is this
    /// machine's: the family is still wanted.
    pub fn ask(&mut self, helpers: &mut Helpers, asker: Asker) -> sys::Result<()> {
        let is_wanted = |&family: &Family| self.states[family as usize] == State::Wanted;
        if let Some(family) = FAMILIES.into_iter().find(is_wanted) {
            let name = self.name;
            let (place, at_once) = helpers.ask(Question {
                asker,
                family,
                name,
            })?;
            self.states[family as usize] = State::Asked(place);
            self.stood_in_line |= !at_once;
        }
        Ok(())
    }

    /// Takes the helpers' answer, with `port` as the port of each address. An
    /// error is this machine's: the family is wanted again.
    pub fn take(&mut self, answer: Answer, port: u16) -> sys::Result<()> {
        let family = answer.family as usize;
        if !matches!(self.states[family], State::Asked(_)) {
            return Ok(());
        }
        let result = match answer.result {
            Ok(addresses) => {
                let known = &mut self.addresses[family];
                for mut address in addresses {
                    address.set_port(port);
                    // A mapped IPv4 address is no answer to a question for
                    // IPv6: so only an IPv4 lookup can find an IPv4 stop host.
                    let is_mapped = address.ip().to_canonical() != address.ip();
                    if !is_mapped && !known.contains(&address) {
                        known.push(address);
                    }
                }
                match known.len() {
                    0 => Err(Failure::NoSuchHost),
                    _ => Ok(()),
                }
            }
            Err(LookupError::NoSuchHost) => Err(Failure::NoSuchHost),
            Err(LookupError::TryAgain) => Err(Failure::TryAgain),
            Err(LookupError::NameServer) => Err(Failure::NameServer),
            Err(LookupError::Machine(error)) => {
                self.states[family] = State::Wanted;
                return Err(error);
            }
        };
        self.states[family] = State::Over(result);
        Ok(())
    }

    /// Gives up what has not been answered.
    pub fn time_out(&mut self) {
        for state in &mut self.states {
            match state {
                State::Wanted => *state = State::Over(Err(Failure::NotAsked)),
                State::Asked(_) => *state = State::Over(Err(Failure::OutOfTime)),
                _ => {}
            }
        }
    }

    /// The known addresses of a family, in the resolver's order.
    pub fn addresses(&self, family: Family) -> &[SocketAddr] {
        &self.addresses[family as usize]
    }

    /// Whether any address is known.
    pub fn has_address(&self) -> bool {
        self.addresses.iter().any(|addresses| !addresses.is_empty())
    }

    /// Whether a family is wanted and may yet be found.
    pub fn is_open(&self, family: Family) -> bool {
        matches!(
            self.states[family as usize],
            State::Wanted | State::Asked(_)
        )
    }

    /// Whether any family is wanted and may yet be found.
    pub fn is_any_open(&self) -> bool {
        FAMILIES.iter().any(|&family| self.is_open(family))
    }

    /// Whether a family might be found, wanted or not.
    pub fn is_unknown(&self, family: Family) -> bool {
        !matches!(self.states[family as usize], State::Over(_))
    }

    /// Whether there is something to hand to the helpers.
    pub fn is_wanted(&self) -> bool {
        self.states.contains(&State::Wanted)
    }

    /// Why a family has no addresses.
    pub fn failure(&self, family: Family) -> Option<Failure> {
        match self.states[family as usize] {
            State::Over(result) => result.err(),
            _ => None,
        }
    }
}

/// Who asked for a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// The stop host of this index.
    Stop(usize),
    /// The probe of this index.
    Probe(usize),
}

struct Question {
    asker: Asker,
    family: Family,
    name: &'static CStr,
}

/// What a helper found.
#[derive(Debug)]
pub struct Answer {
    /// Who had asked.
    pub asker: Asker,
    family: Family,
    result: Result<Vec<SocketAddr>, LookupError>,
}

/// What the helper threads and the loop share.
struct Shared {
    work: Mutex<Work>,
    /// Tells the threads of questions.
    asked: Condvar,
    /// Tells the loop of answers.
    wake: File,
}

#[derive(Default)]
struct Work {
    /// All that was ever asked; what was answered or taken back is gone.
    questions: Vec<Option<Question>>,
    /// Every question before this one is gone.
    next: usize,
    /// How many questions wait for a thread.
    waiting: usize,
    /// How many questions have no answer yet.
    open: usize,
    answers: Vec<Answer>,
    threads: usize,
    /// How many threads wait for questions.
    idle: usize,
}

impl Work {
    /// Takes the next question.
    fn next(&mut self) -> Option<Question> {
        while self.waiting > 0 {
            let question = self.questions.get_mut(self.next)?.take();
            self.next += 1;
            if question.is_some() {
                self.waiting -= 1;
                return question;
            }
        }
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers questions, for as long as the process lives.
    fn help(&self) {
        let mut work = self.lock();
        loop {
            if let Some(question) = work.next() {
                drop(work);
                let answer = question.answer();
                work = self.lock();
                work.answers.push(answer);
                work.open -= 1;
                // It can fail only when the counter is full, and then it wakes.
                let _ = (&self.wake).write(&1u64.to_ne_bytes());
            } else {
                work.idle += 1;
                work = self
                    .asked
                    .wait(work)
                    .unwrap_or_else(PoisonError::into_inner);
                work.idle -= 1;
            }
        }
    }
}

impl Question {
    fn answer(self) -> Answer {
        Answer {
            result: sys::lookup(self.name, self.family, MAX_ADDRESSES),
            asker: self.asker,
            family: self.family,
        }
    }
}

/// The helper threads. There are none, and no descriptor, until something is
/// asked.
#[derive(Default)]
pub struct Helpers {
    /// It is never freed: a lookup left behind may come back to it.
    shared: Option<&'static Shared>,
}

impl Helpers {
    /// Takes a question, and returns where it stands in the line, and whether
    /// a thread is free for it.
    fn ask(&mut self, question: Question) -> sys::Result<(usize, bool)> {
        let shared = match self.shared {
            Some(shared) => shared,
            None => {
                #[cfg(not(test))]
                sys::catch_division_by_zero();
                Box::leak(Box::new(Shared {
                    work: Mutex::default(),
                    asked: Condvar::new(),
                    wake: File::from(sys::event_counter()?),
                }))
            }
        };
        self.shared = Some(shared);
        let mut work = shared.lock();
        let place = work.questions.len();
        work.questions.push(Some(question));
        work.waiting += 1;
        work.open += 1;
        shared.asked.notify_one();
        let mut at_once = work.waiting <= work.idle;
        if !at_once && work.threads < MAX_THREADS {
            match sys::spawn(move || shared.help()) {
                Ok(()) => {
                    work.threads += 1;
                    at_once = true;
                }
                // Those who are at work will come to it.
                Err(_) if work.threads > 0 => {}
                Err(error) => {
                    work.questions.pop();
                    work.waiting -= 1;
                    work.open -= 1;
                    return Err(error);
                }
            }
        }
        Ok((place, at_once))
    }

    /// Takes back the questions of a lookup that nobody has begun to answer:
    /// they are still wanted. Returns whether there were any.
    pub fn take_back(&self, lookup: &mut Lookup) -> bool {
        let Some(shared) = self.shared else {
            return false;
        };
        let mut work = shared.lock();
        let open = work.open;
        for state in &mut lookup.states {
            let State::Asked(place) = *state else {
                continue;
            };
            if work.questions[place].take().is_some() {
                *state = State::Wanted;
                work.waiting -= 1;
                work.open -= 1;
            }
        }
        work.open < open
    }

    /// Whether any question has no answer yet.
    pub fn are_busy(&self) -> bool {
        self.shared.is_some_and(|shared| shared.lock().open > 0)
    }

    /// The descriptor that is readable when there are answers.
    pub fn wake(&self) -> Option<RawFd> {
        self.shared.map(|shared| shared.wake.as_raw_fd())
    }

    /// The answers so far.
    pub fn answers(&mut self) -> Vec<Answer> {
        let Some(shared) = self.shared else {
            return Vec::new();
        };
        let mut counter = [0; 8];
        // It fails when the counter is zero: nothing was to be reset.
        let _ = (&shared.wake).read(&mut counter);
        std::mem::take(&mut shared.lock().answers)
    }
}
