//! Both ends of a connection through `lb` in the hands of a test.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::harness::{Lb, PATIENCE, patient};

/// A running `lb` in front of one replica that is served by the test itself.
pub(crate) struct Wire {
    pub(crate) lb: Lb,
    pub(crate) listener: TcpListener,
}

impl Wire {
    /// Starts `lb` with these flags too. Its replica passes one probe, and the next is an hour away.
    pub(crate) fn start(flags: &[&str]) -> Wire {
        Wire::start_as(flags, |command| command)
    }

    /// Like the function before, with a change to the command that starts `lb`.
    pub(crate) fn start_as(flags: &[&str], other: impl FnOnce(Command) -> Command) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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

    /// Both ends of a new connection through `lb`, the client's and the replica's; for an `lb` that reads no first line.
    #[track_caller]
    pub(crate) fn pair(&self) -> (TcpStream, TcpStream) {
        (self.lb.connect(), self.accept())
    }
}

/// An `lb` that reads no first line (so what one end sends is all that the other gets) for each way in which it can move bytes:
/// through pipes, through pipes that are full after one page, and copied.
pub(crate) fn every_relay() -> impl Iterator<Item = Wire> {
    every_relay_with(&[])
}

/// The same with these flags too.
pub(crate) fn every_relay_with(flags: &[&str]) -> impl Iterator<Item = Wire> {
    let ways: [&[&str]; 3] = [&["--splice", "auto"], &["--splice-pipe", "4KiB"], &["--splice", "never"]];
    ways.into_iter().map(move |way| {
        println!("the relay with {}", way.join(" "));
        Wire::start(&[&["--key", "source", "--log", "debug"], way, flags].concat())
    })
}
