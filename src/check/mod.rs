//! The loop: what to begin and what to drop, what to wait for, whom to tell.
//!
//! What is known decides what is still needed; probes are begun or dropped
//! accordingly; then the loop waits until something happens. When nothing is
//! needed any more, the answer is known. The loop knows probes, not SMTP.

mod address;
mod advance;
mod findings;
mod list;
mod need;
mod shortage;
pub mod source;
mod stops;
mod verdict;
mod wait;

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use crate::escape::Escaped;
use crate::lookup::Resolver;
use crate::options::Options;
use crate::probe::{Goal, Probe};
use crate::report::Report;
use crate::server::Host;
use crate::store::Cache;
use crate::sys::{Errno, process};
use address::address;
use findings::{Findings, Way};
use list::List;
use need::{Need, Needs};
use shortage::Shortage;
use stops::{Standing, Stops};
use verdict::Answer;
use wait::{Interests, earliest};

/// If making the cache and looking up the list took less than this, it counts
/// as the servers' own time.
const NEGLIGIBLE: Duration = Duration::from_millis(250);

/// How often to look whether another process has asked a server.
const LOOK: Duration = Duration::from_millis(20);

/// Finds the most preferred server that is up, as its index in the list, and
/// all results as JSON, if they are wanted so. The error is a message about
/// this machine, or about the `--stop` hosts.
pub fn check(
    options: &Options,
    resolver: Resolver,
    cache: &mut Option<Cache>,
    report: &Report,
    begun: Instant,
) -> Result<(Option<usize>, String), String> {
    // The process ends with the check: closing and freeing is left to it.
    let check = &mut *ManuallyDrop::new(Check::new(options, resolver, cache, report, begun)?);
    let mut now = Instant::now();
    if now - begun < NEGLIGIBLE {
        now = begun;
    }
    loop {
        if check.findings.take_changed() {
            let is_open = check.needs.work_out(&mut check.findings.verdict);
            check.fail_if_short()?;
            // A stop host leaves the answer open while its lookup may fail.
            if !is_open && !check.stops.is_pending() {
                let answer = check.findings.verdict.answer();
                let json = check.findings.report_rest(answer, &check.probes);
                return match answer {
                    Answer::Up(i) => Ok((Some(i), json)),
                    Answer::NoneUp => Ok((None, json)),
                    Answer::NoStop => Err(no_stop(options)),
                };
            }
            check.drop_unneeded();
            check.permit_connections();
        }
        check.begin(now);
        check.advance(now);
        if check.findings.has_changed() || check.try_again()? {
            continue;
        }
        let due = check.wait()?;
        now = Instant::now();
        check.react(now, due)?;
    }
}

struct Check<'a> {
    options: &'a Options,
    /// For all servers, or with `--jobs` for the stop hosts alone.
    deadline: Option<Instant>,
    resolver: Resolver,
    stops: Stops<'a>,
    /// For each host its probe.
    probes: Vec<Probe>,
    /// For each host, whether it is a stop host by its name.
    is_named: Vec<bool>,
    /// Every probe before this one has begun or is not needed.
    first_idle: usize,
    /// How many probes before that one wait for another process that asks their
    /// servers, and when to look again whether it has.
    held: usize,
    look_again: Option<Instant>,
    /// Whether servers may be contacted. Where a stop host must be in the list,
    /// nobody is before one has been found.
    may_contact: bool,
    /// The probes that are under way.
    active: Vec<usize>,
    findings: Findings<'a>,
    needs: Needs,
    shortage: Shortage,
    /// How many connections there were the last time they were counted.
    connections: usize,
    interests: Interests,
}

impl<'a> Check<'a> {
    fn new(
        options: &'a Options,
        resolver: Resolver,
        cache: &'a mut Option<Cache>,
        report: &'a Report,
        now: Instant,
    ) -> Result<Self, String> {
        let mut address = |host: &Host, text: &[u8]| {
            let mut free_descriptor =
                || process::raise_descriptor_limit() || cache.as_mut().is_some_and(Cache::close);
            address(host, options.port, &mut free_descriptor)
                .map_err(|error| cannot_check(error, text))
        };
        let mut stop_addresses = Vec::new();
        for stop in &options.stops {
            let address = address(&stop.host, &stop.text)?;
            if let (Host::LinkLocal(..), None) = (&stop.host, address) {
                let stop = Escaped(&stop.text);
                return Err(format!("--stop '{stop}': no such interface"));
            }
            stop_addresses.push(address);
        }
        let list = List::new(&options.servers);
        let mut addresses = Vec::new();
        for &first in &list.hosts {
            let server = &options.servers[first];
            addresses.push(address(&server.host, &server.text)?);
        }
        let stops = Stops::new(&options.stops, &stop_addresses, options.families);
        let hosts = list.hosts.iter().zip(addresses);
        let probes = hosts.map(|(&first, address)| {
            let server = &options.servers[first];
            let (port, families) = (options.port, options.families);
            Probe::new(&server.host, &server.text, address, port, families)
        });
        let probes = probes.collect();
        let needs = Needs::new(&list);
        let findings = Findings::new(options, report, cache, list);
        let hosts = &findings.verdict.list.hosts;
        let is_named = |&first: &usize| stops.is_named(&options.servers[first].host);
        let mut check = Check {
            options,
            deadline: options.deadline(now),
            resolver,
            probes,
            is_named: hosts.iter().map(is_named).collect(),
            stops,
            first_idle: 0,
            held: 0,
            look_again: None,
            may_contact: !options.must_stop(),
            active: Vec::new(),
            needs,
            findings,
            shortage: Shortage::default(),
            connections: 0,
            interests: Interests::default(),
        };
        check.learn_all();
        Ok(check)
    }

    /// Notes what a probe has found out.
    fn learn(&mut self, p: usize) {
        let probe = &self.probes[p];
        let standing = match self.is_named[p] {
            true => Standing::Stop,
            false => self.stops.standing(&probe.lookup),
        };
        self.findings.learn(p, standing, probe);
    }

    fn learn_all(&mut self) {
        (0..self.probes.len()).for_each(|p| self.learn(p));
    }

    /// Fails if anything is still needed that this machine was too short of
    /// descriptors or threads to find out.
    fn fail_if_short(&self) -> Result<(), String> {
        let was_short = |&p: &usize| self.probes[p].was_short && self.needs.of(p) != Need::Nothing;
        match (0..self.probes.len()).find(was_short) {
            Some(p) => {
                let latest = self.shortage.latest();
                let error = latest.map_or(Errno(libc::EAGAIN), |(error, _)| error);
                Err(cannot_check(error, &self.findings.server(p).text))
            }
            None => Ok(()),
        }
    }

    /// Ends what is not needed any more.
    fn drop_unneeded(&mut self) {
        for &p in &self.active {
            let probe = &mut self.probes[p];
            match self.needs.of(p) {
                Need::Up => {}
                Need::Addresses => {
                    probe.stop_connecting();
                    self.findings.release(p);
                }
                Need::Nothing if probe.is_running() => {
                    probe.abandon();
                    self.findings.release(p);
                }
                Need::Nothing => {}
            }
        }
    }

    /// Permits connections once the required stop host is known.
    fn permit_connections(&mut self) {
        if self.may_contact {
            return;
        }
        let stop = self.findings.verdict.sure_stop();
        if !self.findings.verdict.misses_stop(stop) {
            self.may_contact = true;
            self.first_idle = 0;
        }
    }

    /// Begins as many of the needed probes as may run.
    fn begin(&mut self, now: Instant) {
        if self.look_again.is_some_and(|due| due <= now) {
            (self.held, self.look_again) = (0, None);
            self.first_idle = 0;
        }
        let jobs = self.options.jobs;
        let running = self.active.iter().filter(|&&p| self.probes[p].is_running());
        let most = jobs.map_or(usize::MAX, |jobs| jobs as usize);
        let mut free = most.saturating_sub(running.count() + self.held);
        while free > 0 && self.first_idle < self.probes.len() {
            let p = self.first_idle;
            let goal = match self.needs.of(p) {
                Need::Nothing => None,
                // One that is up counts as such once it is known not to be a
                // stop host.
                Need::Up if self.may_contact && self.probes[p].up.is_none() => Some(Goal::Up),
                Need::Up | Need::Addresses => Some(Goal::Addresses),
            };
            let Some(goal) = goal.filter(|&goal| !self.probes[p].has_begun_to(goal)) else {
                self.first_idle += 1;
                continue;
            };
            let deadline = match jobs {
                Some(_) => self.options.deadline(now),
                None => self.deadline,
            };
            let way = match goal {
                Goal::Addresses => Way::Ask,
                Goal::Up => self.findings.look_up(p, now, deadline),
            };
            match way {
                Way::Ask => {}
                Way::Known(up) => {
                    self.probes[p].up = Some(up);
                    self.learn(p);
                    if self.findings.has_changed() {
                        // It may not be needed any more, or only its addresses.
                        return;
                    }
                    continue;
                }
                Way::Wait => {
                    self.look_again = earliest(self.look_again, Some(now + LOOK));
                    self.held += 1;
                    self.first_idle += 1;
                    free -= 1;
                    continue;
                }
            }
            let families = match goal {
                Goal::Addresses => self.stops.relevant_families(),
                Goal::Up => self.options.families,
            };
            if !self.probes[p].is_active() {
                self.active.push(p);
                free -= 1;
            }
            self.probes[p].begin(goal, families, now, deadline);
        }
    }
}

fn no_stop(options: &Options) -> String {
    let domain = Escaped(options.domain.as_deref().unwrap_or_default());
    format!("{domain}: none of its mail servers is a --stop host")
}

fn cannot_check(error: Errno, text: &[u8]) -> String {
    format!("cannot check '{}': {error}", Escaped(text))
}
