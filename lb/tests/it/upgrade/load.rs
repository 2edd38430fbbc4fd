//! Clients that come one after the other, without a pause, and note what goes wrong.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::harness::{PATIENCE, eventually};

/// How many clients there are at once.
const CLIENTS: usize = 4;

pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Load {
    /// Begins to make connections.
    pub(crate) fn on(data: SocketAddr) -> Load {
        let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |number: usize| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            thread::spawn(move || {
                let mut troubles = Vec::new();
                let mut id = number;
                while !is_over.load(Ordering::Relaxed) {
                    id += CLIENTS;
                    match exchange(data, &format!("{id}\n")) {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(trouble) => troubles.push(trouble),
                    }
                }
                troubles
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { clients, is_over, served }
    }

    /// Waits until so many more are served.
    pub(crate) fn wait_for_more(&self, count: usize) {
        let until = self.served.load(Ordering::Relaxed) + count;
        eventually("more clients", || (self.served.load(Ordering::Relaxed) >= until).then_some(()));
    }

    /// Ends it; what has gone wrong.
    pub(crate) fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn exchange(data: SocketAddr, line: &str) -> Result<(), String> {
    let trouble = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let mut stream = TcpStream::connect(data).map_err(|error| trouble("connect", &error))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(line.as_bytes()).map_err(|error| trouble("write", &error))?;
    stream.shutdown(Shutdown::Write).map_err(|error| trouble("shutdown", &error))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| trouble("read", &error))?;
    // A replica of a test echoes it, and a demo replica puts its name before it.
    if answer.ends_with(line) { Ok(()) } else { Err(trouble("answer", &format!("{answer:?}"))) }
}
