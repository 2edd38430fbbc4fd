//! `lb`: a self-healing layer-4 TCP load balancer.
//!
//! Two planes, and one way between them. The control plane decides what the fleet is and publishes it as a snapshot. The
//! data plane reads the newest snapshot and moves bytes. They never import each other.
//!
//! In reading order: [`config`] reads flags and environment; the crate [`mapping`] maps keys to slots; `fleet` decides, as a
//! pure state machine; `replica` is the shared state of one running replica; `snapshot` is the fleet as the data plane sees
//! it; `data` serves connections; `control` owns the fleet; `provider` starts and stops replicas; [`client`] is the other
//! end of the control port. [`run`] is the whole task graph. The crate `simulate` compares mappings, offline.

pub mod client;
pub mod config;
mod control;
mod data;
mod fleet;
pub mod log;
mod net;
pub mod printable;
pub mod privileges;
mod provider;
mod refusals;
mod replica;
mod snapshot;
mod sock_diag;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use proto::control::{Hostname, Transport};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use config::{Config, Source};
use control::port::{self, Desk, Listeners};
use control::{Controller, Ending, Setup};
use data::{
    Admission, FileBudget, Memory, Pipes, Plane, Stalls, Warnings, Worker, listener, memory, stalls, watchdog,
};
use fleet::{Effect, Fleet, Lineup, Names, Policy};
use net::Throttle;
use provider::Provider;
use provider::doors::{Doors, Owner};
use provider::engine::docker::Docker;
#[doc(hidden)]
pub use provider::engine::record::rewritten as rewritten_record;
use provider::fixed::Fixed;
use provider::process::Process;
pub use provider::process::child::{guard, run as become_replica};
use provider::process::reaper::{self, Children};
use snapshot::{Cell, Snapshot};

/// The most commands that may wait for the controller.
const REQUESTS: usize = 64;

/// The longest that resetting the sessions may take at the end.
const CUT: Duration = Duration::from_millis(200);

/// Binding a port below this one is a privilege (ip(7)).
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The ports, bound.
pub struct Ports {
    data: Vec<std::net::TcpListener>,
    control: Listeners,
}

/// Binds the ports, and gives up every privilege that is not needed from then on. Call it while there is one thread.
///
/// # Errors
/// A port cannot be bound, or the kernel refuses to take the privileges.
pub fn bind(config: &Config) -> anyhow::Result<Ports> {
    privileges::hide()?;
    if !config.allow_new_privileges {
        privileges::refuse_new()?;
    }
    let data = listener::bind(config.listen, config.workers, &config.limits.peer)
        .with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
    let control = Listeners::open(&config.control)?;
    if let Some(user) = config.user {
        data.iter().try_for_each(|listener| user.own(listener)).context("cannot give the ports to --user")?;
        control.give_to(user).context("cannot give the control port to --user")?;
        let low_ports = (1..FIRST_UNPRIVILEGED).contains(&config.listen.port());
        user.take_on(low_ports).context("cannot change to --user")?;
        // The kernel forgets it when the user changes.
        privileges::hide()?;
    }
    Ok(Ports { data, control })
}

/// Serves until `stop` is cancelled. Then it gives both ports up after `--stop-delay`, drains, stops what it started, and
/// returns. When `cut` is cancelled, it resets every session and returns at once. Its child processes then end with the process;
/// containers keep running for the next `lb`.
///
/// Run it on a current-thread runtime that lives as long as the process: the kernel ties each child process to the *thread*
/// that started it.
///
/// # Errors
/// A worker cannot be started, or there is no container engine: then nothing runs. Or another `lb` has
/// taken the containers over.
pub async fn run(
    config: Config,
    ports: Ports,
    stop: CancellationToken,
    cut: CancellationToken,
) -> anyhow::Result<()> {
    let Ports { data: listeners, control } = ports;
    let data = listeners.first().context("there is no worker")?.local_addr()?;
    let addresses = (data, control.address().context("there is no control address")?.clone());
    info!("listening data={} control={}", addresses.0, addresses.1);

    let cell = Arc::new(Cell::from_pointee(Snapshot::empty(&config.mapping)?));
    let plane = Arc::new(plane(&config, Arc::clone(&cell), listeners)?);
    let (evict, drain_timeout, stop_delay, token) =
        (cut.child_token(), config.drain_timeout, config.stop_delay, config.control_token.clone());
    // Both ports are open until this is cancelled, so that a successor can bind both when the drain begins.
    let close = CancellationToken::new();
    let over = CancellationToken::new();
    let ending = Ending { stop: stop.clone(), over: over.clone() };
    // Replicas that keep running keep the connections that were handed over.
    let handed_over = if config.replicas_go_on() { TaskTracker::new() } else { plane.handed_over.clone() };
    let (fleet, setup) = assemble(config, cell, ending, &plane, evict.clone()).await?;
    let workers = TaskTracker::new();
    watchdog::start(&plane, &close, &workers)?;

    let (requests, requested) = mpsc::channel(REQUESTS);
    let watched = Arc::clone(&plane);
    let _memory = AbortOnDropHandle::new(tokio::spawn(async move {
        memory::watch(&watched.memory, &watched.pipes).await;
    }));

    let watched = Arc::clone(&plane);
    let _stalls = AbortOnDropHandle::new(tokio::spawn(async move {
        stalls::watch(&watched.stalls, &watched.sessions).await;
    }));

    let (ready, all_up) = oneshot::channel();
    let desk = Desk::new(requests, token);
    let _port = port::start(control, desk, plane.files.control_connections(), close.clone())?;
    let mut controller = tokio::spawn(Controller::run(fleet, setup, ready, requested));
    tokio::spawn(async move {
        if let Ok(replicas) = all_up.await {
            info!("ready data={} control={} replicas={replicas}", addresses.0, addresses.1);
        }
    });

    tokio::select! {
        () = told_to_stop(&stop, stop_delay, &cut) => {}
        ended = &mut controller => {
            // Without a controller no replica is looked after. A session that is cut off must not look complete.
            close.cancel();
            drain(&workers, &handed_over, Duration::ZERO, &evict).await;
            ended.context("the controller failed")??;
            bail!("the controller has ended");
        }
    }
    info!("stopping: connections may finish for {drain_timeout:?}");
    close.cancel();
    drain(&workers, &handed_over, drain_timeout, &evict).await;
    over.cancel();
    let stopped = async { controller.await.context("the controller failed")? };
    cut.run_until_cancelled(stopped).await.unwrap_or(Ok(()))
}

/// Waits for the first signal, and then until the ports have to be closed: at the end of the delay, or with the second signal.
async fn told_to_stop(stop: &CancellationToken, delay: Duration, cut: &CancellationToken) {
    stop.cancelled().await;
    if !delay.is_zero() {
        info!("stopping: /healthz says so, and both ports stay open for {delay:?}");
        cut.run_until_cancelled(sleep(delay)).await;
    }
}

/// What the workers share.
fn plane(config: &Config, fleet: Arc<Cell>, listeners: Vec<std::net::TcpListener>) -> io::Result<Plane> {
    let workers = (1..).zip(listeners).map(|(number, listener)| Worker::new(number, listener));
    let others = port::files(&config.control) + provider::process::FILES;
    let files = FileBudget::of_this_process(config.workers, config.spares, config.splice.is_some(), others);
    Ok(Plane {
        fleet,
        limits: config.limits.clone(),
        admission: Admission::new(&config.admission),
        refusals: Arc::default(),
        pipes: Pipes::new(config.splice.unwrap_or(0), files.pipes(), config.workers),
        memory: Memory::default(),
        stalls: Stalls::new(config.limits.peer.unacknowledged()),
        warnings: Warnings::default(),
        files,
        workers: workers.collect::<Result<_, _>>()?,
        troubles: Throttle::default(),
        sessions: TaskTracker::new(),
        handed_over: TaskTracker::new(),
    })
}

/// Assembles the fleet that `lb` begins with, and what its controller works with.
async fn assemble(
    config: Config,
    cell: Arc<Cell>,
    ending: Ending,
    plane: &Arc<Plane>,
    evict: CancellationToken,
) -> anyhow::Result<((Fleet, Vec<Effect>), Setup)> {
    let policy = Policy {
        mapping: config.mapping.clone(),
        start_timeout: config.start_timeout,
        same_name: config.same_name,
        restartable: !matches!(config.source, Source::Fixed(_)),
        keep: matches!(&config.source, Source::Docker(settings) if settings.keep),
    };
    let owner = if matches!(config.source, Source::Docker(_)) { Owner::OfReplicas } else { Owner::Ours };
    let doors = match config.limits.transport {
        Transport::Proxy => None,
        Transport::Handoff => Some(Doors::open(config.handoff_dir.as_deref(), owner)?),
    };
    let children = Children::default();
    tokio::spawn(reaper::reap(children.clone())?);
    let (provider, names, lineup) = match config.source {
        Source::Process { command } => {
            let lineup = Lineup::new(config.slots, config.spares);
            let process = Process::new(command, doors, children).context("a thread cannot be started")?;
            (Provider::Process(process), Names::Random, lineup)
        }
        Source::Docker(settings) => {
            let names: Vec<Hostname> = config.slots.into_iter().map(|(name, _)| name).collect();
            let wanted = (names.as_slice(), config.spares);
            let (docker, found) = Docker::open(settings, doors, wanted, &config.mapping.scheme).await?;
            (Provider::Docker(docker), Names::Random, Lineup::of(found.seats, found.spares, config.spares))
        }
        Source::Fixed(backends) => {
            let names = backends.iter().map(|backend| (backend.name.clone(), backend.weight)).collect();
            let lineup = Lineup::new(config.slots, config.spares);
            (Provider::Fixed(Fixed::new(backends, doors)), Names::Fixed(names), lineup)
        }
    };
    let fleet = Fleet::new(policy, names, lineup, fastrand::u64(..));
    let refusals = Arc::clone(&plane.refusals);
    let plane = Arc::clone(plane);
    let setup = Setup {
        health: config.health,
        drain_timeout: config.drain_timeout,
        most_per_replica: config.most_per_replica,
        refusals,
        provider,
        cell,
        ending,
        accepts: Box::new(move || plane.accepts()),
        evict,
    };
    Ok((fleet, setup))
}

/// Waits until the workers have ended with their last session and every connection that was handed over is closed. After `limit`,
/// or when `evict` is cancelled, it resets what is left.
async fn drain(workers: &TaskTracker, handed_over: &TaskTracker, limit: Duration, evict: &CancellationToken) {
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
