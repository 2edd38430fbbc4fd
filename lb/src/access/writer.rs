//! Writes the lines of the log of connections, and opens their file again where it was renamed or removed.
//!
//! A file that was renamed gets lines until there is a new one under its name, or for a second: so a program that rotates files can make
//! the new one itself. No half line is left behind: what is missing of one is written first.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use tracing::warn;

use super::{Destination, Losses};
use crate::appender::{Sink, open};
use crate::net::Throttle;

/// How long a pipe may have no room for a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long another program may take from renaming the file to making the new one.
const ROTATION: Duration = Duration::from_secs(1);

/// Lines that wait.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Adds a line, if there are not more bytes than `most` then.
    pub(super) fn add(&mut self, line: &str, most: usize) -> bool {
        let has_room = self.0.len() + line.len() <= most;
        if has_room {
            self.0.extend_from_slice(line.as_bytes());
        }
        has_room
    }
}

/// Writes lines.
pub(super) struct Writer {
    output: Output,
    /// What is missing of the last line.
    rest: Vec<u8>,
    losses: Arc<Losses>,
}

enum Output {
    Stdout,
    Named(Named),
}

/// A file, and the name that it had when it was opened.
struct Named {
    path: PathBuf,
    file: File,
    /// It is to be opened again.
    is_old: bool,
    /// Since when there is no file of this name.
    gone_since: Option<Instant>,
    complaints: Throttle,
}

impl Writer {
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(to: &Destination, losses: Arc<Losses>) -> io::Result<Self> {
        let output = match to {
            Destination::Stdout => Output::Stdout,
            Destination::File(path) => Output::Named(Named {
                path: path.clone(),
                file: open(path)?,
                is_old: false,
                gone_since: None,
                complaints: Throttle::default(),
            }),
        };
        Ok(Writer { output, rest: Vec::new(), losses })
    }

    /// Writes what is missing of the last line, and these lines. On an error it returns how many of them are lost.
    fn put(&mut self, lines: &[u8]) -> Result<(), (u64, io::Error)> {
        let rest = std::mem::take(&mut self.rest);
        if let (written, Err(error)) = self.output.write(&rest) {
            self.rest = rest[written..].to_vec();
            return Err((count(lines), error));
        }
        let (written, Err(error)) = self.output.write(lines) else { return Ok(()) };
        let (torn, lost) = lines[written..].split_at(missing(lines, written));
        self.rest = torn.to_vec();
        Err((count(lost), error))
    }

    /// Opens the file again if that is due. What is missing of a line in the old one is given up.
    fn follow_the_name(&mut self) {
        if let Output::Named(named) = &mut self.output
            && named.follow()
            && !std::mem::take(&mut self.rest).is_empty()
        {
            self.losses.count("the old file was left within a line".into());
        }
    }
}

impl Sink for Writer {
    type Batch = Lines;

    fn write(&mut self, batch: Lines) {
        self.follow_the_name();
        if let Err((lost, error)) = self.put(&batch.0) {
            self.losses.count_all(lost, error.to_string().into());
        }
    }

    fn reopen(&mut self) {
        if let Output::Named(named) = &mut self.output {
            named.is_old = true;
        }
        self.follow_the_name();
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// How many bytes are missing of the line within which the writing ended.
fn missing(lines: &[u8], written: usize) -> usize {
    let is_whole = written == 0 || lines[written - 1] == b'\n';
    let end = lines[written..].iter().position(|&byte| byte == b'\n');
    if is_whole { 0 } else { end.map_or(0, |at| at + 1) }
}

impl Named {
    /// Opens the file again if it is no longer the one of its name; returns whether it did. If it cannot, the old one stays in use.
    fn follow(&mut self) -> bool {
        if !self.is_old && !self.is_left() {
            return false;
        }
        match open(&self.path) {
            Ok(file) => {
                (self.file, self.is_old, self.gone_since) = (file, false, None);
                true
            }
            Err(error) => {
                if self.complaints.ask().is_some() {
                    warn!(
                        path = %self.path.display(),
                        "the log of connections cannot be opened again, and goes on in its old file: {error}"
                    );
                }
                false
            }
        }
    }

    /// Whether there is another file of its name, or none.
    fn is_left(&mut self) -> bool {
        let Ok(ours) = self.file.metadata() else { return true };
        if let Ok(named) = fs::metadata(&self.path) {
            self.gone_since = None;
            return (ours.dev(), ours.ino()) != (named.dev(), named.ino());
        }
        let since = *self.gone_since.get_or_insert_with(Instant::now);
        ours.nlink() == 0 || since.elapsed() >= ROTATION
    }
}

impl Output {
    /// Writes as much as it can; returns how many bytes that were.
    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Output::Stdout => write_all(io::stdout(), bytes),
            Output::Named(named) => write_all(&named.file, bytes),
        }
    }
}

/// Writes as much as it can, and waits for room in a pipe.
fn write_all(to: impl AsFd, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(&to, &bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if has_room(&to) => {}
            Err(error) => return (written, Err(error.into())),
        }
    }
    (written, Ok(()))
}

/// Waits for room.
fn has_room(to: &impl AsFd) -> bool {
    let patience = Timespec::try_from(PATIENCE).ok();
    let mut fds = [PollFd::new(to, PollFlags::OUT)];
    poll(&mut fds, patience.as_ref()).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{read_to_string, remove_file, rename};
    use std::path::Path;

    use super::*;

    fn writer(path: &Path) -> Writer {
        Writer::open(&Destination::File(path.to_owned()), Arc::default()).unwrap()
    }

    fn write(writer: &mut Writer, lines: &str) {
        writer.write(Lines(lines.as_bytes().to_vec()));
    }

    fn named(writer: &mut Writer) -> &mut Named {
        match &mut writer.output {
            Output::Named(named) => named,
            Output::Stdout => panic!("it is a file"),
        }
    }

    #[test]
    fn a_renamed_file_gets_lines_until_there_is_a_new_one_and_a_removed_one_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut writer = writer(&path);
        write(&mut writer, "1\n");
        rename(&path, &old).unwrap();
        write(&mut writer, "2\n");
        assert!(!path.exists(), "another program may make it within a second");
        fs::write(&path, "").unwrap();
        write(&mut writer, "3\n");
        assert_eq!(
            (read_to_string(&old).unwrap().as_str(), read_to_string(&path).unwrap().as_str()),
            ("1\n2\n", "3\n")
        );
        rename(&path, &old).unwrap();
        write(&mut writer, "4\n");
        named(&mut writer).gone_since = Instant::now().checked_sub(ROTATION);
        write(&mut writer, "5\n");
        assert_eq!(
            (read_to_string(&old).unwrap().as_str(), read_to_string(&path).unwrap().as_str()),
            ("3\n4\n", "5\n")
        );
        remove_file(&path).unwrap();
        write(&mut writer, "6\n");
        rename(&path, &old).unwrap();
        writer.reopen();
        write(&mut writer, "7\n");
        assert_eq!(
            (read_to_string(&old).unwrap().as_str(), read_to_string(&path).unwrap().as_str()),
            ("6\n", "7\n")
        );
    }

    #[test]
    fn no_half_line_is_left_and_lost_lines_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut writer = writer(&path);
        let (reader, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let room = rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        let file = std::mem::replace(&mut named(&mut writer).file, pipe.into());
        let line = |number: usize| format!("{number:0100}\n");
        let lines: String = (0..100).map(line).collect();
        let (fit, torn) = (room / 101, room % 101);
        let Err((lost, error)) = writer.put(lines.as_bytes()) else { panic!("there is room for all lines") };
        assert_eq!((lost, error.kind()), (100 - fit as u64 - 1, ErrorKind::WouldBlock));
        assert_eq!(writer.rest.len(), 101 - torn);
        // The next lines follow a whole one.
        named(&mut writer).file = file;
        writer.put(line(200).as_bytes()).unwrap();
        let mut read = vec![0; room];
        rustix::io::read(&reader, &mut read).unwrap();
        let all = String::from_utf8(read).unwrap() + &read_to_string(&path).unwrap();
        assert!(all.lines().all(|line| line.len() == 100), "{all}");
        assert_eq!(all.lines().count(), fit + 2);
    }
}
