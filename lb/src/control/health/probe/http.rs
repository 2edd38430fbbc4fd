//! A probe that asks for a page.

use std::error::Error as _;
use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use super::{Asked, Deadline, connect};
use crate::net::Endpoint;

/// The response header in which a replica may name itself: its hostname, which it gets as `SERVER_ID`. An address can pass to
/// another server, which may answer probes as well.
const SERVER_ID: &str = "lb-server-id";
/// The longest part of a foreign name in a reason, in bytes.
const LONGEST_NAME: usize = 100;
/// The longest body of an answer that is read to its end, in bytes. It bounds what a probe costs the thread of all probes.
const LONGEST_BODY: usize = 4 << 20;

/// What is asked for, and which answers are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The path, with a query if there is one.
    pub path: String,
    /// The method.
    pub method: Method,
    /// The value of the header `Host`; `None`: the address, or `localhost` for a Unix socket.
    pub host: Option<String>,
    /// The good answers.
    pub expect: Statuses,
}

/// Statuses of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

impl Default for Statuses {
    fn default() -> Self {
        Statuses(vec![200..=399])
    }
}

impl Http {
    /// A `GET` of this path.
    pub(crate) fn get(path: String) -> Self {
        Http { path, method: Method::GET, host: None, expect: Statuses::default() }
    }

    /// Asks on a new connection, and returns it if it `keeps` connections and the server does.
    pub(super) async fn ask_anew(
        &self,
        asked: Asked<'_>,
        keeps: bool,
        deadline: Deadline,
    ) -> io::Result<Option<Connection>> {
        let connection = deadline.bound(Connection::to(asked)).await?;
        self.ask(connection, asked, keeps, deadline).await
    }

    /// Asks, and returns the connection if it is kept.
    pub(super) async fn ask(
        &self,
        mut connection: Connection,
        asked: Asked<'_>,
        keeps: bool,
        deadline: Deadline,
    ) -> io::Result<Option<Connection>> {
        let response = deadline.bound(connection.request(self, asked.address, keeps)).await?;
        let verdict = self.judge(&response, asked.identity);
        // What it says is known. The rest is read for the server's sake, and may be late.
        let is_read = timeout_at(deadline.at, read_to_the_end(response)).await.unwrap_or(false);
        verdict.map(|()| (keeps && is_read).then_some(connection))
    }

    fn judge(&self, response: &Response<Incoming>, identity: Option<&str>) -> io::Result<()> {
        let status = response.status();
        if !self.expect.0.iter().any(|range| range.contains(&status.as_u16())) {
            return Err(io::Error::other(format!("status {status}")));
        }
        match (identity, response.headers().get(SERVER_ID)) {
            (Some(identity), Some(given)) if given != identity => {
                let name = &given.as_bytes()[..given.len().min(LONGEST_NAME)];
                Err(io::Error::other(format!("another server answers there: \"{}\"", name.escape_ascii())))
            }
            _ => Ok(()),
        }
    }
}

/// A connection to a server of HTTP/1.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Moves the bytes. Dropped, it closes the connection.
    _mover: AbortOnDropHandle<()>,
}

impl Connection {
    async fn to(Asked { address, foreword, .. }: Asked<'_>) -> io::Result<Self> {
        let mut stream = connect(address).await?;
        stream.write_all(foreword).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| in_full(&error))?;
        // An error of the connection is the error of the request.
        let mover = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        Ok(Connection { sender, _mover: mover })
    }

    /// Sends a request, and waits for the answer up to its body.
    async fn request(
        &mut self,
        http: &Http,
        address: &Endpoint,
        keeps: bool,
    ) -> io::Result<Response<Incoming>> {
        let host = http.host.clone().unwrap_or_else(|| match address {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(_) => "localhost".to_owned(),
        });
        let mut request = Request::builder().method(&http.method).uri(&http.path).header(HOST, host);
        if !keeps {
            request = request.header(CONNECTION, "close");
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        self.sender.ready().await.map_err(|error| in_full(&error))?;
        self.sender.send_request(request).await.map_err(|error| in_full(&error))
    }
}

/// Reads the body of an answer to its end, if it is not too long. A server whose answer is cut off logs an error.
async fn read_to_the_end(mut response: Response<Incoming>) -> bool {
    let mut room = LONGEST_BODY;
    while let Some(frame) = response.body_mut().frame().await {
        let length = frame.ok().map(|frame| frame.data_ref().map_or(0, Bytes::len));
        match length.and_then(|length| room.checked_sub(length)) {
            Some(less) => room = less,
            None => return false,
        }
    }
    true
}

/// The error with its causes, which hyper leaves out.
fn in_full(error: &hyper::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    io::Error::other(text)
}
