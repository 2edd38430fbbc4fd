//! A command that runs once, for a short time, and ends with `lb`: it begins as a replica does ([`child`]), so its process group has a guard.

use std::io::{self, PipeReader};
use std::process::{ExitStatus, Stdio};

use proto::printable::clipped;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin, Command};

use super::child;
use super::reaper::{Children, Mark};

/// How much of the output is kept, in bytes. The rest is read and dropped.
const KEPT: usize = 4096;
/// The longest part of a line that is told, in characters.
const LONGEST_LINE: usize = 200;

/// A command that runs. Dropped, it is killed with all that it has started.
pub(crate) struct Errand {
    child: Child,
    group: Pid,
    has_ended: bool,
    /// The guard kills what is left of the group when this is closed.
    _line: Option<ChildStdin>,
    output: Receiver,
    _mark: Mark,
}

impl Errand {
    /// Starts a command for `sh -c` with these variables. It has no input. Call it on the thread that reaps children.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn begin(
        command: &str,
        port: u16,
        variables: &[(&str, String)],
        children: &Children,
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut errand = Command::new(child::PROGRAM);
        errand.arg0("lb-probe").args(child::errand(command, port));
        super::withhold(&mut errand);
        errand.envs(variables.iter().map(|(name, value)| (name, value)));
        errand.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = errand.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or_else(|| io::Error::other("it has no process id"))?;
        let mark = children.mark(group);
        let line = child.stdin.take();
        Ok(Errand { child, group, has_ended: false, _line: line, output: receiver(reader)?, _mark: mark })
    }

    /// Waits for its end. Returns its status and the first line of its output, errors among it.
    ///
    /// # Errors
    /// Its status or its output cannot be read.
    pub(crate) async fn end(mut self) -> io::Result<(ExitStatus, String)> {
        let (mut kept, mut chunk, mut is_open) = (Vec::new(), [0; 1024], true);
        let mut keep = |bytes: &[u8]| {
            kept.extend_from_slice(&bytes[..bytes.len().min(KEPT - kept.len())]);
        };
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                read = self.output.read(&mut chunk), if is_open => match read? {
                    0 => is_open = false,
                    n => keep(&chunk[..n]),
                },
            }
        };
        self.has_ended = true;
        // What it has written is there. Others of its group may hold the pipe open.
        while let Ok(n @ 1..) = self.output.try_read(&mut chunk) {
            keep(&chunk[..n]);
        }
        let text = String::from_utf8_lossy(&kept);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        Ok((status, clipped(line, LONGEST_LINE)))
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if !self.has_ended {
            // It fails if the group is empty.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}

fn receiver(reader: PipeReader) -> io::Result<Receiver> {
    Receiver::from_owned_fd(reader.into()).map_err(io::Error::other)
}
