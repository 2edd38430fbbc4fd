//! An `lb` that is watched: with a log of connections, a journal and metrics, and with readers of what it shows.
//!
//! The readers do what a Prometheus, the page and `lb events --follow` do, from the core of the load. Their own work is not measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::args::Watch;
use crate::stand::Lb;

/// How often metrics are scraped, and how often the page asks.
const EACH: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an `lb` writes and who reads it, until it is dropped.
#[derive(Debug)]
pub(super) struct Watchers {
    /// The log of connections, if there is one.
    log: Option<PathBuf>,
    readers: Vec<Reader>,
    _folder: TempDir,
}

/// A reader that goes on until it is dropped.
#[derive(Debug)]
struct Reader {
    name: &'static str,
    /// How many answers it has had, or how often a stream had something for it.
    reads: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
    _task: AbortOnDropHandle<()>,
}

/// The flags for what is watched, with files in this folder.
fn flags(watch: Watch, folder: &std::path::Path) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    let log =
        |format: &str| ["--access-log", &at("access.log"), "--access-log-format", format].map(str::to_owned);
    let journal = || ["--journal".to_owned(), at("journal")];
    let metrics = || ["--metrics", "127.0.0.1:0"].map(str::to_owned);
    match watch {
        Watch::Again => Vec::new(),
        Watch::Text => log("text").to_vec(),
        Watch::Json => log("json").to_vec(),
        Watch::Journal => journal().to_vec(),
        Watch::Metrics => metrics().to_vec(),
        Watch::Everything => [&log("json")[..], &journal(), &metrics()].concat(),
    }
}

/// How it is set up, as a part of a sentence.
pub(super) fn in_words(watch: Watch) -> &'static str {
    match watch {
        Watch::Again => "a second one, which shows the noise",
        Watch::Text => "with --access-log FILE, as text",
        Watch::Json => "with --access-log FILE, as JSON",
        Watch::Journal => "with --journal FILE",
        Watch::Metrics => "with --metrics, which is scraped each second",
        Watch::Everything => {
            "with the log of connections as JSON, --journal, --metrics scraped each second, a client that asks for GET /backends each \
             second as the page does, and one that follows GET /events"
        }
    }
}

/// Starts an `lb` with these flags and with what is watched.
///
/// # Errors
/// It does not become ready, or cannot be read.
pub(super) async fn start(
    watch: Watch,
    lb: &[String],
    core: Option<usize>,
) -> anyhow::Result<(Lb, Watchers)> {
    let folder = tempfile::tempdir().context("cannot make a folder for what lb writes")?;
    let flags = flags(watch, folder.path());
    let lb = Lb::start(&[lb, &flags].concat(), core).await?;
    let mut readers = Vec::new();
    if matches!(watch, Watch::Metrics | Watch::Everything) {
        readers.push(Reader::asking("scraper", lb.metrics().await?, "/metrics"));
    }
    if watch == Watch::Everything {
        readers.push(Reader::asking("page", lb.control, "/backends"));
        readers.push(Reader::following(lb.control));
    }
    let log = matches!(watch, Watch::Text | Watch::Json | Watch::Everything);
    let log = log.then(|| folder.path().join("access.log"));
    let watchers = Watchers { log, readers, _folder: folder };
    for reader in &watchers.readers {
        reader.begins().await?;
    }
    Ok((lb, watchers))
}

impl Watchers {
    /// Checks after a measurement that everything was written and read: an `lb` that nothing watches must not be measured in the name of
    /// one that is watched.
    ///
    /// # Errors
    /// Names what was not.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if let Some(log) = &self.log {
            let file = std::fs::metadata(log).context("there is no log of connections")?;
            ensure!(file.len() > 0, "lb has written no log of connections");
        }
        self.readers.iter().try_for_each(Reader::check)
    }
}

impl Reader {
    fn start<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        name: &'static str,
        read: impl FnOnce(Arc<AtomicU64>) -> F,
    ) -> Self {
        let (reads, failure) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let (reading, note) = (read(Arc::clone(&reads)), Arc::clone(&failure));
        let task = tokio::spawn(async move {
            let ended = reading.await;
            let why = ended.map_or_else(|error| format!("{error:#}"), |()| "lb has ended it".to_owned());
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        });
        Reader { name, reads, failure, _task: AbortOnDropHandle::new(task) }
    }

    /// One that asks for a path each second.
    fn asking(name: &'static str, address: SocketAddr, path: &'static str) -> Self {
        Reader::start(name, move |reads| async move {
            let mut due = interval(EACH);
            loop {
                due.tick().await;
                let mut stream = timeout(PATIENCE, get(address, path, "close")).await??;
                let mut answer = Vec::new();
                timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
                let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
                ensure!(line == b"HTTP/1.1 200 OK", "{path} is answered with \"{}\"", line.escape_ascii());
                reads.fetch_add(1, Relaxed);
            }
        })
    }

    /// One that follows the journal, from its beginning on.
    fn following(address: SocketAddr) -> Self {
        Reader::start("follower", move |reads| async move {
            let mut stream = timeout(PATIENCE, get(address, "/events?since=0", "keep-alive")).await??;
            let mut bytes = vec![0; 16 << 10];
            loop {
                if stream.read(&mut bytes).await? == 0 {
                    bail!("the stream of events has ended");
                }
                reads.fetch_add(1, Relaxed);
            }
        })
    }

    /// Waits until it has read something.
    async fn begins(&self) -> anyhow::Result<()> {
        let first = async {
            let mut look = interval(Duration::from_millis(20));
            while self.reads.load(Relaxed) == 0 && self.failed().is_none() {
                look.tick().await;
            }
        };
        ensure!(timeout(PATIENCE, first).await.is_ok(), "the {} gets no answer", self.name);
        self.check()
    }

    fn failed(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check(&self) -> anyhow::Result<()> {
        match self.failed() {
            Some(why) => bail!("the {} reads no more: {why}", self.name),
            None => Ok(()),
        }
    }
}

/// Sends a request; returns the stream that its answer comes on.
async fn get(address: SocketAddr, path: &str, connection: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives each connection this answer and closes it.
    async fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    #[test]
    fn everything_is_all_of_the_others_with_one_log() {
        let of = |watch| flags(watch, std::path::Path::new("/x"));
        let parts = [of(Watch::Json), of(Watch::Journal), of(Watch::Metrics)].concat();
        assert_eq!(of(Watch::Everything), parts);
        assert_eq!(of(Watch::Again), Vec::<String>::new());
        assert_ne!(of(Watch::Text), of(Watch::Json));
    }

    #[tokio::test]
    async fn a_reader_that_is_refused_or_loses_its_stream_is_noticed() {
        let good = Reader::asking("scraper", answering(b"HTTP/1.1 200 OK\r\n\r\nx").await, "/metrics");
        good.begins().await.unwrap();
        let refused = Reader::asking("scraper", answering(b"HTTP/1.1 401 No\r\n\r\n").await, "/metrics");
        let error = refused.begins().await.unwrap_err().to_string();
        assert_eq!(error, "the scraper reads no more: /metrics is answered with \"HTTP/1.1 401 No\"");
        let ended = Reader::following(answering(b"").await);
        let error = ended.begins().await.unwrap_err().to_string();
        assert!(error.starts_with("the follower reads no more: "), "{error}");
    }

    #[test]
    fn a_log_without_a_line_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        std::fs::write(&log, "").unwrap();
        let watchers = Watchers { log: Some(log.clone()), readers: Vec::new(), _folder: folder };
        assert!(watchers.check().is_err());
        std::fs::write(&log, "a line\n").unwrap();
        watchers.check().unwrap();
    }
}
