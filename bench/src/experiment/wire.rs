//! One question to a port and its answer, in the plainest way: a connection, a text, and what comes back.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take: a command is answered within a minute.
const PATIENCE: Duration = Duration::from_secs(65);
/// The longest answer.
const ANSWER_MAX: u64 = 1 << 20;
/// How much of a long text is shown.
const SHOWN: usize = 100;

/// How something is asked.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// A line of JSON.
    Line(String),
    /// An HTTP request.
    Http { method: &'static str, path: String, fields: String, body: String },
    /// An HTTP request of which the body never comes.
    Endless,
}

impl Ask {
    pub(super) fn http(method: &'static str, path: &str, body: &str) -> Self {
        Ask::Http { method, path: path.to_owned(), fields: String::new(), body: body.to_owned() }
    }

    fn text(&self) -> String {
        match self {
            Ask::Line(line) => format!("{line}\n"),
            Ask::Http { method, path, fields, body } => format!(
                "{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            Ask::Endless => "POST /add HTTP/1.1\r\nHost: bench\r\nContent-Length: 9\r\n\r\n{".to_owned(),
        }
    }
}

/// As a reader would type it.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Line(line) => f.write_str(line),
            Ask::Http { method, path, fields, body } if body.len() <= SHOWN => {
                write!(f, "{method} {path} {}{body}", fields.replace("\r\n", " "))
            }
            Ask::Http { method, path, body, .. } => {
                write!(f, "{method} {path} (a body of {} bytes)", body.len())
            }
            Ask::Endless => f.write_str("POST /add (a body that does not come)"),
        }
    }
}

/// An answer of `lb`.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The HTTP status; a line has none.
    pub(super) status: Option<u16>,
    /// Whether it says that it was done.
    pub(super) is_success: bool,
    pub(super) message: Value,
}

impl Answer {
    /// Whether it is a success in every respect.
    pub(super) fn is_good(&self) -> bool {
        self.is_success && self.status.is_none_or(|status| status == 200)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status} ")?,
            None => f.write_str(if self.is_success { "successful " } else { "failure " })?,
        }
        let message = self.message.as_str().map_or_else(|| self.message.to_string(), str::to_owned);
        match message.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{} ...", &message[..end]),
            None => f.write_str(&message),
        }
    }
}

/// Asks on a connection of its own.
///
/// # Errors
/// There is no answer, or it is none of an `lb`.
pub(super) async fn ask(address: SocketAddr, ask: &Ask) -> anyhow::Result<Answer> {
    let bytes = timeout(PATIENCE, exchange(address, ask)).await.context("no answer")??;
    match ask {
        Ask::Line(_) => parse(&bytes, None),
        Ask::Http { .. } | Ask::Endless => {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut fields);
            match response.parse(&bytes)? {
                httparse::Status::Complete(head) => parse(&bytes[head..], response.code),
                httparse::Status::Partial => bail!("half an answer: {}", bytes.escape_ascii()),
            }
        }
    }
}

async fn exchange(address: SocketAddr, ask: &Ask) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // Who refuses may not read to the end; what counts is the answer.
    let _ = stream.write_all(ask.text().as_bytes()).await;
    if matches!(ask, Ask::Line(_)) {
        stream.shutdown().await?;
    }
    let mut bytes = Vec::new();
    // A connection that breaks shows in what is missing.
    let _ = stream.take(ANSWER_MAX).read_to_end(&mut bytes).await;
    Ok(bytes)
}

fn parse(text: &[u8], status: Option<u16>) -> anyhow::Result<Answer> {
    let mut answer: Value = serde_json::from_slice(text).context("the answer is no JSON")?;
    let is_success = answer["status"] == "successful";
    Ok(Answer { status, is_success, message: answer["message"].take() })
}
