//! The control port: one port, two languages, told apart by the first byte.
//!
//! `{` begins newline-delimited JSON ([`lines`]), anything else HTTP/1.1 ([`http`]); both lead to [`Desk::execute`].
//! Where `--metrics` has an address of its own, a port of the same kind serves [`scrape`] there, and nothing else. Each port
//! has a thread of its own, so that nothing that is sent to it delays a probe, an exit or a command of another client.
//! No client can block it: the number of connections and the length of a command are bounded, every wait has a
//! deadline, and who waits makes room for who speaks ([`places`]). It never touches the fleet: the controller carries commands out.

mod audit;
mod backoff;
mod desk;
mod events;
mod http;
mod lines;
mod listeners;
mod page;
mod pictures;
mod places;
mod scrape;
mod server;
mod web;

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::SockRef;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy, sink,
};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Runtime;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error};

pub(crate) use desk::Desk;
pub(crate) use listeners::Listeners;

use crate::net::{Complaints, ListenAddress, Pause, Trouble};
use crate::panics::message;
use audit::Who;
use desk::{Caller, SENDER};
use listeners::TcpDoor;
use places::Places;

/// How long a client may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(30);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The places of connections on Unix sockets.
const LOCAL: usize = 8;
/// Open files of one listener: its own, that which the runtime watches, and that of a connection that waits for a place.
const PER_LISTENER: usize = 3;
/// The pauses before a port that has failed is opened again: the first one, and the longest if it fails again and again.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// A port that ran for so long has not failed again: the next pause is the first one.
const STEADY: Duration = Duration::from_secs(10);
/// The connections of a port for metrics.
pub(crate) const SCRAPERS: usize = 8;
/// How much of a connection's buffer is kept for it.
const BUFFER: usize = 4096;
/// The most that is read, and for how long, of a client whose commands were refused, before its connection is closed.
const UNWELCOME: (u64, Duration) = (1 << 20, Duration::from_secs(1));

/// The open files of a control port with these addresses, beside those of its TCP connections.
pub(crate) fn files(addresses: &[ListenAddress]) -> usize {
    // Each Unix socket has a lock file, and all share their places.
    let locks = addresses.iter().filter(|address| matches!(address, ListenAddress::Unix(_))).count();
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

/// What a port is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Commands.
    Control(Arc<Desk>),
    /// Metrics and health, and nothing else.
    Metrics(Arc<Desk>),
}

impl Purpose {
    /// Its name, in the log and of its thread.
    fn name(&self) -> &'static str {
        match self {
            Purpose::Control(_) => "control",
            Purpose::Metrics(_) => "metrics",
        }
    }
}

/// Runs a port on a thread of its own, with at most `connections` connections over TCP. When `close` is cancelled, it gives
/// its TCP addresses up, and lets a successor take the paths of its Unix sockets, on which it goes on. If it fails, it is opened again,
/// with the listeners that it had.
///
/// # Errors
/// The thread, or its runtime, cannot be made.
pub(crate) fn start(
    listeners: Listeners,
    purpose: Purpose,
    connections: usize,
    (close, pause): (CancellationToken, Arc<Pause>),
) -> anyhow::Result<Port> {
    match &purpose {
        Purpose::Control(desk) => {
            listeners.introduce();
            if listeners.has_tcp() {
                desk.judge_token();
            }
        }
        Purpose::Metrics(_) => listeners.tell("metrics port"),
    }
    let thread = Builder::new().name(purpose.name().to_owned());
    let (end, service) = (CancellationToken::new(), Service { purpose, connections, close, pause });
    let (runtime, ended) = (runtime().context("no runtime")?, end.clone());
    let thread = thread.spawn(move || service.keep_running(listeners, runtime, &ended));
    Ok(Port { end: Some(end.drop_guard()), thread: Some(thread.context("no thread")?) })
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Waits, unless the end comes first. It takes no file, of which there may be none.
fn pause(time: Duration, end: &CancellationToken) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() {
        runtime.block_on(end.run_until_cancelled(async { sleep(time).await }));
    }
}

/// What the port works with.
struct Service {
    purpose: Purpose,
    connections: usize,
    close: CancellationToken,
    pause: Arc<Pause>,
}

impl Service {
    /// Runs the port until `end`, and opens it again whenever it fails.
    fn keep_running(&self, mut listeners: Listeners, first: Runtime, end: &CancellationToken) {
        let (mut first, mut next) = (Some(first), PAUSES[0]);
        loop {
            let begun = Instant::now();
            let failure = match self.run_until(end, &mut listeners, first.take()) {
                Ok(()) => return,
                Err(failure) => failure,
            };
            let name = self.purpose.name();
            error!(
                error = %failure, "the {name} port has failed, its connections are closed, and it is opened again"
            );
            next = if begun.elapsed() >= STEADY { PAUSES[0] } else { next };
            pause(next, end);
            next = PAUSES[1].min(2 * next);
        }
    }

    /// Runs the port until `end`, on this runtime or a new one. A panic drops the runtime, and with it every connection.
    fn run_until(
        &self,
        end: &CancellationToken,
        listeners: &mut Listeners,
        on: Option<Runtime>,
    ) -> Result<(), String> {
        let run = || {
            let runtime = on.map_or_else(runtime, Ok)?;
            let ended = runtime.block_on(end.run_until_cancelled(self.run(listeners)));
            ended.map_or(Ok(()), |failed| failed.map(|never| match never {}))
        };
        let ended: io::Result<()> =
            catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic).to_owned())?;
        ended.map_err(|error| error.to_string())
    }

    /// Runs the port.
    ///
    /// # Errors
    /// It cannot go on.
    async fn run(&self, listeners: &mut Listeners) -> io::Result<Infallible> {
        let hall = |places| Hall {
            purpose: self.purpose.clone(),
            places: Places::new(places),
            complaints: Arc::default(),
        };
        let halls = (hall(self.connections), hall(LOCAL));
        tokio::select! {
            failed = self.accept(listeners, halls) => failed,
            never = self.audit() => match never {},
        }
    }

    /// Accepts connections whenever there is no pause.
    ///
    /// # Errors
    /// It cannot go on.
    async fn accept(
        &self,
        listeners: &mut Listeners,
        (remote, local): (Hall, Hall),
    ) -> io::Result<Infallible> {
        let mut is_closed = false;
        let close = |listeners: &mut Listeners| {
            remote.places.close();
            listeners.release();
            true
        };
        loop {
            tokio::select! {
                () = self.pause.until(false) => {}
                () = self.close.cancelled(), if !is_closed => is_closed = close(listeners),
            }
            if self.pause.is_on() {
                continue;
            }
            let mut accepting = JoinSet::new();
            for door in listeners.tcp() {
                let accept = accept_tcp(door, remote.clone());
                accepting.spawn(self.close.clone().run_until_cancelled_owned(accept));
            }
            for listener in listeners.watch_unix()? {
                let accept = accept_unix(listener, local.clone());
                accepting.spawn(async { Some(accept.await) });
            }
            while !self.pause.is_on() {
                tokio::select! {
                    () = self.pause.until(true) => {}
                    () = self.close.cancelled(), if !is_closed => is_closed = close(listeners),
                    panic = panic_of(&mut accepting) => return Err(panic.into()),
                }
            }
        }
    }

    async fn audit(&self) -> Infallible {
        match &self.purpose {
            Purpose::Control(desk) => audit::report(&desk.refusals).await,
            Purpose::Metrics(_) => std::future::pending().await,
        }
    }
}

/// The first panic of these tasks.
async fn panic_of<T: 'static>(tasks: &mut JoinSet<T>) -> JoinError {
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            return panic;
        }
    }
    std::future::pending().await
}

/// What all listeners of a group share.
#[derive(Clone)]
struct Hall {
    purpose: Purpose,
    places: Arc<Places>,
    complaints: Arc<Complaints>,
}

async fn accept_tcp(door: TcpDoor, hall: Hall) -> Infallible {
    loop {
        let trouble = match door.watch() {
            Ok(listener) => accept_until_trouble(&listener, &hall).await,
            Err(shortage) => shortage,
        };
        hall.stumble(&trouble).await;
        door.reopen();
    }
}

/// Accepts connections until the listener fails.
async fn accept_until_trouble(listener: &TcpListener, hall: &Hall) -> io::Error {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                hall.welcome(stream, Who::Address(peer)).await;
            }
            Err(error) if Trouble::of(&error) == Trouble::Listener => return error,
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

async fn accept_unix(listener: UnixListener, hall: Hall) -> Infallible {
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
        let purpose = self.purpose.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = caller.place.lost() => {}
                () = serve(stream, &purpose, &caller) => {}
            }
        });
        yield_now().await;
    }

    async fn stumble(&self, what: &io::Error) {
        self.complaints.complain(&format!("{} port", self.purpose.name()), what, None);
        sleep(ACCEPT_PAUSE).await;
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, purpose: &Purpose, caller: &Caller) {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let ended = match purpose {
        Purpose::Control(desk) => converse(&mut stream, desk, caller).await,
        Purpose::Metrics(desk) => scrape::converse(&mut stream, desk, caller).await,
    };
    if let Err(error) = ended {
        debug!(who = %caller.who, error = %format!("{error:#}"), port = purpose.name(), "a connection has failed");
    }
    hang_up(stream, caller.is_unwelcome()).await;
}

/// Carries out what comes on a connection, in the language of its first byte.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    desk: &Arc<Desk>,
    caller: &Caller,
) -> anyhow::Result<()> {
    let first = timeout(SENDER, stream.fill_buf()).await.map(|read| read.map(|bytes| bytes.first().copied()));
    match first {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(b'{'))) => lines::converse(stream, desk, caller).await,
        Ok(Ok(Some(_))) | Err(_) => http::converse(stream, desk, caller).await,
        Ok(Err(error)) => Err(error.into()),
    }
}

/// Closes a connection. Unread bytes would turn the close into a reset, which would overtake the answer: so the rest is
/// read and thrown away.
async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(mut stream: BufReader<S>, is_unwelcome: bool) {
    let (most, limit) = if is_unwelcome { UNWELCOME } else { (u64::MAX, SENDER) };
    // This fails only if the connection has ended already.
    let _ = stream.shutdown().await;
    let _ = timeout(limit, copy(&mut stream.take(most), &mut sink())).await;
}
