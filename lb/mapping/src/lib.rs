//! From a key to the members that may serve it, in the order in which to try them.

mod algorithm;
mod bound;
mod candidates;
mod full;
mod hash;
mod maglev;
mod mapping;
mod member;
mod parameter;
mod policy;
mod probing;
mod rendezvous;
mod ring;
mod shift;
mod slots;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod value;
mod walk;

pub use algorithm::{Algorithm, MappingName, Scheme};
pub use bound::BalanceFactor;
pub use candidates::Candidates;
pub use full::Full;
pub use hash::{Location, Seed};
pub use maglev::Maglev;
pub use mapping::Mapping;
pub use member::{MOST_SLOTS, Member};
pub use parameter::{NotAccepted, Parameter, Setting};
pub use policy::MappingPolicy;
pub use probing::Probing;
pub use rendezvous::Rendezvous;
pub use ring::Ring;
pub use shift::{Keys, Shift, Side, Transfer};
pub use slots::{RequestHash, ServerHash, Slots, SlotsShape};
pub use value::InvalidValue;
