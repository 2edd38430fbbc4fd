//! Where the values of `lb serve`'s flags come from: a flag goes before its variable, that before the file, and that before the default.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use serde::Serialize;

use super::environment::FromEnvironment;
use super::file::FromFile;

/// Where values come from, to name it in messages.
#[derive(Clone, Debug)]
pub struct Origins {
    pub(super) environment: FromEnvironment,
    pub(super) file: FromFile,
}

impl Origins {
    /// A message with the variable, or the key and its place in the file, in place of each flag that got its value there.
    #[must_use]
    pub fn named_in(&self, message: &str) -> String {
        self.environment.named_in(&self.file.named_in(message))
    }

    /// Problems with flags, and those of the file.
    pub(super) fn told(&self, problems: &[String]) -> Vec<String> {
        let named = self.file.told(problems.to_vec());
        named.iter().map(|problem| self.environment.named_in(problem)).collect()
    }
}

/// The texts of all flags, as they were given. It stands among the flags of a command as if it were one, before all others.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts(Vec<(String, Option<ValueSource>, Vec<String>)>);

impl Texts {
    /// The texts of a flag, and whether they come from the command line, from the environment or from a default.
    pub(super) fn of(&self, id: &str) -> (Option<ValueSource>, &[String]) {
        let found = self.0.iter().find(|(known, ..)| known == id);
        found.map_or((None, &[]), |(_, source, texts)| (*source, texts))
    }

    /// Whether a flag was given by no flag and no variable.
    pub(super) fn is_default(&self, id: &str) -> bool {
        matches!(self.of(id).0, None | Some(ValueSource::DefaultValue))
    }
}

impl Args for Texts {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for Texts {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let ids = matches.ids().map(clap::Id::as_str);
        let read = |id: &str| {
            let texts = matches.try_get_raw(id).ok()??;
            let texts = texts.map(|text| text.to_string_lossy().into_owned()).collect();
            Some((id.to_owned(), matches.value_source(id), texts))
        };
        Ok(Texts(ids.filter_map(read).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What holds for a key, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The flag without dashes in front.
    pub key: String,
    /// Its texts; none: it is not set, and has no fixed default. A secret is not shown.
    pub value: Shown,
    /// `flag`, `variable LB_X`, `FILE:LINE` or `default`.
    pub from: String,
}

/// A value as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// Of a flag that is given once.
    One(Option<String>),
    /// Of a repeatable flag.
    Several(Vec<String>),
    /// Of a flag whose value is never shown.
    Secret {
        /// Whether there is a value.
        secret: bool,
    },
}
