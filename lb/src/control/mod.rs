//! The control plane: the owner of the fleet, and everything that reports to it.
//!
//! The control port, the health checks and the drains send [`Message`]s; the provider sends reports. Only the [`controller`] applies
//! them to the [`fleet`](crate::fleet), performs the effects and publishes snapshots. It runs on its own runtime, so that a busy
//! data port never delays a health check.

mod controller;
mod explain;
mod health;
mod link;
mod plan;
pub(crate) mod port;

use proto::control::{Answer, Command};
use tokio::sync::{mpsc, oneshot};

pub(crate) use controller::{Controller, Setup};
pub(crate) use health::{HealthPolicy, OnDown, Probe};

use crate::fleet::Event;

/// What the controller receives.
#[derive(Debug)]
pub(crate) enum Message {
    /// A command, and where its answer goes.
    Request(Command, oneshot::Sender<Answer>),
    /// Something happened to a replica.
    Event(Event),
    /// `lb` ends: stop every replica.
    Shutdown,
}

/// Sends to the controller. The queue is bounded, so a sender waits when it is full.
pub(crate) type Mailbox = mpsc::Sender<Message>;
