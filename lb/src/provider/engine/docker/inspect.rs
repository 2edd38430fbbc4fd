//! What the engine and the kernel show of one container: whether it is stopped.

use std::sync::Arc;

use super::main_process;
use super::site::Site;

/// A running container.
pub(crate) struct Inspector {
    pub(super) site: Arc<Site>,
    pub(super) id: String,
}

impl Inspector {
    /// Whether the container is paused, or its main process is stopped (SIGSTOP) and a process of this machine.
    pub(crate) async fn is_stopped(&self) -> bool {
        let Ok(inspected) = self.site.engine.inspect(&self.id).await else { return false };
        let is_paused = inspected.state.as_ref().and_then(|state| state.paused) == Some(true);
        is_paused || main_process::is_stopped(&inspected, &self.id)
    }
}
