//! Formulas as text: H(i) and Φ(i, j) of the mapping `slots`.
//!
//! Numbers are u64, decimal or hexadecimal (`0x1F`; a leading zero means nothing), and arithmetic wraps, so every formula
//! has a value for every `i` and `j`. Operators as in C, with the same precedence, but for `^`, which is the power and
//! binds tightest:
//!
//! | | |
//! |---|---|
//! | `^` | power, from the right: `2^3^2` is `2^9`; `pow(a, b)` is the same as `(a)^(b)`; `0^0` is 1 |
//! | `*` `/` `%` | `a / 0` is 0 and `a % 0` is `a`, so that `a / b * b + a % b` is `a` for every `b` |
//! | `+` `-` | there is no sign: write `0 - i` |
//! | `<<` `>>` | what is shifted by 64 or more is 0 |
//! | `&` | |
//! | `\|` | |
//!
//! Nothing here panics, whatever the text and the numbers are. A formula has at most [`LONGEST`] bytes, and each step into
//! the depth takes at least one of them, so no text can exhaust the stack. To evaluate a formula allocates nothing.

mod parser;
#[cfg(test)]
mod tests;

use std::ops::{Add, Mul};

use parser::Parser;

/// The most bytes a formula may have.
const LONGEST: usize = 256;

/// H(i): a formula over the number of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHash(Node);

impl RequestHash {
    /// The one of the classic assignment, which is also the default.
    pub const CLASSIC: &str = "i*i + 2*i + 17";

    /// Reads a formula over `i`.
    ///
    /// # Errors
    /// Where it stops being one.
    pub fn parse(text: &str) -> Result<Self, NotAFormula> {
        Parser { text, rest: text, variables: &[("i", Node::I)] }.formula().map(Self)
    }

    pub(super) fn value(&self, i: u64) -> u64 {
        self.0.value(i, 0)
    }
}

impl Default for RequestHash {
    fn default() -> Self {
        Self(Node::I * Node::I + Node::Number(2) * Node::I + Node::Number(17))
    }
}

/// Φ(i, j): a formula over the index of a server and the number of one of its virtual servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHash(Node);

impl ServerHash {
    /// The one of the classic assignment, which is also the default.
    pub const CLASSIC: &str = "i*i + j*j + 2*j + 25";

    /// Reads a formula over `i` and `j`.
    ///
    /// # Errors
    /// Where it stops being one.
    pub fn parse(text: &str) -> Result<Self, NotAFormula> {
        Parser { text, rest: text, variables: &[("i", Node::I), ("j", Node::J)] }.formula().map(Self)
    }

    pub(super) fn value(&self, i: u64, j: u64) -> u64 {
        self.0.value(i, j)
    }
}

impl Default for ServerHash {
    fn default() -> Self {
        Self(Node::I * Node::I + Node::J * Node::J + Node::Number(2) * Node::J + Node::Number(25))
    }
}

/// A text is no formula.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct NotAFormula {
    /// The first character that does not fit, from 1 on.
    column: usize,
    /// What would fit there.
    expected: String,
}

/// A formula that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Number(u64),
    I,
    J,
    Binary(Operator, Box<[Node; 2]>),
}

impl Node {
    fn binary(operator: Operator, left: Node, right: Node) -> Self {
        Node::Binary(operator, Box::new([left, right]))
    }

    fn value(&self, i: u64, j: u64) -> u64 {
        match self {
            Node::Number(number) => *number,
            Node::I => i,
            Node::J => j,
            Node::Binary(operator, sides) => {
                let [left, right] = &**sides;
                operator.apply(left.value(i, j), right.value(i, j))
            }
        }
    }
}

impl Add for Node {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Node::binary(Operator::Add, self, other)
    }
}

impl Mul for Node {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Node::binary(Operator::Multiply, self, other)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Operator {
    const ALL: [(&str, Operator); 10] = [
        ("|", Operator::Or),
        ("&", Operator::And),
        ("<<", Operator::ShiftLeft),
        (">>", Operator::ShiftRight),
        ("+", Operator::Add),
        ("-", Operator::Subtract),
        ("*", Operator::Multiply),
        ("/", Operator::Divide),
        ("%", Operator::Remainder),
        ("^", Operator::Power),
    ];

    /// How tightly it binds, from 1 on.
    fn precedence(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::ShiftLeft | Operator::ShiftRight => 3,
            Operator::Add | Operator::Subtract => 4,
            Operator::Multiply | Operator::Divide | Operator::Remainder => 5,
            Operator::Power => 6,
        }
    }

    /// The precedence from which on operators to the right of it belong to its right side.
    fn right_precedence(self) -> u8 {
        match self {
            Operator::Power => self.precedence(),
            _ => self.precedence() + 1,
        }
    }

    fn apply(self, left: u64, right: u64) -> u64 {
        match self {
            Operator::Or => left | right,
            Operator::And => left & right,
            Operator::ShiftLeft => shift(right, |by| left.checked_shl(by)),
            Operator::ShiftRight => shift(right, |by| left.checked_shr(by)),
            Operator::Add => left.wrapping_add(right),
            Operator::Subtract => left.wrapping_sub(right),
            Operator::Multiply => left.wrapping_mul(right),
            Operator::Divide => left.checked_div(right).unwrap_or(0),
            Operator::Remainder => left.checked_rem(right).unwrap_or(left),
            Operator::Power => power(left, right),
        }
    }
}

fn shift(by: u64, shifted: impl Fn(u32) -> Option<u64>) -> u64 {
    u32::try_from(by).ok().and_then(shifted).unwrap_or(0)
}

/// By squaring: 64 rounds at most. The standard library's takes no exponent of 64 bits.
fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut value = 1_u64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            value = value.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    value
}
