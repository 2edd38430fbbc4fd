//! A reload, as far as the fleet is concerned: compared, planned and made.

use std::sync::Arc;

use fleet::{CommandId, Event, Revision};
use proto::control::{Answer, Failure, FailureKind};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::commands::{Question, Waiting};
use crate::control::wish::{Compared, Wish};
use crate::control::{Adjustment, plan};

/// A wish, and where it goes how what runs differs from it.
type Comparison = (Box<Wish>, oneshot::Sender<Result<Compared, Failure>>);

/// Wishes that wait for slots that come. There is one reload at a time, so they are few.
#[derive(Default)]
pub(super) struct Parked(Vec<Comparison>);

/// A change that gives way to anything else.
pub(super) struct Yielding {
    pub(super) command: CommandId,
    /// Cancelled when it has to.
    cancelled: Option<CancellationToken>,
}

impl Yielding {
    /// Waits until a change has to give way, if there is one.
    pub(super) async fn has_to(change: Option<&Self>) {
        match change.and_then(|change| change.cancelled.as_ref()) {
            Some(cancelled) => cancelled.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Controller {
    /// Compares what runs with a wish, and plans the difference, as soon as no slots come that may be those that are wished.
    pub(super) fn compare(&mut self, comparison: Comparison) {
        self.parked.0.push(comparison);
        self.compare_parked();
    }

    /// Answers the wishes that have waited long enough, and forgets those that are not waited for any more.
    pub(super) fn compare_parked(&mut self) {
        let fleet = &self.fleet;
        let is_over = |(wish, sender): &mut Comparison| sender.is_closed() || !wish.is_open(fleet);
        let ready: Vec<Comparison> = self.parked.0.extract_if(.., is_over).collect();
        ready.into_iter().for_each(|(wish, sender)| self.compare_now(&wish, sender));
    }

    /// The plan is computed outside the controller, one at a time.
    fn compare_now(&self, wish: &Wish, sender: oneshot::Sender<Result<Compared, Failure>>) {
        let compared = wish.compare(&self.fleet);
        let Some(revision) = &compared.revision else {
            return drop(sender.send(Ok(compared)));
        };
        let preview = match self.fleet.preview_revision(revision) {
            Ok(preview) => preview,
            Err(refusal) => return drop(sender.send(Err(refusal))),
        };
        let (snapshot, one_at_a_time) = (self.setup.cell.load_full(), Arc::clone(&self.one_plan));
        let members = self.publication.members().to_vec();
        tokio::spawn(async move {
            let _turn = one_at_a_time.lock().await;
            let planned = spawn_blocking(move || plan::plan(&snapshot, &members, preview)).await;
            let planned = planned.unwrap_or_else(|_| {
                Err(FailureKind::Unavailable.because("lb cannot plan, or is shutting down"))
            });
            // The client may have gone.
            let _ = sender.send(planned.map(|plan| Compared { plan: Some(plan), ..compared }));
        });
    }

    /// Makes several changes in one step. Its answer is an effect, now or later.
    pub(super) fn revise(
        &mut self,
        revision: Revision,
        yields: Option<CancellationToken>,
        sender: oneshot::Sender<Answer>,
    ) {
        self.last_command += 1;
        let command = CommandId(self.last_command);
        if let Some(cancelled) = yields {
            // There is one file of backends, and one change of it at a time.
            self.yielding = Some(Yielding { command, cancelled: Some(cancelled) });
        }
        self.waiting.insert(command, Waiting { sender, question: Question::Replicas });
        self.apply(Event::Revise(command, revision));
    }

    /// Gives the change up that gives way, if there is one and it can still be undone.
    pub(super) fn give_way(&mut self) {
        let Some(Yielding { command, cancelled }) = &mut self.yielding else { return };
        let command = *command;
        // One that is too late to be given up is not asked again.
        *cancelled = None;
        let is_done = self.done.iter().any(|(_, done)| *done == command);
        if self.waiting.contains_key(&command) && !is_done {
            self.forget_check(command);
            self.apply(Event::Cancel(command));
        }
    }

    /// Uses other rules from now on.
    pub(super) fn adjust(&mut self, adjustment: Adjustment) {
        let Adjustment { health, most_per_replica, start_timeout, drain_timeout } = adjustment;
        // A change has each replica probed at once.
        self.setup.health.send_if_modified(|known| {
            let is_other = *known != health;
            *known = health;
            is_other
        });
        self.setup.most_per_replica = most_per_replica;
        self.apply(Event::Limit { start_timeout, drain_timeout });
        self.store();
    }
}
