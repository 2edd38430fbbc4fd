//! Commands that are given up before they are done.

use proto::control::FailureKind;

use super::{Docket, Fleet, Turn};
use crate::event::CommandId;

impl Fleet {
    /// Gives a command up. If it is done, or others are asked about it just now, nothing happens: it is answered as ever.
    pub(in crate::fleet) fn cancel(&mut self, command: CommandId) {
        let is_it = |turn: &Turn| turn.intent.command() == Some(command);
        let refusal = FailureKind::Unavailable.because("it has given way to something else; try again");
        let Docket { queue, checking, proposal, .. } = &mut self.docket;
        if proposal.as_ref().is_some_and(|proposal| is_it(&proposal.turn)) {
            return;
        }
        let waiting = queue.iter().position(is_it).and_then(|at| queue.remove(at));
        let checked = checking.extract_if(.., |(turn, _)| is_it(turn)).next().map(|(turn, _)| turn);
        match waiting.or(checked) {
            Some(turn) => self.refuse(&turn.intent, refusal),
            None => self.abandon_add(command, None, refusal),
        }
    }
}
