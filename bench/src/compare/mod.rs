//! `bench compare`: the same load on `lb`, on `lb` with hand-off, on its peers, and directly on the replicas.
//!
//! The noise of a machine comes in waves, so contenders take turns (A B C, A B C, ...) and are compared within a round. This
//! module measures, and keeps its measurements on every error; it judges nothing and prints only its progress.
//!
//! In reading order: `work` is the kinds of load, `peers` configures other load balancers, `cores` and `stage` place and start
//! the programs, `steps` is one turn (`greet` opens idle connections), `handoff` checks that
//! connections are handed over; `watch` is an `lb` that writes and is read; `generator` measures the load generator itself.

mod cores;
mod generator;
mod greet;
mod handoff;
mod peers;
mod stage;
mod steps;
mod watch;
mod work;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::args::{CompareArgs, Misused};
use crate::data::{Comparison, Mode, Reading};
use crate::load::Plan;
use crate::shown::Bar;
use crate::stats::Spread;
use cores::Cores;
use generator::Generators;
use peers::Peer;
use stage::{Entrant, Ready, Stage};
use work::{TAIL_SHARE, Work};

/// Idle connections, if the limit of open files allows it.
const IDLE: usize = 2000;

/// The result of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Complete rounds.
    pub(crate) comparison: Comparison,
    /// Messages for the user, such as that a peer is missing.
    pub(crate) notes: Vec<String>,
    /// Why it ended early; `None` if it is complete.
    pub(crate) cut_short: Option<String>,
}

/// Why a comparison ends early.
enum End {
    Interrupted,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        End::Failed(error)
    }
}

/// Checks the names of peers and modes, before minutes of other work.
///
/// # Errors
/// A name is unknown; the message lists the known ones.
pub(crate) fn check(args: &CompareArgs) -> Result<(), Misused> {
    Peer::chosen(&args.peers)?;
    Work::chosen(&args.modes)?;
    Ok(())
}

/// Compares `lb` with its peers and with no proxy. After an interruption or a failure it returns what was measured before.
///
/// # Errors
/// Nothing was measured: a name is unknown, or a contender does not start or does not spread ids.
pub(crate) async fn compare(
    args: &CompareArgs,
    seed: u64,
    stop: &CancellationToken,
) -> anyhow::Result<Compared> {
    let (peers, works) = (Peer::chosen(&args.peers)?, Work::chosen(&args.modes)?);
    let cores = Cores::find(args.replicas_beside)?;
    let mut found = Compared::default();
    if cores.load.is_none() {
        found
            .notes
            .push("this machine has one core: nothing is pinned, and all programs share it".to_owned());
    }
    let _pinned = cores.pin_load()?;
    let set = stop.run_until_cancelled(set(cores, args, &peers, &mut found)).await;
    let Some((stage, contenders)) = set.transpose()? else {
        found.cut_short = Some("interrupted".to_owned());
        return Ok(found);
    };
    let bar = Bar::new(turns(&works, args.rounds, contenders.len()), "comparison", "turns");
    let mut run = Run { args, seed, stop, contenders, stage, found, bar, failed: 0 };
    let ended = run.all(&works).await;
    drop(run.bar);
    run.found.cut_short = ended.err().map(|end| match end {
        End::Interrupted => "interrupted".to_owned(),
        End::Failed(error) => format!("{error:#}"),
    });
    Ok(run.found)
}

/// Starts all contenders and describes them in `found`; notes the peers that are missing.
async fn set(
    cores: Cores,
    args: &CompareArgs,
    peers: &[Peer],
    found: &mut Compared,
) -> anyhow::Result<(Stage, Vec<(Entrant, Ready)>)> {
    let stage = Stage::set(cores).await?;
    let watched = args.watch.iter().map(|watch| Entrant::Watched(*watch));
    let mut entrants: Vec<_> = [Entrant::Lb].into_iter().chain(watched).chain([Entrant::Handoff]).collect();
    for peer in peers {
        match peer.find() {
            None => found.notes.push(format!("{} is left out: it is not installed", peer.name())),
            Some(path) => match peer.unfit(&path) {
                Some(why) => found.notes.push(format!("{} is left out: {why}", peer.name())),
                None => entrants.push(Entrant::Peer(*peer, path)),
            },
        }
    }
    entrants.push(Entrant::Direct);
    let mut ready = Vec::new();
    for entrant in entrants {
        found.comparison.contenders.push(stage.describe(&entrant)?);
        let contender =
            stage.start(&entrant).await.with_context(|| format!("cannot compare with {}", entrant.name()))?;
        ready.push((entrant, contender));
    }
    Ok((stage, ready))
}

/// The number of turns.
fn turns(works: &[Work], rounds: u16, contenders: usize) -> u64 {
    let turns = |work: &Work| if *work == Work::Generator { 2 } else { contenders as u64 };
    works.iter().map(turns).sum::<u64>() * u64::from(rounds)
}

/// A comparison under way. The contenders are declared before the stage, so that they end before their replicas.
struct Run<'a> {
    args: &'a CompareArgs,
    seed: u64,
    stop: &'a CancellationToken,
    contenders: Vec<(Entrant, Ready)>,
    stage: Stage,
    found: Compared,
    bar: Bar,
    /// Operations that have failed so far.
    failed: u64,
}

impl Run<'_> {
    async fn all(&mut self, works: &[Work]) -> Result<(), End> {
        for work in works {
            match work {
                Work::Generator => self.generators().await?,
                work => self.contest(*work).await?,
            }
        }
        Ok(())
    }

    /// All rounds of one kind of work.
    async fn contest(&mut self, work: Work) -> Result<(), End> {
        let amount = match work {
            Work::Tail => self.tail_rate().await?,
            Work::Idle => IDLE.min(self.stage.sessions) as f64,
            _ => 0.0,
        };
        for round in 0..self.args.rounds {
            let mut readings = Vec::new();
            for turn in 0..self.contenders.len() {
                self.show(work, self.contenders[turn].1.name);
                readings.push(self.step(work, turn, round, amount).await?);
                self.is_done(readings.last());
            }
            keep(&mut self.found.comparison.modes, work, amount, readings);
        }
        Ok(())
    }

    /// One turn. All contenders get the same ids in the same round.
    async fn step(&self, work: Work, turn: usize, round: u16, amount: f64) -> Result<Reading, End> {
        let (entrant, contender) = &self.contenders[turn];
        let reading = if work == Work::Idle {
            steps::idle_step(&self.stage, entrant, amount as usize, self.stop).await
        } else {
            let seed = self.seed.wrapping_add(u64::from(round));
            let plan = work.plan(contender.address, amount, seed, self.args.time);
            let plan = Plan { others: contender.others.clone(), ..plan };
            steps::load_step(work, plan, contender, self.stop).await
        };
        let reading = reading.with_context(|| format!("{} of {}", work.name(), contender.name))?;
        reading.ok_or(End::Interrupted)
    }

    /// The rate of the open loop: a share of the slowest proxy's rate, from the rounds of `short` or, without them, from a try.
    async fn tail_rate(&self) -> Result<f64, End> {
        let short = self.found.comparison.modes.iter().find(|mode| mode.name == Work::Short.name());
        let rounds = match short {
            Some(short) => short.rounds.clone(),
            None => {
                let mut readings = Vec::new();
                for turn in 0..self.contenders.len() {
                    self.show(Work::Tail, self.contenders[turn].1.name);
                    readings.push(self.step(Work::Short, turn, 0, 0.0).await?);
                }
                vec![readings]
            }
        };
        // The last contender has no proxy.
        let rates = (0..self.contenders.len() - 1).map(|turn| typical_rate(&rounds, turn));
        Ok(TAIL_SHARE * rates.fold(f64::INFINITY, f64::min))
    }

    /// All rounds of the generator and wrk.
    async fn generators(&mut self) -> Result<(), End> {
        self.show(Work::Generator, "wrk");
        let prepared = Generators::prepare(&self.stage, self.args.time).await.context("generator")?;
        let Some(generators) = prepared else {
            self.found.notes.push("the generator is not compared: wrk is not installed".to_owned());
            return Ok(());
        };
        for round in 0..self.args.rounds {
            let mut readings = Vec::new();
            for turn in 0..2 {
                let seed = self.seed.wrapping_add(u64::from(round));
                let reading = generators.step(turn, seed, self.stop).await.context("generator")?;
                readings.push(reading.ok_or(End::Interrupted)?);
                self.is_done(readings.last());
            }
            self.found.comparison.generators = generators.describe();
            let mode = self.found.comparison.generator.get_or_insert_with(|| mode(Work::Generator, 0.0));
            mode.rounds.push(readings);
        }
        Ok(())
    }

    fn show(&self, work: Work, name: &str) {
        self.bar.rename(format!("{} {name}", work.name()));
    }

    /// A turn is done, with this reading.
    fn is_done(&mut self, reading: Option<&Reading>) {
        self.failed += reading.map_or(0, |reading| reading.failures);
        self.bar.step(self.failed);
    }
}

fn mode(work: Work, amount: f64) -> Mode {
    let (name, unit) = (work.name().to_owned(), work.unit().to_owned());
    Mode { name, what: work.what(amount), unit, is_paced: work.is_paced(), rounds: Vec::new() }
}

/// Keeps a complete round.
fn keep(modes: &mut Vec<Mode>, work: Work, amount: f64, readings: Vec<Reading>) {
    if modes.last().is_none_or(|mode| mode.name != work.name()) {
        modes.push(mode(work, amount));
    }
    if let Some(mode) = modes.last_mut() {
        mode.rounds.push(readings);
    }
}

/// The median of the rates of one contender; 0 before the first round.
fn typical_rate(rounds: &[Vec<Reading>], turn: usize) -> f64 {
    let rates = rounds.iter().map(|round| round[turn].rate());
    Spread::of(rates).map_or(0.0, |rates| rates.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(operations: f64) -> Reading {
        Reading { operations, seconds: 2.0, ..Reading::default() }
    }

    #[test]
    fn a_typical_rate_is_the_median() {
        let rounds = [10.0, 30.0, 20.0].map(|operations| vec![reading(1.0), reading(operations)]);
        assert_eq!(typical_rate(&rounds, 1), 10.0);
        assert_eq!(typical_rate(&rounds[..1], 1), 5.0);
    }

    #[test]
    fn rounds_of_the_same_work_are_kept_together() {
        let mut modes = Vec::new();
        keep(&mut modes, Work::Short, 0.0, vec![reading(1.0)]);
        keep(&mut modes, Work::Short, 0.0, vec![reading(2.0)]);
        keep(&mut modes, Work::Tail, 700.0, vec![reading(3.0)]);
        let found: Vec<_> = modes.iter().map(|mode| (mode.name.as_str(), mode.rounds.len())).collect();
        assert_eq!(found, [("short", 2), ("tail", 1)]);
        assert!(modes[1].what.contains("700 per second"), "{}", modes[1].what);
    }
}
