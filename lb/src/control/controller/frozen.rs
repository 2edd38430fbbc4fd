//! The fleet while a successor has it, or is about to: nothing is changed, and nothing is judged.
//!
//! What happens meanwhile waits in the queues, and is seen if the successor fails.

use std::collections::HashSet;

use fleet::{ReplicaId, Roster, Stopping, View};
use proto::control::{Answer, FailureKind, FixedBackend, Hostname, State};
use tokio::sync::oneshot;

use super::{Controller, Inbox};
use crate::control::{Operation, Request};
use crate::provider::Lent;

/// Whether the fleet is another process's.
#[derive(Debug)]
pub(crate) enum Takeover {
    /// It is about to be: nothing changes from now on. The answer is what it has to know, or why this is no time for it.
    Freeze(oneshot::Sender<Result<Frozen, String>>),
    /// It is not.
    Thaw,
}

/// A fleet that does not change any more.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) roster: Roster,
    /// The servers that are known by name.
    pub(crate) known: Vec<FixedBackend>,
    /// The names of the slots that are up.
    pub(crate) up: Vec<String>,
    /// The replicas that have left, and drain.
    pub(crate) leaving: Vec<Hostname>,
    /// What its provider has to tell.
    pub(crate) lent: Lent,
}

impl Controller {
    pub(super) fn freeze(&mut self, takeover: Takeover) {
        let reply = match takeover {
            Takeover::Thaw => {
                self.setup.provider.take_back();
                self.is_frozen = false;
                return;
            }
            Takeover::Freeze(reply) => reply,
        };
        self.give_way();
        if let Some(what) = self.under_way() {
            // The upgrade may have been given up.
            let _ = reply.send(Err(format!("{what}; try again when it is done")));
            return;
        }
        self.is_frozen = true;
        let is_up = |view: &View| view.state == State::Up;
        let up =
            self.fleet.slots().filter(is_up).filter_map(|view| Some(view.slot?.name.to_string())).collect();
        let (roster, known) = (self.fleet.roster(), self.fleet.known().to_vec());
        let kept = self.kept();
        let leaving = self.running.iter().filter(|(id, _)| !kept.contains(id));
        let leaving = leaving.map(|(_, running)| running.keeper.hostname().clone()).collect();
        let lent = self.setup.provider.lend();
        tokio::spawn(async move {
            let frozen = lent.await.map(|lent| Frozen { roster, known, up, leaving, lent });
            // The upgrade may have been given up; it thaws the fleet then.
            let _ = reply.send(frozen);
        });
    }

    /// What would be lost if nothing changed from now on.
    fn under_way(&self) -> Option<&'static str> {
        let yielding = self.yielding.as_ref().map(|change| change.command);
        if self.waiting.keys().any(|command| Some(*command) != yielding) {
            Some("a command is under way")
        } else if !self.waiting.is_empty() {
            Some("a change of the file of backends is being made")
        } else {
            self.building.is_some().then_some("a mapping is being built")
        }
    }

    /// The replicas that a successor knows.
    fn kept(&self) -> HashSet<ReplicaId> {
        self.fleet.slots().chain(self.fleet.spares()).filter_map(|view| view.replica).collect()
    }

    /// Leaves the fleet to the process that has it. What it does not know (replicas that have left and drain) is stopped.
    pub(super) async fn part(mut self) {
        let kept = self.kept();
        let owns = self.setup.provider.owns_replicas();
        let (kept, others): (Vec<_>, Vec<_>) = self.running.drain().partition(|(id, _)| kept.contains(id));
        for (_, running) in others {
            running.keeper.stop(if owns { Stopping::Gently } else { Stopping::Release });
        }
        if self.setup.provider.has_children() {
            // To drop a keeper is to stop its replica.
            let _kept = kept;
            std::future::pending::<()>().await;
        } else {
            kept.into_iter().for_each(|(_, running)| running.keeper.stop(Stopping::Release));
            self.setup.provider.stopped().await;
        }
    }

    /// Waits for the next thing that matters to a fleet that does not change. False when `lb` is over.
    pub(super) async fn wait_frozen(&mut self, inbox: &mut Inbox) -> bool {
        tokio::select! {
            biased;
            () = self.setup.ending.over.cancelled() => return false,
            Some(takeover) = self.setup.takeover.recv() => self.freeze(takeover),
            Some(Request { operation, reply }) = inbox.requests.recv() => match operation {
                Operation::Change(_)
                | Operation::Kill(_)
                | Operation::Revise(..)
                | Operation::Adjust(_) => {
                    let refusal = FailureKind::Unavailable.because("upgrading: a successor takes the fleet over; ask again soon");
                    // The client may have gone.
                    let _ = reply.send(Answer::Failure(refusal));
                }
                operation => self.serve(operation, reply),
            },
        }
        true
    }
}
