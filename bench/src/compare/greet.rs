//! Sends one raw line on a connection that stays open, and returns the name of the server that answered.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Timeout of a connection and its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer: a name, a space and the line.
const LONGEST: usize = 512;

/// Opens a connection, sends an id as a line, and reads the answer; returns the server's name.
pub(super) async fn open(address: SocketAddr, id: &str) -> io::Result<(TcpStream, String)> {
    open_late(address, id, Duration::ZERO).await
}

/// Does what [`open`] does, with a pause between the connection and the line.
pub(super) async fn open_late(
    address: SocketAddr,
    id: &str,
    pause: Duration,
) -> io::Result<(TcpStream, String)> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        if !pause.is_zero() {
            sleep(pause).await;
        }
        stream.write_all(format!("{id}\n").as_bytes()).await?;
        let mut answer = Vec::with_capacity(LONGEST);
        while !answer.ends_with(b"\n") && answer.len() < LONGEST {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection was closed without an answer",
                ));
            }
        }
        let server = server(&answer, id).ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidData, format!("a wrong answer: \"{}\"", answer.escape_ascii()))
        })?;
        Ok((stream, server))
    };
    timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// The name in `NAME ID\n`.
fn server(answer: &[u8], id: &str) -> Option<String> {
    let name = str::from_utf8(answer).ok()?.strip_suffix('\n')?.strip_suffix(id)?.strip_suffix(' ')?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers the first line of each connection in the name that `name` gives for the connection's number.
    pub(in crate::compare) async fn server(name: impl Fn(usize) -> String + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = [0; 64];
                let count = stream.read(&mut line).await.unwrap();
                let _ = stream.write_all(format!("{} ", name(number)).as_bytes()).await;
                let _ = stream.write_all(&line[..count]).await;
            }
        });
        address
    }

    #[test]
    fn the_name_is_the_word_before_the_line() {
        assert_eq!(super::server(b"s1 100000\n", "100000").as_deref(), Some("s1"));
        for wrong in [&b"s1 100001\n"[..], b"s1 100000", b" 100000\n", b"100000\n", b"HTTP/1.1 400 Bad\r\n"] {
            assert_eq!(super::server(wrong, "100000"), None, "{}", wrong.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_wrong_answer_is_shown() {
        let address = server(|_| String::new()).await;
        let error = open(address, "100000").await.unwrap_err().to_string();
        assert_eq!(error, "a wrong answer: \" 100000\\n\"");
    }
}
