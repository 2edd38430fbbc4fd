//! Writes the lines of the log of connections, and opens their file again where it was renamed or removed.
//!
//! A file that was renamed gets lines until there is a new one under its name, or for a second: so a program that rotates files can make
//! the new one itself. No half line is left behind: what is missing of one is written first.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Destination, Losses};
use crate::appender::{Sink, Torn, open};
use crate::net::Throttle;

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
    torn: Torn,
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
        let (output, torn) = match to {
            Destination::Stdout => (Output::Stdout, Torn::default()),
            Destination::File(path) => {
                let (path, file, complaints) = (path.clone(), open(path)?, Throttle::default());
                let torn = Torn::at_the_end_of(&path);
                (Output::Named(Named { path, file, is_old: false, gone_since: None, complaints }), torn)
            }
        };
        Ok(Writer { output, torn, losses })
    }

    /// Opens the file again if that is due. What is missing of a line in the old one is given up.
    fn follow_the_name(&mut self) {
        if let Output::Named(named) = &mut self.output
            && named.follow()
        {
            let new = Torn::at_the_end_of(&named.path);
            if std::mem::replace(&mut self.torn, new).is_torn() {
                self.losses.count("the old file was left within a line".into());
            }
        }
    }
}

impl Sink for Writer {
    type Batch = Lines;

    fn write(&mut self, batch: Lines) {
        self.follow_the_name();
        let put = match &self.output {
            Output::Stdout => self.torn.put(io::stdout(), &batch.0),
            Output::Named(named) => self.torn.put(&named.file, &batch.0),
        };
        if let Err((lost, error)) = put {
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
                        path = %self.path.display(), %error,
                        "the log of connections cannot be opened again, and goes on in its old file"
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
}
