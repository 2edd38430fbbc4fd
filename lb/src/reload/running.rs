//! What runs, as the answers of the controller tell it, in the words of a configuration.

use proto::control::{Backends, Mapping, State};
use serde_json::Value;

use crate::config::{Runs, Slots, Source};

/// What runs in place of what was given.
pub(super) fn runs(source: &Source, mapping: &Mapping, backends: &Backends) -> Runs {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let factor = mapping.balance_factor.map_or_else(|| "off".to_owned(), |factor| factor.to_string());
    let fixed = [("mapping".to_owned(), mapping.mapping.clone()), ("balance-factor".to_owned(), factor)];
    let parameters = mapping.parameters.0.iter();
    let parameters = parameters.map(|(name, value)| (name.replace('_', "-"), text(value)));
    let slots = match source {
        Source::Dns(_) => None,
        Source::Fixed(_) => Some(Slots::Named(named(backends))),
        Source::Process { .. } | Source::Docker(_) | Source::Swarm(_) => Some(Slots::Count(backends.n)),
    };
    Runs { mapping: fixed.into_iter().chain(parameters).collect(), slots }
}

/// The fixed addresses in the slots, by index.
fn named(backends: &Backends) -> Vec<(String, String, u32)> {
    let slots = backends.backends.iter().filter(|slot| slot.state != State::Draining);
    slots.filter_map(|slot| Some((slot.name.clone()?, slot.location.clone()?, slot.weight.get()))).collect()
}
