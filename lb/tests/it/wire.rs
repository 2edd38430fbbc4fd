//! A test that holds both ends of a connection through `lb`.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::harness::{Lb, PATIENCE, patient};

/// A running `lb` in front of one replica, which the test itself serves.
pub(crate) struct Wire {
    pub(crate) lb: Lb,
    pub(crate) listener: TcpListener,
}

impl Wire {
    /// Starts `lb` with these flags added. Its replica passes one probe; the next is an hour away.
    pub(crate) fn start(flags: &[&str]) -> Wire {
        Wire::start_as(flags, |command| command)
    }

    /// Like [`Wire::start`], with a change to the command that starts `lb`.
    pub(crate) fn start_as(flags: &[&str], other: impl FnOnce(Command) -> Command) -> Wire {
        Wire::start_before(TcpListener::bind("127.0.0.1:0").unwrap(), flags, other)
    }

    /// Like [`Wire::start_as`], before a replica that listens already.
    pub(crate) fn start_before(
        listener: TcpListener,
        flags: &[&str],
        other: impl FnOnce(Command) -> Command,
    ) -> Wire {
        socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        let backend = format!("a={}", listener.local_addr().unwrap());
        let fleet =
            ["--provider", "fixed", "--backend", &backend, "--health", "tcp", "--health-interval", "1h"];
        let lb = Lb::launch_as(other(Lb::command(&[&fleet, flags].concat())));
        lb.wait_for_log("ready data=");
        let wire = Wire { lb, listener };
        drop(wire.accept());
        wire
    }

    /// The next connection that `lb` makes.
    #[track_caller]
    pub(crate) fn accept(&self) -> TcpStream {
        patient(self.listener.accept().unwrap().0)
    }

    /// The client's and the replica's end of a new connection, through an `lb` that reads no first line.
    #[track_caller]
    pub(crate) fn pair(&self) -> (TcpStream, TcpStream) {
        (self.lb.connect(), self.accept())
    }
}

/// An `lb` for each way in which it moves bytes: through pipes, through pipes that one page fills, and by copying. It reads no
/// first line, so each end receives exactly what the other sends.
pub(crate) fn every_relay() -> impl Iterator<Item = Wire> {
    every_relay_with(&[])
}

/// Like [`every_relay`], with these flags added.
pub(crate) fn every_relay_with(flags: &[&str]) -> impl Iterator<Item = Wire> {
    let ways: [&[&str]; 3] = [&["--splice", "auto"], &["--splice-pipe", "4KiB"], &["--splice", "never"]];
    ways.into_iter().map(move |way| {
        println!("the relay with {}", way.join(" "));
        Wire::start(&[&["--key", "source", "--log", "debug"], way, flags].concat())
    })
}
