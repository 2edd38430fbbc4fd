//! A reload: the configuration is read again, compared with what runs, and what differs is changed in one step, or nothing is.
//!
//! Whatever can fail comes first: the file, the checks, another log of connections, and the change of the fleet, which is one step of its
//! own. What follows cannot fail. There is one reload at a time. No file is read on the thread of the control plane.
//!
//! The file of backends is watched ([`backends`]): a change of it is a reload of that file alone.

mod backends;
mod change;
mod last;
mod running;
mod said;
mod watched;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mapping::MappingPolicy;
use proto::control::{Answer, Body, Changer, Failure, FailureKind, Reloaded, SettingChange, Written};
use proto::journal::Event;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use crate::access::{AccessLogs, Next};
use crate::config::{Applied, Config, Difference, FixedBackend, Source};
use crate::control::{
    Adjustment, Asked, Compared, Named, Operation, Reloading, Request, Requests, Terms, Wish, WishedSlots,
};
use crate::data::Plane;
use crate::life::EndRules;
use crate::log::Filter;
use crate::service::Service;
use last::{Last, Turn};

/// The most reloads that may wait. There is one at a time, so the others are told so at once.
const RELOADS: usize = 8;
/// The most files that are open for reloads at once: what is read, and what watches the file of backends.
pub(crate) const FILES: usize = 2;
/// How long a file may take to be read, or to be opened.
const DISK: Duration = Duration::from_secs(5);
/// When the file of backends is tried again that was fine, but could not be made or read.
const AGAIN: Duration = Duration::from_secs(5);
/// How long sessions may still have the old log of connections in their hands.
const LINGER: Duration = Duration::from_secs(1);

/// What can be changed while `lb` runs.
#[derive(Debug)]
struct Handles {
    plane: Arc<Plane>,
    terms: Arc<ArcSwap<Terms>>,
    ends: Arc<ArcSwap<EndRules>>,
    log: Filter,
    controller: Requests,
    service: Service,
}

/// Loads the configuration again, one time after the other.
#[derive(Debug)]
struct Reloader {
    last: Last,
    /// The file of backends that is followed.
    followed: watch::Sender<Option<PathBuf>>,
    handles: Handles,
}

/// The reloads of an `lb`, until this is dropped.
pub(crate) struct Reloads {
    /// Asks for one.
    pub(crate) asked: mpsc::Sender<Reloading>,
    /// What holds for clients of the control port.
    pub(crate) terms: Arc<ArcSwap<Terms>>,
    /// What holds for the end.
    pub(crate) ends: Arc<ArcSwap<EndRules>>,
    _tasks: [AbortOnDropHandle<Infallible>; 3],
}

/// Begins with what was loaded at the start, and reloads when that is asked for or `hangup` is notified.
pub(crate) fn start(
    applied: Applied,
    (plane, service): (&Arc<Plane>, &Service),
    (controller, log): (Requests, Filter),
    hangup: Arc<Notify>,
) -> Reloads {
    let (asked, reloading) = mpsc::channel(RELOADS);
    let terms = Arc::new(ArcSwap::from_pointee(terms(&applied.config)));
    let ends = Arc::new(ArcSwap::from_pointee(end_rules(&applied.config)));
    let handles = Handles {
        plane: Arc::clone(plane),
        terms: Arc::clone(&terms),
        ends: Arc::clone(&ends),
        log,
        controller,
        service: service.clone(),
    };
    let (followed, named) = watch::channel(applied.config.backends_file.clone());
    let reloader = Arc::new(Reloader { last: Last::new(applied), followed, handles });
    let following = tokio::spawn(Arc::clone(&reloader).follow_backends(named));
    let heeding = tokio::spawn(Arc::clone(&reloader).heed(hangup));
    let serving = tokio::spawn(reloader.serve(reloading));
    Reloads { asked, terms, ends, _tasks: [serving, heeding, following].map(AbortOnDropHandle::new) }
}

fn terms(config: &Config) -> Terms {
    Terms { token: config.control_token.clone(), key: config.limits.key.clone() }
}

fn end_rules(config: &Config) -> EndRules {
    EndRules {
        stop_delay: config.stop_delay,
        drain_timeout: config.drain_timeout,
        mapping: config.mapping.clone(),
    }
}

impl Reloader {
    /// Reloads when a command asks for it, until this is dropped.
    async fn serve(self: Arc<Self>, mut asked: mpsc::Receiver<Reloading>) -> Infallible {
        while let Some(Reloading { what, reply }) = asked.recv().await {
            let reloader = Arc::clone(&self);
            tokio::spawn(async move {
                let answer = match what {
                    Asked::Load { dry_run } => reloader.reload_if_free(dry_run).await.map(Body::Reloaded),
                    Asked::Write => reloader.write().await.map(Body::Written),
                };
                // The client may have gone.
                let _ = reply.send(Answer::from(answer));
            });
        }
        std::future::pending().await
    }

    /// Reloads when `hangup` is notified, until this is dropped. No client waits for it, so it waits for the turn; meanwhile, one more
    /// notice is kept.
    async fn heed(self: Arc<Self>, hangup: Arc<Notify>) -> Infallible {
        loop {
            hangup.notified().await;
            let reloader = Arc::clone(&self);
            let reloading = tokio::spawn(async move {
                let turn = reloader.last.turn().await;
                if let Err(refusal) = reloader.reload(false, turn).await {
                    error!(error = %refusal, "SIGHUP: the configuration is not loaded, and nothing is changed");
                }
            });
            // A panic is told elsewhere.
            let _ = reloading.await;
        }
    }

    async fn reload_if_free(&self, dry_run: bool) -> Result<Reloaded, Failure> {
        let busy =
            || FailureKind::Unavailable.because("another reload is under way; try again when it is done");
        let turn = self.last.turn_if_free().ok_or_else(busy)?;
        self.reload(dry_run, turn).await
    }

    /// Loads the configuration again; with `dry_run`, only says what would change.
    async fn reload(&self, dry_run: bool, turn: Turn<'_>) -> Result<Reloaded, Failure> {
        let mut applied = self.last.claim(&turn).await;
        let none = || {
            let none = "there is no configuration file: lb was started without --config, and without --backends-file";
            refuse(none.to_owned())
        };
        let file = applied.file().ok_or_else(none)?.display().to_string();
        let _told = (!dry_run).then(|| self.handles.service.reloading());
        let next = read_again().await?;
        let differences = applied.differences(&next);
        refuse_what_is_fixed(&differences)?;
        let wish = wish(&applied, &next, &differences);
        let reloaded = |Compared { settings, slots, plan, .. }| {
            let others = differences.iter().filter(|one| is_shown(one)).map(setting);
            Reloaded { reloaded: file, dry_run, settings: others.chain(settings).collect(), slots, plan }
        };
        let change = self.begin(wish, None).await?;
        if dry_run {
            return Ok(reloaded(change.compared));
        }
        let access = prepare_access(&self.handles.plane.access, &next.config).await?;
        let made = match self.carry_out(change, None).await {
            Ok(made) => reloaded(made),
            Err(refusal) => {
                let_go(access, Duration::ZERO);
                return Err(refusal);
            }
        };
        self.apply(&next.config).await?;
        let_go(self.handles.plane.access.switch(access), LINGER);
        *applied = next;
        self.handles.plane.metrics.backends_file.recovered();
        self.followed.send_if_modified(|followed| {
            let before = std::mem::replace(followed, applied.config.backends_file.clone());
            before != *followed
        });
        self.tell("the configuration is loaded again", &made);
        Ok(made)
    }

    async fn ask(&self, operation: Operation) -> Result<Body, Failure> {
        let (reply, answer) = oneshot::channel();
        let sent = self.handles.controller.send(Request { operation, reply }).await;
        sent.map_err(|_| shutting_down())?;
        match answer.await.map_err(|_| shutting_down())? {
            Answer::Successful(body) => Ok(*body),
            Answer::Failure(failure) => Err(failure),
            Answer::Incidents(_) => Err(shutting_down()), // nothing here asks for them
        }
    }

    /// What runs, as a configuration file.
    async fn write(&self) -> Result<Written, Failure> {
        let busy = || FailureKind::Unavailable.because("a reload is under way; ask again when it is done");
        let turn = self.last.turn_if_free().ok_or_else(busy)?;
        let applied = self.last.claim(&turn).await;
        let (Body::Mapping(mapping), Body::Backends(backends)) =
            (self.ask(Operation::Mapping).await?, self.ask(Operation::Backends).await?)
        else {
            return Err(shutting_down()); // each of them has its own answer
        };
        Ok(Written { config: applied.written(&running::runs(&applied.config.source, &mapping, &backends)) })
    }

    /// Uses what cannot fail but with the end of `lb`.
    async fn apply(&self, config: &Config) -> Result<(), Failure> {
        let Handles { plane, terms, ends, log, .. } = &self.handles;
        let adjustment = Adjustment {
            health: config.health.clone(),
            most_per_replica: config.most_per_replica,
            start_timeout: config.start_timeout,
            drain_timeout: config.drain_timeout,
        };
        self.ask(Operation::Adjust(Box::new(adjustment))).await?;
        plane.change_rules(config.limits.clone(), &config.admission, &config.proxies);
        let new = self::terms(config);
        if new.token != terms.load().token {
            new.judge_token();
        }
        terms.store(Arc::new(new));
        ends.store(Arc::new(end_rules(config)));
        log.change(config.log.clone());
        Ok(())
    }

    fn tell(&self, what: &str, Reloaded { reloaded, settings, slots, plan, .. }: &Reloaded) {
        let settings = settings.iter().map(ToString::to_string);
        let changes: Vec<String> = settings.chain(slots.iter().map(ToString::to_string)).collect();
        for change in &changes {
            info!(change, "reload: {change}");
        }
        let moved = plan.as_ref().map(|plan| plan.moved);
        info!(file = reloaded, changes = changes.len(), moved, "{what}");
        self.handles.service.journal().record(Event::Reloaded { file: reloaded.clone(), changes });
    }
}

/// The configuration as it is now.
async fn read_again() -> Result<Applied, Failure> {
    let read = timeout(DISK, spawn_blocking(Applied::again)).await;
    match read {
        Ok(Ok(Ok(next))) => Ok(next),
        Ok(Ok(Err(problems))) => Err(refuse(format!("the configuration is wrong\n{problems}"))),
        Ok(Err(_)) => Err(shutting_down()),
        Err(_) => Err(refuse(format!("the configuration cannot be read within {DISK:?}"))),
    }
}

fn refuse_what_is_fixed(differences: &[Difference]) -> Result<(), Failure> {
    let fixed: Vec<String> = differences
        .iter()
        .filter(|one| !one.is_live())
        .map(|one| {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            format!("{}: {} -> {}", one.key, shown(&one.from), shown(&one.to))
        })
        .collect();
    match fixed.as_slice() {
        [] => Ok(()),
        fixed => Err(refuse(format!(
            "these settings hold as long as lb runs, so nothing is changed; start lb again for them\n{}",
            fixed.join("\n")
        ))),
    }
}

/// What the next configuration wishes of the fleet. A default is no wish, unless something else was given before.
fn wish(before: &Applied, next: &Applied, differences: &[Difference]) -> Wish {
    let changed: BTreeSet<String> = differences.iter().map(|one| one.key.clone()).collect();
    let says = |key: &str| next.gives(key) || changed.contains(key);
    let (config, is_mapped) = (&next.config, MappingPolicy::keys().any(|key| says(&key)));
    let slots = match (&before.config.source, &config.source) {
        (Source::Fixed(known), Source::Fixed(backends)) => WishedSlots::Named(named(known, backends, config)),
        (_, Source::Dns(_)) => WishedSlots::Unsaid,
        _ if says("replicas") => WishedSlots::Count(config.slots.len()),
        _ => WishedSlots::Unsaid,
    };
    Wish { slots, mapping: is_mapped.then(|| config.mapping.clone()), changed }
}

/// What the next configuration wishes of fixed servers.
fn named(known: &[FixedBackend], backends: &[FixedBackend], next: &Config) -> Named {
    let slots = backends.iter().take(next.slots.len()).cloned().collect();
    Named { slots, known: (known != backends).then(|| backends.to_vec()) }
}

/// Whether a difference is shown as one of its own. The others are shown as what they make of the fleet.
fn is_shown(difference: &Difference) -> bool {
    let key = difference.key.as_str();
    key != "replicas" && key != "backend" && MappingPolicy::keys().all(|known| known != key)
}

fn setting(difference: &Difference) -> SettingChange {
    let Difference { key, from, to } = difference.clone();
    SettingChange { key, from, to, by: Changer::File }
}

/// Opens another log of connections, if there is to be another one.
async fn prepare_access(access: &Arc<AccessLogs>, config: &Config) -> Result<Next, Failure> {
    let (access, rules) = (Arc::clone(access), config.access.clone());
    let opened = timeout(DISK, spawn_blocking(move || access.prepare(rules.as_ref()))).await;
    match opened {
        Ok(Ok(Ok(next))) => Ok(next),
        Ok(Ok(Err(error))) => Err(refuse(format!("{error:#}"))),
        Ok(Err(_)) => Err(shutting_down()),
        Err(_) => Err(refuse(format!("--access-log cannot be opened within {DISK:?}"))),
    }
}

/// Drops what may wait for the last lines of a file, after a while and on a thread that may wait.
fn let_go(what: impl Send + 'static, after: Duration) {
    tokio::spawn(async move {
        sleep(after).await;
        drop(spawn_blocking(move || drop(what)));
    });
}

fn refuse(why: String) -> Failure {
    FailureKind::BadRequest.because(why)
}

fn shutting_down() -> Failure {
    FailureKind::Unavailable.because("lb is shutting down")
}
