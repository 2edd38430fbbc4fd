//! What `lb` writes down beside its log: the journal, and the log of connections. It opens their files.

use std::path::PathBuf;
use std::sync::Arc;

use crate::access::{AccessLog, AccessRules};
use crate::appender::Guard;
use crate::journal::{self, Journal};

/// The journal, and the log of connections if there is one.
#[derive(Clone, Debug)]
pub struct Records {
    /// What has happened.
    pub journal: Arc<Journal>,
    /// The log of connections.
    pub access: Option<Arc<AccessLog>>,
}

/// Opens their files, and starts the threads that write them. (The journal is rotated at so many bytes.) Keep the guards until the end.
///
/// # Errors
/// A file cannot be written.
pub fn open(
    journal: Option<&(PathBuf, u64)>,
    access: Option<&AccessRules>,
) -> anyhow::Result<(Records, Vec<Guard>)> {
    let (journal, journal_file) = journal::open(journal)?;
    let (access, access_file) = access.map(AccessLog::open).transpose()?.unzip();
    Ok((Records { journal, access }, journal_file.into_iter().chain(access_file).collect()))
}
