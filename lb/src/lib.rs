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
pub mod handed;
pub mod journal;
mod life;
pub mod log;
mod metrics;
mod net;
pub mod panics;
mod ports;
pub mod privileges;
mod provider;
pub mod records;
mod refusals;
mod reload;
pub mod replay;
mod replica;
mod resolver;
mod rules;
mod running;
mod service;
mod snapshot;
mod sock_diag;
mod socket_file;
mod systemd;
pub mod top;
pub mod upgrade;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use fleet::{Effect, Epoch, Fleet, Lineup, Names, Roster, Seat};
use proto::control::{Hostname, Transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use access::AccessLogs;
use config::{Applied, Config, Source};
use control::port::{self, Desk, Listeners, Port, Purpose};
use control::{Clock, Controller, Ending, Exposition, Runner, Setup, Sources, Takeover};
use data::{FileBudget, Memory, Pipes, Plane, RulesCell, Stalls, Warnings, memory, stalls, watchdog};
use data_port::DataPort;
use journal::Journal;
use life::EndRules;
pub use life::Life;
use metrics::Metrics;
use net::{ListenAddress, Pause, Throttle};
pub use ports::{Ports, bind};
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
pub use provider::process::guardian::{Guardianship, guard_heirs};
use provider::process::kindred::Kindred;
use provider::process::reaper::{self, Children};
use records::Records;
use rules::{beginning, ensure_room, obstacle, policy, resolver};
use running::{Ends, Running, Sessions};
use service::Service;
use snapshot::{Cell, Snapshot};
use upgrade::{Estate, Upgrader};

/// The most clients that may wait for a successor.
const UPGRADES: usize = 4;
/// The most commands that may wait for the controller.
const REQUESTS: usize = 64;

/// Serves until its `life` is over. Children that were handed over may need a guardian then.
///
/// Run it on a current-thread runtime that lives as long as the process: the kernel ties each child process to the *thread*
/// that started it.
///
/// # Errors
/// A worker cannot be started, or there is no container engine: then nothing runs. Or another `lb` has
/// taken the containers over, or the control plane has failed.
pub async fn run(
    applied: Applied,
    ports: Ports,
    life: Life,
    (records, log): (Records, log::Filter),
) -> anyhow::Result<Option<Guardianship>> {
    let config = applied.config.clone();
    let Records { journal, access } = records;
    let Life { stop, cut, failed, hangup, sessions, upgrade: signal } = life;
    let shared = upgrade::Ports::of(&ports.data, &ports.control, ports.metrics.as_ref());
    let Ports { data, control, metrics, mut predecessor } = ports;
    let origin = config.source.origin();
    let (estate, bequest) = upgrade::left_by(predecessor.as_mut(), &origin, &journal)?;
    let kindred = Kindred::new(bequest)?;
    let cell = Arc::new(Cell::from_pointee(Snapshot::empty(&config.mapping)?));
    let service = Service::start((data.real(), control.address().cloned()), &journal, &cell)?;
    let (data_files, DataPort { listeners, files, .. }) = (data.files(), data);
    let ports = (listeners, data_files, Arc::new(Pause::new(predecessor.is_some())));
    let (obstacle, has_children) = (obstacle(&config), matches!(config.source, Source::Process { .. }));
    let plane = Arc::new(plane(&applied, Arc::clone(&cell), ports, (access, sessions))?);
    let (evict, is_demo) = (cut.child_token(), config.demo);
    // Both ports are open until this is cancelled, so that a successor can bind both when the drain begins.
    let close = CancellationToken::new();
    // Without a control plane, no worker accepts.
    let _closed_at_last = close.clone().drop_guard();
    let ending = Ending { stop: stop.clone(), over: CancellationToken::new() };
    // Replicas that keep running keep the connections that were handed over.
    let handed_over = if config.replicas_go_on() { TaskTracker::new() } else { plane.handed_over.clone() };
    let (takeover, taken_over) = mpsc::channel(1);
    let cells = (Arc::clone(&cell), Arc::clone(&journal));
    let (ends, before) = ((ending.clone(), evict.clone()), (taken_over, estate, Arc::clone(&kindred)));
    let assembled = assemble(config, cells, ends, &plane, before).await;
    let (fleet, setup) = upgrade::told(predecessor.as_ref(), assembled)?;
    let workers = TaskTracker::new();
    watchdog::start(&plane, &close, &workers)?;

    let (requests, requested) = mpsc::channel(REQUESTS);
    let _attending = service.attend(Arc::clone(&plane), requests.clone(), stop.clone());
    let _watch = AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&plane))));

    let (ready, all_up) = oneshot::channel();
    let measures = (Arc::clone(&plane.metrics), exposition(&plane, &setup));
    let reloads = reload::start(applied, (&plane, &service), (requests.clone(), log), hangup);
    let terms = Arc::clone(&reloads.terms);
    let (upgrades, wishes) = mpsc::channel(UPGRADES);
    let upgrader =
        upgrader(shared, &plane, (takeover, &reloads.ends, obstacle, origin), (&service, &kindred));
    let succeeded = upgrader.handed_over.clone();
    let requests = (requests, reloads.asked.clone(), upgrades);
    let desk = Desk::new(requests, Arc::clone(&cell), Arc::clone(&journal), terms, measures);
    let halls = (plane.files.control_connections(), (&close, &plane.pause));
    let _ports = open(control, metrics, &Arc::new(desk), halls)?;
    let controller = tokio::spawn(Controller::run(fleet, setup, ready, requested));
    tokio::spawn(service.clone().tell_when_ready(all_up, is_demo.then(|| close.clone())));
    let upgrading = upgrade::begin(upgrader, predecessor, cell, wishes, signal);

    let running = Running {
        ends: Ends { stop, cut, failed, succeeded },
        reloads,
        upgrading,
        service,
        controller,
        close,
        data_files: files,
        sessions: Sessions { workers, handed_over, evict },
        over: ending.over,
        kindred,
        has_children,
    };
    running.until_over().await
}

/// What carries upgrades out.
fn upgrader(
    ports: upgrade::Ports,
    plane: &Arc<Plane>,
    (controller, ends, obstacle, origin): (
        mpsc::Sender<Takeover>,
        &Arc<ArcSwap<EndRules>>,
        Option<&'static str>,
        String,
    ),
    (service, kindred): (&Service, &Arc<Kindred>),
) -> Upgrader {
    Upgrader {
        ports,
        plane: Arc::clone(plane),
        controller,
        ends: Arc::clone(ends),
        kindred: Arc::clone(kindred),
        heir: Arc::default(),
        journal: service.journal(),
        notifier: service.notifier().clone(),
        obstacle,
        origin,
        over: CancellationToken::new(),
        handed_over: CancellationToken::new(),
    }
}

/// Watches what the workers share, and logs what is short, refused or lost.
async fn watch(plane: Arc<Plane>) {
    let memory = memory::watch(&plane.memory, &plane.pipes);
    let stalls = stalls::watch(&plane.stalls, &plane.sessions);
    tokio::join!(memory, stalls, plane.refusals.report(), plane.warnings.report(), plane.access.report());
}

/// What the workers share.
fn plane(
    applied: &Applied,
    fleet: Arc<Cell>,
    (listeners, data_files, pause): (Vec<Vec<TcpListener>>, usize, Arc<Pause>),
    (access, sessions): (Arc<AccessLogs>, TaskTracker),
) -> io::Result<Plane> {
    let config = &applied.config;
    let resolver = if config.source.resolves_names() { resolver::FILES } else { 0 };
    let journal = if config.journal.is_some() { journal::file::FILES } else { 0 };
    let metrics = config.metrics.map_or(0, |at| port::files(&[ListenAddress::Tcp(at)]) + port::SCRAPERS);
    let demo = if config.demo { demo::FILES } else { 0 };
    let ports = port::files(&config.control) + data_files + metrics;
    let watched = access::FILES + reload::FILES + config.health.probe.files(!applied.may_change());
    let others = ports + provider::process::FILES + resolver + journal + watched + demo;
    let files = FileBudget::of_this_process(config.workers, config.spares, config.splice.is_some(), others);
    Ok(Plane {
        fleet,
        rules: RulesCell::new(config.limits.clone(), &config.admission, &config.proxies),
        access,
        metrics: Arc::new(Metrics::new(config.workers)),
        refusals: Arc::default(),
        pipes: Pipes::new(config.splice.unwrap_or(0), files.pipes(), config.workers),
        memory: Memory::default(),
        stalls: Stalls::new(config.limits.peer.unacknowledged()),
        warnings: Warnings::default(),
        files,
        workers: data_port::workers(listeners)?,
        pause,
        troubles: Throttle::default(),
        sessions,
        handed_over: TaskTracker::new(),
    })
}

/// Opens the control port, with so many connections, and the one for metrics, if there is one. They are closed when they are dropped.
fn open(
    control: Listeners,
    metrics: Option<Listeners>,
    desk: &Arc<Desk>,
    (connections, (close, pause)): (usize, (&CancellationToken, &Arc<Pause>)),
) -> anyhow::Result<(Port, Option<Port>)> {
    let open = |listeners, purpose, connections| {
        port::start(listeners, purpose, connections, (close.clone(), Arc::clone(pause)))
    };
    let metrics =
        metrics.map(|listeners| open(listeners, Purpose::Metrics(Arc::clone(desk)), port::SCRAPERS));
    Ok((open(control, Purpose::Control(Arc::clone(desk)), connections)?, metrics.transpose()?))
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
        access: Arc::clone(&plane.access),
        workers: Box::new(move || plane.workers()),
    }))
}

/// Assembles the fleet that `lb` begins with, and what its controller works with.
async fn assemble(
    mut config: Config,
    (cell, journal): (Arc<Cell>, Arc<Journal>),
    (ending, evict): (Ending, CancellationToken),
    plane: &Arc<Plane>,
    (takeover, estate, kindred): (mpsc::Receiver<Takeover>, Option<Estate>, Arc<Kindred>),
) -> anyhow::Result<((Fleet, Vec<Effect>), Setup)> {
    let clock = Clock::start();
    if let Some(estate) = &estate {
        config.mapping = estate.mapping(config.mapping)?;
    }
    let policy = policy(&config, &clock);
    let owner = if matches!(config.source, Source::Docker(_)) { Owner::OfReplicas } else { Owner::Ours };
    let doors = match config.limits.transport {
        Transport::Proxy => None,
        Transport::Handoff => Some(Doors::open(config.handoff_dir.as_deref(), owner)?),
    };
    let (health, most_per_replica) = (config.health.clone(), config.most_per_replica);
    let children = Children::default();
    tokio::spawn(reaper::reap(children.clone())?);
    let runner = Runner::new(children.clone());
    let (provider, names, lineup, roster) =
        provide(config, doors, (estate.as_ref(), kindred, children)).await?;
    ensure_room(&policy.mapping, &lineup.seats)?;
    let begun = control::begin((policy, names, lineup), roster, &journal);
    let accepting = Arc::clone(plane);
    let setup = Setup {
        clock,
        health: watch::Sender::new(health),
        runner,
        most_per_replica,
        refusals: Arc::clone(&plane.refusals),
        metrics: Arc::clone(&plane.metrics),
        slots: Arc::default(),
        provider,
        cell,
        journal,
        ending,
        accepts: Box::new(move || accepting.accepts()),
        evict,
        takeover,
    };
    Ok((begun, setup))
}

/// Where replicas come from, and what the fleet begins with.
async fn provide(
    config: Config,
    doors: Option<Doors>,
    (estate, kindred, children): (Option<&Estate>, Arc<Kindred>, Children),
) -> anyhow::Result<(Provider, Names, Lineup, Option<(Epoch, Roster)>)> {
    let mut roster = None;
    let (provider, names, lineup) = match config.source {
        Source::Process { command } => {
            let lineup = match estate.cloned() {
                Some(Estate { seats, spares, .. }) => Lineup::of(seats, spares, config.spares),
                None => Lineup::new(config.slots, config.spares),
            };
            let process =
                Process::new(command, doors, (children, kindred)).context("a thread cannot be started")?;
            (Provider::Process(process), Names::Random, lineup)
        }
        Source::Docker(settings) => {
            let names: Vec<Hostname> = config.slots.into_iter().map(|(name, _)| name).collect();
            let wanted = (names.as_slice(), config.spares);
            let before = estate.and_then(Estate::containers);
            let scheme = &config.mapping.scheme;
            let (docker, found) = Docker::open(settings, doors, wanted, scheme, before).await?;
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
            let first = &backends[..config.slots.len().min(backends.len())];
            let lineup = match estate {
                Some(estate) => Lineup::of(estate.seats_of(first, &backends), Vec::new(), 0),
                None => Lineup::fixed(first),
            };
            let has_names = lineup.seats.iter().any(Seat::has_host_name);
            let resolution = config.resolution;
            let fixed = Fixed::new(has_names, doors, move || resolver(resolution.clone()))?;
            (Provider::Fixed(fixed), Names::Fixed(backends), lineup)
        }
        Source::Dns(name) => {
            let (seats, seating) =
                estate.map(|estate| (estate.seats.clone(), estate.seating())).unwrap_or_default();
            let dns = Dns::new(resolver(config.resolution)?, name, config.mapping.clone(), seating);
            (Provider::Dns(dns), Names::Random, Lineup::of(seats, Vec::new(), 0))
        }
    };
    Ok((provider, names, lineup, roster))
}

/// Removes all that the `lb`s of a fleet have made in a Swarm; returns what was removed, in words.
///
/// # Errors
/// There is no such fleet, no Swarm, or the Swarm refuses.
pub async fn remove_fleet(removal: &config::Removal) -> anyhow::Result<String> {
    let config::Removal { host, fleet, network } = removal;
    provider::engine::swarm::removal::remove(host.as_deref(), fleet, network).await
}
