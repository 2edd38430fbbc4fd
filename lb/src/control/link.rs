//! Links to the hand-off endpoints of replicas. A link is made when a replica passes a probe, and read until it ends.
//!
//! A link is made only to a process of a user who may have clients: the user of `lb`, root, or the owner of the folder.
//!
//! This module hands no connection over: the data plane does. Connections to a replica that does not listen at its endpoint are
//! proxied, and each passed probe tries the endpoint again.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff::{Channel, Closed, Ended};
use rustix::process::geteuid;
use tracing::{debug, info, warn};

use crate::replica::{Link, Replica};

/// The pause after a replica has ended a link without a single report of a closed connection. It may not understand the
/// protocol, and each attempt may cost a client its connection. The pause doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The bytes per connection in a report.
const NUMBER: usize = 8;

/// The links to one replica, at most one at a time.
#[derive(Debug, Default)]
pub(super) struct Links {
    current: Option<Arc<Link>>,
    pause: Duration,
    /// When the next link may be made.
    next: Option<Instant>,
    /// Whether the log already says that the replica does not listen.
    is_logged: bool,
}

impl Links {
    /// Makes a link to a healthy replica that has a hand-off endpoint, unless it has a link. It never waits.
    pub(super) fn ensure(&mut self, replica: &Arc<Replica>) {
        let Some(path) = replica.handoff_path() else { return };
        match &self.current {
            Some(link) if !link.is_over() => return,
            Some(link) => {
                let was_of_use = link.has_reported();
                self.end(was_of_use);
            }
            None => {}
        }
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let hostname = &replica.hostname;
        match connect(path) {
            Ok((channel, closed)) => {
                self.is_logged = false;
                info!(%hostname, "connections are handed over");
                let link = Arc::new(Link::new(channel));
                replica.attach(Arc::clone(&link));
                tokio::spawn(listen(Arc::clone(replica), Arc::clone(&link), closed));
                self.current = Some(link);
            }
            Err(error) if std::mem::replace(&mut self.is_logged, true) => {
                debug!(%hostname, %error, "no hand-off");
            }
            Err(error) => info!(
                %hostname, path = %path.display(), %error,
                "connections are proxied: the replica does not take them over there"
            ),
        }
    }

    /// Records the end of a link, and when the next one may be made.
    fn end(&mut self, was_of_use: bool) {
        self.pause = if was_of_use { Duration::ZERO } else { (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE) };
        self.next = Some(Instant::now() + self.pause);
        self.current = None;
    }
}

/// Connects to a door. The connection ends at once if another user listens there than may have clients.
fn connect(path: &Path) -> io::Result<(Channel, Closed)> {
    let (channel, closed) = Channel::connect(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let (peer, owner) = (channel.peer()?, std::fs::metadata(folder)?.uid());
    if may_have_clients(peer, geteuid().as_raw(), owner) {
        return Ok((channel, closed));
    }
    let reason =
        format!("user {peer} listens, who is neither root, nor the user of lb, nor the owner of the folder");
    Err(io::Error::new(ErrorKind::PermissionDenied, reason))
}

/// Whether a process of this user may have the clients of an `lb` that runs as `own`, with doors in a folder of `owner`.
fn may_have_clients(peer: u32, own: u32, owner: u32) -> bool {
    const ROOT: u32 = 0;
    [ROOT, own, owner].contains(&peer)
}

/// Reads reports of closed connections until the link ends.
async fn listen(replica: Arc<Replica>, link: Arc<Link>, mut closed: Closed) {
    let ended = loop {
        tokio::select! {
            report = closed.next() => match report {
                Ok(numbers) => {
                    replica.heard(numbers.len() * NUMBER);
                    link.closed(&numbers);
                }
                Err(ended) => break Some(ended),
            },
            () = link.over() => break None,
        }
    };
    replica.detach(&link);
    let hostname = &replica.hostname;
    match ended {
        Some(Ended::Gone) | None => info!(%hostname, "connections are no longer handed over"),
        Some(ended) => warn!(%hostname, error = %ended, "connections are no longer handed over"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_owner_of_the_folder_may_have_clients() {
        assert!([0, 1000, 1001].iter().all(|&peer| may_have_clients(peer, 1000, 1001)));
        assert!(!may_have_clients(1002, 1000, 1001) && !may_have_clients(1001, 1000, 1000));
        assert!(!may_have_clients(65_534, 0, 0));
    }

    #[test]
    fn the_pause_doubles_until_a_link_was_of_use() {
        let mut links = Links::default();
        let mut pause = |was_of_use| {
            links.end(was_of_use);
            links.pause.as_secs()
        };
        assert_eq!([false, false, false, true, false].map(&mut pause), [1, 2, 4, 0, 1]);
        assert_eq!([false; 10].map(&mut pause).last(), Some(&60));
    }
}
