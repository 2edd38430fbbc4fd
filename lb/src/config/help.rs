//! What `lb help` and `lb man` show: commands as `--help` does, topics, manual pages.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::CommandFactory as _;

use super::args::Cli;
use super::subjects;

/// The topics, by name.
const TOPICS: [(&str, &str); 5] = [
    ("control", include_str!("topics/control.txt")),
    ("healing", include_str!("topics/healing.txt")),
    ("keys", include_str!("topics/keys.txt")),
    ("mappings", include_str!("topics/mappings.txt")),
    ("providers", include_str!("topics/providers.txt")),
];

/// The help about a command (`["mapping", "set"]`) or a topic; without a word, about everything.
///
/// # Errors
/// There is no such command or topic.
pub fn help(words: &[String]) -> anyhow::Result<String> {
    if let [word] = words
        && let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == word)
    {
        return Ok(text.trim_end().to_owned());
    }
    if words.is_empty() {
        return Ok(subjects::grouped(Cli::command())
            .render_long_help()
            .ansi()
            .to_string()
            .trim_end()
            .to_owned());
    }
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for word in words {
        let known = found.find_subcommand(word).is_some_and(|command| !command.is_hide_set());
        let Some(next) = found.find_subcommand_mut(word).filter(|_| known) else {
            let topics = TOPICS.map(|(name, _)| name).join(", ");
            bail!(
                "there is no command or topic `{}`: expected a command (lb --help) or one of {topics}",
                words.join(" ")
            );
        };
        found = next;
    }
    Ok(found.render_long_help().ansi().to_string().trim_end().to_owned())
}

/// Writes the manual pages of all commands into a folder.
///
/// # Errors
/// The folder is not there, or cannot be written to.
pub fn write_manual(folder: &Path) -> anyhow::Result<()> {
    let command = Cli::command();
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("the manual pages cannot be written to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags that a text names.
    fn flags(text: &str) -> Vec<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words
            .filter_map(|word| word.strip_prefix("--"))
            .filter(|flag| !flag.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn topics_name_flags_and_commands_that_exist() {
        let mut command = Cli::command();
        command.build();
        let mut known: Vec<String> = Vec::new();
        let mut all = vec![&command];
        while let Some(command) = all.pop() {
            known.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
            all.extend(command.get_subcommands());
        }
        for (name, text) in TOPICS {
            let missing: Vec<String> = flags(text).into_iter().filter(|flag| !known.contains(flag)).collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{name} is too wide");
            for line in text.lines().filter_map(|line| line.strip_prefix("  lb ")) {
                // `lb` alone is followed by what it does.
                let word = line.split(' ').next().filter(|word| !word.is_empty()).unwrap_or("serve");
                assert!(
                    word.starts_with('-') || command.find_subcommand(word).is_some(),
                    "{name}: lb {word}"
                );
            }
        }
    }

    #[test]
    fn help_finds_commands_and_topics() {
        let said = |words: &[&str]| help(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert!(said(&["mappings"]).unwrap().contains("rendezvous"));
        assert!(said(&["mapping", "set"]).unwrap().contains("--balance-factor"));
        assert!(said(&[]).unwrap().contains("Topics: "));
        for wrong in [&["fly"][..], &["rep", "x"], &["guard"], &["mappings", "set"]] {
            let error = said(wrong).unwrap_err().to_string();
            assert!(error.contains("expected a command (lb --help) or one of control, healing"), "{error}");
        }
    }
}
