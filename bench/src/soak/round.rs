//! One round: load, faults, the way back, and what has to hold afterwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::act::{self, Acted, Undo};
use super::clients::{self, Met};
use super::load::{self, Ended, Load};
use super::plan::{self, Step};
use super::rule::{Candidates, Lost, Window, explanation};
use super::stage::{Base, Stage, Watch, slots_by_hostname};
use crate::args::SoakArgs;
use crate::control::Slot;
use crate::data::{Broken, Injected, Invariant, LostRequest, Outcomes, Round, Soak};
use crate::load::{Failure, Tally};

/// A round has load for this long at least, so that a late consequence of a fault shows.
const SHORTEST: Duration = Duration::from_secs(2);
/// The most failures of a round that are kept one by one.
const KEPT: usize = 1000;
/// Seconds for one entry of the outcomes over time.
const BUCKET: f64 = 0.5;
/// Ids that are named when they are in a wrong slot.
const NAMED: usize = 3;
/// How often ids are looked up until the fleet stays calm meanwhile.
const TRIES: usize = 10;

/// Runs rounds, and adds up their requests.
pub(super) struct Rounds<'a> {
    args: &'a SoakArgs,
    stage: &'a Arc<Stage>,
    stop: &'a CancellationToken,
    base: Arc<Base>,
    /// The slot of each id that is looked up, before the first round.
    owners: Vec<String>,
    tally: Tally,
    outcomes: Outcomes,
}

/// What happened in a round.
#[derive(Default)]
struct Happened {
    acted: Vec<Acted>,
    /// Requests of the load.
    ended: Vec<Ended>,
    /// Sessions that last.
    met: Vec<Met>,
    /// When keys began to move, and when they were back.
    moved: Option<(Duration, Duration)>,
    broken: Vec<Broken>,
}

impl<'a> Rounds<'a> {
    /// Looks at the fleet before the first round.
    ///
    /// # Errors
    /// The fleet is not well, or does not send ids where it says.
    pub(super) async fn begin(
        args: &'a SoakArgs,
        stage: &'a Arc<Stage>,
        stop: &'a CancellationToken,
    ) -> anyhow::Result<Self> {
        let base = Arc::new(stage.base().await?);
        let owners = stage.ask().await?.owners(&load::ids(args.seed)).await?;
        let outcomes = Outcomes { bucket: BUCKET, ..Outcomes::default() };
        Ok(Rounds { args, stage, stop, base, owners, tally: Tally::new(Instant::now()), outcomes })
    }

    /// Slots of the fleet.
    pub(super) fn replicas(&self) -> u64 {
        self.base.names.len() as u64
    }

    /// Writes the sums over all rounds so far.
    pub(super) fn sum(&self, found: &mut Soak) {
        found.load = self.tally.load();
        found.outcomes.clone_from(&self.outcomes);
    }

    /// Runs a round.
    ///
    /// # Errors
    /// The load cannot be sent, or the `lb` has ended.
    pub(super) async fn run(&mut self, number: u64) -> anyhow::Result<Round> {
        let begun = self.stage.now();
        let load = Load::new(self.stage.data, self.args.rate, (self.args.seed, number));
        let end = self.stop.child_token();
        let faults = async {
            let happened = self.stop.run_until_cancelled(self.inflict(number)).await;
            load.enough();
            end.cancel();
            happened
        };
        let sessions = clients::sessions(self.stage, !self.args.seed ^ number, &end);
        let (sent, sessions, happened) = tokio::join!(load.send(self.stop), sessions, faults);
        let Some(mut happened) = happened else {
            act::restore(self.stage, &self.base).await.context("cannot undo the changes of the round")?;
            bail!("interrupted");
        };
        let (ended, tally) = sent?;
        (happened.ended, happened.met) = (ended, sessions);
        self.tally.add(tally);
        let mut round = self.explained(number, &mut happened).await?;
        self.check(&mut round).await?;
        (round.at, round.seconds) = (begun.as_secs_f64(), (self.stage.now() - begun).as_secs_f64());
        Ok(round)
    }

    /// All faults of a round, and the way back to the fleet before it.
    async fn inflict(&self, number: u64) -> Happened {
        let steps = plan::steps(self.args.seed, number, &self.args.faults, self.base.names.len());
        let mut happened = Happened::default();
        let enough = tokio::time::Instant::now() + SHORTEST;
        let moves = steps.iter().any(|step| step.fault.moves_keys());
        let from = self.stage.now();
        let before = Watch::new(self.stage).slots().await.unwrap_or_default();
        happened.acted = self.act(number, steps).await;
        let errors = happened.acted.iter().filter_map(|acted| acted.error.clone());
        happened.broken.extend(errors.map(|found| Broken { invariant: Invariant::Commands, found }));
        if moves {
            happened.broken.extend(self.moved().await);
            self.undo(&mut happened).await;
            happened.moved = Some((from, self.stage.now()));
        }
        match Watch::new(self.stage).until_all_up(Some(&self.base.names)).await {
            Ok(after) => happened.broken.extend(replaced(&before, &after, &happened.acted)),
            Err(error) => {
                let found = format!("the slots are not all in rotation: {error:#}");
                happened.broken.push(Broken { invariant: Invariant::Rotation, found });
            }
        }
        tokio::time::sleep_until(enough).await;
        happened
    }

    /// Carries out all steps at the same time; returns what they did in the order of the plan.
    async fn act(&self, number: u64, steps: Vec<Step>) -> Vec<Acted> {
        let due = tokio::time::Instant::now();
        let mut tasks = JoinSet::new();
        for (place, step) in steps.into_iter().enumerate() {
            let (stage, base) = (Arc::clone(self.stage), Arc::clone(&self.base));
            let due = due + step.at;
            tasks.spawn(async move { (place, act::act(stage, base, number, step, due).await) });
        }
        let mut acted: Vec<(usize, Acted)> = tasks.join_all().await;
        acted.sort_by_key(|(place, _)| *place);
        let numbered = |(place, mut acted): (usize, Acted)| {
            acted.windows.iter_mut().for_each(|window| window.fault = place);
            acted
        };
        acted.into_iter().map(numbered).collect()
    }

    /// Whether ids go where `explain` says while the fleet is changed.
    async fn moved(&self) -> Option<Broken> {
        let found = self.keys(None).await.unwrap_or_else(|error| Some(format!("{error:#}")));
        let found = found.map(|found| format!("while the fleet is changed, {found}"));
        found.map(|found| Broken { invariant: Invariant::Keys, found })
    }

    async fn undo(&self, happened: &mut Happened) {
        let undos = happened.acted.iter().enumerate();
        let undos: Vec<(usize, Undo)> =
            undos.filter_map(|(place, acted)| Some((place, acted.undo.clone()?))).collect();
        match act::undo(self.stage, &self.base, &undos).await {
            Ok(windows) => {
                for window in windows {
                    happened.acted[window.fault].windows.push(window);
                }
            }
            Err(error) => {
                let found = format!("a change cannot be undone: {error:#}");
                happened.broken.push(Broken { invariant: Invariant::Commands, found });
            }
        }
        for (place, _) in undos {
            happened.acted[place].over = self.stage.now();
        }
    }

    /// Finds the fault that explains each failure, and counts all requests over time.
    async fn explained(&mut self, number: u64, happened: &mut Happened) -> anyhow::Result<Round> {
        let stage = self.stage;
        let mut met = std::mem::take(&mut happened.met);
        met.extend(happened.acted.iter_mut().flat_map(|acted| std::mem::take(&mut acted.met)));
        let requests = (happened.ended.len() + met.len()) as u64;
        let mut failed: Vec<Failed> =
            happened.ended.iter().filter_map(|ended| Failed::of(ended, stage)).collect();
        failed.extend(met.iter().filter_map(|met| Failed::of_client(met, stage)));
        failed.sort_by_key(|failed| failed.ended);
        let windows: Vec<Window> =
            happened.acted.iter().flat_map(|acted| acted.windows.iter().cloned()).collect();
        let kept = failed.len().min(KEPT);
        let ids: Vec<String> = failed[..kept].iter().map(|failed| failed.id.clone()).collect();
        let candidates =
            if ids.is_empty() { Vec::new() } else { stage.ask().await?.candidates(&ids).await? };
        let mut lost = Vec::with_capacity(kept);
        for (failed, candidates) in failed.iter().zip(&candidates) {
            let fault = failed.explanation(candidates, happened, &windows, self.base.names.len());
            lost.push(failed.lost(fault));
        }
        self.count(happened, &met, &lost);
        let uncounted = (failed.len() - kept) as u64;
        let faults = happened.acted.iter().zip(self.kinds(number)).map(|(acted, kind)| injected(acted, kind));
        let faults = faults.collect();
        let broken = std::mem::take(&mut happened.broken);
        Ok(Round { number, faults, requests, lost, uncounted, broken, ..Round::default() })
    }

    /// The kinds of the faults of a round.
    fn kinds(&self, number: u64) -> Vec<String> {
        let steps = plan::steps(self.args.seed, number, &self.args.faults, self.base.names.len());
        steps.iter().map(|step| step.fault.kind().to_string()).collect()
    }

    /// Counts all requests over time.
    fn count(&mut self, happened: &Happened, met: &[Met], lost: &[LostRequest]) {
        let right = happened.ended.iter().filter(|ended| ended.outcome.is_ok()).map(|ended| ended.ended);
        let met = met.iter().filter(|met| met.outcome.is_ok()).map(|met| met.ended);
        for at in right.chain(met) {
            add(&mut self.outcomes.right, self.stage.since(at).as_secs_f64());
        }
        for lost in lost {
            let Outcomes { explained, unexplained, .. } = &mut self.outcomes;
            add(if lost.fault.is_some() { explained } else { unexplained }, lost.ended);
        }
    }

    /// What has to hold when the round is over: every id is in its slot, and no session is open. Then what `lb` holds.
    async fn check(&self, round: &mut Round) -> anyhow::Result<()> {
        let keys = self.keys(Some(&self.owners)).await;
        if let Some(found) = keys.unwrap_or_else(|error| Some(format!("{error:#}"))) {
            round.broken.push(Broken { invariant: Invariant::Keys, found });
        }
        if self.args.target.is_none()
            && let Err(error) = Watch::new(self.stage).until_no_session().await
        {
            round.broken.push(Broken { invariant: Invariant::Sessions, found: format!("{error:#}") });
        }
        let holdings = self.stage.holdings()?;
        (round.memory, round.files, round.threads) = (holdings.memory, holdings.files, holdings.threads);
        Ok(())
    }

    /// Ids that are not in the slot that `explain` names, or that are not in their slots in `owners`, in words.
    ///
    /// If a slot changes meanwhile, they are looked up again: a probe that was sent to a stopped replica may fail after it goes
    /// on. A fleet that never gets calm is an error.
    async fn keys(&self, owners: Option<&[String]>) -> anyhow::Result<Option<String>> {
        let ids = load::ids(self.args.seed);
        let mut watch = Watch::new(self.stage);
        for _ in 0..TRIES {
            let slots = watch.until_all_up(None).await?;
            let explained = self.stage.ask().await?.owners(&ids).await?;
            let hosts = load::answering(self.stage.data, self.args.seed, self.stop).await;
            if state(&slots) != state(&watch.slots().await?) {
                continue;
            }
            if owners.is_some_and(|owners| owners != explained) {
                let before = owners.into_iter().flatten();
                let moved = explained.iter().zip(before).filter(|(now, before)| now != before).count();
                let than = "another slot than before the first round";
                return Ok(Some(format!("explain gives {moved} ids {than}")));
            }
            return Ok(differences(&hosts?, &slots_by_hostname(&slots), &explained, self.args.seed));
        }
        bail!("the fleet changed in each of {TRIES} attempts to look ids up");
    }
}

/// What says whether a fleet has changed: the replica of each slot, and when its state began.
fn state(slots: &[Slot]) -> Vec<(&str, &str, &str)> {
    slots.iter().map(|slot| (slot.name.as_str(), slot.hostname.as_str(), slot.since.as_str())).collect()
}

/// Replicas that were replaced in a slot on which there was no fault.
fn replaced(before: &[Slot], after: &[Slot], acted: &[Acted]) -> Option<Broken> {
    let victims: Vec<&String> =
        acted.iter().flat_map(|acted| &acted.windows).map(|window| &window.slot).collect();
    let is_new = |slot: &&Slot| {
        before.iter().any(|was| was.name == slot.name && was.restarts != slot.restarts)
            && !victims.contains(&&slot.name)
    };
    let names: Vec<&str> = after.iter().filter(is_new).map(|slot| slot.name.as_str()).collect();
    let found = format!("replaced without a fault: the replica of {}", names.join(", "));
    (!names.is_empty()).then_some(Broken { invariant: Invariant::Healing, found })
}

/// A request that failed, with times since the origin.
struct Failed {
    id: String,
    begun: Duration,
    ended: Duration,
    failure: Failure,
    is_slow: bool,
}

impl Failed {
    fn of(ended: &Ended, stage: &Stage) -> Option<Self> {
        let failure = ended.outcome.err()?;
        let (begun, end) = (stage.since(ended.begun), stage.since(ended.ended));
        Some(Failed { id: ended.id(), begun, ended: end, failure, is_slow: false })
    }

    fn of_client(met: &Met, stage: &Stage) -> Option<Self> {
        let failure = met.outcome.err()?;
        let (begun, ended) = (stage.since(met.begun), stage.since(met.ended));
        Some(Failed { id: met.id.clone(), begun, ended, failure, is_slow: true })
    }

    fn explanation(
        &self,
        candidates: &[String],
        happened: &Happened,
        windows: &[Window],
        slots: usize,
    ) -> Option<usize> {
        let has_moved = happened.moved.is_some_and(|(from, to)| self.begun <= to && self.ended >= from);
        let candidates = if has_moved { Candidates::Any(slots) } else { Candidates::Known(candidates) };
        let Failed { begun, ended, failure, is_slow, .. } = *self;
        explanation(&Lost { begun, ended, failure, candidates, is_slow }, windows)
    }

    fn lost(&self, fault: Option<usize>) -> LostRequest {
        LostRequest {
            begun: self.begun.as_secs_f64(),
            ended: self.ended.as_secs_f64(),
            id: self.id.clone(),
            failure: self.failure.to_string(),
            fault,
        }
    }
}

fn injected(acted: &Acted, kind: String) -> Injected {
    Injected {
        kind,
        what: acted.what.clone(),
        at: acted.struck.as_secs_f64(),
        noticed: acted.noticed.map(|at| at.as_secs_f64()),
        over: acted.over.as_secs_f64(),
    }
}

fn add(series: &mut Vec<u64>, at: f64) {
    let entry = (at / BUCKET) as usize;
    if series.len() <= entry {
        series.resize(entry + 1, 0);
    }
    series[entry] += 1;
}

/// Ids that were answered by another slot than their owner, in words.
fn differences(
    hosts: &[Arc<str>],
    slots: &HashMap<&str, &str>,
    owners: &[String],
    seed: u64,
) -> Option<String> {
    let ids = load::ids(seed);
    let mut wrong: Vec<String> = Vec::new();
    for ((host, owner), id) in hosts.iter().zip(owners).zip(&ids) {
        let slot = slots.get(&**host).copied().unwrap_or("no slot");
        if slot != owner {
            wrong.push(format!("{id} is answered by {slot} instead of {owner}"));
        }
    }
    let (count, all) = (wrong.len(), owners.len());
    wrong.truncate(NAMED);
    (count > 0).then(|| format!("{count} of {all} ids are not in their slots, such as: {}", wrong.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::rule::Cause;

    #[test]
    fn ids_in_a_wrong_slot_are_counted_and_some_are_named() {
        let slots = HashMap::from([("h1", "server1"), ("h2", "server2")]);
        let hosts: Vec<Arc<str>> = ["h1", "h2", "h1", "h9", "h2", "h2"].map(Arc::from).to_vec();
        let owners = ["server1"; 6].map(str::to_owned);
        let found = differences(&hosts, &slots, &owners, 1).unwrap();
        assert!(found.starts_with("4 of 6 ids are not in their slots"), "{found}");
        assert_eq!(found.matches("instead of server1").count(), 3, "{found}");
        assert!(found.contains("answered by no slot"), "{found}");
        let right = ["server1", "server2", "server1"].map(str::to_owned);
        assert_eq!(differences(&hosts[..3], &slots, &right, 1), None);
    }

    fn slot(name: &str, restarts: u64) -> Slot {
        let text = format!(
            r#"{{"name":"{name}","hostname":"{name}","address":null,"state":"up","restarts":{restarts}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_replica_that_is_replaced_without_a_fault_is_found() {
        let before = [slot("a", 0), slot("b", 4)];
        let after = [slot("a", 1), slot("b", 5), slot("c", 3)];
        let window = Window {
            fault: 0,
            cause: Cause::Death,
            slot: "a".to_owned(),
            struck: Duration::ZERO,
            noticed: Duration::ZERO,
            back: Duration::MAX,
        };
        let acted = [Acted { windows: vec![window], ..Acted::default() }];
        let broken = replaced(&before, &after, &acted).unwrap();
        assert_eq!(broken.found, "replaced without a fault: the replica of b");
        assert_eq!(replaced(&before, &[slot("a", 1), slot("b", 4)], &acted), None);
    }

    #[test]
    fn requests_are_counted_in_the_bucket_of_their_end() {
        let mut series = Vec::new();
        [0.0, 0.4, 1.2].into_iter().for_each(|at| add(&mut series, at));
        assert_eq!(series, [2, 0, 1]);
    }
}
