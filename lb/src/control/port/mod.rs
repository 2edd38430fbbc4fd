//! The control port: one port, two languages, told apart by the first byte.
//!
//! `{` begins newline-delimited JSON ([`lines`]), anything else HTTP/1.1 ([`http`]); both lead to [`Desk::execute`].
//! It has a thread of its own, so that nothing that is sent to it delays a probe, an exit or a command of another client.
//! No client can block it: the number of connections and the length of a command are bounded, every wait has a
//! deadline, and who waits makes room for who speaks ([`places`]). It never touches the fleet: the controller carries commands out.

mod address;
mod audit;
mod backoff;
mod desk;
mod http;
mod lines;
mod places;
mod socket_file;
mod web;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy, sink,
};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

pub(crate) use address::Address;
pub(crate) use desk::Desk;

use crate::net::Complaints;
use crate::privileges::Identity;
use audit::Who;
use desk::{Caller, SENDER};
use places::Places;
use socket_file::SocketFile;

/// How long a client may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(30);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The places of connections on Unix sockets.
const LOCAL: usize = 8;
/// Open files of one listener: its own, and that of a connection that waits for a place.
const PER_LISTENER: usize = 2;
/// How much of a connection's buffer is kept for it.
const BUFFER: usize = 4096;
/// The most that is read, and for how long, of a client whose commands were refused, before its connection is closed.
const UNWELCOME: (u64, Duration) = (1 << 20, Duration::from_secs(1));

/// The listeners of the control port.
pub(crate) struct Listeners {
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<(std::os::unix::net::UnixListener, SocketFile)>,
    addresses: Vec<Address>,
}

impl Listeners {
    /// Listens on all of these addresses.
    ///
    /// # Errors
    /// One of them cannot be bound; the error names it.
    pub(crate) fn open(addresses: &[Address]) -> anyhow::Result<Self> {
        let mut listeners = Listeners { tcp: Vec::new(), unix: Vec::new(), addresses: Vec::new() };
        for address in addresses {
            listeners.open_one(address).with_context(|| format!("cannot listen on {address} (--control)"))?;
        }
        Ok(listeners)
    }

    fn open_one(&mut self, address: &Address) -> anyhow::Result<()> {
        let bound = match address {
            Address::Tcp(address) => {
                let listener = listen(*address)?;
                let bound = Address::Tcp(listener.local_addr()?);
                self.tcp.push(listener);
                bound
            }
            Address::Unix(path) => {
                self.unix.push(socket_file::listen_at(path)?);
                address.clone()
            }
        };
        self.addresses.push(bound);
        Ok(())
    }

    /// Gives them to another user.
    ///
    /// # Errors
    /// This process may not, or a socket's file is gone.
    pub(crate) fn give_to(&self, user: Identity) -> io::Result<()> {
        self.tcp.iter().try_for_each(|listener| user.own(listener))?;
        self.unix.iter().try_for_each(|(_, file)| file.give_to(user))
    }

    /// The address to tell others, with its real port: the first TCP address, or else the first Unix socket.
    pub(crate) fn address(&self) -> Option<&Address> {
        let is_tcp = |address: &&Address| matches!(address, Address::Tcp(_));
        self.addresses.iter().find(is_tcp).or(self.addresses.first())
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The open files of a control port with these addresses, beside those of its TCP connections.
pub(crate) fn files(addresses: &[Address]) -> usize {
    // Each Unix socket has a lock file, and all share their places.
    let locks = addresses.iter().filter(|address| matches!(address, Address::Unix(_))).count();
    PER_LISTENER * addresses.len() + locks + if locks > 0 { LOCAL } else { 0 }
}

/// A control port that runs. Dropping it ends the port, and removes the files of its Unix sockets.
pub(crate) struct Port {
    end: Option<DropGuard>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.end = None;
        // It fails only if the thread has panicked.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Runs the control port on a thread of its own, with at most `connections` connections over TCP. When `close` is cancelled, it gives
/// its TCP addresses up, and lets a successor take the paths of its Unix sockets, on which it goes on.
///
/// # Errors
/// The thread, or its runtime, cannot be made.
pub(crate) fn start(
    listeners: Listeners,
    desk: Desk,
    connections: usize,
    close: CancellationToken,
) -> anyhow::Result<Port> {
    if listeners.addresses.len() > 1 {
        listeners.addresses.iter().for_each(|address| info!("control port on {address}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let inside = runtime.enter();
    let tcp = listeners.tcp.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let (unix, files): (Vec<_>, Vec<_>) = listeners.unix.into_iter().unzip();
    let unix = unix.into_iter().map(UnixListener::from_std).collect::<io::Result<Vec<_>>>()?;
    drop(inside);
    let port = run((tcp, unix, files), Arc::new(desk), connections, close);
    let end = CancellationToken::new();
    let ended = end.clone();
    let thread = Builder::new().name("control".to_owned());
    let thread = thread.spawn(move || {
        runtime.block_on(ended.run_until_cancelled_owned(port));
    });
    Ok(Port { end: Some(end.drop_guard()), thread: Some(thread.context("no thread")?) })
}

async fn run(
    (tcp, unix, files): (Vec<TcpListener>, Vec<UnixListener>, Vec<SocketFile>),
    desk: Arc<Desk>,
    connections: usize,
    close: CancellationToken,
) {
    let hall =
        |places| Hall { desk: Arc::clone(&desk), places: Places::new(places), complaints: Arc::default() };
    let (remote, local) = (hall(connections), hall(LOCAL));
    for listener in tcp {
        tokio::spawn(close.clone().run_until_cancelled_owned(accept_tcp(listener, remote.clone())));
    }
    for listener in unix {
        tokio::spawn(accept_unix(listener, local.clone()));
    }
    let closed = async {
        close.cancelled().await;
        remote.places.close();
        files.iter().for_each(SocketFile::release);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = closed => {}
        _ = desk.refusals.report() => {}
    }
}

/// What all listeners of a group share.
#[derive(Clone)]
struct Hall {
    desk: Arc<Desk>,
    places: Arc<Places>,
    complaints: Arc<Complaints>,
}

async fn accept_tcp(listener: TcpListener, hall: Hall) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                hall.welcome(stream, Who::Address(peer)).await;
            }
            Err(error) => hall.stumble(&error).await,
        }
    }
}

/// If one of these options cannot be set, answers are slower, or a client that has gone is noticed later.
fn prepare(stream: &TcpStream) {
    // An answer is one write. Without TCP_NODELAY, the answer to the second of two commands that were sent
    // together waits until the client acknowledges the first, up to 40 ms.
    let _ = stream.set_nodelay(true);
    // The kernel gives up a client that does not read its answers (tcp(7), TCP_USER_TIMEOUT).
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD));
}

async fn accept_unix(listener: UnixListener, hall: Hall) {
    loop {
        let accepted = listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream)));
        match accepted {
            Ok((process, stream)) => hall.welcome(stream, Who::Process(process)).await,
            Err(error) => hall.stumble(&error).await,
        }
    }
}

impl Hall {
    /// Gives a connection a place and a task of its own. Those that are there get a turn before the next one.
    async fn welcome<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, who: Who) {
        let caller = Caller::new(who, self.places.enter().await);
        let desk = Arc::clone(&self.desk);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = caller.place.lost() => {}
                () = serve(stream, &desk, &caller) => {}
            }
        });
        yield_now().await;
    }

    async fn stumble(&self, what: &io::Error) {
        self.complaints.complain("control port", what);
        sleep(ACCEPT_PAUSE).await;
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, desk: &Arc<Desk>, caller: &Caller) {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let first = timeout(SENDER, stream.fill_buf()).await.map(|read| read.map(|bytes| bytes.first().copied()));
    let ended = match first {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(b'{'))) => lines::converse(&mut stream, desk, caller).await,
        Ok(Ok(Some(_))) | Err(_) => http::converse(&mut stream, desk, caller).await,
        Ok(Err(error)) => Err(error.into()),
    };
    if let Err(error) = ended {
        debug!(who = %caller.who, "control connection: {error:#}");
    }
    hang_up(stream, caller.is_unwelcome()).await;
}

/// Closes a connection. Unread bytes would turn the close into a reset, which would overtake the answer: so the rest is
/// read and thrown away.
async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(mut stream: BufReader<S>, is_unwelcome: bool) {
    let (most, limit) = if is_unwelcome { UNWELCOME } else { (u64::MAX, SENDER) };
    // This fails only if the connection has ended already.
    let _ = stream.shutdown().await;
    let _ = timeout(limit, copy(&mut stream.take(most), &mut sink())).await;
}
