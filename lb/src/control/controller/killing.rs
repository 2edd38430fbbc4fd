//! The command `kill`: a replica is killed, so that its healing can be seen.
//!
//! The fleet is not told. It learns of the death as it does of any other.

use fleet::View;
use proto::control::{Answer, Body, Failure, FailureKind, Hostname, Killed};
use tokio::sync::oneshot;

use super::Controller;
use super::commands::reply;
use crate::provider;

impl Controller {
    /// Kills a replica that `lb` has started, a spare or a draining one, too. The answer comes when it is killed, which is earlier than its
    /// end is noticed.
    pub(super) fn kill(&self, name: &Hostname, sender: oneshot::Sender<Answer>) {
        let (killed, outcome) = match self.order_death(name) {
            Ok(ordered) => ordered,
            Err(refusal) => return reply(sender, Err(refusal)),
        };
        tokio::spawn(async move {
            // Without an outcome it has ended meanwhile: nearly always because it was killed.
            let result = match outcome.await {
                Ok(Err(trouble)) => {
                    let what = format!("{} was not killed: {trouble}", killed.killed);
                    Err(FailureKind::StartFailed.because(what))
                }
                Ok(Ok(())) | Err(_) => Ok(Body::Killed(killed)),
            };
            reply(sender, result);
        });
    }

    fn order_death(&self, name: &Hostname) -> Result<(Killed, provider::Killed), Failure> {
        let refuse = |why: String| FailureKind::BadRequest.because(why);
        let unknown =
            || refuse(format!("hostname {name} is unknown; `rep` lists the hostnames that there are"));
        let View { slot, hostname, replica, .. } = self.named(name).ok_or_else(unknown)?;
        self.setup.provider.can_kill().map_err(|why| refuse(format!("{hostname} {why}")))?;
        let running =
            replica.and_then(|id| self.running.get(&id)).filter(|running| running.replica.is_some());
        let running = running
            .ok_or_else(|| refuse(format!("{hostname} does not run: expected a replica that runs")))?;
        let outcome = running.keeper.kill().ok_or_else(|| refuse(format!("{hostname} is ending already")))?;
        Ok((Killed { killed: hostname.to_string(), slot: slot.map(|slot| slot.name.to_string()) }, outcome))
    }

    /// The slot or spare of this name, or with a replica of this hostname. One that drains has given its name up, so it comes last.
    fn named(&self, name: &Hostname) -> Option<View> {
        let mut all = self.fleet.slots().chain(self.fleet.spares()).chain(self.fleet.in_passing());
        all.find(|view| view.hostname == *name || view.slot.as_ref().is_some_and(|slot| slot.name == *name))
    }
}
