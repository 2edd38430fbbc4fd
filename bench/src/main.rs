//! `bench`: experiments with TCP load balancers, and what is written about them.
//!
//! `data` is what they have found, `stats` a few numbers about it, `report` what is written.

mod data;
mod report;
mod stats;

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Writes reports about load balancers
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the report of numbers that were measured before
    Report {
        /// A data.json
        data: PathBuf,
        /// Where to write it
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let Command::Report { data, out } = Cli::parse().command;
    let file = File::open(&data).with_context(|| format!("cannot read {}", data.display()))?;
    let found: data::Data = serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} is no data.json of bench", data.display()))?;
    report::write(&found, &out)?;
    writeln!(std::io::stdout(), "{}", report::markdown(&found)).context("cannot write the report")
}
