//! What a shell offers for an argument that the running `lb` knows: the names of its slots and replicas.
//!
//! It asks the control port that is typed in the command line, or that of the environment. Where none answers soon, nothing is offered.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use proto::control::Command;

use super::asking::Client;
use super::{environment, secret};
use crate::client::{Request, known};

/// How long each step of an answer may take: a shell waits.
const PATIENCE: Duration = Duration::from_millis(300);
/// The flags that say where to ask.
const FLAGS: [&str; 3] = ["--control", "--control-token", "--control-token-file"];

/// Offers the names of slots and replicas for an argument.
pub(super) fn complete(arg: Arg) -> Arg {
    arg.add(ArgValueCandidates::new(replicas))
}

/// The names of slots and replicas.
pub(super) fn replicas() -> Vec<CompletionCandidate> {
    let names = request(std::env::args_os()).map(|request| known(&request)).unwrap_or_default();
    let candidate = |(name, what): (String, String)| CompletionCandidate::new(name).help(Some(what.into()));
    names.into_iter().map(candidate).collect()
}

/// The flags of a command line that say where to ask.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Asking {
    #[command(flatten)]
    client: Client,
}

fn request(typed: impl Iterator<Item = OsString>) -> Option<Request> {
    let (command, _) = environment::sift(Asking::command());
    let matches = command.try_get_matches_from(flags(typed)).ok()?;
    let Client { control, control_token, control_token_file, json, .. } =
        Asking::from_arg_matches(&matches).ok()?.client;
    let token = secret::token(control_token, control_token_file.as_deref()).ok()?;
    Some(Request { command: Command::Backends {}, control, token, json, watch: false, patience: PATIENCE })
}

/// Those words of a command line that are one of [`FLAGS`], with their values.
fn flags(mut typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = Vec::new();
    while let Some(word) = typed.next() {
        let text = word.to_string_lossy();
        if FLAGS.iter().any(|flag| text == *flag) {
            flags.push(word);
            flags.extend(typed.next());
        } else if FLAGS.iter().any(|flag| text.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))) {
            flags.push(word);
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flags_that_say_where_to_ask_are_read() {
        let typed = [
            "lb",
            "--",
            "lb",
            "rm",
            "--drain",
            "5s",
            "--control",
            "a:1",
            "x",
            "--control-token=t",
            "--controls",
        ];
        let found = flags(typed.into_iter().map(OsString::from));
        assert_eq!(found, ["--control", "a:1", "--control-token=t"]);
        assert_eq!(flags(["--control"].into_iter().map(OsString::from)), ["--control"]);
        let request = |typed: &[&str]| request(typed.iter().map(OsString::from));
        assert_eq!(
            request(&["--control=[::1]:7", "--control-token", "t"]).unwrap().token.as_deref(),
            Some("t")
        );
        assert!(request(&["--control", "nowhere"]).is_none() && request(&["--control"]).is_none());
    }
}
