//! `bench`: a load generator for TCP load balancers, and experiments that use it.
//!
//! It uses only the data port and the control port, so it can measure any server, and it knows no more of `lb` than a user
//! does.
//!
//! In reading order: `args` is the command line and `commands` carries it out; `load` sends requests and counts the results;
//! `stand` starts the programs that are measured, `control` talks to an `lb`; `experiment` is, `compare` the same
//! load on peers, `soak` faults at random; `data` is what they found, `stats` a few numbers about it, `judge` says what is
//! right and how fast it is; `report` writes files and `shown` prints to the terminal.

mod args;
mod commands;
mod compare;
mod control;
mod data;
mod experiment;
mod fault;
mod judge;
mod live;
mod load;
mod report;
mod shown;
mod soak;
mod stand;
mod stats;
mod target;

use std::io;
use std::process::ExitCode;
use std::thread;

use clap::Parser as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use args::{Cli, Command, Misused};
use stand::{Provider, network};

/// The exit code for a wrong command line; clap uses the same one.
const MISUSED: u8 = 2;
/// The flag that tells `bench` that it already runs in its own network namespace.
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
            "cannot make a network namespace (it needs unshare, ip and the permission): measuring on the host's network",
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(cli))
}

/// Whether `bench` starts everything that it measures, so that a network with nothing but loopback is enough.
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
        Command::Soak(soak) => soak.target.is_none(),
        Command::Load(_) | Command::Report { .. } | Command::Child { .. } => false,
    }
}

/// Runs the command. The first SIGINT, SIGTERM or SIGHUP stops it, writes what was measured and ends the programs that it
/// started; the second one ends everything at once.
async fn work(cli: Cli) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    obey(stop.clone())?;
    commands::run(cli.command, cli.inside, &stop).await
}

/// Handles signals from now on, on a separate thread, because this one may be busy for a while.
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
            // The terminal is closed, but there may still be files to write.
            _ = hang_up.recv() => {}
        }
        if turn > 0 {
            std::process::exit(1);
        }
        shown::complain("stopping; the measurements so far follow (press Ctrl-C again to end at once)");
        stop.cancel();
    }
}
