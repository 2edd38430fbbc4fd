//! The text of a file of the configuration. A file that could make `lb` wait, or take all memory, is not read.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The most bytes of such a file: a thousand backends take less than a tenth.
const MOST: u64 = 1 << 20;

/// What a file of UTF-8 begins with on some systems. Nothing here has a use for it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file gives no text.
#[derive(Debug, thiserror::Error)]
pub(in crate::config) enum NoText {
    /// It is not such a file, and stays that until it changes. So it is if there is none.
    #[error("{0}")]
    Wrong(String),
    /// The system refuses it, and may permit it the next time.
    #[error("cannot be read: {0}")]
    Refused(io::Error),
}

impl From<io::Error> for NoText {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => NoText::Wrong(format!("cannot be read: {error}")),
            _ => NoText::Refused(error),
        }
    }
}

/// The text of a file.
pub(in crate::config) fn text(path: &Path) -> Result<String, NoText> {
    let bytes = bytes(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        let byte = good.len() + 1;
        NoText::Wrong(format!("is not UTF-8 from byte {byte} (line {line}) on: expected a file in UTF-8"))
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(wrong("begins with a byte order mark: expected UTF-8 without one"));
    }
    Ok(text)
}

fn bytes(path: &Path) -> Result<Vec<u8>, NoText> {
    // A named pipe without a writer would wait for one.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(wrong("is a directory: expected a file"));
    }
    if !kind.is_file() {
        return Err(wrong("is a pipe, socket or device: expected a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(NoText::Wrong(format!("is longer than {MOST} bytes: expected a smaller file")));
    }
    Ok(bytes)
}

fn wrong(what: &str) -> NoText {
    NoText::Wrong(what.to_owned())
}
