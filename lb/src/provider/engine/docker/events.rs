//! What happens to the containers of the fleet, told to whoever looks after one.
//!
//! The engine's event stream tells it within milliseconds, but can end, or go silent, without a word. So it is subscribed to
//! anew now and then, and every few seconds all containers are listed: whatever the stream has not told shows there.
//! A keeper goes by whichever comes first, and ends with it; that is why nothing has to be told only once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum as Type};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::api::Trouble;
use super::site::{Notice, Site};
use super::writer::is_entry;
use crate::provider::engine::identity::FLEET;

/// The time between two lists.
const RESYNC: Duration = Duration::from_secs(3);
/// The time between two looks for an engine that is away.
const ABSENCE: Duration = Duration::from_millis(500);
/// How long one subscription is used.
const RENEWAL: Duration = Duration::from_secs(60);
/// The pause before a subscription that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Listens to the engine for as long as the program runs.
pub(super) struct Ears {
    pub(super) site: Arc<Site>,
    /// Says that the record of the fleet has to be looked at.
    pub(super) doubts: Arc<Notify>,
}

impl Ears {
    /// Passes on what the event stream says.
    pub(super) async fn listen(&self) {
        let mut is_silent = false;
        loop {
            match timeout(RENEWAL, self.follow(&mut is_silent)).await {
                Err(_) => debug!("the event stream is renewed"),
                Ok(trouble) => {
                    if !std::mem::replace(&mut is_silent, true) {
                        warn!("the engine tells no events: {trouble}");
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows one subscription to its end; why it ended.
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
        let fleet = &self.site.settings.fleet;
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
        // It fails only if there is no container to be looked after.
        let _ = self.site.notices.send(notice);
    }

    /// Lists all containers every few seconds, and whenever the engine may have gone, and has those removed that nobody
    /// looks after.
    pub(super) async fn look(&self) {
        loop {
            match self.resync().await {
                Ok(()) if self.site.set_away(false) => info!("the engine is back"),
                Err(trouble) if trouble.is_absence() => {
                    if !self.site.set_away(true) {
                        warn!(
                            "the engine is away: connections are served, but nothing can be replaced: {trouble}"
                        );
                    }
                }
                Err(trouble) => warn!("{trouble}"),
                Ok(()) => {}
            }
            let pause = if self.site.is_away() { ABSENCE } else { RESYNC };
            // Either ends the pause.
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
