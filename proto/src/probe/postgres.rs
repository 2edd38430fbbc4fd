//! A health check in the protocol of PostgreSQL, as `pg_isready` makes one: it begins a session, and goes when the server asks for a
//! password.
//!
//! Source: PostgreSQL 17, "Frontend/Backend Protocol", sections 53.2 and 53.7. An `SSLRequest` would be less, but the server answers it before it
//! looks whether it takes sessions.

use super::{Verdict, quoted};

/// Version 3.0.
const VERSION: u32 = 3 << 16;
/// The bounds of the lengths that the first message may have; libpq has the same.
const AUTHENTICATION: std::ops::RangeInclusive<u32> = 8..=2000;
const ERROR: std::ops::RangeInclusive<u32> = 8..=3000;

/// The question: a session for the user `postgres`, whom each cluster has by default. Where no password is asked for, the session begins.
#[must_use]
pub fn startup() -> Vec<u8> {
    let parameters = b"user\0postgres\0application_name\0lb\0\0";
    let length = 8 + parameters.len() as u32;
    [&length.to_be_bytes()[..], &VERSION.to_be_bytes(), parameters].concat()
}

/// Judges the answer. A server that refuses this user is one that works; errors of class 57 (it starts, shuts down or recovers) are those of
/// one that does not serve now.
#[must_use]
pub fn judge(answer: &[u8]) -> Verdict {
    let Some(&kind) = answer.first() else { return Verdict::More };
    let bounds = match kind {
        b'R' => AUTHENTICATION,
        b'E' => ERROR,
        _ => return Verdict::bad("it speaks no PostgreSQL"),
    };
    let Some(&[a, b, c, d]) = answer[1..].first_chunk() else { return Verdict::More };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !bounds.contains(&length) {
        return Verdict::bad("it speaks no PostgreSQL");
    }
    if kind == b'R' {
        return Verdict::Good;
    }
    answer[1..].get(4..length as usize).map_or(Verdict::More, refusal)
}

/// Judges the fields of an error: the letter of a field, its text, and a zero.
fn refusal(fields: &[u8]) -> Verdict {
    let field = |letter: u8| fields.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(&[letter]));
    match (field(b'C'), field(b'M')) {
        (Some(code), message) if code.starts_with(b"57") => {
            Verdict::bad(format!("it refuses sessions: {}", quoted(message.unwrap_or(code))))
        }
        (Some(_), _) => Verdict::Good,
        (None, _) => Verdict::bad("it speaks no PostgreSQL"),
    }
}
