//! Accepts connections, with one listener for each worker, and starts a session for each.
//!
//! Accepting goes on through every error: it skips an aborted handshake, and waits until a shortage of files or memory is
//! over. It never waits for a peer.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::error;

use super::{Plane, session};
use crate::net::KEEPALIVE;

/// How many connections may wait to be accepted; the kernel caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How many sessions may start before the running ones get a turn.
const AT_ONCE: usize = 32;
/// How long to wait during a shortage before the next try.
const PAUSE: Duration = Duration::from_millis(20);
/// How often an idle worker wakes up: shorter than the usual session timeouts.
const PULSE: Duration = Duration::from_millis(500);

/// Binds one listening socket for each worker, all to one address (`SO_REUSEPORT`, socket(7)); the kernel spreads the
/// connections over them.
///
/// # Errors
/// The address cannot be bound, or another program listens there.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT alone, a second `lb` would share the port in silence. Binding a socket without it fails then.
    listen(address, false)?;
    let first = listen(address, true)?;
    let address = first.local_addr()?;
    let others = (1..workers).map(|_| listen(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these two options, which saves two calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Starts a worker on its own thread. It accepts until `stop`; it ends, and drops `alive`, when its sessions have ended.
///
/// # Errors
/// The thread or its runtime cannot be made.
pub(crate) fn spawn(
    number: usize,
    listener: TcpListener,
    plane: Arc<Plane>,
    stop: CancellationToken,
    alive: TaskTrackerToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let run = move || {
        runtime.block_on(async move {
            match watch(listener) {
                Ok(listener) => run(listener, plane, stop).await,
                Err(error) => error!("worker {number} cannot use its listener: {error}"),
            }
        });
        drop(alive);
    };
    Builder::new().name(format!("worker-{number}")).spawn(run).context("no thread")?;
    Ok(())
}

/// Has the runtime report new connections.
#[expect(
    deprecated,
    reason = "its successor is unsafe, because some types may close their file early; this one owns it"
)]
fn watch(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

async fn run(listener: AsyncFd<TcpListener>, plane: Arc<Plane>, stop: CancellationToken) {
    let accept_all = async {
        for number in (1..=AT_ONCE).cycle() {
            let (client, peer) = accept(&listener, &plane).await;
            let room = room(&plane).await;
            session::start(client, peer, Arc::clone(&plane), room);
            if number == AT_ONCE {
                yield_now().await;
            }
        }
    };
    let _pulse = AbortOnDropHandle::new(tokio::spawn(pulse()));
    stop.run_until_cancelled(accept_all).await;
    accept_the_rest(&listener.into_inner(), &plane);
    plane.sessions.close();
    plane.sessions.wait().await;
}

/// Keeps the runtime's earliest timer near. It never ends.
///
/// A runtime that gets a timer earlier than all others interrupts its own poll: one system call and one turn for nothing.
/// Every session has timers, and they are later than this one.
async fn pulse() {
    let mut pulse = interval(PULSE);
    loop {
        pulse.tick().await;
    }
}

/// Accepts what the kernel has accepted already: closing the listener would reset those connections.
fn accept_the_rest(listener: &TcpListener, plane: &Arc<Plane>) {
    for _ in 0..BACKLOG {
        match accept_now(listener) {
            Ok((client, peer)) => {
                session::start(client, peer, Arc::clone(plane), plane.sessions.token());
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock && concerns_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

/// Accepts a connection, if there is one. The runtime does not watch it yet: if its first line is there already, the
/// session reads that first.
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (client, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| peer.try_into().ok());
    Ok((client.into(), peer.ok_or(Errno::CONNABORTED)?))
}

/// Waits for the next connection.
async fn accept(listener: &AsyncFd<TcpListener>, plane: &Plane) -> (TcpStream, SocketAddr) {
    loop {
        match listener.async_io(Interest::READABLE, accept_now).await {
            Ok(connection) => return connection,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                plane.files.complain(&error);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until one more session leaves enough files for the rest of the program. The token counts as that session.
async fn room(plane: &Plane) -> TaskTrackerToken {
    loop {
        let most = plane.files.sessions(plane.fleet.load().slots().len());
        // Taken first and counted then, so that two workers do not both take the last place.
        let room = plane.sessions.token();
        if plane.sessions.len() <= most {
            return room;
        }
        drop(room);
        plane.files.complain(&format_args!("{most} sessions are all that the limit of open files allows"));
        sleep(PAUSE).await;
    }
}

/// Whether the error is about one client that left before it was accepted (accept(2), "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errno.is_some_and(|errno| !local.contains(&errno))
}
