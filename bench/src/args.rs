//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::fault::Kind;
use crate::load::Ids;
use crate::stand::Provider;
use crate::target::{Target, address};

/// Measures lb and other TCP load balancers, draws charts, and writes a report
///
/// Exit codes: 0 everything is right, 1 something is wrong or the run failed, 2 the command line is wrong. Bars for speed
/// are shown and do not change the exit code, unless --hold-bars is given.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// bench already runs in its own network namespace (used by bench itself).
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send load to an address, check every answer, and show counts and latencies
    Load(LoadArgs),
    /// how many requests each of N replicas gets
    A1 {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        mapping: MappingArgs,
        /// Number of replicas; a running load balancer keeps the number that it has
        #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=56))]
        n: u16,
    },
    /// the same with N from 2 to 6
    A2 {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        mapping: MappingArgs,
    },
    /// every command of the control port, and recovery from replicas killed under load
    A3 {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        drill: DrillArgs,
        #[command(flatten)]
        swarm: SwarmArgs,
    },
    /// A-4: A-1 and A-2 with other mappings and hash functions
    A4 {
        #[command(flatten)]
        experiment: ExperimentArgs,
    },
    /// and the comparison, in one report
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
    /// Compare lb with other load balancers and with no proxy: the same load on each, in turns
    Compare {
        #[command(flatten)]
        compare: CompareArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Seed of the random ids: the same seed gives the same ids
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Faults at random under load, in rounds, and what has to hold after each of them
    Soak(SoakArgs),
    /// Write a report from a data.json that was measured before
    Report {
        /// The data.json to read
        data: PathBuf,
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Become another program, which ends when bench ends (used by bench itself)
    #[command(hide = true)]
    Child {
        /// The process that started it
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

/// The flags for output.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write report.md, report.html, data.json and all charts here
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the numbers to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The flags of an experiment.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// Number of requests in each load
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) requests: u64,
    /// Number of concurrent connections
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count)]
    pub(crate) connections: usize,
    /// Seed of the random ids: the same seed gives the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How lb starts its replicas
    #[arg(long, value_enum, default_value = "process")]
    pub(crate) provider: Provider,
    /// docker: image of the replicas; it must speak the protocol of the demo replica
    #[arg(long, value_name = "IMAGE", default_value = "lb-backend")]
    pub(crate) image: String,
    /// Measure this running load balancer instead of starting lb
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) target: Option<SocketAddr>,
    /// Control port of that load balancer, if it is an lb
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "target")]
    pub(crate) control: Option<SocketAddr>,
    /// Token of that control port
    #[arg(long, value_name = "TOKEN", env = "LB_CONTROL_TOKEN", hide_env_values = true)]
    pub(crate) control_token: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The flags that choose mappings.
#[derive(Clone, Debug, Args)]
pub(crate) struct MappingArgs {
    /// Mappings to measure, separated by commas
    #[arg(long, value_name = "NAMES", default_value = "slots,ring", value_delimiter = ',')]
    pub(crate) mapping: Vec<String>,
}

/// The flags of the drill.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DrillArgs {
    /// Number of replicas to kill, one after the other
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) kills: u16,
    /// Requests per second during the drill
    #[arg(long, value_name = "R", default_value = "1000", value_parser = rate)]
    pub(crate) rate: f64,
}

/// The flags of A-3 on a Docker Swarm.
#[derive(Clone, Debug, Args)]
pub(crate) struct SwarmArgs {
    /// swarm: how many lbs serve the fleet together, each beside a manager
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    pub(crate) balancers: u16,
    /// swarm: the script that builds the nodes; with the variable SW_DIR, a Swarm that it has built is used
    #[arg(long, value_name = "SCRIPT", default_value = "lb/tests/it/swarm/nodes.sh")]
    pub(crate) nodes: PathBuf,
    /// swarm: the static program of the replicas, which becomes the image in all nodes
    #[arg(long, value_name = "PROGRAM", default_value = "target/static/backend")]
    pub(crate) replica: PathBuf,
}

/// The flags of a comparison.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// Peers, separated by commas; one that is not installed is left out, with a message
    #[arg(long, value_name = "NAMES", default_value = "haproxy,nginx", value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Rounds of each mode; every contender takes one turn in each round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// How long one turn lasts
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) time: Duration,
    /// Modes, separated by commas [default: short,tail,rtt64,rtt16k,down,up,idle,generator]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) modes: Vec<String>,
    /// Compare lb, too, when it is watched, separated by commas: each is a contender of its own
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    pub(crate) watch: Vec<Watch>,
    /// What replicas share a core with: the load generator, so that the proxy has its own core, or the proxy
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Beside::Load)]
    pub(crate) replicas_beside: Beside,
    /// Exit with 1 if a bar for speed is not reached; by default bars are only shown
    #[arg(long)]
    pub(crate) hold_bars: bool,
}

/// The flags of a soak.
#[derive(Clone, Debug, Args)]
pub(crate) struct SoakArgs {
    /// Begin new rounds for this time, such as 10m
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub(crate) time: Duration,
    /// Seed of everything random: the same seed plans the same rounds
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Run only the round with this number, to repeat it
    #[arg(long, value_name = "N", conflicts_with = "time")]
    pub(crate) round: Option<u64>,
    /// Kinds of faults, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',', default_values_t = Kind::all(), hide_default_value = true)]
    pub(crate) faults: Vec<Kind>,
    /// Requests per second during a round
    #[arg(long, value_name = "R", default_value = "200", value_parser = modest_rate)]
    pub(crate) rate: f64,
    /// Number of replicas; a running lb keeps the number that it has
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) n: u16,
    /// Soak this running lb instead of starting one; its replicas have to be its child processes on this host
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "control")]
    pub(crate) target: Option<SocketAddr>,
    /// Control port of that lb
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "target")]
    pub(crate) control: Option<SocketAddr>,
    /// Token of that control port
    #[arg(long, value_name = "TOKEN", env = "LB_CONTROL_TOKEN", hide_env_values = true)]
    pub(crate) control_token: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// More flags of the lb that bench starts, such as: -- --transport handoff
    #[arg(last = true, value_name = "FLAGS", conflicts_with = "target")]
    pub(crate) flags: Vec<String>,
}

/// What replicas share a core with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beside {
    /// With the generator
    Load,
    /// With the proxy
    Proxy,
}

/// How an `lb` is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Watch {
    /// Not at all: the same lb a second time shows the noise
    Again,
    /// A log of connections as text
    Text,
    /// A log of connections as JSON
    Json,
    /// A file of the journal
    Journal,
    /// Metrics, scraped each second
    Metrics,
    /// The log as JSON, the journal, scraped metrics, and a page and `events --follow` that are open
    Everything,
}

/// Flags that are valid one by one and not together; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misused(pub(crate) String);

/// The protocol of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1
    Http,
    /// Lines; the server sends each back after its own name
    Raw,
}

/// The flags of `bench load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where to send to: 127.0.0.1:5000, or a URL such as http://127.0.0.1:5000/home
    #[arg(value_name = "ADDR|URL", value_parser = Target::parse, required_unless_present = "target")]
    pub(crate) place: Option<Target>,
    /// Where to send to, as a flag
    #[arg(long, value_name = "ADDR", value_parser = address, conflicts_with = "place")]
    pub(crate) target: Option<SocketAddr>,
    /// Open loop: requests per second, at fixed times, however slow the target is; a request that is due and still not
    /// sent --timeout after the end has failed [default: a closed loop]
    #[arg(short = 'q', long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Concurrent connections; in an open loop the maximum [default: 32, or 1000 in an open loop without --keep-open]
    #[arg(short = 'c', long, value_name = "N", value_parser = count)]
    pub(crate) connections: Option<usize>,
    /// Number of requests [default: 10000]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(crate) requests: Option<u64>,
    /// Send for this time instead, such as 10s
    #[arg(short = 'z', long, value_name = "DURATION", value_parser = duration, conflicts_with = "requests")]
    pub(crate) duration: Option<Duration>,
    /// Protocol of the target
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) protocol: Protocol,
    /// Send many requests on each connection, one after the other [default: one request per connection]
    #[arg(long)]
    pub(crate) keep_open: bool,
    /// Request ids: random, sequential, zipf:S (such as zipf:1.1) or fixed:ID; a connection keeps the id of its first request
    #[arg(long, value_name = "IDS", default_value = "random")]
    pub(crate) ids: Ids,
    /// Payload of each request, such as 16KiB; for raw, the size of the whole line (lb balances a line of more than 8 KiB
    /// by the client's address)
    #[arg(long, value_name = "SIZE")]
    pub(crate) send: Option<ByteSize>,
    /// Payload of each answer; equal to --send means an echo
    #[arg(long, value_name = "SIZE")]
    pub(crate) receive: Option<ByteSize>,
    /// HTTP: path to request; any 2xx answer is right, except for /home, where the greeting is checked
    #[arg(long, value_name = "PATH", conflicts_with_all = ["send", "receive"])]
    pub(crate) path: Option<String>,
    /// Timeout of one request, its connection included
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Send for this time first, without counting [default: 1s with --duration, else none]
    #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
    pub(crate) warm_up: Option<Duration>,
    /// Number of sending threads [default: half of the cores]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) threads: Option<usize>,
    /// Seed of the random ids: the same seed gives the same ids
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the numbers to this file too; - is stdout, which gets nothing else then
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,
}

/// The largest number of connections or threads that the flags accept; the host may allow fewer.
const MANY: usize = 1_000_000;

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MANY).contains(count));
    count.ok_or_else(|| format!("expected a whole number from 1 to {MANY}"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| "expected requests per second, from 0.01 to 10000000".to_owned())
}

/// A rate at which the faults are the reason for failures, and not the load.
fn modest_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (10.0..=5_000.0).contains(rate));
    rate.ok_or_else(|| "expected requests per second, from 10 to 5000".to_owned())
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| duration.as_secs() <= 86_400);
    duration.ok_or_else(|| "expected a duration of at most a day, such as 250ms, 5s or 1m".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    duration_or_none(text).and_then(|duration| {
        if duration.is_zero() {
            Err("expected a duration above zero, such as 250ms".to_owned())
        } else {
            Ok(duration)
        }
    })
}
