//! The control port: one port, two languages, told apart by the first byte.
//!
//! `{` begins newline-delimited JSON ([`lines`]), anything else HTTP/1.1 ([`http`]); both lead to [`Desk::execute`].
//! Nobody who asks can hold it up: connections are bounded in number, commands in length, and every wait has a
//! deadline.

mod http;
mod lines;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use proto::control::{Answer, Command, Failure, FailureKind};
use socket2::SockRef;
use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Mailbox, Message};
use crate::net::Complaints;

/// The longest command, in bytes.
const COMMAND_MAX: usize = 64 * 1024;
/// How long a sender may take for one command, from its first byte on.
const SENDER: Duration = Duration::from_secs(10);
/// How long a connection may be silent between two commands, as long as there is room for others.
const IDLE: Duration = Duration::from_secs(300);
/// How long a command may take. The contract says a minute; the answer has to arrive, too.
const EXECUTION: Duration = Duration::from_secs(58);
/// How long an answer may wait to be read.
const UNREAD: Duration = Duration::from_secs(30);
/// The pause after an accept that failed, and between two looks for room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where commands are handed in.
#[derive(Debug)]
pub(crate) struct Desk {
    mailbox: Mailbox,
    token: Option<String>,
    /// Says that the port is full, so that whoever is idle makes room.
    crowded: Notify,
}

impl Desk {
    /// Who does not have the `token`, if there is one, is refused.
    pub(crate) fn new(mailbox: Mailbox, token: Option<String>) -> Self {
        Desk { mailbox, token, crowded: Notify::new() }
    }

    fn admit(&self, given: Option<&str>) -> Result<(), Failure> {
        let refuse = |what: &str| {
            let how = "it takes HTTP `Authorization: Bearer TOKEN` or JSON `\"token\"`";
            Err(FailureKind::Unauthorized.because(format!("the token is {what}; {how}")))
        };
        match (&self.token, given) {
            (None, _) => Ok(()),
            (Some(_), None) => refuse("missing"),
            (Some(wanted), Some(given)) if are_equal(wanted.as_bytes(), given.as_bytes()) => Ok(()),
            (Some(_), Some(_)) => refuse("wrong"),
        }
    }

    async fn execute(&self, command: Command) -> Answer {
        let (sender, answer) = oneshot::channel();
        let ask = async {
            self.mailbox.send(Message::Request(command, sender)).await.ok()?;
            answer.await.ok()
        };
        let failure = match timeout(EXECUTION, ask).await {
            Ok(Some(answer)) => return answer,
            Ok(None) => FailureKind::Unavailable.because("lb is shutting down"),
            Err(_) => FailureKind::StartFailed.because(format!("not done within {EXECUTION:?}")),
        };
        Answer::Failure(failure)
    }
}

/// Compares in a time that does not tell how much of it was right.
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Serves commands until it is dropped, on at most so many `connections` at once; more wait to be accepted.
pub(crate) async fn run(listener: TcpListener, desk: Arc<Desk>, connections: usize) {
    let (room, complaints) = (Arc::new(Semaphore::new(connections)), Complaints::default());
    loop {
        let permit = permit(&room, &desk).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                // An answer is one write. Without this, the second of two commands that were sent together waits until the
                // client has acknowledged the first answer, which it does after 40 ms. It is slower, but right, if it fails.
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

/// Waits for room for one more connection, and has idle ones make it.
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
    // Who does not read its answers is given up by the kernel (tcp(7)).
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

/// Closes a connection. Bytes that nobody has read would turn the close into a reset, and that would overtake the
/// answer: they are read and thrown away, as long as there is room for others.
async fn hang_up(mut stream: TcpStream, desk: &Desk) {
    // It fails only on a connection that is gone already.
    let _ = stream.shutdown().await;
    let mut nowhere = sink();
    tokio::select! {
        _ = timeout(SENDER, copy(&mut stream, &mut nowhere)) => {}
        () = desk.crowded.notified() => {}
    }
}
