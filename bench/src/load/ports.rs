//! What this host gives a generator, and what runs out: open files, and entries in the firewall's table of connections.
//! (Ports run out as well; see `connection`.)

use std::fs;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open besides connections.
const OTHER_FILES: usize = 100;
/// From this share of the table on, the kernel is about to drop connections: they would look like failures of the target.
const NEARLY_FULL: f64 = 0.95;

/// Raises the limit of open files as far as it goes, for this process and those that it starts; the limit.
pub(crate) fn raise_file_limit() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // To be refused leaves the limit as it was, and that one is read next.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Checks that there can be so many connections at a time.
///
/// # Errors
/// There are not enough files, whatever the limit was raised to.
pub(super) fn check_files(connections: usize) -> anyhow::Result<()> {
    let files = raise_file_limit();
    if connections.saturating_add(OTHER_FILES) > files {
        let most = files.saturating_sub(OTHER_FILES);
        bail!(
            "{connections} connections at a time: with its limit of {files} open files this process can have {most}"
        );
    }
    Ok(())
}

/// Whether the kernel tracks connections here and its table is nearly full; what to do about it then.
pub(super) fn tracking_is_full() -> Option<String> {
    let number = |name: &str| -> Option<f64> {
        fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?.trim().parse().ok()
    };
    let (count, most) = (number("count")?, number("max")?);
    (count > most * NEARLY_FULL).then(|| {
        format!(
            "this host's firewall tracks connections, and its table is full ({count} of {most}): from now on they would \
             be dropped. Run it in a network namespace of its own, or wait two minutes and send fewer"
        )
    })
}
