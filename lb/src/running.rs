//! An `lb` that runs, until its end: what brings it, and in which order its parts end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, warn};

use crate::life::{drain, told_to_stop};
use crate::provider::process::guardian::Guardianship;
use crate::provider::process::kindred::Kindred;
use crate::reload::Reloads;
use crate::service::Service;
use crate::socket_file::SocketFile;
use crate::systemd;
use crate::upgrade::Upgrading;

/// How often it is looked whether replicas have ended that are being removed, and how long they have.
const LOOK: Duration = Duration::from_millis(20);
const LEAVING: Duration = Duration::from_secs(7);

/// What brings the end.
pub(crate) struct Ends {
    /// `lb` is told to end.
    pub(crate) stop: CancellationToken,
    /// It ends at once.
    pub(crate) cut: CancellationToken,
    /// A part of the control plane has failed.
    pub(crate) failed: CancellationToken,
    /// A successor has taken over.
    pub(crate) succeeded: CancellationToken,
}

/// What is left of the sessions at the end.
pub(crate) struct Sessions {
    pub(crate) workers: TaskTracker,
    pub(crate) handed_over: TaskTracker,
    /// Resets them.
    pub(crate) evict: CancellationToken,
}

impl Sessions {
    /// Lets them end.
    async fn drain(&self, limit: Duration) {
        drain(&self.workers, &self.handed_over, limit, &self.evict).await;
    }
}

/// An `lb` that runs.
pub(crate) struct Running {
    pub(crate) ends: Ends,
    pub(crate) reloads: Reloads,
    pub(crate) upgrading: Upgrading,
    pub(crate) service: Service,
    pub(crate) controller: JoinHandle<anyhow::Result<()>>,
    /// Closes both ports.
    pub(crate) close: CancellationToken,
    /// The files of the data port's Unix sockets.
    pub(crate) data_files: Vec<Arc<SocketFile>>,
    pub(crate) sessions: Sessions,
    /// Ends the controller.
    pub(crate) over: CancellationToken,
    pub(crate) kindred: Arc<Kindred>,
    /// Whether the replicas are children of this process, or of a guardian.
    pub(crate) has_children: bool,
}

impl Running {
    /// Waits until it is told to end, and ends it. Children that were handed over may need a guardian then.
    ///
    /// # Errors
    /// The control plane has failed, or another `lb` has taken the fleet over.
    pub(crate) async fn until_over(mut self) -> anyhow::Result<Option<Guardianship>> {
        let Ends { stop, cut, failed, succeeded } = &self.ends;
        let limits = || self.reloads.ends.load();
        let is_for_both = tokio::select! {
            biased;
            ended = &mut self.controller => {
                // Without a controller no replica is looked after. A session that is cut off must not look complete.
                self.close.cancel();
                self.sessions.drain(Duration::ZERO).await;
                ended.context("the controller failed")??;
                bail!("the controller has ended");
            }
            () = failed.cancelled() => {
                error!("a part of the control plane has failed, so lb ends");
                stop.cancel();
                false
            }
            // From now on systemd signals the successor itself.
            () = succeeded.cancelled() => !systemd::is_told(),
            () = told_to_stop(stop, || limits().stop_delay, cut) => {
                self.upgrading.settle();
                true
            }
        };
        // It holds sockets, and the files of Unix sockets.
        let heir = self.upgrading.end().await;
        let drain_timeout = limits().drain_timeout;
        self.service.tell_end(drain_timeout, heir.is_some());
        self.close.cancel();
        drop(self.data_files);
        let passing = heir.filter(|_| is_for_both).map(|heir| tokio::spawn(pass_on(stop.clone(), heir)));
        let _passing = passing.map(AbortOnDropHandle::new);
        self.sessions.drain(drain_timeout).await;
        self.over.cancel();
        if let Some(heir) = heir.filter(|_| self.has_children) {
            return Ok(leave(&self.kindred, heir).await);
        }
        let controller = self.controller;
        let stopped = async { controller.await.context("the controller failed")? };
        cut.run_until_cancelled(stopped).await.unwrap_or(Ok(()))?;
        ensure!(!failed.is_cancelled(), "a part of the control plane has failed (the log says more)");
        Ok(heir.and_then(|heir| Guardianship::of(&self.kindred, heir)))
    }
}

/// A signal to end that reaches this process when its successor has taken over is meant for that one.
async fn pass_on(stop: CancellationToken, heir: u32) {
    stop.cancelled().await;
    let heir = i32::try_from(heir).ok().and_then(Pid::from_raw);
    if let Some(heir) = heir {
        // It fails if it has ended.
        let _ = kill_process(heir, Signal::TERM);
    }
}

/// Leaves the replicas to the process that holds them, when those have ended that it does not know.
async fn leave(kindred: &Arc<Kindred>, heir: u32) -> Option<Guardianship> {
    let all_gone = async {
        while kindred.left() > 0 {
            sleep(LOOK).await;
        }
    };
    if timeout(LEAVING, all_gone).await.is_err() {
        warn!("replicas that are being removed still run, and end with this process");
    }
    Guardianship::of(kindred, heir)
}
