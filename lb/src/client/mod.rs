//! The client side of the control port: sends one command to a running `lb`, and shows the answer.
//!
//! It never judges a command: the running `lb` decides what is allowed.

mod words;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use proto::control::{Command, Reply};
use serde::de::{DeserializeOwned, IgnoredAny};

use words::in_words;

/// The deadline of an answer: `lb` answers every command within a minute.
const PATIENCE: Duration = Duration::from_secs(65);

/// A command to a running `lb`.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// The control port, as `HOST:PORT`.
    pub control: String,
    /// The token of the control port, if it needs one.
    pub token: Option<String>,
    /// Whether the answer is shown as its JSON instead of as text for people.
    pub json: bool,
}

/// Sends a command to a running `lb`; returns its answer, as text for people or as the JSON that was received.
///
/// # Errors
/// `lb` cannot be reached, or its answer cannot be read; or its answer is a failure, which is the message then.
pub fn run(request: &Request) -> anyhow::Result<String> {
    let answer = ask(request)?;
    if request.json {
        let IgnoredAny = body(request, &answer)?;
        return Ok(answer);
    }
    Ok(in_words(&body(request, &answer)?))
}

/// The body of a successful answer.
fn body<B: DeserializeOwned>(request: &Request, answer: &str) -> anyhow::Result<B> {
    let reply = serde_json::from_str(answer)
        .with_context(|| format!("{} does not answer as lb does: {answer}", request.control))?;
    match reply {
        Reply::Successful(body) => Ok(body),
        Reply::Failure(message) => bail!(message),
    }
}

/// The answer as one line of JSON, without its line feed.
fn ask(Request { command, control, token, .. }: &Request) -> anyhow::Result<String> {
    let mut stream =
        TcpStream::connect(control).with_context(|| format!("no lb answers on {control} (--control)"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(command.to_line(token.as_deref()).as_bytes()).context("cannot send the command")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("cannot receive the answer")?;
    if answer.is_empty() {
        bail!("{control} closed the connection without an answer");
    }
    Ok(answer.trim_end().to_owned())
}
