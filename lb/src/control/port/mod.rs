//! The control port: one port, two languages, told apart by the first byte.
//!
//! `{` begins newline-delimited JSON ([`lines`]), anything else HTTP/1.1 ([`http`]); both lead to [`Desk::execute`].
//! No client can block it: the number of connections and the length of a command are bounded, and every wait has a
//! deadline. It never touches the fleet: the controller carries commands out.

mod desk;
mod http;
mod lines;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::debug;

pub(crate) use desk::Desk;

use crate::net::Complaints;
use desk::SENDER;

/// How long a client may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(30);
/// The pause after a failed accept, and between two calls for idle connections to close while the port is full.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves at most `connections` connections at once until it is dropped; further ones wait in the kernel's queue.
pub(crate) async fn run(listener: TcpListener, desk: Arc<Desk>, connections: usize) {
    let (room, complaints) = (Arc::new(Semaphore::new(connections)), Complaints::default());
    loop {
        let permit = permit(&room, &desk).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                // An answer is one write. Without TCP_NODELAY, the answer to the second of two commands that were sent
                // together waits until the client acknowledges the first, up to 40 ms. If this fails, answers are only slower.
                let _ = stream.set_nodelay(true);
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    converse(stream, peer, &desk).await;
                    drop(permit);
                });
            }
            Err(error) => {
                complaints.complain("control port", &error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits until there is room for one more connection; while there is none, idle connections are told to close.
async fn permit(room: &Arc<Semaphore>, desk: &Desk) -> Option<OwnedSemaphorePermit> {
    let mut acquired = pin!(Arc::clone(room).acquire_owned());
    loop {
        tokio::select! {
            biased;
            permit = &mut acquired => return permit.ok(),
            () = sleep(ACCEPT_PAUSE) => desk.crowded.notify_waiters(),
        }
    }
}

async fn converse(mut stream: TcpStream, peer: SocketAddr, desk: &Arc<Desk>) {
    // The kernel gives up a client that does not read its answers (tcp(7), TCP_USER_TIMEOUT).
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD));
    let mut first = [0];
    let ended = match timeout(SENDER, stream.peek(&mut first)).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(_)) if first == *b"{" => lines::converse(&mut stream, desk).await,
        Ok(Ok(_)) | Err(_) => http::converse(&mut stream, desk).await,
        Ok(Err(error)) => Err(error.into()),
    };
    if let Err(error) = ended {
        debug!(%peer, "control connection: {error:#}");
    }
    hang_up(stream, desk).await;
}

/// Closes a connection. Unread bytes would turn the close into a reset, which would overtake the answer: so the rest is
/// read and thrown away while the port is not full.
async fn hang_up(mut stream: TcpStream, desk: &Desk) {
    // This fails only if the connection has ended already.
    let _ = stream.shutdown().await;
    let mut nowhere = sink();
    tokio::select! {
        _ = timeout(SENDER, copy(&mut stream, &mut nowhere)) => {}
        () = desk.crowded.notified() => {}
    }
}
