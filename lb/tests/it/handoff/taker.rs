//! Replicas in the test's own process that take connections over only when the test says so.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use handoff::Metadata;
use handoff::protocol::{LONGEST_MESSAGE, encode_closed};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, send, socket_with, sockopt,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Lb, PATIENCE, Replica, eventually, patient};

/// Replicas called a, b ... that answer with "proxied" over TCP. Each has a door, at which the test takes connections over.
pub(crate) struct Takers {
    pub(crate) folder: TempDir,
    replicas: Vec<Replica>,
    doors: Vec<OwnedFd>,
}

impl Takers {
    /// `count` replicas.
    pub(crate) fn new(count: usize) -> Takers {
        let folder = tempfile::tempdir().unwrap();
        let doors =
            ('a'..).take(count).map(|name| door(&folder.path().join(format!("{name}.sock")))).collect();
        let replicas = (0..count).map(|_| Replica::named("proxied")).collect();
        Takers { folder, replicas, doors }
    }

    /// `lb` in front of them, and the link to each.
    pub(crate) fn start(&self, flags: &[&str]) -> (Lb, Vec<Link>) {
        let addresses: Vec<_> = self.replicas.iter().map(|replica| replica.address).collect();
        let mut all = crate::harness::fixed(&addresses);
        all.extend(
            ["--transport", "handoff", "--handoff-dir", self.folder.path().to_str().unwrap()]
                .map(str::to_owned),
        );
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        let lb = Lb::start(&crate::harness::flags(&all));
        let links = (0..self.doors.len()).map(|which| self.accept(which)).collect();
        (lb, links)
    }

    /// The next link to one of the replicas.
    #[track_caller]
    pub(crate) fn accept(&self, which: usize) -> Link {
        Link(accept_with(&self.doors[which], SocketFlags::CLOEXEC).unwrap()).patient()
    }

    /// The number of connections that a replica got over TCP.
    pub(crate) fn proxied(&self, which: usize) -> usize {
        self.replicas[which].sessions.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn door(path: &Path) -> OwnedFd {
    let door = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_timeout(&door, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    bind(&door, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&door, 8).unwrap();
    door
}

/// The replica's end of a link. Dropping it ends the link and every connection in its queue.
pub(crate) struct Link(OwnedFd);

impl Link {
    fn patient(self) -> Link {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        self
    }

    /// The next connection that is handed over.
    #[track_caller]
    pub(crate) fn take(&self) -> (TcpStream, Metadata) {
        let mut bytes = [0; LONGEST_MESSAGE + 1];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let received =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
                .unwrap();
        let mut sockets: Vec<OwnedFd> = control
            .drain()
            .flat_map(|part| match part {
                RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(sockets.len(), 1, "one socket comes with each message");
        let stream = TcpStream::from(sockets.remove(0));
        stream.set_nonblocking(false).unwrap();
        (patient(stream), Metadata::decode(&bytes[..received.bytes]).unwrap())
    }

    /// Waits for the next message: whether it is the end of the link.
    pub(crate) fn is_over(&self) -> bool {
        rustix::net::recv(&self.0, &mut [0; 1], RecvFlags::empty()).unwrap().1 == 0
    }

    /// Reports these connections as closed.
    pub(crate) fn report(&self, numbers: &[u64]) {
        self.say(&encode_closed(numbers).unwrap());
    }

    /// Sends any message.
    pub(crate) fn say(&self, message: &[u8]) {
        send(self.0.as_fd(), message, SendFlags::NOSIGNAL).unwrap();
    }
}

/// A client of `lb` that has sent this text and stays connected.
pub(crate) fn client(lb: &Lb, line: &str) -> TcpStream {
    let mut client = lb.connect();
    client.write_all(line.as_bytes()).unwrap();
    client
}

/// Whether the connection of a client ends or breaks before it gets a byte.
#[track_caller]
pub(crate) fn is_over(client: &mut TcpStream) -> bool {
    match client.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => {
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the connection stays open");
            true
        }
    }
}

/// Reads as many bytes as `line` has, and checks that they are this line.
#[track_caller]
pub(crate) fn expect_line(stream: &mut TcpStream, line: &str) {
    let mut read = vec![0; line.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read.escape_ascii().to_string(), line.as_bytes().escape_ascii().to_string());
}

/// Waits until the replica of a slot gets connections by this transport, and returns the slot.
#[track_caller]
pub(crate) fn wait_for_transport(lb: &Lb, index: u64, transport: &str) -> Value {
    eventually(&format!("slot {index} by {transport}"), || {
        Some(lb.slot(index)).filter(|slot| slot["transport"].as_str().unwrap_or("proxy") == transport)
    })
}
