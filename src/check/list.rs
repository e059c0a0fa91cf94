//! The list of servers: which of them are one host, which have the same
//! priority, which print the same name. Pure.

use std::cmp::Ordering;

use crate::server::Server;

/// Stands for "no such server" where an index is expected: it is after all.
pub const NONE: usize = usize::MAX;

/// When a server stands for its host, where the list names that several times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occurrence {
    /// Always: it is the first one.
    First,
    /// Only if the first one has the priority of the stop host, and so is no
    /// candidate.
    Spare,
    /// Never: one of those two is always a candidate if this one is.
    Redundant,
}

/// One server of the list.
#[derive(Debug)]
pub struct Item {
    /// Which host it is: the index of its probe.
    pub host: usize,
    /// The first server of the same priority. A server without a priority is
    /// alone in its class.
    pub class: usize,
    /// The first server that prints the same name.
    pub name: usize,
    /// When it stands for its host.
    pub occurrence: Occurrence,
}

/// The servers in their order, and their hosts in the order of their first
/// servers.
pub struct List {
    pub servers: Vec<Item>,
    /// For each host its first server.
    pub hosts: Vec<usize>,
    /// For each server the next one of the same host.
    next: Vec<usize>,
}

impl List {
    /// Reads the list.
    #[inline(never)]
    pub fn new(servers: &[Server]) -> Self {
        let count = servers.len();
        let first_of_host = first_equal(count, &|a, b| servers[a].host.cmp(&servers[b].host));
        let name = first_equal(count, &|a, b| servers[a].text.cmp(&servers[b].text));
        let class = first_equal(count, &|a, b| {
            // Those without are ordered by position, so that no two are equal.
            let key = |i: usize| {
                let priority = servers[i].priority;
                (priority, priority.map_or(i, |_| 0))
            };
            key(a).cmp(&key(b))
        });
        let mut list = List {
            servers: Vec::with_capacity(count),
            hosts: Vec::new(),
            next: vec![NONE; count],
        };
        // The latest server of each host, and whether it has a spare.
        let mut latest: Vec<(usize, bool)> = Vec::new();
        for i in 0..count {
            let first = first_of_host[i];
            let (host, occurrence) = if first == i {
                list.hosts.push(i);
                latest.push((i, false));
                (list.hosts.len() - 1, Occurrence::First)
            } else {
                let host = list.servers[first].host;
                let (previous, has_spare) = latest[host];
                list.next[previous] = i;
                let is_spare = !has_spare && class[i] != class[first];
                latest[host] = (i, has_spare || is_spare);
                (
                    host,
                    match is_spare {
                        true => Occurrence::Spare,
                        false => Occurrence::Redundant,
                    },
                )
            };
            list.servers.push(Item {
                host,
                class: class[i],
                name: name[i],
                occurrence,
            });
        }
        list
    }

    /// The servers of a host.
    pub fn servers_of(&self, host: usize) -> impl Iterator<Item = usize> {
        let next = |&i: &usize| Some(self.next[i]).filter(|&next| next != NONE);
        std::iter::successors(self.hosts.get(host).copied(), next)
    }

    /// The class of a server, or `NONE` after the last one.
    pub fn class(&self, i: usize) -> usize {
        self.servers.get(i).map_or(NONE, |server| server.class)
    }
}

/// For each of 0 … `len`-1 the first number that `compare` finds equal.
fn first_equal(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    // The first numbers so far, in order.
    let mut sorted: Vec<usize> = Vec::new();
    let mut first = Vec::with_capacity(len);
    for i in 0..len {
        let at = sorted.partition_point(|&other| compare(other, i).is_lt());
        let equal = sorted
            .get(at)
            .copied()
            .filter(|&other| compare(other, i).is_eq());
        if equal.is_none() {
            sorted.insert(at, i);
        }
        first.push(equal.unwrap_or(i));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use Occurrence::{First, Redundant, Spare};

    #[test]
    fn hosts_classes_and_names() {
        let texts = "10:a 20:b a 10:A. 20:a 5:a 10:c 20:c";
        let servers: Vec<_> = texts
            .split(' ')
            .map(|text| Server::parse(text.as_bytes()).expect("a server"))
            .collect();
        let list = List::new(&servers);
        let items: Vec<_> = list
            .servers
            .iter()
            .map(|item| (item.host, item.class, item.name, item.occurrence))
            .collect();
        let expected = [
            (0, 0, 0, First),
            (1, 1, 1, First),
            (0, 2, 0, Spare),
            (0, 0, 3, Redundant),
            (0, 1, 0, Redundant),
            (0, 5, 0, Redundant),
            (2, 0, 6, First),
            (2, 1, 6, Spare),
        ];
        assert_eq!(items, expected);
        assert_eq!(list.hosts, [0, 1, 6]);
        let of = |host| list.servers_of(host).collect::<Vec<_>>();
        assert_eq!(
            [of(0), of(1), of(2)],
            [vec![0, 2, 3, 4, 5], vec![1], vec![6, 7]]
        );
    }
}
