//! A probe that says a client's first words in another language than HTTP, and judges the answer.

use std::io::{self, ErrorKind};

use proto::probe::{LONGEST, Language, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout_at;
use tokio_util::either::Either;

use super::{Asked, Deadline, connect};

/// A connection to a replica.
type Stream = Either<TcpStream, UnixStream>;

/// The longest rest of an answer that is read, in bytes.
const LONGEST_REST: u64 = 1 << 20;

/// A connection on which a server has answered.
pub(super) struct Connection(Stream);

impl Connection {
    /// Whether nothing has come since the last answer: neither an end, nor bytes that would be taken for the next answer.
    pub(super) fn is_silent(&self) -> bool {
        let read = match &self.0 {
            Either::Left(stream) => stream.try_read(&mut [0]),
            Either::Right(stream) => stream.try_read(&mut [0]),
        };
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Ends it as a client does that has nothing more to say.
    pub(super) async fn leave(self, deadline: Deadline) {
        // It is for the server's sake, and may be late.
        let _ = timeout_at(deadline.at, take_leave(self.0)).await;
    }
}

/// Asks on a new connection, and returns it if it `keeps` connections and the server may take another question.
pub(super) async fn ask_anew(
    language: &Language,
    asked: Asked<'_>,
    keeps: bool,
    deadline: Deadline,
) -> io::Result<Option<Connection>> {
    let connect = async {
        let mut stream = connect(asked.address).await?;
        if let Either::Left(stream) = &stream {
            stream.set_nodelay(true)?;
        }
        stream.write_all(asked.foreword).await?;
        Ok(Connection(stream))
    };
    let connection = deadline.bound(connect).await?;
    ask(language, connection, keeps, deadline).await
}

/// Asks, and returns the connection if it is kept.
pub(super) async fn ask(
    language: &Language,
    Connection(mut stream): Connection,
    keeps: bool,
    deadline: Deadline,
) -> io::Result<Option<Connection>> {
    let (verdict, goes_on) = deadline.bound(say(language, &mut stream)).await?;
    let connection = Connection(stream);
    if keeps && goes_on {
        return Ok(Some(connection));
    }
    // The verdict is known.
    connection.leave(deadline).await;
    verdict.map(|()| None)
}

/// Says the first words. Returns what the answer shows, and whether it is a good one after which the server may be asked again.
async fn say(language: &Language, stream: &mut Stream) -> io::Result<(io::Result<()>, bool)> {
    let question = language.question(std::array::from_fn(|_| fastrand::u8(..)));
    stream.write_all(&question).await?;
    let mut answer = Vec::with_capacity(LONGEST);
    loop {
        match language.judge(&answer) {
            Verdict::Good => return Ok((Ok(()), language.is_over(&answer))),
            Verdict::Bad(reason) => return Ok((Err(io::Error::other(reason)), false)),
            // It ends: there is a verdict once the answer is as long as it may be.
            Verdict::More if stream.read_buf(&mut answer).await? > 0 => {}
            Verdict::More => {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection is closed before an answer",
                ));
            }
        }
    }
}

/// Ends a connection as a client does that has nothing more to say. One that is closed with bytes that were not read ends with a reset,
/// about which a server may complain.
async fn take_leave(mut stream: Stream) -> io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LONGEST_REST), &mut tokio::io::sink()).await
}
