//! The end of `lb`: what brings it, and how long the sessions have then. It stops no replica.

use std::sync::Arc;
use std::time::Duration;

use mapping::MappingPolicy;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// The longest that resetting the sessions may take at the end.
const CUT: Duration = Duration::from_millis(200);

/// What ends `lb`, and the sessions that end with it.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Cancelled: it gives both ports up after `--stop-delay`, drains, and stops what it started.
    pub stop: CancellationToken,
    /// Cancelled: it resets every session and ends at once. Its child processes end with the process; containers keep running for
    /// the next `lb`.
    pub cut: CancellationToken,
    /// Cancelled by a panic in the control plane ([`panics`](crate::panics)): it ends as when it is stopped, and with an error.
    pub failed: CancellationToken,
    /// Notified: the configuration is loaded again, if it is in a file.
    pub hangup: Arc<Notify>,
    /// Notified: a successor takes everything over ([`upgrade`](crate::upgrade)).
    pub upgrade: Arc<Notify>,
    /// All sessions of all workers.
    pub(crate) sessions: TaskTracker,
}

/// What the configuration says of the end of `lb`, and of what comes after it.
#[derive(Clone, Debug)]
pub(crate) struct EndRules {
    /// How long both ports stay open after the first signal.
    pub(crate) stop_delay: Duration,
    /// How long open connections may last then.
    pub(crate) drain_timeout: Duration,
    /// How keys are mapped. A successor has a configuration of its own, and is told only what differs from this one.
    pub(crate) mapping: MappingPolicy,
}

impl Life {
    /// Resets every session, in place of a control plane that has ended without it. Call it outside a runtime.
    pub fn cut_off(&self) {
        self.cut.cancel();
        self.sessions.close();
        // Without I/O, which may be what has failed.
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() {
            let _ = runtime.block_on(async { timeout(CUT, self.sessions.wait()).await });
        }
    }
}

/// Waits for the first signal, and then until the ports have to be closed: at the end of the delay that holds then, or with the second
/// signal.
pub(crate) async fn told_to_stop(
    stop: &CancellationToken,
    delay: impl FnOnce() -> Duration,
    cut: &CancellationToken,
) {
    stop.cancelled().await;
    let delay = delay();
    if !delay.is_zero() {
        info!(stop_delay = delay.as_secs_f64(), "stopping: /healthz says so, and both ports stay open");
        cut.run_until_cancelled(sleep(delay)).await;
    }
}

/// Waits until the workers have ended with their last session and every connection that was handed over is closed. After `limit`,
/// or when `evict` is cancelled, it resets what is left.
pub(crate) async fn drain(
    workers: &TaskTracker,
    handed_over: &TaskTracker,
    limit: Duration,
    evict: &CancellationToken,
) {
    workers.close();
    handed_over.close();
    let all = async {
        workers.wait().await;
        handed_over.wait().await;
    };
    let _ = timeout(limit, evict.run_until_cancelled(all)).await;
    if !workers.is_empty() || !handed_over.is_empty() {
        warn!("connections that are still open are cut off");
        evict.cancel();
        let _ = timeout(CUT, workers.wait()).await;
    }
}
