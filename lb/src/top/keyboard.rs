//! The keys of the terminal, read by a thread of its own.
//!
//! It must not be the thread that ends the view: crossterm reads again and again, without an end, from a terminal that has gone, and waits for
//! the rest of a sequence that has only begun.

use std::io;
use std::thread::Builder;

use anyhow::Context as _;
use crossterm::event::{self, Event};
use tokio::sync::mpsc;

/// The most keys that wait for the view.
const WAITING: usize = 64;

/// Reads keys until there is no reader for them, or the terminal fails, which is the last thing that is told.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn read() -> anyhow::Result<mpsc::Receiver<io::Result<Event>>> {
    let (teller, keys) = mpsc::channel(WAITING);
    let reading = move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if teller.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    };
    Builder::new().name("keys".to_owned()).spawn(reading).context("no thread for the keys")?;
    Ok(keys)
}
