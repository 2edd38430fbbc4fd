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
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
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

/// The log of connections.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    sample: u32,
    lines: Appender<Lines>,
    losses: Arc<Losses>,
}

/// The lines that are lost, each with the reason.
type Losses = Tally<Cow<'static, str>>;

impl AccessLog {
    /// Opens the file, and starts the thread that writes. Keep the guard until the end.
    ///
    /// # Errors
    /// The file cannot be opened, or a thread cannot be started.
    pub(crate) fn open(rules: &AccessRules) -> anyhow::Result<(Arc<Self>, Guard)> {
        let losses = Arc::<Losses>::default();
        let writer = Writer::open(&rules.to, Arc::clone(&losses));
        let writer = writer.with_context(|| format!("cannot write to {} (--access-log)", rules.to.name()))?;
        let started = Appender::start("access-log", GATHER, writer);
        let (lines, guard) = started.context("a thread cannot be started (--access-log)")?;
        let log = AccessLog { format: rules.format.clone(), sample: rules.sample, lines, losses };
        Ok((Arc::new(log), guard))
    }

    /// Logs a connection that has just ended, unless it ended as it should and is not in the sample.
    pub(crate) fn log(&self, record: &Record<'_>) {
        if record.is_fine() && self.sample > 1 && fastrand::u32(..self.sample) != 0 {
            return;
        }
        let line = self.format.line(record, SystemTime::now());
        if !self.lines.append(|waiting| waiting.add(&line, MOST_BYTES)) {
            self.losses.count("the disk or the reader is too slow".into());
        }
    }

    /// How many lines are missing.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.losses.total()
    }

    /// Opens the file again, as after it was renamed.
    pub fn reopen(&self) {
        self.lines.reopen();
    }

    /// Says how many lines are lost, once a second at most, until it is dropped.
    pub(crate) async fn report(&self) -> Infallible {
        let say = |lines, why: Cow<'static, str>| {
            warn!(lines, "lines are missing in the log of connections (--access-log): {why}");
        };
        self.losses.report(say).await
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
