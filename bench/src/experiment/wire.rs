//! Sends one text on a new connection and reads the answer.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Timeout of an answer: `lb` answers a command within a minute.
const PATIENCE: Duration = Duration::from_secs(65);
/// The longest answer.
const ANSWER_MAX: u64 = 1 << 20;
/// Characters of a long text that are shown.
const SHOWN: usize = 100;

/// A request to the control port.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// A line of JSON.
    Line(String),
    /// An HTTP request.
    Http { method: &'static str, path: String, fields: String, body: String },
    /// An HTTP request whose body never comes.
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

/// As a user would type it.
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
pub(super) struct Reply {
    /// The HTTP status; a line has none.
    pub(super) status: Option<u16>,
    /// Whether its status is `successful`.
    pub(super) is_success: bool,
    pub(super) message: Value,
}

impl Reply {
    /// Whether both its status and its HTTP status are a success.
    pub(super) fn is_good(&self) -> bool {
        self.is_success && self.status.is_none_or(|status| status == 200)
    }
}

impl fmt::Display for Reply {
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

/// Asks on a new connection.
///
/// # Errors
/// There is no answer, or it is not an answer of `lb`.
pub(super) async fn ask(address: SocketAddr, ask: &Ask) -> anyhow::Result<Reply> {
    let bytes = timeout(PATIENCE, exchange(address, ask)).await.context("no answer")??;
    match ask {
        Ask::Line(_) => parse(&bytes, None),
        Ask::Http { .. } | Ask::Endless => {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut fields);
            match response.parse(&bytes)? {
                httparse::Status::Complete(head) => parse(&bytes[head..], response.code),
                httparse::Status::Partial => bail!("incomplete answer: {}", bytes.escape_ascii()),
            }
        }
    }
}

async fn exchange(address: SocketAddr, ask: &Ask) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that refuses may not read to the end; only the answer counts.
    let _ = stream.write_all(ask.text().as_bytes()).await;
    if matches!(ask, Ask::Line(_)) {
        stream.shutdown().await?;
    }
    let mut bytes = Vec::new();
    // A broken connection shows as an incomplete answer.
    let _ = stream.take(ANSWER_MAX).read_to_end(&mut bytes).await;
    Ok(bytes)
}

fn parse(text: &[u8], status: Option<u16>) -> anyhow::Result<Reply> {
    let mut answer: Value = serde_json::from_slice(text).context("cannot parse the answer as JSON")?;
    let is_success = answer["status"] == "successful";
    Ok(Reply { status, is_success, message: answer["message"].take() })
}
