//! The commands by subject, as `lb --help` lists them. It changes what is shown, and nothing that is parsed.

use std::fmt::Write as _;

use clap::Command;

/// The subjects, each with its commands.
const SUBJECTS: [(&str, &[&str]); 5] = [
    ("Run", &["serve", "check", "config", "reload", "upgrade"]),
    ("Look", &["rep", "backends", "top", "health", "explain", "incidents", "events"]),
    ("Change the fleet", &["add", "rm", "kill", "plan", "mapping"]),
    ("Work without a running lb", &["replay", "simulate", "fleet"]),
    ("Help", &["help", "completions", "man", "version"]),
];

/// The command with its subcommands by subject in its help. The parser knows only one list of them, so it is told to hide that.
pub(super) fn grouped(command: Command) -> Command {
    let mut list = String::new();
    for (subject, names) in SUBJECTS {
        // To write to a string cannot fail.
        let _ = write!(list, "{}\n\n", section(&command, subject, names));
    }
    let styles = command.get_styles().clone();
    let (usage, end) = (styles.get_usage().render(), styles.get_usage().render_reset());
    command
        .mut_subcommands(|command| command.hide(true))
        .override_usage("lb [OPTIONS]\n       lb <COMMAND>")
        .help_template(format!(
            "{{before-help}}{{about-with-newline}}\n{usage}Usage:{end} {{usage}}\n\n{list}{{all-args}}{{after-help}}\n"
        ))
}

/// These subcommands under a title, as the parser lists them.
fn section(command: &Command, title: &str, names: &[&str]) -> String {
    let listed = names.iter().filter_map(|name| command.find_subcommand(name)).cloned();
    let styles = command.get_styles().clone();
    let (header, end) = (styles.get_header().render(), styles.get_header().render_reset());
    let mut alone = Command::new("lb")
        .styles(styles)
        .disable_help_subcommand(true)
        .max_term_width(super::args::WIDTH)
        .subcommands(listed.enumerate().map(|(at, command)| command.display_order(at)))
        .help_template("{subcommands}");
    format!("{header}{title}:{end}\n{}", alone.render_help().ansi().to_string().trim_end())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::args::Cli;

    #[test]
    fn every_command_has_one_subject() {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        let mut shown: Vec<&str> = shown.map(Command::get_name).collect();
        let mut listed: Vec<&str> = SUBJECTS.into_iter().flat_map(|(_, names)| names).copied().collect();
        shown.sort_unstable();
        listed.sort_unstable();
        assert_eq!(shown, listed);
    }

    #[test]
    fn help_has_each_command_once_under_its_subject() {
        let text = grouped(Cli::command()).render_help().to_string();
        let at = |line: &str| {
            let mut found = text.match_indices(line).map(|(at, _)| at);
            let at = found.next().unwrap_or_else(|| panic!("{line:?}: {text}"));
            assert_eq!(found.next(), None, "{line:?}: {text}");
            at
        };
        let mut last = at("Usage: lb [OPTIONS]\n       lb <COMMAND>\n");
        for (subject, names) in SUBJECTS {
            let places = [at(&format!("\n{subject}:\n"))].into_iter();
            for place in places.chain(names.iter().map(|name| at(&format!("\n  {name} ")))) {
                assert!(last < place, "{subject}: {text}");
                last = place;
            }
        }
        assert!(last < at("\nOptions:\n"), "{text}");
        assert!(!text.contains("Commands:"), "{text}");
    }
}
