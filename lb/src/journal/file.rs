//! The journal's file: lines are appended by a thread of its own, and the file is rotated by size.
//!
//! To record an event never waits for the disk. If the disk is full or slow, lines are lost, and nothing else: the next line that
//! can be written is preceded by one that says how many are missing, and the log says why, once a second at most.
//!
//! A file that is begun anew has lost what came before it, in the end. So it gets a checkpoint of the fleet, and so does one after a loss:
//! the controller is asked for it ([`Losses`]), because it alone knows the fleet.

use std::fs::{File, rename};
use std::io::{self, ErrorKind, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use proto::journal::Event;
use tokio::sync::Notify;
use tracing::warn;

use super::Line;
use super::step::Step;
use crate::appender::{self, Guard, Missing, Sink};

/// Open files: the present one, and the next one while it is rotated.
pub(crate) const FILES: usize = 2;
/// The most lines that may wait for the disk.
const WAITING: usize = 4096;
/// The most lines that are written at once.
const AT_ONCE: usize = 256;
/// How many rotated files there are beside the present one.
const OLD_FILES: u32 = 4;

/// Hands lines to the thread that writes them.
#[derive(Debug)]
pub(crate) struct Appender {
    waiting: appender::Appender<Vec<Message>>,
    losses: Arc<Losses>,
}

/// What is missing in the file.
#[derive(Debug, Default)]
struct Losses {
    /// How many lines were lost.
    lost: AtomicU64,
    /// Whether some were lost since the last checkpoint was asked for.
    is_torn: AtomicBool,
    /// A checkpoint is wanted.
    wanted: Notify,
}

impl Losses {
    fn count(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
        self.is_torn.store(true, Relaxed);
    }

    /// Asks for a checkpoint.
    fn want(&self) {
        self.wanted.notify_one();
    }
}

#[derive(Debug)]
pub(crate) enum Message {
    Line(Line),
    Step(Box<Step>),
}

impl Appender {
    /// Appends lines to the file from now on. When it would be larger than `most` bytes, it is renamed and begun anew.
    ///
    /// # Errors
    /// The file cannot be opened, or it is no regular file; or a thread cannot be started.
    pub(crate) fn open(path: &Path, most: u64) -> io::Result<(Self, Guard)> {
        let mut writer = Writer::new(path, most);
        writer.file()?;
        let losses = Arc::clone(&writer.losses);
        let (waiting, guard) = appender::Appender::start("journal", Duration::ZERO, writer)?;
        Ok((Appender { waiting, losses }, guard))
    }

    /// Appends a line, soon. If too many wait, it is lost: the next line that is written tells that it is missing.
    pub(crate) fn append(&self, line: &Line) {
        self.push(Message::Line(line.clone()));
    }

    /// Appends a step of the fleet in the same way. If it is lost, its number is missing.
    pub(crate) fn append_step(&self, step: Step) {
        self.push(Message::Step(Box::new(step)));
    }

    /// Completes when the file needs a checkpoint of the fleet.
    pub(super) async fn wants_checkpoint(&self) {
        self.losses.wanted.notified().await;
    }

    fn push(&self, message: Message) {
        let has_room = self.waiting.append(|waiting| {
            let has_room = waiting.len() < WAITING;
            if has_room {
                waiting.push(message);
            }
            has_room
        });
        if !has_room {
            self.losses.count(1);
        }
    }

    /// How many lines were lost.
    pub(super) fn lost(&self) -> u64 {
        self.losses.lost.load(Relaxed)
    }
}

/// The present file, and what is in it.
struct Writer {
    path: PathBuf,
    most: u64,
    file: Option<File>,
    size: u64,
    /// How much of it are checkpoints. They do not count: however large the fleet is, there is room for what happens to it.
    checkpoints: u64,
    /// Whether it ends within a line.
    is_torn: bool,
    /// The number of the last line that was written, or before the first one that was lost.
    last: Option<u64>,
    losses: Arc<Losses>,
    missing: Missing,
}

impl Sink for Writer {
    type Batch = Vec<Message>;

    fn write(&mut self, batch: Vec<Message>) {
        for lines in batch.chunks(AT_ONCE) {
            if let Err(error) = self.put(lines) {
                self.losses.count(lines.len() as u64);
                self.last = self.last.or(before(lines));
                self.missing.note(error);
            }
        }
        self.say_what_is_missing();
    }
}

impl Writer {
    fn new(path: &Path, most: u64) -> Self {
        Writer {
            path: path.to_owned(),
            most,
            file: None,
            size: 0,
            checkpoints: 0,
            is_torn: false,
            last: None,
            losses: Arc::default(),
            missing: Missing::default(),
        }
    }

    /// Says in the log how many lines are missing, once a second at most. That is an event too: it may be lost like all others.
    fn say_what_is_missing(&mut self) {
        let lost = self.losses.lost.load(Relaxed);
        let Some((lines, error)) = self.missing.due(lost, "the disk") else { return };
        let path = self.path.display();
        warn!(%path, lines, %error, "events are missing in the file of the journal (--journal)");
    }

    /// Writes these lines, all of them or none.
    fn put(&mut self, lines: &[Message]) -> io::Result<()> {
        let (mut bytes, mut last, mut checkpoints) = (String::new(), self.last, 0);
        for line in lines {
            match line {
                Message::Line(line) => {
                    let missed = last.map_or(0, |last| line.seq - last - 1);
                    if missed > 0 {
                        let gap = Line::new(line.seq - 1, SystemTime::now(), Event::Gap { missed });
                        add(&mut bytes, &gap.json);
                    }
                    add(&mut bytes, &line.json);
                    last = Some(line.seq);
                }
                // It has no key that is no text, so that it always is JSON.
                Message::Step(step) => {
                    let json = serde_json::to_string(step).unwrap_or_default();
                    add(&mut bytes, &json);
                    checkpoints += if step.is_checkpoint() { json.len() as u64 + 1 } else { 0 };
                }
            }
        }
        if !bytes.is_empty() {
            let is_new = self.append(bytes.as_bytes(), checkpoints).inspect_err(|_| self.file = None)?;
            // What is lost is lost before the next checkpoint, but maybe not before one among these lines.
            if self.losses.is_torn.swap(false, Relaxed) || is_new && checkpoints == 0 {
                self.losses.want();
            }
        }
        self.last = last;
        Ok(())
    }

    /// Appends these bytes, so many of which are checkpoints, and says whether it began a new file for them.
    fn append(&mut self, bytes: &[u8], checkpoints: u64) -> io::Result<bool> {
        self.file()?;
        let others = self.size - self.checkpoints + bytes.len() as u64 - checkpoints;
        let is_full = self.size > 0 && others > self.most;
        if is_full {
            self.rotate()?;
        }
        self.file()?;
        if self.is_torn {
            self.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.write_all(bytes)?;
        self.checkpoints += checkpoints;
        Ok(is_full)
    }

    /// Writes these bytes, all or none.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        if let (written, Err(error)) = appender::write_all(&*file, bytes) {
            // No half line stays. If this fails too, a reader skips what it cannot read.
            let _ = take_back(file, written as u64);
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let file = appender::open(&self.path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
            }
            (self.file, self.size, self.checkpoints) = (Some(file), metadata.len(), 0);
            self.is_torn = appender::ends_within_a_line(&self.path);
        }
        self.file.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Renames FILE to FILE.1, FILE.1 to FILE.2 and so on, and begins anew. The oldest one is lost.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..OLD_FILES).rev() {
            match rename(self.old(number), self.old(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        rename(&self.path, self.old(1))?;
        self.file = None;
        self.file().map(drop)
    }

    fn old(&self, number: u32) -> PathBuf {
        old(&self.path, number)
    }
}

/// Cuts off the bytes that were just written, unless another process has written behind them: after an upgrade, the file is not only ours
/// for a moment.
fn take_back(file: &mut File, written: u64) -> io::Result<()> {
    let end = file.stream_position()?;
    if written > 0 && file.metadata()?.len() == end {
        file.set_len(end.saturating_sub(written))?;
    }
    Ok(())
}

/// The number before the first of these entries.
fn before(lines: &[Message]) -> Option<u64> {
    lines.iter().find_map(|line| match line {
        Message::Line(line) => line.seq.checked_sub(1),
        Message::Step(_) => None,
    })
}

fn add(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The file of a journal and those that were rotated, as far as they exist; the oldest first.
pub(crate) fn all(path: &Path) -> Vec<PathBuf> {
    let rotated = (1..=OLD_FILES).rev().map(|number| old(path, number)).filter(|path| path.exists());
    rotated.chain([path.to_owned()]).collect()
}

/// The name of a rotated file.
fn old(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests;
