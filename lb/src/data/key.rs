//! The key of a connection: what is hashed, and where it comes from. It reads nothing; the head does.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::connect::Attempt;
use super::head::Kind;
use super::story::{Attempts, Origin, Story};
use crate::replica::Replica;
use crate::snapshot::Slot;

/// The key of a connection, and where it comes from.
pub(super) enum Key<'a> {
    /// The request id in the first line.
    Given(&'a [u8]),
    /// A random number: the first line holds no request id.
    Random(String),
    /// The client's address: there is no first line.
    Source(String),
}

impl<'a> Key<'a> {
    pub(super) fn of(kind: &'a Kind, client: IpAddr) -> Self {
        match kind {
            Kind::Http(Some(id)) | Kind::Text(Some(id)) => Key::Given(id),
            Kind::Http(None) | Kind::Text(None) => Key::Random(fastrand::u32(100_000..=999_999).to_string()),
            Kind::Opaque => Key::Source(client.to_canonical().to_string()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Key::Given(id) => id,
            Key::Random(text) | Key::Source(text) => text.as_bytes(),
        }
    }

    /// The request id, if the first line holds one.
    pub(super) fn given(&self) -> Option<&[u8]> {
        match self {
            Key::Given(id) => Some(id),
            Key::Random(_) | Key::Source(_) => None,
        }
    }

    /// The request id, whether the client gave it or it was made up for it.
    pub(super) fn id(&self) -> Option<&[u8]> {
        match self {
            Key::Given(id) => Some(id),
            Key::Random(text) => Some(text.as_bytes()),
            Key::Source(_) => None,
        }
    }

    /// Where it comes from.
    fn origin(&self) -> Origin {
        match self {
            Key::Given(_) => Origin::Given,
            Key::Random(_) => Origin::Random,
            Key::Source(_) => Origin::Source,
        }
    }

    /// What is told of the connection with this key, and of the slot and the replica that it reached.
    pub(super) fn story(
        &self,
        peer: SocketAddr,
        reached: Option<(&Slot, &Replica)>,
        failed: &[Attempt],
    ) -> Story {
        Story {
            peer,
            key: Some(self.to_string()),
            origin: Some(self.origin()),
            slot: reached.map(|(slot, _)| slot.name.clone()),
            replica: reached.map(|(_, replica)| replica.hostname.clone()),
            attempts: Attempts(failed).to_string(),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}
