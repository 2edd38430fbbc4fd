//! The command line of this process, completed from its environment and from the configuration file.
//!
//! The command line is read twice: first to find the file, then with the file's values as defaults. So the argument parser itself
//! keeps the order: a flag, its variable, the file, the default.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Command, CommandFactory as _, Error, FromArgMatches as _};

use super::args::{Cli, ConfigFlags, Subcommand};
use super::environment::{self, Ignored};
use super::file::{CONFIG, FromFile, Keys};
use super::{Problems, Serve, order, subjects};

/// The commands that have the flags of `lb serve`.
const SERVES: [&str; 3] = ["serve", "check", "config"];

impl Cli {
    /// The command line of this process, completed from its environment and from the file that `--config` names; and the variables
    /// that do not count, to warn of. Ends the process after `--help` and the like, and if there is no such command.
    pub fn read() -> (Self, impl Iterator<Item = Ignored>) {
        let (command, ignored) = environment::sift(subjects::grouped(Cli::command()));
        let words = order::flags_last(std::env::args_os().collect());
        match layered(&command, &words) {
            Ok(cli) => (cli, ignored.into_iter()),
            Err(error) => environment::blame_the_variable(error.format(&mut command.clone())).exit(),
        }
    }

    /// The flags of `lb serve`, if the command has them.
    fn serve_flags(&mut self) -> Option<&mut Serve> {
        match &mut self.command {
            None => Some(&mut self.serve),
            Some(Subcommand::Serve(serve) | Subcommand::Check(serve)) => Some(serve),
            Some(Subcommand::Config(flags)) => {
                let ConfigFlags { serve, .. } = &mut **flags;
                Some(serve)
            }
            Some(_) => None,
        }
    }
}

impl Serve {
    /// The flags of this process, completed once more from its environment and from the file as it is now.
    ///
    /// # Errors
    /// What the argument parser finds wrong.
    pub(super) fn read_again() -> Result<Self, Problems> {
        let (command, _) = environment::sift(Cli::command());
        let words = order::flags_last(std::env::args_os().collect());
        let cli = layered(&command, &words).map_err(|error| {
            let error = environment::blame_the_variable(error.format(&mut command.clone()));
            Problems(vec![error.to_string().trim_end().to_owned()])
        })?;
        match cli.command {
            Some(Subcommand::Serve(serve)) => Ok(*serve),
            _ => Ok(cli.serve),
        }
    }
}

/// A command line, completed from the file that it or the environment names.
///
/// # Errors
/// What the argument parser finds wrong; `--help` and the like count as that.
pub(super) fn layered(command: &Command, words: &[OsString]) -> Result<Cli, Error> {
    let matches = command.clone().try_get_matches_from(words)?;
    let Some((name, path)) = file_of(&matches) else { return Cli::from_arg_matches(&matches) };
    let keys = Serve::keys();
    let mut file = FromFile::read(&path, &keys);
    let with_file = |command: Command| with_defaults(command, &file, &keys);
    let completed = match name {
        None => with_file(command.clone()),
        Some(name) => command.clone().mut_subcommand(name, with_file),
    };
    let mut cli = Cli::from_arg_matches(&completed.try_get_matches_from(words)?)?;
    if let Some(serve) = cli.serve_flags() {
        file.keep_only(|name| keys.find(name).is_some_and(|key| serve.texts.is_default(&key.id)));
        serve.file = file;
    }
    Ok(cli)
}

/// The file that holds values for this command, after the command's name.
fn file_of(matches: &ArgMatches) -> Option<(Option<&'static str>, PathBuf)> {
    let (name, matches) = match matches.subcommand() {
        None => (None, matches),
        Some((name, matches)) => (Some(SERVES.into_iter().find(|known| *known == name)?), matches),
    };
    Some((name, matches.get_one::<PathBuf>(CONFIG)?.clone()))
}

fn with_defaults(command: Command, file: &FromFile, keys: &Keys) -> Command {
    keys.0.iter().fold(command, |command, key| match file.texts(&key.name) {
        Some(texts) => command.mut_arg(&key.id, |arg| arg.default_values(texts)),
        None => command,
    })
}
