//! The log of connections (`--access-log`): one line for each connection that has ended or was refused.
//!
//! A worker renders the line and leaves it in memory; a thread of its own writes what has gathered ([`writer`]). If the disk or the reader
//! is slow, lines are lost and nothing else; the log says how many, once a second at most. Nothing here decides about a connection.

pub(crate) mod format;
pub(crate) mod record;
mod writer;

use std::borrow::Cow;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use arc_swap::{ArcSwapOption, Guard as ArcSwapGuard};
use tracing::warn;

use crate::appender::{Appender, Guard};
use crate::net::Tally;
use format::Format;
use record::Record;
use writer::{Lines, Writer};

/// Open files: the present one, and the next one while it is opened.
pub(crate) const FILES: usize = 2;
/// How long lines gather before they are written: a write, and a wake-up of the thread, are for all of them.
const GATHER: Duration = Duration::from_millis(50);
/// The most bytes that wait.
const MOST_BYTES: usize = 4 << 20;

/// What is logged of connections, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// Where the lines go.
    pub to: Destination,
    /// The form of a line.
    pub format: Format,
    /// Of the connections that end as they should, one in so many has a line. All others have one.
    pub sample: u32,
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To stdout.
    Stdout,
    /// They are appended to a file.
    File(PathBuf),
}

/// The log of connections, as long as its rules are the same.
#[derive(Debug)]
pub struct AccessLog {
    rules: AccessRules,
    lines: Arc<Appender<Lines>>,
    losses: Arc<Losses>,
}

/// The log of connections that there is now, if there is one.
#[derive(Debug, Default)]
pub struct AccessLogs {
    now: ArcSwapOption<AccessLog>,
    losses: Arc<Losses>,
    /// Of the thread that writes.
    guard: Mutex<Option<Guard>>,
}

/// A log of connections that is ready to take the place of another.
pub(crate) struct Next {
    log: Option<Arc<AccessLog>>,
    /// What it does with the thread that writes.
    thread: Thread,
}

enum Thread {
    Stays,
    Is(Option<Guard>),
}

/// The lines that are lost, each with the reason.
type Losses = Tally<Cow<'static, str>>;

impl AccessLogs {
    /// Opens the file, if there are rules, and starts the thread that writes.
    ///
    /// # Errors
    /// The file cannot be opened, or a thread cannot be started.
    pub(crate) fn open(rules: Option<&AccessRules>) -> anyhow::Result<Arc<Self>> {
        let logs = AccessLogs::default();
        drop(logs.switch(logs.prepare(rules)?));
        Ok(Arc::new(logs))
    }

    /// Opens the file for other rules, where it is another one, and starts the thread that writes to it. Nothing is changed yet. It may wait
    /// for a disk.
    ///
    /// # Errors
    /// The file cannot be opened, or a thread cannot be started.
    pub(crate) fn prepare(&self, rules: Option<&AccessRules>) -> anyhow::Result<Next> {
        let Some(rules) = rules else { return Ok(Next { log: None, thread: Thread::Is(None) }) };
        let losses = Arc::clone(&self.losses);
        if let Some(now) = self.now.load_full().filter(|now| now.rules.to == rules.to) {
            let log = AccessLog { rules: rules.clone(), lines: Arc::clone(&now.lines), losses };
            return Ok(Next { log: Some(Arc::new(log)), thread: Thread::Stays });
        }
        let writer = Writer::open(&rules.to, Arc::clone(&losses));
        let writer = writer.with_context(|| format!("cannot write to {} (--access-log)", rules.to.name()))?;
        let started = Appender::start("access-log", GATHER, writer);
        let (lines, guard) = started.context("a thread cannot be started (--access-log)")?;
        let log = AccessLog { rules: rules.clone(), lines: Arc::new(lines), losses };
        Ok(Next { log: Some(Arc::new(log)), thread: Thread::Is(Some(guard)) })
    }

    /// Uses what was prepared. Drop what it returns a moment later, where that may wait: the last lines of the old file are written then.
    pub(crate) fn switch(&self, next: Next) -> Option<Guard> {
        self.now.store(next.log);
        match next.thread {
            Thread::Stays => None,
            Thread::Is(guard) => std::mem::replace(&mut *self.lock(), guard),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Guard>> {
        // A panic cannot leave it half changed.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log that there is now.
    pub(crate) fn now(&self) -> ArcSwapGuard<Option<Arc<AccessLog>>> {
        self.now.load()
    }

    /// Opens the file again, as after it was renamed. False if there is no log.
    pub fn reopen(&self) -> bool {
        let now = self.now.load();
        now.iter().for_each(|log| log.lines.reopen());
        now.is_some()
    }

    /// Writes the lines that still wait, for a second at most. Call it at the end.
    pub fn end(&self) {
        let guard = self.lock().take();
        drop(guard);
    }

    /// How many lines are missing.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.losses.total()
    }

    /// Says how many lines are lost, once a second at most, until it is dropped.
    pub(crate) async fn report(&self) -> Infallible {
        let say = |lines, why: Cow<'static, str>| {
            warn!(lines, error = %why, "lines are missing in the log of connections (--access-log)");
        };
        self.losses.report(say).await
    }
}

impl AccessLog {
    /// Logs a connection that has just ended, unless it ended as it should and is not in the sample.
    pub(crate) fn log(&self, record: &Record<'_>) {
        let sample = self.rules.sample;
        if record.is_fine() && sample > 1 && fastrand::u32(..sample) != 0 {
            return;
        }
        let line = self.rules.format.line(record, SystemTime::now());
        if !self.lines.append(|waiting| waiting.add(&line, MOST_BYTES)) {
            self.losses.count("the disk or the reader is too slow".into());
        }
    }
}

impl Destination {
    fn name(&self) -> String {
        match self {
            Destination::Stdout => "stdout".to_owned(),
            Destination::File(path) => path.display().to_string(),
        }
    }
}
