//! The clients that behave: a modest load of several kinds while a round runs, and ids that are looked up after it. Every answer
//! is checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::plan::Dice;
use crate::load::{self, Amount, Exchange, Failure, Ids, Loop, Plan, Progress, Tally};

/// Ids whose slot is looked up after each round.
pub(crate) const IDS: u64 = 1000;
/// Timeout of one request: what takes longer hangs, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of one kind of load: this many requests can wait while a replica is stopped. If all wait, requests that are due
/// are not sent, and do not count.
const CONNECTIONS: usize = 100;
/// The duration of a load that is never ended.
const LONGEST: Duration = Duration::from_secs(3600);
/// The share of each kind of request, in hundredths.
const SHARES: [u32; 4] = [50, 20, 20, 10];

/// A request that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// The seed and the number from which its id follows.
    seed: u64,
    number: u64,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) outcome: Result<(), Failure>,
}

impl Ended {
    pub(super) fn id(&self) -> String {
        Ids::Random.id(self.seed, self.number)
    }
}

fn exchanges() -> [Exchange; 4] {
    [
        Exchange::Get { path: "/home".to_owned() },
        Exchange::Line { size: 64 },
        Exchange::Echo { size: 64 * 1024 },
        Exchange::Bytes { send: 0, receive: 512 * 1024 },
    ]
}

fn plan(target: SocketAddr, exchange: Exchange, seed: u64) -> Plan {
    Plan {
        target,
        others: Vec::new(),
        exchange,
        keep_open: false,
        ids: Ids::Random,
        pace: Loop::Closed,
        connections: 1,
        amount: Amount::Requests(IDS),
        warm_up: Duration::ZERO,
        timeout: TIMEOUT,
        threads: 1,
        seed,
        keep_records: true,
    }
}

/// The load of a round, which runs until it is told that it is enough.
#[derive(Debug)]
pub(super) struct Load {
    parts: Vec<(Arc<Plan>, Arc<Progress>)>,
}

impl Load {
    /// A load with so many requests a second, for the round with this seed and number.
    pub(super) fn new(target: SocketAddr, rate: f64, (seed, number): (u64, u64)) -> Self {
        let mut dice = Dice::new(seed, !number);
        let part = |(exchange, share): (Exchange, u32)| {
            let pace = Loop::Open { rate: rate * f64::from(share) / 100.0 };
            let amount = Amount::Duration(LONGEST);
            let plan = Plan { pace, amount, connections: CONNECTIONS, ..plan(target, exchange, dice.next()) };
            (Arc::new(plan), Arc::new(Progress::new()))
        };
        Load { parts: exchanges().into_iter().zip(SHARES).map(part).collect() }
    }

    /// Stops the load: no more requests are sent; those under way are still answered, or time out.
    pub(super) fn enough(&self) {
        self.parts.iter().for_each(|(_, progress)| progress.finish());
    }

    /// Sends the load. Returns every request, and the counts.
    ///
    /// # Errors
    /// The target gave no right answer for long.
    pub(super) async fn send(&self, stop: &CancellationToken) -> anyhow::Result<(Vec<Ended>, Tally)> {
        let [home, line, echo, bytes] = self.parts.as_slice() else { bail!("four kinds of load") };
        let run = |part: &(Arc<Plan>, Arc<Progress>)| {
            let (plan, progress) = part.clone();
            // A fault may strike before the first answer. The rule judges every request.
            async move { load::send(&plan, &progress, stop).await }
        };
        let outcomes = tokio::try_join!(run(home), run(line), run(echo), run(bytes))?;
        let mut sum = Tally::new(Instant::now());
        let mut all = Vec::new();
        let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3];
        for (outcome, (plan, _)) in outcomes.into_iter().zip(&self.parts) {
            if let Some(reason) = outcome.cut_short {
                bail!("{reason}");
            }
            let mut tally = outcome.tally;
            all.extend(std::mem::take(&mut tally.records).into_iter().map(|record| Ended {
                seed: plan.seed,
                number: record.number,
                begun: record.begun,
                ended: record.ended,
                outcome: record.outcome.map(drop),
            }));
            sum.add(tally);
        }
        Ok((all, sum))
    }
}

/// The ids that are looked up.
pub(super) fn ids(seed: u64) -> Vec<String> {
    (0..IDS).map(|number| Ids::Random.id(!seed, number)).collect()
}

/// Sends one request for each of [`ids`]; returns the hostname that answered, in their order.
///
/// # Errors
/// A request failed: the fleet is calm when this is called.
pub(super) async fn answering(
    target: SocketAddr,
    seed: u64,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<Arc<str>>> {
    let plan = Plan { connections: 16, ..plan(target, Exchange::Get { path: "/home".to_owned() }, !seed) };
    let outcome = load::run(&Arc::new(plan), &Arc::new(Progress::new()), stop).await?;
    let failures = outcome.tally.load().failures;
    if let Some(reason) = outcome.cut_short {
        bail!("{reason}");
    }
    if !failures.is_empty() {
        bail!("with no fault in effect, requests fail: {failures:?}");
    }
    let hosts = outcome.tally.records.into_iter().map(|record| (record.number, record.outcome));
    let mut hosts: HashMap<u64, Result<Arc<str>, Failure>> = hosts.collect();
    let host = |number| hosts.remove(&number).and_then(Result::ok).context("a request has no answer");
    (0..IDS).map(host).collect()
}
