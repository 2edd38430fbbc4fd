//! The terminal: taken for the view, and given back as it was, whatever happens.
//!
//! What is to be given back is held outside of the view, so that a panic gives it back before its message is printed. Only SIGKILL
//! leaves a terminal as it is.

use std::fs::File;
use std::io::{self, IsTerminal as _, Stdout, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use crossterm::cursor::{Hide, Show};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::queue;
use crossterm::style::{Attribute, SetAttribute};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// What is given back, while the terminal is taken.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// Whether a thread has panicked: its message is on the terminal, and nothing may be drawn over it.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// A terminal that is taken.
#[derive(Debug)]
struct Held {
    input: OwnedFd,
    output: File,
    /// How it was.
    modes: Termios,
}

impl Held {
    /// Takes a terminal: no echo, no lines, no signals from keys; another screen.
    fn take(input: impl AsFd, output: impl AsFd) -> io::Result<Self> {
        let (input, output) = (input.as_fd().try_clone_to_owned()?, output.as_fd().try_clone_to_owned()?);
        let modes = tcgetattr(&input)?;
        let held = Held { input, output: output.into(), modes };
        held.enter().inspect_err(|_| held.give_back())?;
        Ok(held)
    }

    fn enter(&self) -> io::Result<()> {
        let mut raw = self.modes.clone();
        raw.make_raw();
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        let mut commands = Vec::new();
        queue!(commands, EnterAlternateScreen, EnableBracketedPaste, Hide, Clear(ClearType::All))?;
        (&self.output).write_all(&commands)
    }

    fn give_back(&self) {
        let mut commands = Vec::new();
        // Into memory, so it cannot fail. A terminal that has gone needs neither.
        let _ = queue!(
            commands,
            SetAttribute(Attribute::Reset),
            DisableBracketedPaste,
            LeaveAlternateScreen,
            Show
        );
        let _ = (&self.output).write_all(&commands);
        let _ = tcsetattr(&self.input, OptionalActions::Now, &self.modes);
    }
}

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back, if it is taken.
pub(super) fn give_back() {
    if let Some(held) = held().take() {
        held.give_back();
    }
}

/// Gives the terminal back when it is dropped.
pub(super) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

/// Has every panic from now on give the terminal back first, so that its message can be read.
pub(super) fn heed_panics() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        HAS_FAILED.store(true, Relaxed);
        give_back();
        next(panic);
    }));
}

/// Whether keys can be read and a view be shown here.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The view on a terminal, which [`give_back`] gives back.
pub(super) struct Sight(Terminal<CrosstermBackend<Stdout>>);

impl Sight {
    /// Takes the terminal. If it is taken already, something else may have set it meanwhile, and it is set again.
    ///
    /// # Errors
    /// It cannot be set, or written to.
    pub(super) fn enter() -> anyhow::Result<Self> {
        // One that is new takes the screen for empty, which it is. (To clear an old one would ask the terminal for its cursor, and wait.)
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.context("the terminal has no size")?;
        let mut held = held();
        match &*held {
            // How it was is known.
            Some(held) => held.enter(),
            None => Held::take(io::stdin(), io::stdout()).map(|taken| *held = Some(taken)),
        }
        .context("the terminal cannot be set")?;
        Ok(Sight(terminal))
    }

    /// Draws the view, unless the terminal was given back.
    ///
    /// # Errors
    /// It cannot be written to, or a thread has panicked.
    pub(super) fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        ensure!(!HAS_FAILED.load(Relaxed), "lb top has failed; the message is above");
        if held().is_some() {
            self.0.draw(view).context("the terminal cannot be written to")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    /// A pseudoterminal: the end of the user, and that of the program.
    fn terminal() -> (File, OwnedFd) {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap();
        let program = open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        (user.into(), program)
    }

    fn is_raw(modes: &Termios) -> bool {
        !modes.local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Everything that the user's end has received so far.
    fn received(user: &File) -> String {
        let mut all = vec![0; 4096];
        let read = rustix::io::read(user, &mut *all).unwrap();
        all.truncate(read);
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_terminal_is_as_it_was_after_an_end_and_after_a_panic() {
        let (user, program) = terminal();
        let before = tcgetattr(&program).unwrap();
        assert!(!is_raw(&before));
        let end: [fn(); 2] = [|| {}, || panic!("it was to be")];
        for end in end {
            let take = || *held() = Some(Held::take(&program, &program).unwrap());
            take();
            assert!(is_raw(&tcgetattr(&program).unwrap()));
            assert_eq!(received(&user), "\u{1b}[?1049h\u{1b}[?2004h\u{1b}[?25l\u{1b}[2J");
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let _guard = Guard;
                end();
            }));
            drop(ended);
            let after = tcgetattr(&program).unwrap();
            assert_eq!(format!("{after:?}"), format!("{before:?}"));
            assert_eq!(received(&user), "\u{1b}[0m\u{1b}[?2004l\u{1b}[?1049l\u{1b}[?25h");
            assert!(held().is_none());
        }
    }

    #[test]
    fn a_file_is_not_taken_for_a_terminal() {
        let file = tempfile::tempfile().unwrap();
        assert!(Held::take(&file, &file).is_err());
        assert_eq!(file.metadata().unwrap().len(), 0, "nothing is written to it");
    }
}
