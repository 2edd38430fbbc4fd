//! Watches one file: tells when it is another one, or has another content, and is complete.
//!
//! Its folder is watched (inotify(7)), and the folder to which it leads. So a file that is renamed into place is seen, and a symbolic link
//! that leads elsewhere, as those of a `ConfigMap` in Kubernetes. A file that is being written is not complete until it is closed. What the
//! kernel does not tell (a file of another machine, one that is mounted by itself) is found by looks, and believed when two in a row see
//! it; so is a file that is gone, or empty. Nothing here reads the file.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// How often it is looked, if the kernel tells nothing.
const LOOK: Duration = Duration::from_secs(2);
/// For how long nothing must have happened to the file, and how long that is waited for at most.
const SETTLED: Duration = Duration::from_millis(50);
const SETTLED_AT_LAST: Duration = Duration::from_secs(1);
/// How many bytes of events are read at once. One takes at most 16 and a name (`NAME_MAX`).
const EVENTS: usize = 4096;

/// A file that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    file: PathBuf,
    watch: Watch,
    /// The file as it was told last; `None`: it was not told yet, or is to be told again.
    told: Option<Mark>,
    /// The file as it was at the last look that nothing had asked for.
    seen: Option<Mark>,
    /// Whether it is being written.
    is_unfinished: bool,
    /// Whether something has happened in the folders that no look has followed yet.
    has_happened: bool,
    /// Whether no look was begun yet.
    is_new: bool,
}

/// What tells a file from any other, and its content from any other one; `None` if there is no file.
type Mark = Option<[i128; 5]>;

fn mark(file: &Metadata) -> [i128; 5] {
    let nanoseconds = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    [
        file.dev().into(),
        file.ino().into(),
        file.size().into(),
        nanoseconds(file.mtime(), file.mtime_nsec()),
        nanoseconds(file.ctime(), file.ctime_nsec()),
    ]
}

/// The folders that are watched, and how the kernel tells of them; `None`: it does not.
#[derive(Debug, Default)]
struct Watch {
    folders: Vec<PathBuf>,
    /// The names that the file has there.
    names: Vec<Vec<u8>>,
    events: Option<AsyncFd<OwnedFd>>,
}

impl Watched {
    pub(super) fn new(file: PathBuf) -> Self {
        let (watch, told, seen) = (Watch::default(), None, None);
        Watched { file, watch, told, seen, is_unfinished: false, has_happened: false, is_new: true }
    }

    /// Waits until the file is complete and another one than before, or has another content. The first time, it is another one. It may be
    /// gone.
    pub(super) async fn changed(&mut self) {
        let mut is_asked_for = std::mem::take(&mut self.is_new) || self.happens().await;
        loop {
            let mark = self.look().await;
            if self.is_news(mark, is_asked_for) {
                self.told = Some(mark);
                return;
            }
            is_asked_for = self.happens().await;
        }
    }

    /// Whether the file is still the one that was told last, and is not being written. If not, it is told again, for what was read of it
    /// may be half of something.
    pub(super) async fn is_as_told(&mut self) -> bool {
        self.take_events();
        let mark = self.look().await;
        if self.told == Some(mark) && !self.is_unfinished {
            return true;
        }
        self.told = None;
        false
    }

    fn is_news(&mut self, mark: Mark, is_asked_for: bool) -> bool {
        let is_other = self.told != Some(mark) && !self.is_unfinished;
        let is_sure = if is_asked_for {
            mark.is_some_and(|[_, _, size, ..]| size > 0)
        } else {
            self.seen.replace(mark) == Some(mark)
        };
        is_other && is_sure
    }

    /// Watches the folders in which the file is now, and looks at it after that: so nothing that happens then is missed.
    async fn look(&mut self) -> Mark {
        if self.is_unfinished {
            debug!(file = %self.file.display(), "a file that is watched is being written");
        }
        let (file, watched) = (self.file.clone(), std::mem::take(&mut self.watch.folders));
        let looked = spawn_blocking(move || {
            let there = places(&file);
            let folders: Vec<PathBuf> = there.iter().filter_map(|file| folder(file)).collect();
            let anew = (folders != watched).then(|| watch(folders));
            let names = there.iter().filter_map(|file| Some(file.file_name()?.as_bytes().to_vec()));
            (names.collect(), anew.ok_or(watched), fs::metadata(&file).ok().as_ref().map(mark))
        });
        // It fails only while lb ends.
        let Ok((names, watched, mark)) = looked.await else { return self.told.flatten() };
        self.watch.names = names;
        match watched {
            Err(folders) => self.watch.folders = folders,
            Ok((events, folders)) => {
                self.watch.folders = folders;
                self.watch.events = events.and_then(told_of);
                self.is_unfinished = false;
            }
        }
        mark
    }

    /// Waits until something has happened in the folders, and then until nothing more happens; or until it is time for a look. Returns
    /// whether something has happened.
    async fn happens(&mut self) -> bool {
        if !self.has_happened && timeout(LOOK, self.events()).await.is_err() {
            return false;
        }
        let begun = Instant::now();
        while begun.elapsed() < SETTLED_AT_LAST && timeout(SETTLED, self.events()).await.is_ok() {}
        self.has_happened = false;
        true
    }

    /// Waits for events, and takes those that there are.
    async fn events(&mut self) {
        self.has_happened = false;
        while !self.has_happened {
            let Some(events) = &self.watch.events else { return std::future::pending().await };
            let Ok(mut ready) = events.readable().await else { return std::future::pending().await };
            // What comes from now on is told again.
            ready.clear_ready();
            drop(ready);
            self.take_events();
        }
    }

    /// Takes the events that there are.
    fn take_events(&mut self) {
        let Some(events) = &self.watch.events else { return };
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = inotify::Reader::new(events.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map_or(&[][..], |name| name.to_bytes());
                    let flags = event.events();
                    if flags.intersects(LOST) {
                        // The folders are watched anew.
                        self.watch.folders.clear();
                    } else if self.watch.names.iter().any(|known| known == name) {
                        let goes_on = self.is_unfinished && !flags.intersects(COMPLETE);
                        self.is_unfinished = goes_on || flags.contains(ReadFlags::MODIFY);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// A folder is not watched any more or has another path, or events are missing.
const LOST: ReadFlags =
    ReadFlags::IGNORED.union(ReadFlags::MOVE_SELF).union(ReadFlags::QUEUE_OVERFLOW).union(ReadFlags::UNMOUNT);
/// What happens to a file when it is complete, or gone.
const COMPLETE: ReadFlags =
    ReadFlags::CLOSE_WRITE.union(ReadFlags::MOVED_TO).union(ReadFlags::MOVED_FROM).union(ReadFlags::DELETE);

/// Has the runtime tell when there are events.
#[expect(
    deprecated,
    reason = "its successor is unsafe, because some types may close their file early; this one owns it"
)]
fn told_of(events: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(events, Interest::READABLE).ok()
}

/// The file as it is named, and where that leads.
fn places(file: &Path) -> Vec<PathBuf> {
    let mut places = vec![file.to_owned()];
    places.extend(fs::canonicalize(file).ok().filter(|there| there != file));
    places
}

fn folder(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(if folder == OsStr::new("") { PathBuf::from(".") } else { folder.to_owned() })
}

/// Watches folders, and says which. In one that cannot be watched now, the file is found by looks.
fn watch(mut folders: Vec<PathBuf>) -> (Option<OwnedFd>, Vec<PathBuf>) {
    let Ok(events) = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) else {
        return (None, Vec::new());
    };
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    folders.retain(|folder| inotify::add_watch(&events, folder, flags).is_ok());
    (Some(events), folders)
}
