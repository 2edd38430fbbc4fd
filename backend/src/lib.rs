//! The demo replica: one port that speaks HTTP/1.1 or, line by line, raw text.
//!
//! The first line of a connection decides its protocol for good (the grammar is [`proto::line`]). The replica does not
//! know the load balancer in front of it, keeps no state between connections, and buffers at most one line or one body
//! chunk: it stops reading from a client that does not read its answers. Connections that arrive by hand-off
//! ([`handoff`]) are served like accepted ones.
//!
//! `http` holds the routes and `raw` the line mode. This file accepts connections, detects the protocol and shuts down.

mod http;
mod raw;

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handoff::{Either, Stream};
use proto::line::{self, FirstLine, Progress};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Deadline for the first line, counted from the accept.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests in progress may continue after the shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after an accept that failed for lack of file descriptors or memory, so that connections can end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Runs a replica process: binds `address` and, if given, the `handoff` socket path (`docs/HANDOFF.md`), logs
/// `listening on ADDR as ID` to stderr with the real port (and the path in a second line), and serves until SIGTERM or
/// SIGINT.
///
/// # Errors
///
/// The address or the path cannot be bound, or the signal handlers cannot be installed.
pub async fn run(address: SocketAddr, id: &str, handoff: Option<&Path>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
    let bind =
        |path: &Path| handoff::Listener::bind(path).map_err(|error| cannot_listen(path.display(), &error));
    let handed_over = handoff.map(bind).transpose()?;
    // Before the log line: a process that has read it may send the signal at once.
    let shutdown = terminated()?;
    log(format_args!("listening on {} as {id}", listener.local_addr()?));
    if let Some(path) = handoff {
        log(format_args!("connections may be handed over at {}", path.display()));
    }
    serve(Either::new(listener, handed_over), id, shutdown).await;
    Ok(())
}

fn cannot_listen(place: impl Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

/// Installs handlers for SIGTERM and SIGINT and returns a future that completes with the first of these signals.
///
/// From this call on the signals no longer end the process. A second call returns a future for the next signal.
///
/// # Errors
///
/// The operating system refuses the handler.
pub fn terminated() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Answers as replica `id` on `listeners` until `shutdown` ends.
///
/// Then it closes the listeners and all idle connections, answers the requests in progress (also those that arrived by
/// hand-off), and cuts off what is left after 5 s. Dropping the future cuts off every connection.
pub async fn serve(
    listeners: impl Into<Either>,
    id: impl Into<Arc<str>>,
    shutdown: impl Future<Output = ()>,
) {
    let (connections, stop, cut) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let _cut_at_the_end = cut.clone().drop_guard();
    let (mut listeners, id) = (listeners.into(), id.into());
    let spawn = |stream| {
        let connection = connection(stream, Arc::clone(&id), stop.clone());
        connections.spawn(cut.clone().run_until_cancelled_owned(connection));
    };
    tokio::select! {
        never = accept(&mut listeners, spawn) => match never {},
        () = shutdown => {}
    }
    // Their clients have no other replica: lb has handed them over for good.
    listeners.stop().into_iter().for_each(|(stream, _)| spawn(stream));
    stop.cancel();
    connections.close();
    let _ = timeout(GRACE, connections.wait()).await;
}

/// Passes every new connection to `spawn`. It never fails: an error of one connection does not affect the others, and
/// a shortage of file descriptors passes.
async fn accept(listeners: &mut Either, spawn: impl Fn(Stream)) -> Infallible {
    loop {
        match listeners.accept().await {
            Ok((stream, _)) => spawn(stream),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                log(format_args!("cannot accept: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the client left before it was accepted (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

enum Protocol {
    Http,
    Raw,
}

/// Serves one connection from its first byte to its last. Its errors are not logged: they concern its client only.
async fn connection(stream: Stream, id: Arc<str>, stop: CancellationToken) {
    // `_open` reports the connection as closed, so it has to be dropped after the stream.
    let (stream, _open) = stream.into_parts();
    // If this fails the connection is slower, but correct.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (mut reader, mut head) = (BufReader::new(reader), Vec::new());
    let protocol = tokio::select! {
        biased;
        protocol = timeout(FIRST_LINE_TIMEOUT, protocol(&mut reader, &mut head)) => protocol,
        () = is_left_alone(&stop) => return,
    };
    match protocol {
        Ok(Ok(Protocol::Http)) => drop(http::serve(head, reader, writer, id, stop).await),
        Ok(Ok(Protocol::Raw)) => drop(raw::serve(head, reader, writer, &id, stop).await),
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Completes after `stop`, and after the runtime has polled the socket once more: a first request may have arrived.
async fn is_left_alone(stop: &CancellationToken) {
    stop.cancelled().await;
    yield_now().await;
}

/// Reads the first line into `head` and returns the protocol. A first byte that is not text decides at once; `head` is
/// empty then.
async fn protocol(reader: &mut raw::Reader, head: &mut Vec<u8>) -> io::Result<Protocol> {
    if line::read(reader.fill_buf().await?, false) == Progress::Opaque {
        return Ok(Protocol::Raw);
    }
    raw::read_line(reader, head).await?;
    Ok(match line::read(head, true) {
        Progress::Line(FirstLine::Http(_)) => Protocol::Http,
        _ => Protocol::Raw,
    })
}

/// Writes one line to stderr. Unlike `eprintln!` it does not panic when stderr is closed.
fn log(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
