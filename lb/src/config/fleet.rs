//! `lb fleet`: which fleet, and where.

use super::args::FleetRm;
use super::{Problems, environment};

/// The fleet that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The address of the engine, as in `DOCKER_HOST`; `None` for the local one.
    pub host: Option<String>,
    /// Its name.
    pub fleet: String,
    /// Its network.
    pub network: String,
}

impl FleetRm {
    /// Checks the flags.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(self) -> Result<Removal, Problems> {
        let mut problems = Problems::default();
        let removal = Removal {
            host: environment::docker_host(),
            fleet: problems.take("fleet", self.fleet.map(|fleet| fleet.to_string()), String::new()),
            network: problems.take("network", self.network, String::new()),
        };
        problems.or(removal, &self.from_environment)
    }
}
