//! The demo replica: one port that speaks HTTP/1.1 or, line by line, raw text.
//!
//! A connection is what its first line says it is (the grammar is [`proto::line`]) and stays that. Nothing here knows
//! of the load balancer in front, keeps anything from one connection to the next, or holds more of a peer's bytes
//! than one line or one chunk of a body: who does not read its answers is not read from. Connections that somebody hands
//! over ([`handoff`]) are like those that come by themselves.
//!
//! `http` holds the routes and `raw` the line mode; this file accepts, tells the two apart, and ends.

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
use tokio::net::tcp::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take for its first line, counted from the accept.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests in progress may go on after the shutdown has begun.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after an accept that failed for want of descriptors or memory: time for connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

type Reader = BufReader<OwnedReadHalf>;

/// The life of a replica process: binds `address` and, where there is one, the path at which connections are handed over
/// (`docs/HANDOFF.md`), logs `listening on ADDR as ID` to stderr with the real port (and the path in a second line), and
/// serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// The address or the path cannot be bound, or the signal handlers cannot be installed.
pub async fn run(address: SocketAddr, id: &str, handoff: Option<&Path>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
    let bind =
        |path: &Path| handoff::Listener::bind(path).map_err(|error| cannot_listen(path.display(), &error));
    let handed_over = handoff.map(bind).transpose()?;
    // Before the log line: whoever has read it may send the signal.
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

/// A future that ends with the first SIGTERM or SIGINT after this call; the handlers are in place when it returns.
///
/// A process that has called it no longer dies of these signals. Called again, it waits for the next one.
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
/// Then they are closed, idle connections end at once, requests in progress are answered, those of clients that have been
/// handed over as well, and what is left after 5 s is cut off, as everything is when this future is dropped.
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
    // Nobody else can serve these.
    listeners.stop().into_iter().for_each(|(stream, _)| spawn(stream));
    stop.cancel();
    connections.close();
    let _ = timeout(GRACE, connections.wait()).await;
}

/// Hands every new connection to `spawn`. It cannot fail: what went wrong with one connection concerns no other, and
/// a lack of descriptors passes.
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

/// The client was gone before it could be accepted (accept(2), "Error handling").
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

/// One connection from its first byte to its last. How it failed, if it did, is its client's business alone.
async fn connection(stream: Stream, id: Arc<str>, stop: CancellationToken) {
    // What is open is dropped after all that holds the stream.
    let (stream, _open) = stream.into_parts();
    // Without it the connection is slower and still right.
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

/// Ends with `stop`, but not before the runtime has said what has come on a new connection: its first request may be there.
async fn is_left_alone(stop: &CancellationToken) {
    stop.cancelled().await;
    yield_now().await;
}

/// Reads the first line into `head` and tells what it is. A first byte that is not text decides at once, so `head`
/// may still be empty.
async fn protocol(reader: &mut Reader, head: &mut Vec<u8>) -> io::Result<Protocol> {
    if line::read(reader.fill_buf().await?, false) == Progress::Opaque {
        return Ok(Protocol::Raw);
    }
    raw::read_line(reader, head).await?;
    Ok(match line::read(head, true) {
        Progress::Line(FirstLine::Http(_)) => Protocol::Http,
        _ => Protocol::Raw,
    })
}

/// One line on stderr. Unlike `eprintln!` it does not panic when stderr is gone.
fn log(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
