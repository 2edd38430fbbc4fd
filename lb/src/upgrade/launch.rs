//! Starts a successor.
//!
//! `lb` does not start it directly but through a process that ends at once (`lb launch`). So the successor is a child of the process that
//! looks after services (systemd, or the first process of a container), and not of an `lb` that will end. It leads a process group of
//! its own, and its standard input is the connection to its predecessor.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, io};

use anyhow::Context as _;

use super::message::Message;
use super::wire::Wire;
use crate::systemd;

/// Set for a successor.
pub(super) const VARIABLE: &str = "LB_PREDECESSOR";
/// The running program, even if its file has been replaced.
const PROGRAM: &str = "/proc/self/exe";
/// What the kernel says behind the path of a file that is gone (proc(5)).
const DELETED: &str = " (deleted)";

/// The program that a successor runs if no other one is given: the file from which this `lb` was started, as it is now.
pub(super) fn own_program() -> io::Result<PathBuf> {
    let path = std::fs::read_link(PROGRAM)?;
    Ok(match path.to_str().and_then(|path| path.strip_suffix(DELETED)) {
        Some(replaced) => PathBuf::from(replaced),
        None => path,
    })
}

/// Has a successor started that runs this program with the arguments of this process. Returns the connection to it, over which it is
/// told first that the successor runs, or why it does not.
///
/// # Errors
/// There is a shortage of processes or files.
pub(super) fn start(program: &PathBuf) -> io::Result<Wire> {
    let (ours, theirs) = Wire::pair()?;
    let mut command = Command::new(PROGRAM);
    command.arg0("lb-launch").arg("launch").arg(program).arg("--").args(env::args_os().skip(1));
    let mut launcher = command.stdin(theirs.into_file()).stdout(Stdio::inherit()).spawn()?;
    drop(command);
    // It ends at once. The status may have been taken by who reaps every child.
    let _ = launcher.wait();
    Ok(ours)
}

/// Starts a program as the successor, and tells the predecessor, which is at the other end of the standard input.
///
/// # Errors
/// The standard input is something else.
pub fn launch(program: &PathBuf, arguments: &[OsString]) -> anyhow::Result<()> {
    let wire = Wire::of(io::stdin().as_fd().try_clone_to_owned()?).context("started by hand")?;
    let mut command = Command::new(program);
    command.args(arguments).env(VARIABLE, "1").process_group(0);
    for variable in systemd::OF_ONE_PROCESS {
        command.env_remove(variable);
    }
    let told = match command.spawn() {
        Ok(successor) => Message::Launched { pid: successor.id() },
        Err(error) => Message::Failed { reason: format!("cannot run {}: {error}", program.display()) },
    };
    Ok(wire.send(&told, &[])?)
}
