//! How keys are mapped to members, and how far loads may differ: what can be changed while a fleet runs.

use crate::algorithm::{Algorithm, MappingName, Scheme};
use crate::bound::BalanceFactor;
use crate::hash::Seed;
use crate::parameter::{NotAccepted, Parameter};
use crate::value::InvalidValue;

/// The scheme of the mapping, and the bound of loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingPolicy {
    /// The algorithm, its parameters and the seed.
    pub scheme: Scheme,
    /// The bound of a member's connections, if there is one.
    pub balance: Option<BalanceFactor>,
}

impl MappingPolicy {
    /// The names of everything that can be changed.
    pub const NAMES: [&str; Parameter::ALL.len() + 2] = {
        let mut names = ["mapping"; Parameter::ALL.len() + 2];
        let mut at = 0;
        while at < Parameter::ALL.len() {
            names[at + 1] = Parameter::ALL[at].name;
            at += 1;
        }
        names[at + 1] = "balance_factor";
        names
    };

    /// Its names as the keys of a configuration, with a dash for each underscore.
    ///
    /// ```
    /// assert!(mapping::MappingPolicy::keys().any(|key| key == "balance-factor"));
    /// ```
    pub fn keys() -> impl Iterator<Item = String> {
        Self::NAMES.into_iter().map(|name| name.replace('_', "-"))
    }

    /// The policy after a change. `changes` are values by name (see [`MappingPolicy::NAMES`]). The rest stays as it is; another
    /// algorithm begins with its defaults.
    ///
    /// ```
    /// use mapping::{Algorithm, MappingPolicy, Scheme};
    ///
    /// let policy = MappingPolicy { scheme: Scheme::from(Algorithm::Maglev), balance: None };
    /// let ring = policy.amended([("mapping", "ring"), ("points", "64")]).unwrap();
    /// assert_eq!(ring.scheme.algorithm, Algorithm::Ring { points: 64 });
    /// let problems = policy.amended([("points", "64")]).unwrap_err();
    /// assert_eq!(problems[0].to_string(), "`points` goes with the mapping ring only, not with maglev");
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong with the change.
    pub fn amended<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<NotAccepted>> {
        let mut policy = self.clone();
        let (name, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(name, _)| *name == "mapping");
        let problems: Vec<NotAccepted> =
            name.into_iter().chain(others).filter_map(|(name, text)| policy.set(name, text).err()).collect();
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }

    /// All values as text, by name (see [`MappingPolicy::NAMES`]); the seed, which is a secret, is not among them.
    ///
    /// ```
    /// use mapping::{Algorithm, MappingPolicy, Scheme, Seed};
    ///
    /// let policy = MappingPolicy { scheme: Scheme::from(Algorithm::Ring { points: 64 }), balance: None };
    /// let values: Vec<_> = policy.values().collect();
    /// let read = values.iter().map(|(name, text)| (*name, text.as_str()));
    /// assert_eq!(MappingPolicy::of(read, Seed::default()), Ok(policy));
    /// ```
    pub fn values(&self) -> impl Iterator<Item = (&'static str, String)> {
        let algorithm = &self.scheme.algorithm;
        let balance = self.balance.map_or_else(|| "off".to_owned(), |factor| factor.get().to_string());
        let parameters = Parameter::ALL
            .iter()
            .filter_map(|parameter| Some((parameter.name, parameter.get(algorithm)?.to_string())));
        let fixed = [("mapping", algorithm.name().to_string()), ("balance_factor", balance)];
        fixed.into_iter().chain(parameters)
    }

    /// The policy with these [values](MappingPolicy::values) and this seed. A parameter that is not among them has its default.
    ///
    /// # Errors
    /// Everything that is wrong with the values.
    pub fn of<'a>(
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
        seed: Seed,
    ) -> Result<Self, Vec<NotAccepted>> {
        let scheme = Scheme { algorithm: Algorithm::named(MappingName::Ring), seed };
        MappingPolicy { scheme, balance: None }.amended(values)
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), NotAccepted> {
        let because = |name| move |problem: InvalidValue| NotAccepted::Value { name, problem };
        match name {
            "mapping" => {
                let name: MappingName = text.parse().map_err(because("mapping"))?;
                if name != self.scheme.algorithm.name() {
                    self.scheme.algorithm = Algorithm::named(name);
                }
            }
            "balance_factor" => {
                self.balance = BalanceFactor::parse_or_off(text).map_err(because("balance_factor"))?;
            }
            _ => {
                let parameter =
                    Parameter::named(name).ok_or_else(|| NotAccepted::Unknown(name.to_owned()))?;
                parameter.set(&mut self.scheme.algorithm, text)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Setting;
    use crate::probing::Probing;

    fn ring() -> MappingPolicy {
        let scheme = Scheme { algorithm: Algorithm::Ring { points: 64 }, seed: Seed(7) };
        MappingPolicy { scheme, balance: BalanceFactor::parse_or_off("1.5").unwrap() }
    }

    #[test]
    fn omitted_fields_stay_and_the_seed_always_does() {
        assert_eq!(ring().amended([]), Ok(ring()));
        let changed = ring().amended([("points", "10"), ("balance_factor", "off")]).unwrap();
        assert_eq!(changed.scheme, Scheme { algorithm: Algorithm::Ring { points: 10 }, seed: Seed(7) });
        assert_eq!(changed.balance, None);
        assert_eq!(ring().amended([("mapping", "ring")]), Ok(ring()));
    }

    #[test]
    fn another_algorithm_begins_with_its_defaults() {
        let maglev = ring().amended([("mapping", "maglev")]).unwrap();
        assert_eq!((maglev.scheme.algorithm.clone(), maglev.balance), (Algorithm::Maglev, ring().balance));
        let ring = maglev.amended([("mapping", "ring")]).unwrap();
        assert_eq!(ring.scheme.algorithm, Algorithm::Ring { points: 1000 });
        let changes =
            [("virtual", "3"), ("probing", "quadratic"), ("request_hash", "i + 1"), ("mapping", "slots")];
        let slots = ring.amended(changes).unwrap().scheme.algorithm;
        let Algorithm::Slots(shape) = &slots else { panic!("{slots:?}") };
        assert_eq!((shape.entries, shape.virtuals, shape.probing), (512, 3, Probing::Quadratic));
        let formula = Parameter::named("request_hash").unwrap().get(&slots);
        assert_eq!(formula, Some(Setting::Text("i + 1".to_owned())));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let changes = [("points", "0"), ("slots", "5"), ("balance_factor", "0.5"), ("pionts", "1")];
        let problems = ring().amended(changes).unwrap_err();
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "`points`: invalid value `0`: expected a whole number from 1 to 10000",
                "`slots` goes with the mapping slots only, not with ring",
                "`balance_factor`: invalid value `0.5`: expected a number from 1 to 100 with at most three \
                 decimals, such as 1.25, or off",
                "there is no parameter `pionts`",
            ]
        );
        let unknown = ring().amended([("mapping", "karger")]).unwrap_err();
        let message = "`mapping`: invalid value `karger`: expected ring, slots, maglev or rendezvous";
        assert_eq!(unknown[0].to_string(), message);
    }

    #[test]
    fn every_parameter_has_a_default_that_it_takes() {
        for parameter in Parameter::ALL {
            let mut algorithm = Algorithm::named(parameter.mapping);
            let default = parameter.default().unwrap();
            assert_eq!(parameter.set(&mut algorithm, &default.to_string()), Ok(()), "{}", parameter.name);
            assert_eq!(algorithm, Algorithm::named(parameter.mapping));
        }
    }
}
