//! The commands to a running `lb`, as their flags say them.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::asking::Client;
use super::live;
use super::parameters::ParameterChanges;
use super::value::{self, NumberOrName};

/// What a reload is like.
const RELOADS: &str = "\
The running lb reads the file that its own --config names. A change of a setting that needs another start is refused, and nothing is \
changed then. SIGHUP does the same.

Examples:
  lb reload --dry-run                                               what would change, and what would move
  lb reload";

/// Commands to a running `lb`.
#[derive(Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// List the replicas
    Rep {
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Start N replicas, the named ones first; NAME=HOST:PORT[,weight=W] is one that runs already (--provider fixed)
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
    /// Read the configuration file again, and change what differs from what runs: all of it, or nothing
    #[command(after_help = RELOADS)]
    Reload {
        /// Show what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Where to ask.
        #[command(flatten)]
        client: Client,
    },
    /// Have a successor take everything over, without a lost connection; it has the same flags
    Upgrade {
        /// The program that it runs [default: the file from which the running lb was started]
        #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
        binary: Option<PathBuf>,
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
