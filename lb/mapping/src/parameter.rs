//! The parameters of the mappings by name. From this table come the flags, the fields of commands and answers, and messages.

use std::fmt;
use std::ops::RangeInclusive;

use crate::algorithm::{Algorithm, MappingName};
use crate::probing::Probing;
use crate::slots::{RequestHash, ServerHash, SlotsShape};
use crate::value::{self, InvalidValue};

/// A named parameter of one mapping.
///
/// ```
/// use mapping::{Algorithm, MappingName, Parameter, Setting};
///
/// let points = Parameter::named("points").unwrap();
/// let mut ring = Algorithm::named(MappingName::Ring);
/// points.set(&mut ring, "64")?;
/// assert_eq!(points.get(&ring), Some(Setting::Number(64)));
/// assert_eq!(points.get(&Algorithm::Maglev), None);
/// # Ok::<(), mapping::NotAccepted>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name as a field of JSON. (A flag has `-` for `_`.)
    pub name: &'static str,
    /// The mapping that has the parameter.
    pub mapping: MappingName,
    /// A stand-in for the value in a help text.
    pub value_name: &'static str,
    /// What the parameter is, for a help text.
    pub about: &'static str,
    place: fn(&mut Algorithm) -> Option<Place<'_>>,
}

/// Where the value of a parameter is in an algorithm.
enum Place<'a> {
    Number(&'a mut u32, RangeInclusive<u32>),
    Probing(&'a mut Probing),
    RequestHash(&'a mut RequestHash),
    ServerHash(&'a mut ServerHash),
}

/// The value of a parameter.
///
/// ```
/// use mapping::{Parameter, Setting};
///
/// let probing = Parameter::named("probing").and_then(|parameter| parameter.default());
/// assert_eq!(probing, Some(Setting::Text("linear".to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A number.
    Number(u32),
    /// A name or a formula.
    Text(String),
}

/// The reason why a parameter was not set.
///
/// ```
/// use mapping::{Algorithm, NotAccepted, Parameter};
///
/// let points = Parameter::named("points").unwrap();
/// let error = points.set(&mut Algorithm::Ring { points: 64 }, "0").unwrap_err();
/// assert!(matches!(error, NotAccepted::Value { name: "points", .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The parameter does not take this value.
    #[error("`{name}`: {problem}")]
    Value {
        /// The name of the parameter.
        name: &'static str,
        /// What is wrong.
        problem: InvalidValue,
    },
    /// The parameter belongs to another mapping.
    #[error("`{name}` goes with the mapping {home} only, not with {mapping}")]
    Elsewhere {
        /// The name of the parameter.
        name: &'static str,
        /// The mapping that has the parameter.
        home: MappingName,
        /// The mapping that was to be changed.
        mapping: MappingName,
    },
    /// There is no such parameter.
    #[error("there is no parameter `{0}`")]
    Unknown(String),
}

impl Parameter {
    /// All parameters.
    pub const ALL: [Parameter; 6] = [
        Parameter {
            name: "points",
            mapping: MappingName::Ring,
            value_name: "N",
            about: "positions of each slot",
            place: |algorithm| match algorithm {
                Algorithm::Ring { points } => Some(Place::Number(points, 1..=10_000)),
                _ => None,
            },
        },
        Parameter {
            name: "slots",
            mapping: MappingName::Slots,
            value_name: "M",
            about: "size of the table, M",
            place: |algorithm| Some(Place::Number(&mut shape(algorithm)?.entries, 1..=65_536)),
        },
        Parameter {
            name: "virtual",
            mapping: MappingName::Slots,
            value_name: "K",
            about: "virtual servers of each server, K",
            place: |algorithm| Some(Place::Number(&mut shape(algorithm)?.virtuals, 1..=10_000)),
        },
        Parameter {
            name: "probing",
            mapping: MappingName::Slots,
            value_name: "NAME",
            about: "what follows a collision, linear or quadratic",
            place: |algorithm| Some(Place::Probing(&mut shape(algorithm)?.probing)),
        },
        Parameter {
            name: "request_hash",
            mapping: MappingName::Slots,
            value_name: "EXPR",
            about: "where request i falls, modulo M; u64 with + - * / % & | << >>, ^ or pow(a, b), parentheses, 0x1F",
            place: |algorithm| Some(Place::RequestHash(&mut shape(algorithm)?.request_hash)),
        },
        Parameter {
            name: "server_hash",
            mapping: MappingName::Slots,
            value_name: "EXPR",
            about: "where virtual server j = 0 .. K-1 of server i wants to be, modulo M",
            place: |algorithm| Some(Place::ServerHash(&mut shape(algorithm)?.server_hash)),
        },
    ];

    /// The parameter of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|parameter| parameter.name == name)
    }

    /// Its value; `None` if the algorithm does not have it.
    #[must_use]
    pub fn get(&self, algorithm: &Algorithm) -> Option<Setting> {
        (self.place)(&mut algorithm.clone()).map(|place| match place {
            Place::Number(number, _) => Setting::Number(*number),
            Place::Probing(probing) => Setting::Text(probing.to_string()),
            Place::RequestHash(formula) => Setting::Text(formula.to_string()),
            Place::ServerHash(formula) => Setting::Text(formula.to_string()),
        })
    }

    /// Its default value.
    #[must_use]
    pub fn default(&self) -> Option<Setting> {
        self.get(&Algorithm::named(self.mapping))
    }

    /// Gives it another value.
    ///
    /// # Errors
    /// The text is not a value of the parameter, or the algorithm does not have it; the algorithm is unchanged then.
    pub fn set(&self, algorithm: &mut Algorithm, text: &str) -> Result<(), NotAccepted> {
        let (name, home, mapping) = (self.name, self.mapping, algorithm.name());
        let place = (self.place)(algorithm).ok_or(NotAccepted::Elsewhere { name, home, mapping })?;
        place.set(text).map_err(|problem| NotAccepted::Value { name, problem })
    }
}

impl Place<'_> {
    fn set(self, text: &str) -> Result<(), InvalidValue> {
        match self {
            Place::Number(number, range) => *number = value::whole(text, &range)?,
            Place::Probing(probing) => *probing = text.parse()?,
            Place::RequestHash(formula) => *formula = text.parse()?,
            Place::ServerHash(formula) => *formula = text.parse()?,
        }
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Number(number) => number.fmt(f),
            Setting::Text(text) => text.fmt(f),
        }
    }
}

fn shape(algorithm: &mut Algorithm) -> Option<&mut SlotsShape> {
    if let Algorithm::Slots(shape) = algorithm { Some(shape) } else { None }
}
