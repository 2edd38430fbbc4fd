//! The life of a replica process: options in, [`backend::run`], exit code out (0 after SIGTERM or SIGINT, 1 when it
//! cannot listen, 2 for a bad option). What a replica does is all in the library.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;

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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port));
    match backend::run(options.listen.unwrap_or(everywhere), &options.id).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
