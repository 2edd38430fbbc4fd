//! The replica's command line: it reads the options, calls [`backend::run`] and sets the exit code (0 after SIGTERM or
//! SIGINT, 1 if it cannot listen, 2 for a bad option).

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::OsStringValueParser;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

/// A demo replica: HTTP/1.1 (/home, /heartbeat, /bytes/N, POST /echo), and a raw line mode, on one port.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where to listen; 0.0.0.0 and --port when absent
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The port to listen on when there is no --listen
    #[arg(long, env = "PORT", default_value_t = 5000)]
    port: u16,
    /// The ID of this replica in its answers
    #[arg(long, env = "SERVER_ID", default_value = "backend")]
    id: String,
    /// Path of the Unix socket at which a load balancer on this host hands connections over
    #[arg(long, env = handoff::VARIABLE, value_name = "PATH", value_parser = OsStringValueParser::new())]
    handoff: Option<OsString>,
}

/// The command line and the environment, where an empty variable counts as unset.
fn options() -> Options {
    let command = Options::command().mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { arg.env(None::<&'static str>) } else { arg }
    });
    Options::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = options();
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port));
    let handoff = options.handoff.as_deref().map(Path::new);
    match backend::run(options.listen.unwrap_or(everywhere), &options.id, handoff).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
