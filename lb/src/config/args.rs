//! The command line: subcommands, and the flags of all but `lb serve`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, Parser, ValueEnum, ValueHint};
use proto::control::Hostname;

use super::commands::ClientCommand;
use super::environment::FromEnvironment;
use super::serve::Serve;
use super::simulate::Simulate;
use super::value::{self, Checked};
use crate::provider::process::child;

/// The longest line of the help, in characters.
pub(super) const WIDTH: usize = 110;

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
  lb check --config /etc/lb/lb.toml && systemctl reload lb";

/// How settings are shown.
const SETTINGS: &str = "\
A line for each key: key, value (- if there is none), and flag, variable LB_X, FILE:LINE or default. Tokens, seeds and the \
variables of containers are not shown.

Examples:
  lb config --config lb.toml
  lb config --config lb.toml --json
  lb config --write now.toml                                        what runs, with the changes of add, rm and mapping
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
    max_term_width = WIDTH,
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
    /// Start a successor (used by `lb` itself)
    #[command(hide = true)]
    Launch {
        /// Its program
        program: PathBuf,
        /// Its arguments
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Look after children that were handed over (used by `lb` itself)
    #[command(hide = true)]
    Guardian {
        /// The process that holds them
        holder: i32,
    },
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
    /// Write what runs as a configuration file: to FILE, or to stdout; the running lb is asked at --control
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schema", "json"])]
    pub write: Option<Option<PathBuf>>,
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
