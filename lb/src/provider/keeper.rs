//! The handle of a started replica, and what arrives at its other end.

use fleet::Stopping;
use proto::control::Hostname;
use tokio::sync::{mpsc, oneshot};

/// Whether a replica has been killed, and if not, why. Without an answer it has ended meanwhile.
pub(crate) type Killed = oneshot::Receiver<Result<(), String>>;

/// The handle of a started replica. Dropping it stops the replica at once.
#[derive(Debug)]
pub(crate) struct Keeper {
    hostname: Hostname,
    stop: oneshot::Sender<Stopping>,
    kill: mpsc::Sender<Kill>,
}

/// A wish to kill the replica, and where its outcome goes.
pub(super) type Kill = oneshot::Sender<Result<(), String>>;

/// What a [`Keeper`] wishes, for who looks after the replica.
#[derive(Debug)]
pub(super) struct Wishes {
    /// The replica is to be stopped. It is not looked after any more then.
    pub(super) stop: oneshot::Receiver<Stopping>,
    /// The replica is to be killed. Its end is reported as any other.
    pub(super) kill: mpsc::Receiver<Kill>,
}

impl Keeper {
    pub(super) fn new(hostname: Hostname) -> (Self, Wishes) {
        let ((stop, stopped), (kill, killed)) = (oneshot::channel(), mpsc::channel(1));
        (Keeper { hostname, stop, kill }, Wishes { stop: stopped, kill: killed })
    }

    /// The hostname of the replica.
    pub(crate) fn hostname(&self) -> &Hostname {
        &self.hostname
    }

    /// Stops the replica.
    pub(crate) fn stop(self, how: Stopping) {
        // It fails if the replica has already ended, or has a fixed address.
        let _ = self.stop.send(how);
    }

    /// Kills the replica, and does nothing else about it. `None` if it has ended, or is being killed. It never waits.
    pub(crate) fn kill(&self) -> Option<Killed> {
        let (done, killed) = oneshot::channel();
        self.kill.try_send(done).ok()?;
        Some(killed)
    }
}
