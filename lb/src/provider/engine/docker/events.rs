//! News about the containers of the fleet, for their keepers.
//!
//! The engine's event stream reports within milliseconds, but it can end or fall silent without an error. So it is renewed every
//! minute, and every few seconds all containers are listed: the list shows what the stream missed. A keeper acts on the first
//! sign of an end and ignores the rest, so the same end may be reported twice.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum as Type};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::site::{Notice, Site};
use super::writer::is_entry;
use crate::provider::engine::call::Trouble;
use crate::provider::engine::identity::FLEET;

/// The time between two lists.
const RESYNC: Duration = Duration::from_secs(3);
/// The time between two lists while the engine is away.
const ABSENCE: Duration = Duration::from_millis(500);
/// How long one subscription to events lasts.
const RENEWAL: Duration = Duration::from_secs(60);
/// The pause after a subscription that failed.
const RETRY: Duration = Duration::from_millis(200);

/// Listens to the engine until the program ends.
pub(super) struct Watcher {
    pub(super) site: Arc<Site>,
    /// Signals that a volume of the record was created or removed.
    pub(super) doubts: Arc<Notify>,
}

impl Watcher {
    /// Follows the event stream, and passes on what it reports.
    pub(super) async fn listen(&self) {
        let mut is_silent = false;
        loop {
            match timeout(RENEWAL, self.follow(&mut is_silent)).await {
                Err(_) => debug!("the event stream is renewed"),
                Ok(trouble) => {
                    if !std::mem::replace(&mut is_silent, true) {
                        warn!(error = %trouble, "the engine sends no events");
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows one subscription; returns why it ended.
    async fn follow(&self, is_silent: &mut bool) -> String {
        let mut events = pin!(self.site.engine.events());
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    *is_silent = false;
                    self.tell(&event);
                }
                Some(Err(trouble)) => return trouble.to_string(),
                None => return "the stream has ended".to_owned(),
            }
        }
    }

    fn tell(&self, event: &EventMessage) {
        let Some(actor) = &event.actor else { return };
        let (Some(id), Some(attributes)) = (actor.id.as_deref(), &actor.attributes) else { return };
        let fleet = &self.site.settings.common.fleet;
        let is_ours = event.typ == Some(Type::CONTAINER) && attributes.get(FLEET) == Some(fleet);
        match event.action.as_deref() {
            Some("oom") if is_ours => self.notify(Notice::OutOfMemory(id.into())),
            Some("die") if is_ours => {
                let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
                self.notify(Notice::Died(id.into(), code));
            }
            Some("create" | "destroy") if event.typ == Some(Type::VOLUME) && is_entry(id, fleet) => {
                self.doubts.notify_one();
            }
            _ => {}
        }
    }

    fn notify(&self, notice: Notice) {
        // It fails only if there is no keeper.
        let _ = self.site.notices.send(notice);
    }

    /// Lists all containers every few seconds, and whenever the engine may be away. Removes those that have no keeper.
    pub(super) async fn look(&self) {
        loop {
            match self.resync().await {
                Ok(()) if self.site.set_away(false) => info!("the engine is back"),
                Err(trouble) if trouble.is_absence() => {
                    if !self.site.set_away(true) {
                        warn!(
                            error = %trouble, "the engine is away: connections are served, but nothing can be replaced"
                        );
                    }
                }
                Err(trouble) => warn!(error = %trouble, "the containers of the fleet cannot be listed"),
                Ok(()) => {}
            }
            let pause = if self.site.is_away() { ABSENCE } else { RESYNC };
            // A doubt ends the pause early.
            let _ = timeout(pause, self.site.doubted()).await;
        }
    }

    async fn resync(&self) -> Result<(), Trouble> {
        let asked = Instant::now();
        let containers = Arc::new(self.site.containers().await?);
        self.notify(Notice::Seen(asked, Arc::clone(&containers)));
        let site = Arc::clone(&self.site);
        self.site.sweeps.spawn(async move { site.sweep(&containers).await });
        Ok(())
    }
}
