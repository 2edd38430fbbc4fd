//! The threads of the generator: each has its own runtime and its share of the connections.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Dialer, receive, send};
use super::exchange::{Answer, Request};
use super::failure::Failure;
use super::pace::{Due, Pacer, Schedule};
use super::tally::{Record, Right, Tally};
use super::{Plan, Progress};

/// The precision of deadlines. A timer for each request would cost a system call each.
const TICK: Duration = Duration::from_millis(10);
/// The pause of a closed loop after a connection could not be made.
const PAUSE: Duration = Duration::from_millis(20);
/// How much of a wrong answer a complaint shows.
const SHOWN: usize = 60;

/// What the connections of a thread share.
struct Shared {
    plan: Arc<Plan>,
    pacer: Pacer,
    progress: Arc<Progress>,
    stop: CancellationToken,
    tally: Mutex<Tally>,
    /// Wakes the connections that wait for an answer, so that they check their deadlines.
    tick: Notify,
}

/// Why a wait ended early.
enum Cut {
    Late,
    Stopped,
}

impl Shared {
    /// Waits for `work`, but not beyond `deadline`, and not after the run is stopped.
    async fn within<T>(&self, deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Cut> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = self.tick.notified() => {}
            }
            // A connection that waits for its next request has no deadline.
            if self.stop.is_cancelled() || (deadline.is_none() && self.progress.is_enough()) {
                return Err(Cut::Stopped);
            }
            if deadline.is_some_and(|deadline| deadline < Instant::now()) {
                return Err(Cut::Late);
            }
        }
    }

    fn tally(&self, count: impl FnOnce(&mut Tally)) {
        // Only this thread uses it, and counting does not panic.
        count(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One thread of a run, from its start to its end.
pub(super) fn thread(
    number: usize,
    plan: &Arc<Plan>,
    schedule: &Arc<Schedule>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::new(Shared {
        plan: Arc::clone(plan),
        pacer: Pacer::new(schedule, number),
        progress: Arc::clone(progress),
        stop: stop.clone(),
        tally: Mutex::new(Tally::new(schedule.counted_from())),
        tick: Notify::new(),
    });
    // If the division leaves a remainder, the first threads have one more.
    let connections = (plan.connections + plan.threads - 1 - number) / plan.threads;
    runtime.block_on(async {
        let mut workers: JoinSet<()> = (0..connections).map(|_| worker(Arc::clone(&shared))).collect();
        let all = async { while workers.join_next().await.is_some() {} };
        tokio::select! {
            () = all => anyhow::Ok(()),
            never = tick(&shared) => match never {},
            failed = drive(&shared, connections) => failed,
        }
    })?;
    drop(runtime);
    let tally = Arc::into_inner(shared).context("a connection of the generator was not ended")?.tally;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Wakes all waiting connections every [`TICK`].
async fn tick(shared: &Shared) -> Infallible {
    loop {
        sleep(TICK).await;
        shared.tick.notify_waiters();
    }
}

/// Makes requests due; ends only if that fails.
async fn drive(shared: &Shared, connections: usize) -> anyhow::Result<()> {
    let enough = || shared.progress.is_enough();
    shared.pacer.drive(connections, shared.plan.timeout, enough).await.context("cannot keep time")?;
    std::future::pending().await
}

/// Sends requests, one at a time, until there are no more.
async fn worker(shared: Arc<Shared>) {
    let mut client = Client::new(&shared.plan);
    while let Ok(Some(due)) = shared.within(None, shared.pacer.next()).await {
        let begun = Instant::now();
        let outcome =
            shared.within(Some(begun + shared.plan.timeout), client.ask(&shared.plan, due.number)).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Cut::Late) => Err(Failure::Timeout),
            Err(Cut::Stopped) => {
                return shared.tally(|tally| {
                    if due.counts {
                        tally.abandon(1);
                    }
                });
            }
        };
        count(&shared, &client, due, begun, outcome);
        if outcome.is_err_and(Failure::is_without_connection) {
            let _ = shared.within(None, sleep(PAUSE)).await;
        }
    }
}

/// Counts a request that has ended.
fn count(shared: &Shared, client: &Client, due: Due, begun: Instant, outcome: Result<(), Failure>) {
    let ended = Instant::now();
    let latency = ended.saturating_duration_since(due.at);
    shared.progress.note(outcome.is_ok().then_some(latency), ended);
    if !due.counts {
        return shared.tally(|tally| tally.warm(outcome.is_ok()));
    }
    shared.tally(|tally| {
        tally.ended(ended);
        let outcome = match outcome {
            Ok(()) => Ok(tally.succeed(&client.right(latency))),
            Err(failure) => {
                tally.fail(failure, 1);
                Err(failure)
            }
        };
        if shared.plan.keep_records {
            tally.records.push(Record { number: due.number, begun, ended, outcome });
        }
    });
}

/// A client of the target.
struct Client {
    dialer: Dialer,
    /// The connection that stays open; `None` while a request is under way, and after a failure.
    stream: Option<TcpStream>,
    id: Vec<u8>,
    request: Request,
    answer: Answer,
}

impl Client {
    fn new(plan: &Plan) -> Self {
        Client {
            dialer: Dialer::new(),
            stream: None,
            id: Vec::new(),
            request: Request::default(),
            answer: plan.exchange.answer(),
        }
    }

    /// Sends one request and reads its answer. A connection that stays open keeps the id of its first request, by which it
    /// was balanced.
    async fn ask(&mut self, plan: &Plan, number: u64) -> Result<(), Failure> {
        let lost = |error: std::io::Error| Failure::of(&error);
        self.answer.begin();
        let (mut stream, sent) = if let Some(stream) = self.stream.take() {
            (stream, 0)
        } else {
            self.id.clear();
            plan.ids.write(plan.seed, number, &mut self.id);
            plan.exchange.compose(&self.id, plan.keep_open, &mut self.request);
            let (stream, sent) =
                self.dialer.open(plan.target_of(number), &self.request.head).map_err(lost)?;
            if plan.keep_open {
                stream.set_nodelay(true).map_err(lost)?;
            }
            (stream, sent)
        };
        let (answers, mut requests) = stream.split();
        let (request, answer) = (&self.request, &mut self.answer);
        if request.is_sent(sent) {
            receive(&answers, request, answer).await?;
        } else {
            // At the same time: a server that echoes stops reading when its own answers are not read.
            let sent = async { send(&mut requests, request, sent).await.map_err(lost) };
            tokio::try_join!(sent, receive(&answers, request, answer))?;
        }
        if plan.keep_open && !self.answer.is_last() {
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// The answer that has just been completed.
    fn right(&self, latency: Duration) -> Right<'_> {
        let sent = self.request.carries();
        Right { server: self.answer.server(), latency, received: self.answer.received(), sent }
    }
}

/// Sends one request that is not counted.
///
/// # Errors
/// The answer is not right; the message says what came instead.
pub(super) async fn try_once(plan: &Plan) -> anyhow::Result<()> {
    let mut client = Client::new(plan);
    let outcome = timeout(plan.timeout, client.ask(plan, u64::MAX)).await.unwrap_or(Err(Failure::Timeout));
    let target = plan.target;
    match outcome {
        Ok(()) => Ok(()),
        Err(Failure::Wrong) => {
            let beginning = client.answer.beginning();
            let shown = &beginning[..beginning.len().min(SHOWN)];
            bail!("{target} gives a wrong answer; it begins with \"{}\"", shown.escape_ascii())
        }
        Err(Failure::Status(code)) => bail!("{target} answers with the HTTP status {code}"),
        Err(Failure::Timeout) => bail!("{target} did not answer within {:?}", plan.timeout),
        Err(failure) => bail!("{target} does not answer: {failure}"),
    }
}
