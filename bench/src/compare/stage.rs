//! The stage: starts three replicas, and contenders in front of them.
//!
//! A proxy has one worker, on its own core if there are two. Programs that are started here end when they are dropped. Nothing
//! is measured here.

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::cores::{Cores, sessions};
use super::peers::{Peer, Site};
use super::watch::{self, Watchers};
use super::{greet, handoff};
use crate::args::Watch;
use crate::data::{Contender, HANDOFF, WATCHED};
use crate::load::raise_file_limit;
use crate::stand::host;
use crate::stand::{Lb, Processes, Program, sibling};

/// How long a program may take to become ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// Replicas behind each proxy.
const REPLICAS: usize = 3;

/// A kind of contender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entrant {
    Lb,
    /// `lb` with `--transport handoff`.
    Handoff,
    /// `lb` while it is watched.
    Watched(Watch),
    Peer(Peer, PathBuf),
    Direct,
}

impl Entrant {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Entrant::Lb => "lb",
            Entrant::Handoff => HANDOFF,
            Entrant::Watched(watch) => WATCHED[*watch as usize],
            Entrant::Peer(peer, _) => peer.name(),
            Entrant::Direct => "direct",
        }
    }

    /// Whether each id has a fixed replica.
    fn keeps_ids(&self) -> bool {
        !matches!(self, Entrant::Peer(Peer::Nginx, _) | Entrant::Direct)
    }
}

/// A contender that is ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// Without a proxy: the other replicas, so that as many processes work as behind a proxy.
    pub(super) others: Vec<SocketAddr>,
    /// The processes of the proxy; `None` without one.
    pub(super) processes: Option<Processes>,
    /// The processes of all replicas.
    pub(super) replicas: Processes,
    /// What is written and read of an `lb` that is watched.
    watchers: Option<Watchers>,
    /// Ends the proxy when it is dropped.
    _proxy: Proxy,
    /// The control port of an `lb` that must hand connections over.
    hands_over: Option<SocketAddr>,
}

impl Ready {
    /// Checks after a measurement that it was what its name says.
    ///
    /// # Errors
    /// `lb` proxies where it must hand connections over, or was not watched.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        self.watchers.as_ref().map_or(Ok(()), Watchers::check)?;
        match self.hands_over {
            Some(control) => handoff::check(control).await,
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "kept only to be dropped")]
enum Proxy {
    Lb(Lb),
    Peer(Program),
    Nothing,
}

/// The replicas, and what contenders need to start. Drop the proxies before it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) cores: Cores,
    /// The number of connections that each proxy is configured for.
    pub(super) sessions: usize,
    addresses: Vec<SocketAddr>,
    /// The processes of all replicas.
    processes: Processes,
    _replicas: Vec<Program>,
    /// The folder of the sockets on which replicas take connections over, each named after its replica.
    sockets: TempDir,
}

impl Stage {
    /// Starts the replicas.
    ///
    /// # Errors
    /// They are not built, or cannot listen.
    pub(super) async fn set(cores: Cores) -> anyhow::Result<Self> {
        let sessions = sessions(raise_file_limit());
        let (mut addresses, mut replicas) = (Vec::new(), Vec::new());
        let mut processes = Processes::default();
        let sockets = folder("bench-handoff-").context("cannot make a folder for sockets")?;
        for number in 1..=REPLICAS {
            let id = format!("s{number}");
            let socket = sockets.path().join(format!("{id}.sock"));
            let (address, program) = replica(&id, cores.replicas, Some(&socket)).await?;
            addresses.push(address);
            processes = processes
                .and(Processes::of(program.pid()).context("cannot list the processes of a replica")?);
            replicas.push(program);
        }
        Ok(Stage { cores, sessions, addresses, processes, _replicas: replicas, sockets })
    }

    /// Describes a contender before it starts.
    pub(super) fn describe(&self, entrant: &Entrant) -> anyhow::Result<Contender> {
        let pinning = self.cores.pinning();
        let (version, setup) = match entrant {
            Entrant::Lb => {
                let setup =
                    format!("--mapping ring, one worker{pinning}, its usual health checks (every 500 ms)");
                (host::version(&sibling("lb")?), setup)
            }
            Entrant::Handoff => {
                let setup = "like lb, with --transport handoff: the clients' sockets are passed to the replicas over Unix \
                             sockets";
                (host::version(&sibling("lb")?), setup.to_owned())
            }
            Entrant::Watched(watch) => {
                (host::version(&sibling("lb")?), format!("like lb; {}", watch::in_words(*watch)))
            }
            Entrant::Peer(peer, path) => (host::version(path), peer.setup(&pinning)),
            Entrant::Direct => {
                let replicas = self.cores.pinning_of_replicas();
                (String::new(), format!("no proxy: connections go to the replicas{replicas} in turn"))
            }
        };
        Ok(Contender { name: entrant.name().to_owned(), version, setup })
    }

    /// Starts a contender and waits until it works: ids spread over the replicas and, if they are hashed, stay with theirs.
    ///
    /// # Errors
    /// It does not start or does not spread ids; the message has the last lines of its log.
    pub(super) async fn start(&self, entrant: &Entrant) -> anyhow::Result<Ready> {
        let name = entrant.name();
        let (mut hands_over, mut watchers) = (None, None);
        let (address, pid, proxy) = match entrant {
            Entrant::Lb => {
                let lb = Lb::start(&self.lb_flags(), self.cores.proxy).await?;
                (lb.data, Some(lb.pid()), Proxy::Lb(lb))
            }
            Entrant::Handoff => {
                let lb = Lb::start(&self.handoff_flags(), self.cores.proxy).await?;
                handoff::wait(lb.control, PATIENCE).await?;
                hands_over = Some(lb.control);
                (lb.data, Some(lb.pid()), Proxy::Lb(lb))
            }
            Entrant::Watched(watch) => {
                let (lb, watching) = watch::start(*watch, &self.lb_flags(), self.cores.proxy).await?;
                watchers = Some(watching);
                (lb.data, Some(lb.pid()), Proxy::Lb(lb))
            }
            Entrant::Peer(peer, path) => {
                let (address, program) = self.start_peer(*peer, path).await?;
                (address, Some(program.pid()), Proxy::Peer(program))
            }
            Entrant::Direct => (self.addresses[0], None, Proxy::Nothing),
        };
        if pid.is_some() {
            spreads(name, address, entrant.keeps_ids()).await?;
        }
        let processes = pid
            .map(Processes::of)
            .transpose()
            .with_context(|| format!("cannot list the processes of {name}"))?;
        let replicas = self.processes.clone();
        let others = if pid.is_none() { self.addresses[1..].to_vec() } else { Vec::new() };
        Ok(Ready { name, address, others, processes, replicas, watchers, _proxy: proxy, hands_over })
    }

    fn lb_flags(&self) -> Vec<String> {
        let fixed = ["--provider", "fixed", "--workers", "1", "--mapping", "ring"].map(str::to_owned);
        let backends = self
            .addresses
            .iter()
            .zip(1..)
            .flat_map(|(address, number)| ["--backend".to_owned(), format!("s{number}={address}")]);
        fixed.into_iter().chain(backends).collect()
    }

    fn handoff_flags(&self) -> Vec<String> {
        let folder = self.sockets.path().display().to_string();
        let transport = ["--transport", "handoff", "--handoff-dir", &folder].map(str::to_owned);
        self.lb_flags().into_iter().chain(transport).collect()
    }

    async fn start_peer(&self, peer: Peer, path: &Path) -> anyhow::Result<(SocketAddr, Program)> {
        let (listen, name) = (free_address()?, peer.name());
        // The configuration is read only at the start, so the folder may go at any time after it.
        let folder = folder("bench-compare-").context("cannot make a folder for a configuration")?;
        let site = Site { listen, replicas: &self.addresses, sessions: self.sessions, folder: folder.path() };
        let command =
            peer.prepare(path, &site).with_context(|| format!("cannot write a configuration for {name}"))?;
        let program = Program::start(&command, self.cores.proxy)?;
        tokio::select! {
            () = answers(listen) => Ok((listen, program)),
            error = program.fails(PATIENCE) => Err(error),
        }
    }
}

/// A folder that is removed when it is dropped. Only this user may open it: a process that can connect to a socket in it can
/// hand connections in.
fn folder(prefix: &str) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o700)).tempdir()
}

/// Starts a replica on a free port; connections may be handed over to it at `socket`, if that is given.
pub(super) async fn replica(
    id: &str,
    core: Option<usize>,
    socket: Option<&Path>,
) -> anyhow::Result<(SocketAddr, Program)> {
    let mut command = Command::new(sibling("backend")?);
    command.args(["--listen", "127.0.0.1:0", "--id", id]);
    if let Some(socket) = socket {
        command.arg("--handoff").arg(socket);
    }
    let program = Program::start(&command, core)?;
    let line = program.says("listening on ", PATIENCE).await?;
    let address = line.split_whitespace().find_map(|word| word.parse().ok());
    Ok((address.with_context(|| format!("the replica logs no address: {line}"))?, program))
}

/// An address that is free now. If another program takes it first, the peer fails to start and says so.
fn free_address() -> anyhow::Result<SocketAddr> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    address.context("there is no free port")
}

/// Waits, without a limit, until a replica answers through this address.
async fn answers(address: SocketAddr) {
    while greet::open(address, "100000").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The number of ids in the check of how a proxy spreads them.
const TRIED: usize = 24;
/// In the second pass the line comes this long after the connection: a proxy that does not wait for it hashes nothing.
const LATE: Duration = Duration::from_millis(2);

/// Checks that ids spread over several replicas and, if `keeps`, that each stays with its own. The second pass is in reverse
/// order, so that round robin does not pass for hashing.
async fn spreads(name: &str, address: SocketAddr, keeps: bool) -> anyhow::Result<()> {
    let silent = || format!("{name} does not answer");
    let mut first = Vec::new();
    for id in ids() {
        let (_, server) = greet::open(address, &id).await.with_context(silent)?;
        first.push((id, server));
    }
    let (_, one) = &first[0];
    let is_spread = first.iter().any(|(_, server)| server != one);
    ensure!(is_spread, "{name} does not hash: {TRIED} different ids went to the same replica, {one}");
    for (id, before) in first.iter().rev().filter(|_| keeps) {
        let (_, now) = greet::open_late(address, id, LATE).await.with_context(silent)?;
        ensure!(now == *before, "{name} does not hash: the id {id} went to {before} first and to {now} then");
    }
    Ok(())
}

fn ids() -> impl Iterator<Item = String> {
    (0..TRIED).map(|number| (100_000 + number * 37_123).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let ids: std::collections::BTreeSet<String> = ids().collect();
        assert_eq!(ids.len(), TRIED);
        assert!(ids.iter().all(|id| id.len() == 6));
    }

    #[tokio::test]
    async fn one_replica_for_all_ids_or_any_replica_for_an_id_is_not_hashing() {
        let one = greet::tests::server(|_| "s1".to_owned()).await;
        let error = spreads("x", one, true).await.unwrap_err().to_string();
        assert_eq!(error, "x does not hash: 24 different ids went to the same replica, s1");
        let anywhere = greet::tests::server(|number| format!("s{}", number % 5)).await;
        let error = spreads("x", anywhere, true).await.unwrap_err().to_string();
        assert_eq!(error, "x does not hash: the id 953829 went to s3 first and to s4 then");
        let in_turn = greet::tests::server(|number| format!("s{}", number % 3)).await;
        let error = spreads("x", in_turn, true).await.unwrap_err().to_string();
        assert_eq!(error, "x does not hash: the id 953829 went to s2 first and to s0 then");
        spreads("x", in_turn, false).await.unwrap();
    }
}
