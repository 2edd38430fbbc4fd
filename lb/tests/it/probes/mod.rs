//! Probes: what a server sees of them, and that it is none of its worries.

mod commands;
mod early;
mod kept;
mod kinds;
mod programs;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::control::http;
use crate::harness::{Lb, eventually, fixed, flags, patient};

/// The size of a page that no buffer of the kernel holds.
const PAGE: usize = 3_000_000;
const OFTEN: [&str; 2] = ["--health-interval", "20ms"];

/// How many probes of the only replica had this result.
fn probed(lb: &Lb, result: &str) -> u64 {
    let page = http(lb, "GET /metrics", "").body;
    let result = format!("result=\"{result}\"");
    let is_it = |line: &&str| line.starts_with("lb_probes_total") && line.contains(&result);
    page.lines().find(is_it).map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// A server that gives each connection to `serve`, one at a time, and keeps what goes wrong.
struct Server {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, served, complaints) = (listener.local_addr().unwrap(), Arc::default(), Arc::default());
        let server = Server { address, served, complaints };
        let (served, complaints) = (Arc::clone(&server.served), Arc::clone(&server.complaints));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).map(patient) {
                if let Err(error) = serve(stream) {
                    complaints.lock().unwrap().push(error.to_string());
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        server
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }
}

/// Answers a request with this head and the page, and waits for the client's end.
fn answer(mut stream: TcpStream, head: &str, is_chunked: bool) -> io::Result<()> {
    let mut request = [0; 1024];
    let n = stream.read(&mut request)?;
    assert!(request[..n].ends_with(b"\r\n\r\n"), "a request comes in one piece");
    stream.write_all(head.as_bytes())?;
    if is_chunked {
        for _ in 0..PAGE / 100_000 {
            write!(stream, "{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000))?;
        }
        stream.write_all(b"0\r\n\r\n")?;
    } else {
        stream.write_all(&vec![b'x'; PAGE])?;
    }
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("a byte after the request")),
    }
}

#[test]
fn the_answer_to_a_probe_is_read_to_its_end() {
    let with_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE}\r\n\r\n");
    let heads = [
        (with_length.clone(), false, "up"),
        ("HTTP/1.0 200 OK\r\n\r\n".to_owned(), false, "up"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), true, "up"),
        // A page that says what is wrong.
        (with_length.replace("200 OK", "503 Busy"), false, "down"),
    ];
    for (head, is_chunked, state) in heads {
        let kind = head.clone();
        let server = Server::start(move |stream| answer(stream, &head, is_chunked));
        let fleet = fixed(&[server.address]);
        let calm = ["--health-timeout", "30s", "--health", "http:/"];
        let lb = Lb::launch(&[&flags(&fleet)[..], &OFTEN, &calm].concat());
        lb.wait_for_state(1, state);
        eventually("ten probes", || (server.served() >= 10).then_some(()));
        assert_eq!(server.complaints(), Vec::<String>::new(), "{kind}");
        assert_eq!(lb.slot(1)["state"], state);
    }
}

#[test]
fn a_page_without_an_end_passes_by_its_head() {
    let server = Server::start(|mut stream| {
        let _request = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
        Ok(())
    });
    let fleet = fixed(&[server.address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &OFTEN, &["--health-timeout", "200ms"]].concat());
    eventually("more probes", || (server.served() >= 3).then_some(()));
    assert_eq!(lb.slot(1)["state"], "up");
}

/// Waits for the end of a connection on which the peer writes nothing. It has to be a reset.
fn ending(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(io::Error::other(format!("not a reset: {other:?}"))),
    }
}

#[test]
fn a_tcp_probe_is_no_client_that_leaves_without_a_word() {
    let silent = Server::start(|mut stream| ending(&mut stream));
    // As a mail, shell or database server does.
    let speaks_first = Server::start(|mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
        ending(&mut stream)
    });
    let comes_and_goes = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = comes_and_goes.local_addr().unwrap();
    let fleet = fixed(&[silent.address, speaks_first.address, address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &OFTEN, &["--health", "tcp"]].concat());
    drop(comes_and_goes);
    // Meanwhile the other servers are probed as well.
    for _ in 0..5 {
        lb.wait_for_state(3, "down");
        let back = TcpListener::bind(address).unwrap();
        lb.wait_for_state(3, "up");
        drop(back);
    }
    for (index, server) in [(1, silent), (2, speaks_first)] {
        assert!(server.served() > 0, "the first probe takes a longer look");
        assert_eq!(server.complaints(), Vec::<String>::new());
        assert_eq!(lb.slot(index)["state"], "up");
    }
}
