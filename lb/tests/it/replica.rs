//! Replicas in the test's own process, which misbehave on demand.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::harness::patient;

/// A replica in this process. It passes its probes while `healthy` is set, and gives every other connection to a function
/// of the test.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    /// Whether probes get 200; otherwise they get 500.
    pub(crate) healthy: Arc<AtomicBool>,
    /// The number of connections that were not probes.
    pub(crate) sessions: Arc<AtomicUsize>,
    listener: TcpListener,
    hangs: Arc<AtomicBool>,
    has_stopped: Arc<Barrier>,
}

impl Replica {
    /// `serve` gets every connection that is not a probe, and the bytes that were read from it already (maybe none).
    pub(crate) fn start(serve: impl Fn(TcpStream, Vec<u8>) + Send + Sync + 'static) -> Replica {
        Replica::start_at("127.0.0.1:0", serve)
    }

    /// Like [`Replica::start`], on a given address.
    pub(crate) fn start_at(
        address: &str,
        serve: impl Fn(TcpStream, Vec<u8>) + Send + Sync + 'static,
    ) -> Replica {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (healthy, sessions) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_healthy, count, serve) = (Arc::clone(&healthy), Arc::clone(&sessions), Arc::new(serve));
        let (acceptor, hangs) = (listener.try_clone().unwrap(), Arc::new(AtomicBool::new(false)));
        let has_stopped = Arc::new(Barrier::new(2));
        let (is_hanging, stopped) = (Arc::clone(&hangs), Arc::clone(&has_stopped));
        thread::spawn(move || {
            for stream in acceptor.incoming().map_while(Result::ok) {
                if is_hanging.load(Ordering::Relaxed) {
                    stopped.wait();
                    loop {
                        thread::park();
                    }
                }
                let (is_healthy, count, serve) =
                    (Arc::clone(&is_healthy), Arc::clone(&count), Arc::clone(&serve));
                thread::spawn(move || {
                    let mut stream = patient(stream);
                    let mut first = [0; 4096];
                    let Ok(n) = stream.read(&mut first) else { return };
                    if first[..n].starts_with(b"GET /heartbeat ") {
                        let status = if is_healthy.load(Ordering::Relaxed) { "200 OK" } else { "500 Sick" };
                        let _ = write!(
                            stream,
                            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        );
                    } else {
                        count.fetch_add(1, Ordering::Relaxed);
                        serve(stream, first[..n].to_vec());
                    }
                });
            }
        });
        Replica { address, healthy, sessions, listener, hangs, has_stopped }
    }

    /// From now on it refuses connections.
    pub(crate) fn leave(&self) {
        socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both).unwrap();
    }

    /// From now on it is a black hole: it accepts no connection, and the kernel drops every SYN because the backlog is
    /// full.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
        let _last_to_be_accepted = TcpStream::connect(self.address).unwrap();
        self.has_stopped.wait();
        socket2::SockRef::from(&self.listener).listen(0).unwrap();
        let is_queued = |_| TcpStream::connect_timeout(&self.address, Duration::from_millis(300)).is_ok();
        assert!(!(0..10).all(is_queued), "the backlog never fills");
    }

    /// A replica that sends back what it receives.
    pub(crate) fn echo() -> Replica {
        Replica::start(|mut stream, first| {
            let _ = stream.write_all(&first);
            let mut reader = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut reader, &mut stream);
        })
    }

    /// A replica that answers with its name and closes.
    pub(crate) fn named(name: &'static str) -> Replica {
        Replica::named_at("127.0.0.1:0", name)
    }

    /// Like [`Replica::named`], on a given address.
    pub(crate) fn named_at(address: &str, name: &'static str) -> Replica {
        Replica::start_at(address, move |mut stream, _| {
            let _ = stream.write_all(name.as_bytes());
        })
    }
}
