//! `bench compare`: the same load on `lb`, on `lb` that hands over, on its peers, and straight on the
//! replicas.
//!
//! Machines are noisy, and noise comes in waves; so contenders take turns (A B C, A B C, ...) and are compared within a
//! round. This module measures and keeps what it has measured, whatever happens; it judges nothing and prints nothing
//! but its progress.
//!
//! In reading order: `work` is what is done, `peers` how others are configured, `cores` and `stage` who runs where,
//! `steps` one measurement (`greet` opens its idle connections), `cpu` what it cost, `handoff` that it is what it is called;
//! `generator` measures whoever measures.

mod cores;
mod cpu;
mod generator;
mod greet;
mod handoff;
mod peers;
mod stage;
mod steps;
mod work;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use crate::args::{CompareArgs, Misused};
use crate::data::{Comparison, Mode, Reading};
use crate::load::Plan;
use crate::shown;
use crate::stats::Spread;
use cores::Cores;
use generator::Generators;
use peers::Peer;
use stage::{Ready, Stage, Who};
use work::{TAIL_SHARE, Work};

/// Idle connections, where files allow that many.
const IDLE: usize = 2000;

/// What was found, and what is to be said about it.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Rounds in which everybody did their part.
    pub(crate) comparison: Comparison,
    /// What is not as one might expect, in sentences.
    pub(crate) notes: Vec<String>,
    /// Why it ended early, if it did.
    pub(crate) cut_short: Option<String>,
}

/// Why there is no more to be had.
enum End {
    Interrupted,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        End::Failed(error)
    }
}

/// Whether everything that is named is known: to be asked before hours of other work.
///
/// # Errors
/// It is not; says what is.
pub(crate) fn check(args: &CompareArgs) -> Result<(), Misused> {
    Peer::chosen(&args.peers)?;
    Work::chosen(&args.modes)?;
    Ok(())
}

/// Compares `lb` with its peers and with no proxy at all. What was measured until it was interrupted, or until something
/// failed, is in what it returns.
///
/// # Errors
/// A name is not known, a contender does not start, or a proxy does not do its work: nothing was measured.
pub(crate) async fn compare(
    args: &CompareArgs,
    seed: u64,
    stop: &CancellationToken,
) -> anyhow::Result<Compared> {
    let (peers, works) = (Peer::chosen(&args.peers)?, Work::chosen(&args.modes)?);
    let cores = Cores::find(args.replicas_beside)?;
    let mut found = Compared::default();
    if cores.load.is_none() {
        found.notes.push(
            "there is one core only: nothing is pinned, and everybody is in everybody's way".to_owned(),
        );
    }
    let _pinned = cores.pin_load()?;
    let set = stop.run_until_cancelled(set(cores, &peers, &mut found)).await;
    let Some((stage, contenders)) = set.transpose()? else {
        found.cut_short = Some("interrupted".to_owned());
        return Ok(found);
    };
    let bar = shown::bar(turns(&works, args.rounds, contenders.len()), "comparison");
    let mut run = Run { args, seed, stop, contenders, stage, found, bar };
    let ended = run.all(&works).await;
    run.bar.finish_and_clear();
    run.found.cut_short = ended.err().map(|end| match end {
        End::Interrupted => "interrupted".to_owned(),
        End::Failed(error) => format!("{error:#}"),
    });
    Ok(run.found)
}

/// Starts everybody; they are described in `found`, and so is who is missing.
async fn set(
    cores: Cores,
    peers: &[Peer],
    found: &mut Compared,
) -> anyhow::Result<(Stage, Vec<(Who, Ready)>)> {
    let stage = Stage::set(cores).await?;
    let mut everybody = vec![Who::Lb, Who::Handoff];
    for peer in peers {
        match peer.find() {
            None => found.notes.push(format!("{} is left out: it is not on PATH", peer.name())),
            Some(path) => match peer.unfit(&path) {
                Some(why) => found.notes.push(format!("{} is left out: {why}", peer.name())),
                None => everybody.push(Who::Peer(*peer, path)),
            },
        }
    }
    everybody.push(Who::Direct);
    let mut ready = Vec::new();
    for who in everybody {
        found.comparison.contenders.push(stage.describe(&who)?);
        let contender =
            stage.start(&who).await.with_context(|| format!("cannot compare with {}", who.name()))?;
        ready.push((who, contender));
    }
    Ok((stage, ready))
}

/// How often somebody takes a turn.
fn turns(works: &[Work], rounds: u16, contenders: usize) -> u64 {
    let turns = |work: &Work| if *work == Work::Generator { 2 } else { contenders as u64 };
    works.iter().map(turns).sum::<u64>() * u64::from(rounds)
}

/// A comparison under way. Contenders stand before the stage, so that they end before their replicas.
struct Run<'a> {
    args: &'a CompareArgs,
    seed: u64,
    stop: &'a CancellationToken,
    contenders: Vec<(Who, Ready)>,
    stage: Stage,
    found: Compared,
    bar: ProgressBar,
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
                self.bar.inc(1);
            }
            keep(&mut self.found.comparison.modes, work, amount, readings);
        }
        Ok(())
    }

    /// One contender in one round. All get the same ids in the same round.
    async fn step(&self, work: Work, turn: usize, round: u16, amount: f64) -> Result<Reading, End> {
        let (who, contender) = &self.contenders[turn];
        let reading = if work == Work::Idle {
            steps::idle_step(&self.stage, who, amount as usize, self.stop).await
        } else {
            let seed = self.seed.wrapping_add(u64::from(round));
            let plan = work.plan(contender.address, amount, seed, self.args.time);
            let plan = Plan { others: contender.others.clone(), ..plan };
            steps::load_step(work, plan, contender, self.stop).await
        };
        let reading = reading.with_context(|| format!("{} of {}", work.name(), contender.name))?;
        reading.ok_or(End::Interrupted)
    }

    /// The rate of the open loop: a share of what the slowest proxy can do, as it was found, or else as it is tried now.
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
        // The last contender is no proxy.
        let rates = (0..self.contenders.len() - 1).map(|turn| typical_rate(&rounds, turn));
        Ok(TAIL_SHARE * rates.fold(f64::INFINITY, f64::min))
    }

    /// All rounds of the generator and wrk.
    async fn generators(&mut self) -> Result<(), End> {
        self.show(Work::Generator, "wrk");
        let prepared = Generators::prepare(&self.stage, self.args.time).await.context("generator")?;
        let Some(generators) = prepared else {
            self.found.notes.push("the generator is not compared: wrk is not on PATH".to_owned());
            return Ok(());
        };
        for round in 0..self.args.rounds {
            let mut readings = Vec::new();
            for turn in 0..2 {
                let seed = self.seed.wrapping_add(u64::from(round));
                let reading = generators.step(turn, seed, self.stop).await.context("generator")?;
                readings.push(reading.ok_or(End::Interrupted)?);
                self.bar.inc(1);
            }
            self.found.comparison.generators = generators.describe();
            let mode = self.found.comparison.generator.get_or_insert_with(|| mode(Work::Generator, 0.0));
            mode.rounds.push(readings);
        }
        Ok(())
    }

    fn show(&self, work: Work, name: &str) {
        self.bar.set_message(format!("{} {name}", work.name()));
    }
}

fn mode(work: Work, amount: f64) -> Mode {
    let (name, unit) = (work.name().to_owned(), work.unit().to_owned());
    Mode { name, what: work.what(amount), unit, is_paced: work == Work::Tail, rounds: Vec::new() }
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
        assert!(modes[1].what.contains("700 a second"), "{}", modes[1].what);
    }
}
