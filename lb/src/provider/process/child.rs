//! The program every child process begins as: `lb` itself, for a moment.
//!
//! It asks the kernel to be killed when its parent dies (`PR_SET_PDEATHSIG`, prctl(2)), which outlives the exec, and
//! only then becomes the replica. If `lb` was gone already, it does not even begin.
//!
//! That reaches the child alone. A command may start others, so its process group gets a guard: a process apart from it that
//! waits for the end of a pipe whose other end only `lb` holds, and kills the group then.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};

use clap::builder::OsStringValueParser;
use proto::control::Hostname;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

/// This very program, even if its file has been replaced since it was started.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// How [`PROGRAM`] is told to become a replica.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The process that started this one; if it is another by now, there is nobody to serve.
    #[arg(long)]
    parent: u32,
    /// What to become, for `sh -c`; without it, the demo server.
    #[arg(long)]
    exec: Option<String>,
    #[arg(long, env = "PORT")]
    port: u16,
    #[arg(long, env = "SERVER_ID")]
    id: String,
    #[arg(long, env = handoff::VARIABLE, value_parser = OsStringValueParser::new())]
    handoff: Option<OsString>,
}

/// What [`PROGRAM`] is called with. The hostname comes last: by it, `ps` and `pkill -f` tell demo replicas apart.
pub(super) fn arguments(command: Option<&str>, port: u16, hostname: &Hostname) -> Vec<String> {
    let mut arguments = vec!["replica".to_owned(), format!("--parent={}", std::process::id())];
    arguments
        .extend(command.map(|command| format!("--exec={}", command.replace("{port}", &port.to_string()))));
    arguments.push(format!("--id={hostname}"));
    arguments
}

/// The life of a child process.
///
/// # Errors
/// It cannot be tied to its parent, `sh` cannot be run, or the demo server cannot listen.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    if parent_id() != arguments.parent {
        return Ok(());
    }
    let Some(command) = &arguments.exec else { return serve(arguments) };
    // The pipe is the standard input here, and of the guard; the command has none.
    let group = std::process::id().to_string();
    Command::new(PROGRAM).arg0("lb-guard").args(["guard", &group]).process_group(0).spawn()?;
    Err(Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).exec().into())
}

/// The life of a guard: waits for the end of `lb`, or of its care for the process group, and ends what is left of that.
///
/// # Errors
/// The pipe cannot be read.
pub fn guard(group: i32) -> anyhow::Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    if let Some(group) = Pid::from_raw(group) {
        // There may be nobody left.
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
