//! A request to the engine whose answer is read as JSON, for what bollard's types leave out. Each has a connection of its own.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::provider::engine::call::{LIMIT, Trouble, garbled};

/// The longest answer, in bytes. The tasks of 1,000 services take 1.4 MB.
const LONGEST_ANSWER: usize = 64 << 20;
/// The longest part of an error message that is kept, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Where the engine is.
#[derive(Clone, Debug)]
enum Place {
    Unix(PathBuf),
    Tcp(String),
}

/// A client of one engine.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    place: Place,
    /// The version of the API as it stands in a path.
    version: String,
}

impl Raw {
    /// A client of the engine at `host` (as in `DOCKER_HOST`), which talks this version of the API.
    pub(super) fn new(host: &str, version: &str) -> Result<Self, Trouble> {
        let place = match host.split_once("://") {
            Some(("unix", path)) => Place::Unix(path.into()),
            Some(("tcp" | "http", address)) => Place::Tcp(address.trim_end_matches('/').to_owned()),
            _ => {
                let reason = format!("{host}: expected unix://PATH or tcp://HOST:PORT");
                return Err(Trouble::Unreachable { call: "GET /version", reason });
            }
        };
        Ok(Raw { place, version: version.to_owned() })
    }

    /// Lists those that these filters let through.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
        filters: &HashMap<String, Vec<String>>,
    ) -> Result<T, Trouble> {
        let filters = serde_json::to_string(filters).map_err(|error| garbled(call, error))?;
        let target = format!("/{}/{path}?filters={}", self.version, encoded(&filters));
        let answer = timeout(LIMIT, self.get(call, &target)).await;
        let answer = answer.map_err(|_| Trouble::Late { call, limit: LIMIT })??;
        serde_json::from_slice(&answer).map_err(|error| garbled(call, error))
    }

    async fn get(&self, call: &'static str, target: &str) -> Result<Bytes, Trouble> {
        let unreachable = |error: std::io::Error| away(call, error);
        match &self.place {
            Place::Unix(path) => {
                get_over(call, UnixStream::connect(path).await.map_err(unreachable)?, target).await
            }
            Place::Tcp(address) => {
                get_over(call, TcpStream::connect(address).await.map_err(unreachable)?, target).await
            }
        }
    }
}

fn away(call: &'static str, error: impl Display) -> Trouble {
    Trouble::Unreachable { call, reason: error.to_string() }
}

async fn get_over(
    call: &'static str,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &str,
) -> Result<Bytes, Trouble> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| away(call, error))?;
    // An error of the connection is the error of the request.
    let _connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let request = Request::get(target).header(HOST, "engine").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| garbled(call, error))?;
    let response = sender.send_request(request).await.map_err(|error| away(call, error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| away(call, error))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    Err(Trouble::Refused { call, status: status.as_u16(), message: message(&body) })
}

/// The message of an error of the engine: the field of that name.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Error {
        message: String,
    }
    let text = match serde_json::from_slice(body) {
        Ok(Error { message }) => message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.trim().chars().take(LONGEST_MESSAGE).collect()
}

/// Text as part of a query: all but letters and digits as `%XX`.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte.into());
        } else {
            // A string takes all that is written to it.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_encoded_and_errors_are_read() {
        assert_eq!(
            encoded("{\"a\":[\"lb.fleet=\u{e4}\"]}"),
            "%7B%22a%22%3A%5B%22lb%2Efleet%3D%C3%A4%22%5D%7D"
        );
        assert_eq!(message(b"{\"message\":\"no such service\\n\"}"), "no such service");
        assert_eq!(message(b"\xffgateway "), "\u{fffd}gateway");
    }

    #[test]
    fn an_engine_is_at_a_socket_file_or_an_address() {
        for (host, is_fine) in [
            ("unix:///var/run/docker.sock", true),
            ("tcp://127.0.0.1:2375", true),
            ("http://proxy:2375/", true),
            ("ssh://host", false),
            ("", false),
        ] {
            assert_eq!(Raw::new(host, "v1.41").is_ok(), is_fine, "{host}");
        }
    }
}
