//! The loop: what to poll, until when, who is told. It knows probes, not
//! SMTP.
//!
//! What is known decides what is still needed; probes are begun, led on or
//! dropped accordingly; then the loop sleeps until something happens. When
//! nothing is needed any more, the answer is known.

pub mod verdict;

use std::mem::ManuallyDrop;
use std::time::Instant;

use crate::check::verdict::{Known, Need, Verdict, first_equal};
use crate::escape::Escaped;
use crate::lookup::{Answer, Asker, FAMILIES, Failure, Helpers, Lookup};
use crate::options::{Options, Stop};
use crate::probe::{self, Lesson, Probe};
use crate::report::{Report, Unneeded};
use crate::server::{Host, Server};
use crate::store::servers::{Cache, Place};
use crate::sys::{self, Errno, pollfd};

/// Finds the first server that is up and counts, as its index. The error is a
/// message about this machine, or about a `--stop` host.
pub fn run(
    options: &Options,
    cache: &mut Option<Cache>,
    report: &Report,
) -> Result<Option<usize>, String> {
    let mut now = Instant::now();
    // The process ends with the check: closing and freeing is left to it.
    let mut run = ManuallyDrop::new(Run::new(options, cache, report, now)?);
    loop {
        if run.judge() {
            if run.is_answered() {
                let answer = run.verdict.answer();
                run.report_rest(answer);
                return Ok(answer);
            }
            run.drop_unneeded();
        }
        run.begin_more(now);
        run.lead_on(now);
        if run.changed {
            continue;
        }
        if run.may_retry()? {
            continue;
        }
        run.sleep()?;
        now = Instant::now();
        run.hear(now)?;
    }
}

struct Run<'a> {
    options: &'a Options,
    /// Closed when nothing else gives way to a connection.
    cache: &'a mut Option<Cache>,
    report: &'a Report,
    /// When time runs out: for all servers, or with `--jobs` for the stop
    /// hosts alone.
    deadline: Option<Instant>,
    helpers: Helpers,
    /// The lookups of the stop hosts.
    stops: Vec<Lookup>,
    /// For each server its probe. A host that several servers name is asked
    /// once, by the probe of the first of them; those of the others stay idle.
    probes: Vec<Probe>,
    /// For each server the first one of the same host.
    probe_of: Vec<usize>,
    /// For each server the next one of the same host.
    next_same: Vec<Option<usize>>,
    verdict: Verdict,
    /// Whether nothing is needed of any server.
    settled: bool,
    /// Whether something has changed since the last judgement.
    changed: bool,
    /// The probes that are under way.
    active: Vec<usize>,
    /// Every probe before this one has begun or is not needed.
    first_idle: usize,
    /// Why no connection can be made until something ends.
    no_connection: Option<String>,
    /// Why nothing can be looked up until something ends.
    no_lookup: Option<String>,
    /// Whether what had failed for a lack was tried again since something
    /// ended the last time.
    retried: bool,
    /// Whether a lookup is under way that was made alone, for all had failed:
    /// several may have what each other lacks.
    alone: bool,
    /// How many connections there were the last time they were counted.
    connections: usize,
    polls: Vec<pollfd>,
}

impl<'a> Run<'a> {
    fn new(
        options: &'a Options,
        cache: &'a mut Option<Cache>,
        report: &'a Report,
        now: Instant,
    ) -> Result<Self, String> {
        let servers = &options.servers;
        let count = servers.len();
        let mut stops = Vec::new();
        for stop in &options.stops {
            stops.push(stop_lookup(stop, options)?);
        }
        let probe_of = first_equal(count, &|a, b| servers[a].host.cmp(&servers[b].host));
        let mut next_same = vec![None; count];
        for (i, &first) in probe_of.iter().enumerate().rev() {
            if i != first {
                next_same[i] = next_same[first].replace(i);
            }
        }
        let probe = |server: &Server| {
            Probe::new(&server.host, &server.text, options.port, options.families)
        };
        let mut run = Run {
            options,
            cache,
            report,
            deadline: options.deadline(now),
            helpers: Helpers::default(),
            stops,
            probes: servers.iter().map(probe).collect(),
            probe_of,
            next_same,
            verdict: Verdict::new(count, |i| servers[i].priority),
            settled: false,
            changed: true,
            active: Vec::new(),
            first_idle: 0,
            no_connection: None,
            no_lookup: None,
            retried: false,
            alone: false,
            connections: 0,
            polls: Vec::new(),
        };
        // As in `learn`, but before anything is known of their host.
        for i in 0..count {
            if run.probe_of[i] != i {
                let (stop, up) = (Some(false), None);
                run.verdict.learn(i, Known { stop, up });
            }
        }
        run.learn_all();
        Ok(run)
    }

    /// Works out what is needed. Returns false when nothing has changed since
    /// the last time.
    fn judge(&mut self) -> bool {
        if self.changed {
            self.settled = self.verdict.judge();
        }
        std::mem::take(&mut self.changed)
    }

    /// The servers that a probe is for.
    fn servers_of(&self, p: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(p), |&i| self.next_same[i])
    }

    /// What is needed of a probe.
    fn need(&self, p: usize) -> Need {
        let needs = self.servers_of(p).map(|i| self.verdict.need(i));
        needs.max().unwrap_or_default()
    }

    /// Whether the answer is known. A stop host leaves it open as long as its
    /// lookup may fail.
    fn is_answered(&self) -> bool {
        self.settled && !self.stops_open()
    }

    fn stops_open(&self) -> bool {
        self.stops.iter().any(Lookup::is_any_open)
    }

    /// Ends what nobody needs any more.
    fn drop_unneeded(&mut self) {
        for &p in &self.active {
            let need = self.need(p);
            let probe = &mut self.probes[p];
            match need {
                Need::Fate => {}
                Need::Addresses => probe.stop_connecting(),
                Need::Nothing if probe.is_running() => probe.abandon(),
                Need::Nothing => {}
            }
        }
    }

    /// Begins as many of the needed probes as may run.
    fn begin_more(&mut self, now: Instant) {
        let jobs = self.options.jobs;
        let running = self.active.iter().filter(|&&p| self.probes[p].is_running());
        let most = jobs.map_or(usize::MAX, |jobs| jobs as usize);
        let mut room = most.saturating_sub(running.count());
        while room > 0 && self.first_idle < self.probes.len() {
            let p = self.first_idle;
            let need = self.need(p);
            if need == Need::Nothing || self.probes[p].has_begun() || self.probe_of[p] != p {
                self.first_idle += 1;
                continue;
            }
            if need == Need::Fate && self.recall(p) {
                // It may be needed no more, or for its addresses only.
                return;
            }
            let (only_look_up, families) = match need {
                Need::Addresses => (true, self.stop_families()),
                _ => (false, self.options.families),
            };
            let deadline = match jobs {
                Some(_) => self.options.deadline(now),
                None => self.deadline,
            };
            self.probes[p].begin(only_look_up, families, now, deadline);
            self.active.push(p);
            room -= 1;
        }
    }

    /// Asks the cache about a server that is to be probed. Returns whether it
    /// remembers it, as down.
    fn recall(&mut self, p: usize) -> bool {
        if let Some(cache) = &*self.cache {
            let memory = cache.recall(self.place(cache, p));
            self.probes[p].recall(memory);
            self.learn(p);
        }
        self.probes[p].up.is_some()
    }

    fn place(&self, cache: &Cache, p: usize) -> Place {
        let options = self.options;
        cache.place(&options.servers[p], options.port, options.families)
    }

    /// Lets everything that is under way go on.
    fn lead_on(&mut self, now: Instant) {
        if self.no_connection.is_some() || self.no_lookup.is_some() {
            self.hang_up();
        }
        if self.count_connections() < self.connections {
            self.has_freed();
        }
        for i in 0..self.stops.len() {
            while self.may_look_up() && self.stops[i].is_wanted() {
                let asked = self.stops[i].ask(&mut self.helpers, Asker::Stop(i));
                self.note_lookup(asked, &self.options.stops[i].text);
            }
        }
        for at in 0..self.active.len() {
            self.advance(self.active[at], now);
        }
        self.active.retain(|&p| self.probes[p].is_active());
        self.connections = self.count_connections();
    }

    fn count_connections(&self) -> usize {
        let count = |&p: &usize| self.probes[p].interests().count();
        self.active.iter().map(count).sum()
    }

    /// Lets one probe go on.
    fn advance(&mut self, p: usize, now: Instant) {
        let host = &self.options.servers[p].text;
        let probe = &mut self.probes[p];
        let attempts = probe.attempts.len();
        if probe.is_late(now) || !probe.is_running() {
            self.alone &= !self.helpers.take_back(&mut probe.lookup);
        } else {
            while self.may_look_up() && self.probes[p].wants_lookup() {
                let asked = self.probes[p].ask(&mut self.helpers, Asker::Probe(p));
                self.note_lookup(asked, host);
            }
            while self.no_connection.is_none() {
                let connected = self.probes[p].connect(now);
                let Err(error) = connected else { break };
                if !self.make_room(error) {
                    self.no_connection = Some(lack(error, host));
                }
            }
        }
        let probe = &mut self.probes[p];
        // One that failed at once may have had what a lookup lacked.
        self.retried &= probe.attempts.len() == attempts;
        let connections = probe.interests().count();
        probe.conclude(now);
        if probe.interests().count() < connections {
            self.has_freed();
        }
        self.learn(p);
    }

    /// Notes what a lookup failed for, unless that could be helped.
    fn note_lookup(&mut self, done: sys::Result<()>, host: &[u8]) {
        match done {
            Ok(()) => self.alone = self.retried,
            Err(error) if self.make_room(error) => {}
            Err(error) => self.no_lookup = Some(lack(error, host)),
        }
    }

    /// Whether there may be room for one more lookup.
    fn may_look_up(&self) -> bool {
        self.no_lookup.is_none() && !self.alone
    }

    /// Tries to help a lack of descriptors.
    fn make_room(&mut self, error: Errno) -> bool {
        let lacks_descriptor = error == Errno(libc::EMFILE);
        lacks_descriptor
            && (sys::raise_descriptor_limit() || self.hang_up() || self.cache.take().is_some())
    }

    /// Does not hear servers out that are up: a courtesy to them counts for
    /// less than another server. Returns whether there were any.
    fn hang_up(&mut self) -> bool {
        let mut any = false;
        for &p in &self.active {
            any |= self.probes[p].hang_up();
        }
        any
    }

    /// Something has ended, so that there may be room for something else.
    fn has_freed(&mut self) {
        self.changed |= self.no_connection.take().is_some() | self.no_lookup.take().is_some();
        self.retried = false;
    }

    /// Whether anything is under way that will end by itself: a connection, or
    /// a lookup, be it one that nobody waits for any more.
    fn is_moving(&self) -> bool {
        let connects = |&p: &usize| self.probes[p].interests().next().is_some();
        self.helpers.are_busy() || self.active.iter().any(connects)
    }

    /// Whether something that failed for a lack is worth another try although
    /// nothing has ended since: once, for a lookup may have lacked what others
    /// had at that moment. When it has failed again and nothing is under way
    /// that could end, the check fails.
    fn may_retry(&mut self) -> Result<bool, String> {
        if self.is_moving() {
            return Ok(false);
        }
        let no_lookup = self.no_lookup.take();
        match self.no_connection.take().or(no_lookup) {
            Some(lack) if self.retried => Err(lack),
            Some(_) => {
                self.retried = true;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits until something happens or is to be done.
    fn sleep(&mut self) -> Result<(), String> {
        let wake = self.helpers.wake().unwrap_or(sys::NO_DESCRIPTOR);
        let mut until = self.deadline.filter(|_| self.stops_open());
        self.polls.clear();
        self.polls.push(sys::interest(wake, sys::POLLIN));
        for &p in &self.active {
            let probe = &self.probes[p];
            self.polls.extend(probe.interests());
            until = until
                .into_iter()
                .chain(probe.wakes(self.no_connection.is_none()))
                .min();
        }
        if until.is_none() && !self.is_moving() {
            return Err("nothing is under way".into());
        }
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        sys::poll(&mut self.polls, timeout).map_err(|error| format!("cannot wait: {error}"))
    }

    /// Tells everybody what has happened.
    fn hear(&mut self, now: Instant) -> Result<(), String> {
        let mut results = self.polls.iter();
        let woken = results.next().is_some_and(|wake| wake.revents != 0);
        for &p in &self.active {
            self.probes[p].hear(&mut results, now, self.options.verbose);
        }
        if woken {
            for answer in self.helpers.answers() {
                self.take(answer, now)?;
            }
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) && self.stops_open() {
            self.stops.iter_mut().for_each(Lookup::time_out);
            self.check_stops()?;
        }
        Ok(())
    }

    /// Takes what a helper found.
    fn take(&mut self, answer: Answer, now: Instant) -> Result<(), String> {
        let options = self.options;
        let (taken, host, is_wanted) = match answer.asker {
            Asker::Stop(i) => {
                let taken = self.stops[i].take(answer, options.port);
                self.check_stops()?;
                (taken, &options.stops[i].text, true)
            }
            Asker::Probe(p) => {
                let is_wanted = self.probes[p].is_running();
                let taken = self.probes[p].take(answer, now);
                self.learn(p);
                (taken, &options.servers[p].text, is_wanted)
            }
        };
        self.alone = false;
        if taken.is_ok() {
            self.has_freed();
        } else if is_wanted {
            self.note_lookup(taken, host);
        }
        Ok(())
    }

    /// Sees whether the stop hosts have been found, and what that says of the
    /// servers.
    fn check_stops(&mut self) -> Result<(), String> {
        for (stop, lookup) in self.options.stops.iter().zip(&self.stops) {
            let failed = |failures: &[Failure]| {
                let failure = |&family| lookup.failure(family);
                FAMILIES
                    .iter()
                    .filter_map(failure)
                    .any(|failure| failures.contains(&failure))
            };
            let why = if failed(&[Failure::OutOfTime, Failure::NotAsked]) {
                "was not found in time"
            } else if failed(&[Failure::NameServer, Failure::TryAgain]) {
                "cannot be looked up: a name server failed"
            } else if lookup.is_any_open() || lookup.has_address() {
                continue;
            } else {
                "cannot be looked up: no such host"
            };
            return Err(stop_error(stop, why));
        }
        self.changed = true;
        self.learn_all();
        Ok(())
    }

    fn learn_all(&mut self) {
        for p in 0..self.probes.len() {
            if self.probe_of[p] == p {
                self.learn(p);
            }
        }
    }

    /// Notes what a probe has found out, and reports the server's fate.
    fn learn(&mut self, p: usize) {
        let new = Known {
            stop: self.is_stop(p),
            up: self.probes[p].up,
        };
        let old = self.verdict.known(p);
        if new == old {
            return;
        }
        self.changed = true;
        if let (Some(cache), true) = (&*self.cache, new.up != old.up) {
            match self.probes[p].lesson() {
                Some(Lesson::TookLong) => cache.remember(self.place(cache, p)),
                Some(Lesson::Quick) => cache.forget(self.place(cache, p)),
                None => {}
            }
        }
        let mut next = Some(p);
        while let Some(i) = next {
            // Of the servers of one host only the first can be the first stop
            // host.
            let stop = if i == p { new.stop } else { Some(false) };
            self.verdict.learn(i, Known { stop, ..new });
            if new.up != old.up && self.options.verbose {
                self.report
                    .fate(&self.options.servers[i], &self.probes[p], new);
            }
            next = self.next_same[i];
        }
    }

    /// Whether the host of a probe is a stop host, when that is known.
    fn is_stop(&self, p: usize) -> Option<bool> {
        let options = self.options;
        if options
            .stops
            .iter()
            .any(|stop| stop.host == options.servers[p].host)
        {
            return Some(true);
        }
        let lookup = &self.probes[p].lookup;
        let stop_families = self.stop_families();
        let mut open = self.stops_open();
        for (family, may_match) in FAMILIES.into_iter().zip(stop_families) {
            for address in lookup.addresses(family) {
                if self
                    .stops
                    .iter()
                    .any(|stop| stop.addresses(family).contains(address))
                {
                    return Some(true);
                }
            }
            open |= may_match && lookup.is_unknown(family);
        }
        (!open).then_some(false)
    }

    /// The families in which a server can be a stop host.
    fn stop_families(&self) -> [bool; 2] {
        let mut families = self.options.families;
        if !self.stops_open() {
            for (family, wanted) in FAMILIES.iter().zip(&mut families) {
                let has = |lookup: &Lookup| !lookup.addresses(*family).is_empty();
                *wanted &= self.stops.iter().any(has);
            }
        }
        families
    }

    /// Reports the servers whose fate nobody waited for.
    fn report_rest(&self, answer: Option<usize>) {
        if !self.options.verbose {
            return;
        }
        let servers = &self.options.servers;
        let stop = self.verdict.sure_stop();
        for (i, server) in servers.iter().enumerate() {
            let known = self.verdict.known(i);
            let probe = &self.probes[self.probe_of[i]];
            let why = if known.stop == Some(true) {
                Unneeded::Stop
            } else if i > stop {
                Unneeded::After(&servers[stop])
            } else if self.verdict.excludes(stop, i) {
                Unneeded::SamePriority(&servers[stop])
            } else if let Some(answer) = answer {
                Unneeded::Answered(&servers[answer])
            } else {
                continue;
            };
            self.report.unneeded(server, &why, probe);
        }
    }
}

/// The lookup of a stop host, which is wanted from the start.
fn stop_lookup(stop: &Stop, options: &Options) -> Result<Lookup, String> {
    if let Host::Name(_) = stop.host {
        let mut lookup = Lookup::of_name(&stop.text);
        lookup.want(options.families);
        return Ok(lookup);
    }
    match probe::address(&stop.host, options.port) {
        Some(address) => Ok(Lookup::of_address(Some(address))),
        None => Err(stop_error(stop, "is on an interface that is not here")),
    }
}

fn lack(error: Errno, host: &[u8]) -> String {
    format!("cannot check '{}': {error}", Escaped(host))
}

fn stop_error(stop: &Stop, why: &str) -> String {
    format!("--stop '{}' {why}", Escaped(&stop.text))
}
