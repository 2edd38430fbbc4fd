//! The journal's file: lines are appended by a thread of its own, and the file is rotated by size.
//!
//! To record an event never waits for the disk. If the disk is full or slow, lines are lost, and nothing else: the next line that
//! can be written is preceded by one that says how many are missing, and the log says why, once a second at most.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use proto::journal::Event;
use tracing::warn;

use super::Line;
use super::step::Step;
use crate::net::Throttle;

/// Open files: the present one, and the next one while it is rotated.
pub(crate) const FILES: usize = 2;
/// The most lines that may wait for the disk.
const WAITING: usize = 4096;
/// The most lines that are written at once.
const AT_ONCE: usize = 256;
/// How many rotated files there are beside the present one.
const OLD_FILES: u32 = 4;
/// How long the last lines may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);
/// The owner writes, and the group reads: client addresses are in it.
const MODE: u32 = 0o640;

/// Hands lines to the thread that writes them.
#[derive(Debug)]
pub(crate) struct Appender(SyncSender<Message>);

/// When it is dropped, the lines that still wait are written, for a second at most.
#[must_use]
pub struct Guard(SyncSender<Message>);

#[derive(Debug)]
enum Message {
    Line(Line),
    /// A step of the fleet, as JSON.
    Step(String),
    /// Nothing follows. The sender is dropped when everything before is written.
    End(SyncSender<()>),
}

impl Appender {
    /// Appends lines to the file from now on. When it would be larger than `most` bytes, it is renamed and begun anew.
    ///
    /// # Errors
    /// The file cannot be opened, or it is no regular file; or a thread cannot be started.
    pub(crate) fn open(path: &Path, most: u64) -> io::Result<(Self, Guard)> {
        let mut writer = Writer::new(path, most);
        writer.file()?;
        let (lines, waiting) = sync_channel(WAITING);
        thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok((Appender(lines.clone()), Guard(lines)))
    }

    /// Appends a line, soon. If too many wait, it is lost.
    pub(crate) fn append(&self, line: &Line) {
        // The next line that is written tells that this one is missing.
        let _ = self.0.try_send(Message::Line(line.clone()));
    }

    /// Appends a step of the fleet in the same way. If it is lost, its number is missing.
    pub(crate) fn append_step(&self, step: &Step) {
        // It has no key that is no text, so that it always is JSON.
        let json = serde_json::to_string(step).unwrap_or_default();
        let _ = self.0.try_send(Message::Step(json));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (written, is_written) = sync_channel(1);
        let queue = self.0.clone();
        // The queue may be full, and the disk may hang.
        let sent = thread::Builder::new().spawn(move || queue.send(Message::End(written)));
        if sent.is_ok() {
            let _: Result<(), RecvTimeoutError> = is_written.recv_timeout(FAREWELL);
        }
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
    complaints: Throttle,
}

impl Writer {
    fn new(path: &Path, most: u64) -> Self {
        let (path, complaints) = (path.to_owned(), Throttle::default());
        Writer { path, most, file: None, size: 0, last: None, complaints }
    }

    fn run(mut self, waiting: &Receiver<Message>) {
        while let Ok(first) = waiting.recv() {
            let (mut lines, mut end) = (Vec::new(), None);
            for message in [first].into_iter().chain(waiting.try_iter()).take(AT_ONCE) {
                match message {
                    Message::End(written) => end = Some(written),
                    line => lines.push(line),
                }
            }
            if let Err(error) = self.write(&lines)
                && self.complaints.ask().is_some()
            {
                warn!("events are missing in {} (--journal): {error}", self.path.display());
            }
            drop(end);
        }
    }

    /// Writes these lines, all of them or none.
    fn write(&mut self, lines: &[Message]) -> io::Result<()> {
        let (mut bytes, mut last) = (String::new(), self.last);
        for line in lines {
            match line {
                Message::Line(line) => {
                    let missed = last.map_or(0, |last| line.seq - last - 1);
                    if missed > 0 {
                        put(
                            &mut bytes,
                            &Line::new(line.seq - 1, SystemTime::now(), Event::Gap { missed }).json,
                        );
                    }
                    put(&mut bytes, &line.json);
                    last = Some(line.seq);
                }
                Message::Step(json) => put(&mut bytes, json),
                Message::End(_) => {}
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
            // A pipe without a reader must not hang the thread.
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(MODE)
                .custom_flags(flags)
                .open(&self.path)?;
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

fn put(text: &mut String, line: &str) {
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
    use std::fs;

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
        writer.write(&lines(3..=4)).unwrap();
        writer.write(&lines([7])).unwrap();
        // Another lb goes on in the same file.
        Writer::new(&path, 1 << 20).write(&lines([1])).unwrap();
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
            writer.write(&lines([seq])).unwrap();
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
        writer.write(&lines([1])).unwrap();
        writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(writer.write(&lines([2, 3])).is_err());
        writer.write(&lines([4])).unwrap();
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
