//! Accepts connections, one listener for each worker, and hands each to its session.
//!
//! To accept cannot fail: an aborted handshake is skipped, and a shortage of files or memory is waited out. Nothing here
//! waits for a peer.

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

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// So many sessions begin before those that there are have their turn.
const AT_ONCE: usize = 32;
/// How long to wait out a shortage before the next look.
const PAUSE: Duration = Duration::from_millis(20);
/// How often an idle worker wakes up: less than what any session waits for in the rule.
const PULSE: Duration = Duration::from_millis(500);

/// Binds one listening socket for each worker, all on one address (`SO_REUSEPORT`, socket(7)); the kernel spreads the
/// connections over them.
///
/// # Errors
/// If the address cannot be had, or another program listens there.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // SO_REUSEPORT would let a second `lb` share the port in silence. A socket without it finds that out.
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
    // Accepted sockets inherit these two, which saves the calls on each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Starts a worker on a thread of its own. It accepts until `stop`, and ends (and drops `alive`) when its sessions have.
///
/// # Errors
/// If the thread or its runtime cannot be made.
pub fn spawn(
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

/// Has the runtime say when there is a connection.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for the sake of types that may close their file; this one owns it"
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

/// Never ends. A runtime that learns of a timer earlier than all others wakes its own poll for it, by a system call and a
/// turn for nothing; every session has timers, and they are later than this one.
async fn pulse() {
    let mut pulse = interval(PULSE);
    loop {
        pulse.tick().await;
    }
}

/// To close a listener would reset the connections that the kernel has already accepted for it.
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

/// The next connection, if there is one. It is not known to the runtime: its first line may be there already, and then it
/// is read before anything is asked of the runtime.
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (client, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| peer.try_into().ok());
    Ok((client.into(), peer.ok_or(Errno::CONNABORTED)?))
}

/// The next connection.
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

/// Waits until one more session leaves enough files to the rest of the program. It counts as one from then on.
async fn room(plane: &Plane) -> TaskTrackerToken {
    loop {
        let most = plane.files.sessions(plane.fleet.load().slots().len());
        // First taken and then counted, so that workers that look at the same time do not both take the last one.
        let room = plane.sessions.token();
        if plane.sessions.len() <= most {
            return room;
        }
        drop(room);
        plane.files.complain(&format_args!("{most} sessions are all that the limit of open files allows"));
        sleep(PAUSE).await;
    }
}

/// The client was gone before it could be accepted (accept(2), "Error handling"): the next one may be well.
fn concerns_one_connection(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errno.is_some_and(|errno| !local.contains(&errno))
}
