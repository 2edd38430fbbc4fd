//! The life of the process: arguments, log, run, signals, exit code.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use lb::access::AccessLogs;
use lb::config::{
    Applied, Cli, ClientCommand, Config, ConfigFlags, FleetAction, FleetRm, Ignored, Problems, ReplayFlags,
    Serve, Simulate, Simulation, Subcommand,
};
use lb::log::Filter;
use lb::records::Records;
use lb::{Guardianship, Life, Ports};
use proto::control::Command;
use proto::printable::printable;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};

/// The exit code of a failure at run time.
const FAILED: u8 = 1;
/// The exit code of a wrong command line, as clap uses it. Nothing was bound or started.
const MISCONFIGURED: u8 = 2;

/// What `lb version` prints.
const VERSION: &str = concat!("lb ", env!("CARGO_PKG_VERSION"));

/// Threads for what takes long stay, so that a shortage of threads does not catch `lb` without one.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn main() -> ExitCode {
    match lb::config::complete() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => return complain(&format!("{error:#}"), FAILED),
    }
    let (cli, ignored) = Cli::read();
    let done = match cli.command {
        None => return serve(cli.serve, ignored),
        Some(Subcommand::Serve(flags)) => return serve(*flags, ignored),
        Some(Subcommand::Check(flags)) => return check(*flags, ignored),
        Some(Subcommand::Config(flags)) => return show(*flags),
        Some(Subcommand::Simulate(flags)) => return simulate(*flags),
        Some(Subcommand::Client(command)) => return ask(*command),
        Some(Subcommand::Fleet { action: FleetAction::Rm(flags) }) => return remove_fleet(flags),
        Some(Subcommand::Replay(flags)) => return replay(&flags),
        Some(Subcommand::Completions { shell }) => shell.script().and_then(|script| print(&script).map(drop)),
        Some(Subcommand::Man { folder }) => lb::config::write_manual(&folder),
        Some(Subcommand::Help { words }) => return help(&words),
        Some(Subcommand::Version) => print(VERSION).map(drop),
        Some(Subcommand::Replica(arguments)) => lb::become_replica(&arguments),
        Some(Subcommand::Guard { group }) => lb::guard(group),
        Some(Subcommand::Guardian { holder }) => {
            return lb::guard_heirs(holder).unwrap_or_else(|error| complain(&format!("{error:#}"), FAILED));
        }
        Some(Subcommand::Launch { program, arguments }) => lb::upgrade::launch(&program, &arguments),
    };
    end(done)
}

/// The exit code of a command that is done or has failed.
fn end(done: anyhow::Result<()>) -> ExitCode {
    done.map_or_else(|error| complain(&format!("{error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn help(words: &[String]) -> ExitCode {
    match lb::config::help(words) {
        Ok(text) => print(&lb::client::fit(text))
            .map_or_else(|error| complain(&format!("{error:#}"), FAILED), |_| ExitCode::SUCCESS),
        Err(error) => complain(&format!("error: {error:#}"), MISCONFIGURED),
    }
}

fn ask(command: ClientCommand) -> ExitCode {
    // The token may be in the environment.
    let _ = lb::privileges::hide();
    let set = command.from_environment().clone();
    if let Err(error) = command.check() {
        return complain(&format!("error: {error:#}"), MISCONFIGURED);
    }
    let is_top = matches!(command, ClientCommand::Top { .. });
    let done = command.request().and_then(|request| match request.command {
        _ if is_top => lb::top::run(request),
        Command::Events { .. } => lb::client::show(&request, print),
        _ if request.watch => lb::client::watch(&request, print),
        _ => print(&lb::client::run(&request)?).map(drop),
    });
    done.map_or_else(|error| complain(&set.named_in(&format!("{error:#}")), FAILED), |()| ExitCode::SUCCESS)
}

fn serve(flags: Serve, ignored: impl Iterator<Item = Ignored>) -> ExitCode {
    let set = flags.origins();
    let (handed, predecessor) = match lb::upgrade::take() {
        Ok(taken) => taken.unzip(),
        Err(error) => return complain(&format!("error: {error:#}"), FAILED),
    };
    let applied = match Applied::check(flags) {
        Ok(applied) => applied,
        Err(problems) => {
            predecessor.iter().for_each(|lb| lb.refuse(&format!("the configuration is wrong: {problems}")));
            return refuse(&problems);
        }
    };
    let config = &applied.config;
    // Before the first thread is started.
    let handed = handed.map_or_else(lb::handed::activation::take, Ok);
    let opened = handed
        .and_then(|handed| lb::bind(config, handed))
        .and_then(|ports| Ok((ports, lb::records::open(config.journal.as_ref(), config.access.as_ref())?)));
    let (ports, (records, files)) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let message = set.named_in(&format!("{error:#}"));
            predecessor.iter().for_each(|lb| lb.refuse(&message));
            return complain(&format!("error: {message}"), FAILED);
        }
    };
    let ports = ports.after(predecessor);
    let (log, filter) = lb::log::begin(
        config.log.clone(),
        config.log_format,
        lb::journal::warnings::reader(&records.journal),
    );
    ignored.for_each(|it| warn!(variable = it.variable(), value = it.value(), "{it}"));
    let served = block_on(applied, ports, (records, filter));
    // What is written has to be whole before this process becomes another program, or ends.
    drop((files, log));
    match served {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(children)) => complain(&format!("error: the replicas end: {}", children.begin()), FAILED),
        Err(error) => complain(&set.named_in(&format!("error: {error:#}")), FAILED),
    }
}

/// Serves on a runtime of this thread. If that fails, no connection that is cut off looks complete.
fn block_on(applied: Applied, ports: Ports, told: (Records, Filter)) -> anyhow::Result<Option<Guardianship>> {
    let life = Life::default();
    lb::panics::log(life.failed.clone());
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().thread_keep_alive(FOR_EVER).build()?;
    let served = AssertUnwindSafe(|| runtime.block_on(until_stopped(applied, ports, life.clone(), told)));
    let served = catch_unwind(served).unwrap_or_else(|panic| {
        life.cut_off();
        Err(anyhow!("the control plane has failed: {}", lb::panics::message(&*panic)))
    });
    // A name look-up that hangs must not delay the exit.
    runtime.shutdown_background();
    served
}

/// Says whether `serve` would start with these flags.
fn check(flags: Serve, ignored: impl Iterator<Item = Ignored>) -> ExitCode {
    if let Err(problems) = Config::check(flags) {
        return refuse(&problems);
    }
    for variable in ignored {
        let _ = complain(&format!("warning: {variable}"), 0);
    }
    end(print("the configuration is right").map(drop))
}

/// Shows the configuration, or the schema of its file.
fn show(ConfigFlags { serve, json, schema, write }: ConfigFlags) -> ExitCode {
    if let Some(file) = write {
        return write_down(serve, file.as_deref());
    }
    if schema {
        return end(print(lb::config::schema().trim_end()).map(drop));
    }
    match serve.settings() {
        Ok(settings) if json => end(lb::config::json(&settings).and_then(|text| print(&text).map(drop))),
        Ok(settings) => end(print(&lb::config::lines(&settings)).map(drop)),
        Err(problems) => refuse(&problems),
    }
}

/// Writes what runs as a configuration file.
fn write_down(serve: Serve, file: Option<&Path>) -> ExitCode {
    // The token may be in the environment.
    let _ = lb::privileges::hide();
    let request = match ConfigFlags::question(serve) {
        Ok(request) => request,
        Err(problems) => return refuse(&problems),
    };
    end(lb::client::run(&request).and_then(|text| match file {
        Some(file) => lb::config::write(file, &text),
        None => print(&text).map(drop),
    }))
}

fn simulate(flags: Simulate) -> ExitCode {
    let answer = match flags.check() {
        Ok(Simulation::Mappings(plan)) => simulate::run(&plan),
        Ok(Simulation::Cluster(plan)) => simulate::cluster::run(&plan),
        Err(problems) => return refuse(&problems),
    };
    let done = answer.and_then(|answer| print(&answer).map(drop));
    done.map_or_else(|error| complain(&format!("error: {error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn replay(flags: &ReplayFlags) -> ExitCode {
    let done = lb::replay::run(&flags.file, flags.at, flags.json).and_then(|state| print(&state).map(drop));
    done.map_or_else(|error| complain(&format!("error: {error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn remove_fleet(flags: FleetRm) -> ExitCode {
    let removal = match flags.check() {
        Ok(removal) => removal,
        Err(problems) => return refuse(&problems),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(lb::remove_fleet(&removal)));
    let done = done.and_then(|answer| print(&answer).map(drop));
    done.map_or_else(|error| complain(&format!("error: {error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn refuse(problems: &Problems) -> ExitCode {
    complain(&format!("error: the configuration is wrong\n{problems}"), MISCONFIGURED)
}

/// Serves until the first SIGTERM or SIGINT, which begins the end. A second signal ends everything at once.
async fn until_stopped(
    applied: Applied,
    ports: Ports,
    life: Life,
    told: (Records, Filter),
) -> anyhow::Result<Option<Guardianship>> {
    let first = terminated()?;
    let has_file = applied.file().is_some();
    let hangup = has_file.then(|| Arc::clone(&life.hangup));
    let ignored = heed_others(Arc::clone(&told.0.access), (hangup, Arc::clone(&life.upgrade)))?;
    let (stop, cut) = (life.stop.clone(), life.cut.clone());
    let served = lb::run(applied, ports, life, told);
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

/// Logs every signal that would end a process by default and does not end `lb`. The handlers are in place when it returns: a closed
/// terminal (SIGHUP) must not end `lb` without a drain. With SIGHUP the log of connections is opened again, and the configuration is loaded
/// again if it is in a file. SIGUSR2 asks for a successor.
fn heed_others(
    access: Arc<AccessLogs>,
    (reload, upgrade): (Option<Arc<Notify>>, Arc<Notify>),
) -> io::Result<impl Future<Output = Infallible>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut first = signal(SignalKind::user_defined1())?;
    let mut second = signal(SignalKind::user_defined2())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = hangup.recv() => {
                    let is_reopened = access.reopen();
                    if is_reopened {
                        info!(signal = "SIGHUP", "SIGHUP: the log of connections is opened again");
                    }
                    if let Some(reload) = &reload {
                        info!(signal = "SIGHUP", "SIGHUP: the configuration is loaded again");
                        reload.notify_one();
                    } else if !is_reopened {
                        info!(signal = "SIGHUP", "SIGHUP is ignored: SIGTERM or SIGINT ends lb");
                    }
                    continue;
                }
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => {
                    upgrade.notify_one();
                    info!(signal = "SIGUSR2", "SIGUSR2: a successor takes over");
                    continue;
                }
            };
            info!(signal = name, "{name} is ignored: SIGTERM or SIGINT ends lb");
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

/// Prints an answer to stdout, and says whether there is a reader for more. One that has gone has seen enough (`lb backends | head -n 1`).
fn print(answer: &str) -> anyhow::Result<bool> {
    match writeln!(io::stdout(), "{answer}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        printed => printed.map(|()| true).context("cannot write the answer"),
    }
}

#[expect(clippy::print_stderr, reason = "there may be no log yet")]
fn complain(message: &str, code: u8) -> ExitCode {
    // Parts of it may come from elsewhere, such as the engine.
    message.lines().for_each(|line| eprintln!("{}", printable(line)));
    ExitCode::from(code)
}
