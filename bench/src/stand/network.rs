//! Runs `bench` in its own network namespace.
//!
//! If the host's firewall tracks connections, a benchmark fills its table within seconds, and the kernel then drops
//! connections; and other programs use ports of the host. A new namespace has neither problem. It needs no name and no
//! clean-up: it ends with the last process in it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Brings the loopback device up, then becomes the program.
const INSIDE: &str = r#"ip link set lo up && exec "$0" "$@""#;

/// Runs this program again in a new network namespace, with the same arguments after `marker`. Returns only if that is not
/// possible: without unshare(1) and ip(8), or without the permission.
///
/// # Errors
/// A first try succeeded, and the second one failed.
pub(crate) fn enter(marker: &str) -> anyhow::Result<()> {
    let Some(unshare) = way_in() else { return Ok(()) };
    let program = std::env::current_exe().context("cannot find the path of this program")?;
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
