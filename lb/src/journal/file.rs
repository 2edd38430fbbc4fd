//! The journal's file: lines are appended by a thread of its own, and the file is rotated by size.
//!
//! To record an event never waits for the disk. If the disk is full or slow, lines are lost, and nothing else: the next line that
//! can be written is preceded by one that says how many are missing, and the log says why, once a second at most.

use std::fs::{File, rename};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use proto::journal::Event;
use tracing::warn;

use super::Line;
use super::step::Step;
use crate::appender::{self, Guard, Sink};
use crate::net::Throttle;

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
    /// How many lines were lost.
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Line(Line),
    /// A step of the fleet, as JSON.
    Step(String),
}

impl Appender {
    /// Appends lines to the file from now on. When it would be larger than `most` bytes, it is renamed and begun anew.
    ///
    /// # Errors
    /// The file cannot be opened, or it is no regular file; or a thread cannot be started.
    pub(crate) fn open(path: &Path, most: u64) -> io::Result<(Self, Guard)> {
        let mut writer = Writer::new(path, most);
        writer.file()?;
        let lost = Arc::clone(&writer.lost);
        let (waiting, guard) = appender::Appender::start("journal", Duration::ZERO, writer)?;
        Ok((Appender { waiting, lost }, guard))
    }

    /// Appends a line, soon. If too many wait, it is lost: the next line that is written tells that it is missing.
    pub(crate) fn append(&self, line: &Line) {
        self.push(Message::Line(line.clone()));
    }

    /// Appends a step of the fleet in the same way. If it is lost, its number is missing.
    pub(crate) fn append_step(&self, step: &Step) {
        // It has no key that is no text, so that it always is JSON.
        self.push(Message::Step(serde_json::to_string(step).unwrap_or_default()));
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
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// How many lines were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

/// The present file, and what is in it.
struct Writer {
    path: PathBuf,
    most: u64,
    file: Option<File>,
    size: u64,
    /// The number of the last line that was written.
    last: Option<u64>,
    lost: Arc<AtomicU64>,
    complaints: Throttle,
}

impl Sink for Writer {
    type Batch = Vec<Message>;

    fn write(&mut self, batch: Vec<Message>) {
        for lines in batch.chunks(AT_ONCE) {
            let Err(error) = self.put(lines) else { continue };
            self.lost.fetch_add(lines.len() as u64, Relaxed);
            if self.complaints.ask().is_some() {
                warn!(path = %self.path.display(), "events are missing in the file of the journal (--journal): {error}");
            }
        }
    }
}

impl Writer {
    fn new(path: &Path, most: u64) -> Self {
        let (path, complaints) = (path.to_owned(), Throttle::default());
        Writer { path, most, file: None, size: 0, last: None, lost: Arc::default(), complaints }
    }

    /// Writes these lines, all of them or none.
    fn put(&mut self, lines: &[Message]) -> io::Result<()> {
        let (mut bytes, mut last) = (String::new(), self.last);
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
                Message::Step(json) => add(&mut bytes, json),
            }
        }
        if !bytes.is_empty() {
            self.append(bytes.as_bytes()).inspect_err(|_| self.file = None)?;
        }
        self.last = last;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?;
        if self.size > 0 && self.size + bytes.len() as u64 > self.most {
            self.rotate()?;
        }
        let size = self.size;
        let file = self.file()?;
        if let Err(error) = file.write_all(bytes) {
            // No half line stays. If this fails too, a reader skips what it cannot read.
            let _ = file.set_len(size);
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
            (self.file, self.size) = (Some(file), metadata.len());
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
mod tests {
    use std::fs::{self, OpenOptions};

    use proto::journal::Entry;

    use super::*;

    fn line(seq: u64) -> Line {
        Line::new(seq, SystemTime::UNIX_EPOCH, Event::Stopping {})
    }

    fn lines(numbers: impl IntoIterator<Item = u64>) -> Vec<Message> {
        numbers.into_iter().map(|seq| Message::Line(line(seq))).collect()
    }

    fn entries(path: &Path) -> Vec<(u64, Event)> {
        let text = fs::read_to_string(path).unwrap();
        let entries = text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap());
        entries.map(|entry| (entry.seq, entry.event)).collect()
    }

    #[test]
    fn lines_are_appended_and_missing_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut writer = Writer::new(&path, 1 << 20);
        writer.put(&lines(3..=4)).unwrap();
        writer.put(&lines([7])).unwrap();
        // Another lb goes on in the same file.
        Writer::new(&path, 1 << 20).put(&lines([1])).unwrap();
        let stopping = |seq| (seq, Event::Stopping {});
        let expected = [stopping(3), stopping(4), (6, Event::Gap { missed: 2 }), stopping(7), stopping(1)];
        assert_eq!(entries(&path), expected);
    }

    #[test]
    fn a_large_file_is_rotated_and_the_oldest_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let most = 3 * (line(100).json.len() as u64 + 1);
        let mut writer = Writer::new(&path, most);
        for seq in 100..130 {
            writer.put(&lines([seq])).unwrap();
        }
        let first = |path: &Path| entries(path)[0].0;
        assert_eq!(first(&path), 127);
        for (number, expected) in [(1, 124), (2, 121), (3, 118), (4, 115)] {
            assert_eq!(first(&writer.old(number)), expected);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
        assert!(fs::metadata(writer.old(1)).unwrap().len() <= most);
    }

    #[test]
    fn a_full_disk_costs_lines_and_no_half_line_stays() {
        // Every write to this file fails with ENOSPC (full(4)), and it is no regular file.
        assert!(Appender::open(Path::new("/dev/full"), 1).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut writer = Writer::new(&path, 1 << 20);
        writer.put(&lines([1])).unwrap();
        writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(writer.put(&lines([2, 3])).is_err());
        writer.put(&lines([4])).unwrap();
        let told = (3, Event::Gap { missed: 2 });
        assert_eq!(entries(&path), [(1, Event::Stopping {}), told, (4, Event::Stopping {})]);
    }

    #[test]
    fn what_waits_is_written_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (appender, guard) = Appender::open(&path, 1 << 20).unwrap();
        (1..=1000).for_each(|seq| appender.append(&line(seq)));
        drop(guard);
        assert_eq!(entries(&path).len(), 1000);
    }
}
