//! The key of a connection: what is hashed, and where it comes from. It reads nothing; the head does.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proto::key::KeyKind;

use super::connect::Attempt;
use super::head::{Found, Says};
use super::story::{Attempts, Origin, Story};
use crate::replica::Replica;
use crate::snapshot::Slot;

/// The key of a connection, and where it comes from.
pub(super) enum Key<'a> {
    /// What the head holds.
    Found(&'a [u8], &'a KeyKind),
    /// A random number: the head could hold a key, and holds none.
    Random(String),
    /// The client's address: there is no head that could.
    Source(String),
}

impl<'a> Key<'a> {
    pub(super) fn of(says: &'a Says, kind: &'a KeyKind, client: IpAddr) -> Self {
        match &says.found {
            Found::Value(value) => Key::Found(value, kind),
            Found::Nothing => Key::Random(fastrand::u32(100_000..=999_999).to_string()),
            Found::Unknown => Key::Source(client.to_canonical().to_string()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Key::Found(value, _) => value,
            Key::Random(text) | Key::Source(text) => text.as_bytes(),
        }
    }

    /// The request id, if the first line holds one.
    pub(super) fn given(&self) -> Option<&[u8]> {
        match self {
            Key::Found(id, KeyKind::Id) => Some(id),
            Key::Found(..) | Key::Random(_) | Key::Source(_) => None,
        }
    }

    /// The request id, whether the client gave it or it was made up for it.
    pub(super) fn id(&self) -> Option<&[u8]> {
        if let Key::Random(text) = self { Some(text.as_bytes()) } else { self.given() }
    }

    /// The server that a TLS client asks for.
    pub(super) fn server_name(&self) -> Option<&[u8]> {
        if let Key::Found(name, KeyKind::ServerName) = self { Some(name) } else { None }
    }

    /// Where it comes from.
    fn origin(&self) -> Origin {
        match self {
            Key::Found(_, kind) => Origin::Found(kind.name()),
            Key::Random(_) => Origin::Random,
            Key::Source(_) => Origin::Source,
        }
    }

    /// What is told of the connection with this key, and of the slot and the replica that it reached.
    pub(super) fn story(
        &self,
        peer: SocketAddr,
        says: &Says,
        reached: Option<(&Slot, &Replica)>,
        failed: &[Attempt],
    ) -> Story {
        Story {
            peer,
            key: Some(self.to_string()),
            origin: Some(self.origin()),
            protocols: says.protocols.clone(),
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
