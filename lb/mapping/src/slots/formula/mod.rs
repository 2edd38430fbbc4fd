//! Formulas as text: H(i) and Φ(i, j) of the mapping `slots`.
//!
//! Numbers are u64, decimal or hexadecimal (`0x1F`; a leading zero has no meaning). Arithmetic wraps, so every formula has a
//! value for every `i` and `j`. Operators and their precedence are those of C, except `^`, which is the power and binds
//! tightest:
//!
//! | | |
//! |---|---|
//! | `^` | power, from the right: `2^3^2` is `2^9`; `pow(a, b)` is the same as `(a)^(b)`; `0^0` is 1 |
//! | `*` `/` `%` | `a / 0` is 0 and `a % 0` is `a`, so that `a / b * b + a % b` is `a` for every `b` |
//! | `+` `-` | there is no sign: write `0 - i` |
//! | `<<` `>>` | a shift by 64 or more gives 0 |
//! | `&` | |
//! | `\|` | |
//!
//! No text and no number makes this code panic. A formula has at most [`LONGEST`] bytes, and each level of nesting takes at
//! least one of them, so no text can exhaust the stack. Evaluation allocates nothing.

mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{Add, Mul};
use std::str::FromStr;

use crate::value::InvalidValue;
use parser::Parser;

/// The most bytes a formula may have.
const LONGEST: usize = 256;

/// H(i): a formula over the number of a request.
///
/// It is evaluated for every connection. So a polynomial of the second degree, like the classic formula, is kept as its
/// coefficients: modulo 2^64 that is the same function.
///
/// ```
/// use mapping::RequestHash;
///
/// let formula: RequestHash = "i*i + 2*i + 17".parse()?;
/// assert_eq!(formula, RequestHash::default());
/// let error = "i + j".parse::<RequestHash>().unwrap_err();
/// assert!(error.to_string().starts_with("column 5: expected a number"));
/// # Ok::<(), mapping::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHash {
    text: String,
    formula: Formula,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Formula {
    /// a + b i + c i²
    Quadratic([u64; 3]),
    Any(Node),
}

impl RequestHash {
    /// The formula of the classic assignment; the default.
    pub const CLASSIC: &str = "i*i + 2*i + 17";

    pub(crate) fn value(&self, i: u64) -> u64 {
        match &self.formula {
            Formula::Quadratic([a, b, c]) => {
                c.wrapping_mul(i).wrapping_add(*b).wrapping_mul(i).wrapping_add(*a)
            }
            Formula::Any(node) => node.value(i, 0),
        }
    }
}

impl From<Node> for Formula {
    fn from(node: Node) -> Self {
        node.coefficients().map_or(Formula::Any(node), Formula::Quadratic)
    }
}

impl FromStr for RequestHash {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let node = Parser { text, rest: text, variables: &[("i", Node::I)] }.formula()?;
        Ok(Self { text: text.to_owned(), formula: node.into() })
    }
}

impl fmt::Display for RequestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Default for RequestHash {
    fn default() -> Self {
        Self { text: Self::CLASSIC.to_owned(), formula: Formula::Quadratic([17, 2, 1]) }
    }
}

/// Φ(i, j): a formula over the index of a server and the number of one of its virtual servers.
///
/// ```
/// let formula: mapping::ServerHash = "i*i + j*j + 2*j + 25".parse()?;
/// assert_eq!(formula, mapping::ServerHash::default());
/// # Ok::<(), mapping::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHash {
    text: String,
    node: Node,
}

impl ServerHash {
    /// The formula of the classic assignment; the default.
    pub const CLASSIC: &str = "i*i + j*j + 2*j + 25";

    pub(crate) fn value(&self, i: u64, j: u64) -> u64 {
        self.node.value(i, j)
    }
}

impl FromStr for ServerHash {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let node = Parser { text, rest: text, variables: &[("i", Node::I), ("j", Node::J)] }.formula()?;
        Ok(Self { text: text.to_owned(), node })
    }
}

impl fmt::Display for ServerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Default for ServerHash {
    fn default() -> Self {
        let node = Node::I * Node::I + Node::J * Node::J + Node::Number(2) * Node::J + Node::Number(25);
        Self { text: Self::CLASSIC.to_owned(), node }
    }
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

    /// The coefficients of 1, i and i², if it is a polynomial of the second degree at most, without j.
    fn coefficients(&self) -> Option<[u64; 3]> {
        match self {
            Node::Number(number) => Some([*number, 0, 0]),
            Node::I => Some([0, 1, 0]),
            Node::J => None,
            Node::Binary(operator, sides) => {
                let [left, right] = [sides[0].coefficients()?, sides[1].coefficients()?];
                match (operator, right) {
                    (Operator::Add | Operator::Subtract, _) => {
                        Some([0, 1, 2].map(|degree| operator.apply(left[degree], right[degree])))
                    }
                    (Operator::Multiply, _) => product(left, right),
                    (Operator::Power, [2, 0, 0]) => product(left, left),
                    _ => None,
                }
            }
        }
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

    /// The precedence, from 1 on: a higher one binds tighter.
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

/// The product of two polynomials, if it is of the second degree at most.
fn product(left: [u64; 3], right: [u64; 3]) -> Option<[u64; 3]> {
    let mut product = [0_u64; 5];
    for (m, a) in left.iter().enumerate() {
        for (n, b) in right.iter().enumerate() {
            product[m + n] = product[m + n].wrapping_add(a.wrapping_mul(*b));
        }
    }
    let [a, b, c, 0, 0] = product else { return None };
    Some([a, b, c])
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
