//! The life of the process: arguments, log, run, signals, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use lb::config::{Cli, Config, Serve, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// It failed at run time.
const FAILED: u8 = 1;
/// The command line is wrong; nothing was bound or started. Clap uses the same.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => return serve(cli.serve),
        Some(Subcommand::Serve(flags)) => return serve(*flags),
        Some(Subcommand::Client(command)) => lb::client::run(command).map(|answer| print(&answer)),
        Some(Subcommand::Replica(arguments)) => lb::become_replica(&arguments),
    };
    done.map_or_else(|error| complain(&format!("{error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

fn serve(flags: Serve) -> ExitCode {
    let config = match Config::check(flags) {
        Ok(config) => config,
        Err(problems) => {
            return complain(&format!("error: the configuration is wrong\n{problems}"), MISCONFIGURED);
        }
    };
    let _log = lb::log::begin(config.log.clone(), config.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(until_stopped(config)));
    served.map_or_else(|error| complain(&format!("error: {error:#}"), FAILED), |()| ExitCode::SUCCESS)
}

/// Serves until the first SIGTERM or SIGINT, which begins the drain; a second one ends everything at once.
async fn until_stopped(config: Config) -> anyhow::Result<()> {
    let (first, second) = (backend::terminated()?, backend::terminated()?);
    let stop = CancellationToken::new();
    let signals = async {
        first.await;
        stop.cancel();
        second.await;
    };
    tokio::select! {
        served = lb::run(config, stop.clone()) => served,
        () = signals => {
            info!("stopped at once by a second signal");
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "answers go to stdout")]
fn print(answer: &str) {
    println!("{answer}");
}

#[expect(clippy::print_stderr, reason = "there may be no log yet")]
fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
