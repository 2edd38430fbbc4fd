//! Counts the calls of an `lb` to its engine: a socket of its own, from which everything goes on to the engine's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// The longest line that is read as the first line of a request; they are shorter.
const LONGEST: usize = 4096;

/// Calls by method and first part of the path, such as `GET /tasks`.
pub(crate) type Counts = BTreeMap<String, u64>;

/// A socket that counts the calls to an engine, until it is dropped.
#[derive(Debug)]
pub(crate) struct Calls {
    path: PathBuf,
    counts: Arc<Mutex<Counts>>,
    _serving: AbortOnDropHandle<()>,
}

impl Calls {
    /// Listens at `path` and passes everything on to `engine`.
    ///
    /// # Errors
    /// It cannot listen there.
    pub(crate) fn count(path: PathBuf, engine: PathBuf) -> anyhow::Result<Self> {
        let listener = UnixListener::bind(&path);
        let listener = listener.with_context(|| format!("cannot listen on {}", path.display()))?;
        let counts = Arc::new(Mutex::new(Counts::new()));
        let serving = tokio::spawn(serve(listener, engine, Arc::clone(&counts)));
        Ok(Calls { path, counts, _serving: AbortOnDropHandle::new(serving) })
    }

    /// Where an `lb` finds the engine, as in `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The calls so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: UnixListener, engine: PathBuf, counts: Arc<Mutex<Counts>>) {
    // An error of accept(2) is that of one connection.
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (engine, counts) = (engine.clone(), Arc::clone(&counts));
        tokio::spawn(async move { pass(client, &engine, &counts).await });
    }
}

/// Passes one connection on. Its errors are those of its two ends, which see them too.
async fn pass(client: UnixStream, engine: &Path, counts: &Mutex<Counts>) -> io::Result<()> {
    let engine = UnixStream::connect(engine).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, to_engine) = engine.into_split();
    let asked = ask(&mut from_client, to_engine, counts);
    let answered = async {
        copy(&mut from_engine, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(asked, answered).map(drop)
}

async fn ask(
    from: &mut (impl AsyncRead + Unpin),
    mut to: impl AsyncWrite + Unpin,
    counts: &Mutex<Counts>,
) -> io::Result<()> {
    let (mut bytes, mut lines) = (vec![0; 16 << 10], Lines::default());
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        for call in lines.calls(&bytes[..read]) {
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default() += 1;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

/// Finds the first lines of requests in a stream. The bodies that `lb` sends are JSON in one line, which no first line looks like.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    fn calls(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                found.extend(std::str::from_utf8(&self.line).ok().and_then(call));
                self.line.clear();
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
        found
    }
}

/// The call of the first line of a request: its method and the first part of its path after the version of the API.
fn call(line: &str) -> Option<String> {
    let mut words = line.trim_end().split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    // A body has no line end, so the method may follow it.
    let method = method.rsplit('}').next()?;
    if version != "HTTP/1.1" || method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let path = path.split('?').next()?;
    let is_version = |part: &&str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let part = path.split('/').filter(|part| !part.is_empty()).find(|part| !is_version(part))?;
    Some(format!("{method} /{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_wherever_the_stream_is_cut() {
        let stream = b"GET /v1.41/tasks?filters=%7B%7D HTTP/1.1\r\nHost: engine\r\n\r\n\
            POST /services/create HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"Name\":\"a\"}\
            GET /v1.41/configs/lb.a HTTP/1.1\r\nHost: engine\r\n\r\n";
        let all = ["GET /tasks", "POST /services", "GET /configs"];
        for cut in 0..stream.len() {
            let mut lines = Lines::default();
            let found = [lines.calls(&stream[..cut]), lines.calls(&stream[cut..])].concat();
            assert_eq!(found, all, "{cut}");
        }
    }

    #[test]
    fn other_lines_are_no_requests() {
        for line in [
            "",
            "Host: engine",
            "get /tasks HTTP/1.1",
            "GET /tasks HTTP/1.0",
            "GET / HTTP/1.1",
            "a GET /b HTTP/1.1",
        ] {
            assert_eq!(call(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn everything_is_passed_on_in_both_directions() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, own) = (folder.path().join("engine"), folder.path().join("own"));
        let listener = UnixListener::bind(&engine).unwrap();
        let calls = Calls::count(own.clone(), engine).unwrap();
        let mut client = UnixStream::connect(own).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let request = b"GET /tasks HTTP/1.1\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut read = vec![0; request.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!((&read[..], calls.counts()), (&request[..], [("GET /tasks".to_owned(), 1)].into()));
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }
}
