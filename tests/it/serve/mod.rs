//! The gate: a mail server's questions and its answers. Those of Postfix, but
//! for `domains` and `opensmtpd`.

mod answers;
mod deferred;
mod domains;
mod end;
mod machine;
mod message;
mod opensmtpd;
mod requests;
mod usage;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::harness::dns::{self, NameServer};
use crate::harness::gate::Start;
use crate::harness::smtp::{Port, SILENT, Server, UP};

/// Domains, by how they fare: with this machine, which is `me` at 127.0.0.9,
/// and `a`, which is up.
const ZONE: &str = "
up.test MX 10:a.test 20:me.test
up2.test MX 10:a.test 20:me.test
down.test MX 10:down.mx.test 20:me.test
slow.test MX 10:silent.mx.test 20:me.test
first.test MX 10:me.test 20:a.test
equal.test MX 10:a.test 10:me.test
other.test MX 10:a.test
null.test MX 0:.
none.test MX nodata
none.test A 127.0.0.2
none.test AAAA nodata
dark.test MX silent
a.test A 127.0.0.2
a.test AAAA nodata
down.mx.test A 127.0.0.4
down.mx.test AAAA nodata
silent.mx.test A 127.0.0.5
silent.mx.test AAAA nodata
me.test A 127.0.0.9
me.test AAAA 2001:db8::a:9
";

/// The servers of [`ZONE`].
struct Servers {
    names: NameServer,
    up: Server,
    silent: Server,
}

impl Servers {
    fn new() -> Self {
        Servers {
            names: dns::serve(ZONE),
            up: Port::smtp().serve("127.0.0.2", UP),
            silent: Port::smtp().serve("127.0.0.5", SILENT),
        }
    }
}

/// A server that is up, which keeps nothing of its sessions.
fn serve_many() {
    let listener = TcpListener::bind("127.0.0.2:25").unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            // It fails if the client has gone.
            let _ = client.write_all(b"220 a.test\r\n");
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
}

/// A gate with a timeout that tells an answer from a deadline.
fn gate(words: &str) -> Start {
    Start::words(words).arguments(["--timeout=20"])
}

const DUNNO: &str = "action=DUNNO";
const DEFER: &str = "action=DEFER_IF_PERMIT 4.3.2 Please use a.test";

/// The answer where the domain's mail servers are not ours.
fn no_stop(domain: &str) -> String {
    format!("action=WARN smtpdcheck: {domain}: none of its mail servers is a --stop host")
}
