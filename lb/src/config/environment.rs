//! The environment: which of its variables count, and how a message names them.
//!
//! Each flag has the variable `LB_` + the flag in capitals. An empty variable counts as unset, for every flag of every command
//! (`docker run -e LB_SPARES=`, `${LB_SPARES:-}` in a compose file). The rules are applied to the whole command line at once, so that
//! no flag has to know them.

use std::collections::BTreeSet;
use std::env::var_os;
use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

/// A variable that has the name of one of ours, but was set by the platform for another purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    variable: String,
    value: String,
}

impl Ignored {
    /// Its name.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ignored { variable, value } = self;
        let service = variable.strip_suffix("_PORT").unwrap_or(variable).to_lowercase().replace('_', "-");
        write!(
            f,
            "{variable}: ignored, because `{value}` is what Docker and Kubernetes set for a service called {service}; \
             to set --{}, give the flag, or the variable a value of its form",
            flag_of(variable)
        )
    }
}

/// Removes from a command line the variables that do not count. Returns those that are worth a warning.
pub(super) fn sift(command: Command) -> (Command, BTreeSet<Ignored>) {
    let mut ignored = BTreeSet::new();
    let command = sift_into(command, &mut ignored);
    (command, ignored)
}

fn sift_into(command: Command, ignored: &mut BTreeSet<Ignored>) -> Command {
    let command = command.mut_args(|arg| {
        let variable = arg.get_env().map(OsStr::to_owned);
        match variable.map(|variable| reading(&variable, var_os(&variable))) {
            Some(Reading::Empty) => without_variable(arg),
            Some(Reading::OfAService(variable)) => {
                ignored.insert(variable);
                without_variable(arg)
            }
            Some(Reading::Counts) | None => arg,
        }
    });
    command.mut_subcommands(|command| sift_into(command, ignored))
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(None::<&'static str>)
}

/// What a variable is for `lb`.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// The value of a flag, or unset.
    Counts,
    /// As if it were unset.
    Empty,
    /// The address of a service.
    OfAService(Ignored),
}

fn reading(variable: &OsStr, value: Option<OsString>) -> Reading {
    match value {
        Some(value) if value.is_empty() => Reading::Empty,
        Some(value) => of_a_service(&variable.to_string_lossy(), &value.to_string_lossy())
            .map_or(Reading::Counts, Reading::OfAService),
        None => Reading::Counts,
    }
}

/// A service or linked container called NAME gives its neighbours, among others, `NAME_PORT=tcp://ADDRESS:PORT` (Kubernetes,
/// "Accessing the Service", environment variables; Docker, "Legacy container links"). No flag takes such a value.
///
/// The others of that family (`NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, `NAME_PORT_80_TCP`, `NAME_ENV_...`) are named like no flag.
fn of_a_service(variable: &str, value: &str) -> Option<Ignored> {
    let is_address = || {
        let (protocol, address) = value.split_once("://")?;
        (["tcp", "udp", "sctp"].contains(&protocol) && address.contains(':')).then_some(())
    };
    (variable.ends_with("_PORT") && is_address().is_some())
        .then(|| Ignored { variable: variable.to_owned(), value: value.to_owned() })
}

/// Names the variable in a message of the argument parser about the value of a variable. (The parser names the flag.)
pub(super) fn blame_the_variable(mut error: Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let variable = text(ContextKind::InvalidArg).and_then(|argument| {
        let flag = argument.strip_prefix("--")?.split(' ').next()?;
        Some(variable_of(flag)).filter(|variable| {
            var_os(variable)
                .is_some_and(|value| Some(&*value.to_string_lossy()) == text(ContextKind::InvalidValue))
        })
    });
    if let Some(variable) = variable {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

fn variable_of(flag: &str) -> String {
    format!("LB_{}", flag.replace('-', "_").to_uppercase())
}

fn flag_of(variable: &str) -> String {
    variable.trim_start_matches("LB_").replace('_', "-").to_lowercase()
}

/// The flags of a command whose values come from the environment.
///
/// It stands among the flags of a command as if it were some of them, before all others: to read a flag takes it from the parser.
#[derive(Clone, Debug, Default)]
pub struct FromEnvironment(BTreeSet<String>);

impl FromEnvironment {
    /// A message with the variable in place of each flag that got its value there. What stands in backticks stays as it is.
    #[must_use]
    pub fn named_in(&self, message: &str) -> String {
        rename_flags(message, |flag| self.0.contains(flag).then(|| variable_of(flag)))
    }
}

/// A message with other names for some of its flags. What stands in backticks stays as it is.
pub(super) fn rename_flags<'a>(message: &'a str, mut other: impl FnMut(&'a str) -> Option<String>) -> String {
    let is_part = |letter: char| letter == '-' || letter.is_ascii_alphanumeric();
    let mut renamed = |part: &'a str| {
        let flag = part.trim_end_matches(|letter| !is_part(letter));
        let name = flag.strip_prefix("--").and_then(&mut other);
        name.map_or_else(|| part.to_owned(), |name| name + &part[flag.len()..])
    };
    let mut named = |(at, part): (usize, &'a str)| match at % 2 {
        0 => part.split_inclusive(|letter| !is_part(letter)).map(&mut renamed).collect(),
        _ => part.to_owned(),
    };
    message.split('`').enumerate().map(&mut named).collect::<Vec<String>>().join("`")
}

impl Args for FromEnvironment {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for FromEnvironment {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let ids = matches.ids().map(clap::Id::as_str);
        // Flags that are common to all client commands show up here too, and are not among the known ones.
        let known = ids.filter(|id| matches.try_contains_id(id).is_ok());
        let ours = known.filter(|id| matches.value_source(id) == Some(ValueSource::EnvVariable));
        // The client's flags have `lb-` before their names.
        Ok(FromEnvironment(ours.map(|id| id.trim_start_matches("lb-").replace('_', "-")).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Where the engine is, by the variable that every Docker client goes by.
#[expect(clippy::disallowed_methods, reason = "this module is the only reader of the environment")]
pub(super) fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

/// A variable that replicas get as well; `None` if it is not set, or is no text.
#[expect(clippy::disallowed_methods, reason = "this module is the only reader of the environment")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::args::Cli;

    fn read(variable: &str, value: Option<&str>) -> Reading {
        reading(variable.as_ref(), value.map(OsString::from))
    }

    #[test]
    fn a_variable_counts_unless_it_is_empty_or_the_address_of_a_service() {
        assert_eq!(read("LB_SPARES", Some("")), Reading::Empty);
        for (variable, value) in [
            ("LB_SPARES", None),
            ("LB_SPARES", Some(" ")),
            ("LB_BACKEND_PORT", Some("5000")),
            ("LB_BACKEND_PORT", Some("tcp:5000")),
            ("LB_BACKEND_PORT", Some("http://10.0.0.1:80")),
            // No platform sets it, so it was given on purpose.
            ("LB_LISTEN", Some("tcp://0.0.0.0:80")),
        ] {
            assert_eq!(read(variable, value), Reading::Counts, "{variable}={value:?}");
        }
        for value in ["tcp://172.17.0.2:5000", "udp://[fd00::1]:53", "sctp://10.0.0.1:9"] {
            let Reading::OfAService(ignored) = read("LB_BACKEND_PORT", Some(value)) else {
                panic!("{value} counts")
            };
            let warning = ignored.to_string();
            assert!(
                warning.starts_with(&format!("LB_BACKEND_PORT: ignored, because `{value}` is")),
                "{warning}"
            );
            assert!(warning.contains("a service called lb-backend; to set --backend-port"), "{warning}");
        }
    }

    #[test]
    fn the_parser_knows_each_flag_with_a_variable_by_its_name() {
        let command = Cli::command();
        let all = command.get_subcommands().chain([&command]).flat_map(Command::get_arguments);
        for flag in all.filter(|flag| flag.get_env().is_some()) {
            let id = flag.get_id().as_str().trim_start_matches("lb-").replace('_', "-");
            assert_eq!(flag.get_long(), Some(&*id));
        }
    }

    #[test]
    fn a_message_names_the_variable_of_a_flag_that_got_its_value_there() {
        let set = FromEnvironment(["health".to_owned(), "backend-port".to_owned()].into());
        for (message, expected) in [
            ("--health: no", "LB_HEALTH: no"),
            ("--health-interval: no", "--health-interval: no"),
            ("too much (--backend-port), or --health", "too much (LB_BACKEND_PORT), or LB_HEALTH"),
            (
                "--backend: it goes with --health x\n--health: `--health` is wrong",
                "--backend: it goes with LB_HEALTH x\nLB_HEALTH: `--health` is wrong",
            ),
            ("", ""),
        ] {
            assert_eq!(set.named_in(message), expected);
        }
    }
}
