//! From a text to a formula.

use super::{LONGEST, Node, Operator};
use crate::value::InvalidValue;

/// Reads by precedence climbing: all that has been read is ASCII, so that bytes are columns.
pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    /// What has not been read yet.
    pub(super) rest: &'a str,
    pub(super) variables: &'a [(&'a str, Node)],
}

impl Parser<'_> {
    pub(super) fn formula(mut self) -> Result<Node, InvalidValue> {
        if self.text.len() > LONGEST {
            return Err(InvalidValue::Formula {
                column: LONGEST + 1,
                expected: format!("the end: {LONGEST} bytes are the most"),
            });
        }
        let node = self.expression(0)?;
        if self.rest.is_empty() { Ok(node) } else { Err(self.expected("an operator or the end")) }
    }

    /// Operands, and between them operators that bind at least this tightly.
    fn expression(&mut self, least: u8) -> Result<Node, InvalidValue> {
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
    fn operand(&mut self) -> Result<Node, InvalidValue> {
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
    fn up_to(&mut self, end: &str) -> Result<Node, InvalidValue> {
        let node = self.expression(0)?;
        self.demand(end, "an operator or ")?;
        Ok(node)
    }

    fn number(&mut self) -> Result<Node, InvalidValue> {
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

    fn no_operand(&self) -> InvalidValue {
        let names: String = self.variables.iter().map(|(name, _)| format!("{name}, ")).collect();
        let stranger = if self.rest.starts_with('j') { " (there is no j here)" } else { "" };
        self.expected(format!("a number, {names}or \"(\"{stranger}"))
    }

    fn demand(&mut self, sign: &str, or_else: &str) -> Result<(), InvalidValue> {
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

    fn expected(&self, what: impl Into<String>) -> InvalidValue {
        InvalidValue::Formula { column: self.text.len() - self.rest.len() + 1, expected: what.into() }
    }
}
