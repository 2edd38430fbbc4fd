//! How the end of a container is noticed: by what the engine tells, by its lists, and by its process.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, timeout};

use super::container::{self, Listed};
use super::main_process::MainProcess;
use super::site::{Notice, Site};

/// How long is waited for the engine to report how a container ended, once its process has ended.
const VERDICT: Duration = Duration::from_secs(1);

/// A running container, as far as its end is concerned.
pub(super) struct Running {
    pub(super) id: String,
    pub(super) address: SocketAddr,
    /// Lists that were requested earlier say nothing about it.
    pub(super) since: Instant,
    /// `None` if its main process is not a process of this machine.
    pub(super) process: Option<MainProcess>,
}

/// The first sign of the end of a container.
pub(super) enum Sign {
    /// The engine has reported it, and how it came.
    Told(String),
    /// The kernel has reported the end of its process, much sooner than the engine.
    Process,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sign::Told(end) => end,
            Sign::Process => "has ended",
        })
    }
}

/// Waits for the end of a container.
pub(super) struct Watch {
    notices: broadcast::Receiver<Notice>,
    /// Whether it ran out of memory.
    is_out_of_memory: bool,
}

impl Watch {
    /// Begins before the container runs, or its end could be missed.
    pub(super) fn of(site: &Site) -> Self {
        Watch { notices: site.notices.subscribe(), is_out_of_memory: false }
    }

    /// Waits for the first sign of its end.
    pub(super) async fn sign(&mut self, running: &Running) -> Sign {
        tokio::select! {
            end = self.death(running) => Sign::Told(end),
            () = ended(running.process.as_ref()) => Sign::Process,
        }
    }

    /// How it ended, if the engine reports that soon.
    pub(super) async fn verdict(&mut self, running: &Running, sign: Sign) -> String {
        match sign {
            Sign::Told(end) => end,
            Sign::Process => timeout(VERDICT, self.death(running))
                .await
                .unwrap_or_else(|_| "has ended; the engine has not reported how".to_owned()),
        }
    }

    /// Waits until the engine reports its end; returns how it ended.
    async fn death(&mut self, running: &Running) -> String {
        loop {
            match self.notices.recv().await {
                Ok(notice) => {
                    if let Some(end) = running.end_by(&notice, &mut self.is_out_of_memory) {
                        return end;
                    }
                }
                // The next list shows what was missed.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    }
}

impl Running {
    /// How it has ended, if that shows in a notice. Notes in `is_out_of_memory` if it ran out of memory before.
    fn end_by(&self, notice: &Notice, is_out_of_memory: &mut bool) -> Option<String> {
        match notice {
            Notice::OutOfMemory(id) if **id == *self.id => *is_out_of_memory = true,
            Notice::Died(id, exit_code) if **id == *self.id => {
                return Some(container::ended(*exit_code, *is_out_of_memory));
            }
            Notice::Seen(asked, all) if *asked > self.since => {
                return self.end_in(all).map(str::to_owned);
            }
            _ => {}
        }
        None
    }

    /// How it has ended, if that shows in a list of all containers.
    fn end_in(&self, all: &HashMap<String, Listed>) -> Option<&'static str> {
        match all.get(&self.id) {
            None => Some("was removed from outside"),
            Some(listed) if !listed.is_alive() => Some("has ended"),
            // It was restarted from outside, and another container may have its old address.
            Some(listed) if listed.address != Some(self.address.ip()) => Some("has another address"),
            Some(_) => None,
        }
    }
}

async fn ended(process: Option<&MainProcess>) {
    match process {
        Some(process) => process.ended().await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::container::tests::listed;
    use std::sync::Arc;

    use super::*;

    const ID: &str = "0123456789ab";

    fn running() -> Running {
        Running {
            id: ID.to_owned(),
            address: ([10, 0, 0, 2], 80).into(),
            since: Instant::now(),
            process: None,
        }
    }

    /// What a notice says about the container, if it has not run out of memory before.
    fn end_by(running: &Running, notice: &Notice) -> Option<String> {
        running.end_by(notice, &mut false)
    }

    #[test]
    fn news_about_other_containers_is_no_end() {
        let running = running();
        assert_eq!(end_by(&running, &Notice::Died("ba9876543210".into(), Some(1))), None);
        let mut is_out_of_memory = false;
        running.end_by(&Notice::OutOfMemory("ba9876543210".into()), &mut is_out_of_memory);
        assert!(!is_out_of_memory);
    }

    #[test]
    fn memory_that_ran_out_is_named_when_the_container_dies() {
        let (running, mut is_out_of_memory) = (running(), false);
        assert_eq!(running.end_by(&Notice::OutOfMemory(ID.into()), &mut is_out_of_memory), None);
        let end = running.end_by(&Notice::Died(ID.into(), Some(137)), &mut is_out_of_memory);
        assert_eq!(end.unwrap(), "ended with exit code 137 (it ran out of memory)");
        assert_eq!(end_by(&running, &Notice::Died(ID.into(), None)).unwrap(), "ended with exit code unknown");
    }

    #[test]
    fn a_list_shows_that_it_is_gone_has_ended_or_moved() {
        let running = running();
        let seen = |asked, entries: &[(&str, &str)]| {
            let all = entries.iter().map(|&(state, address)| (ID.to_owned(), listed(ID, state, address)));
            end_by(&running, &Notice::Seen(asked, Arc::new(all.collect())))
        };
        let later = running.since + Duration::from_millis(1);
        assert_eq!(seen(later, &[("running", "10.0.0.2")]), None);
        assert_eq!(seen(later, &[("paused", "10.0.0.2")]), None);
        assert_eq!(seen(later, &[]).unwrap(), "was removed from outside");
        assert_eq!(seen(later, &[("exited", "10.0.0.2")]).unwrap(), "has ended");
        assert_eq!(seen(later, &[("running", "10.0.0.3")]).unwrap(), "has another address");
        assert_eq!(seen(running.since, &[]), None, "a list that was requested earlier says nothing");
    }
}
