//! The commands that change something: replicas are added or removed, or keys are mapped differently.

use std::collections::BTreeMap;
use std::str::FromStr;

use mapping::MappingPolicy;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::json::Fields;
use super::newcomer::Newcomer;
use super::value::{DrainTime, Hostname, Malformed, Weight, field};

/// The replicas to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// How many, at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub n: u32,
    /// The first ones, by hostname or as servers that run already; the others get random names.
    #[serde(default, deserialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Newcomer>,
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
    /// How long their sessions may take to end; `None`: as long as `lb` is configured to wait.
    #[serde(default, deserialize_with = "drain", skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainTime>,
}

/// The replica to kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Its hostname, or the name of its slot.
    #[serde(deserialize_with = "name")]
    pub hostname: Hostname,
}

/// A change of how keys are mapped. What is not in it stays as it is; where the algorithm changes, its parameters get their
/// defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remapping {
    /// Text by name, as for the flag of the same name.
    values: BTreeMap<&'static str, String>,
    /// Weights of slots, by name or hostname.
    pub weights: BTreeMap<Hostname, Weight>,
}

impl Remapping {
    /// The names of all fields, for messages.
    #[must_use]
    pub fn fields() -> String {
        format!("{} and weights", MappingPolicy::NAMES.join(", "))
    }

    /// The value of this name, if it is to change.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All values that are to change, by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        MappingPolicy::NAMES.into_iter().filter_map(|name| Some((name, self.get(name)?)))
    }

    /// Changes the value of this name as well.
    ///
    /// # Errors
    /// There is no such name, or its value is there already.
    pub fn set(&mut self, name: &str, text: String) -> Result<(), Malformed> {
        let known = if name == "algorithm" { "mapping" } else { name };
        let Some(known) = MappingPolicy::NAMES.into_iter().find(|other| *other == known) else {
            let names = MappingPolicy::NAMES.join("`, `");
            let problem =
                format!("unknown field `{name}`, expected one of `algorithm`, `{names}`, `weights`");
            return Err(Malformed::new(problem));
        };
        match self.values.insert(known, text) {
            None => Ok(()),
            Some(_) => Err(Malformed::new(format!("duplicate field `{known}`"))),
        }
    }
}

impl Serialize for Remapping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        for (name, text) in self.values() {
            fields.serialize_entry(name, text)?;
        }
        if !self.weights.is_empty() {
            fields.serialize_entry("weights", &self.weights)?;
        }
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Remapping {
    /// A value may be text or another JSON value, as it is written; the mapping checks it. `null` is no bound.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut remapping, mut weights) = (Remapping::default(), None);
        for (name, value) in Fields::deserialize(deserializer)?.0 {
            let text = match value {
                value if name == "weights" => {
                    let named = weights_by_name(value).map_err(D::Error::custom)?;
                    if weights.replace(named).is_some() {
                        return Err(D::Error::duplicate_field("weights"));
                    }
                    continue;
                }
                Value::Null if name == "balance_factor" => "off".to_owned(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            remapping.set(&name, text).map_err(D::Error::custom)?;
        }
        remapping.weights = weights.unwrap_or_default();
        Ok(remapping)
    }
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

/// Reads the body of an HTTP request: an [`Addition`], a [`Removal`], a [`Remapping`], a [`Kill`] or a [`Change`].
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

fn drain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DrainTime>, D::Error> {
    field(deserializer, "drain", DrainTime::ALLOWED, |value| Some(Some(value.as_str()?.parse().ok()?)))
}

fn names<'de, D: Deserializer<'de>, N: FromStr<Err = Malformed>>(
    deserializer: D,
) -> Result<Vec<N>, D::Error> {
    let names: Vec<String> = field(deserializer, "hostnames", "a list of names in quotes", |value| {
        value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    })?;
    let refuse = |malformed| D::Error::custom(format_args!("`hostnames`: {malformed}"));
    names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(refuse)
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hostname, D::Error> {
    let name =
        field(deserializer, "hostname", "a name in quotes", |value| value.as_str().map(str::to_owned))?;
    Hostname::try_from(name).map_err(|malformed| D::Error::custom(format_args!("`hostname`: {malformed}")))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert_eq!(read(r#"{"n":2,"hostnames":["S5"]}"#), Ok(Removal { n: 2, hostnames, drain: None }));
        let cases = [
            ("", "malformed JSON, expected one object"),
            (r#"{"n":2,"cmd":"rm"}"#, "unknown field `cmd`, expected one of `n`, `hostnames`, `drain`"),
            (
                r#"{"n":2,"weights":[1]}"#,
                "unknown field `weights`, expected one of `n`, `hostnames`, `drain`",
            ),
            (r#"{"n":2,"n":2}"#, "duplicate field `n`"),
            (r#"[2,["S5"]]"#, "expected a JSON object"),
        ];
        for (body, expected) in cases {
            let message = read::<Removal>(body).unwrap_err();
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn a_removal_may_have_a_drain_time_of_its_own() {
        for (text, seconds) in [("5s", 5), ("0s", 0), ("0", 0), ("1m 30s", 90)] {
            let removal = read::<Removal>(&format!(r#"{{"n":1,"drain":"{text}"}}"#)).unwrap();
            let drain = removal.drain.unwrap();
            assert_eq!(Duration::from(drain), Duration::from_secs(seconds));
            let again = serde_json::to_string(&removal).unwrap();
            assert_eq!(read(&again), Ok(removal), "{again}");
        }
        for wrong in [r#""soon""#, r#""""#, r#""-1s""#, r#""2years""#, "5", "null", "[]"] {
            let message = read::<Removal>(&format!(r#"{{"n":1,"drain":{wrong}}}"#)).unwrap_err();
            let expected =
                format!("`drain`: invalid value `{wrong}`: expected a duration, such as 0s, 250ms, 5s or 1m");
            assert!(message.contains(&expected), "{wrong}: {message}");
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
        let values: Vec<_> = change.values().collect();
        assert_eq!(values, [("mapping", "ring"), ("points", "64"), ("balance_factor", "1.25")]);
        for (body, name, text) in [
            (r#"{"balance_factor":null}"#, "balance_factor", "off"),
            (r#"{"points":null}"#, "points", "null"),
            (r#"{"points":[1]}"#, "points", "[1]"),
        ] {
            assert_eq!(read::<Remapping>(body).unwrap().get(name), Some(text));
        }
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
            (r#"{"points":1,"points":2}"#, "duplicate field `points`"),
            (r#"{"weights":{"S5":1},"weights":{"S4":2}}"#, "duplicate field `weights`"),
        ];
        for (body, expected) in cases {
            let message = read::<Remapping>(body).unwrap_err();
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn a_change_is_a_command_that_changes_something() {
        let removal = Removal { n: 1, hostnames: vec![name("S5")], drain: None };
        assert_eq!(read(r#"{"cmd":"rm","n":1,"hostnames":["S5"]}"#), Ok(Change::Remove(removal)));
        let message = read::<Change>(r#"{"cmd":"rep"}"#).unwrap_err();
        assert!(message.contains("unknown variant `rep`, expected one of `add`"), "{message}");
    }
}
