//! Where the names of new replicas come from.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use proto::control::{Failure, FailureKind, FixedBackend, Hostname, Location, Newcomer, Weight};

/// A source of hostnames.
#[derive(Clone, Debug, Default)]
pub enum Names {
    /// Any name is allowed. Names that a command does not give are random.
    #[default]
    Random,
    /// Any name that the rule permits is allowed. Names that a command does not give are random; the rule permits all of these.
    Ruled(Rule),
    /// The replicas are servers that run already. These are known by name; any other comes with its address. Names that a command does
    /// not give are the first of these that are not in use.
    Fixed(Vec<FixedBackend>),
}

/// Who is to sit in a new slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrant {
    pub(crate) name: Hostname,
    /// Where it is, if that is given.
    pub(crate) location: Option<Location>,
    /// The weight of the slot, if the command gives none.
    pub(crate) weight: Weight,
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
            Names::Fixed(known) => {
                known.iter().map(|server| &server.name).find(|name| !taken.contains(name)).cloned()
            }
        }
    }

    /// What is known of the replica of this name.
    pub(crate) fn entrant(&self, name: Hostname) -> Entrant {
        match self.known(&name) {
            Some(server) => entrant_at(server),
            None => Entrant { name, location: None, weight: Weight::default() },
        }
    }

    /// Lets a newcomer in, or refuses it because of its name or its address.
    pub(crate) fn admit(&self, newcomer: &Newcomer) -> Result<Entrant, Failure> {
        let name = newcomer.name();
        let refuse = |reason: String| FailureKind::BadRequest.because(format!("hostname {name}{reason}"));
        match (self, newcomer) {
            (Names::Fixed(_), Newcomer::Server(server)) => Ok(entrant_at(server)),
            (Names::Random | Names::Ruled(_), Newcomer::Server(_)) => Err(refuse(format!(
                " has an address, which goes with --provider fixed only; this lb starts its replicas itself: lb add 1 {name}"
            ))),
            (Names::Fixed(known), Newcomer::Named(_)) if self.known(name).is_none() => Err(refuse(format!(
                " is none of the backends that --backend or --backends-file gives: {}; another one comes with its address: {name}=HOST:PORT",
                join(known)
            ))),
            (Names::Ruled(rule), Newcomer::Named(_)) => {
                (rule.check)(name).map_err(|reason| refuse(format!(": {reason}")))?;
                Ok(self.entrant(name.clone()))
            }
            (Names::Random | Names::Fixed(_), Newcomer::Named(_)) => Ok(self.entrant(name.clone())),
        }
    }

    /// The refusal of a command that needs more names than there are.
    pub(crate) fn exhausted(&self) -> Failure {
        let names = if let Names::Fixed(known) = self { join(known) } else { String::new() };
        FailureKind::BadRequest.because(format!(
            "`n` is more than the backends that --backend or --backends-file gives and are not in use: {names}; others come with their \
             addresses: NAME=HOST:PORT"
        ))
    }

    /// The servers that are known by name.
    pub(crate) fn all_known(&self) -> &[FixedBackend] {
        match self {
            Names::Fixed(known) => known,
            Names::Random | Names::Ruled(_) => &[],
        }
    }

    fn known(&self, name: &Hostname) -> Option<&FixedBackend> {
        self.all_known().iter().find(|server| server.name == *name)
    }
}

fn entrant_at(server: &FixedBackend) -> Entrant {
    let (name, location) = (server.name.clone(), Some(server.location.clone()));
    Entrant { name, location, weight: server.weight() }
}

fn join(known: &[FixedBackend]) -> String {
    known.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `server-` and six letters or digits.
fn random(rng: &mut fastrand::Rng) -> Option<Hostname> {
    let mut name = String::from("server-");
    name.extend(std::iter::repeat_with(|| rng.digit(36)).take(6));
    Hostname::try_from(name).ok()
}
