//! A network of one's own.
//!
//! Where the host's firewall tracks connections, a benchmark fills its table within seconds, and from then on connections
//! are dropped; and other programs have ports there. A network namespace has neither. It needs no name and no clean-up: it
//! goes with the last process in it, so `bench` is simply run again inside.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Brings up the loopback device, and becomes the program.
const INSIDE: &str = r#"ip link set lo up && exec "$0" "$@""#;

/// Runs this program again, with the same arguments and `marker` before them, in a network namespace of its own. Returns
/// only where none can be had: without unshare(1) and ip(8), or without the rights.
///
/// # Errors
/// A namespace could be had, and then it could not.
pub(crate) fn enter(marker: &str) -> anyhow::Result<()> {
    let Some(unshare) = way_in() else { return Ok(()) };
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new("unshare");
    command
        .args(unshare)
        .args(["sh", "-c", INSIDE])
        .arg(program)
        .arg(marker)
        .args(std::env::args_os().skip(1));
    let error: io::Error = command.exec();
    Err(error).context("cannot run unshare")
}

/// The arguments of unshare(1) that work here: as root, or as the root of a user namespace.
fn way_in() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    ways.into_iter().find(|way| {
        let mut command = Command::new("unshare");
        command.args(*way).args(["sh", "-c", INSIDE, "true"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
