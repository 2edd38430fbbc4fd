//! The wire formats of `lb`, as pure functions of bytes.
//!
//! - [`mod@line`]: the first line of a data connection and the request id in it;
//! - [`control`]: the commands of the control port and their answers;
//! - [`mod@proxy`]: the header with which a proxy says who its client is;
//! - [`printable`]: text from elsewhere, made fit to be shown.
//!
//! Nothing here does I/O, keeps state or reads a clock. Every function takes any bytes and returns a value, so that each
//! can be fuzzed.

pub mod control;
pub mod incident;
pub mod journal;
pub mod line;
pub mod printable;
pub mod proxy;
