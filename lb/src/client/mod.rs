//! The client side of the control port: sends one command to a running `lb`, and shows the answer.
//!
//! It never judges a command: the running `lb` decides what is allowed.

mod backends;
mod events;
mod http;
mod incidents;
mod reloaded;
mod table;
mod terminal;
mod watch;
mod words;

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use proto::control::{Backend, Backends, Command, Reply};
use proto::incident::Incident;
use proto::printable::{printable, printable_json};
use serde::de::{DeserializeOwned, IgnoredAny};

pub(crate) use backends::{not_served, short_id};
pub(crate) use http::{Refusal, all_incidents, command, metrics};
pub(crate) use incidents::in_words as incident_in_words;
pub(crate) use table::columns;
pub use terminal::fit;
pub(crate) use terminal::shows_colours;
pub(crate) use watch::Bell;
pub(crate) use words::in_words;

/// The deadline of an answer: `lb` answers every command within a minute.
pub const PATIENCE: Duration = Duration::from_secs(65);
/// The longest answer, in bytes. One about a thousand slots has a tenth of it.
const ANSWER_MAX: u64 = 16 << 20;
/// How much of an answer that is not of `lb` a message shows, in characters.
const SHOWN: usize = 200;

/// Where the control port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A command to a running `lb`.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// The control port.
    pub control: Address,
    /// The token of the control port, if it needs one. It is never sent to a Unix socket.
    pub token: Option<String>,
    /// Whether the answer is shown as its JSON instead of as text for people.
    pub json: bool,
    /// Whether the answer is asked for again and again.
    pub watch: bool,
    /// How long a connection, and each part of an answer, may take.
    pub patience: Duration,
}

impl Request {
    /// The token, if it is sent: the permission of a Unix socket's file is one already.
    fn token_to_send(&self) -> Option<&str> {
        self.token.as_deref().filter(|_| matches!(self.control, Address::Tcp(_)))
    }
}

/// Sends a command to a running `lb`; returns its answer, as text for people or as the JSON that was received. Neither has a character
/// that a terminal takes for a command, but for the colours of a text where stdout shows them.
///
/// # Errors
/// `lb` cannot be reached, or its answer cannot be read; or its answer is a failure, which is the message then.
pub fn run(request: &Request) -> anyhow::Result<String> {
    let answer = ask(request)?;
    if let Ok(incidents) = serde_json::from_str::<Vec<Incident>>(&answer) {
        return Ok(if request.json { printable_json(&answer) } else { incidents::all_in_words(&incidents) });
    }
    if request.json {
        let IgnoredAny = body(request, &answer)?;
        return Ok(printable_json(&answer));
    }
    Ok(terminal::fit(in_words(&body(request, &answer)?)))
}

/// The body of a successful answer.
fn body<B: DeserializeOwned>(request: &Request, answer: &str) -> anyhow::Result<B> {
    match serde_json::from_str(answer) {
        Ok(Reply::Successful(body)) => Ok(body),
        // A reload tells all that is wrong with the file, a line each.
        Ok(Reply::Failure(message)) => {
            bail!(message.lines().map(printable).collect::<Vec<_>>().join("\n"))
        }
        Err(error) => {
            let shown: String = answer.chars().take(SHOWN).collect();
            let (control, shown) = (&request.control, printable(&shown));
            bail!("{control} is no control port of lb (--control): it answers `{shown}`: {error}")
        }
    }
}

/// The names of slots and replicas, each with what it is; none if no `lb` tells them in time.
pub(crate) fn known(request: &Request) -> Vec<(String, String)> {
    let answer = ask(request).and_then(|answer| body::<Backends>(request, &answer));
    let Ok(Backends { backends, spares, .. }) = answer else { return Vec::new() };
    let mut known = Vec::new();
    for Backend { name, hostname, state, .. } in backends.into_iter().chain(spares) {
        let what = name.as_ref().map_or_else(|| "spare".to_owned(), |slot| format!("slot {slot}"));
        if let Some(slot) = name.filter(|slot| *slot != hostname) {
            known.push((printable(&slot), printable(&format!("replica {hostname}, {state}"))));
        }
        known.push((printable(&hostname), printable(&format!("{what}, {state}"))));
    }
    known
}

/// Has the journal of a running `lb` printed line by line: `print` gets each line, and says whether there is a reader for more.
///
/// # Errors
/// As for [`run`]; or `lb` ends while its journal is followed.
pub fn show(request: &Request, print: impl FnMut(&str) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    events::show(request, print)
}

/// Has an answer printed again and again, until there is no reader for more. A terminal is cleared before each.
///
/// # Errors
/// As for [`run`], about the first answer.
pub fn watch(request: &Request, print: impl FnMut(&str) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    watch::watch(request, print)
}

/// A connection to the control port.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// How long a read may wait; `None`: for ever.
    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(limit),
            Stream::Unix(stream) => stream.set_read_timeout(limit),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection with deadlines.
fn connect_to(request: &Request) -> anyhow::Result<Stream> {
    let none_answers = || format!("no lb answers on {} (--control)", request.control);
    Ok(match &request.control {
        Address::Tcp(address) => {
            let stream = connect(address, request.patience).with_context(none_answers)?;
            stream.set_read_timeout(Some(request.patience))?;
            stream.set_write_timeout(Some(request.patience))?;
            Stream::Tcp(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).with_context(none_answers)?;
            stream.set_read_timeout(Some(request.patience))?;
            stream.set_write_timeout(Some(request.patience))?;
            Stream::Unix(stream)
        }
    })
}

/// The command as it is sent.
fn line(request: &Request) -> String {
    request.command.to_line(request.token_to_send())
}

/// The answer as one line, without its line feed.
fn ask(request: &Request) -> anyhow::Result<String> {
    let answer = exchange(connect_to(request)?, &line(request))?;
    if answer.is_empty() {
        let control = &request.control;
        bail!("{control} closed the connection without an answer: expected a control port of lb (--control)");
    }
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

/// A connection to the first address of a host that takes it.
fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = Err(io::Error::other("the name has no address"));
    for address in address.to_socket_addrs()? {
        last = TcpStream::connect_timeout(&address, patience);
        if last.is_ok() {
            break;
        }
    }
    last
}

fn exchange(mut stream: impl Read + Write, line: &str) -> anyhow::Result<Vec<u8>> {
    stream.write_all(line.as_bytes()).context("cannot send the command")?;
    let mut answer = Vec::new();
    let mut reader = BufReader::new(stream.take(ANSWER_MAX));
    reader.read_until(b'\n', &mut answer).context("cannot receive the answer")?;
    Ok(answer)
}
