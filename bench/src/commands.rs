//! Carries out the commands: checks the flags, measures, prints and writes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytesize::ByteSize;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::args::{Command, CompareArgs, ExperimentArgs, LoadArgs, Misused, OutputArgs, Protocol, SoakArgs};
use crate::data::{Data, Environment, Load};
use crate::experiment::{Setting, balance, healing, mapping, swarm};
use crate::load::{Amount, Exchange, LINE_MAX, Loop, Plan};
use crate::stand::{Provider, host, sibling};
use crate::stats::{max_over_mean, standard_deviation};
use crate::target::Target;
use crate::{compare, judge, report, shown, soak};

/// Default number of connections: of a closed loop, and the maximum of an open loop.
const CLOSED: usize = 32;
const OPEN: usize = 1000;
/// Default number of requests.
const REQUESTS: u64 = 10_000;
/// How long a measurement may take to end after the signal to stop.
const PATIENCE: Duration = Duration::from_secs(3);
/// Default warm-up of a load with a duration.
const WARM_UP: Duration = Duration::from_secs(1);

/// Runs a command until it is done or `stop` is cancelled.
pub(crate) async fn run(command: Command, inside: bool, stop: &CancellationToken) -> anyhow::Result<()> {
    match command {
        Command::Load(args) => load(args, stop).await,
        other => experiment(other, inside, stop).await,
    }
}

/// The numbers of `bench load`, as they are written with `--json`.
#[derive(Serialize)]
struct Loaded<'a> {
    /// The arguments of `bench`, and the seed, which may be the default.
    arguments: Vec<String>,
    seed: u64,
    #[serde(flatten)]
    load: &'a Load,
    /// The unit of the latencies.
    latency_unit: &'static str,
    /// Right answers a second.
    rate: f64,
    /// How evenly the replicas were loaded.
    max_over_mean: f64,
    standard_deviation: f64,
    /// Why it ended early, if it did.
    cut_short: Option<&'a str>,
}

impl<'a> Loaded<'a> {
    fn of(plan: &Plan, load: &'a Load, cut_short: Option<&'a str>) -> Self {
        let counts: Vec<u64> = load.replicas.values().copied().collect();
        Loaded {
            arguments: host::arguments(),
            seed: plan.seed,
            load,
            latency_unit: "microseconds",
            rate: load.rate(),
            max_over_mean: max_over_mean(&counts),
            standard_deviation: standard_deviation(&counts),
            cut_short,
        }
    }
}

async fn load(args: LoadArgs, stop: &CancellationToken) -> anyhow::Result<()> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let output = OutputArgs { out: None, json: args.json.clone().filter(|_| !to_stdout) };
    let plan = Arc::new(plan(args)?);
    can_be_written(&output)?;
    let outcome = shown::watched(&plan, &plan.target.to_string(), stop).await?;
    let load = outcome.tally.load();
    let numbers = Loaded::of(&plan, &load, outcome.cut_short.as_deref());
    if let Some(path) = &output.json {
        write_json(path, &numbers)?;
    }
    shown::say(&if to_stdout { serde_json::to_string(&numbers)? } else { shown::load(&load) })?;
    let failed = load.failed() + load.warm_up_failures;
    match outcome.cut_short {
        Some(reason) => bail!("{reason}"),
        None if failed > 0 => bail!("{failed} of {} requests failed", load.requests),
        None => Ok(()),
    }
}

/// The plan of `bench load`.
fn plan(mut args: LoadArgs) -> anyhow::Result<Plan> {
    let place = args.place.take().or(args.target.map(|address| Target { address, path: None }));
    let Target { address: target, path } = place.context("no target is given")?;
    if path.is_some() && (args.path.is_some() || args.send.is_some() || args.receive.is_some()) {
        return Err(Misused(
            "--path, --send, --receive: expected no such flag with a URL that has a path".to_owned(),
        )
        .into());
    }
    args.path = args.path.or(path);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let connections =
        args.connections.unwrap_or(if args.rate.is_some() && !args.keep_open { OPEN } else { CLOSED });
    Ok(Plan {
        target,
        others: Vec::new(),
        exchange: exchange(&args)?,
        keep_open: args.keep_open,
        pace: args.rate.map_or(Loop::Closed, |rate| Loop::Open { rate }),
        connections,
        amount: args.duration.map_or(Amount::Requests(args.requests.unwrap_or(REQUESTS)), Amount::Duration),
        warm_up: args.warm_up.unwrap_or(if args.duration.is_some() { WARM_UP } else { Duration::ZERO }),
        timeout: args.timeout,
        threads: args.threads.unwrap_or(cores.div_ceil(2)).min(connections),
        seed: args.seed,
        keep_records: false,
        ids: args.ids,
    })
}

/// What one request is.
fn exchange(args: &LoadArgs) -> Result<Exchange, Misused> {
    let misused = |text: String| Err(Misused(text));
    let size = |size: Option<ByteSize>| size.map_or(0, |size| size.as_u64());
    let (send, receive) = (size(args.send), size(args.receive));
    match args.protocol {
        Protocol::Raw if args.path.is_some() => {
            misused("--path: expected --protocol http (a raw line has no path)".to_owned())
        }
        Protocol::Raw if args.receive.is_some_and(|_| receive != send) => misused(format!(
            "--receive: invalid value `{receive}`: expected no --receive with --protocol raw (a line comes back as it was sent)"
        )),
        Protocol::Raw if send > LINE_MAX as u64 => misused(format!(
            "--send: invalid value `{send}`: expected at most {LINE_MAX} bytes with --protocol raw"
        )),
        Protocol::Raw => Ok(Exchange::Line { size: send as usize }),
        Protocol::Http => Ok(match &args.path {
            Some(path) if !is_path(path) => {
                return misused(format!(
                    "--path: invalid value `{path}`: expected a path that begins with / and has no spaces"
                ));
            }
            Some(path) => Exchange::Get { path: path.clone() },
            None if args.send.is_none() && args.receive.is_none() => {
                Exchange::Get { path: "/home".to_owned() }
            }
            None if send == receive => Exchange::Echo { size: send },
            None => Exchange::Bytes { send, receive },
        }),
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// Everything but `load`: measures, shows, writes, and fails if it was cut short or the verdict is bad.
async fn experiment(command: Command, inside: bool, stop: &CancellationToken) -> anyhow::Result<()> {
    let (output, mut data) = match &command {
        Command::Report { data, out } => return again(data, out),
        Command::Compare { output, seed, compare } => (output.clone(), compared(compare, *seed)?),
        Command::A1 { experiment, .. }
        | Command::A2 { experiment, .. }
        | Command::A3 { experiment, .. }
        | Command::A4 { experiment } => (experiment.output.clone(), begun(&command, experiment)?),
        Command::Soak(args) => (args.output.clone(), soaked(args)?),
        Command::Suite { experiment, compare, .. } => {
            // Before minutes of other work.
            check_comparison(compare)?;
            (experiment.output.clone(), begun(&command, experiment)?)
        }
        Command::Load(_) | Command::Child { .. } => bail!("not an experiment"),
    };
    can_be_written(&output)?;
    data.environment.own_network = inside;
    let measured = tokio::select! {
        measured = measure(&command, stop, &mut data) => measured,
        () = given_up(stop) => Err(anyhow!("interrupted")),
    };
    let measured = if stop.is_cancelled() { measured.and(Err(anyhow!("interrupted"))) } else { measured };
    data.cut_short = measured.as_ref().err().map(|error| format!("{error:#}"));
    judge::judge(&mut data);
    let written = write(&data, &output)?;
    if !data.is_empty() {
        shown::say(&report::markdown(&data))?;
    }
    written.iter().try_for_each(|path| shown::say(&format!("wrote {}", path.display())))?;
    measured?;
    judge::verdict(&data, holds_bars(&command))
}

/// Whether a bar that is missed is an error.
fn holds_bars(command: &Command) -> bool {
    matches!(command, Command::Suite { compare, .. } | Command::Compare { compare, .. } if compare.hold_bars)
}

/// Ends some time after `stop`: the measurement may be waiting for something slow.
async fn given_up(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(PATIENCE).await;
}

async fn measure(command: &Command, stop: &CancellationToken, data: &mut Data) -> anyhow::Result<()> {
    let setting = |args| Setting { args, stop };
    let both = ["slots", "ring"].map(mapping);
    match command {
        Command::A1 { experiment, mapping: chosen, n } => {
            let variants: Vec<_> = chosen.mapping.iter().map(|name| mapping(name)).collect();
            balance::a1(setting(experiment), &variants, usize::from(*n), data).await
        }
        Command::A2 { experiment, mapping: chosen } => {
            let variants: Vec<_> = chosen.mapping.iter().map(|name| mapping(name)).collect();
            balance::a2(setting(experiment), &variants, data).await
        }
        Command::A3 { experiment, drill, swarm } if experiment.provider == Provider::Swarm => {
            swarm::run(setting(experiment), *drill, swarm, data).await
        }
        Command::A3 { experiment, drill, .. } => healing::a3(setting(experiment), *drill, data).await,
        Command::A4 { experiment } => balance::a4(setting(experiment), data).await,
        Command::Suite { experiment, drill, compare, no_compare } => {
            let setting = setting(experiment);
            balance::a1(setting, &both, balance::THREE, data).await?;
            balance::a2(setting, &both, data).await?;
            healing::a3(setting, *drill, data).await?;
            if experiment.target.is_none() {
                balance::a4(setting, data).await?;
            }
            if !no_compare {
                contest(compare, experiment.seed, stop, data).await?;
            }
            Ok(())
        }
        Command::Soak(args) => soak::soak(args, stop, data).await,
        Command::Compare { compare, seed, .. } => contest(compare, *seed, stop, data).await,
        Command::Load(_) | Command::Report { .. } | Command::Child { .. } => Ok(()),
    }
}

/// Runs the comparison. Keeps what was measured before an error.
async fn contest(
    args: &CompareArgs,
    seed: u64,
    stop: &CancellationToken,
    data: &mut Data,
) -> anyhow::Result<()> {
    let found = compare::compare(args, seed, stop).await?;
    data.comparison = Some(found.comparison);
    found.notes.iter().for_each(|note| shown::complain(note));
    found.cut_short.map_or(Ok(()), |why| bail!(why))
}

/// Whether this experiment can measure a running load balancer.
fn check(command: &Command, args: &ExperimentArgs) -> Result<(), Misused> {
    let needs_control = matches!(command, Command::A2 { .. } | Command::A3 { .. } | Command::Suite { .. })
        && args.control.is_none();
    let is_a3 = matches!(command, Command::A3 { .. });
    match command {
        _ if args.provider == Provider::Swarm && !is_a3 => Err(Misused(
            "--provider: invalid value `swarm`: expected process or docker (only a3 measures a Docker Swarm)".into(),
        )),
        _ if args.provider == Provider::Swarm && args.target.is_some() => Err(Misused(
            "--target: expected no --target with --provider swarm: bench has to know the nodes of the Swarm".into(),
        )),
        _ if args.target.is_none() => Ok(()),
        Command::A4 { .. } => Err(Misused(
            "--target: expected no --target for a4, which starts an lb for each mapping and cannot measure a running one".into(),
        )),
        _ if needs_control => Err(Misused(
            "--target: expected --control ADDR too: this experiment uses the control port of that lb".into(),
        )),
        _ => Ok(()),
    }
}

/// Whether a comparison can be made and, if they are to be held, has bars.
fn check_comparison(args: &CompareArgs) -> Result<(), Misused> {
    if args.hold_bars && usize::from(args.rounds) < judge::ROUNDS {
        let (given, least) = (args.rounds, judge::ROUNDS);
        return Err(Misused(format!(
            "--rounds: invalid value `{given}`: expected {least} or more with --hold-bars"
        )));
    }
    compare::check(args)
}

/// An empty record of an experiment.
fn begun(command: &Command, args: &ExperimentArgs) -> anyhow::Result<Data> {
    check(command, args)?;
    let replicas = match (args.target, args.provider) {
        (Some(target), _) => return Ok(empty(&[], args.seed, format!("those of {target}"))),
        (None, Provider::Process) => "processes".to_owned(),
        (None, Provider::Swarm) => "services of a Docker Swarm".to_owned(),
        (None, Provider::Docker) => format!("containers of {}", args.image),
    };
    Ok(empty(&[("lb", &sibling("lb")?)], args.seed, replicas))
}

/// An empty record of a comparison.
fn compared(args: &CompareArgs, seed: u64) -> anyhow::Result<Data> {
    check_comparison(args)?;
    Ok(empty(&[("lb", &sibling("lb")?)], seed, "processes".to_owned()))
}

/// An empty record of a soak.
fn soaked(args: &SoakArgs) -> anyhow::Result<Data> {
    Ok(match args.target {
        Some(target) => empty(&[], args.seed, format!("those of {target}")),
        None => empty(&[("lb", &sibling("lb")?)], args.seed, "processes".to_owned()),
    })
}

fn empty(programs: &[(&str, &Path)], seed: u64, replicas: String) -> Data {
    let environment = Environment { replicas, ..host::fingerprint(programs, seed) };
    Data { environment, ..Data::default() }
}

/// Writes the files that the flags ask for; returns their paths.
fn write(data: &Data, output: &OutputArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = output.out.as_deref().map_or(Ok(Vec::new()), |folder| report::write(data, folder))?;
    if let Some(path) = &output.json {
        write_json(path, data)?;
        written.push(path.clone());
    }
    Ok(written)
}

/// Checks before the measurement that the results can be written.
///
/// # Errors
/// Names the path that cannot be written, and why.
fn can_be_written(output: &OutputArgs) -> anyhow::Result<()> {
    if let Some(folder) = &output.out {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    }
    if let Some(path) = &output.json {
        let is_new = !path.exists();
        let file = File::options().create(true).append(true).open(path);
        file.with_context(|| format!("cannot write {}", path.display()))?;
        if is_new {
            // If the measurement fails, there should be no empty file.
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes a report from a `data.json` that was measured before.
fn again(data: &Path, out: &Path) -> anyhow::Result<()> {
    let file = File::open(data).with_context(|| format!("cannot read {}", data.display()))?;
    let mut found: Data = serde_json::from_reader(std::io::BufReader::new(file))
        .with_context(|| format!("{} is not a data.json of bench", data.display()))?;
    // The file may be older than the expectations.
    judge::judge(&mut found);
    let written = report::write(&found, out)?;
    written.iter().try_for_each(|path| shown::say(&format!("wrote {}", path.display())))
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
