//! What the file of backends says: it is read when it has changed and is complete, and again if the system would not have it read.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::watched::Watched;
use super::{AGAIN, DISK};
use crate::config::{FixedBackend, Unread, read_backends};

/// What a complete file said, or why it says nothing.
pub(super) type Said = Result<List, String>;

/// The backends of a file.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) backends: Vec<FixedBackend>,
    /// When it had been read.
    pub(super) read: Instant,
}

/// A file that is being read.
type Reading = JoinHandle<Result<Vec<FixedBackend>, Unread>>;

/// Tells what the file says now, and then whenever that has changed, until this is dropped.
pub(super) async fn follow(file: PathBuf, said: &watch::Sender<Option<Said>>) -> Infallible {
    let mut watched = Watched::new(file.clone());
    loop {
        watched.changed().await;
        let mut reading = None;
        loop {
            let (backends, now) = (read(&file, &mut reading).await, Instant::now());
            let is_refused = matches!(backends, Err(Unread::Cannot(_)));
            // What is being written again is told when it is complete.
            if is_refused || watched.is_as_told().await {
                let list = backends.map(|backends| List { backends, read: now });
                said.send_replace(Some(list.map_err(|unread| unread.to_string())));
            }
            if !is_refused {
                break;
            }
            sleep(AGAIN).await;
            if !watched.is_as_told().await {
                break;
            }
        }
    }
}

/// Reads the file. A disk that keeps it waiting is asked once, and the next time it is waited for that answer.
async fn read(file: &Path, reading: &mut Option<Reading>) -> Result<Vec<FixedBackend>, Unread> {
    let under_way = reading.get_or_insert_with(|| {
        let file = file.to_owned();
        spawn_blocking(move || read_backends(&file))
    });
    let read = timeout(DISK, under_way).await;
    let cannot = |why: String| Unread::Cannot(format!("{} cannot be read: {why}", file.display()));
    let Ok(read) = read else { return Err(cannot(format!("it takes more than {DISK:?}"))) };
    *reading = None;
    read.unwrap_or_else(|error| Err(cannot(error.to_string())))
}
