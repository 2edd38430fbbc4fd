//! What a replica in doubt makes `lb` ask the Swarm.

use std::sync::Arc;

use super::site::Site;

/// A running replica.
pub(crate) struct Inspector {
    pub(super) site: Arc<Site>,
    /// The id of its service.
    pub(super) service: String,
}

impl Inspector {
    /// A probe has failed: the tasks of the service are read soon, because Swarm sends no events about them.
    pub(crate) fn doubt(&self) {
        self.site.doubt(&self.service);
    }
}
