//! Follows the file of backends: what it says is made in one step, as a reload makes it, or nothing is.
//!
//! A file that is wrong, names nothing or is gone changes nothing: that is more often a mishap than a wish. What commands have changed
//! holds until the file says something else. What it says and the fleet refuses is tried again, for another command may have been in the
//! way; the file is not looked at for that. A try gives way to a reload, which may be what helps, and to a successor.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use proto::control::{Failure, FailureKind, Reloaded};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::said::{self, List, Said};
use super::{AGAIN, Reloader};
use crate::config::Source;
use crate::control::{Compared, Named, Wish, WishedSlots};

impl Reloader {
    /// Makes what the file of backends says whenever it has changed, until this is dropped. Another file may be named meanwhile.
    pub(super) async fn follow_backends(
        self: Arc<Self>,
        mut named: watch::Receiver<Option<PathBuf>>,
    ) -> Infallible {
        loop {
            let file = named.borrow_and_update().clone();
            // The name changes only while a reload is under way, and never while one is made here.
            tokio::select! {
                never = self.follow(file) => match never {},
                Ok(()) = named.changed() => {}
            }
        }
    }

    async fn follow(&self, file: Option<PathBuf>) -> Infallible {
        let Some(file) = file else { return std::future::pending().await };
        self.handles.plane.metrics.backends_file.begin();
        let (said, heard) = watch::channel(None);
        tokio::select! {
            never = said::follow(file.clone(), &said) => never,
            never = self.make_each(&file, heard) => never,
        }
    }

    /// Makes what a file says, one time after the other.
    async fn make_each(&self, file: &Path, mut heard: watch::Receiver<Option<Said>>) -> Infallible {
        let mut is_settled = true;
        loop {
            if is_settled {
                // Its sender outlives this.
                let _ = heard.changed().await;
            } else {
                let _ = timeout(AGAIN, heard.changed()).await;
            }
            let said = heard.borrow_and_update().clone();
            is_settled = match said {
                Some(Ok(list)) => self.take(file, &list).await,
                Some(Err(reason)) => {
                    self.refuse(file, &reason);
                    true
                }
                None => true,
            };
        }
    }

    /// Makes what the file says. False if that has to be tried again although it says nothing else.
    async fn take(&self, file: &Path, list: &List) -> bool {
        let reads = &self.handles.plane.metrics.backends_file;
        match self.make_or_give_way(file, list).await {
            Ok(true) => reads.applied(),
            Ok(false) => reads.recovered(),
            Err(refusal) if refusal.kind == FailureKind::Unavailable => {
                debug!(file = %file.display(), error = refusal.message(), "the file of backends is made later");
                return false;
            }
            Err(refusal) => {
                self.refuse(file, refusal.message());
                return false;
            }
        }
        true
    }

    /// Tells why what the file says is not made.
    fn refuse(&self, file: &Path, reason: &str) {
        if self.handles.plane.metrics.backends_file.refused(reason) {
            for error in reason.lines() {
                warn!(file = %file.display(), error, "the file of backends is not taken, and nothing is changed");
            }
        }
    }

    /// Makes what the file says when no reload wants to be made instead. False if it was made before.
    async fn make_or_give_way(&self, file: &Path, list: &List) -> Result<bool, Failure> {
        loop {
            let gives_way = CancellationToken::new();
            let mut making = pin!(self.make(file, list, &gives_way));
            let made = tokio::select! {
                made = &mut making => made,
                () = self.last.claimed() => {
                    gives_way.cancel();
                    making.await
                }
            };
            if made.is_ok() || !gives_way.is_cancelled() {
                return made;
            }
            debug!(file = %file.display(), "the file of backends has given way to a reload");
        }
    }

    /// Makes what the file says, or gives it up when it `gives_way`. False if it was made before.
    async fn make(&self, file: &Path, list: &List, gives_way: &CancellationToken) -> Result<bool, Failure> {
        let mut applied = self.last.borrow().await;
        let List { backends, read } = list;
        if *read <= applied.read {
            debug!(file = %file.display(), "the file of backends has been loaded since it was read here");
            return Ok(false);
        }
        let Source::Fixed(known) = &applied.config.source else { return Ok(false) };
        if *known == *backends {
            return Ok(false);
        }
        let next = applied.with_backends(backends.clone());
        let named = Named { slots: backends.clone(), known: Some(backends.clone()) };
        let changed = ["backends-file".to_owned()].into();
        let wish = Wish { slots: WishedSlots::Named(named), mapping: None, changed };
        let change = self.begin(wish, Some(gives_way)).await?;
        let Compared { settings, slots, plan, .. } = self.carry_out(change, Some(gives_way)).await?;
        *applied = next;
        let reloaded =
            Reloaded { reloaded: file.display().to_string(), dry_run: false, settings, slots, plan };
        self.tell("the file of backends is taken", &reloaded);
        Ok(true)
    }
}
