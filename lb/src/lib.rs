//! `lb`: a self-healing layer-4 TCP load balancer.
//!
//! Two planes, and one way between them. The control plane decides what the fleet is and publishes it as a snapshot. The
//! data plane reads the newest snapshot and moves bytes. They never import each other.
//!
//! In reading order: [`config`] reads flags and environment; the crate [`mapping`] maps keys to slots; the crate [`fleet`]
//! decides, as a pure state machine; `replica` is the shared state of one running replica; `snapshot` is the fleet as the data plane sees
//! it; `data` serves connections; `control` owns the fleet; `provider` starts and stops replicas; [`client`] is the other
//! end of the control port, and [`top`] its view on a terminal. [`run`] is the whole task graph. The crate `simulate` compares mappings, offline.

pub mod access;
mod appender;
pub mod client;
pub mod config;
mod control;
mod data;
mod data_port;
mod demo;
pub mod journal;
mod life;
pub mod log;
mod metrics;
mod net;
pub mod panics;
pub mod privileges;
mod provider;
pub mod records;
mod refusals;
pub mod replay;
mod replica;
mod resolver;
mod snapshot;
mod sock_diag;
mod socket_file;
pub mod top;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fleet::{Authority, Effect, Fleet, Lineup, Names, Policy, Roster};
use mapping::MappingPolicy;
use proto::control::{Hostname, Transport, Weight};
use proto::journal::Event as Happened;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info};

use access::AccessLog;
use config::{Config, Resolution, Source};
use control::port::{self, Desk, Listeners, Port, Purpose};
use control::{Clock, Controller, Ending, Exposition, Setup, Sources};
use data::{
    Admission, FileBudget, Memory, Networks, Pipes, Plane, Stalls, Warnings, memory, stalls, watchdog,
};
use data_port::{DataPort, listed, tcp};
use journal::Journal;
pub use life::Life;
use life::{drain, told_to_stop};
use metrics::Metrics;
use net::{ListenAddress, Throttle};
use provider::Provider;
use provider::dns::Dns;
use provider::doors::{Doors, Owner};
use provider::engine::docker::Docker;
#[doc(hidden)]
pub use provider::engine::record::rewritten as rewritten_record;
use provider::engine::swarm::{self, Swarm};
use provider::fixed::Fixed;
use provider::process::Process;
pub use provider::process::child::{guard, run as become_replica};
use provider::process::reaper::{self, Children};
use records::Records;
use resolver::Resolver;
use snapshot::{Cell, Snapshot};

/// The most commands that may wait for the controller.
const REQUESTS: usize = 64;

/// Binding a port below this one is a privilege (ip(7)).
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The ports, bound.
pub struct Ports {
    data: DataPort,
    control: Listeners,
    metrics: Option<Listeners>,
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
    let data = DataPort::bind(&config.listen, config.workers, &config.limits.peer)?;
    let control = Listeners::open(&config.control, "--control")?;
    let metrics = config.metrics.map(ListenAddress::Tcp);
    let metrics = metrics.map(|address| Listeners::open(&[address], "--metrics")).transpose()?;
    if let Some(user) = config.user {
        data.give_to(user).context("cannot give the ports to --user")?;
        control.give_to(user).context("cannot give the control port to --user")?;
        metrics.iter().try_for_each(|port| port.give_to(user)).context("cannot give --metrics to --user")?;
        let mut ports = config.listen.iter().filter_map(tcp).map(|address| address.port());
        let low_ports = ports.any(|port| (1..FIRST_UNPRIVILEGED).contains(&port));
        user.take_on(low_ports).context("cannot change to --user")?;
        // The kernel forgets it when the user changes.
        privileges::hide()?;
    }
    Ok(Ports { data, control, metrics })
}

/// Serves until its `life` is over.
///
/// Run it on a current-thread runtime that lives as long as the process: the kernel ties each child process to the *thread*
/// that started it.
///
/// # Errors
/// A worker cannot be started, or there is no container engine: then nothing runs. Or another `lb` has
/// taken the containers over, or the control plane has failed.
pub async fn run(config: Config, ports: Ports, life: Life, records: Records) -> anyhow::Result<()> {
    let Records { journal, access } = records;
    let Life { stop, cut, failed, sessions } = life;
    let Ports { data, control, metrics } = ports;
    let DataPort { addresses: data, listeners, files } = data;
    let addresses = (data, control.address().context("there is no control address")?.clone());
    tell_start(&addresses, &journal);

    let cell = Arc::new(Cell::from_pointee(Snapshot::empty(&config.mapping)?));
    let plane = Arc::new(plane(&config, Arc::clone(&cell), listeners, (access, sessions))?);
    let (evict, drain_timeout, stop_delay, token) =
        (cut.child_token(), config.drain_timeout, config.stop_delay, config.control_token.clone());
    let (is_demo, key) = (config.demo, config.limits.key.clone());
    // Both ports are open until this is cancelled, so that a successor can bind both when the drain begins.
    let close = CancellationToken::new();
    // Without a control plane, no worker accepts.
    let _closed_at_last = close.clone().drop_guard();
    let over = CancellationToken::new();
    let ending = Ending { stop: stop.clone(), over: over.clone() };
    // Replicas that keep running keep the connections that were handed over.
    let handed_over = if config.replicas_go_on() { TaskTracker::new() } else { plane.handed_over.clone() };
    let (fleet, setup) =
        assemble(config, (Arc::clone(&cell), Arc::clone(&journal)), ending, &plane, evict.clone()).await?;
    let workers = TaskTracker::new();
    watchdog::start(&plane, &close, &workers)?;

    let (requests, requested) = mpsc::channel(REQUESTS);
    let _watch = AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&plane))));

    let (ready, all_up) = oneshot::channel();
    let exposition = exposition(&plane, &setup);
    let measures = (Arc::clone(&plane.metrics), Arc::clone(&exposition));
    let desk = Desk::new(requests, cell, Arc::clone(&journal), (token, key), measures);
    let _ports = open((control, desk), (metrics, exposition), plane.files.control_connections(), &close)?;
    let mut controller = tokio::spawn(Controller::run(fleet, setup, ready, requested));
    let demo = is_demo.then(|| close.clone());
    tokio::spawn(tell_when_ready(all_up, addresses, Arc::clone(&journal), demo));

    tokio::select! {
        biased;
        ended = &mut controller => {
            // Without a controller no replica is looked after. A session that is cut off must not look complete.
            close.cancel();
            drain(&workers, &handed_over, Duration::ZERO, &evict).await;
            ended.context("the controller failed")??;
            bail!("the controller has ended");
        }
        () = failed.cancelled() => {
            error!("a part of the control plane has failed, so lb ends");
            stop.cancel();
        }
        () = told_to_stop(&stop, stop_delay, &cut) => {}
    }
    journal.record(Happened::Stopping {});
    info!(drain_timeout = drain_timeout.as_secs_f64(), "stopping: connections may finish");
    close.cancel();
    drop(files);
    drain(&workers, &handed_over, drain_timeout, &evict).await;
    over.cancel();
    let stopped = async { controller.await.context("the controller failed")? };
    cut.run_until_cancelled(stopped).await.unwrap_or(Ok(()))?;
    ensure!(!failed.is_cancelled(), "a part of the control plane has failed (the log says more)");
    Ok(())
}

fn tell_start((data, control): &(Vec<ListenAddress>, ListenAddress), journal: &Journal) {
    let data = listed(data);
    info!(%data, %control, "listening data={data} control={control}");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    journal.record(Happened::Started { version, data, control: control.to_string() });
}

/// Tells when all replicas are in rotation. From then on, a demo has its load until the ports are closed.
async fn tell_when_ready(
    all_up: oneshot::Receiver<usize>,
    (addresses, control): (Vec<ListenAddress>, ListenAddress),
    journal: Arc<Journal>,
    demo: Option<CancellationToken>,
) {
    let Ok(replicas) = all_up.await else { return };
    let data = listed(&addresses);
    info!(%data, %control, replicas, "ready data={data} control={control} replicas={replicas}");
    journal.record(Happened::Ready { replicas });
    if let (Some(close), Some(data)) = (demo, addresses.iter().find_map(tcp)) {
        let page = if let ListenAddress::Tcp(address) = control { Some(address) } else { None };
        close.run_until_cancelled(demo::run(data, page)).await;
    }
}

/// Watches what the workers share, and logs what is short, refused or lost.
async fn watch(plane: Arc<Plane>) {
    let memory = memory::watch(&plane.memory, &plane.pipes);
    let stalls = stalls::watch(&plane.stalls, &plane.sessions);
    let lines = async {
        if let Some(access) = &plane.access {
            access.report().await;
        }
    };
    tokio::join!(memory, stalls, plane.refusals.report(), plane.warnings.report(), lines);
}

/// What the workers share.
fn plane(
    config: &Config,
    fleet: Arc<Cell>,
    listeners: Vec<Vec<TcpListener>>,
    (access, sessions): (Option<Arc<AccessLog>>, TaskTracker),
) -> io::Result<Plane> {
    let resolver = if config.source.resolves_names() { resolver::FILES } else { 0 };
    let journal = if config.journal.is_some() { journal::file::FILES } else { 0 };
    let log = if config.access.is_some() { access::FILES } else { 0 };
    let metrics = config.metrics.map_or(0, |at| port::files(&[ListenAddress::Tcp(at)]) + port::SCRAPERS);
    let demo = if config.demo { demo::FILES } else { 0 };
    let ports = port::files(&config.control) + data_port::files(&listeners) + metrics;
    let others = ports + provider::process::FILES + resolver + journal + log + demo;
    let files = FileBudget::of_this_process(config.workers, config.spares, config.splice.is_some(), others);
    Ok(Plane {
        fleet,
        limits: config.limits.clone(),
        access,
        admission: Admission::new(&config.admission),
        proxies: Networks::some(&config.proxies),
        metrics: Arc::new(Metrics::new(config.workers)),
        refusals: Arc::default(),
        pipes: Pipes::new(config.splice.unwrap_or(0), files.pipes(), config.workers),
        memory: Memory::default(),
        stalls: Stalls::new(config.limits.peer.unacknowledged()),
        warnings: Warnings::default(),
        files,
        workers: data_port::workers(listeners, config.workers)?,
        troubles: Throttle::default(),
        sessions,
        handed_over: TaskTracker::new(),
    })
}

/// Opens the control port, with so many connections, and the one for metrics, if there is one. They are closed when they are dropped.
fn open(
    (control, desk): (Listeners, Desk),
    (metrics, exposition): (Option<Listeners>, Arc<Exposition>),
    connections: usize,
    close: &CancellationToken,
) -> anyhow::Result<(Port, Option<Port>)> {
    let metrics = metrics
        .map(|listeners| port::start(listeners, Purpose::Metrics(exposition), port::SCRAPERS, close.clone()));
    let control = port::start(control, Purpose::Control(Arc::new(desk)), connections, close.clone())?;
    Ok((control, metrics.transpose()?))
}

/// Where metrics come from.
fn exposition(plane: &Arc<Plane>, setup: &Setup) -> Arc<Exposition> {
    let plane = Arc::clone(plane);
    Arc::new(Exposition::new(Sources {
        metrics: Arc::clone(&plane.metrics),
        slots: Arc::clone(&setup.slots),
        snapshot: Arc::clone(&setup.cell),
        refusals: Arc::clone(&setup.refusals),
        journal: Arc::clone(&setup.journal),
        access: plane.access.clone(),
        workers: Box::new(move || plane.workers()),
    }))
}

/// Assembles the fleet that `lb` begins with, and what its controller works with.
async fn assemble(
    config: Config,
    (cell, journal): (Arc<Cell>, Arc<Journal>),
    ending: Ending,
    plane: &Arc<Plane>,
    evict: CancellationToken,
) -> anyhow::Result<((Fleet, Vec<Effect>), Setup)> {
    let clock = Clock::start();
    let policy = policy(&config, &clock);
    let owner = if matches!(config.source, Source::Docker(_)) { Owner::OfReplicas } else { Owner::Ours };
    let doors = match config.limits.transport {
        Transport::Proxy => None,
        Transport::Handoff => Some(Doors::open(config.handoff_dir.as_deref(), owner)?),
    };
    let children = Children::default();
    tokio::spawn(reaper::reap(children.clone())?);
    let mut roster = None;
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
        Source::Swarm(settings) => {
            let beginning = beginning(config.slots, config.spares, config.mapping.clone());
            let names = Names::Ruled(swarm::service::rule(&settings.common.fleet));
            let (swarm, epoch, found) = Swarm::open(settings, beginning).await?;
            roster = Some((epoch, found));
            (Provider::Swarm(swarm), names, Lineup::default())
        }
        Source::Fixed(backends) => {
            let names = backends.iter().map(|backend| (backend.name.clone(), backend.weight)).collect();
            let lineup = Lineup::new(config.slots, config.spares);
            let fixed = Fixed::new(backends, doors, || resolver(config.resolution))?;
            (Provider::Fixed(fixed), Names::Fixed(names), lineup)
        }
        Source::Dns(name) => {
            let dns = Dns::new(resolver(config.resolution)?, name, config.mapping.clone());
            (Provider::Dns(dns), Names::Random, Lineup::default())
        }
    };
    let begun = control::begin((policy, names, lineup), roster, &journal);
    let accepting = Arc::clone(plane);
    let setup = Setup {
        clock,
        health: config.health,
        most_per_replica: config.most_per_replica,
        refusals: Arc::clone(&plane.refusals),
        metrics: Arc::clone(&plane.metrics),
        slots: Arc::default(),
        provider,
        cell,
        journal,
        ending,
        accepts: Box::new(move || accepting.accepts()),
        evict,
    };
    Ok((begun, setup))
}

/// The roster of a new fleet: these slots, and spares with random names.
fn beginning(slots: Vec<(Hostname, Weight)>, spares: usize, mapping: MappingPolicy) -> Roster {
    let seats = Lineup::new(slots, 0).seats;
    let spare = || Hostname::try_from(format!("server-{:06x}", fastrand::u32(..1 << 24))).ok();
    let spares = std::iter::repeat_with(spare).flatten().take(spares).collect();
    Roster { mapping, seats, spares, coming: Vec::new(), leaving: Vec::new() }
}

/// Removes all that the `lb`s of a fleet have made in a Swarm; returns what was removed, in words.
///
/// # Errors
/// There is no such fleet, no Swarm, or the Swarm refuses.
pub async fn remove_fleet(removal: &config::Removal) -> anyhow::Result<String> {
    let config::Removal { host, fleet, network } = removal;
    provider::engine::swarm::removal::remove(host.as_deref(), fleet, network).await
}

/// The rules of the fleet.
fn policy(config: &Config, clock: &Clock) -> Policy {
    Policy {
        mapping: config.mapping.clone(),
        start_timeout: config.start_timeout,
        drain_timeout: config.drain_timeout,
        authority: authority(config),
        born: clock.born(),
    }
}

/// Who decides which replica sits where.
fn authority(config: &Config) -> Authority {
    match &config.source {
        Source::Swarm(_) => Authority::Shared,
        Source::Dns(_) => Authority::Outside,
        source => Authority::Alone {
            same_name: config.same_name,
            restartable: !matches!(source, Source::Fixed(_)),
            keep: matches!(source, Source::Docker(settings) if settings.keep),
        },
    }
}

fn resolver(Resolution { servers, rules }: Resolution) -> anyhow::Result<Resolver> {
    Resolver::start(&servers, rules).context("names cannot be resolved")
}
