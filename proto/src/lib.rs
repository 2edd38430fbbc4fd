//! The wire formats of `lb`, as pure functions of bytes.
//!
//! - [`mod@line`]: the first line of a data connection and the request id in it;
//! - [`control`]: the commands of the control port and their answers;
//! - [`mod@key`]: what of it is the key, which [`mod@http`] finds in an HTTP head and [`mod@hello`] in the first message of TLS;
//! - [`mod@proxy`]: the header with which a proxy says who its client is;
//! - [`mod@probe`]: what health checks say to servers, and what the answers show;
//! - [`printable`]: text from elsewhere, made fit to be shown.
//!
//! Nothing here does I/O, keeps state or reads a clock. Every function takes any bytes and returns a value, so that each
//! can be fuzzed.

pub mod control;
pub mod hello;
pub mod http;
pub mod incident;
pub mod journal;
pub mod key;
pub mod line;
pub mod printable;
pub mod probe;
pub mod proxy;
