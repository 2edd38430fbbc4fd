//! A probe that connects, and says nothing.

use std::io;
use std::time::Duration;

use rustix::net::sockopt::set_tcp_quickack;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, UnixStream};

use super::{Asked, Deadline};
use crate::net::{Endpoint, SECOND_THOUGHT, look_twice, no_answer_at_path, peek};

/// Connects. If the replica is in doubt, it also takes a look at whether the replica closes the connection at once. Ends with a reset.
///
/// Without a look, the last step of the handshake waits (tcp(7), `TCP_QUICKACK`) and the reset takes its place: the server's program
/// never sees the connection. At a Unix socket it does, and sees its end.
pub(super) async fn ask(asked: Asked<'_>, deadline: Deadline) -> io::Result<()> {
    let look = asked.in_doubt.then(|| SECOND_THOUGHT.min(deadline.limit / 2));
    deadline.bound(connect(asked, look)).await
}

async fn connect(Asked { address, foreword, .. }: Asked<'_>, look: Option<Duration>) -> io::Result<()> {
    let address = match address {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(path) => {
            let mut stream = UnixStream::connect(path).await.map_err(no_answer_at_path)?;
            let Some(moment) = look else { return Ok(()) };
            stream.write_all(foreword).await?;
            return look_twice(peek(&stream), moment).await;
        }
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    if look.is_none() {
        set_tcp_quickack(&socket, false)?;
    }
    let mut stream = socket.connect(address).await?;
    match look {
        Some(moment) => {
            stream.write_all(foreword).await?;
            look_twice(stream.peek(&mut [0]), moment).await
        }
        None => Ok(()),
    }
}
