//! Connections held by the clients and replicas of a test.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Lb, PATIENCE};

/// A stream whose reads and writes fail after [`PATIENCE`].
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends one raw line and FIN; the whole answer.
pub(crate) fn raw_answer(data: SocketAddr, id: &str) -> io::Result<String> {
    let mut stream = patient(TcpStream::connect(data)?);
    stream.write_all(format!("{id}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Closes a connection with RST.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A client that got an answer to its line and stays connected, and the hostname of its replica.
#[track_caller]
pub(crate) fn session(lb: &Lb, id: &str) -> (TcpStream, String) {
    let mut client = lb.connect();
    let hostname = say(&mut client, id).split(' ').next().unwrap().to_owned();
    (client, hostname)
}

/// Sends one line and reads the answer, up to the end of its line.
#[track_caller]
pub(crate) fn say(client: &mut TcpStream, line: &str) -> String {
    client.write_all(format!("{line}\n").as_bytes()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\n") {
        client.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    String::from_utf8(answer).unwrap()
}
