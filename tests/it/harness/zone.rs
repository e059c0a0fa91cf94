//! Tables of checks by name.

use crate::harness::dns;
use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{DOWN, Port, SILENT, UP};

/// Runs checks in a network with this zone, and with servers that are up at
/// these addresses. A row has the arguments, the answer, and after how many
/// milliseconds it is given. The timeout of 20 seconds tells an answer from a
/// deadline.
pub fn check(zone: &'static str, up: &'static [&'static str], rows: &'static [(&str, &str, u64)]) {
    let _names = dns::serve(zone);
    let port = Port::smtp();
    let _servers: Vec<_> = up.iter().map(|address| port.serve(address, UP)).collect();
    // Addresses that are never up.
    let _others = [
        port.serve("192.0.2.250", DOWN),
        port.serve("192.0.2.251", SILENT),
        port.serve("2001:db8::a:250", DOWN),
        port.serve("2001:db8::a:251", SILENT),
    ];
    each(rows, |(words, answer, after)| {
        let check = Check::words(words).first("--timeout=20");
        check.run().prints(answer).after(ms(*after));
    });
}
