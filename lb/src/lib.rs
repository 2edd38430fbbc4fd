//! `lb`: a self-healing layer-4 TCP load balancer.
//!
//! Two planes and one way between them. The control plane decides what the fleet is and publishes it as a snapshot; the
//! data plane reads the newest snapshot and moves bytes. They never import each other.
//!
//! In reading order: [`config`] is what the user wants; [`ring`] maps keys to slots; [`snapshot`] is what both planes see;
//! [`data`] serves connections; [`control`] owns the fleet; `provider` starts and stops replicas; [`client`] is the
//! other end of the control port. [`run`] below is the whole task graph.

pub mod client;
pub mod config;
pub mod control;
pub mod data;
pub mod log;
mod net;
mod provider;
pub mod ring;
pub mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use config::{Config, Source};
use control::fleet::{Effect, Fleet, Names, Policy};
use control::port::{self, Desk};
use control::{Controller, Message, Setup};
use data::{FileBudget, Plane, listener};
use provider::Provider;
use provider::fixed::Fixed;
use provider::process::Process;
pub use provider::process::child::run as become_replica;
use snapshot::{Cell, Snapshot};

/// Messages to the controller that may wait.
const MAILBOX: usize = 1024;
/// How long sessions may take to end after they were evicted.
const EVICTION: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled; then drains, stops what it started, and returns.
///
/// To be run on a current-thread runtime that lives as long as the process: the kernel ties each child process to the
/// *thread* that started it.
///
/// # Errors
/// A port cannot be bound, or a worker cannot be started; nothing runs then.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let listeners = listener::bind(config.listen, config.workers)
        .with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
    let control = TcpListener::bind(config.control)
        .await
        .with_context(|| format!("cannot listen on {} (--control)", config.control))?;
    let data = listeners.first().context("there is no worker")?.local_addr()?;
    let addresses = (data, control.local_addr()?);

    info!("listening data={} control={}", addresses.0, addresses.1);

    let cell = Arc::new(Cell::from_pointee(Snapshot::empty()));
    let plane = Arc::new(Plane {
        fleet: Arc::clone(&cell),
        limits: config.limits.clone(),
        files: FileBudget::of_this_process(config.workers),
        sessions: TaskTracker::new(),
    });
    let workers = TaskTracker::new();
    for (number, listener) in (1..).zip(listeners) {
        listener::spawn(number, listener, Arc::clone(&plane), stop.clone(), workers.token())?;
    }

    let (mailbox, inbox) = mpsc::channel(MAILBOX);
    let (ready, all_up) = oneshot::channel();
    let drain_timeout = config.drain_timeout;
    let desk = Arc::new(Desk::new(mailbox.clone(), config.control_token.clone()));
    let _port = AbortOnDropHandle::new(tokio::spawn(port::run(control, desk)));
    let (fleet, setup) = plan(config, cell);
    let controller = tokio::spawn(Controller::run(fleet, setup, ready, (mailbox.clone(), inbox)));
    tokio::spawn(async move {
        if let Ok(replicas) = all_up.await {
            info!("ready data={} control={} replicas={replicas}", addresses.0, addresses.1);
        }
    });

    stop.cancelled().await;
    info!("stopping: connections may finish for {drain_timeout:?}");
    drain(&workers, drain_timeout, &plane.fleet).await;
    // It fails only if the controller has ended.
    let _ = mailbox.send(Message::Shutdown).await;
    controller.await.context("the controller failed")
}

/// The fleet to begin with, and what its controller works with.
fn plan(config: Config, cell: Arc<Cell>) -> ((Fleet, Vec<Effect>), Setup) {
    let policy = Policy {
        algorithm: config.algorithm,
        start_timeout: config.start_timeout,
        same_name: config.same_name,
        restartable: matches!(config.source, Source::Process { .. }),
    };
    let (provider, names) = match config.source {
        Source::Process { command } => (Provider::Process(Process::new(command)), Names::Random),
        Source::Fixed(backends) => {
            let names = backends.iter().map(|(name, _)| name.clone()).collect();
            (Provider::Fixed(Fixed::new(backends)), Names::Fixed(names))
        }
    };
    let fleet = Fleet::new(policy, names, config.slots, config.spares, fastrand::u64(..));
    let (algorithm, health, drain_timeout) = (config.algorithm, config.health, config.drain_timeout);
    (fleet, Setup { algorithm, health, drain_timeout, provider, cell })
}

/// Waits for the workers to end with their last session; when it has been long enough, ends the sessions.
async fn drain(workers: &TaskTracker, limit: Duration, cell: &Cell) {
    workers.close();
    if timeout(limit, workers.wait()).await.is_err() {
        warn!("connections that are still open are reset");
        cell.load()
            .slots()
            .iter()
            .filter_map(|slot| slot.replica.as_ref())
            .for_each(|replica| replica.evict());
        let _ = timeout(EVICTION, workers.wait()).await;
    }
}
