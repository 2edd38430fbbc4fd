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

use fleet::Event;
use proto::control::{Answer, Change, Hostname};
use tokio::sync::{mpsc, oneshot};

pub(crate) use beginning::begin;
pub(crate) use controller::{Clock, Controller, Ending, Setup};
pub(crate) use exposition::{Exposition, Sources};
pub(crate) use health::{HealthPolicy, OnDown, Probe};

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
}

/// An operation, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Sends operations to the controller. The queue is bounded, so a sender waits when it is full.
pub(crate) type Requests = mpsc::Sender<Request>;

/// Tells the controller what happened to replicas. The queue is bounded, so a sender waits when it is full.
type Events = mpsc::Sender<Event>;
