//! What to simulate.

use std::path::PathBuf;

use super::ids::Ids;
use super::model::Contender;
use super::steps::Stage;

/// The most bars that a chart may have: more of them cannot be read.
pub const MOST_BARS: usize = 240;

/// What to simulate, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mappings to compare.
    pub contenders: Vec<Contender>,
    /// The fleet at first and after each step; every contender has room for each.
    pub stages: Vec<Stage>,
    /// The requests.
    pub ids: Ids,
    /// Whether to answer in JSON.
    pub json: bool,
    /// The file for a chart of shares and moves.
    pub chart: Option<PathBuf>,
    /// The file for a picture of the ring.
    pub draw: Option<PathBuf>,
}

impl Plan {
    /// How many bars its chart has: with each mapping, one for each server at first and one for each step.
    #[must_use]
    pub fn bars(&self) -> usize {
        let servers = self.stages.first().map_or(0, |stage| stage.members.len());
        self.contenders.len() * (servers + self.stages.len().saturating_sub(1))
    }
}
