//! The command line: subcommands, and the flags of all but `lb serve`.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, Parser, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCandidates;
use proto::control::Hostname;

use super::asking::Client;
use super::environment::FromEnvironment;
use super::live;
use super::parameters::ParameterChanges;
use super::serve::Serve;
use super::simulate::Simulate;
use super::value::{self, Checked, NumberOrName};
use crate::provider::process::child;

/// What is shown at the end of the help.
const EXAMPLES: &str = "\
Examples:
  lb                                           three demo servers; data port 5000, control port 5001
  lb --command 'python3 app.py {port}'         three processes of your own
  lb --provider docker --image app:1           three containers
  lb --provider fixed --backend a=10.0.0.1:80 --backend b=10.0.0.2:80,weight=2
  lb explain 132574                            where this id goes, and why
  lb plan rm server2                           what a change would move
  lb kill server2; lb incidents                a replica dies, and how its slot healed

Topics: lb help control, healing, keys, mappings or providers";

/// How completions are turned on.
const COMPLETIONS: &str = "\
Examples:
  source <(lb completions bash)                                     in ~/.bashrc
  source <(lb completions zsh)                                      in ~/.zshrc, after compinit
  lb completions fish > ~/.config/fish/completions/lb.fish          once for each version of lb

Names of replicas come from the control port: --control and --control-token, where they are typed, or their variables.";

/// What `lb check` is like.
const CHECKS: &str = "\
Exits with 0 if lb serve could start with this, else with 2 and all that is wrong, a line each: FILE:LINE:COLUMN: what.

Example:
  lb check --config /etc/lb/lb.toml && systemctl restart lb";

/// How settings are shown.
const SETTINGS: &str = "\
A line for each key: key, value (- if there is none), and flag, variable LB_X, FILE:LINE or default. Tokens, seeds and the \
variables of containers are not shown.

Examples:
  lb config --config lb.toml
  lb config --config lb.toml --json
  lb config --schema > lb.schema.json                               for editors that complete TOML";

/// A self-healing layer-4 TCP load balancer: connections with the same id reach the same server.
///
/// Without a subcommand it is `lb serve`.
#[derive(Debug, Parser)]
#[command(
    name = "lb",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Subcommand>,
    /// The flags of `lb serve`, for `lb` without a subcommand.
    #[command(flatten)]
    pub serve: Serve,
}

/// What `lb` can do.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Balance connections over replicas
    Serve(Box<Serve>),
    /// Check flags, variables and the configuration file, without starting anything
    #[command(after_help = CHECKS)]
    Check(Box<Serve>),
    /// Show the value of each flag of `lb serve`, and where it comes from
    #[command(after_help = SETTINGS)]
    Config(Box<ConfigFlags>),
    /// Talk to a running `lb`.
    #[command(flatten)]
    Client(Box<ClientCommand>),
    /// Show the state of a fleet at any moment, from the file of its journal
    Replay(ReplayFlags),
    /// Compute offline how even mappings are and what a change moves, for lb, HAProxy, nginx and Envoy
    Simulate(Box<Simulate>),
    /// Look after a fleet in a Docker Swarm, without a running lb
    Fleet {
        /// What to do with it.
        #[command(subcommand)]
        action: FleetAction,
    },
    /// Print the completions of a shell; they know the replicas of the running lb
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = "Example:\n  lb man /usr/local/share/man/man1 && man lb-explain")]
    Man {
        /// The folder, which is there
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Explain a command, or a topic: control, healing, keys, mappings or providers
    Help {
        /// The command or the topic; without it, all commands and flags
        #[arg(value_name = "COMMAND|TOPIC")]
        words: Vec<String>,
    },
    /// Print the version
    Version,
    /// Become a replica (used by `lb` itself)
    #[command(hide = true)]
    Replica(child::Arguments),
    /// End a process group with lb (used by `lb` itself)
    #[command(hide = true)]
    Guard {
        /// The process group
        #[arg(value_parser = clap::value_parser!(i32).range(2..))]
        group: i32,
    },
}

/// A shell with completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash, 4 or newer.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

/// What to show of the configuration.
#[derive(Debug, Args)]
pub struct ConfigFlags {
    /// The flags of `lb serve`.
    #[command(flatten)]
    pub serve: Serve,
    /// Print JSON: a list of objects with key, value and from
    #[arg(long, conflicts_with = "schema")]
    pub json: bool,
    /// Print the JSON schema of the configuration file
    #[arg(long)]
    pub schema: bool,
}

/// What to see again.
#[derive(Debug, Args)]
pub struct ReplayFlags {
    /// The file that `lb serve --journal` has written; what was rotated (FILE.1 and so on) is read as well
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The number of an entry (`lb events` shows them): the state when it was recorded [default: the newest entry]
    #[arg(long, value_name = "SEQ")]
    pub at: Option<u64>,
    /// Print the state as JSON
    #[arg(long)]
    pub json: bool,
}

/// The commands of `lb fleet`.
#[derive(Debug, clap::Subcommand)]
pub enum FleetAction {
    /// Remove the services, the config object and the network of a fleet; every lb of it that runs ends
    Rm(FleetRm),
}

/// Which fleet to remove.
#[derive(Debug, Args)]
pub struct FleetRm {
    /// Which of the following are set in the environment.
    #[command(flatten)]
    pub from_environment: FromEnvironment,
    /// The name of the fleet
    #[arg(long, env = "LB_FLEET", value_name = "NAME", default_value = "lb", value_parser = ValueParser::new(value::fleet))]
    pub(super) fleet: Checked<Hostname>,
    /// The network of the fleet; one that lb has not made stays
    #[arg(long, env = "LB_NETWORK", value_name = "NETWORK", default_value = "lb", value_parser = ValueParser::new(value::network))]
    pub(super) network: Checked<String>,
}

/// Commands to a running `lb`.
#[derive(Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// List the replicas
    Rep {
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Start N replicas, the named ones first
    Add {
        /// How many, and their names; the rest gets random ones.
        #[command(flatten)]
        which: Which,
        /// Their weights, in the same order: each from 0 to 100; the rest gets 1
        #[arg(long, value_name = "W", value_delimiter = ',')]
        weights: Vec<u64>,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Drain and stop N replicas, the named ones first
    #[command(mut_arg("first", live::complete), mut_arg("hostnames", live::complete))]
    Rm {
        /// How many, and which; the rest is chosen at random.
        #[command(flatten)]
        which: Which,
        /// How long their connections may take to finish [default: --drain-timeout of the running lb]
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        drain: Option<String>,
        /// Reset their connections at once, like --drain 0s
        #[arg(long, conflicts_with = "drain")]
        now: bool,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Kill a replica that lb has started, to see it heal
    Kill {
        /// Its hostname, or the name of its slot
        #[arg(add = ArgValueCandidates::new(live::replicas))]
        hostname: String,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Show every slot with its state
    Backends {
        /// Go on: ask again each second and whenever something happens
        #[arg(long, short)]
        watch: bool,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Show slots, rates, shares and incidents on the terminal, with keys to sort, filter, kill, drain and explain
    Top {
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Show how keys are mapped, or change it
    Mapping {
        /// What to do with it.
        #[command(subcommand)]
        action: Option<MappingAction>,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Say what a change would move, without making it
    Plan {
        /// The change.
        #[command(subcommand)]
        change: PlannedChange,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Say why a request id goes where it goes
    Explain {
        /// The request id, as it would stand in a first line
        id: String,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Show each loss of a replica, and how long each phase of the recovery took
    Incidents {
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Show what has happened
    Events {
        /// Only events after this one (a number), or of the last so many seconds, minutes or hours (30s, 5m, 1h)
        #[arg(long, value_name = "SEQ|DURATION", allow_hyphen_values = true)]
        since: Option<String>,
        /// Go on with what happens
        #[arg(long, short)]
        follow: bool,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Exit with 0 exactly while a new client would be served
    Health {
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
}

/// The commands of `lb mapping`.
#[derive(Debug, clap::Subcommand)]
pub enum MappingAction {
    /// Change how keys are mapped: what is not given stays as it is
    Set {
        /// What is to be different.
        #[command(flatten)]
        change: MappingChange,
    },
}

/// A change whose effect `lb plan` shows.
#[derive(Debug, clap::Subcommand)]
pub enum PlannedChange {
    /// More replicas: N, or as many as there are names
    Add {
        /// How many, their names, or both.
        #[command(flatten)]
        which: Which,
        /// Their weights, in the same order: each from 0 to 100; the rest gets 1
        #[arg(long, value_name = "W", value_delimiter = ',')]
        weights: Vec<u64>,
    },
    /// Fewer replicas: N, or as many as there are names
    #[command(mut_arg("first", live::complete), mut_arg("hostnames", live::complete))]
    Rm {
        /// How many, their names, or both.
        #[command(flatten)]
        which: Which,
    },
    /// Another mapping
    Mapping {
        /// What to do with it.
        #[command(subcommand)]
        action: MappingAction,
    },
}

/// The replicas that a command is about: how many, their names, or both.
#[derive(Debug, Args)]
pub struct Which {
    /// How many, or the first hostname: names alone mean as many as there are
    #[arg(value_name = "N|HOSTNAME", allow_negative_numbers = true, value_parser = ValueParser::new(value::number_or_name))]
    pub first: NumberOrName,
    /// Hostnames; the rest of N is the choice of lb
    #[arg(value_name = "HOSTNAME")]
    pub hostnames: Vec<String>,
}

/// The parts of `lb mapping set` that may change.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct MappingChange {
    /// The algorithm: ring, slots, maglev or rendezvous
    #[arg(value_name = "MAPPING", group = "MappingChange")]
    pub mapping: Option<String>,
    /// The parameters of the mappings.
    #[command(flatten)]
    pub parameters: ParameterChanges,
    /// No replica gets more connections than this factor times the mean
    #[arg(long, value_name = "FACTOR|off", group = "MappingChange")]
    pub balance_factor: Option<String>,
    /// The share of a slot's keys against the others', from 0 to 100; repeatable
    #[arg(long = "weight", group = "MappingChange", value_name = "HOSTNAME=W", value_parser = ValueParser::new(value::named_weight))]
    pub weights: Vec<(String, u64)>,
}
