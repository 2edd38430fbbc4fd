//! `bench soak`: faults at random against an `lb` under load, in rounds, and what has to hold after each of them.
//!
//! A round is a pure function of the seed and its number, so that it can be repeated alone. Each ends with the fleet with which
//! it began. Nothing is judged here but which fault explains which failure; a round that breaks an invariant says so at once.
//!
//! In reading order: `fault` is the kinds, `plan` what a round does, `rule` which failures a fault explains (these are pure);
//! `stage` is the `lb`, `act` carries out a fault, `clients` misbehave, `load` is the clients that behave, `round` puts them
//! together.

mod act;
mod clients;
mod load;
mod plan;
mod round;
mod rule;
mod stage;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::args::{Misused, SoakArgs};
use crate::data::{Data, Ending, Invariant, Round, Soak};
use crate::shown::{self, Bar};
use crate::stand::Lb;
use crate::stand::processes::{self, Processes};
use round::Rounds;
use stage::Stage;

pub(crate) use load::IDS;

/// The token of an `lb` that is started here.
const TOKEN: &str = "a-token-of-bench";
/// How long processes may take to end after their `lb`.
const GONE: Duration = Duration::from_secs(10);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the rounds, and ends the `lb` if it was started here. What was found before an error is kept.
pub(crate) async fn soak(args: &SoakArgs, stop: &CancellationToken, data: &mut Data) -> anyhow::Result<()> {
    let own = if args.target.is_none() { Some(start(args).await?) } else { None };
    let stage = Arc::new(stage(args, own.as_ref())?);
    let found = data.soak.insert(Soak {
        seed: args.seed,
        kinds: args.faults.iter().map(ToString::to_string).collect(),
        ids: IDS,
        is_own: own.is_some(),
        ..Soak::default()
    });
    let mut done = rounds(args, &stage, stop, found).await;
    if let Some(lb) = own {
        done = done.with_context(|| format!("the last lines of the lb:\n{}", lb.last_words()));
        found.ending = Some(end(lb).await?);
    }
    done
}

/// Starts the `lb`. It has a token, so that a wrong one is wrong.
async fn start(args: &SoakArgs) -> anyhow::Result<Lb> {
    let own = ["--replicas", &args.n.to_string(), "--control-token", TOKEN].map(str::to_owned);
    Lb::start_lean(&[&own[..], &args.flags].concat()).await
}

fn stage(args: &SoakArgs, own: Option<&Lb>) -> anyhow::Result<Stage> {
    let addresses = own.map(|lb| (lb.data, lb.control)).or(args.target.zip(args.control));
    let (data, control) = addresses.context("there is no lb to soak")?;
    let process = own.map(Lb::pid).or_else(|| processes::listener(control));
    if process.is_none() && args.faults.iter().any(|kind| kind.is_signal()) {
        let kinds = args.faults.iter().filter(|kind| !kind.is_signal()).map(ToString::to_string);
        return Err(Misused(format!(
            "--control: invalid value `{control}`: expected an lb on this host whose process this user can see, or --faults {}",
            kinds.collect::<Vec<_>>().join(",")
        ))
        .into());
    }
    let token = own.map(|_| TOKEN.to_owned()).or_else(|| args.control_token.clone());
    Ok(Stage { data, control, token, process, origin: Instant::now() })
}

/// One round after the other, until the time is over or the fleet cannot be brought back to what it was.
async fn rounds(
    args: &SoakArgs,
    stage: &Arc<Stage>,
    stop: &CancellationToken,
    found: &mut Soak,
) -> anyhow::Result<()> {
    let mut rounds = Rounds::begin(args, stage, stop).await?;
    found.replicas = rounds.replicas();
    let bar = Bar::new(args.time.as_secs(), "soak", "requests");
    let numbers = args.round.map_or(1..=u64::MAX, |only| only..=only);
    for number in numbers {
        if stop.is_cancelled() {
            bail!("interrupted");
        }
        let begun = stage.now();
        if args.round.is_none() && begun >= args.time {
            break;
        }
        let outcome = rounds.run(number).await;
        let round = outcome.with_context(|| format!("round {number} ({})", found.again(number)))?;
        complain(found, &round);
        let is_restored = !round.broken.iter().any(|broken| broken.invariant == Invariant::Rotation);
        found.rounds.push(round);
        rounds.sum(found);
        let failed = found.rounds.iter().map(|round| round.lost.len() as u64 + round.uncounted).sum();
        bar.at(stage.now().as_secs(), found.rounds.iter().map(|round| round.requests).sum(), failed);
        if !is_restored {
            bail!("the fleet after round {number} is not that before it");
        }
    }
    Ok(())
}

/// Prints at once what a round broke, and how to repeat it.
fn complain(found: &Soak, round: &Round) {
    let unexplained = round.unexplained();
    let lost = (unexplained > 0).then(|| format!("{unexplained} failed requests that no fault explains"));
    let broken = round.broken.iter().map(|broken| broken.found.clone());
    for what in broken.chain(lost) {
        shown::complain(&format!(
            "round {}: {what}; repeat it with {}",
            round.number,
            found.again(round.number)
        ));
    }
}

/// Ends the `lb`, and looks for processes of it that are left.
async fn end(lb: Lb) -> anyhow::Result<Ending> {
    let pid = lb.pid();
    let family = Processes::of(pid).context("cannot list the processes of the lb")?;
    let children = family.pids().iter().copied().filter(|&child| child != pid);
    let children: Vec<(u32, String)> = children.map(|child| (child, command(child))).collect();
    let status = lb.finish().context("cannot end the lb")?;
    let deadline = Instant::now() + GONE;
    let mut left = children;
    loop {
        // A number may belong to another process by now, but hardly to one with the same command.
        left.retain(|(child, was)| !was.is_empty() && command(*child) == *was);
        if left.is_empty() || Instant::now() > deadline {
            break;
        }
        sleep(LOOK).await;
    }
    let left = left.into_iter().map(|(child, was)| format!("{child}: {was}")).collect();
    Ok(Ending { status: status.to_string(), is_clean: status.success(), left })
}

/// The command line of a process; empty if it has ended.
fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()
}
