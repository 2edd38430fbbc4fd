//! The command line.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::Ids;
use crate::stand::Provider;

/// Measures lb and other TCP load balancers, draws charts, and writes a report
///
/// Exit codes: 0 all is right, 1 something is wrong or the run failed, 2 the command line is wrong. A slow machine is not wrong: bars for
/// speed are shown, and count only with --hold-bars.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// It runs in a network namespace of its own already (used by bench itself).
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send load to an address, check every answer, and show what came of it
    Load(LoadArgs),
    /// how many requests each of N replicas gets
    A1 {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        mapping: MappingArgs,
        /// Replicas; a running load balancer is taken as it is
        #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=56))]
        n: u16,
    },
    /// how that changes with N, from 2 to 6
    A2 {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        mapping: MappingArgs,
    },
    /// every command of the control port, and replicas killed under load
    A3 {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// A-4: A-1 and A-2 for several mappings and hash functions
    A4 {
        #[command(flatten)]
        experiment: ExperimentArgs,
    },
    /// All of it, in a report
    Suite {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        drill: DrillArgs,
        #[command(flatten)]
        compare: CompareArgs,
        /// Leave the comparison with peers out
        #[arg(long, conflicts_with = "hold_bars")]
        no_compare: bool,
    },
    /// The same load on lb, other load balancers, and no proxy at all, in interleaved rounds
    Compare {
        #[command(flatten)]
        compare: CompareArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Where random ids begin: the same seed, the same ids
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Write the report of numbers that were measured before
    Report {
        /// A data.json
        data: PathBuf,
        /// Where to write it
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Become another program that ends with bench (used by bench itself)
    #[command(hide = true)]
    Child {
        /// Who started it
        #[arg(long)]
        parent: i32,
        /// The core to run on
        #[arg(long)]
        core: Option<usize>,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Where results go.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write report.md, report.html, data.json and all charts here
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write only the numbers, here
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What an experiment is made with.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// Requests of each load
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) requests: u64,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count)]
    pub(crate) connections: usize,
    /// Where random ids begin: the same seed, the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the replicas of the lb that is started come from
    #[arg(long, value_enum, default_value = "process")]
    pub(crate) provider: Provider,
    /// docker: the image of the replicas, which has to speak like the demo replica
    #[arg(long, value_name = "IMAGE", default_value = "lb-backend")]
    pub(crate) image: String,
    /// Measure a running load balancer instead of starting lb
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) target: Option<SocketAddr>,
    /// The control port of that load balancer, if it is an lb
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "target")]
    pub(crate) control: Option<SocketAddr>,
    /// Token of that control port
    #[arg(long, value_name = "TOKEN", env = "LB_CONTROL_TOKEN", hide_env_values = true)]
    pub(crate) control_token: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which mappings are measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct MappingArgs {
    /// Mappings of the lb that is started, with commas between them
    #[arg(long, value_name = "NAMES", default_value = "slots,ring", value_delimiter = ',')]
    pub(crate) mapping: Vec<String>,
}

/// How replicas are killed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DrillArgs {
    /// How many replicas are killed, one after the other
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) kills: u16,
    /// Requests a second meanwhile
    #[arg(long, value_name = "R", default_value = "1000", value_parser = rate)]
    pub(crate) rate: f64,
}

/// What is compared, with whom, and for how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// Peers, with commas between them; those that are not on PATH are left out with a word
    #[arg(long, value_name = "NAMES", default_value = "haproxy,nginx", value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Rounds of each mode: in each, everybody takes a turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// How long each contender works in each mode in each round
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) time: Duration,
    /// Modes, with commas between them [default: all of short, tail, rtt64, rtt16k, down, up, idle, generator]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) modes: Vec<String>,
    /// With whom replicas share a core: with the load, so that a proxy has its own, or with the proxy, so that the load has
    #[arg(long, value_name = "WHOM", value_enum, default_value_t = Beside::Load)]
    pub(crate) replicas_beside: Beside,
    /// Exit with 1 if a bar for speed is missed; without this flag, bars are only shown
    #[arg(long)]
    pub(crate) hold_bars: bool,
}

/// With whom replicas share a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beside {
    /// With the generator
    Load,
    /// With the proxy
    Proxy,
}

/// The command line is wrong in a way that only shows in its whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misused(pub(crate) String);

/// In which language a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1
    Http,
    /// Lines that come back behind the server's name
    Raw,
}

/// The flags of `bench load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where to send it, such as 127.0.0.1:5000
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) target: SocketAddr,
    /// Open loop: requests a second, at fixed times, whatever the target does; what is due and not sent --timeout after
    /// the end has failed [default: a closed loop]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Connections at a time; in an open loop, at most [default: 32, or 1000 in an open loop without --keep-open]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) connections: Option<usize>,
    /// How many requests [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(crate) requests: Option<u64>,
    /// For how long, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "requests")]
    pub(crate) duration: Option<Duration>,
    /// In which language
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) protocol: Protocol,
    /// Send one request after the other on each connection [default: a connection for each request]
    #[arg(long)]
    pub(crate) keep_open: bool,
    /// Request ids: random, sequential, zipf:S (such as zipf:1.1) or fixed:ID; an open connection keeps its first one
    #[arg(long, value_name = "IDS", default_value = "random")]
    pub(crate) ids: Ids,
    /// What to send with each request, such as 16KiB; in a raw line it counts the whole line (lb balances lines of more
    /// than 8 KiB by the client's address)
    #[arg(long, value_name = "SIZE")]
    pub(crate) send: Option<ByteSize>,
    /// What to ask for with each request; the same as --send is an echo
    #[arg(long, value_name = "SIZE")]
    pub(crate) receive: Option<ByteSize>,
    /// HTTP: what to ask for; any success will do unless it is /home
    #[arg(long, value_name = "PATH", conflicts_with_all = ["send", "receive"])]
    pub(crate) path: Option<String>,
    /// How long one request may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// What is sent before that and does not count [default: 1s with --duration, else none]
    #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
    pub(crate) warm_up: Option<Duration>,
    /// Threads that send [default: half of the cores]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) threads: Option<usize>,
    /// Where random ids begin: the same seed, the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the numbers here as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The most connections or threads that are accepted; how many there can be is another question.
const MANY: usize = 1_000_000;

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MANY).contains(count));
    count.ok_or_else(|| format!("expected a whole number from 1 to {MANY}"))
}

/// The first address of a name, if it is none itself.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("expected HOST:PORT, such as 127.0.0.1:5000 ({error})"))?;
    addresses.next().ok_or_else(|| "this name has no address".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| "expected requests a second, from 0.01 to 10000000".to_owned())
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| duration.as_secs() <= 86_400);
    duration.ok_or_else(|| "expected a duration of at most a day, such as 250ms, 5s or 1m".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    duration_or_none(text).and_then(|duration| {
        if duration.is_zero() {
            Err("expected more than nothing, such as 250ms".to_owned())
        } else {
            Ok(duration)
        }
    })
}
