//! A health check in the user's own words: bytes to send, and how the answer has to begin.

use std::fmt;
use std::str::FromStr;

use super::{LONGEST, Verdict, quoted};

/// What is sent, and how the answer begins. Written as `SEND=EXPECT`, with `\r`, `\n`, `\t`, `\\` and `\xNN` for a byte in hexadecimal digits; a `=` in what
/// is sent is `\x3d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Sent at once; empty for a server that speaks first.
    pub send: Vec<u8>,
    /// The beginning of a good answer, at least one byte.
    pub expect: Vec<u8>,
}

/// A text is no exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoExchange;

impl fmt::Display for NoExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SEND=EXPECT with \\r, \\n, \\t, \\\\ or \\xNN for other bytes (\\x3d for a = in SEND), at least one byte to expect, and each at \
             most {LONGEST} bytes, such as PING\\r\\n=+PONG"
        )
    }
}

impl FromStr for Exchange {
    type Err = NoExchange;

    fn from_str(text: &str) -> Result<Self, NoExchange> {
        let (send, expect) = text.split_once('=').ok_or(NoExchange)?;
        let (send, expect) = (unescaped(send).ok_or(NoExchange)?, unescaped(expect).ok_or(NoExchange)?);
        let fits = send.len() <= LONGEST && (1..=LONGEST).contains(&expect.len());
        fits.then_some(Exchange { send, expect }).ok_or(NoExchange)
    }
}

impl Exchange {
    /// Judges the answer.
    #[must_use]
    pub fn judge(&self, answer: &[u8]) -> Verdict {
        let common = answer.len().min(self.expect.len());
        if answer[..common] != self.expect[..common] {
            Verdict::bad(format!("it answers {}", quoted(answer)))
        } else if common == self.expect.len() {
            Verdict::Good
        } else {
            Verdict::More
        }
    }
}

/// The bytes that a text stands for.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut rest, mut bytes) = (text.as_bytes(), Vec::with_capacity(text.len()));
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&letter, behind) = rest.split_first()?;
        rest = behind;
        bytes.push(match letter {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, behind) = rest.split_first_chunk::<2>()?;
                rest = behind;
                let digit = |digit: u8| char::from(digit).to_digit(16);
                u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}
