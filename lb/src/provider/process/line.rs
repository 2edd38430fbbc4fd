//! The line between the guardian of children and the process that holds them. A line of text is a message: `ended PID STATUS` from the
//! guardian (the status as wait(2) has it), `holder PID` from the other one. Its end tells that the other one is gone.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::net::Pause;

/// How long the status of a child that has ended is waited for. Its guardian has it at the same moment.
const STATUS: Duration = Duration::from_secs(1);
/// The longest message that is read.
const LONGEST: u64 = 1 << 20;

/// The end of the process that holds the children.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    ended: Mutex<HashMap<i32, i32>>,
    news: Notify,
    /// Whether the guardian is gone.
    is_over: AtomicBool,
}

impl Line {
    /// Reads what the guardian says, but for pauses in which another process does.
    ///
    /// # Errors
    /// Files are short.
    pub(super) fn follow(stream: UnixStream, quiet: Arc<Pause>) -> io::Result<Arc<Self>> {
        stream.set_nonblocking(true)?;
        let reader = tokio::net::UnixStream::from_std(stream.try_clone()?)?;
        let line = Arc::new(Line {
            stream,
            ended: Mutex::default(),
            news: Notify::new(),
            is_over: AtomicBool::new(false),
        });
        let told = Arc::clone(&line);
        tokio::spawn(async move {
            let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(reader, LONGEST));
            let mut text = String::new();
            loop {
                tokio::select! {
                    () = quiet.until(true) => quiet.until(false).await,
                    read = reader.read_line(&mut text) => {
                        if !matches!(read, Ok(1..)) {
                            told.is_over.store(true, Relaxed);
                            return;
                        }
                        if let Some((id, status)) = end_of(&text) {
                            told.lock().insert(id, status);
                            told.news.notify_waiters();
                        }
                        text.clear();
                        reader.get_mut().set_limit(LONGEST);
                    }
                }
            }
        });
        Ok(line)
    }

    /// How a child has ended that has ended.
    ///
    /// # Errors
    /// The guardian does not say.
    pub(super) async fn status(&self, id: i32) -> io::Result<ExitStatus> {
        let told = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(status) = self.lock().get(&id) {
                    return *status;
                }
                news.await;
            }
        };
        let status = timeout(STATUS, told).await.map_err(|_| io::Error::other("ended"))?;
        Ok(ExitStatus::from_raw(status))
    }

    /// Tells the guardian that this process holds its children.
    pub(super) fn tell_holder(&self) {
        // It fails only if the guardian is gone.
        let _ = (&self.stream).write_all(format!("holder {}\n", std::process::id()).as_bytes());
    }

    /// Whether the guardian is gone.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Another handle of it.
    pub(super) fn another(&self) -> io::Result<OwnedFd> {
        self.stream.as_fd().try_clone_to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, i32>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the process that holds a child how it has ended.
pub(super) fn tell_end(mut holder: &UnixStream, id: i32, status: i32) -> io::Result<()> {
    holder.write_all(format!("ended {id} {status}\n").as_bytes())
}

fn end_of(text: &str) -> Option<(i32, i32)> {
    let (id, status) = text.trim_end().strip_prefix("ended ")?.split_once(' ')?;
    Some((id.parse().ok()?, status.parse().ok()?))
}

/// The process that holds the children, if this message says so.
pub(super) fn holder_of(text: &str) -> Option<i32> {
    text.trim_end().strip_prefix("holder ")?.parse().ok()
}
