use super::*;
use crate::testing::named;
use crate::{Algorithm, SlotsShape};
use proptest::prelude::*;

#[track_caller]
fn value(text: &str, i: u64, j: u64) -> u64 {
    ServerHash::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}")).value(i, j)
}

#[test]
fn the_defaults_are_the_classic_formulas() {
    assert_eq!(RequestHash::from_str(RequestHash::CLASSIC), Ok(RequestHash::default()));
    assert_eq!(ServerHash::from_str(ServerHash::CLASSIC), Ok(ServerHash::default()));
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
fn a_polynomial_of_the_second_degree_is_known_as_one_however_it_is_written() {
    let polynomials = [
        ("i*i + 2*i + 17", [17, 2, 1]),
        ("(i + 1)^2 - 1", [0, 2, 1]),
        ("0 - i", [0, u64::MAX, 0]),
        ("7", [7, 0, 0]),
        ("3*(i - 5)*(i + 5)", [0_u64.wrapping_sub(75), 0, 3]),
    ];
    for (text, coefficients) in polynomials {
        assert_eq!(RequestHash::from_str(text).unwrap().formula, Formula::Quadratic(coefficients), "{text}");
    }
    for text in ["i*i*i", "i^i", "i / 2", "i >> 1", "i & 7", "2^i"] {
        assert!(matches!(RequestHash::from_str(text).unwrap().formula, Formula::Any(_)), "{text}");
    }
}

#[test]
fn a_malformed_formula_is_refused_with_its_column_and_what_is_expected() {
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
        let error = RequestHash::from_str(text).unwrap_err();
        assert_eq!(error.to_string(), format!("column {column}: expected {expected}"), "{text}");
    }
    let error = ServerHash::from_str("i + k").unwrap_err().to_string();
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
        assert!(ServerHash::from_str(&unfinished).is_err());
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

/// Reference results of the operations: in 128 bits, and some by another algorithm.
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
        prop_assert_eq!(ServerHash::from_str(&text), Ok(ServerHash { text: text.clone(), node }), "{}", text);
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
    fn coefficients_have_the_values_of_their_formula(node in nodes(), i in any::<u64>()) {
        if let Formula::Quadratic([a, b, c]) = Formula::from(node.clone()) {
            let square = c.wrapping_mul(i).wrapping_mul(i);
            prop_assert_eq!(square.wrapping_add(b.wrapping_mul(i)).wrapping_add(a), node.value(i, 0));
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), i in any::<u64>(), j in any::<u64>()) {
        let _ = ServerHash::from_str(&text).map(|formula| formula.value(i, j));
    }

    #[test]
    fn no_text_of_the_right_characters_panics_as_a_formula_of_requests(
        text in r"([i0-9x ()+*/%^&|,-]|pow\(|<<|>>){0,80}", number in any::<u64>(), entries in 0..40_u32,
    ) {
        let Ok(request_hash) = RequestHash::from_str(&text) else { return Ok(()) };
        prop_assert_eq!(RequestHash::from_str(&request_hash.to_string()), Ok(request_hash.clone()));
        let shape = SlotsShape { entries, virtuals: 1, request_hash, ..SlotsShape::default() };
        let members = named((0..entries.min(3)).map(|server| server.to_string()));
        let mapping = Algorithm::Slots(shape).of(&members);
        prop_assert_eq!(mapping.candidates(number.to_string().as_bytes()).count(), members.len());
    }

    #[test]
    fn no_text_of_the_right_characters_panics_and_errors_point_into_it(
        text in r"([ij0-9x ()+*/%^&|<>,-]|pow\(|<<|>>){0,80}", i in any::<u64>(), j in any::<u64>(),
    ) {
        match ServerHash::from_str(&text) {
            Ok(formula) => {
                _ = formula.value(i, j);
                prop_assert_eq!(ServerHash::from_str(&formula.to_string()), Ok(formula));
            }
            Err(InvalidValue::Formula { column, expected }) => {
                prop_assert!((1..=text.len() + 1).contains(&column), "{}", expected);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
