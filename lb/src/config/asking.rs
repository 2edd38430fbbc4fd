//! The flags that find a running `lb`.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, ValueHint};

use super::environment::FromEnvironment;
use super::value;
use crate::client::Address;

/// The flags that find a running `lb`, anywhere in a command. (They have ids of their own because
/// `lb serve` has flags with some of these names.)
#[derive(Debug, Args)]
pub struct Client {
    /// Which of the following are set in the environment.
    #[command(flatten)]
    pub from_environment: FromEnvironment,
    /// Control port of the running lb, as HOST:PORT or unix:PATH
    #[arg(id = "lb-control", long = "control", global = true, help_heading = "Control port", env = "LB_CONTROL", value_name = "ADDR|unix:PATH", default_value = "127.0.0.1:5001", value_parser = ValueParser::new(value::where_to_ask))]
    pub control: Address,
    /// Token of the control port
    #[arg(
        id = "lb-control-token",
        long = "control-token",
        global = true,
        help_heading = "Control port",
        env = "LB_CONTROL_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub control_token: Option<String>,
    /// File that holds the token of the control port
    #[arg(
        id = "lb-control-token-file",
        long = "control-token-file",
        global = true,
        help_heading = "Control port",
        env = "LB_CONTROL_TOKEN_FILE",
        value_name = "FILE",
        value_hint = ValueHint::FilePath
    )]
    pub control_token_file: Option<PathBuf>,
    /// Print the answer as it comes
    #[arg(long, global = true, help_heading = "Control port")]
    pub json: bool,
}
