//! Clients that come and go all the time, each of which knows how its connection ended. Nothing here looks at `lb`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::{patient, reset};

/// The address that `lb` does not let in.
pub(super) const DENIED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// How many clients there are at once.
const CROWD: usize = 8;
/// The pause of a client between two connections.
const PAUSE: Duration = Duration::from_millis(30);
/// The pause in a session.
const BEAT: Duration = Duration::from_millis(100);

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Saw {
    /// The answer, and the end after it.
    Answer,
    /// An answer that says that there is no replica.
    Unavailable,
    /// The end without an answer, or in the middle of one.
    Cut,
    /// Its own reset, after an answer.
    OwnReset,
    /// Nothing: it left before it had said anything.
    Left,
    /// A reset at once: it is not let in.
    Denied,
}

/// What all clients saw, by their addresses. A port is used again, so an address has several connections, in their order.
#[derive(Default)]
pub(super) struct Seen {
    by_client: Mutex<HashMap<SocketAddr, Vec<Saw>>>,
    over: AtomicBool,
    ids: AtomicU64,
}

impl Seen {
    /// Sends until it is told that it is enough.
    pub(super) fn send(&self, data: SocketAddr) {
        thread::scope(|scope| {
            (0..CROWD).for_each(|_| drop(scope.spawn(|| self.come_and_go(data))));
        });
    }

    /// The connections that are open end as they are. There are no more.
    pub(super) fn enough(&self) {
        self.over.store(true, Relaxed);
    }

    /// What was seen.
    pub(super) fn all(self) -> HashMap<SocketAddr, Vec<Saw>> {
        self.by_client.into_inner().unwrap()
    }

    fn come_and_go(&self, data: SocketAddr) {
        while !self.over.load(Relaxed) {
            let number = self.ids.fetch_add(1, Relaxed);
            match number % 20 {
                0 => self.leave(data),
                1 => self.knock(data),
                2 | 3 => self.quit(data, number),
                4 => self.stay(data, number),
                5..12 => self.ask(data, &format!("{number}\n"), &format!(" {number}\n")),
                _ => {
                    let request =
                        format!("GET /home?id={number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                    self.ask(data, &request, "\"status\":\"successful\"}");
                }
            }
            thread::park_timeout(PAUSE);
        }
    }

    /// Notes how a connection ended, before its port can be used again.
    fn note(&self, stream: &TcpStream, saw: Saw) {
        let address = stream.local_addr().unwrap();
        self.by_client.lock().unwrap().entry(address).or_default().push(saw);
    }

    /// Sends a request, and reads to the end.
    fn ask(&self, data: SocketAddr, request: &str, last: &str) {
        let mut stream = connect(data);
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = String::new();
        let read = sent.and_then(|()| stream.read_to_string(&mut answer));
        let saw = match read {
            Ok(_) if answer.ends_with(last) && !answer.contains(" 503 ") => Saw::Answer,
            Ok(_) if answer.contains(" 503 ") && answer.ends_with('}') => Saw::Unavailable,
            _ => Saw::Cut,
        };
        self.note(&stream, saw);
    }

    /// A session of some lines.
    fn stay(&self, data: SocketAddr, number: u64) {
        let mut stream = connect(data);
        let has_answers = (0..10).all(|_| {
            thread::park_timeout(BEAT);
            answered(&mut stream, number)
        });
        let ended = stream.shutdown(Shutdown::Write).and_then(|()| stream.read_to_end(&mut Vec::new()));
        self.note(&stream, if has_answers && ended.is_ok() { Saw::Answer } else { Saw::Cut });
    }

    /// Resets the connection after an answer.
    fn quit(&self, data: SocketAddr, number: u64) {
        let mut stream = connect(data);
        let is_answered = answered(&mut stream, number);
        self.note(&stream, if is_answered { Saw::OwnReset } else { Saw::Cut });
        reset(stream);
    }

    fn leave(&self, data: SocketAddr) {
        self.note(&connect(data), Saw::Left);
    }

    /// Comes from an address that is not let in.
    fn knock(&self, data: SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((DENIED, 0)).into()).unwrap();
        socket.connect(&data.into()).unwrap();
        let mut stream = patient(socket.into());
        let read = stream.read(&mut [0]);
        assert!(read.is_err(), "it is let in: {read:?}");
        self.note(&stream, Saw::Denied);
    }
}

fn connect(data: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(data).unwrap())
}

/// Sends a line; whether its answer comes.
fn answered(stream: &mut TcpStream, number: u64) -> bool {
    let mut answer = String::new();
    let sent = stream.write_all(format!("{number}\n").as_bytes());
    sent.and_then(|()| BufReader::new(stream).read_line(&mut answer)).is_ok()
        && answer.ends_with(&format!(" {number}\n"))
}
