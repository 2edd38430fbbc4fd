//! The two wire languages of `lb`, as pure functions of bytes.
//!
//! - [`mod@line`]: the first line of a data connection and the request id in it;
//! - [`control`]: the commands of the control port and their answers.
//!
//! Nothing here does I/O, keeps state, or knows a clock; every function accepts any bytes and returns a value, so each
//! of them can be fuzzed as it stands.

pub mod control;
pub mod line;
