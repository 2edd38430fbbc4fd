//! One probe: asks a replica, with a deadline. It judges the answer, and nothing else.
//!
//! A probe is never a reason for a healthy server to complain. An answer is read to its end ([`mod@http`], [`talk`]). A TCP connection is
//! reset before the server's program sees it ([`tcp`]): a connection that is made and closed without a word would count as a broken client
//! there, and a server may ban such a client.
//!
//! A connection on which a server takes another question is kept ([`Prober`]), because to make one costs more than to ask.

mod exec;
mod http;
mod kept;
mod talk;
mod tcp;

use std::io::{self, ErrorKind};
use std::time::Duration;

use proto::probe::Language;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_util::either::Either;

use crate::net::{Endpoint, no_answer_at_path};

pub(crate) use exec::Runner;
pub(crate) use http::{Http, Statuses};
pub(super) use kept::Prober;

/// What a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it asks.
    pub kind: Kind,
    /// The port that is asked; `None`: that of sessions. A Unix socket has none, and is asked itself.
    pub port: Option<u16>,
}

/// The kinds of probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Passes if a request is answered with a good status.
    Http(Http),
    /// Passes if a connection can be made. While the replica is in doubt, it must not close the connection at once either.
    Tcp,
    /// Passes if the first words of a client get a good answer.
    Talk(Language),
    /// Passes if a command for `sh -c` exits with 0.
    Exec(String),
}

/// A replica that is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// Where sessions reach it.
    pub(super) address: &'a Endpoint,
    pub(super) hostname: &'a str,
    /// Its slot; a spare has none.
    pub(super) slot: Option<&'a str>,
    /// The bytes that come before all others.
    pub(super) foreword: &'a [u8],
    /// If there is one, an answer that names another hostname fails.
    pub(super) identity: Option<&'a str>,
    /// Whether it is not known to be healthy.
    pub(super) in_doubt: bool,
}

/// A connection on which the server takes another question.
enum Connection {
    Http(http::Connection),
    Talk(talk::Connection),
}

impl Connection {
    /// Whether nothing has come since the last answer.
    fn is_silent(&self) -> bool {
        match self {
            // A client of HTTP watches it.
            Connection::Http(_) => true,
            Connection::Talk(connection) => connection.is_silent(),
        }
    }

    /// Ends it as a client does that has nothing more to say.
    async fn leave(self, deadline: Deadline) {
        if let Connection::Talk(connection) = self {
            connection.leave(deadline).await;
        }
    }
}

impl Probe {
    /// The most files that all probes have open at once, beside the connections to replicas, if this is the probe or, unless it
    /// `is_fixed`, another one may take its place.
    pub(crate) fn files(&self, is_fixed: bool) -> usize {
        if matches!(self.kind, Kind::Exec(_)) || !is_fixed { exec::FILES } else { 0 }
    }

    /// Asks on a connection of its own. Returns it if it `keeps` connections and the server does.
    async fn ask_anew(
        &self,
        (asked, runner): (Asked<'_>, &Runner),
        keeps: bool,
        deadline: Deadline,
    ) -> io::Result<Option<Connection>> {
        match &self.kind {
            Kind::Http(http) => Ok(http.ask_anew(asked, keeps, deadline).await?.map(Connection::Http)),
            Kind::Tcp => tcp::ask(asked, deadline).await.map(|()| None),
            Kind::Exec(command) => runner.ask(command, asked, deadline).await.map(|()| None),
            Kind::Talk(language) => {
                Ok(talk::ask_anew(language, asked, keeps, deadline).await?.map(Connection::Talk))
            }
        }
    }

    /// Asks on a connection that was kept. Returns it if the server keeps it still.
    async fn ask_again(
        &self,
        connection: Connection,
        asked: Asked<'_>,
        deadline: Deadline,
    ) -> io::Result<Option<Connection>> {
        match (&self.kind, connection) {
            (Kind::Http(http), Connection::Http(connection)) => {
                Ok(http.ask(connection, asked, true, deadline).await?.map(Connection::Http))
            }
            (Kind::Talk(language), Connection::Talk(connection)) => {
                Ok(talk::ask(language, connection, true, deadline).await?.map(Connection::Talk))
            }
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Whether there may be a second question on a connection.
    fn goes_on(&self) -> bool {
        match &self.kind {
            Kind::Http(_) => true,
            Kind::Tcp | Kind::Exec(_) => false,
            Kind::Talk(language) => language.goes_on(),
        }
    }
}

/// Connects to a replica.
async fn connect(address: &Endpoint) -> io::Result<Either<TcpStream, UnixStream>> {
    match address {
        Endpoint::Tcp(address) => TcpStream::connect(address).await.map(Either::Left),
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Either::Right).map_err(no_answer_at_path),
    }
}

/// When a probe has to be over.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        Deadline { at: Instant::now() + limit, limit }
    }

    /// Waits for a result, until the deadline.
    async fn bound<T>(self, result: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let late = |_| io::Error::new(ErrorKind::TimedOut, format!("no answer within {:?}", self.limit));
        timeout_at(self.at, result).await.map_err(late)?
    }
}
