//! The guardian of children that were handed over: what an `lb` becomes when it has drained (`lb guardian`).
//!
//! The kernel has tied the children to this process, and tells it alone how they ended. So it stays, small, and tells the `lb` that holds
//! them. It ends with that `lb`, and the children with it; or when it has no child left, but not as the first process of a container, which
//! ends with its first process. Signals that are meant for `lb` reach this process, if it was started by hand or is the first one of a
//! container: it passes them on. It never stops a child.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Blocked};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, Signal, kill_process};
use rustix::stdio::dup2_stdin;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::info;

use super::child::PROGRAM;
use super::kindred::Kindred;
use super::line::{holder_of, tell_end};

/// How long the status of the `lb` that held the children is waited for.
const LAST: Duration = Duration::from_secs(1);
/// The first process of a container.
const FIRST: u32 = 1;

/// Signals that are passed on.
const PASSED_ON: [(Blocked, Signal); 5] = [
    (Blocked::SIGTERM, Signal::TERM),
    (Blocked::SIGINT, Signal::INT),
    (Blocked::SIGHUP, Signal::HUP),
    (Blocked::SIGUSR1, Signal::USR1),
    (Blocked::SIGUSR2, Signal::USR2),
];

fn passed_on() -> SigSet {
    PASSED_ON.iter().map(|(signal, _)| *signal).collect()
}

/// Whether this process has to go on as a guardian.
fn is_needed(kindred: &Kindred) -> bool {
    kindred.needs_guardian() || std::process::id() == FIRST
}

/// What is left to do for a process that has handed its children over.
#[derive(Debug)]
pub struct Guardianship {
    kindred: Arc<Kindred>,
    holder: u32,
}

impl Guardianship {
    /// That of the children of this process, which `holder` holds; `None` if they need no guardian.
    pub(crate) fn of(kindred: &Arc<Kindred>, holder: u32) -> Option<Self> {
        if !is_needed(kindred) {
            return None;
        }
        info!(successor = holder, "this process goes on as the guardian of its children");
        Some(Guardianship { kindred: Arc::clone(kindred), holder })
    }

    /// Becomes the guardian. Call it on the thread that has started the children, when all is written.
    ///
    /// # Errors
    /// It cannot, and the children end with this process. On success it does not return.
    #[must_use]
    pub fn begin(&self) -> io::Error {
        become_guardian(&self.kindred, self.holder)
    }
}

fn become_guardian(kindred: &Kindred, holder: u32) -> io::Error {
    let prepared = kindred.pass_on().and_then(|line| {
        dup2_stdin(line.ok_or_else(|| io::Error::other("there is no line to the successor"))?)?;
        // Until the guardian has its handlers.
        Ok(passed_on().thread_block()?)
    });
    if let Err(error) = prepared {
        return error;
    }
    Command::new(PROGRAM).arg0("lb-guardian").arg("guardian").arg(holder.to_string()).exec()
}

/// Runs the guardian.
///
/// # Errors
/// It was not started by `lb`.
pub fn guard_heirs(holder: i32) -> anyhow::Result<ExitCode> {
    let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(Guardian { line, holder, last: None }.run())?)
}

struct Guardian {
    line: UnixStream,
    holder: i32,
    /// How the process has ended that held the children, if it was a child of this one.
    last: Option<i32>,
}

impl Guardian {
    async fn run(mut self) -> io::Result<ExitCode> {
        self.line.set_nonblocking(true)?;
        let mut said = BufReader::new(tokio::net::UnixStream::from_std(self.line.try_clone()?)?);
        let mut ended = signal(SignalKind::child())?;
        let [mut terminate, mut interrupt, mut hangup, mut first, mut second] = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::user_defined1())?,
            signal(SignalKind::user_defined2())?,
        ];
        passed_on().thread_unblock()?;
        let mut text = String::new();
        loop {
            if !self.reap() && std::process::id() != FIRST {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::select! {
                read = said.read_line(&mut text) => {
                    if !matches!(read, Ok(1..)) {
                        return Ok(self.end().await);
                    }
                    self.holder = holder_of(&text).unwrap_or(self.holder);
                    text.clear();
                }
                _ = ended.recv() => {}
                _ = terminate.recv() => self.pass_on(Signal::TERM),
                _ = interrupt.recv() => self.pass_on(Signal::INT),
                _ = hangup.recv() => self.pass_on(Signal::HUP),
                _ = first.recv() => self.pass_on(Signal::USR1),
                _ = second.recv() => self.pass_on(Signal::USR2),
            }
        }
    }

    /// Takes the statuses of all children that have ended, and tells them. Whether there are children left.
    fn reap(&mut self) -> bool {
        loop {
            let (id, status) = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
                Ok(WaitStatus::Exited(id, code)) => (id.as_raw(), (code & 0xff) << 8),
                Ok(WaitStatus::Signaled(id, signal, is_dumped)) => {
                    (id.as_raw(), signal as i32 | if is_dumped { 0x80 } else { 0 })
                }
                Ok(_) => return true,
                Err(_) => return false,
            };
            if id == self.holder {
                self.last = Some(status);
            }
            let _ = tell_end(&self.line, id, status);
        }
    }

    fn pass_on(&self, signal: Signal) {
        // systemd knows who it has to signal.
        if crate::systemd::is_told() {
            return;
        }
        if let Some(holder) = Pid::from_raw(self.holder) {
            // It fails if it has ended.
            let _ = kill_process(holder, signal);
        }
    }

    /// The process that held the children is gone. Its exit code, if this is its parent.
    async fn end(&mut self) -> ExitCode {
        let deadline = tokio::time::Instant::now() + LAST;
        while self.reap() && self.last.is_none() && std::process::id() == FIRST {
            if tokio::time::Instant::now() >= deadline {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        match self.last {
            Some(status) if status & 0x7f == 0 => ExitCode::from(u8::try_from(status >> 8).unwrap_or(1)),
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        }
    }
}
