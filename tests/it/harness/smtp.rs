//! SMTP servers that play a script and record what each client does.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream,
};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::run::{Check, LIMIT, ms, wait_until};

/// What a server does next. After its script it reads until the client closes
/// the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Send(&'static [u8]),
    /// Sends this again and again, until the client closes the connection.
    Endless(&'static [u8]),
    /// Waits, unless the client closes the connection.
    Wait(Duration),
    /// Reads until these are the last bytes.
    Expect(&'static [u8]),
    /// Ends its side of the connection.
    Close,
    Reset,
}
pub use Step::{Close, Endless, Expect, Reset, Send, Wait};

/// A server that is up.
pub const UP: &[Step] = &[Send(b"220 mx.test ESMTP\r\n")];
/// A server that is down, and says so immediately.
pub const DOWN: &[Step] = &[Send(b"554 mx.test takes no mail\r\n")];
/// A server that never greets.
pub const SILENT: &[Step] = &[];

/// A server that is up, but greets late.
pub fn up_after(delay: Duration) -> [Step; 2] {
    [Wait(delay), UP[0]]
}

/// A server that is down, and says so late.
pub fn down_after(delay: Duration) -> [Step; 2] {
    [Wait(delay), DOWN[0]]
}

/// A TCP port for all servers of one test: the program connects to one port
/// only. At an address without a server, connections are refused.
pub struct Port {
    pub number: u16,
    /// Keeps other tests from using the port.
    _reserved: Option<[Socket; 2]>,
}

impl Port {
    /// A port that is free on all addresses.
    pub fn new() -> Self {
        let any = Ipv4Addr::UNSPECIFIED;
        loop {
            let ipv4 = bind(SocketAddr::from((any, 0))).unwrap();
            let number = ipv4.local_addr().unwrap().as_socket().unwrap().port();
            let ipv6 = bind((Ipv6Addr::UNSPECIFIED, number).into());
            match ipv6 {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                // Without IPv6 it is free there.
                Err(_) => {
                    let _reserved = None;
                    return Port { number, _reserved };
                }
                Ok(ipv6) => {
                    let _reserved = Some([ipv4, ipv6]);
                    return Port { number, _reserved };
                }
            }
        }
    }

    /// The program's default, for tests in a private network.
    pub fn smtp() -> Self {
        Port {
            number: 25,
            _reserved: None,
        }
    }

    /// A check of servers on this port, with these arguments.
    pub fn check(&self, words: &str) -> Check {
        match self.number {
            25 => Check::words(words),
            number => Check::words(words).first(&format!("--port={number}")),
        }
    }

    /// Starts a server, which plays its script to every client.
    pub fn serve(&self, address: &str, script: &[Step]) -> Server {
        let listener = self.listen(address, 1024);
        let address = listener.local_addr().unwrap();
        let script: Arc<[Step]> = script.into();
        let last = Arc::new(Mutex::new(None));
        let accepting = {
            let last = Arc::clone(&last);
            thread::spawn(move || serve(&listener, &script, &last))
        };
        Server {
            address,
            last,
            accepting: Some(accepting),
        }
    }

    /// A server that never accepts a connection, though its system completes
    /// as many as the queue holds.
    pub fn listen(&self, address: &str, backlog: i32) -> TcpListener {
        let address = match address.contains(':') {
            true => format!("[{address}]:{}", self.number),
            false => format!("{address}:{}", self.number),
        };
        let socket =
            bind(address.parse().unwrap()).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.listen(backlog).unwrap();
        socket.into()
    }

    /// A server whose queue of connections is full, so that its system does not
    /// answer.
    pub fn full(&self, address: &str) -> (TcpListener, Vec<TcpStream>) {
        let listener = self.listen(address, 0);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(client) = TcpStream::connect_timeout(&address, ms(300)) {
            waiting.push(client);
        }
        (listener, waiting)
    }
}

/// Waits for the next client of a server.
#[track_caller]
pub fn accept(server: &TcpListener) -> TcpStream {
    SockRef::from(server).set_read_timeout(Some(LIMIT)).unwrap();
    let (client, _) = server.accept().expect("a client");
    client
}

/// The state of a connection, by its number in the kernel's table.
#[derive(Clone, Copy)]
pub enum Tcp {
    Established = 1,
    /// The first packet has been sent, and not answered.
    SynSent = 2,
}

impl Tcp {
    /// Waits until a client's connection to a server is in this state.
    #[track_caller]
    pub fn wait(self, server: &TcpListener) {
        let SocketAddr::V4(address) = server.local_addr().unwrap() else {
            panic!("{server:?}");
        };
        self.wait_for(address);
    }

    /// The same, whoever has the address.
    #[track_caller]
    pub fn wait_for(self, address: SocketAddrV4) {
        let (ip, port) = (u32::from_ne_bytes(address.ip().octets()), address.port());
        let entry = format!(" {ip:08X}:{port:04X} {:02X} ", self as u8);
        let table = || fs::read_to_string("/proc/net/tcp").unwrap();
        wait_until(|| table().contains(&entry));
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Lets servers share the port that [`Port`] reserves.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A running server. It ends with the test at the latest: then its threads have
/// ended, and its descriptors are closed.
pub struct Server {
    address: SocketAddr,
    last: Arc<Mutex<Option<SocketAddr>>>,
    accepting: Option<JoinHandle<Vec<Connection>>>,
}

impl Server {
    /// Ends the server, and returns all its connections, including every one of
    /// a program that has ended: the last one to be accepted is made here.
    pub fn finish(mut self) -> Vec<Connection> {
        self.end().unwrap()
    }

    fn end(&mut self) -> io::Result<Vec<Connection>> {
        let Some(accepting) = self.accepting.take() else {
            return Ok(Vec::new());
        };
        // From the same interface, if the address is link-local.
        let mut address = self.address;
        address.set_port(0);
        let last = bind(address)?;
        *self.last.lock().unwrap() = last.local_addr()?.as_socket();
        last.connect(&self.address.into())?;
        let connections = accepting.join();
        connections.map_err(|_| io::Error::other("a thread of the server panicked"))
    }

    /// Ends the server, and returns how many connections it had.
    pub fn count(self) -> usize {
        self.finish().len()
    }

    /// Ends the server, and returns its only connection.
    #[track_caller]
    pub fn only(self) -> Connection {
        let mut connections = self.finish();
        assert_eq!(connections.len(), 1, "connections");
        connections.remove(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A second panic would hide the first one.
        let _ = self.end();
    }
}

fn serve(
    listener: &TcpListener,
    script: &Arc<[Step]>,
    last: &Mutex<Option<SocketAddr>>,
) -> Vec<Connection> {
    let mut sessions = Vec::new();
    loop {
        let (stream, client) = listener.accept().unwrap();
        if *last.lock().unwrap() == Some(client) {
            break;
        }
        let session = Connection::new(client.ip());
        let script = Arc::clone(script);
        sessions.push(thread::spawn(move || session.play(stream, &script)));
    }
    sessions.into_iter().map(|s| s.join().unwrap()).collect()
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The client closed it.
    Closed,
    /// The client reset it, or closed it before it had read everything.
    Reset,
    /// The script reset it.
    Script,
    /// The client did not end it.
    Never,
}

/// What happened on one connection.
#[derive(Debug)]
pub struct Connection {
    pub client: IpAddr,
    /// What the client sent when it was the server's turn: during the script,
    /// which expected nothing.
    pub early: Vec<u8>,
    /// What the client sent when it was its turn.
    pub received: Vec<u8>,
    pub accepted: Instant,
    /// When the script last sent something.
    pub sent: Instant,
    pub ended: Instant,
    pub end: End,
}

impl Connection {
    fn new(client: IpAddr) -> Self {
        let now = Instant::now();
        Connection {
            client,
            early: Vec::new(),
            received: Vec::new(),
            accepted: now,
            sent: now,
            ended: now,
            end: End::Never,
        }
    }

    fn play(mut self, mut stream: TcpStream, script: &[Step]) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let steps = script.iter().find_map(|step| self.step(*step, &mut stream));
        let end = steps.or_else(|| listen(&mut stream, LIMIT, &mut self.received, b""));
        self.ended = Instant::now();
        self.end = end.unwrap_or(End::Never);
        self
    }

    /// Plays one step; returns how the connection ended, if it did.
    fn step(&mut self, step: Step, stream: &mut TcpStream) -> Option<End> {
        match step {
            Send(bytes) => {
                self.sent = Instant::now();
                if stream.write_all(bytes).is_ok() {
                    return None;
                }
                listen(stream, LIMIT, &mut self.early, b"")
            }
            Endless(bytes) => {
                while stream.write_all(bytes).is_ok() {}
                listen(stream, LIMIT, &mut self.early, b"")
            }
            Wait(time) => listen(stream, time, &mut self.early, b""),
            Expect(bytes) => listen(stream, LIMIT, &mut self.received, bytes),
            Close => {
                // Fails if the client has closed it.
                let _ = stream.shutdown(Shutdown::Write);
                None
            }
            Reset => {
                let now = Some(Duration::ZERO);
                SockRef::from(&*stream).set_linger(now).unwrap();
                Some(End::Script)
            }
        }
    }
}

/// Reads until `last` are the last bytes or the time is over, or until the
/// client ends the connection: then returns how.
fn listen(
    stream: &mut TcpStream,
    time: Duration,
    received: &mut Vec<u8>,
    last: &[u8],
) -> Option<End> {
    let until = Instant::now() + time;
    while last.is_empty() || !received.ends_with(last) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Some(End::Closed),
            Ok(_) => received.extend(byte),
            // A machine that was suspended interrupts a read with a timeout.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return Some(End::Reset),
        }
    }
    None
}

#[test]
fn a_server_ends_with_its_test() {
    let port = Port::new();
    let server = port.serve("127.0.0.2", UP);
    let address = server.address;
    let shared = Arc::downgrade(&server.last);
    drop(TcpStream::connect(address).unwrap());
    drop(server);
    assert_eq!(shared.strong_count(), 0, "its thread");
    // A process that is being started may hold the listener a moment longer.
    wait_until(|| TcpStream::connect(address).is_err());
}
