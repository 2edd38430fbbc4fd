//! An answer that is asked for again and again: each second, and whenever something happens.
//!
//! A terminal shows the last answer. Anything else gets each answer that differs from the one before, with an empty line between two.

use std::io::{ErrorKind, Read as _, Write as _};
use std::thread::park_timeout;
use std::time::Duration;

use proto::control::{Command, Since};
use proto::printable::printable;

use super::{Request, Stream, connect_to, line, run, terminal};

/// How often to ask when nothing happens.
const INTERVAL: Duration = Duration::from_secs(1);
/// The cursor goes to the upper left corner, and what is below it is erased (ECMA-48: CUP, ED).
const FRESH_SCREEN: &str = "\u{1b}[H\u{1b}[J";

/// Shows the answer to a command until `print` says that there is no reader for more. An `lb` that goes away is waited for.
///
/// # Errors
/// The first question fails, or there is an answer that cannot be printed.
pub(super) fn watch(
    request: &Request,
    mut print: impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let (mut answer, mut last, mut bell) = (run(request)?, None, Bell::default());
    loop {
        let is_new = last.as_ref() != Some(&answer);
        let shown = match (terminal::is_there(), &last) {
            (true, _) => format!("{FRESH_SCREEN}{answer}"),
            (false, Some(_)) if !request.json => format!("\n{answer}"),
            (false, _) => answer.clone(),
        };
        if is_new && !print(&shown)? {
            return Ok(());
        }
        last = Some(answer);
        bell.wait(request);
        answer = run(request).unwrap_or_else(|error| printable(&format!("{error:#}")));
    }
}

/// Rings when something happens, as the journal tells.
#[derive(Default)]
pub(crate) struct Bell(Option<Stream>);

impl Bell {
    /// Waits until something happens, for [`INTERVAL`] at most.
    pub(crate) fn wait(&mut self, request: &Request) {
        if self.0.is_none() {
            self.0 = follow(request);
        }
        let Some(stream) = &mut self.0 else { return park_timeout(INTERVAL) };
        match stream.read(&mut [0; 64 << 10]) {
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Ok(read) if read > 0 => {}
            // The next question says what is wrong.
            Ok(_) | Err(_) => {
                self.0 = None;
                park_timeout(INTERVAL);
            }
        }
    }
}

/// What happens from now on, if `lb` tells.
fn follow(request: &Request) -> Option<Stream> {
    let command = Command::Events { since: Some(Since::Ago(Duration::ZERO)), follow: true };
    let request = Request { command, ..request.clone() };
    let mut stream = connect_to(&request).ok()?;
    stream.set_read_timeout(Some(INTERVAL)).ok()?;
    stream.write_all(line(&request).as_bytes()).ok()?;
    Some(stream)
}
