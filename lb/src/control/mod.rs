//! The control plane: the owner of the fleet, and everything that reports to it.
//!
//! The control port sends [`Request`]s (what a snapshot tells, it answers itself), the health checks and the drains send events, the
//! provider sends reports. Only the [`controller`] applies them to the crate [`fleet`], performs the effects and publishes snapshots. It runs on its own
//! runtime, so that a busy data port never delays a health check, and takes a request only when nothing else is due.

mod beginning;
mod controller;
mod explain;
mod exposition;
mod health;
mod link;
mod plan;
pub(crate) mod port;
mod ring;
mod wish;

use std::path::PathBuf;
use std::time::Duration;

use fleet::{Event, Revision};
use proto::control::{Answer, Change, Failure, Hostname};
use proto::key::KeyKind;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use beginning::begin;
pub(crate) use controller::{Clock, Controller, Ending, Frozen, Setup, Takeover};
pub(crate) use exposition::{Exposition, Sources};
pub(crate) use health::{HealthPolicy, Http, Kind as ProbeKind, OnDown, Probe, Runner, Statuses};
pub(crate) use wish::{Compared, Named, Wish, WishedSlots};

/// What only the controller can do, or knows.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Make a change.
    Change(Change),
    /// Kill a replica.
    Kill(Hostname),
    /// Show what a change would move.
    Plan(Change),
    /// Show how keys are mapped.
    Mapping,
    /// List the replicas.
    Replicas,
    /// Show every slot.
    Backends,
    /// Tell whether a new client would be served now.
    Health,
    /// Tell the incidents.
    Incidents,
    /// Compare what runs with a wish. The answer goes elsewhere.
    Compare(Box<Wish>, oneshot::Sender<Result<Compared, Failure>>),
    /// Make several changes in one step. If it has to give way, it is given up when this is cancelled, or for a successor.
    Revise(Box<Revision>, Option<CancellationToken>),
    /// Use other rules from now on.
    Adjust(Box<Adjustment>),
}

/// Rules of the control plane that can change.
#[derive(Debug)]
pub(crate) struct Adjustment {
    pub(crate) health: HealthPolicy,
    /// The most connections of a replica.
    pub(crate) most_per_replica: Option<usize>,
    pub(crate) start_timeout: Duration,
    pub(crate) drain_timeout: Duration,
}

/// What is asked of what loads the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// To load it again.
    Load {
        /// Whether it is only asked what would change.
        dry_run: bool,
    },
    /// To show what runs, as a configuration.
    Write,
}

/// A wish to load the configuration again, or to show it, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Reloading {
    pub(crate) what: Asked,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// What clients of the control port have to show and get, which can change.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Only commands that come with it are carried out.
    pub(crate) token: Option<String>,
    /// What the keys of connections are.
    pub(crate) key: KeyKind,
}

/// An operation, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// A wish for a successor: the program that it runs, if it is another one, and where the outcome goes.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) binary: Option<PathBuf>,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Sends wishes for a successor. The queue is bounded.
pub(crate) type Upgrades = mpsc::Sender<Upgrade>;

/// Sends operations to the controller. The queue is bounded, so a sender waits when it is full.
pub(crate) type Requests = mpsc::Sender<Request>;

/// Tells the controller what happened to replicas. The queue is bounded, so a sender waits when it is full.
type Events = mpsc::Sender<Event>;
