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

use std::ops::{Add, Mul};

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

/// Reads by precedence climbing: all that has been read is ASCII, so that bytes are columns.
struct Parser<'a> {
    text: &'a str,
    /// What has not been read yet.
    rest: &'a str,
    variables: &'a [(&'a str, Node)],
}

impl Parser<'_> {
    fn formula(mut self) -> Result<Node, NotAFormula> {
        if self.text.len() > LONGEST {
            return Err(NotAFormula {
                column: LONGEST + 1,
                expected: format!("the end: {LONGEST} bytes are the most"),
            });
        }
        let node = self.expression(0)?;
        if self.rest.is_empty() { Ok(node) } else { Err(self.expected("an operator or the end")) }
    }

    /// Operands, and between them operators that bind at least this tightly.
    fn expression(&mut self, least: u8) -> Result<Node, NotAFormula> {
        let mut left = self.operand()?;
        while let Some(operator) = self.operator(least) {
            let right = self.expression(operator.right_precedence())?;
            left = Node::binary(operator, left, right);
        }
        Ok(left)
    }

    fn operator(&mut self, least: u8) -> Option<Operator> {
        let is_next = |(sign, _): &&(&str, Operator)| self.rest.starts_with(sign);
        let &(sign, operator) = Operator::ALL.iter().find(is_next)?;
        (operator.precedence() >= least && self.take(sign)).then_some(operator)
    }

    /// A number, a variable, a power or anything in parentheses, and the blanks around it.
    fn operand(&mut self) -> Result<Node, NotAFormula> {
        self.skip_blanks();
        if self.take("(") {
            return self.up_to(")");
        }
        if self.take("pow") {
            self.demand("(", "")?;
            let base = self.up_to(",")?;
            return Ok(Node::binary(Operator::Power, base, self.up_to(")")?));
        }
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return self.number();
        }
        let variables = self.variables;
        let named = variables.iter().find(|(name, _)| self.take(name));
        named.map(|(_, node)| node.clone()).ok_or_else(|| self.no_operand())
    }

    /// A formula and what ends it.
    fn up_to(&mut self, end: &str) -> Result<Node, NotAFormula> {
        let node = self.expression(0)?;
        self.demand(end, "an operator or ")?;
        Ok(node)
    }

    fn number(&mut self) -> Result<Node, NotAFormula> {
        let start = self.rest;
        let radix = if self.take_exactly("0x") { 16 } else { 10 };
        let end = self.rest.find(|next: char| !next.is_digit(radix)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() {
            return Err(self.expected("a hexadecimal digit"));
        }
        let Ok(number) = u64::from_str_radix(digits, radix) else {
            self.rest = start;
            return Err(self.expected(format!("a number of at most {}", u64::MAX)));
        };
        self.rest = rest;
        self.skip_blanks();
        Ok(Node::Number(number))
    }

    fn no_operand(&self) -> NotAFormula {
        let names: String = self.variables.iter().map(|(name, _)| format!("{name}, ")).collect();
        let stranger = if self.rest.starts_with('j') { " (there is no j here)" } else { "" };
        self.expected(format!("a number, {names}or \"(\"{stranger}"))
    }

    fn demand(&mut self, sign: &str, or_else: &str) -> Result<(), NotAFormula> {
        if self.take(sign) { Ok(()) } else { Err(self.expected(format!("{or_else}\"{sign}\""))) }
    }

    /// Whether this comes next; it is read then, and the blanks behind it.
    fn take(&mut self, sign: &str) -> bool {
        let is_next = self.take_exactly(sign);
        if is_next {
            self.skip_blanks();
        }
        is_next
    }

    fn take_exactly(&mut self, sign: &str) -> bool {
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn expected(&self, what: impl Into<String>) -> NotAFormula {
        NotAFormula { column: self.text.len() - self.rest.len() + 1, expected: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn value(text: &str, i: u64, j: u64) -> u64 {
        ServerHash::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).value(i, j)
    }

    #[test]
    fn the_defaults_are_the_classic_formulas() {
        assert_eq!(RequestHash::parse(RequestHash::CLASSIC), Ok(RequestHash::default()));
        assert_eq!(ServerHash::parse(ServerHash::CLASSIC), Ok(ServerHash::default()));
    }

    #[test]
    fn operators_bind_as_in_c_and_power_tightest() {
        let cases = [
            ("2 + 3 * 4", 14),
            ("(2 + 3) * 4", 20),
            ("2 * 3 ^ 2", 18),
            ("2^3^2", 512),
            ("(2^3)^2", 64),
            ("7 - 2 - 1", 4),
            ("100 / 10 / 5", 2),
            ("10 % 4 * 3", 6),
            ("1 << 2 + 1", 8),
            ("1 << 2 << 3", 32),
            ("256 >> 2 >> 1", 32),
            ("6 & 3 << 1", 6),
            ("1 | 2 & 4", 1),
            ("1 | 6 & 3 + 1 << 1", 1),
            ("pow(2, 3) ^ 2", 64),
            ("pow(1 + 1, pow(2, 2)) - 1", 15),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text, 0, 0), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_blanks_mean_nothing() {
        let cases = [
            ("0", 0),
            ("007", 7),
            ("18446744073709551615", u64::MAX),
            ("0x1f", 31),
            ("0xFFFFFFFFFFFFFFFF", u64::MAX),
            (" \t(\n 1+ 2 )  ", 3),
            ("i^2+j", 54),
            ("pow ( i , 2 ) + j", 54),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text, 7, 5), expected, "{text}");
        }
    }

    #[test]
    fn every_operation_has_a_value_everywhere() {
        let most = u64::MAX;
        let cases = [
            ("i + 1", most, 0),
            ("0 - i", 1, most),
            ("i * i", 1 << 32, 0),
            ("i / j", 9, 0),
            ("i % j", 9, 9),
            ("i << 63", 3, 1 << 63),
            ("i << 64", 3, 0),
            ("i << i", most, 0),
            ("i >> 63", most, 1),
            ("i >> 64", most, 0),
            ("i >> 4294967296", most, 0),
            ("i ^ j", 0, 1),
            ("2 ^ 64", 0, 0),
            ("3 ^ i", most, 12_297_829_382_473_034_411),
        ];
        for (text, i, expected) in cases {
            assert_eq!(value(text, i, 0), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_formula_is_told_where_and_what_is_expected() {
        let long = format!("{}1", "i+".repeat(128));
        let operand = "a number, i, or \"(\"";
        let cases = [
            ("", 1, operand),
            ("   ", 4, operand),
            ("i*i + ", 7, operand),
            ("i + x", 5, operand),
            ("i * j", 5, "a number, i, or \"(\" (there is no j here)"),
            ("-i", 1, operand),
            ("i ** 2", 4, operand),
            ("()", 2, operand),
            ("i < 2", 3, "an operator or the end"),
            ("2i", 2, "an operator or the end"),
            ("i)", 2, "an operator or the end"),
            ("i ü", 3, "an operator or the end"),
            ("i + ü", 5, operand),
            ("(i", 3, "an operator or \")\""),
            ("(i + 1 2)", 8, "an operator or \")\""),
            ("pow i", 5, "\"(\""),
            ("pow(i)", 6, "an operator or \",\""),
            ("pow(i, 2, 3)", 9, "an operator or \")\""),
            ("0x", 3, "a hexadecimal digit"),
            ("1 + 0xg", 7, "a hexadecimal digit"),
            ("i + 18446744073709551616", 5, "a number of at most 18446744073709551615"),
            ("0x10000000000000000", 1, "a number of at most 18446744073709551615"),
            (&long, 257, "the end: 256 bytes are the most"),
        ];
        for (text, column, expected) in cases {
            let error = RequestHash::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("column {column}: expected {expected}"), "{text}");
        }
        let error = ServerHash::parse("i + k").unwrap_err().to_string();
        assert_eq!(error, "column 5: expected a number, i, j, or \"(\"");
    }

    /// Parentheses, powers and rising precedence are what the parser goes into the depth for; a chain is what makes the
    /// tree deep.
    #[test]
    fn the_deepest_formulas_are_read_and_evaluated() {
        let nested = format!("{}i{}", "(".repeat(127), ")".repeat(127));
        assert_eq!(value(&nested, 7, 0), 7);
        assert_eq!(value(&format!("i{}", "^1".repeat(127)), 7, 0), 7);
        assert_eq!(value(&format!("i{}", "+1".repeat(127)), 7, 0), 134);
        let steep = format!("{}i{}", "0|1&0<<0+1*0^(".repeat(17), ")".repeat(17));
        assert!(steep.len() > 250);
        assert_eq!(value(&steep, 7, 0), 0);
        for unfinished in ["(".repeat(256), "i^".repeat(128), "pow(".repeat(64)] {
            assert!(ServerHash::parse(&unfinished).is_err());
        }
    }

    fn operators() -> impl Strategy<Value = (&'static str, Operator)> {
        proptest::sample::select(&Operator::ALL[..])
    }

    fn nodes() -> impl Strategy<Value = Node> {
        let number = prop_oneof![0..100_u64, any::<u64>()].prop_map(Node::Number);
        let leaf = prop_oneof![number, Just(Node::I), Just(Node::J)];
        leaf.prop_recursive(4, 12, 2, |inner| {
            (operators(), inner.clone(), inner)
                .prop_map(|((_, operator), left, right)| Node::binary(operator, left, right))
        })
    }

    /// The text of a formula with no parentheses but those it needs.
    fn text(node: &Node, least: u8) -> String {
        match node {
            Node::Number(number) if number % 2 == 0 => format!("{number:#x}"),
            Node::Number(number) => number.to_string(),
            Node::I => "i".into(),
            Node::J => "j".into(),
            Node::Binary(operator, sides) => {
                let (sign, _) = Operator::ALL.iter().find(|(_, other)| other == operator).unwrap();
                let own = operator.precedence();
                let left = if *operator == Operator::Power { own + 1 } else { own };
                let (left, right) = (text(&sides[0], left), text(&sides[1], operator.right_precedence()));
                if own < least { format!("({left}{sign}{right})") } else { format!("{left} {sign} {right}") }
            }
        }
    }

    /// The same operations in 128 bits, and some of them by another way.
    fn reference(operator: Operator, left: u64, right: u64) -> u64 {
        let (l, r) = (u128::from(left), u128::from(right));
        let exact = match operator {
            Operator::Or => l | r,
            Operator::And => l & r,
            Operator::ShiftLeft => (0..right.min(64)).fold(l, |bits, _| bits * 2 % (1 << 64)),
            Operator::ShiftRight => (0..right.min(64)).fold(l, |bits, _| bits / 2),
            Operator::Add => l + r,
            Operator::Subtract => (1 << 64) + l - r,
            Operator::Multiply => l * r,
            Operator::Divide => l.checked_div(r).unwrap_or(0),
            Operator::Remainder => l.checked_rem(r).unwrap_or(l),
            Operator::Power => {
                let bits = (0..64).rev().map(|bit| (right >> bit) & 1);
                bits.fold(1, |value: u128, bit| {
                    let square = value * value % (1 << 64);
                    if bit == 1 { square * l % (1 << 64) } else { square }
                })
            }
        };
        (exact % (1 << 64)) as u64
    }

    proptest! {
        #[test]
        fn a_formula_that_is_written_down_and_read_is_the_same(node in nodes()) {
            let text = text(&node, 0);
            prop_assume!(text.len() <= LONGEST);
            prop_assert_eq!(ServerHash::parse(&text), Ok(ServerHash(node)), "{}", text);
        }

        #[test]
        fn operations_agree_with_those_in_128_bits(
            (sign, operator) in operators(),
            i in prop_oneof![0..200_u64, any::<u64>()],
            j in prop_oneof![0..200_u64, any::<u64>()],
        ) {
            prop_assert_eq!(value(&format!("i {sign} j"), i, j), reference(operator, i, j));
        }

        #[test]
        fn quotient_and_remainder_belong_together(i in any::<u64>(), j in prop_oneof![0..3_u64, any::<u64>()]) {
            prop_assert_eq!(value("i / j * j + i % j", i, j), i);
        }

        #[test]
        fn no_text_panics(text in any::<String>(), i in any::<u64>(), j in any::<u64>()) {
            let _ = ServerHash::parse(&text).map(|formula| formula.value(i, j));
        }

        #[test]
        fn no_text_of_the_right_characters_panics_and_errors_point_into_it(
            text in r"([ij0-9x ()+*/%^&|<>,-]|pow\(|<<|>>){0,80}", i in any::<u64>(), j in any::<u64>(),
        ) {
            match ServerHash::parse(&text) {
                Ok(formula) => _ = formula.value(i, j),
                Err(error) => prop_assert!((1..=text.len() + 1).contains(&error.column), "{}", error),
            }
        }
    }
}
