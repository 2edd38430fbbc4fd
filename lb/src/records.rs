//! What `lb` writes down beside its log: the journal, and the log of connections. It opens their files.

use std::path::PathBuf;
use std::sync::Arc;

use crate::access::{AccessLogs, AccessRules};
use crate::appender::Guard;
use crate::journal::{self, Journal};

/// The journal, and the log of connections.
#[derive(Clone, Debug)]
pub struct Records {
    /// What has happened.
    pub journal: Arc<Journal>,
    /// The log of connections.
    pub access: Arc<AccessLogs>,
}

/// When it is dropped, the lines that still wait are written, for a second or two at most.
#[must_use]
#[derive(Debug)]
pub struct Files {
    _journal: Option<Guard>,
    access: Arc<AccessLogs>,
}

impl Drop for Files {
    fn drop(&mut self) {
        self.access.end();
    }
}

/// Opens their files, and starts the threads that write them. (The journal is rotated at so many bytes.) Keep the files until the end.
///
/// # Errors
/// A file cannot be written.
pub fn open(
    journal: Option<&(PathBuf, u64)>,
    access: Option<&AccessRules>,
) -> anyhow::Result<(Records, Files)> {
    let (journal, journal_file) = journal::open(journal)?;
    let access = AccessLogs::open(access)?;
    let files = Files { _journal: journal_file, access: Arc::clone(&access) };
    Ok((Records { journal, access }, files))
}
