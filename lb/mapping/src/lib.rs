//! Mappings from keys to weighted members: which member serves a key, and which are next if it cannot.
//!
//! There are four, behind one interface: consistent hashing ([`Ring`]), the table of the Maglev paper ([`Maglev`]), rendezvous
//! hashing ([`Rendezvous`]), and the table of a classic teaching assignment ([`Slots`]). A mapping is built once for a set of
//! members and never changes. It knows neither addresses nor health: the caller skips members that are down, so their keys
//! come back when they do.
//!
//! ```
//! use mapping::{Algorithm, Mapping, Member, Shift, Side};
//!
//! let member = |index, name: &str, weight| Member { index, name: name.to_owned(), weight };
//! let three = [member(1, "server1", 1), member(2, "server2", 1), member(3, "server3", 2)];
//! let scheme = Algorithm::Ring { points: 1000 }.into();
//! let ring = Mapping::build(&scheme, &three)?;
//!
//! // Who serves a key, and who is next?
//! let names: Vec<&str> = ring.candidates(b"alice").map(|ordinal| three[ordinal].name.as_str()).collect();
//! assert_eq!(names.len(), 3);
//! assert_eq!(ring.owner(b"alice").map(|ordinal| three[ordinal].name.as_str()), Some(names[0]));
//!
//! // What moves when server2 leaves? Its own keys and no others.
//! let two = [three[0].clone(), three[2].clone()];
//! let smaller = Mapping::build(&scheme, &two)?;
//! let shift = Shift::between(
//!     Side { mapping: &ring, members: &three },
//!     Side { mapping: &smaller, members: &two },
//! );
//! assert_eq!(shift.moved(), shift.owned_before()[1].1);
//! # Ok::<(), mapping::Full>(())
//! ```
//!
//! # Which one
//!
//! | | when a member leaves | balance of equal members, 6 of them | pick at 6, at 1000 | build at 6, at 1000 | memory |
//! |---|---|---|---|---|---|
//! | [`Ring`] | its own keys move | within 4 % (1000 points) | 9 ns, 25 ns | 0.08 ms, 26 ms | 14 to 16 bytes a point |
//! | [`Maglev`] | some 0.1 % of the others' keys move too | within 1 % | 6 ns, 5 ns | 0.9 ms, 1.5 ms | 256 KiB |
//! | [`Rendezvous`] | its own keys move | by chance only | 101 ns, 1.3 µs at 100 | nothing to build | the names |
//! | [`Slots`] | keys of others may move | as the formulas have it | 8 ns | 3 µs | 4 to 8 bytes an entry |
//!
//! Times are from `cargo bench -p mapping` on one core of an AMD EPYC; docs/BENCHMARKS.md has all of them, beside other crates.
//!
//! # The same everywhere
//!
//! What a mapping answers is specified in `docs/MAPPING.md` of the repository, with golden vectors and a second implementation in Python.
//! Positions come from XXH3-64, which is frozen, so they are the same on every machine and in every version. A [`Seed`] keys
//! the hash of keys, against clients that choose them.
//!
//! The crate does no I/O, reads no clock and draws no random number. Nothing in it panics, whatever keys and formulas hold.

mod algorithm;
mod around;
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

/// The example of the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
