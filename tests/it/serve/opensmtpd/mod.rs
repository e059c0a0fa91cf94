//! OpenSMTPD's questions and their answers.

mod answers;
mod end;
mod lines;
mod machine;
mod many;
mod usage;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::harness::filter::Filter;
use crate::harness::gate::{End, Start};

/// A filter with a timeout that tells an answer from a deadline, and these
/// arguments, separated by blanks.
fn filter(words: &str) -> Start {
    Start::bare("--serve opensmtpd --stop 127.0.0.9 --timeout=20")
        .arguments(words.split_whitespace())
}

/// One that has registered.
#[track_caller]
fn started() -> Filter {
    Filter::start(filter(""))
}

const PROCEED: &str = crate::harness::filter::PROCEED;
const REJECT: &str = "reject|450 4.3.2 Please use a.test";

/// The line on standard error where the domain's mail servers are not ours.
fn no_stop(domain: &str) -> String {
    format!("smtpdcheck: {domain}: none of its mail servers is a --stop host\n")
}

/// The end of a filter that has said this on standard error, and answered no
/// more than was taken.
fn having_said(stderr: &str) -> End {
    End {
        stderr: stderr.into(),
        ..End::quiet()
    }
}

/// A server that completes connections, and greets none before it is told to.
struct Held(TcpListener);

impl Held {
    fn new(address: &str) -> Self {
        let port = crate::harness::smtp::Port::smtp();
        Held(port.listen(address, 1024))
    }

    /// Greets this many clients.
    fn greet(self, clients: usize) {
        let greetings: Vec<_> = (0..clients)
            .map(|_| {
                let (mut client, _) = self.0.accept().unwrap();
                thread::spawn(move || {
                    // It fails if the client has gone.
                    let _ = client.write_all(b"220 a.test\r\n");
                    let _ = client.read_to_end(&mut Vec::new());
                })
            })
            .collect();
        for greeting in greetings {
            greeting.join().unwrap();
        }
        self.has_no_more();
    }

    /// Nobody else has connected.
    fn has_no_more(self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.accept().is_err(), "another connection");
    }
}
