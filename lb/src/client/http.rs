//! A question over HTTP: for what JSON lines do not have (the metrics), and where the status of a refusal counts.

use std::io::{ErrorKind, Read as _, Write as _};

use anyhow::{Context as _, anyhow, bail};
use httparse::{EMPTY_HEADER, Status};
use proto::incident::Incident;
use proto::printable::printable;
use serde::de::DeserializeOwned;

use super::{ANSWER_MAX, Request, body, connect_to};

/// The most headers of an answer; `lb` sends a handful.
const HEADERS: usize = 32;
/// The status of an answer to a missing or wrong token.
const UNAUTHORIZED: u16 = 401;
/// What the messages of the contract begin with.
const PREFIX: &str = "<Error> ";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The token is missing or wrong; the text is that of `lb`.
    #[error("{0}")]
    Unproven(String),
    /// Anything else: `lb` cannot be reached, or says no.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Sends a question to the control port; returns the body of its answer.
///
/// # Errors
/// The answer is a failure, is none of `lb`, or cannot be had.
pub(crate) fn command<B: DeserializeOwned>(
    request: &Request,
    line: &str,
    sent: Option<&str>,
) -> Result<B, Refusal> {
    let (_, text) = exchange(request, line, sent)?;
    Ok(body(request, &text).map_err(plain)?)
}

/// All incidents that are kept, the newest last.
///
/// # Errors
/// As for [`command`].
pub(crate) fn all_incidents(request: &Request) -> Result<Vec<Incident>, Refusal> {
    let (_, text) = exchange(request, "GET /incidents", None)?;
    serde_json::from_str(&text).or_else(|_| Ok(body(request, &text).map_err(plain)?))
}

/// The metrics, in the text format of Prometheus.
///
/// # Errors
/// As for [`command`].
pub(crate) fn metrics(request: &Request) -> Result<String, Refusal> {
    match exchange(request, "GET /metrics", None)? {
        (200, text) => Ok(text),
        (status, _) => Err(Refusal::Other(anyhow!("the metrics cannot be read: status {status}"))),
    }
}

/// A message of `lb` without the mark of the contract, which is for scripts.
fn plain(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    text.strip_prefix(PREFIX).map_or(error, |text| anyhow!(text.to_owned()))
}

/// The status and the text of the answer to `METHOD PATH`.
fn exchange(request: &Request, line: &str, sent: Option<&str>) -> Result<(u16, String), Refusal> {
    let mut stream = connect_to(request)?;
    let asked = stream.write_all(written(request, line, sent)?.as_bytes());
    asked.context("cannot send the command")?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_MAX).read_to_end(&mut answer) {
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            let (control, patience) = (&request.control, request.patience);
            return Err(Refusal::Other(anyhow!(
                "{control} has not answered within {patience:?} (--control)"
            )));
        }
        read => read.context("cannot receive the answer")?,
    };
    let (status, text) = parsed(&answer).with_context(|| {
        format!("{} does not answer as a control port of lb does (--control)", request.control)
    })?;
    if status == UNAUTHORIZED {
        let why = body::<serde::de::IgnoredAny>(request, &text).err().map(plain);
        let why = why.map_or_else(|| "the token is refused".to_owned(), |why| format!("{why:#}"));
        return Err(Refusal::Unproven(why));
    }
    Ok((status, text))
}

/// The question as it is sent: HTTP/1.0, so that the end of the connection is that of the answer.
fn written(request: &Request, line: &str, sent: Option<&str>) -> anyhow::Result<String> {
    let proof = match request.token_to_send() {
        Some(token) if token.chars().any(char::is_control) => {
            bail!("the token holds a character that cannot be sent")
        }
        Some(token) => format!("Authorization: Bearer {token}\r\n"),
        None => String::new(),
    };
    let (sent, length) = (sent.unwrap_or_default(), sent.map_or(0, str::len));
    Ok(format!("{line} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n{proof}\r\n{sent}"))
}

/// The status and the body of a whole answer.
fn parsed(answer: &[u8]) -> anyhow::Result<(u16, String)> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Status::Complete(head) = response.parse(answer)? else { bail!("the answer ends too early") };
    let body = answer.get(head..).unwrap_or_default();
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length != body.len()) {
        bail!("the answer ends too early");
    }
    let status = response.code.with_context(|| printable(&String::from_utf8_lossy(answer)))?;
    Ok((status, String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::control::Command;

    use super::super::Address;
    use super::*;

    fn request(control: Address, token: &str) -> Request {
        let (command, token) = (Command::Backends {}, Some(token.to_owned()));
        Request { command, control, token, json: false, watch: true, patience: Duration::from_secs(1) }
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let read = |text: &str| parsed(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"), Ok((200, "{}".to_owned())));
        assert_eq!(read("HTTP/1.1 401 No\r\n\r\nx"), Ok((401, "x".to_owned())));
        for wrong in [
            "",
            "HTTP/1.0 200 OK\r\ncontent-len",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "SSH-2.0",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_token_is_sent_over_tcp_alone_and_never_breaks_a_line() {
        let tcp = || Address::Tcp("127.0.0.1:1".to_owned());
        let sent = written(&request(tcp(), "secret"), "POST /kill", Some("{}")).unwrap();
        let expected = "POST /kill HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\nAuthorization: Bearer secret\r\n\r\n{}";
        assert_eq!(sent, expected);
        let unix = request(Address::Unix("/run/lb".into()), "secret");
        assert!(!written(&unix, "GET /backends", None).unwrap().contains("secret"));
        assert!(written(&request(tcp(), "a\r\nb"), "GET /backends", None).is_err());
    }
}
