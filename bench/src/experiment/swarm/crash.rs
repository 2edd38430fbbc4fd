//! A node without power, under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use super::super::drill::all_up;
use super::super::under_load::{calm, millis, under_load};
use super::super::{Setting, Subject};
use crate::control::Slot;
use crate::data::Crash;
use crate::load::{Progress, Record};
use crate::stand::Swarm;

/// How long Swarm may take to start the replicas elsewhere. It takes three heartbeats of 5 s to notice.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// The default of `--connect-timeout`, which the `lb`s have.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// When the node went, and when its replicas were back.
#[derive(Clone, Copy)]
struct Moments {
    signalled: Instant,
    gone: Instant,
    up_again: Option<Instant>,
}

/// Crashes the last node, which is a worker, and starts it again at the end.
pub(super) async fn run(
    setting: Setting<'_>,
    rate: f64,
    subject: &Subject,
    swarm: &Swarm,
    found: &mut Crash,
) -> anyhow::Result<()> {
    let format = ["info", "--format", "{{.Name}}"];
    found.node = swarm.nodes.docker(swarm.count, &format).await?;
    let slots = all_up(&mut subject.control().await?).await?;
    found.slots = on(&found.node, &slots).map(|slot| slot.name.clone()).collect();
    if found.slots.is_empty() {
        bail!("no replica is on node {}, so nothing is lost by its crash", found.node);
    }
    let mut moments = None;
    let (outcome, acted) = under_load(setting, rate, subject, async |progress: &Progress| {
        calm(progress, rate).await;
        let signalled = Instant::now();
        swarm.nodes.crash(swarm.count).await?;
        let moments = moments.insert(Moments { signalled, gone: Instant::now(), up_again: None });
        moments.up_again = Some(recovered(subject, found.node.clone()).await?);
        calm(progress, rate).await;
        Ok(())
    })
    .await?;
    found.load = outcome.tally.load();
    if let Some(moments) = moments {
        fill(found, moments, &outcome.tally.records);
    }
    acted?;
    swarm.nodes.boot(swarm.count).await?;
    outcome.cut_short.map_or(Ok(()), |reason| bail!("the crash of a node: {reason}"))
}

/// When all slots were up again, none of them on that node.
async fn recovered(subject: &Subject, node: String) -> anyhow::Result<Instant> {
    let mut control = subject.control().await?;
    let begun = Instant::now();
    loop {
        let slots = control.slots().await.context("after the crash of a node")?;
        if slots.iter().all(|slot| slot.state == "up") && on(&node, &slots).next().is_none() {
            return Ok(Instant::now());
        }
        if begun.elapsed() > PATIENCE {
            bail!("the replicas of node {node} were not up elsewhere within {PATIENCE:?}");
        }
        sleep(LOOK).await;
    }
}

/// The slots whose replicas are on a node.
fn on<'a>(node: &'a str, slots: &'a [Slot]) -> impl Iterator<Item = &'a Slot> {
    slots.iter().filter(move |slot| slot.node.as_deref() == Some(node))
}

fn fill(found: &mut Crash, moments: Moments, records: &[Record]) {
    let Moments { signalled, gone, up_again } = moments;
    let later = gone + CONNECT_TIMEOUT;
    let failed = |is_among: &dyn Fn(&Record) -> bool| {
        records.iter().filter(|record| record.outcome.is_err() && is_among(record)).count() as u64
    };
    found.took_ms = millis(signalled, gone);
    found.failed_before = failed(&|record| record.begun < gone && record.ended >= signalled);
    found.connect_timeout_ms = CONNECT_TIMEOUT.as_secs_f64() * 1e3;
    found.failed_soon = failed(&|record| (gone..later).contains(&record.begun));
    found.failed_later = failed(&|record| record.begun >= later);
    found.begun_later = records.iter().filter(|record| record.begun >= later).count() as u64;
    let answered = records.iter().filter(|record| record.begun >= gone && record.outcome.is_ok());
    found.slowest_ms = answered.map(|record| millis(record.begun, record.ended)).fold(0.0, f64::max);
    found.up_again_ms = up_again.map(|at| millis(gone, at));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load::Failure;

    #[test]
    fn requests_are_told_apart_by_when_they_began() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let record = |begun, ended, is_right: bool| Record {
            number: 0,
            begun: at(begun),
            ended: at(ended),
            outcome: if is_right { Ok(Arc::from("a")) } else { Err(Failure::Timeout) },
        };
        let records = [
            record(10, 20, false),
            record(90, 110, false),
            record(250, 400, true),
            record(300, 310, false),
            record(1199, 1300, false),
            record(1200, 1300, false),
            record(1300, 1340, true),
        ];
        let moments = Moments { signalled: at(100), gone: at(200), up_again: Some(at(9200)) };
        let mut found = Crash::default();
        fill(&mut found, moments, &records);
        assert_eq!((found.failed_before, found.failed_soon, found.failed_later), (1, 2, 1));
        assert_eq!((found.begun_later, found.took_ms, found.slowest_ms), (2, 100.0, 150.0));
        assert_eq!(found.up_again_ms, Some(9000.0));
    }
}
