//! What a successor gets, and how it is sent: the sockets, the fleet, the children, the journal. It blocks.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::READY_WITHIN;
use super::message::{Estate, Message, VERSION};
use super::wire::{MOST_FILES, Wire};
use crate::handed::PortName;
use crate::net::ListenAddress;
use crate::provider::process::kindred::{Bequest, Heir};
use crate::socket_file::SocketFile;

/// How much later than expected the successor may settle, or say why it fails.
pub(super) const SLACK: Duration = Duration::from_secs(5);
/// How many entries of the journal go with one message.
const ENTRIES: usize = 200;

/// A successor that has been started.
pub(super) struct Successor {
    pub(super) wire: Arc<Wire>,
    pub(super) pid: u32,
    /// `None`: it has ended already.
    process: Option<OwnedFd>,
}

/// The sockets of one address.
pub(super) struct Group {
    pub(super) port: PortName,
    pub(super) asked: ListenAddress,
    pub(super) bound: ListenAddress,
    pub(super) is_activated: bool,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) file: Option<Arc<SocketFile>>,
}

/// All that is handed over.
pub(super) struct Handing {
    pub(super) sockets: Vec<Group>,
    pub(super) estate: Estate,
    pub(super) bequest: Bequest,
    pub(super) entries: Vec<Arc<str>>,
}

impl Handing {
    fn send(&self, wire: &Wire) -> io::Result<()> {
        let (lb, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
        wire.send(&Message::Begin { version: VERSION, lb, pid }, &[])?;
        for group in &self.sockets {
            group.send(wire)?;
        }
        wire.send(&Message::Fleet(Box::new(self.estate.clone())), &[])?;
        for line in &self.bequest.lines {
            wire.send(&Message::Line {}, &[line.as_fd()])?;
        }
        for Heir { portrait, process, outputs } in &self.bequest.heirs {
            let files: Vec<_> = [process].into_iter().chain(outputs).map(OwnedFd::as_fd).collect();
            wire.send(&Message::Child(portrait.clone()), &files)?;
        }
        for entries in self.entries.chunks(ENTRIES) {
            wire.send(&Message::Entries(entries.iter().map(ToString::to_string).collect()), &[])?;
        }
        wire.send(&Message::End {}, &[])
    }
}

impl Group {
    fn send(&self, wire: &Wire) -> io::Result<()> {
        for (number, sockets) in self.sockets.chunks(MOST_FILES - 1).enumerate() {
            let mut files: Vec<BorrowedFd<'_>> = sockets.iter().map(OwnedFd::as_fd).collect();
            let shared = self.file.as_ref().filter(|_| number == 0).map(|file| file.shared());
            files.extend(shared.iter().map(|(_, lock)| *lock));
            let message = Message::Sockets {
                port: self.port,
                asked: self.asked.clone(),
                bound: self.bound.clone(),
                is_activated: self.is_activated,
                file: shared.map(|(identity, _)| identity.to_owned()),
            };
            wire.send(&message, &files)?;
        }
        Ok(())
    }
}

/// Sends everything to a successor that has been started at `begun`, and waits until it serves. One that does not is killed.
pub(super) fn begin(wire: Arc<Wire>, begun: Instant, handing: &Handing) -> Result<Successor, String> {
    let deadline = begun + READY_WITHIN;
    let pid = match receive(&wire, deadline)? {
        Message::Launched { pid } => pid,
        other => return Err(unexpected(other)),
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let successor = Successor { wire, pid, process };
    let served = match handing.send(&successor.wire) {
        Ok(()) => receive(&successor.wire, deadline),
        // It has said why, if it is an lb.
        Err(error) => receive(&successor.wire, Instant::now() + SLACK).map_err(|reason| {
            if error.kind() == io::ErrorKind::WouldBlock { error.to_string() } else { reason }
        }),
    };
    match served {
        Ok(Message::Serving { .. }) => Ok(successor),
        Ok(other) => {
            successor.kill();
            Err(unexpected(other))
        }
        Err(reason) => {
            successor.kill();
            Err(reason)
        }
    }
}

/// Waits until the successor has settled.
pub(super) fn settled(wire: &Wire, deadline: Instant) -> Result<(), String> {
    match receive(wire, deadline)? {
        Message::Settled {} => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn receive(wire: &Wire, deadline: Instant) -> Result<Message, String> {
    match wire.receive(deadline) {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err("it has ended".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err("it is not ready in time".to_owned()),
        Err(error) => Err(format!("it cannot be understood: {error}")),
    }
}

fn unexpected(message: Message) -> String {
    match message {
        Message::Failed { reason } => reason,
        other => format!("it says {other:?}"),
    }
}

impl Successor {
    pub(super) fn kill(&self) {
        if let Some(process) = &self.process {
            // It fails if it has ended.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}
