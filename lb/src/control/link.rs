//! Links to the replicas that take connections over: made here, when a replica is well, and listened to until they end.
//!
//! It hands nothing over itself; that is the data plane's. A replica that does not listen where it was told to is proxied to,
//! and asked again with every probe it passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff::{Channel, Closed, Ended};
use tracing::{debug, info, warn};

use crate::replica::{Link, Replica};

/// How long to leave a replica alone that has ended a link without ever having said that a connection is closed: it may
/// not understand what it is sent, and each try may cost a client. Doubles every time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What a report holds for each connection, in bytes.
const NUMBER: usize = 8;

/// The links to one replica, one after the other.
#[derive(Debug, Default)]
pub(super) struct Links {
    current: Option<Arc<Link>>,
    pause: Duration,
    /// Not before this.
    next: Option<Instant>,
    /// Whether it is known that nobody listens.
    is_told: bool,
}

impl Links {
    /// Sees to it that there is a link to a replica that is well, if it takes connections over. It never waits.
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
        match Channel::connect(path) {
            Ok((channel, closed)) => {
                self.is_told = false;
                info!(%hostname, "connections are handed over");
                let link = Arc::new(Link::new(channel));
                replica.attach(Arc::clone(&link));
                tokio::spawn(listen(Arc::clone(replica), Arc::clone(&link), closed));
                self.current = Some(link);
            }
            Err(error) if std::mem::replace(&mut self.is_told, true) => {
                debug!(%hostname, "no hand-off: {error}");
            }
            Err(error) => info!(
                %hostname, path = %path.display(),
                "connections are proxied: the replica does not take them over there: {error}"
            ),
        }
    }

    /// A link has ended.
    fn end(&mut self, was_of_use: bool) {
        self.pause = if was_of_use { Duration::ZERO } else { (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE) };
        self.next = Some(Instant::now() + self.pause);
        self.current = None;
    }
}

/// Lets go of what the replica says is closed, until the link ends.
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
        Some(ended) => warn!(%hostname, "connections are no longer handed over: {ended}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_ends_links_is_left_alone_longer_and_longer_until_it_is_of_use() {
        let mut links = Links::default();
        let mut pause = |was_of_use| {
            links.end(was_of_use);
            links.pause.as_secs()
        };
        assert_eq!([false, false, false, true, false].map(&mut pause), [1, 2, 4, 0, 1]);
        assert_eq!([false; 10].map(&mut pause).last(), Some(&60));
    }
}
