//! Whole lines, to where there may be no room for all of them: a full disk, or a pipe whose reader is slow.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a pipe may have no room for a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is missing of the last line that was begun. It is written before the next one, so no line is joined with a half one.
#[derive(Debug, Default)]
pub(crate) struct Torn(Vec<u8>);

impl Torn {
    /// What is missing at the end of this file, which has just been opened to append to it.
    pub(crate) fn at_the_end_of(path: &Path) -> Self {
        Torn(if ends_within_a_line(path) { b"\n".to_vec() } else { Vec::new() })
    }

    /// Writes what is missing of the last line, and these lines. On an error it returns how many of them are lost.
    pub(crate) fn put(&mut self, to: impl AsFd, lines: &[u8]) -> Result<(), (u64, io::Error)> {
        let rest = std::mem::take(&mut self.0);
        if let (written, Err(error)) = write_all(&to, &rest) {
            self.0 = rest[written..].to_vec();
            return Err((count(lines), error));
        }
        let (written, Err(error)) = write_all(&to, lines) else { return Ok(()) };
        let (torn, lost) = lines[written..].split_at(missing(lines, written));
        self.0 = torn.to_vec();
        Err((count(lost), error))
    }

    /// Whether something is missing.
    pub(crate) fn is_torn(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Whether the last line of a regular file has no end, as after a crash, or when a program ended while its disk was full. False if it
/// cannot be read.
pub(crate) fn ends_within_a_line(path: &Path) -> bool {
    let is_within = || {
        let length = path.metadata().ok().filter(|file| file.is_file())?.len();
        let mut last = [0];
        File::open(path).ok()?.read_exact_at(&mut last, length.checked_sub(1)?).ok()?;
        Some(last != *b"\n")
    };
    is_within().unwrap_or(false)
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

/// Writes as much as it can, and waits for room in a pipe. Returns how many bytes it wrote.
pub(crate) fn write_all(to: impl AsFd, bytes: &[u8]) -> (usize, io::Result<()>) {
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
    use std::fs::{read_to_string, write};

    use super::*;
    use crate::appender::open;

    #[test]
    fn no_half_line_is_left_and_lost_lines_are_counted() {
        let (reader, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let room = rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        let line = |number: usize| format!("{number:0100}\n");
        let lines: String = (0..100).map(line).collect();
        let (fit, within) = (room / 101, room % 101);
        let mut torn = Torn::default();
        let Err((lost, error)) = torn.put(&pipe, lines.as_bytes()) else { panic!("there is room for all") };
        assert_eq!((lost, error.kind()), (100 - fit as u64 - 1, ErrorKind::WouldBlock));
        assert_eq!(torn.0.len(), 101 - within);
        let Err((lost, _)) = torn.put(&pipe, line(200).as_bytes()) else { panic!("there is room") };
        assert_eq!((lost, torn.0.len()), (1, 101 - within));
        let mut read = vec![0; room];
        rustix::io::read(&reader, &mut read).unwrap();
        // The next lines follow a whole one.
        torn.put(&pipe, line(201).as_bytes()).unwrap();
        let mut more = vec![0; 202 - within];
        rustix::io::read(&reader, &mut more).unwrap();
        let all = String::from_utf8([read, more].concat()).unwrap();
        let expected: String = (0..=fit).chain([201]).map(line).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_file_that_ends_within_a_line_gets_the_end_of_it_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (before, after) in [("", "2\n"), ("1\n", "1\n2\n"), ("1\nha", "1\nha\n2\n")] {
            write(&path, before).unwrap();
            let file = open(&path).unwrap();
            Torn::at_the_end_of(&path).put(&file, b"2\n").unwrap();
            assert_eq!(read_to_string(&path).unwrap(), after, "{before:?}");
        }
        assert!(!ends_within_a_line(folder.path()) && !ends_within_a_line(&folder.path().join("none")));
    }
}
