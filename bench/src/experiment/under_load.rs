//! An open loop of requests while something is done to the replicas.

use std::ops::AsyncFnOnce;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Setting, Subject, TIMEOUT};
use crate::load::{self, Amount, Loop, Outcome, Plan, Progress};

/// Time with right answers before the next step.
const CALM: Duration = Duration::from_millis(400);
/// How long the last answers are waited for. By then every request has been answered or has timed out.
const LAST: Duration = TIMEOUT.saturating_add(Duration::from_millis(500));
/// The pause between two looks at something slow.
const LOOK: Duration = Duration::from_millis(5);
/// The duration of the load if nothing ends it.
const LONGEST: Duration = Duration::from_secs(3600);
/// The maximum number of connections: this many requests can wait while a replica is gone.
const CONNECTIONS: usize = 500;

/// Sends `rate` requests a second while `act` runs, and waits for the last answers. Returns the measurements even if `act` fails, and
/// the failure beside them.
///
/// # Errors
/// Nothing could be sent.
pub(super) async fn under_load(
    setting: Setting<'_>,
    rate: f64,
    subject: &Subject,
    act: impl AsyncFnOnce(&Progress) -> anyhow::Result<()>,
) -> anyhow::Result<(Outcome, anyhow::Result<()>)> {
    let plan = Arc::new(Plan {
        others: subject.others.clone(),
        pace: Loop::Open { rate },
        connections: CONNECTIONS,
        amount: Amount::Duration(LONGEST),
        keep_records: true,
        ..setting.plan(subject.data)
    });
    let (progress, end) = (Arc::new(Progress::new()), setting.stop.child_token());
    let load = async {
        let outcome = load::run(&plan, &progress, &end).await;
        end.cancel();
        outcome
    };
    // Requests that hang must show: no more are sent, and those under way may take until their timeout.
    let ended = async {
        progress.finish();
        sleep(LAST).await;
        end.cancel();
    };
    let acted = async {
        let acted = end.run_until_cancelled(act(&progress)).await;
        end.run_until_cancelled(ended).await;
        acted.unwrap_or(Ok(()))
    };
    let (outcome, acted) = tokio::join!(load, acted);
    Ok((outcome?, acted))
}

/// Waits until clients have had right answers for a moment.
pub(super) async fn calm(progress: &Progress, rate: f64) {
    let served = || progress.ended().0 - progress.ended().1;
    let enough = served() + (rate * CALM.as_secs_f64()).ceil() as u64;
    while served() < enough {
        sleep(LOOK).await;
    }
}

/// Milliseconds from one moment to a later one; 0 if it is not later.
pub(super) fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
