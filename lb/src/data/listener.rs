//! Accepts connections, with a listener for each worker and address, and starts a session for each. A client at a Unix socket has no
//! address: it counts as one of this machine, 127.0.0.1 with the port 0.
//!
//! Accepting goes on through every error: it skips an aborted handshake, waits until a shortage of files or memory is over, and binds
//! a listener again that does not work. It never waits for a peer.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{error, info};

use super::Plane;
use super::admission::Seat;
use super::binding::{BACKLOG, listen};
use super::rules::Rules;
use super::session::{self, Room};
use super::worker::{Gate, Worker};
use crate::net::Trouble;
use crate::refusals::Reason;

/// How many sessions may start before the running ones get a turn.
const AT_ONCE: usize = 32;
/// How long to wait during a shortage before the next try, and before the first try to mend a listener.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two tries to mend a listener.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The address of a client at a Unix socket.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How often an idle worker wakes up: shorter than the usual session timeouts.
const PULSE: Duration = Duration::from_millis(500);

/// Accepts connections until `close`, and returns when all sessions have ended.
pub(super) async fn run(at: usize, plane: Arc<Plane>, close: CancellationToken) {
    let worker = &plane.workers[at];
    let mut pulse = AbortOnDropHandle::new(tokio::spawn(pulse(at, Arc::clone(&plane))));
    tokio::select! {
        () = close.cancelled() => {}
        _ = join_all(worker.gates.iter().map(|gate| accept_all(worker, gate, &plane))) => {}
        // Without it the worker would be taken for blocked for ever. A runtime that fails is begun again as a whole.
        Err(failed) = &mut pulse => if let Ok(panic) = failed.try_into_panic() { resume_unwind(panic) },
    }
    for (_, listener) in worker.close() {
        // Another process goes on at this socket.
        if plane.pause.is_on() {
            continue;
        }
        accept_the_rest(&listener, worker, &plane);
    }
    plane.sessions.close();
    plane.sessions.wait().await;
}

/// Accepts connections at a gate for ever, and mends its listener when it fails.
async fn accept_all(worker: &Worker, gate: &Gate, plane: &Arc<Plane>) {
    while let Some(listener) = gate.listener() {
        let working = watch(Arc::clone(&listener))
            .and_then(|watched| try_out(&listener, worker, plane).map(|()| watched));
        let trouble = match working {
            Ok(watched) => {
                gate.set_accepts(true);
                accept_until_trouble(&watched, (worker, gate), plane).await
            }
            Err(trouble) => trouble,
        };
        gate.set_down();
        mend((worker, gate), plane, trouble).await;
    }
}

/// Waits until a listener works again, or another one in its place.
async fn mend((worker, gate): (&Worker, &Gate), plane: &Arc<Plane>, mut trouble: io::Error) {
    let (mut pause, mut is_said) = (PAUSE, false);
    loop {
        if plane.troubles.ask().is_some() {
            is_said = true;
            error!(
                worker = worker.number,
                error = %trouble, "a worker cannot accept connections; its listener is bound again"
            );
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(2 * pause);
        let Some(listener) = gate.listener() else { return };
        match try_out(&listener, worker, plane) {
            Ok(()) => break,
            Err(error) => trouble = error,
        }
        // A Unix socket that fails is the only one: all workers share it.
        let Some(at) = gate.at else { continue };
        match listen(at, true, &plane.rules.load().limits.peer) {
            Ok(other) => {
                if let Some(old) = gate.replace_listener(Some(other)) {
                    accept_the_rest(&old, worker, plane);
                }
            }
            Err(error) => trouble = error,
        }
    }
    if is_said {
        info!(worker = worker.number, "a worker can accept connections again");
    }
}

/// Accepts the next connection, if there is one.
///
/// # Errors
/// It is not certain that the listener works.
fn try_out(listener: &TcpListener, worker: &Worker, plane: &Arc<Plane>) -> io::Result<()> {
    match accept_unless_paused(listener, plane) {
        Ok((client, peer)) => serve_now(client, peer, worker, plane),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) if Trouble::of(&error) == Trouble::Shortage => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Has the runtime report new connections.
#[expect(
    deprecated,
    reason = "its successor is unsafe, because some types may close their file early; this one owns it"
)]
fn watch(listener: Arc<TcpListener>) -> io::Result<AsyncFd<Arc<TcpListener>>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// Accepts connections until the listener fails.
async fn accept_until_trouble(
    listener: &AsyncFd<Arc<TcpListener>>,
    (worker, gate): (&Worker, &Gate),
    plane: &Arc<Plane>,
) -> io::Error {
    loop {
        for _ in 0..AT_ONCE {
            let (client, peer) = match accept(listener, (worker, gate), plane).await {
                Ok(connection) => connection,
                Err(trouble) => return trouble,
            };
            let rules = plane.rules.take();
            if let Some((client, seat)) = admit(client, peer, plane, &rules) {
                let room = room(seat, plane, &rules).await;
                session::start(client, peer, worker.at(), (Arc::clone(plane), rules), room);
            }
        }
        yield_now().await;
    }
}

/// The worker's heartbeat. It never ends. It also keeps the runtime's earliest timer near:
///
/// A runtime that gets a timer earlier than all others interrupts its own poll: one system call and one turn for nothing.
/// Every session has timers, and they are later than this one.
async fn pulse(at: usize, plane: Arc<Plane>) {
    let mut pulse = interval(PULSE);
    loop {
        pulse.tick().await;
        plane.workers[at].beat();
    }
}

/// Accepts what the kernel has accepted already: closing the listener would reset those connections.
fn accept_the_rest(listener: &TcpListener, worker: &Worker, plane: &Arc<Plane>) {
    let mut skipped = 0;
    for _ in 0..BACKLOG {
        match accept_now(listener) {
            Ok((client, peer)) => serve_now(client, peer, worker, plane),
            Err(error) if Trouble::of(&error) == Trouble::Connection && skipped < AT_ONCE => skipped += 1,
            Err(_) => return,
        }
    }
}

/// Accepts a connection, if there is one. The runtime does not watch it yet: if its first line is there already, the
/// session reads that first.
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (client, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = match peer {
        Some(peer) if peer.address_family() != AddressFamily::UNIX => peer.try_into().ok(),
        _ => Some(LOCAL),
    };
    Ok((client.into(), peer.ok_or(Errno::CONNABORTED)?))
}

fn accept_unless_paused(listener: &TcpListener, plane: &Plane) -> io::Result<(TcpStream, SocketAddr)> {
    if plane.pause.is_on() { Err(ErrorKind::WouldBlock.into()) } else { accept_now(listener) }
}

/// Waits for the next connection.
///
/// # Errors
/// The listener does not work.
async fn accept(
    listener: &AsyncFd<Arc<TcpListener>>,
    (worker, gate): (&Worker, &Gate),
    plane: &Plane,
) -> io::Result<(TcpStream, SocketAddr)> {
    let (mut skipped, mut is_short) = (0, false);
    loop {
        let accepted = accept_any(listener, (worker, plane)).await;
        let was_short = is_short;
        // A client waits then that cannot be accepted.
        is_short = accepted.as_ref().is_err_and(|error| Trouble::of(error) == Trouble::Shortage);
        if is_short != was_short {
            gate.set_accepts(!is_short);
        }
        let error = match accepted {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match Trouble::of(&error) {
            Trouble::Connection if skipped < AT_ONCE => skipped += 1,
            Trouble::Connection | Trouble::Listener => return Err(error),
            Trouble::Shortage => {
                plane.files.complain(&error, None);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until accept(2) gives anything but EAGAIN. The runtime hears only of a change, so the worker's pulse has it tried as well: no
/// client waits for the next one, whatever was missed.
async fn accept_any(
    listener: &AsyncFd<Arc<TcpListener>>,
    (worker, plane): (&Worker, &Plane),
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.async_io(Interest::READABLE, |listener| accept_unless_paused(listener, plane)) => accepted,
            () = worker.pulse() => accept_unless_paused(listener.get_ref(), plane),
        };
        if !accepted.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            return accepted;
        }
    }
}

/// Asks whether a client is let in. If it is not, its connection is reset, before a byte is read.
fn admit(
    client: TcpStream,
    peer: SocketAddr,
    plane: &Plane,
    rules: &Rules,
) -> Option<(TcpStream, Option<Seat>)> {
    let Some(admission) = &rules.admission else { return Some((client, None)) };
    // Who the client of a proxy is, is known later.
    let admitted = if rules.expect_header(peer.ip()) {
        admission.let_in_proxy(peer.ip()).map(|()| None)
    } else {
        admission.admit(peer.ip())
    };
    match admitted {
        Ok(seat) => Some((client, seat)),
        Err(reason) => {
            // It fails only on a socket that is closed already.
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
            plane.refusals.count(reason);
            plane.refuse(peer, reason);
            None
        }
    }
}

/// Waits until there is room for one more session: for its files, and among all that there may be.
async fn room(seat: Option<Seat>, plane: &Plane, rules: &Rules) -> Room {
    let counted = room_for_files(plane).await;
    let Some(admission) = &rules.admission else { return Room { counted, places: None } };
    let is_full = || {
        plane.refusals.count(Reason::MaxConnections);
        plane.files.complain(&"all that --max-connections allows are open", None);
    };
    Room { counted, places: admission.places(seat, is_full).await }
}

/// Serves a client that cannot wait for room, if it is let in.
fn serve_now(client: TcpStream, peer: SocketAddr, worker: &Worker, plane: &Arc<Plane>) {
    let rules = plane.rules.take();
    let Some((client, seat)) = admit(client, peer, plane, &rules) else { return };
    let places = rules.admission.as_ref().and_then(|admission| admission.places_now(seat));
    let room = Room { counted: plane.sessions.token(), places };
    session::start(client, peer, worker.at(), (Arc::clone(plane), rules), room);
}

/// Waits until there is memory for one more session, and it leaves enough files for the rest of the program. The token counts as
/// that session.
pub(super) async fn room_for_files(plane: &Plane) -> TaskTrackerToken {
    let mut waits = false;
    loop {
        // How short memory is, is logged where it is looked up.
        if !plane.memory.is_short() {
            let most = plane.most_sessions();
            // Taken first and counted then, so that two workers do not both take the last place.
            let room = plane.sessions.token();
            if plane.sessions.len() <= most {
                return room;
            }
            drop(room);
            plane.files.complain(&"all sessions that the limit of open files allows are open", Some(most));
        }
        if !std::mem::replace(&mut waits, true) {
            plane.refusals.count(Reason::MaxConnections);
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::PeerOptions;
    use crate::data::binding::At;

    #[test]
    fn a_listener_that_was_shut_down_has_a_trouble_of_its_own() {
        let at = At { address: ([127, 0, 0, 1], 0).into(), is_only_v6: false };
        let listener = listen(at, true, &PeerOptions::default()).unwrap();
        assert_eq!(accept_now(&listener).unwrap_err().kind(), ErrorKind::WouldBlock);
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(Trouble::of(&accept_now(&listener).unwrap_err()), Trouble::Listener);
    }
}
