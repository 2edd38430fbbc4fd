//! Where the names of new replicas come from.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use proto::control::{Failure, FailureKind, Hostname, Weight};

/// A source of hostnames.
#[derive(Clone, Debug)]
pub enum Names {
    /// Any name is allowed. Names that a command does not give are random.
    Random,
    /// Any name that the rule permits is allowed. Names that a command does not give are random; the rule permits all of these.
    Ruled(Rule),
    /// Only the names of the fixed addresses are allowed, in the order of `--backend`, each with the weight of its slot.
    Fixed(Vec<(Hostname, Weight)>),
}

/// What runs the replicas takes no other names than these.
#[derive(Clone)]
pub struct Rule {
    about: String,
    check: Arc<Check>,
}

/// Its error says what is wrong with a name, and what is expected.
type Check = dyn Fn(&Hostname) -> Result<(), String> + Send + Sync;

impl Rule {
    /// The rule that permits the names for which `check` is fine. Its error says what is wrong, and what is expected. `about` is what
    /// the rule depends on, so that it can be made again from this.
    pub fn new(
        about: String,
        check: impl Fn(&Hostname) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Rule { about, check: Arc::new(check) }
    }

    /// What the rule depends on.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rule").field(&self.about).finish()
    }
}

impl Names {
    /// The next name that is not taken, or `None` if every name is.
    pub(crate) fn next(&self, taken: &HashSet<Hostname>, rng: &mut fastrand::Rng) -> Option<Hostname> {
        match self {
            Names::Random | Names::Ruled(_) => std::iter::repeat_with(|| random(rng))
                .find_map(|name| name.filter(|name| !taken.contains(name))),
            Names::Fixed(names) => {
                names.iter().map(|(name, _)| name).find(|name| !taken.contains(name)).cloned()
            }
        }
    }

    /// The weight of a slot with this name, if the command gives none.
    pub(crate) fn weight(&self, name: &Hostname) -> Weight {
        match self {
            Names::Random | Names::Ruled(_) => Weight::default(),
            Names::Fixed(names) => names
                .iter()
                .find(|(known, _)| known == name)
                .map_or_else(Weight::default, |&(_, weight)| weight),
        }
    }

    /// Refuses a name that is not allowed.
    pub(crate) fn permit(&self, name: &Hostname) -> Result<(), Failure> {
        match self {
            Names::Fixed(names) if !names.iter().any(|(known, _)| known == name) => {
                Err(FailureKind::BadRequest.because(format!(
                    "hostname {name} is none of the backends given by --backend: {}",
                    join(names)
                )))
            }
            Names::Ruled(rule) => (rule.check)(name)
                .map_err(|reason| FailureKind::BadRequest.because(format!("hostname {name}: {reason}"))),
            Names::Random | Names::Fixed(_) => Ok(()),
        }
    }

    /// The refusal of a command that needs more names than there are.
    pub(crate) fn exhausted(&self) -> Failure {
        let names = if let Names::Fixed(names) = self { join(names) } else { String::new() };
        FailureKind::BadRequest
            .because(format!("`n` is more than the backends given by --backend that are not in use: {names}"))
    }
}

fn join(names: &[(Hostname, Weight)]) -> String {
    names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `server-` and six letters or digits.
fn random(rng: &mut fastrand::Rng) -> Option<Hostname> {
    let mut name = String::from("server-");
    name.extend(std::iter::repeat_with(|| rng.digit(36)).take(6));
    Hostname::try_from(name).ok()
}
