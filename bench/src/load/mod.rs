//! The load generator: it sends requests to an address, checks every answer and counts every request.
//!
//! A [`Plan`] says what to send; [`run`] sends it from its own threads, each with a runtime, and returns a [`Tally`]. It works
//! with any TCP server or load balancer and knows none of them. It never drops a failure: a request that was begun, or that was
//! due in an open loop, ends as a right answer or as a failure with a name.
//!
//! In the order of a request: `ids` chooses its id, `pace` its time, `worker` runs it, `connection` opens a connection and
//! writes the head with few system calls, `exchange` composes requests and checks answers (`line` and `http` are the two
//! protocols, `payload` the content), `tally` counts, and `failure` names what went wrong.

mod connection;
mod exchange;
mod failure;
mod http;
mod ids;
mod line;
mod pace;
mod payload;
mod ports;
mod tally;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) use exchange::{Exchange, LINE_MAX, Request};
pub(crate) use failure::Failure;
pub(crate) use ids::Ids;
pub(crate) use pace::{Amount, Loop};
pub(crate) use ports::raise_file_limit;
pub(crate) use tally::{Record, Tally};

use crate::live::{BUCKETS, bucket};

/// The time between two checks that the target still answers.
const LOOK: Duration = Duration::from_millis(100);

/// What to send, where to, when and how often.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The address of the target.
    pub(crate) target: SocketAddr,
    /// More addresses: connections go to all of them in turn.
    pub(crate) others: Vec<SocketAddr>,
    /// What one request is.
    pub(crate) exchange: Exchange,
    /// Whether a connection carries many requests, one after the other.
    pub(crate) keep_open: bool,
    /// The ids of the requests.
    pub(crate) ids: Ids,
    /// When requests are sent.
    pub(crate) pace: Loop,
    /// The maximum number of open connections.
    pub(crate) connections: usize,
    /// The number of requests, or the duration.
    pub(crate) amount: Amount,
    /// How long requests are sent before counting begins.
    pub(crate) warm_up: Duration,
    /// How long one request may take, its connection included.
    pub(crate) timeout: Duration,
    /// The number of sending threads.
    pub(crate) threads: usize,
    /// The seed of random ids.
    pub(crate) seed: u64,
    /// Whether every request leaves a [`Record`].
    pub(crate) keep_records: bool,
}

impl Plan {
    /// The target of a connection that is opened for the request with this number.
    fn target_of(&self, number: u64) -> SocketAddr {
        let places = self.others.len() as u64 + 1;
        let turn = usize::try_from(number % places).ok();
        turn.and_then(|turn| turn.checked_sub(1)).map_or(self.target, |other| self.others[other])
    }
}

/// The progress of a run, read by other tasks; and the signal that it may end.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Failures since the last right answer.
    in_a_row: AtomicU64,
    /// Milliseconds from `begun` to the first of them.
    failing_since: AtomicU64,
    is_enough: AtomicBool,
    /// Right answers by latency.
    latencies: [AtomicU64; BUCKETS],
}

impl Progress {
    pub(crate) fn new() -> Self {
        Progress {
            begun: Instant::now(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            failing_since: AtomicU64::new(0),
            is_enough: AtomicBool::new(false),
            latencies: Default::default(),
        }
    }

    /// Requests that have ended, and how many of them failed.
    pub(crate) fn ended(&self) -> (u64, u64) {
        let failed = self.failed.load(Relaxed);
        (self.succeeded.load(Relaxed) + failed, failed)
    }

    /// Right answers by latency, the warm-up included.
    pub(crate) fn latencies(&self) -> [u64; BUCKETS] {
        self.latencies.each_ref().map(|count| count.load(Relaxed))
    }

    /// Stops the schedule: no more requests become due. Those that are due are still sent and answered.
    pub(crate) fn finish(&self) {
        self.is_enough.store(true, Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.is_enough.load(Relaxed)
    }

    /// Notes that a request has ended: with a right answer, after this time, or with a failure.
    fn note(&self, latency: Option<Duration>, at: Instant) {
        if let Some(latency) = latency {
            self.succeeded.fetch_add(1, Relaxed);
            self.latencies[bucket(latency)].fetch_add(1, Relaxed);
            self.in_a_row.store(0, Relaxed);
            return;
        }
        self.failed.fetch_add(1, Relaxed);
        if self.in_a_row.fetch_add(1, Relaxed) == 0 {
            let since = at.saturating_duration_since(self.begun).as_millis();
            self.failing_since.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Whether all requests have failed for this long, and more than one did.
    fn is_lost(&self, patience: Duration) -> bool {
        let since = Duration::from_millis(self.failing_since.load(Relaxed));
        self.in_a_row.load(Relaxed) > 1 && self.begun.elapsed().saturating_sub(since) > patience
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The counts.
    pub(crate) tally: Tally,
    /// Why it ended early, if it did.
    pub(crate) cut_short: Option<String>,
}

/// Sends what `plan` says until it is done, `stop` is cancelled, the target stops answering, or the host runs out of a
/// resource. The outcome has the counts so far.
///
/// # Errors
/// Nothing was sent: the first request, which is not counted, failed, or the limit of open files is too low.
pub(crate) async fn run(
    plan: &Arc<Plan>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    worker::try_once(plan).await?;
    send(plan, progress, stop).await
}

/// Like [`run`], for a target that may be in trouble from the first request on.
///
/// # Errors
/// The limit of open files is too low.
pub(crate) async fn send(
    plan: &Arc<Plan>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    ports::check_files(plan.connections)?;
    let end = stop.child_token();
    let schedule = Arc::new(pace::Schedule::begin(plan, Instant::now()));
    let mut parts = Vec::new();
    for number in 0..plan.threads {
        parts.push(spawn(number, plan, &schedule, progress, &end)?);
    }
    let all = async {
        let mut tally = Tally::new(schedule.counted_from());
        for part in parts {
            tally.add(part.await.context("a thread of the generator failed")??);
        }
        let owed = schedule.owed();
        // An interruption is why these were not sent; the target is not to blame.
        if stop.is_cancelled() {
            tally.abandon(owed);
        } else {
            tally.fail(Failure::NotSent, owed);
        }
        anyhow::Ok(tally)
    };
    tokio::pin!(all);
    let (tally, cut_short) = tokio::select! {
        tally = &mut all => (tally?, None),
        why = trouble(plan, progress) => {
            end.cancel();
            (all.await?, Some(why))
        }
    };
    let interrupted = stop.is_cancelled().then(|| "interrupted".to_owned());
    Ok(Outcome { tally, cut_short: cut_short.or(interrupted) })
}

/// Starts a thread of the generator.
fn spawn(
    number: usize,
    plan: &Arc<Plan>,
    schedule: &Arc<pace::Schedule>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Tally>>> {
    let (done, part) = oneshot::channel();
    let (plan, schedule) = (Arc::clone(plan), Arc::clone(schedule));
    let (progress, stop) = (Arc::clone(progress), stop.clone());
    let work = move || {
        // The receiver is gone only if the whole run was given up.
        let _ = done.send(worker::thread(number, &plan, &schedule, &progress, &stop));
    };
    thread::Builder::new().name(format!("load-{number}")).spawn(work).context("cannot start a thread")?;
    Ok(part)
}

/// Ends when the run cannot go on, and says why.
async fn trouble(plan: &Plan, progress: &Progress) -> String {
    loop {
        sleep(LOOK).await;
        if progress.is_lost(plan.timeout) {
            return format!("{} gave no right answer for {:?}", plan.target, plan.timeout);
        }
        if let Some(full) = ports::tracking_is_full() {
            return full;
        }
    }
}

#[cfg(test)]
pub(in crate::load) mod tests {
    use super::*;

    /// A plan for tests.
    pub(in crate::load) fn plan() -> Plan {
        Plan {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            others: Vec::new(),
            exchange: Exchange::Line { size: 0 },
            keep_open: false,
            ids: Ids::Random,
            pace: Loop::Closed,
            connections: 1,
            amount: Amount::Requests(1),
            warm_up: Duration::ZERO,
            timeout: Duration::from_secs(1),
            threads: 1,
            seed: 0,
            keep_records: false,
        }
    }

    #[test]
    fn connections_take_turns_where_there_are_several_targets() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let targets = |others: &[u16]| {
            let others = others.iter().map(|&port| at(port)).collect();
            let plan = Plan { target: at(1), others, ..plan() };
            [0, 1, 2, 3, 4, u64::MAX].map(|number| plan.target_of(number).port())
        };
        assert_eq!(targets(&[]), [1; 6]);
        assert_eq!(targets(&[2, 3]), [1, 2, 3, 1, 2, 1]);
    }

    #[test]
    fn a_target_is_lost_when_it_has_only_failed_for_a_while_and_not_for_one_failure() {
        let (progress, now) = (Progress::new(), Instant::now());
        progress.note(Some(Duration::ZERO), now);
        progress.note(None, now);
        assert!(!progress.is_lost(Duration::ZERO), "one failure");
        progress.note(None, now);
        assert!(!progress.is_lost(Duration::from_secs(3600)), "not for long");
        while !progress.is_lost(Duration::ZERO) {}
        progress.note(Some(Duration::ZERO), now);
        assert!(!progress.is_lost(Duration::ZERO), "a right answer");
        assert_eq!(progress.ended(), (4, 2));
        assert_eq!(progress.latencies()[0], 2);
    }
}
