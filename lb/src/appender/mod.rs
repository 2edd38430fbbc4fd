//! Lines for a file, written by a thread of its own: the journal's and those of the log of connections.
//!
//! To append never waits for a disk or a reader. What waits has a bound, and a line that finds no room is lost; nothing else is.

mod missing;
mod torn;

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) use missing::Missing;
pub(crate) use torn::{Torn, ends_within_a_line, write_all};

/// How long the last lines may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);
/// The owner writes, and the group reads: addresses of clients are in it.
const MODE: u32 = 0o640;

/// Opens a file to append to it, and makes it if there is none. No call on it blocks, so a pipe without a reader hangs nothing.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path)
}

/// Where lines are written to.
pub(crate) trait Sink: Send + 'static {
    /// Lines that wait.
    type Batch: Default + Send + 'static;

    /// Writes these lines. It says itself which of them are lost.
    fn write(&mut self, batch: Self::Batch);

    /// Opens its file again.
    fn reopen(&mut self) {}
}

/// Hands lines to the thread that writes them.
#[derive(Debug)]
pub(crate) struct Appender<B>(Arc<Shared<B>>);

/// When it is dropped, the lines that still wait are written, for a second at most.
#[must_use]
#[derive(Debug)]
pub struct Guard(Arc<dyn End>);

#[derive(Debug)]
struct Shared<B> {
    queue: Mutex<Queue<B>>,
    /// Something waits, or the thread has ended.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue<B> {
    batch: B,
    is_empty: bool,
    is_to_reopen: bool,
    is_to_end: bool,
    has_ended: bool,
}

impl<B: Default + Debug + Send + 'static> Appender<B> {
    /// Starts the thread. Lines gather for so long before it writes them.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        name: &str,
        gather: Duration,
        sink: impl Sink<Batch = B>,
    ) -> io::Result<(Self, Guard)> {
        let queue = Mutex::new(Queue { is_empty: true, ..Queue::default() });
        let shared = Arc::new(Shared { queue, news: Condvar::new() });
        let writing = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || writing.write_all(sink, gather))?;
        Ok((Appender(Arc::clone(&shared)), Guard(shared)))
    }

    /// Adds a line to those that wait. `add`, which must not wait, says whether there was room; if not, the line is lost. Returns the same.
    pub(crate) fn append(&self, add: impl FnOnce(&mut B) -> bool) -> bool {
        let mut queue = self.0.lock();
        let has_room = add(&mut queue.batch);
        // The thread looks again by itself while lines wait, so most of them cost no system call.
        let is_first = has_room && std::mem::replace(&mut queue.is_empty, false);
        drop(queue);
        if is_first {
            self.0.news.notify_all();
        }
        has_room
    }

    /// Has the file opened again, once the lines that wait now are written.
    pub(crate) fn reopen(&self) {
        self.0.lock().is_to_reopen = true;
        self.0.news.notify_all();
    }
}

impl<B: Default> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, Queue<B>> {
        // Lines are only added while it is held; a half one would be a line that cannot be read.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whatever waits, until the end.
    fn write_all(&self, mut sink: impl Sink<Batch = B>, gather: Duration) {
        loop {
            let queue = self.wait(|queue| !queue.is_empty || queue.is_to_reopen || queue.is_to_end, None);
            drop(queue);
            let mut queue = self.wait(|queue| queue.is_to_reopen || queue.is_to_end, Some(gather));
            let batch = std::mem::take(&mut queue.batch);
            let was_empty = std::mem::replace(&mut queue.is_empty, true);
            let (is_to_reopen, is_to_end) = (std::mem::take(&mut queue.is_to_reopen), queue.is_to_end);
            drop(queue);
            if !was_empty {
                sink.write(batch);
            }
            if is_to_reopen {
                sink.reopen();
            }
            if is_to_end {
                self.lock().has_ended = true;
                return self.news.notify_all();
            }
        }
    }

    /// Waits for this state of the queue, for so long at most.
    fn wait(&self, state: impl Fn(&Queue<B>) -> bool, most: Option<Duration>) -> MutexGuard<'_, Queue<B>> {
        let not_yet = |queue: &mut Queue<B>| !state(queue);
        match most {
            None => self.news.wait_while(self.lock(), not_yet).unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let waited = self.news.wait_timeout_while(self.lock(), most, not_yet);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

/// The end of a thread that writes.
trait End: Debug + Send + Sync {
    /// Waits until all is written, for so long at most.
    fn end(&self, most: Duration);
}

impl<B: Default + Debug + Send> End for Shared<B> {
    fn end(&self, most: Duration) {
        self.lock().is_to_end = true;
        self.news.notify_all();
        drop(self.wait(|queue| queue.has_ended, Some(most)));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end(FAREWELL);
    }
}
