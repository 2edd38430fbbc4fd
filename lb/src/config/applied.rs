//! A configuration as it was given, to be compared with what the file says later.

use std::path::{Path, PathBuf};
use std::time::Instant;

use proto::control::FixedBackend;

use super::source::{Source, slots};
use super::{Config, Problems, Serve, classes};

/// A configuration that is right, with the texts that it was made from.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The configuration.
    pub config: Config,
    /// When it was begun to read the files that it names.
    pub read: Instant,
    file: Option<PathBuf>,
    pub(super) texts: Vec<Kept>,
}

/// What was given for a key.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) key: String,
    pub(super) texts: Vec<String>,
    /// Where they come from, as `lb config` shows it.
    pub(super) from: String,
    pub(super) is_secret: bool,
    pub(super) is_repeatable: bool,
    pub(super) is_switch: bool,
}

/// A setting that has another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The flag without dashes in front.
    pub key: String,
    /// The value before, as it may be shown.
    pub from: Option<String>,
    /// The value now, as it may be shown.
    pub to: Option<String>,
}

impl Difference {
    /// Whether a reload changes it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        classes::is_live(&self.key)
    }
}

impl Applied {
    /// Checks what was given.
    ///
    /// # Errors
    /// All problems at once, as of [`Config::check`].
    pub fn check(serve: Serve) -> Result<Self, Problems> {
        let (read, keys) = (Instant::now(), Serve::keys());
        let kept = keys.0.iter().map(|key| {
            let (texts, from) = (serve.texts.of(&key.id).1.to_vec(), serve.setting(key).from);
            Kept {
                key: key.name.clone(),
                texts,
                from,
                is_secret: key.is_secret,
                is_repeatable: key.is_repeatable,
                is_switch: key.is_switch(),
            }
        });
        let (texts, file) = (kept.collect(), serve.config.clone());
        Ok(Applied { config: Config::check(serve)?, read, file, texts })
    }

    /// Reads the command line, the environment and the file again, and checks them. It may wait for a disk.
    ///
    /// # Errors
    /// As for [`Applied::check`].
    pub fn again() -> Result<Self, Problems> {
        Applied::check(Serve::read_again()?)
    }

    /// The file that a reload is about: the one of `--config`, or else the one of `--backends-file`.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref().or(self.config.backends_file.as_deref())
    }

    /// Whether flags can have other values later: they stand in a file.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.file.is_some()
    }

    /// The same with the backends that their file names now.
    #[must_use]
    pub fn with_backends(&self, backends: Vec<FixedBackend>) -> Self {
        let mut next = self.clone();
        next.config.slots = slots(&backends);
        next.config.source = Source::Fixed(backends);
        next
    }

    /// Whether a flag, a variable or the file gives a key.
    #[must_use]
    pub fn gives(&self, key: &str) -> bool {
        self.texts.iter().any(|kept| kept.key == key && kept.from != "default")
    }

    /// What has another value in the next configuration, in the order of `--help`.
    #[must_use]
    pub fn differences(&self, next: &Self) -> Vec<Difference> {
        let pairs = self.texts.iter().zip(&next.texts);
        let given = pairs.filter(|(before, now)| before.texts != now.texts);
        let mut differences: Vec<Difference> = given.map(|(before, now)| difference(before, now)).collect();
        // A file that is named may have another content.
        let (before, now) = (&self.config, &next.config);
        let tokens = before.control_token != now.control_token;
        let seeds = before.mapping.scheme.seed != now.mapping.scheme.seed;
        let backends = now.backends_file.is_some() && before.source != now.source;
        for (key, other, differs) in [
            ("control-token-file", "control-token", tokens),
            ("hash-seed-file", "hash-seed", seeds),
            ("backends-file", "backend", backends),
        ] {
            if differs && differences.iter().all(|one| one.key != key && one.key != other) {
                let shown = |what: &str| Some(format!("({what} content)"));
                differences.push(Difference { key: key.to_owned(), from: shown("old"), to: shown("new") });
            }
        }
        differences
    }
}

fn difference(before: &Kept, now: &Kept) -> Difference {
    Difference { key: now.key.clone(), from: shown(before), to: shown(now) }
}

fn shown(Kept { texts, is_secret, .. }: &Kept) -> Option<String> {
    match texts.as_slice() {
        [] => None,
        _ if *is_secret => Some("(not shown)".to_owned()),
        texts => Some(texts.join(" ")),
    }
}
