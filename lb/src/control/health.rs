//! Health checks: probes each replica, and reports what the dampener believes.
//!
//! A probe asks the application, with a deadline, because the kernel completes handshakes for a program that hangs. A starting
//! replica is probed often, so that it joins soon. A replica that failed one probe is probed again at once, and so is one at which a session failed: that alone is no evidence,
//! because a client's garbage can make a healthy replica reset. A
//! local shortage (files, memory, ports) is not held against a replica.
//!
//! A passed probe also makes the link to a replica that takes connections over ([`Links`]).
//!
//! This module decides nothing. It tells the controller that probes pass, that they fail, and that a failing replica has been
//! silent for too long.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::link::Links;
use super::{Mailbox, Message};
use crate::fleet::{Event, ReplicaId};
use crate::net::{SECOND_THOUGHT, is_local, look_twice};
use crate::replica::Replica;

/// The shortest pause between two probes, so that "at once" never becomes a busy loop.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// The response header in which a replica may name itself: its hostname, which it gets as `SERVER_ID`. An address can pass to
/// another server, which may answer probes as well.
const SERVER_ID: &str = "lb-server-id";

/// How replicas are probed, and what the results mean.
#[derive(Clone, Debug)]
pub struct HealthPolicy {
    /// What a probe asks.
    pub probe: Probe,
    /// The time between two probes.
    pub interval: Duration,
    /// The deadline of one probe.
    pub timeout: Duration,
    /// The number of failures in a row that take a replica out of rotation.
    pub fall: u32,
    /// The number of passes in a row that take it into rotation.
    pub rise: u32,
    /// How long a failing replica may send nothing before it is replaced.
    pub replace_after: Duration,
}

/// The kinds of probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Passes if `GET` of this path is answered with a status below 400.
    Http(String),
    /// Passes if a connection can be made and the replica does not close it at once.
    Tcp,
}

/// Believes a change after enough equal observations in a row.
#[derive(Debug)]
struct Dampener {
    fall: u32,
    rise: u32,
    streak: u32,
    last: bool,
    believed: Option<bool>,
}

impl Dampener {
    fn new(fall: u32, rise: u32) -> Self {
        Dampener { fall, rise, streak: 0, last: false, believed: None }
    }

    /// Takes one observation, and returns the belief if it changes.
    fn observe(&mut self, good: bool) -> Option<bool> {
        self.streak = if good == self.last { self.streak.saturating_add(1) } else { 1 };
        self.last = good;
        let needed = if good { self.rise } else { self.fall };
        let news = self.streak >= needed && self.believed != Some(good);
        news.then(|| *self.believed.insert(good))
    }

    /// Whether the last observation contradicts the belief.
    fn is_in_doubt(&self) -> bool {
        self.believed.is_some_and(|believed| believed != self.last)
    }
}

/// Probes a replica until this future is dropped. With `identity`, an answer that names another hostname fails the probe.
pub(super) async fn watch(
    id: ReplicaId,
    replica: Arc<Replica>,
    identity: bool,
    policy: HealthPolicy,
    mailbox: Mailbox,
) {
    let mut watch = Watch {
        dampener: Dampener::new(policy.fall, policy.rise),
        begun: Instant::now(),
        last_sign: Instant::now(),
        received: 0,
        has_passed: false,
        reason: String::new(),
        is_reported: false,
        identity: identity.then(|| replica.hostname.clone()),
        links: Links::default(),
        replica,
        policy,
    };
    loop {
        if let Some(event) = watch.observe(id).await
            && mailbox.send(Message::Event(event)).await.is_err()
        {
            return;
        }
        watch.pause().await;
    }
}

/// What the probes of one replica have shown so far.
struct Watch {
    replica: Arc<Replica>,
    links: Links,
    /// The hostname that an answer may name.
    identity: Option<String>,
    policy: HealthPolicy,
    dampener: Dampener,
    begun: Instant,
    /// The time of the last passed probe or received byte.
    last_sign: Instant,
    received: u64,
    /// Whether it was ever believed to be healthy.
    has_passed: bool,
    /// The last reason for failing that the controller has received.
    reason: String,
    /// Whether the controller has been told that it is unresponsive.
    is_reported: bool,
}

impl Watch {
    /// Sends one probe, and returns the event that follows from it.
    async fn observe(&mut self, id: ReplicaId) -> Option<Event> {
        let outcome = probe(&self.policy, self.replica.address, self.identity.as_deref()).await;
        let received = self.replica.received();
        let was_heard = std::mem::replace(&mut self.received, received) != received;
        if outcome.is_ok() || was_heard {
            self.last_sign = Instant::now();
            self.is_reported = false;
        }
        let reason = match outcome {
            Ok(()) => {
                self.replica.trust();
                // Before its first connection.
                self.links.ensure(&self.replica);
                let news = self.dampener.observe(true);
                self.has_passed |= news.is_some();
                return news.map(|_| Event::Passed(id));
            }
            Err(error) if is_local(&error) => return None,
            Err(error) => format!("probe: {error}"),
        };
        self.replica.suspect();
        let is_news = self.dampener.observe(false).is_some();
        if !is_news && self.is_unresponsive() && !self.is_reported {
            self.is_reported = true;
            return Some(Event::Unresponsive(id));
        }
        let is_another = self.dampener.believed == Some(false) && self.reason != reason;
        (is_news || is_another).then(|| {
            self.reason.clone_from(&reason);
            Event::Failed(id, reason)
        })
    }

    fn is_unresponsive(&self) -> bool {
        self.dampener.believed == Some(false) && self.last_sign.elapsed() >= self.policy.replace_after
    }

    /// Waits until the next probe is due.
    async fn pause(&self) {
        let interval = self.policy.interval;
        if self.dampener.believed == Some(true) && !self.dampener.is_in_doubt() {
            let wanted = async {
                sleep(interval / 10).await;
                self.replica.probe_wanted().await;
            };
            // The interval ends the pause, or a session that asks for a probe.
            let _ = timeout(interval, wanted).await;
        } else {
            sleep(self.wanted_pause().clamp(SHORTEST_PAUSE.min(interval), interval)).await;
        }
    }

    /// The pause before the next probe of a replica that is not known to be healthy.
    fn wanted_pause(&self) -> Duration {
        if self.dampener.is_in_doubt() {
            Duration::ZERO
        } else if !self.has_passed {
            // The longer a start takes, the rarer the probes.
            self.begun.elapsed() / 8
        } else if self.is_reported {
            self.policy.interval
        } else {
            self.policy.replace_after.saturating_sub(self.last_sign.elapsed())
        }
    }
}

async fn probe(policy: &HealthPolicy, address: SocketAddr, identity: Option<&str>) -> io::Result<()> {
    let ask = async {
        match &policy.probe {
            Probe::Http(path) => ask_http(address, path, identity).await,
            Probe::Tcp => ask_tcp(address, SECOND_THOUGHT.min(policy.timeout / 2)).await,
        }
    };
    let late = || io::Error::new(ErrorKind::TimedOut, format!("no answer within {:?}", policy.timeout));
    timeout(policy.timeout, ask).await.map_err(|_| late())?
}

async fn ask_http(address: SocketAddr, path: &str, identity: Option<&str>) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = hyper::Request::get(path).header(HOST, address.to_string()).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer,
        // The connection ends before the answer only with an error.
        Err(error) = connection => Err(error),
    };
    let answer = answer.map_err(io::Error::other)?;
    let status = answer.status();
    if status.as_u16() >= 400 {
        return Err(io::Error::other(format!("status {status}")));
    }
    match (identity, answer.headers().get(SERVER_ID)) {
        (Some(identity), Some(given)) if given != identity => {
            Err(io::Error::other(format!("another server answers there: {given:?}")))
        }
        _ => Ok(()),
    }
}

async fn ask_tcp(address: SocketAddr, moment: Duration) -> io::Result<()> {
    look_twice(&TcpStream::connect(address).await?, moment).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dampener_believes_a_change_after_enough_equal_observations_in_a_row() {
        const T: bool = true;
        const F: bool = false;
        /// Fall, rise, observations, and the change of belief after each.
        type Case = (u32, u32, &'static [bool], &'static [Option<bool>]);
        let cases: [Case; 6] = [
            (2, 1, &[T, T], &[Some(T), None]),
            (2, 1, &[F, F, F], &[None, Some(F), None]),
            (2, 1, &[T, F, T, F, F, T], &[Some(T), None, None, None, Some(F), Some(T)]),
            (1, 1, &[T, F, T], &[Some(T), Some(F), Some(T)]),
            (3, 2, &[T, T, F, F, T, F, F, F], &[None, Some(T), None, None, None, None, None, Some(F)]),
            (2, 3, &[F, F, T, T, F, T, T, T], &[None, Some(F), None, None, None, None, None, Some(T)]),
        ];
        for (fall, rise, observations, beliefs) in cases {
            let mut dampener = Dampener::new(fall, rise);
            let seen: Vec<Option<bool>> = observations.iter().map(|&good| dampener.observe(good)).collect();
            assert_eq!(seen, beliefs, "fall {fall}, rise {rise}: {observations:?}");
        }
    }

    #[test]
    fn one_failure_raises_a_doubt_until_the_next_probe() {
        let mut dampener = Dampener::new(2, 1);
        dampener.observe(true);
        assert!(!dampener.is_in_doubt());
        dampener.observe(false);
        assert!(dampener.is_in_doubt());
        dampener.observe(false);
        assert!(!dampener.is_in_doubt());
    }
}
