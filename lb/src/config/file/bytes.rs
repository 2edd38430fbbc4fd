//! The text of the configuration file. A file that could make `lb` wait, or take all memory, is not read.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The most bytes of a configuration file: a thousand backends take less than a tenth.
const MOST: u64 = 1 << 20;

/// What a file of UTF-8 begins with on some systems. TOML has no use for it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file, or what is wrong with it.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let bytes = bytes(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        format!("is not UTF-8 from byte {} (line {line}) on: expected a TOML file in UTF-8", good.len() + 1)
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err("begins with a byte order mark: expected UTF-8 without one".to_owned());
    }
    Ok(text)
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    // A named pipe without a writer would wait for one.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let kind = file.metadata().map_err(cannot)?.file_type();
    if kind.is_dir() {
        return Err("is a directory: expected a file".to_owned());
    }
    if !kind.is_file() {
        return Err("is a pipe, socket or device: expected a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MOST {
        return Err(format!("is longer than {MOST} bytes: expected a smaller file"));
    }
    Ok(bytes)
}
