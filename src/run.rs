//! The loop: what to poll, until when, who is told. It knows probes, not
//! SMTP.
//!
//! What is known decides what is still needed; probes are begun, led on or
//! dropped accordingly; then the loop sleeps until something happens. When
//! nothing is needed any more, the answer is known.

use std::io;
use std::mem::ManuallyDrop;
use std::time::Instant;

use crate::lookup::{Answer, Asker, FAMILIES, Failure, Helpers, Lookup};
use crate::options::{Options, Stop};
use crate::probe::{self, Probe};
use crate::report::{self, Report, Unneeded};
use crate::server::{Host, Server};
use crate::sys::{self, pollfd};
use crate::verdict::{Known, Need, Verdict, first_equal};

/// Finds the first server that is up and counts, as its index. The error is a
/// message about this machine, or about a `--stop` host.
pub fn run(options: &Options, report: &Report) -> Result<Option<usize>, String> {
    let mut now = Instant::now();
    // The process ends with the check: closing and freeing is left to it.
    let mut run = ManuallyDrop::new(Run::new(options, report, now)?);
    loop {
        run.lead_on(now);
        if run.judge() {
            if run.is_answered() {
                let answer = run.verdict.answer();
                run.report_rest(answer);
                return Ok(answer);
            }
            run.drop_unneeded();
        }
        run.begin_more(now);
        if !run.changed {
            run.sleep(now)?;
            now = Instant::now();
            run.hear(now)?;
        }
    }
}

struct Run<'a> {
    options: &'a Options,
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
    /// Whether something was learnt, or there is new room to learn something.
    changed: bool,
    /// The probes that are under way.
    active: Vec<usize>,
    /// Every probe before this one has begun or is not needed.
    next: usize,
    /// Why nothing can be begun until something ends.
    shortage: Option<String>,
    polls: Vec<pollfd>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, report: &'a Report, now: Instant) -> Result<Self, String> {
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
            next: 0,
            shortage: None,
            polls: Vec::new(),
        };
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
                Need::Nothing if probe.is_running() => {
                    probe.abandon();
                    self.helpers.forget(Asker::Probe(p));
                    self.changed |= self.shortage.take().is_some();
                }
                Need::Nothing => {}
            }
        }
    }

    /// Lets everything that is under way go on.
    fn lead_on(&mut self, now: Instant) {
        for i in 0..self.stops.len() {
            self.act(&self.options.stops[i].text, |run| {
                run.stops[i].ask(&mut run.helpers, Asker::Stop(i))
            });
        }
        for at in 0..self.active.len() {
            self.advance(self.active[at], now);
        }
        self.active.retain(|&p| self.probes[p].is_active());
    }

    /// Begins as many of the needed probes as may run.
    fn begin_more(&mut self, now: Instant) {
        let jobs = self.options.jobs;
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        let running = self.active.iter().filter(|&&p| self.probes[p].is_running());
        let mut room = jobs.map_or(usize::MAX, |jobs| {
            (jobs as usize).saturating_sub(running.count())
        });
        while self.next < self.probes.len() {
            let p = self.next;
            let need = self.need(p);
            if need == Need::Nothing || self.probes[p].has_begun() || self.probe_of[p] != p {
                self.next += 1;
                continue;
            }
            if late && jobs.is_none() {
                self.probes[p].give_up();
                self.learn(p);
                continue;
            }
            if room == 0 || self.shortage.is_some() {
                return;
            }
            let deadline = match jobs {
                Some(_) => self.options.deadline(now),
                None => self.deadline,
            };
            let stop_families = self.stop_families();
            let probe = &mut self.probes[p];
            match need {
                Need::Addresses => probe.look_up(stop_families, now, deadline),
                _ => probe.begin(self.options.families, now, deadline),
            }
            self.active.push(p);
            self.advance(p, now);
            if self.probes[p].is_running() {
                room -= 1;
            } else if jobs.is_some() {
                // It may have made the next one needless.
                return;
            }
        }
    }

    /// Lets one probe go on.
    fn advance(&mut self, p: usize, now: Instant) {
        let open = self.probes[p].interests().count();
        self.act(&self.options.servers[p].text, |run| {
            let short = run.shortage.is_some();
            run.probes[p].advance(&mut run.helpers, Asker::Probe(p), now, short)
        });
        if self.probes[p].interests().count() < open {
            self.changed |= self.shortage.take().is_some();
        }
        self.learn(p);
    }

    /// Does what this machine may be too short of something to do: then the
    /// shortage is noted, unless it can be helped and the action repeated.
    fn act(&mut self, host: &[u8], action: impl Fn(&mut Self) -> io::Result<()>) {
        while let Err(error) = action(self) {
            if self.fall_short(&error, host) {
                return;
            }
        }
    }

    /// Notes a shortage. Returns false when it could be helped.
    fn fall_short(&mut self, error: &io::Error, host: &[u8]) -> bool {
        if error.raw_os_error() == Some(libc::EMFILE) && sys::raise_descriptor_limit() {
            return false;
        }
        let reason = report::reason(error);
        self.shortage = Some(format!("cannot check '{}': {reason}", host.escape_ascii()));
        true
    }

    /// Whether anything is under way that will end by itself.
    fn is_moving(&self) -> bool {
        self.stops.iter().any(Lookup::is_asked)
            || self.active.iter().any(|&p| self.probes[p].is_moving())
    }

    /// Waits until something happens or is to be done. It is an error when
    /// nothing will, because of a shortage.
    fn sleep(&mut self, now: Instant) -> Result<(), String> {
        match &self.shortage {
            Some(reason) if !self.is_moving() => return Err(reason.clone()),
            _ => {}
        }
        let bell = self.helpers.bell().unwrap_or(sys::NO_DESCRIPTOR);
        let mut until = self.deadline.filter(|_| self.stops_open());
        self.polls.clear();
        self.polls.push(sys::interest(bell, sys::POLLIN));
        for &p in &self.active {
            let probe = &self.probes[p];
            self.polls.extend(probe.interests());
            let wake = probe.wakes(self.shortage.is_some());
            until = until.into_iter().chain(wake).min();
        }
        let timeout = until.map(|until| until.saturating_duration_since(now));
        sys::poll(&mut self.polls, timeout)
            .map_err(|error| format!("cannot wait: {}", report::reason(&error)))
    }

    /// Tells everybody what has happened.
    fn hear(&mut self, now: Instant) -> Result<(), String> {
        let mut results = self.polls.iter();
        let rang = results.next().is_some_and(|bell| bell.revents != 0);
        let mut closed = false;
        for &p in &self.active {
            closed |= self.probes[p].hear(&mut results, now, self.options.verbose);
        }
        if closed {
            self.changed |= self.shortage.take().is_some();
        }
        if rang {
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
        let port = options.port;
        let asker = answer.asker;
        let (taken, host) = match asker {
            Asker::Stop(i) => (self.stops[i].take(answer, port), &options.stops[i].text),
            Asker::Probe(p) => (self.probes[p].take(answer, now), &options.servers[p].text),
        };
        match taken {
            Ok(()) => self.changed |= self.shortage.take().is_some(),
            Err(error) => drop(self.fall_short(&error, host)),
        }
        match asker {
            Asker::Stop(_) => self.check_stops(),
            Asker::Probe(p) => {
                self.learn(p);
                Ok(())
            }
        }
    }

    /// Sees whether the stop hosts have been found, and what that says of the
    /// servers.
    fn check_stops(&mut self) -> Result<(), String> {
        for (stop, lookup) in self.options.stops.iter().zip(&self.stops) {
            let failures = FAMILIES.map(|family| lookup.failure(family));
            let why = if failures.contains(&Some(Failure::OutOfTime)) {
                "was not found in time"
            } else if failures.contains(&Some(Failure::NameServer)) {
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

    /// Takes down what a probe has found out, and reports the server's fate.
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
        let mut next = Some(p);
        while let Some(i) = next {
            self.verdict.learn(i, new);
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
        let mut stops = self.stops.iter().flat_map(Lookup::all_addresses);
        if stops.any(|stop| {
            lookup
                .all_addresses()
                .any(|one| probe::same_host(stop, one))
        }) {
            return Some(true);
        }
        let stop_families = self.stop_families();
        let open = FAMILIES
            .iter()
            .zip(stop_families)
            .any(|(&family, may_match)| may_match && lookup.is_unknown(family));
        (!open && !self.stops_open()).then_some(false)
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
            if known.up.is_some() {
                continue;
            }
            let why = if known.stop == Some(true) {
                Unneeded::Stop
            } else if i > stop {
                Unneeded::After(&servers[stop])
            } else if self.verdict.excludes(stop, i) {
                Unneeded::SamePriority(&servers[stop])
            } else {
                Unneeded::Answered(answer.map(|answer| &servers[answer]))
            };
            self.report
                .unneeded(server, &why, self.probes[i].has_begun());
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

fn stop_error(stop: &Stop, why: &str) -> String {
    format!("--stop '{}' {why}", stop.text.escape_ascii())
}
