//! The predecessor's side: starts a successor, hands everything over, and goes on if the successor fails.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;
use proto::control::{Answer, Body, FailureKind, Upgraded};
use proto::journal::Event as Happened;
use rustix::fs::fstat;
use socket2::SockRef;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::handing::{self, Group, Handing, SLACK, Successor, settled};
use super::message::Estate;
use super::{PROBATION, Probation, launch};
use crate::control::port::Listeners;
use crate::control::{Frozen, Takeover, Upgrade};
use crate::data::Plane;
use crate::data_port::DataPort;
use crate::handed::{PortName, SharedAddress, SharedSocket};
use crate::journal::Journal;
use crate::life::EndRules;
use crate::net::ListenAddress;
use crate::provider::process::kindred::Kindred;
use crate::systemd::Notifier;

/// The ports of this process, to hand them over.
pub(crate) struct Ports {
    /// The addresses of the data port; the workers have its sockets.
    pub(crate) data: Vec<SharedAddress>,
    /// The sockets of the other ports.
    pub(crate) others: Vec<(PortName, SharedSocket)>,
}

impl Ports {
    /// The ports of these sockets, without the sockets of the data port.
    pub(crate) fn of(data: &DataPort, control: &Listeners, metrics: Option<&Listeners>) -> Self {
        let named = |name| move |socket| (name, socket);
        let control = control.shared().into_iter().map(named(PortName::Control));
        let metrics = metrics.into_iter().flat_map(Listeners::shared).map(named(PortName::Metrics));
        Ports { data: data.addresses.clone(), others: control.chain(metrics).collect() }
    }

    /// Notes whether another process looks after the files of Unix sockets.
    fn set_others(&self, is_others: bool) {
        let data = self.data.iter();
        let all = data.chain(self.others.iter().map(|(_, shared)| &shared.address));
        all.filter_map(|address| address.file.as_ref()).for_each(|file| file.set_others(is_others));
    }
}

/// Carries upgrades out, one at a time.
pub(crate) struct Upgrader {
    pub(crate) ports: Ports,
    pub(crate) plane: Arc<Plane>,
    pub(crate) controller: mpsc::Sender<Takeover>,
    /// The children of --provider process.
    pub(crate) kindred: Arc<Kindred>,
    /// The process that has taken over; 0: none.
    pub(crate) heir: Arc<AtomicU32>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) notifier: Notifier,
    /// What this process's configuration says of its end.
    pub(crate) ends: Arc<ArcSwap<EndRules>>,
    /// Why this configuration cannot be upgraded, if it cannot.
    pub(crate) obstacle: Option<&'static str>,
    /// Where the replicas of this configuration come from. A successor has to have the same.
    pub(crate) origin: String,
    /// Cancelled when this process ends.
    pub(crate) over: CancellationToken,
    /// Cancelled when a successor has settled: this process drains and ends.
    pub(crate) handed_over: CancellationToken,
}

impl Upgrader {
    /// Opens the ports.
    pub(super) fn open(&self) {
        self.plane.resume();
    }

    /// Carries out what is wished by clients and by the signal, until a successor has settled. The `lb` before this one may stand by still.
    pub(super) async fn run(
        self,
        before: Option<&Arc<Probation>>,
        mut wishes: mpsc::Receiver<Upgrade>,
        signal: Arc<Notify>,
    ) {
        loop {
            let Upgrade { binary, reply } = tokio::select! {
                () = self.over.cancelled() => return,
                Some(wish) = wishes.recv() => wish,
                () = signal.notified() => Upgrade { binary: None, reply: oneshot::channel().0 },
            };
            let begun = Instant::now();
            let outcome = self.upgrade(before, binary).await;
            let (answer, successor) = match outcome {
                Ok(successor) => {
                    let (pid, took) = (successor.pid, begun.elapsed());
                    info!(
                        pid,
                        took = took.as_secs_f64(),
                        "upgrade: process {pid} has taken over, and this one stands by"
                    );
                    let seconds =
                        u32::try_from(took.as_millis()).map_or(f64::MAX, |took| f64::from(took) / 1000.0);
                    (Ok(Body::Upgraded(Upgraded { successor: pid, seconds })), Some(successor))
                }
                Err(reason) => {
                    error!(error = %reason, "upgrade: this lb goes on, because there is no successor");
                    self.journal.record(Happened::UpgradeFailed { reason: reason.clone() });
                    (Err(FailureKind::Unavailable.because(format!("this lb goes on: {reason}"))), None)
                }
            };
            // The client may have gone.
            let _ = reply.send(Answer::from(answer));
            if let Some(successor) = successor
                && self.stand_by(successor, &mut wishes).await
            {
                self.handed_over.cancel();
                return;
            }
        }
    }

    /// Hands everything over to a successor that runs this program.
    ///
    /// # Errors
    /// Why this process goes on, as if nothing had been.
    async fn upgrade(
        &self,
        before: Option<&Arc<Probation>>,
        binary: Option<PathBuf>,
    ) -> Result<Successor, String> {
        if let Some(obstacle) = self.obstacle {
            return Err(obstacle.to_owned());
        }
        let program = match binary {
            Some(binary) => binary,
            None => launch::own_program().map_err(|error| format!("its program is not found: {error}"))?,
        };
        info!(program = %program.display(), "upgrade: a successor is started");
        before.into_iter().for_each(|before| before.settle());
        let (reply, frozen) = oneshot::channel();
        let gone = || "lb is shutting down".to_owned();
        self.controller.send(Takeover::Freeze(reply)).await.map_err(|_| gone())?;
        let begun = match frozen.await.map_err(|_| gone())? {
            Ok(frozen) => self.hand_over(program, frozen).await,
            Err(reason) => Err(reason),
        };
        match &begun {
            Ok(successor) => {
                self.heir.store(successor.pid, Relaxed);
                self.plane.pause.set(true);
                self.ports.set_others(true);
                self.journal.record(Happened::Upgraded { successor: successor.pid });
            }
            Err(_) => self.go_on().await,
        }
        begun
    }

    /// Starts the successor, and waits until it serves.
    async fn hand_over(&self, program: PathBuf, frozen: Frozen) -> Result<Successor, String> {
        let names = frozen.roster.hostnames().cloned().collect();
        let handing = Handing {
            sockets: self.sockets().map_err(|error| format!("its sockets cannot be handed over: {error}"))?,
            bequest: self
                .kindred
                .hand_over(&names)
                .map_err(|error| format!("its children cannot be handed over: {error}"))?,
            estate: Estate::new(self.origin.clone(), frozen, &self.ends.load()),
            entries: self.journal.kept(),
        };
        let begun = Instant::now();
        let started =
            spawn_blocking(move || launch::start(&program)).await.unwrap_or_else(|error| Err(error.into()));
        let wire = Arc::new(started.map_err(|error| format!("no process can be started: {error}"))?);
        let theirs = Arc::clone(&wire);
        let mut serving = spawn_blocking(move || handing::begin(theirs, begun, &handing));
        let served = tokio::select! {
            served = &mut serving => served,
            () = self.over.cancelled() => {
                wire.close();
                let _killed = serving.await;
                return Err("lb is shutting down".to_owned());
            }
        };
        served.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Stands by until the successor has settled. If it fails instead, this process goes on; false then.
    async fn stand_by(&self, successor: Successor, wishes: &mut mpsc::Receiver<Upgrade>) -> bool {
        let wire = Arc::clone(&successor.wire);
        // It has served for no longer than this process knows it.
        let deadline = Instant::now() + PROBATION + SLACK;
        let mut settling = spawn_blocking(move || settled(&wire, deadline));
        let settled = loop {
            tokio::select! {
                settled = &mut settling => break settled.unwrap_or_else(|error| Err(error.to_string())),
                () = self.over.cancelled() => {
                    // The successor goes on: this process ends.
                    successor.wire.close();
                    self.notifier.main_pid(successor.pid);
                    return true;
                }
                Some(Upgrade { reply, .. }) = wishes.recv() => {
                    let _ = reply.send(Answer::Failure(FailureKind::Unavailable.because("an upgrade is under way")));
                }
            }
        };
        let Err(reason) = settled else {
            info!(pid = successor.pid, "upgrade: the successor has settled");
            // Not sooner: systemd ends the service with its main process, and hears no other one.
            self.notifier.main_pid(successor.pid);
            return true;
        };
        successor.kill();
        error!(pid = successor.pid, error = %reason, "upgrade: the successor has failed, and this lb goes on");
        self.go_on().await;
        self.journal.record(Happened::UpgradeFailed { reason });
        false
    }

    /// Goes on as if nothing had been.
    async fn go_on(&self) {
        self.heir.store(0, Relaxed);
        self.kindred.take_back();
        self.ports.set_others(false);
        // It fails only while lb ends.
        let _ = self.controller.send(Takeover::Thaw).await;
        self.plane.resume();
    }

    /// The sockets of all ports.
    fn sockets(&self) -> io::Result<Vec<Group>> {
        let mut groups = Vec::new();
        let listeners: Vec<_> = self.plane.listeners().collect();
        for SharedAddress { asked, bound, is_activated, file } in &self.ports.data {
            let is_there = |at: &Option<std::net::SocketAddr>, listener: &TcpListener| match bound {
                ListenAddress::Tcp(address) => *at == Some(*address),
                ListenAddress::Unix(path) => {
                    at.is_none()
                        && SockRef::from(listener).local_addr().is_ok_and(|at| at.as_pathname() == Some(path))
                }
            };
            let mut sockets: Vec<OwnedFd> = Vec::new();
            let mut known = HashSet::new();
            for (_, listener) in listeners.iter().filter(|(at, listener)| is_there(at, listener)) {
                // Workers may share a socket.
                if known.insert(fstat(listener)?.st_ino) {
                    sockets.push(listener.as_fd().try_clone_to_owned()?);
                }
            }
            let (asked, bound, file) = (asked.clone(), bound.clone(), file.clone());
            groups.push(Group {
                port: PortName::Data,
                asked,
                bound,
                is_activated: *is_activated,
                sockets,
                file,
            });
        }
        for (port, shared) in &self.ports.others {
            let SharedSocket { address, socket } = shared.clone();
            let SharedAddress { asked, bound, is_activated, file } = address;
            let sockets = vec![(*socket).as_fd().try_clone_to_owned()?];
            groups.push(Group { port: *port, asked, bound, is_activated, sockets, file });
        }
        Ok(groups)
    }
}
