//! What `lb config` prints: the settings as lines or as JSON, and the schema of the file. What comes from outside is fit to be shown.

use clap::parser::ValueSource;
use clap::{Args as _, Command};
use proto::printable::printable;

use super::file::{self, Key, Keys};
use super::origins::{Origins, Setting, Shown};
use super::{Config, Problems, Serve};

impl Serve {
    /// The table of keys, which are these flags.
    pub(super) fn keys() -> Keys {
        Keys::of(&Serve::augment_args(Command::new("serve")))
    }

    /// Where values come from, to name it in messages.
    #[must_use]
    pub fn origins(&self) -> Origins {
        Origins { environment: self.from_environment.clone(), file: self.file.clone() }
    }

    /// Whether a flag was given, by a variable or the file as well.
    pub(super) fn is_given(&self, flag: &str) -> bool {
        !self.texts.is_default(flag) || self.file.texts(flag).is_some()
    }

    /// What holds, a setting for each key, in the order of `--help`.
    ///
    /// # Errors
    /// All problems at once, as of [`Config::check`].
    pub fn settings(self) -> Result<Vec<Setting>, Problems> {
        let settings = Serve::keys().0.iter().map(|key| self.setting(key)).collect();
        Config::check(self).map(|_| settings)
    }

    pub(super) fn setting(&self, key: &Key) -> Setting {
        let (source, texts) = self.texts.of(&key.id);
        let from = match source {
            Some(ValueSource::CommandLine) => "flag".to_owned(),
            Some(ValueSource::EnvVariable) => format!("variable {}", key.variable),
            _ => self.file.line_of(&key.name).unwrap_or_else(|| "default".to_owned()),
        };
        let value = match key {
            key if key.is_secret => Shown::Secret { secret: !texts.is_empty() },
            key if key.is_repeatable => Shown::Several(texts.to_vec()),
            // A flag without a value is a text that the argument parser makes up.
            _ => Shown::One(texts.first().cloned()),
        };
        Setting { key: key.name.clone(), value, from }
    }
}

/// A line for each setting: key, value, where it comes from.
#[must_use]
pub fn lines(settings: &[Setting]) -> String {
    let rows: Vec<[String; 3]> = settings.iter().map(row).collect();
    let width = |at: usize| {
        rows.iter().map(|row| row[at].chars().count()).filter(|&width| width <= 40).max().unwrap_or(0)
    };
    let (keys, values) = (width(0), width(1));
    let line = |[key, value, from]: &[String; 3]| format!("{key:keys$}  {value:values$}  {from}");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(setting: &Setting) -> [String; 3] {
    let value = match &setting.value {
        Shown::One(None) | Shown::Secret { secret: false } => "-".to_owned(),
        Shown::Secret { secret: true } => "(not shown)".to_owned(),
        Shown::One(Some(text)) => text.clone(),
        Shown::Several(texts) if texts.is_empty() => "-".to_owned(),
        Shown::Several(texts) => texts.join(" "),
    };
    [&setting.key, &value, &setting.from].map(|text| printable(text))
}

/// The settings as a JSON list.
///
/// # Errors
/// None that can be expected: it is text.
pub fn json(settings: &[Setting]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(settings)?)
}

/// The JSON schema of the configuration file, with the line feed at its end.
#[must_use]
pub fn schema() -> String {
    file::schema(&Serve::keys())
}
