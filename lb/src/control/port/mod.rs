//! The control port: one port, two languages, told apart by the first byte.
//!
//! `{` begins newline-delimited JSON ([`lines`]), anything else HTTP/1.1 ([`http`]); both lead to [`Desk::execute`].
//! No client can block it: the number of connections and the length of a command are bounded, and every wait has a
//! deadline. It never touches the fleet: the controller carries commands out.

mod http;
mod lines;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use proto::control::{Answer, Command, Failure, FailureKind};
use socket2::SockRef;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Mailbox, Message};
use crate::net::Complaints;

/// The longest command, in bytes.
const COMMAND_MAX: usize = 64 * 1024;
/// The deadline for receiving one command, from its first byte on.
const SENDER: Duration = Duration::from_secs(10);
/// How long a connection may be silent between two commands while the port is not full.
const IDLE: Duration = Duration::from_secs(300);
/// The deadline for carrying a command out. The contract promises an answer within a minute, its way to the client included.
const EXECUTION: Duration = Duration::from_secs(58);
/// How long a client may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(30);
/// The pause after a failed accept, and between two calls for idle connections to close while the port is full.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Checks tokens, hands commands to the controller and waits for their answers.
#[derive(Debug)]
pub(crate) struct Desk {
    mailbox: Mailbox,
    token: Option<String>,
    /// Notified while the port is full: idle connections then close.
    crowded: Notify,
}

impl Desk {
    /// With a `token`, only commands that come with it are carried out.
    pub(crate) fn new(mailbox: Mailbox, token: Option<String>) -> Self {
        Desk { mailbox, token, crowded: Notify::new() }
    }

    /// Checks a token. The comparison takes the same time wherever the tokens differ.
    fn admit(&self, given: Option<&str>) -> Result<(), Failure> {
        let refuse = |what: &str| {
            let how = "HTTP `Authorization: Bearer TOKEN` or the JSON field `token`";
            Err(FailureKind::Unauthorized.because(format!("the token is {what}: expected {how}")))
        };
        match (&self.token, given) {
            (None, _) => Ok(()),
            (Some(_), None) => refuse("missing"),
            (Some(expected), Some(given)) if expected.as_bytes().ct_eq(given.as_bytes()).into() => Ok(()),
            (Some(_), Some(_)) => refuse("wrong"),
        }
    }

    /// Has the controller carry a command out, and waits for the answer.
    async fn execute(&self, command: Command) -> Answer {
        let (sender, answer) = oneshot::channel();
        let ask = async {
            self.mailbox.send(Message::Request(command, sender)).await.ok()?;
            answer.await.ok()
        };
        let failure = match timeout(EXECUTION, ask).await {
            Ok(Some(answer)) => return answer,
            Ok(None) => FailureKind::Unavailable.because("lb is shutting down"),
            Err(_) => {
                FailureKind::StartFailed.because(format!("the command is not done within {EXECUTION:?}"))
            }
        };
        Answer::Failure(failure)
    }
}

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
