//! The change of the fleet that a reload is about, made in one step, or nothing is.
//!
//! Others may change the fleet meanwhile: commands, and where several `lb`s share it, their reloads of a file that says the same. What they
//! have done already is not done twice, and no reason to refuse the rest.

use std::time::Duration;

use fleet::Revision;
use proto::control::{Failure, FailureKind};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Reloader, shutting_down};
use crate::control::{Compared, Operation, Request, Wish};

/// How long slots that come are waited for. A command is answered within a minute.
const COMING: Duration = Duration::from_secs(50);
/// Until when replicas may begin to start: they need some of that minute, too.
const LATEST: Duration = Duration::from_secs(20);

/// A wish, and how what runs differs from it.
pub(super) struct Change {
    wish: Wish,
    begun: Instant,
    pub(super) compared: Compared,
}

impl Reloader {
    /// Compares what runs with a wish, until that gives way.
    pub(super) async fn begin(
        &self,
        wish: Wish,
        gives_way: Option<&CancellationToken>,
    ) -> Result<Change, Failure> {
        let begun = Instant::now();
        let compared = unless(gives_way, self.compare(&wish, begun)).await?;
        Ok(Change { wish, begun, compared })
    }

    /// Has the fleet changed, or nothing is. Returns what was changed. If others have changed the fleet since it was compared, it is compared again.
    pub(super) async fn carry_out(
        &self,
        Change { wish, begun, mut compared }: Change,
        gives_way: Option<&CancellationToken>,
    ) -> Result<Compared, Failure> {
        while let Some(revision) = compared.revision.clone() {
            let operation = Operation::Revise(Box::new(revision.clone()), gives_way.cloned());
            let Err(refusal) = self.ask(operation).await else { break };
            if refusal.kind == FailureKind::StartFailed {
                return Err(refusal);
            }
            let next = unless(gives_way, self.compare(&wish, begun)).await?;
            if next.revision.as_ref() == Some(&revision) {
                return Err(refusal);
            }
            if begun.elapsed() > LATEST {
                return Err(others_came_first());
            }
            compared = next;
        }
        Ok(compared)
    }

    /// Compares what runs with a wish, and plans the difference.
    async fn compare(&self, wish: &Wish, begun: Instant) -> Result<Compared, Failure> {
        let ((reply, _), (compared, answer)) = (oneshot::channel(), oneshot::channel());
        let operation = Operation::Compare(Box::new(wish.clone()), compared);
        let sent = self.handles.controller.send(Request { operation, reply }).await;
        sent.map_err(|_| shutting_down())?;
        let left = COMING.saturating_sub(begun.elapsed());
        let answer = timeout(left, answer).await.map_err(|_| others_came_first())?;
        let compared = answer.map_err(|_| shutting_down())??;
        let starts = |revision: &Revision| revision.add.is_some() || !revision.replace.is_empty();
        if compared.revision.as_ref().is_some_and(starts) && begun.elapsed() > LATEST {
            return Err(others_came_first());
        }
        Ok(compared)
    }
}

/// Does this unless it has to give way.
async fn unless<T>(
    gives_way: Option<&CancellationToken>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(gives_way) = gives_way else { return work.await };
    let first = || Err(FailureKind::Unavailable.because("a reload goes before it"));
    gives_way.run_until_cancelled(work).await.unwrap_or_else(first)
}

fn others_came_first() -> Failure {
    let why =
        "replicas are being started by another command, here or at another lb; try again when that is done";
    FailureKind::Unavailable.because(why)
}
