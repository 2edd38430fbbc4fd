//! Accepted client connections, handed from `lb` to a replica on the same host.
//!
//! `lb` looks at the first line of a connection without consuming it, picks a replica, and passes the *socket* over a Unix
//! socket (`SCM_RIGHTS`, unix(7), cmsg(3)). From then on client and replica speak directly, as if the replica had
//! accepted the connection itself. The protocol is specified in `docs/HANDOFF.md`, for any language.

pub mod protocol;

pub use protocol::{Metadata, VARIABLE};
