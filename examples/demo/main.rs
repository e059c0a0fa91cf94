//! `make demo`: runs the program against small servers on loopback, first as a
//! command and then as the service for Postfix.
//!
//! The servers are one that is up, one that is silent, one that greets with
//! 554, and an address where nobody listens. They end with the demo.

mod gate;
mod names;

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Instant;

const UP: &str = "127.0.0.1";
const SILENT: &str = "127.0.0.2";
const REJECTING: &str = "127.0.0.3";
const REFUSING: &str = "127.0.0.4";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().ok_or("usage: demo PROGRAM")?;
    if program == gate::INSIDE {
        let program = arguments.next().ok_or("usage: demo PROGRAM")?;
        return gate::inside(&program);
    }
    let port = start_servers()?.to_string();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Servers on port {port}: {UP} is up, {SILENT} accepts and is silent,\n\
         {REJECTING} greets with 554, nobody listens at {REFUSING}.\n"
    )?;
    let (up, silent) = (format!("20:{UP}"), format!("10:{SILENT}"));
    let (rejecting, refusing) = (format!("10:{REJECTING}"), format!("10:{REFUSING}"));
    let shows: [(&str, &[&str]); 5] = [
        (
            "Two are down, one is up: its name is printed, and the status is 1.",
            &[&rejecting, &refusing, &up],
        ),
        (
            "The order decides: the first server may still come up until its time is over.",
            &["--timeout", "1.5", &silent, &up],
        ),
        (
            "None is up: nothing is printed, and the status is 0.",
            &["--timeout", "1.5", &silent, &rejecting, &refusing],
        ),
        (
            "A server after the stop host is no better than it, and not asked.",
            &["--stop", REFUSING, &rejecting, &refusing, &up],
        ),
        (
            "This cannot be a server: the reason is on standard error, and the status is 2.",
            &["2001:db8::1"],
        ),
    ];
    for (title, arguments) in shows {
        let command: Vec<&str> = ["--verbose", "--port", &port]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        writeln!(out, "# {title}\n$ smtpdcheck {}", command.join(" "))?;
        out.flush()?;
        let begun = Instant::now();
        let status = Command::new(&program).args(&command).status()?;
        let took = begun.elapsed().as_millis();
        let code = status.code().ok_or("smtpdcheck was killed")?;
        writeln!(out, "exit status {code} after {took} ms\n")?;
    }
    gate::show(&program)
}

/// Starts the servers, each on a thread of its own, and returns their port.
fn start_servers() -> io::Result<u16> {
    let listener = TcpListener::bind((UP, 0))?;
    let port = listener.local_addr()?.port();
    serve(listener, b"220 mail.example.org ESMTP\r\n");
    serve(TcpListener::bind((SILENT, port))?, b"");
    let rejecting = TcpListener::bind((REJECTING, port))?;
    serve(rejecting, b"554 no mail service here\r\n");
    Ok(port)
}

/// Greets every client, and waits for each until it hangs up.
fn serve(listener: TcpListener, greeting: &'static [u8]) {
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                client.write_all(greeting)?;
                client.read_to_end(&mut Vec::new())
            });
        }
    });
}
