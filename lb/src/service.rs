//! `lb` as a service: what it tells the log, the journal and systemd of its start, of being ready and of its end, and the signs of life
//! for systemd's watchdog. It decides nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::journal::Event as Happened;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::control::{Operation, Request, Requests};
use crate::data::Plane;
use crate::data_port::{listed, tcp};
use crate::demo;
use crate::journal::Journal;
use crate::net::ListenAddress;
use crate::snapshot::Cell;
use crate::systemd::Notifier;

/// How often it is looked whether systemd has to be told something.
const LOOK: Duration = Duration::from_secs(1);
/// How long systemd waits at most for all replicas. From then on `lb` does all that it can: it listens, and tells clients if there is
/// no replica. A server that is down must not have systemd stop `lb` (`TimeoutStartSec=`).
const LATEST: Duration = Duration::from_secs(10);

/// Where `lb` listens, and whom it tells how it is.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    data: Vec<ListenAddress>,
    control: ListenAddress,
    journal: Arc<Journal>,
    notifier: Notifier,
    cell: Arc<Cell>,
}

/// A reload under way, as systemd sees it.
pub(crate) struct Reload<'a>(&'a Service);

impl Drop for Reload<'_> {
    fn drop(&mut self) {
        self.0.notifier.ready(&self.0.status());
    }
}

impl Service {
    /// Tells that it listens at these addresses, the second of which is that of the control port.
    ///
    /// # Errors
    /// There is no control port.
    pub(crate) fn start(
        (data, control): (Vec<ListenAddress>, Option<ListenAddress>),
        journal: &Arc<Journal>,
        cell: &Arc<Cell>,
    ) -> anyhow::Result<Self> {
        let control = control.context("there is no control address")?;
        let listening = listed(&data);
        info!(data = %listening, %control, "listening data={listening} control={control}");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        journal.record(Happened::Started { version, data: listening, control: control.to_string() });
        let notifier = Notifier::from_environment();
        notifier.status("starting: no replica is in rotation yet");
        Ok(Service { data, control, journal: Arc::clone(journal), notifier, cell: Arc::clone(cell) })
    }

    /// Tells when all replicas are in rotation. From then on, a demo has its load until the ports are closed.
    pub(crate) async fn tell_when_ready(
        self,
        all_up: oneshot::Receiver<usize>,
        demo: Option<CancellationToken>,
    ) {
        let Ok(replicas) = all_up.await else { return };
        let (data, control) = (listed(&self.data), &self.control);
        info!(%data, %control, replicas, "ready data={data} control={control} replicas={replicas}");
        self.journal.record(Happened::Ready { replicas });
        self.notifier.ready(&self.status());
        if let (Some(close), Some(data)) = (demo, self.data.iter().find_map(tcp)) {
            let page = if let ListenAddress::Tcp(address) = self.control { Some(address) } else { None };
            close.run_until_cancelled(demo::run(data, page)).await;
        }
    }

    /// Where everything is recorded that happens.
    pub(crate) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Tells systemd that the configuration is read again, until the result is dropped.
    pub(crate) fn reloading(&self) -> Reload<'_> {
        self.notifier.reloading();
        Reload(self)
    }

    /// The way to systemd.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Tells that it stops. If a successor has taken over, it is that one which tells the journal and systemd from now on.
    pub(crate) fn tell_end(&self, drain_timeout: Duration, is_handed_over: bool) {
        if is_handed_over {
            self.journal.retire();
            let drain_timeout = drain_timeout.as_secs_f64();
            return info!(drain_timeout, "handed over: connections may finish");
        }
        self.journal.record(Happened::Stopping {});
        let drain_timeout = drain_timeout.as_secs_f64();
        info!(drain_timeout, "stopping: connections may finish");
        self.notifier.stopping("stopping: connections may finish");
    }

    /// Tells systemd how it is, until this is dropped. The watchdog gets a sign of life only while every worker is alive and the controller
    /// answers; a controller that is `stopping` replicas takes no question any more.
    pub(crate) fn attend(
        &self,
        plane: Arc<Plane>,
        controller: Requests,
        stopping: CancellationToken,
    ) -> Option<AbortOnDropHandle<Infallible>> {
        let attending = self.notifier.is_there().then(|| self.clone().tell_all(plane, controller, stopping));
        attending.map(|attending| AbortOnDropHandle::new(tokio::spawn(attending)))
    }

    async fn tell_all(
        self,
        plane: Arc<Plane>,
        controller: Requests,
        stopping: CancellationToken,
    ) -> Infallible {
        let (begun, mut is_late, mut told) = (Instant::now(), false, String::new());
        let patience = self.notifier.watchdog().map(|limit| limit / 2);
        let mut looks = interval(patience.unwrap_or(LOOK).min(LOOK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(patience) = patience
                && plane.workers().dead == 0
                && (stopping.is_cancelled() || answers(&controller, patience).await)
            {
                self.notifier.alive();
            }
            if stopping.is_cancelled() {
                continue;
            }
            let status = self.status();
            if !is_late && begun.elapsed() >= LATEST {
                is_late = true;
                self.notifier.ready(&status);
            } else if status != told {
                self.notifier.status(&status);
            }
            told = status;
        }
    }

    fn status(&self) -> String {
        let snapshot = self.cell.load();
        let up = snapshot.slots().iter().filter(|slot| slot.in_rotation().is_ok()).count();
        format!("{up} of {} replicas in rotation", snapshot.slots().len())
    }
}

/// Whether the controller answers in time.
async fn answers(controller: &Requests, patience: Duration) -> bool {
    let (reply, answer) = oneshot::channel();
    let question = Request { operation: Operation::Replicas, reply };
    let asked = async { controller.send(question).await.is_ok() && answer.await.is_ok() };
    timeout(patience, asked).await.unwrap_or(false)
}
