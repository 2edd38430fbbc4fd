//! The limits of this host: open files, and entries in the firewall's connection table. (For ports see `connection`.)

use std::fs;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open besides connections.
const OTHER_FILES: usize = 100;
/// When this share of the table is used, the kernel will soon drop connections, which would look like failures of the target.
const NEARLY_FULL: f64 = 0.95;

/// Raises the limit of open files as far as possible, for this process and its children; returns the limit.
pub(crate) fn raise_file_limit() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // On an error the limit stays as it was, and is read next.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Checks that this process can have this many connections.
///
/// # Errors
/// The limit of open files is too low, even when it is raised.
pub(super) fn check_files(connections: usize) -> anyhow::Result<()> {
    let files = raise_file_limit();
    if connections.saturating_add(OTHER_FILES) > files {
        let most = files.saturating_sub(OTHER_FILES);
        bail!("{connections} connections are too many: the limit of {files} open files allows {most}");
    }
    Ok(())
}

/// An error message if the kernel tracks connections here and its table is nearly full.
pub(super) fn tracking_is_full() -> Option<String> {
    let number = |name: &str| -> Option<f64> {
        fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?.trim().parse().ok()
    };
    let (count, most) = (number("count")?, number("max")?);
    (count > most * NEARLY_FULL).then(|| {
        format!(
            "the connection table of this host's firewall is full ({count} of {most}), so the kernel would drop connections. \
             Run it in its own network namespace, or wait two minutes and send fewer"
        )
    })
}
