//! What one may ask to be changed: replicas that come and go, and how keys are mapped to them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::{Hostname, Malformed, field};
use super::json::Fields;

/// How many replicas to start, which, and what share each is to get.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// How many, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub n: u32,
    /// The first of them by name; the rest is left to the fleet.
    #[serde(default, deserialize_with = "names")]
    pub hostnames: Vec<Hostname>,
    /// The weights of the first of them, in the same order; the rest has what is usual.
    #[serde(default, deserialize_with = "weights")]
    pub weights: Vec<Weight>,
}

/// How many replicas to drain and stop, and which.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// How many, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub n: u32,
    /// The first of them by name; the rest is left to the fleet.
    #[serde(default, deserialize_with = "names")]
    pub hostnames: Vec<Hostname>,
}

/// What is to be different about how keys are mapped. What is `None` stays as it is, or, where the mapping becomes another,
/// gets its default.
///
/// Values are text as it would follow a flag of the same name; over the wire they may be numbers too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remapping {
    /// The name of the algorithm.
    #[serde(alias = "algorithm", deserialize_with = "scalar")]
    pub mapping: Option<String>,
    /// `ring`: positions of each slot.
    #[serde(deserialize_with = "scalar")]
    pub points: Option<String>,
    /// `slots`: the size of the table, M.
    #[serde(deserialize_with = "scalar")]
    pub slots: Option<String>,
    /// `slots`: virtual servers of each server, K.
    #[serde(rename = "virtual", deserialize_with = "scalar")]
    pub virtuals: Option<String>,
    /// `slots`: what follows a collision.
    #[serde(deserialize_with = "scalar")]
    pub probing: Option<String>,
    /// `slots`: where a request falls.
    #[serde(deserialize_with = "scalar")]
    pub request_hash: Option<String>,
    /// `slots`: where a virtual server wants to be.
    #[serde(deserialize_with = "scalar")]
    pub server_hash: Option<String>,
    /// The bound of a replica's connections, as a multiple of the mean; `off` (or `null`) for none.
    #[serde(deserialize_with = "factor")]
    pub balance_factor: Option<String>,
    /// Weights of slots, by name or hostname.
    #[serde(deserialize_with = "weights_by_name")]
    pub weights: BTreeMap<Hostname, Weight>,
}

impl Remapping {
    /// The names of all fields, for messages.
    pub const FIELDS: &str =
        "mapping, points, slots, virtual, probing, request_hash, server_hash, balance_factor and weights";
}

/// A change of which one may ask what would follow from it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Change {
    /// Start replicas.
    Add(Addition),
    /// Drain replicas and stop them.
    #[serde(rename = "rm", alias = "remove")]
    Remove(Removal),
    /// Map keys otherwise.
    Mapping(Remapping),
}

/// Reads the body of an HTTP request: an [`Addition`], a [`Removal`], a [`Remapping`] or a [`Change`].
///
/// # Errors
/// Names the field or the place that is wrong, and what is allowed there.
pub fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    let Fields(fields) = Fields::read(body)?;
    Ok(T::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields.into_iter()))?)
}

/// A slot's share of the keys against the others': 2 is twice as many as 1, and 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Weight(u8);

impl Weight {
    /// What a weight may be, for messages.
    pub const ALLOWED: &str = "a whole number from 0 to 100";

    /// The weight as a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.into()
    }

    /// Whether that is what a slot has if nobody says anything.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Weight::default()
    }
}

impl Default for Weight {
    /// 1.
    fn default() -> Self {
        Weight(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for Weight {
    type Error = Malformed;

    fn try_from(weight: u64) -> Result<Self, Malformed> {
        let small = u8::try_from(weight).ok().filter(|&weight| weight <= 100);
        small.map(Weight).ok_or_else(|| Malformed::new(format!("weight {weight} is not {}", Weight::ALLOWED)))
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    field(deserializer, "`n` as a whole number of at least 1", |value| {
        let n = value.as_u64().filter(|&n| n > 0)?;
        Some(u32::try_from(n).unwrap_or(u32::MAX)) // more than any fleet: refused there, with its bound
    })
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hostname>, D::Error> {
    let names: Vec<String> = field(deserializer, "`hostnames` as a list of names in quotes", |value| {
        value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    })?;
    names.into_iter().map(Hostname::try_from).collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// A weight in JSON.
fn weight(value: &Value) -> Option<Weight> {
    Weight::try_from(value.as_u64()?).ok()
}

fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weight>, D::Error> {
    let allowed = format!("`weights` as a list, each {}", Weight::ALLOWED);
    field(deserializer, &allowed, |value| value.as_array()?.iter().map(weight).collect())
}

fn weights_by_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Hostname, Weight>, D::Error> {
    let allowed = format!("`weights` as an object of hostnames, each with {}", Weight::ALLOWED);
    field(deserializer, &allowed, |value| {
        let named =
            |(name, value): (&String, &Value)| Some((Hostname::try_from(name.clone()).ok()?, weight(value)?));
        value.as_object()?.iter().map(named).collect()
    })
}

/// Text, or whatever else there is as it is written: what it may be is not known here, and who knows says so.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    }))
}

/// The same; `null` is off.
fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let factor = scalar(deserializer)?;
    Ok(factor.map(|text| if text == "null" { "off".to_owned() } else { text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(body: &str) -> Result<T, String> {
        parse_body(body.as_bytes()).map_err(|error| error.to_string())
    }

    fn name(name: &str) -> Hostname {
        Hostname::try_from(name.to_owned()).unwrap()
    }

    fn weight_of(weight: u64) -> Weight {
        Weight::try_from(weight).unwrap()
    }

    #[test]
    fn a_body_is_held_to_the_rules_of_a_line() {
        let hostnames = vec![name("S5")];
        assert_eq!(read(r#"{"n":2,"hostnames":["S5"]}"#), Ok(Removal { n: 2, hostnames }));
        let cases = [
            ("", "malformed JSON, expected one object"),
            (r#"{"n":2,"cmd":"rm"}"#, "unknown field `cmd`, expected `n` or `hostnames`"),
            (r#"{"n":2,"weights":[1]}"#, "unknown field `weights`, expected `n` or `hostnames`"),
            (r#"{"n":2,"n":2}"#, "duplicate field `n`"),
            (r#"[2,["S5"]]"#, "expected a JSON object"),
        ];
        for (body, expected) in cases {
            let message = read::<Removal>(body).unwrap_err();
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn an_addition_may_have_weights() {
        let addition = read::<Addition>(r#"{"n":3,"weights":[0,100]}"#).unwrap();
        assert_eq!(addition.weights, [weight_of(0), weight_of(100)]);
        for wrong in ["2", "[-1]", "[101]", "[1.5]", r#"["2"]"#, "[null]", r#"{"S5":2}"#, "null"] {
            let message = read::<Addition>(&format!(r#"{{"n":3,"weights":{wrong}}}"#)).unwrap_err();
            let expected = "expected `weights` as a list, each a whole number from 0 to 100";
            assert!(message.contains(expected), "{wrong}: {message}");
        }
    }

    #[test]
    fn a_remapping_takes_numbers_and_text_alike() {
        let change =
            read::<Remapping>(r#"{"algorithm":"ring","points":"64","balance_factor":1.25}"#).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let expected = Remapping {
            mapping: text("ring"),
            points: text("64"),
            balance_factor: text("1.25"),
            ..Remapping::default()
        };
        assert_eq!(change, expected);
        assert_eq!(read::<Remapping>(r#"{"balance_factor":null}"#).unwrap().balance_factor, text("off"));
        assert_eq!(read::<Remapping>(r#"{"points":null}"#).unwrap().points, text("null"));
        assert_eq!(read::<Remapping>(r#"{"points":[1]}"#).unwrap().points, text("[1]"));
        let weights = read::<Remapping>(r#"{"weights":{"S5":0,"S4":7}}"#).unwrap().weights;
        assert_eq!(weights, [(name("S5"), weight_of(0)), (name("S4"), weight_of(7))].into());
    }

    #[test]
    fn a_remapping_that_cannot_be_understood_says_why() {
        let cases = [
            (r#"{"point":1}"#, "unknown field `point`, expected one of `algorithm`, `mapping`"),
            (r#"{"weights":{"S5":1,"S5":2}}"#, "duplicate field `S5`"),
            (r#"{"weights":{"S5":101}}"#, "each with a whole number from 0 to 100"),
            (r#"{"weights":{"../x":1}}"#, "`weights` as an object of hostnames"),
            (r#"{"mapping":"ring","algorithm":"ring"}"#, "duplicate field `mapping`"),
        ];
        for (body, expected) in cases {
            let message = read::<Remapping>(body).unwrap_err();
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn a_change_is_a_command_that_changes_something() {
        let removal = Removal { n: 1, hostnames: vec![name("S5")] };
        assert_eq!(read(r#"{"cmd":"rm","n":1,"hostnames":["S5"]}"#), Ok(Change::Remove(removal)));
        let message = read::<Change>(r#"{"cmd":"rep"}"#).unwrap_err();
        assert!(message.contains("unknown variant `rep`, expected one of `add`"), "{message}");
    }
}
