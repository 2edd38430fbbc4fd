//! The sequence of entries that the mapping `slots` tries after a collision.

use std::fmt;
use std::str::FromStr;

use crate::value::{self, InvalidValue};

/// The sequence of entries that are tried from a taken one.
///
/// ```
/// use mapping::Probing;
///
/// assert_eq!("quadratic".parse(), Ok(Probing::Quadratic));
/// assert_eq!(Probing::Linear.to_string(), "linear");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// The next entry, and the next: it comes to every entry.
    Linear,
    /// The entry t² further on, for t = 1, 2, ...: it does not come to every entry, so it can fail while some are free.
    Quadratic,
}

impl fmt::Display for Probing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Probing::Linear => "linear",
            Probing::Quadratic => "quadratic",
        })
    }
}

impl FromStr for Probing {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        value::one_of(text, &[("linear", Probing::Linear), ("quadratic", Probing::Quadratic)])
    }
}
