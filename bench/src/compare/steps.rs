//! One turn: one contender does one kind of work in one round.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio_util::sync::CancellationToken;

use super::greet;
use super::stage::{Entrant, Ready, Stage};
use super::work::Work;
use crate::data::{Load, Reading};
use crate::load::{self, Plan, Progress};

/// How long each turn sends before it counts.
const WARM_UP: Duration = Duration::from_millis(100);
/// Idle connections that may fail before the turn is given up: each may take until its timeout.
const FAILURES: u64 = 10;
/// Connections that are made and closed before idle ones are counted, so that one-time costs of a proxy do not count.
const FIRST: usize = 16;

/// Sends load to a contender and reads its costs; `None` if it was interrupted.
///
/// # Errors
/// There are no right answers, or no more of them; or connections are proxied that must be handed over.
pub(super) async fn load_step(
    work: Work,
    plan: Plan,
    contender: &Ready,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Reading>> {
    let Some(warm_up) = warm_up(&plan, stop).await? else { return Ok(None) };
    let cpu = || contender.processes.as_ref().map(|processes| processes.cpu()).transpose();
    let (before, replicas_before) = (cpu()?, contender.replicas.cpu()?);
    let Some(load) = send(plan, stop).await? else { return Ok(None) };
    let spent = |before, after: u64| share(after.saturating_sub(before), &load);
    let replicas = spent(replicas_before, contender.replicas.cpu()?);
    let proxy = cpu()?.zip(before).map(|(after, before)| spent(before, after));
    contender.check().await?;
    let mut reading = reading(work, &load, proxy);
    reading.replicas_cpu_ns = Some(replicas);
    reading.failures += warm_up.failed();
    Ok(Some(reading))
}

/// Runs a plan for a short time before the measurement.
pub(super) async fn warm_up(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<Option<Load>> {
    send(Plan { amount: load::Amount::Duration(WARM_UP), ..plan.clone() }, stop).await
}

/// Runs a plan; `None` if it was interrupted.
///
/// # Errors
/// There are no right answers, or no more of them.
pub(super) async fn send(plan: Plan, stop: &CancellationToken) -> anyhow::Result<Option<Load>> {
    if stop.is_cancelled() {
        return Ok(None);
    }
    let outcome = load::run(&Arc::new(plan), &Arc::new(Progress::new()), stop).await?;
    if stop.is_cancelled() {
        return Ok(None);
    }
    if let Some(why) = outcome.cut_short {
        bail!(why);
    }
    let load = outcome.tally.load();
    ensure!(load.succeeded > 0, "there was no right answer");
    Ok(Some(load))
}

/// The reading of a load.
pub(super) fn reading(work: Work, load: &Load, cpu_ns: Option<u64>) -> Reading {
    Reading {
        operations: work.operations(load),
        seconds: load.seconds,
        cpu_ns,
        replicas_cpu_ns: None,
        memory: None,
        p50: Some(load.latency.p50),
        p99: Some(load.latency.p99),
        // A load that waits for answers sends less while they are slow: its slowest answers are too few.
        distribution: if work.is_paced() { load.distribution.clone() } else { Vec::new() },
        failures: load.failed(),
    }
}

/// The CPU time of the counted requests. The generator first sends one request that does not count and that may be big.
pub(super) fn share(cpu: u64, load: &Load) -> u64 {
    let counted = load.requests as f64;
    (cpu as f64 * counted / (counted + 1.0)) as u64
}

/// Opens `count` connections through a new contender and reads how much memory they hold; `None` if it was interrupted. A new
/// one, because a program often keeps the memory of closed connections and uses it again.
///
/// # Errors
/// The contender does not start, or connections cannot be made.
pub(super) async fn idle_step(
    stage: &Stage,
    entrant: &Entrant,
    count: usize,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Reading>> {
    let started = stop.run_until_cancelled(stage.start(entrant)).await;
    let Some(contender) = started.transpose()? else { return Ok(None) };
    let Some(_) = open(contender.address, FIRST, stop).await? else { return Ok(None) };
    let memory = || contender.processes.as_ref().map(|processes| processes.memory()).transpose();
    let before = memory()?;
    let begun = Instant::now();
    let Some((connections, failures)) = open(contender.address, count, stop).await? else { return Ok(None) };
    let seconds = begun.elapsed().as_secs_f64();
    let grown = memory()?.zip(before).map(|(after, before)| after.saturating_sub(before));
    contender.check().await?;
    let operations = connections.len() as f64;
    Ok(Some(Reading { operations, seconds, memory: grown, failures, ..Reading::default() }))
}

/// Opens connections that stay open; returns them, and the number of failures.
async fn open(
    address: SocketAddr,
    count: usize,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(Vec<tokio::net::TcpStream>, u64)>> {
    let (mut open, mut failures) = (Vec::with_capacity(count), 0);
    for number in 0..count {
        match stop.run_until_cancelled(greet::open(address, &(100_000 + number).to_string())).await {
            None => return Ok(None),
            Some(Ok((stream, _))) => open.push(stream),
            // The others would fail too, each after its timeout.
            Some(Err(error)) if open.is_empty() => bail!("no connection can be made: {error}"),
            Some(Err(error)) if failures == FAILURES => bail!("too many connections fail: {error}"),
            Some(Err(_)) => failures += 1,
        }
    }
    Ok(Some((open, failures)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Latency;

    #[test]
    fn a_failure_is_never_left_out_of_a_reading() {
        let load = Load {
            requests: 12,
            succeeded: 9,
            failures: [("reset".to_owned(), 2), ("timeout".to_owned(), 1)].into(),
            seconds: 2.0,
            latency: Latency { p50: 5, p99: 7, ..Latency::default() },
            ..Load::default()
        };
        let reading = reading(Work::Short, &load, Some(8));
        assert_eq!((reading.operations, reading.seconds, reading.failures), (9.0, 2.0, 3));
        assert_eq!((reading.cpu_ns, reading.p50, reading.p99), (Some(8), Some(5), Some(7)));
    }

    #[test]
    fn the_first_request_which_does_not_count_is_not_charged() {
        assert_eq!(share(1_000, &Load { requests: 9, ..Load::default() }), 900);
        assert_eq!(share(1_000, &Load::default()), 0);
    }

    #[tokio::test]
    async fn connections_that_fail_are_counted_and_none_at_all_is_an_error() {
        let stop = CancellationToken::new();
        let listed =
            greet::tests::server(|number| if number == 1 { "s 1".repeat(200) } else { "s1".to_owned() })
                .await;
        let (open, failures) = super::open(listed, 3, &stop).await.unwrap().unwrap();
        assert_eq!((open.len(), failures), (2, 1));
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = super::open(closed, 3, &stop).await.unwrap_err().to_string();
        assert!(error.starts_with("no connection can be made: "), "{error}");
        stop.cancel();
        assert!(super::open(listed, 3, &stop).await.unwrap().is_none());
    }
}
