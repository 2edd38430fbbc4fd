//! The control plane: the owner of the fleet, and everything that reports to it.
//!
//! The control port sends [`Request`]s, the health checks and the drains send events, the provider sends reports. Only the
//! [`controller`] applies them to the [`fleet`](crate::fleet), performs the effects and publishes snapshots. It runs on its own
//! runtime, so that a busy data port never delays a health check, and takes a request only when nothing else is due.

mod controller;
mod explain;
mod health;
mod link;
mod plan;
pub(crate) mod port;

use proto::control::{Answer, Command};
use tokio::sync::{mpsc, oneshot};

pub(crate) use controller::{Controller, Ending, Setup};
pub(crate) use health::{HealthPolicy, OnDown, Probe};

use crate::fleet::Event;

/// A command, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Sends commands to the controller. The queue is bounded, so a sender waits when it is full.
pub(crate) type Requests = mpsc::Sender<Request>;

/// Tells the controller what happened to replicas. The queue is bounded, so a sender waits when it is full.
type Events = mpsc::Sender<Event>;
