//! The flags for the parameters of the mappings. They come from the table of the crate `mapping`.

use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};
use mapping::{Algorithm, MappingName, NotAccepted, Parameter, Scheme, Seed};

use super::value::{self, Checked};
use super::{Problems, secret};

/// The parameters of the mappings, for `lb serve` and `lb simulate`.
#[derive(Clone, Debug, Args)]
pub(super) struct Parameters {
    /// The value of each, given or not.
    #[command(flatten)]
    values: ParameterValues,
    /// Keys the hash: without the number, an outsider cannot compute which ids fall on one replica [default: not keyed]
    #[arg(long, env = "LB_HASH_SEED", value_name = "NUMBER", hide_env_values = true, allow_hyphen_values = true, value_parser = ValueParser::new(value::parsed::<Seed>))]
    hash_seed: Option<Checked<Seed>>,
    /// File that holds the number for --hash-seed, such as a mounted secret
    #[arg(long, env = "LB_HASH_SEED_FILE", value_name = "FILE")]
    hash_seed_file: Option<PathBuf>,
}

impl Parameters {
    /// The mapping of a name with its parameters. All of them are checked, whatever the name is.
    pub(super) fn scheme(&self, name: MappingName, problems: &mut Problems) -> Scheme {
        let mut algorithm = Algorithm::named(name);
        for (parameter, text) in &self.values.0 {
            let mut other = Algorithm::named(parameter.mapping);
            let target = if parameter.mapping == name { &mut algorithm } else { &mut other };
            if let Err(NotAccepted::Value { problem, .. }) = parameter.set(target, text) {
                problems.add(format!("--{}: {problem}", flag(parameter)));
            }
        }
        Scheme { algorithm, seed: self.seed(problems) }
    }

    /// The seed, from wherever it is given. A message never holds it.
    fn seed(&self, problems: &mut Problems) -> Seed {
        match (&self.hash_seed, &self.hash_seed_file) {
            (None, None) => Seed::default(),
            (Some(given), None) => problems.take("hash-seed", given.clone(), Seed::default()),
            (None, Some(file)) => seed_in(file).unwrap_or_else(|problem| {
                problems.add(problem);
                Seed::default()
            }),
            (Some(_), Some(_)) => {
                problems.add("--hash-seed-file: there is a --hash-seed already; give one of them");
                Seed::default()
            }
        }
    }
}

fn seed_in(file: &Path) -> Result<Seed, String> {
    let (flag, text) = secret::read("--hash-seed-file", file)?;
    text.parse().map_err(|problem| format!("{flag}: {problem}"))
}

/// A value of each parameter: of its flag, its variable, or the default.
#[derive(Clone, Debug)]
struct ParameterValues(Vec<(Parameter, String)>);

/// The parameters that are given to `lb mapping set`.
#[derive(Clone, Debug)]
pub struct ParameterChanges(pub(crate) Vec<(Parameter, String)>);

fn flag(parameter: &Parameter) -> String {
    parameter.name.replace('_', "-")
}

fn argument(parameter: &Parameter) -> Arg {
    Arg::new(parameter.name)
        .long(flag(parameter))
        .value_name(parameter.value_name)
        .help(format!("{}: {}", parameter.mapping, parameter.about))
}

fn given(matches: &ArgMatches) -> Vec<(Parameter, String)> {
    let text = |parameter: Parameter| Some((parameter, matches.get_one::<String>(parameter.name)?.clone()));
    Parameter::ALL.into_iter().filter_map(text).collect()
}

impl Args for ParameterValues {
    fn augment_args(command: Command) -> Command {
        command.args(Parameter::ALL.iter().map(|parameter| {
            argument(parameter)
                .env(format!("LB_{}", parameter.name.to_uppercase()))
                .default_value(parameter.default().map_or_else(String::new, |value| value.to_string()))
                .allow_hyphen_values(true)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ParameterValues {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = given(matches);
        Ok(())
    }
}

impl Args for ParameterChanges {
    fn augment_args(command: Command) -> Command {
        // One of the whole group has to be given: see `MappingChange`.
        command.args(Parameter::ALL.iter().map(|parameter| argument(parameter).group("MappingChange")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ParameterChanges {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = given(matches);
        Ok(())
    }
}
