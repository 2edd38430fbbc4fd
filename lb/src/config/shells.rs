//! Completions of shells: the script that turns them on, and the answers to its questions.
//!
//! The script asks `lb` itself on each Tab (clap_complete, "unstable-dynamic"; its version is pinned): so it never knows other flags than
//! the program does.

use std::env::{args_os, current_dir};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::env::{Bash, EnvCompleter, Fish, Shells, Zsh};

use super::args::{Cli, Shell};

/// The variable in which the script says which shell asks.
const VARIABLE: &str = "LB_COMPLETE";
const SHELLS: Shells<'static> = Shells(&[&Bash, &Zsh, &Fish]);

/// Answers the question of a completion script, if this is one.
///
/// # Errors
/// The shell is another one, or the answer cannot be written.
pub fn complete() -> anyhow::Result<bool> {
    let asked = CompleteEnv::with_factory(Cli::command).var(VARIABLE).shells(SHELLS);
    asked.try_complete(args_os(), current_dir().ok().as_deref()).context("no completions")
}

impl Shell {
    /// The script that turns completions on.
    ///
    /// # Errors
    /// The path of this program is not known.
    pub fn script(self) -> anyhow::Result<String> {
        let shell: &dyn EnvCompleter = match self {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        // What was found in PATH will be found there again.
        let called = args_os().next().unwrap_or_default().to_string_lossy().into_owned();
        let program = match called.contains('/') {
            true => {
                std::env::current_exe().context("the path of lb is not known")?.to_string_lossy().into_owned()
            }
            false => called,
        };
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "lb", "lb", &program, &mut script)?;
        Ok(String::from_utf8_lossy(&script).trim().to_owned())
    }
}
