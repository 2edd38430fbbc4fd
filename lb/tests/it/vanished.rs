//! Peers that vanish without a word are gone in time, and peers that live and do not read are never cut.
//!
//! `lb` runs in a network namespace of its own, with a cable to that of the peer. To cut the cable, the peer's address is taken away:
//! what is sent to it is lost, and no packet says so.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::{Wire, eventually, patient};
use crate::limits::talk;
use crate::namespaces::{Namespace, ip};
use crate::noise::{FIN, KIB, MIB, RESET, end, receive, send};
use crate::relay::flood;

const OURS: &str = "192.0.2.2";
const THEIRS: &str = "192.0.2.1";

/// The namespace of `lb`, and one that can be cut off.
struct Cable {
    here: Namespace,
    there: Namespace,
}

impl Cable {
    /// `None` where namespaces cannot be made.
    fn lay(name: &str) -> Option<Cable> {
        let make = |side| Namespace::make(&format!("{name}-{side}"));
        let cable = Cable { here: make("here")?, there: make("there")? };
        let (here, there) = (cable.here.name.as_str(), cable.there.name.as_str());
        let (our_mac, their_mac) = ("02:00:00:00:00:02", "02:00:00:00:00:01");
        let ours = ["-n", here, "link", "add", "cable", "address", our_mac, "type", "veth"];
        ip(&[&ours[..], &["peer", "name", "cable", "address", their_mac, "netns", there]].concat());
        for (at, address, other, mac) in [(here, OURS, THEIRS, their_mac), (there, THEIRS, OURS, our_mac)] {
            ip(&["-n", at, "address", "add", &format!("{address}/30"), "dev", "cable"]);
            ip(&["-n", at, "link", "set", "cable", "up"]);
            // Otherwise the kernel would soon know that the address is gone.
            ip(&["-n", at, "neigh", "replace", other, "lladdr", mac, "dev", "cable", "nud", "permanent"]);
        }
        Some(cable)
    }

    /// From now on whatever is sent over it is lost.
    fn cut(&self) {
        ip(&["-n", &self.there.name, "address", "del", &format!("{THEIRS}/30"), "dev", "cable"]);
    }

    /// `lb` before a replica that the test serves beside it, or else beyond the cable.
    fn wire(&self, replica_is_far: bool, flags: &[&str]) -> Wire {
        let (at, address) = if replica_is_far { (&self.there, THEIRS) } else { (&self.here, "127.0.0.1") };
        let listener = at.inside(|| TcpListener::bind((address, 0)).unwrap());
        let flags = [&["--key", "source", "--log", "debug", "--workers", "1"], flags].concat();
        self.here.inside(|| Wire::start_before(listener, &flags, |command| listening_at(OURS, &command)))
    }

    /// A session from beyond the cable, whose client has a small receive buffer.
    fn far_client(&self, wire: &Wire) -> (TcpStream, TcpStream) {
        let client = self.there.inside(|| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_recv_buffer_size(4 * KIB).unwrap();
            client.connect(&wire.lb.data.into()).unwrap();
            patient(client.into())
        });
        settled(client, wire)
    }

    fn near_client(&self, wire: &Wire) -> (TcpStream, TcpStream) {
        settled(self.here.inside(|| wire.lb.connect()), wire)
    }

    /// Waits until `lb` has no connection over the cable.
    #[track_caller]
    fn is_left(&self) {
        // An address in hexadecimal digits, the last byte first: proc(5).
        let far =
            |row: &str| row.split_whitespace().nth(2).is_some_and(|remote| remote.starts_with("010200C0:"));
        eventually("no connection over the cable", || {
            let table = self.here.inside(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
            (!table.lines().any(far)).then_some(())
        });
    }
}

/// The command of `lb` with another address for clients.
fn listening_at(address: &str, command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    let mut before = None;
    for argument in command.get_args() {
        if before.is_some_and(|before| before == "--listen") {
            other.arg(format!("{address}:0"));
        } else {
            other.arg(argument);
        }
        before = Some(argument);
    }
    other
}

/// A session in which a byte has come through.
fn settled(client: TcpStream, wire: &Wire) -> (TcpStream, TcpStream) {
    let replica = wire.accept();
    send(&client, 1);
    receive(&replica, 1);
    (client, replica)
}

#[test]
fn a_client_that_vanishes_while_bytes_are_on_their_way_is_gone() {
    let Some(cable) = Cable::lay("client") else { return };
    let wire = cable.wire(false, &["--ack-timeout", "3s"]);
    let (download, small) = (cable.far_client(&wire), cable.far_client(&wire));
    flood(&download.1);
    receive(&download.0, 100);
    cable.cut();
    // It fits into a send buffer, and the session is idle then.
    send(&small.1, KIB);
    for (client, replica) in [&download, &small] {
        assert_eq!(end(replica), RESET);
        let line = wire.lb.session_of(client.local_addr().unwrap());
        assert!(line.ends_with("ending=reset by the client"), "{line}");
    }
    cable.is_left();
}

#[test]
fn a_replica_that_vanishes_while_bytes_are_on_their_way_is_gone() {
    let Some(cable) = Cable::lay("replica") else { return };
    let wire = cable.wire(true, &["--ack-timeout", "3s"]);
    let (upload, small) = (cable.near_client(&wire), cable.near_client(&wire));
    flood(&upload.0);
    receive(&upload.1, 100);
    cable.cut();
    send(&small.0, KIB);
    for (client, _) in [&upload, &small] {
        assert_eq!(end(client), RESET);
    }
    cable.is_left();
}

#[test]
fn a_silent_peer_that_vanishes_is_gone_when_keepalive_says_so() {
    for replica_is_far in [false, true] {
        let Some(cable) = Cable::lay("silent") else { return };
        let wire = cable.wire(replica_is_far, &["--keepalive", "5s"]);
        let (client, replica) =
            if replica_is_far { cable.near_client(&wire) } else { cable.far_client(&wire) };
        cable.cut();
        assert_eq!(end(if replica_is_far { &client } else { &replica }), RESET);
        cable.is_left();
    }
}

/// Longer than a peer may leave bytes unacknowledged, twice.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_client_that_lives_and_does_not_read_is_never_cut_and_one_that_vanishes_meanwhile_is_gone() {
    let Some(cable) = Cable::lay("reader") else { return };
    let wire = cable.wire(false, &["--ack-timeout", "8s", "--half-close-timeout", "5s"]);
    let [slow, small, lost, other] = std::array::from_fn(|_| cable.far_client(&wire));
    let sent = [&slow, &lost].map(|(_, replica)| flood(replica));
    // It fits into the buffers between the two, so the session is idle.
    send(&small.1, 40 * KIB);
    // A session of which one direction has ended waits for its reader as well.
    for half_closed in [&small.0, &lost.0] {
        half_closed.shutdown(Shutdown::Write).unwrap();
    }
    talk(&other, LONG);
    for ((client, replica), bytes) in [(&slow, sent[0]), (&small, 40 * KIB)] {
        SockRef::from(client).set_recv_buffer_size(MIB).unwrap();
        receive(client, bytes);
        replica.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end(client), FIN);
    }
    cable.cut();
    assert_eq!(end(&lost.1), FIN, "its client's");
    lost.1.set_nonblocking(true).unwrap();
    let is_reset = |error: std::io::Error| error.kind() != ErrorKind::WouldBlock;
    eventually("a reset", || (&lost.1).write(b"x").is_err_and(is_reset).then_some(()));
    cable.is_left();
}

#[test]
fn a_replica_that_lives_and_does_not_read_is_never_cut() {
    let Some(cable) = Cable::lay("sink") else { return };
    let wire = cable.wire(true, &["--ack-timeout", "8s"]);
    SockRef::from(&wire.listener).set_recv_buffer_size(4 * KIB).unwrap();
    let [slow, lost, other] = std::array::from_fn(|_| cable.near_client(&wire));
    let sent = [&slow, &lost].map(|(client, _)| flood(client));
    talk(&other, LONG);
    SockRef::from(&slow.1).set_recv_buffer_size(MIB).unwrap();
    receive(&slow.1, sent[0]);
    cable.cut();
    assert_eq!(end(&lost.0), RESET);
    cable.is_left();
}
