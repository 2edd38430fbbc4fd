//! A health check in the protocol of Redis (RESP), which KeyDB, Valkey and others speak, too.
//!
//! Source: the Redis serialization protocol specification, redis.io/docs/reference/protocol-spec. `PING` needs no rights but those to run it.

use super::{Verdict, quoted};

/// The question.
pub const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Errors of a server that is ready for clients that log in, or may do more.
const OF_A_READY_ONE: [&[u8]; 2] = [b"-NOAUTH ", b"-NOPERM "];

/// Judges the answer. `-LOADING`, `-MASTERDOWN`, `-BUSY` and other errors are those of a server that does not serve now.
#[must_use]
pub fn judge(answer: &[u8]) -> Verdict {
    let Some(end) = answer.iter().position(|&byte| byte == b'\n') else { return Verdict::More };
    let line = &answer[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line == b"+PONG" || OF_A_READY_ONE.iter().any(|error| line.starts_with(error)) {
        Verdict::Good
    } else {
        Verdict::bad(format!("it answers PING with {}", quoted(line)))
    }
}
