//! `bench`: a load generator for TCP load balancers, and the experiments that are made with it.
//!
//! It speaks only the wire and the control port, so it can measure anything that listens; of `lb` it knows what its
//! users know.
//!
//! In reading order: `args` is the command line and `commands` carries it out; `load` sends requests and counts the results;
//! `stand` starts the programs that are measured, `control` talks to an `lb`; `experiment` is, `compare` the same
//! load on peers; `data` is what they found, `stats` a few numbers about it, `judge` says what is right and how fast it is;
//! `report` writes files and `shown` prints to the terminal.

mod args;
mod commands;
mod compare;
mod control;
mod data;
mod experiment;
mod judge;
mod load;
mod report;
mod shown;
mod stand;
mod stats;

use std::io;
use std::process::ExitCode;
use std::thread;

use clap::Parser as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use args::{Cli, Command, Misused};
use stand::{Provider, network};

/// The exit code for a command line that is wrong; clap uses the same.
const MISUSED: u8 = 2;
/// What `bench` is told when it runs in a network namespace of its own already.
const INSIDE: &str = "--inside";

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shown::complain(&format!("error: {error:#}"));
            if error.is::<Misused>() { ExitCode::from(MISUSED) } else { ExitCode::FAILURE }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Child { parent, core, command } = &cli.command {
        return stand::become_program(*parent, *core, command).map(|never| match never {});
    }
    if !cli.inside && wants_own_network(&cli.command) {
        network::enter(INSIDE)?;
        shown::complain(
            "no network namespace of its own (it takes unshare, ip, and the rights): measured on the host's",
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(cli))
}

/// Whether all that is measured is started here, and can do with loopback.
fn wants_own_network(command: &Command) -> bool {
    match command {
        Command::A1 { experiment, .. }
        | Command::A2 { experiment, .. }
        | Command::A3 { experiment, .. }
        | Command::A4 { experiment }
        | Command::Suite { experiment, .. } => {
            experiment.target.is_none() && experiment.provider == Provider::Process
        }
        Command::Compare { .. } => true,
        Command::Load(_) | Command::Report { .. } | Command::Child { .. } => false,
    }
}

/// Works until it is done; after the first SIGINT, SIGTERM or SIGHUP until what was begun is tidied up; a second one ends
/// it at once, and with it what it has started.
async fn work(cli: Cli) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    obey(stop.clone())?;
    commands::run(cli.command, cli.inside, &stop).await
}

/// Obeys signals from now on, on a thread of its own: this one may be busy for a while.
fn obey(stop: CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let entered = runtime.enter();
    let [interrupt, terminate, hang_up] = kinds.map(signal);
    let signals = (interrupt?, terminate?, hang_up?);
    drop(entered);
    thread::spawn(move || runtime.block_on(until_the_second(signals, stop)));
    Ok(())
}

async fn until_the_second(
    (mut interrupt, mut terminate, mut hang_up): (Signal, Signal, Signal),
    stop: CancellationToken,
) {
    for turn in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            // The terminal is closed; there may still be files to be written.
            _ = hang_up.recv() => {}
        }
        if turn > 0 {
            std::process::exit(1);
        }
        shown::complain("stopping; what was measured follows (once more to end at once)");
        stop.cancel();
    }
}
