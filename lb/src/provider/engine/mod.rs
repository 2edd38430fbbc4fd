//! Replicas that a container engine runs: decisions here, calls below.
//!
//! The decisions are pure, without calls, clocks or tokio, and know nothing of Docker:
//!
//! - [`identity`]: what the labels of a replica say about it;
//! - [`leftovers`]: which replicas without a keeper are removed, and when;
//! - [`takeover`]: which replicas a new `lb` takes over, and the seats of a fleet without a record;
//! - [`record`]: which `lb` holds the fleet, and its seats, written as labels;
//! - [`claim`]: how an `lb` becomes the holder and keeps the record, for an engine whose entries cannot be changed;
//! - [`dress`]: what a container gets, whichever engine runs it.
//!
//! An engine has to offer labels on its replicas, a list of the replicas with a label, a place for the record, and a way to
//! start, watch and stop one replica. [`docker`] does that with containers and volumes, [`swarm`] with services and a config object.
//! What both do in the same way stands beside them: [`call`], [`network`] and [`no_replica`].

mod call;
pub(crate) mod claim;
pub(crate) mod docker;
pub(crate) mod dress;
mod identity;
mod leftovers;
mod network;
mod no_replica;
pub(crate) mod record;
pub(crate) mod swarm;
mod takeover;
