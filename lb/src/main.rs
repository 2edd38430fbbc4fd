//! The life of the process: arguments, log, run, signals, exit code.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use lb::Ports;
use lb::config::{Cli, ClientCommand, Config, Ignored, Problems, Serve, Simulate, Subcommand};
use lb::printable::printable;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code of a failure at run time.
const FAILED: u8 = 1;
/// The exit code of a wrong command line, as clap uses it. Nothing was bound or started.
const MISCONFIGURED: u8 = 2;

/// Threads for what takes long stay, so that a shortage of threads does not catch `lb` without one.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn main() -> ExitCode {
    let (cli, ignored) = Cli::read();
    let done = match cli.command {
        None => return serve(cli.serve, ignored),
        Some(Subcommand::Serve(flags)) => return serve(*flags, ignored),
        Some(Subcommand::Simulate(flags)) => return simulate(*flags),
        Some(Subcommand::Client(command)) => return ask(*command),
        Some(Subcommand::Replica(arguments)) => lb::become_replica(&arguments),
        Some(Subcommand::Guard { group }) => lb::guard(group),
    };
    done.map_or_else(|error| complain(&format!("{error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn ask(command: ClientCommand) -> ExitCode {
    // The token may be in the environment.
    let _ = lb::privileges::hide();
    let set = command.from_environment().clone();
    let answer = command.request().and_then(|request| lb::client::run(&request));
    let done = answer.and_then(|answer| print(&answer));
    done.map_or_else(|error| complain(&set.named_in(&format!("{error:#}")), FAILED), |()| ExitCode::SUCCESS)
}

fn serve(flags: Serve, ignored: impl Iterator<Item = Ignored>) -> ExitCode {
    let set = flags.from_environment.clone();
    let config = match Config::check(flags) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    // Before the first thread is started.
    let ports = match lb::bind(&config) {
        Ok(ports) => ports,
        Err(error) => return complain(&set.named_in(&format!("error: {error:#}")), FAILED),
    };
    let _log = lb::log::begin(config.log.clone(), config.log_format);
    ignored.for_each(|variable| warn!("{variable}"));
    let served = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(FOR_EVER)
        .build()
    {
        Ok(runtime) => {
            let served = runtime.block_on(until_stopped(config, ports));
            // A name look-up that hangs must not delay the exit.
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(error.into()),
    };
    served.map_or_else(
        |error| complain(&set.named_in(&format!("error: {error:#}")), FAILED),
        |()| ExitCode::SUCCESS,
    )
}

fn simulate(flags: Simulate) -> ExitCode {
    let plan = match flags.check() {
        Ok(plan) => plan,
        Err(problems) => return refuse(&problems),
    };
    let done = simulate::run(&plan).and_then(|answer| print(&answer));
    done.map_or_else(|error| complain(&format!("error: {error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn refuse(problems: &Problems) -> ExitCode {
    complain(&format!("error: the configuration is wrong\n{problems}"), MISCONFIGURED)
}

/// Serves until the first SIGTERM or SIGINT, which begins the end. A second signal ends everything at once.
async fn until_stopped(config: Config, ports: Ports) -> anyhow::Result<()> {
    let first = terminated()?;
    let ignored = ignore_others()?;
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let served = lb::run(config, ports, stop.clone(), cut.clone());
    let signals = async {
        first.await;
        // Not before the first signal, which would count for both. The handlers stay in place meanwhile.
        let second = terminated()?;
        stop.cancel();
        second.await;
        info!("stopped at once by a second signal");
        cut.cancel();
        std::future::pending().await
    };
    tokio::select! {
        served = served => served,
        failed = signals => failed,
        never = ignored => match never {},
    }
}

/// Logs every signal that would end a process by default and means nothing to `lb`. The handlers are in place when it returns:
/// a closed terminal (SIGHUP) must not end `lb` without a drain.
fn ignore_others() -> io::Result<impl Future<Output = Infallible>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut first = signal(SignalKind::user_defined1())?;
    let mut second = signal(SignalKind::user_defined2())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = hangup.recv() => "SIGHUP",
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => "SIGUSR2",
            };
            info!("{name} is ignored: SIGTERM or SIGINT ends lb");
        }
    })
}

/// Completes with the first SIGTERM or SIGINT after this call. The handlers are in place when it returns, and stay.
fn terminated() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Prints an answer to stdout. A reader that has gone has seen enough (`lb backends | head -n 1`).
fn print(answer: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{answer}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write the answer"),
    }
}

#[expect(clippy::print_stderr, reason = "there may be no log yet")]
fn complain(message: &str, code: u8) -> ExitCode {
    // Parts of it may come from elsewhere, such as the engine.
    message.lines().for_each(|line| eprintln!("{}", printable(line)));
    ExitCode::from(code)
}
