//! Values as text: how they are read, and what is said about those that cannot be.

use std::ops::RangeInclusive;

/// A text is not a value of the type that it was read as. The message says what is expected.
///
/// ```
/// let error = "cubic".parse::<mapping::Probing>().unwrap_err();
/// assert_eq!(error.to_string(), "invalid value `cubic`: expected linear or quadratic");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// Another text is expected.
    #[error("invalid value `{given}`: expected {expected}")]
    Unexpected {
        /// The text.
        given: String,
        /// What is expected.
        expected: String,
    },
    /// Another text is expected; the text is a secret and not repeated.
    #[error("invalid value: expected {0}")]
    Secret(&'static str),
    /// The text is not a formula of the mapping `slots`.
    #[error("column {column}: expected {expected}")]
    Formula {
        /// The column of the first character that does not fit, from 1 on.
        column: usize,
        /// What is expected there.
        expected: String,
    },
}

impl InvalidValue {
    pub(crate) fn new(given: &str, expected: impl Into<String>) -> Self {
        InvalidValue::Unexpected { given: given.to_owned(), expected: expected.into() }
    }
}

/// Reads a whole number within a range.
pub(crate) fn whole(given: &str, range: &RangeInclusive<u32>) -> Result<u32, InvalidValue> {
    let number = given.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        InvalidValue::new(given, format!("a whole number from {} to {}", range.start(), range.end()))
    })
}

/// Reads a name; `names` has each value with its name.
pub(crate) fn one_of<T: Copy>(given: &str, names: &[(&str, T)]) -> Result<T, InvalidValue> {
    if let Some((_, value)) = names.iter().find(|(name, _)| *name == given) {
        return Ok(*value);
    }
    let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let expected = match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    };
    Err(InvalidValue::new(given, expected))
}
