//! The first moment of a child process, in which it is `lb` itself.
//!
//! It asks the kernel to kill it when its parent dies (`PR_SET_PDEATHSIG`, prctl(2)), which outlives the exec. Only then it
//! becomes the replica. If `lb` has already ended, it exits instead.
//!
//! The signal reaches the child alone. A command may start other processes, so its process group gets a guard: a separate process that
//! waits for the end of a pipe whose other end only `lb` holds, and then kills the group.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};

use clap::builder::OsStringValueParser;
use proto::control::Hostname;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

/// The running program, even if its file has been replaced.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// The arguments that make [`PROGRAM`] a replica.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The process that started this one. If the parent is another one by now, `lb` has ended.
    #[arg(long)]
    parent: u32,
    /// The command to become, for `sh -c`; without it, the demo server.
    #[arg(long)]
    exec: Option<String>,
    #[arg(long, env = "PORT")]
    port: u16,
    #[arg(long, env = "SERVER_ID")]
    id: String,
    #[arg(long, env = handoff::VARIABLE, value_parser = OsStringValueParser::new())]
    handoff: Option<OsString>,
}

/// The arguments of [`PROGRAM`]. The hostname comes last: by it, `ps` and `pkill -f` tell demo replicas apart.
pub(super) fn arguments(command: Option<&str>, port: u16, hostname: &Hostname) -> Vec<String> {
    let mut arguments = vec!["replica".to_owned(), format!("--parent={}", std::process::id())];
    arguments
        .extend(command.map(|command| format!("--exec={}", command.replace("{port}", &port.to_string()))));
    arguments.push(format!("--id={hostname}"));
    arguments
}

/// The arguments of [`PROGRAM`] for a command that asks after a replica at this port.
pub(super) fn errand(command: &str, port: u16) -> Vec<String> {
    let parent = std::process::id();
    [
        "replica".to_owned(),
        format!("--parent={parent}"),
        format!("--exec={command}"),
        format!("--port={port}"),
        "--id=probe".to_owned(),
    ]
    .into()
}

/// Runs a child process.
///
/// # Errors
/// It cannot be tied to its parent, `sh` cannot be run, or the demo server cannot listen.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    if parent_id() != arguments.parent {
        return Ok(());
    }
    let Some(command) = &arguments.exec else { return serve(arguments) };
    // The pipe is the standard input of this process and of the guard. The command gets none.
    let group = std::process::id().to_string();
    Command::new(PROGRAM).arg0("lb-guard").args(["guard", &group]).process_group(0).spawn()?;
    Err(Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).exec().into())
}

/// Runs the guard of a process group: waits until `lb` closes the pipe, then kills what is left of the group.
///
/// # Errors
/// The pipe cannot be read.
pub fn guard(group: i32) -> anyhow::Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    if let Some(group) = Pid::from_raw(group) {
        // It fails if the group is empty.
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(())
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = (std::net::Ipv4Addr::LOCALHOST, arguments.port).into();
    let door = arguments.handoff.as_deref().filter(|path| !path.is_empty()).map(Path::new);
    Ok(runtime.block_on(backend::run(address, &arguments.id, door))?)
}
