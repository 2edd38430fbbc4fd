//! The commands that change something: replicas are added or removed, or keys are mapped differently.

use std::collections::BTreeMap;

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::Fields;
use super::value::{Hostname, Malformed, Weight, field};

/// The replicas to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// How many, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub n: u32,
    /// The hostnames of the first ones; the others get random names.
    #[serde(default, deserialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// The weights of the first ones, in the same order; the others get the default.
    #[serde(default, deserialize_with = "weights", skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Weight>,
}

/// The replicas to drain and stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// How many, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub n: u32,
    /// The hostnames of the first ones; the others are chosen at random.
    #[serde(default, deserialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
}

/// A change of how keys are mapped. A parameter that is `None` stays as it is; where the algorithm changes, it gets its
/// default.
///
/// Values are text, as for the flag of the same name; in JSON they may be numbers too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remapping {
    /// The name of the algorithm.
    #[serde(alias = "algorithm", deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
    /// `ring`: positions of each slot.
    #[serde(deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub points: Option<String>,
    /// `slots`: the size of the table, M.
    #[serde(deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub slots: Option<String>,
    /// `slots`: virtual servers of each server, K.
    #[serde(rename = "virtual", deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub virtuals: Option<String>,
    /// `slots`: how a place is found after a collision.
    #[serde(deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub probing: Option<String>,
    /// `slots`: the formula of a request's place in the table.
    #[serde(deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub request_hash: Option<String>,
    /// `slots`: the formula of a virtual server's preferred place.
    #[serde(deserialize_with = "scalar", skip_serializing_if = "Option::is_none")]
    pub server_hash: Option<String>,
    /// The bound of a replica's connections, as a multiple of the mean; `off` (or `null`) for none.
    #[serde(deserialize_with = "factor", skip_serializing_if = "Option::is_none")]
    pub balance_factor: Option<String>,
    /// Weights of slots, by name or hostname.
    #[serde(deserialize_with = "weights_by_name", skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Hostname, Weight>,
}

impl Remapping {
    /// The names of all fields, for messages.
    pub const FIELDS: &str =
        "mapping, points, slots, virtual, probing, request_hash, server_hash, balance_factor and weights";
}

/// A change that can be planned before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Change {
    /// Start replicas.
    Add(Addition),
    /// Drain replicas and stop them.
    #[serde(rename = "rm", alias = "remove")]
    Remove(Removal),
    /// Change how keys are mapped.
    Mapping(Remapping),
}

/// Reads the body of an HTTP request: an [`Addition`], a [`Removal`], a [`Remapping`] or a [`Change`].
///
/// # Errors
/// The body is not one JSON object, or a field is wrong; the message names the field or the column, and what is expected.
pub fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    let Fields(fields) = Fields::read(body)?;
    Ok(T::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields.into_iter()))?)
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    field(deserializer, "n", "a whole number of at least 1", |value| {
        let n = value.as_u64().filter(|&n| n > 0)?;
        Some(u32::try_from(n).unwrap_or(u32::MAX)) // the fleet refuses it and names its size
    })
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hostname>, D::Error> {
    let names: Vec<String> = field(deserializer, "hostnames", "a list of names in quotes", |value| {
        value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    })?;
    let refuse = |malformed| D::Error::custom(format_args!("`hostnames`: {malformed}"));
    names.into_iter().map(Hostname::try_from).collect::<Result<_, _>>().map_err(refuse)
}

fn weight(value: &Value) -> Option<Weight> {
    Weight::try_from(value.as_u64()?).ok()
}

fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weight>, D::Error> {
    let expected = format_args!("a list, each {}", Weight::ALLOWED);
    field(deserializer, "weights", expected, |value| value.as_array()?.iter().map(weight).collect())
}

fn weights_by_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Hostname, Weight>, D::Error> {
    let expected = format_args!("an object of hostnames, each with {}", Weight::ALLOWED);
    field(deserializer, "weights", expected, |value| {
        let named =
            |(name, value): (&String, &Value)| Some((Hostname::try_from(name.clone()).ok()?, weight(value)?));
        value.as_object()?.iter().map(named).collect()
    })
}

/// Text as it is; any other JSON value as it is written. The mapping checks it.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    }))
}

/// As [`scalar`], where `null` means `off`.
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
    fn a_body_follows_the_rules_of_a_line() {
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
            let expected = format!(
                "`weights`: invalid value `{wrong}`: expected a list, each a whole number from 0 to 100"
            );
            assert!(message.contains(&expected), "{wrong}: {message}");
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
    fn a_remapping_that_cannot_be_understood_is_refused_with_the_reason() {
        let cases = [
            (r#"{"point":1}"#, "unknown field `point`, expected one of `algorithm`, `mapping`"),
            (r#"{"weights":{"S5":1,"S5":2}}"#, "duplicate field `S5`"),
            (r#"{"weights":{"S5":101}}"#, "each with a whole number from 0 to 100"),
            (
                r#"{"weights":{"../x":1}}"#,
                "`weights`: invalid value `{\"../x\":1}`: expected an object of hostnames",
            ),
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
