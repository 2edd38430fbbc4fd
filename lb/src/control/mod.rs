//! The control plane: one owner of the fleet, and those who report to it.
//!
//! The control port, the health checks and the drains send [`Message`]s, the provider its reports; the [`controller`] alone applies
//! them to the [`fleet`](crate::fleet), performs the effects and publishes snapshots. It runs on a runtime of its own, so that a busy
//! data port never starves a heartbeat.

mod controller;
mod explain;
mod health;
mod link;
mod plan;
pub(crate) mod port;

use proto::control::{Answer, Command};
use tokio::sync::{mpsc, oneshot};

pub(crate) use controller::{Controller, Setup};
pub use health::{HealthPolicy, Probe};

use crate::fleet::Event;

/// What the controller is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody asks something of it.
    Request(Command, oneshot::Sender<Answer>),
    /// Something has happened to a replica.
    Event(Event),
    /// The program ends: stop every replica.
    Shutdown,
}

/// How one tells the controller; bounded, so that whoever reports too much waits.
pub(crate) type Mailbox = mpsc::Sender<Message>;
