//! The order of the words of a command line: the client's flags may stand before its command, too (`lb --control ADDR rep`).
//!
//! The argument parser would take them for flags of `lb serve`, some of which have the same names.

use std::ffi::OsString;

use clap::{Args as _, Command, Subcommand as _};

use super::asking::Client;
use super::commands::ClientCommand;

/// The words with the client's flags behind its command, if it is a client's command and nothing else stands before it.
pub(super) fn flags_last(mut words: Vec<OsString>) -> Vec<OsString> {
    let command = 1 + leading_flags(&words);
    let is_clients = |word: &OsString| word.to_str().is_some_and(ClientCommand::has_subcommand);
    if words.get(command).is_some_and(is_clients) {
        words[1..=command].rotate_right(1);
    }
    words
}

/// How many words behind the program's name are flags of the client and their values.
fn leading_flags(words: &[OsString]) -> usize {
    let client = Client::augment_args(Command::new("lb"));
    let mut next = 1;
    while let Some(flag) = words.get(next).and_then(|word| word.to_str()?.strip_prefix("--")) {
        let (name, has_value) = flag.split_once('=').map_or((flag, false), |(name, _)| (name, true));
        let Some(argument) = client.get_arguments().find(|argument| argument.get_long() == Some(name)) else {
            break;
        };
        next += if argument.get_action().takes_values() && !has_value { 2 } else { 1 };
    }
    next - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(words: &str) -> String {
        let words = flags_last(words.split(' ').map(OsString::from).collect());
        words.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn flags_of_the_client_may_stand_before_its_command() {
        for (given, expected) in [
            ("lb --control X rep", "lb rep --control X"),
            ("lb --control=X rep", "lb rep --control=X"),
            (
                "lb --json --control-token T --control X mapping set maglev",
                "lb mapping --json --control-token T --control X set maglev",
            ),
            ("lb --control X rep --json", "lb rep --control X --json"),
        ] {
            assert_eq!(ordered(given), expected);
        }
    }

    #[test]
    fn other_command_lines_stay_as_they_are() {
        for words in [
            "lb",
            "lb rep --control X",
            "lb --control X",
            "lb --control rep",
            "lb --control X --replicas 2",
            "lb --replicas 2 rep",
            "lb --control X --replicas 2 rep",
            "lb --control X serve",
            "lb --control X nothing",
            "lb -- rep",
        ] {
            assert_eq!(ordered(words), words);
        }
    }
}
