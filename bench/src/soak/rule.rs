//! The rule by which a fault explains a failed request. Pure; a request that no fault explains is a fault of the load balancer.
//!
//! A request goes to the first of its candidates that is in rotation. A fault on a slot explains its failure in two cases:
//!
//! 1. **It was under way on the victim, or it began before the fault could be noticed.** It began before `noticed`, it ended after
//!    `struck`, and every earlier candidate was away. A replica that is killed is noticed when it is dead, since a connection to it
//!    is refused from then on; one that is stopped is noticed when the control port no longer shows it as up, or when it goes on.
//!    A slot that is removed costs only what is still open when its drain has ended.
//! 2. **No replica was left.** Every candidate that is tried was away while it was under way.
//!
//! While keys move (`add`, `rm`, another mapping), the candidates are not known, and each slot counts as the first. Some failures no fault explains: a wrong
//! answer, a data port that refuses, and a connection that hangs although its replica is dead.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::load::Failure;

/// Candidates that are tried (`--connect-attempts`).
const ATTEMPTS: usize = 3;
/// A request that was older than this when the fault struck hung before, and not because of it. Most take milliseconds, but
/// the machine may be busy.
const OLD: Duration = Duration::from_secs(5);
/// What fails later than this after a fault was over has another reason.
const LATE: Duration = Duration::from_secs(5);
/// How long sessions of a removed slot may go on.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);

/// How a fault ends what is under way on its victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The replica died.
    Death,
    /// The replica did not answer, and may have been replaced later.
    Silence,
    /// The slot was removed: `lb` resets what is open when the drain has ended.
    Removal,
    /// The slot was removed, and connections are handed over: its replica ends what is open, as it likes.
    Retirement,
}

/// A fault on one slot. Times are since the beginning of the soak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The number of the fault in its round.
    pub(crate) fault: usize,
    pub(crate) cause: Cause,
    pub(crate) slot: String,
    /// When the fault began.
    pub(crate) struck: Duration,
    /// A request that begins later must not fail because of it.
    pub(crate) noticed: Duration,
    /// When the slot was in rotation again; `Duration::MAX` if it was not.
    pub(crate) back: Duration,
}

/// The slots that a request can go to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Candidates<'a> {
    /// By their names, in the order in which they are tried.
    Known(&'a [String]),
    /// Any of this many slots, since keys moved while it was under way.
    Any(usize),
}

/// A request that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost<'a> {
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    pub(crate) failure: Failure,
    pub(crate) candidates: Candidates<'a>,
    /// Whether its client is slow or keeps its session, so that a second is nothing.
    pub(crate) is_slow: bool,
}

/// The number of the fault that explains a failure.
pub(crate) fn explanation(lost: &Lost<'_>, windows: &[Window]) -> Option<usize> {
    if !is_explicable(lost.failure) {
        return None;
    }
    let direct = windows.iter().find(|window| window.costs(lost) && is_reached(lost, window, windows));
    let fault = direct.map(|window| window.fault);
    fault.or_else(|| none_left(lost, windows))
}

/// Whether any fault can be the reason for a failure of this kind.
fn is_explicable(failure: Failure) -> bool {
    matches!(failure, Failure::Reset | Failure::Closed | Failure::Timeout | Failure::Status(503))
}

impl Window {
    /// Whether a request on this slot can have failed because of the fault.
    fn costs(&self, lost: &Lost<'_>) -> bool {
        let is_in_time = lost.begun <= self.noticed && lost.ended >= self.struck;
        let is_young = lost.is_slow || self.struck.saturating_sub(lost.begun) <= OLD;
        let is_drained = lost.ended >= self.struck.saturating_add(DRAIN);
        is_in_time
            && match self.cause {
                Cause::Death => {
                    let is_soon = lost.ended <= self.noticed.saturating_add(LATE);
                    is_young && is_soon && matches!(lost.failure, Failure::Reset | Failure::Closed)
                }
                Cause::Silence => {
                    let is_soon = lost.ended <= self.back.saturating_add(LATE);
                    is_young && is_soon && !matches!(lost.failure, Failure::Status(_))
                }
                Cause::Removal => is_drained && lost.failure == Failure::Reset,
                Cause::Retirement => is_drained && matches!(lost.failure, Failure::Reset | Failure::Closed),
            }
    }

    /// Whether the slot was away at some time while the request was under way.
    fn is_away(&self, slot: &str, lost: &Lost<'_>) -> bool {
        self.slot == slot && self.struck <= lost.ended && lost.begun <= self.back
    }
}

/// Whether the request can have gone to the slot of `window`: every earlier candidate was away.
fn is_reached(lost: &Lost<'_>, window: &Window, windows: &[Window]) -> bool {
    let Candidates::Known(candidates) = lost.candidates else { return true };
    let Some(place) = candidates.iter().position(|slot| *slot == window.slot) else { return false };
    candidates[..place].iter().all(|slot| windows.iter().any(|window| window.is_away(slot, lost)))
}

/// A fault on a candidate, the first if that is known, if all that are tried were away.
fn none_left(lost: &Lost<'_>, windows: &[Window]) -> Option<usize> {
    let away = |slot: &String| windows.iter().find(|window| window.is_away(slot, lost));
    let faults: Option<Vec<usize>> = match lost.candidates {
        Candidates::Known(slots) => {
            slots.iter().take(ATTEMPTS).map(|slot| away(slot).map(|window| window.fault)).collect()
        }
        Candidates::Any(slots) => {
            let names: BTreeSet<&String> = windows.iter().map(|window| &window.slot).collect();
            let faults: Vec<usize> = names.into_iter().filter_map(away).map(|window| window.fault).collect();
            (faults.len() >= slots.min(ATTEMPTS)).then_some(faults)
        }
    };
    faults?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn window(fault: usize, cause: Cause, slot: &str, [struck, noticed, back]: [u64; 3]) -> Window {
        let (struck, noticed, back) = (ms(struck), ms(noticed), ms(back));
        Window { fault, cause, slot: slot.to_owned(), struck, noticed, back }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// A failure of a request with these candidates.
    fn found(
        (begun, ended): (u64, u64),
        failure: Failure,
        candidates: &[&str],
        windows: &[Window],
    ) -> Option<usize> {
        let candidates = names(candidates);
        let (begun, ended) = (ms(begun), ms(ended));
        let candidates = Candidates::Known(&candidates);
        let lost = Lost { begun, ended, failure, candidates, is_slow: false };
        explanation(&lost, windows)
    }

    #[test]
    fn a_kill_explains_what_was_under_way_on_its_victim() {
        let kill = [window(4, Cause::Death, "a", [1000, 1002, 1020])];
        assert_eq!(found((995, 1003), Failure::Reset, &["a", "b"], &kill), Some(4));
        assert_eq!(found((1001, 1003), Failure::Closed, &["a", "b"], &kill), Some(4));
    }

    #[test]
    fn a_kill_explains_nothing_else() {
        let kill = [window(0, Cause::Death, "a", [1000, 1002, 1020])];
        // On another slot, begun after the death, ended before it, hung before it, and hung after it.
        assert_eq!(found((995, 1003), Failure::Reset, &["b", "a"], &kill), None);
        assert_eq!(found((1003, 1005), Failure::Reset, &["a", "b"], &kill), None);
        assert_eq!(found((990, 999), Failure::Reset, &["a", "b"], &kill), None);
        assert_eq!(
            found((0, 1003), Failure::Reset, &["a", "b"], &[window(0, Cause::Death, "a", [7000; 3])]),
            None
        );
        assert_eq!(
            found((0, 7003), Failure::Reset, &["a", "b"], &[window(0, Cause::Death, "a", [7000; 3])]),
            None
        );
        assert_eq!(found((995, 6000), Failure::Timeout, &["a", "b"], &kill), None);
        assert_eq!(found((995, 1003), Failure::Status(503), &["a", "b"], &kill), None);
    }

    #[test]
    fn a_stop_explains_what_began_before_it_was_noticed() {
        let stop = [window(1, Cause::Silence, "a", [1000, 2500, 5000])];
        assert_eq!(found((2400, 7400), Failure::Timeout, &["a", "b"], &stop), Some(1));
        assert_eq!(found((999, 4000), Failure::Reset, &["a", "b"], &stop), Some(1));
        assert_eq!(found((2600, 7600), Failure::Timeout, &["a", "b"], &stop), None);
        assert_eq!(found((2400, 7400), Failure::Timeout, &["b", "a"], &stop), None);
    }

    #[test]
    fn a_removal_explains_only_what_its_drain_cuts() {
        let removal = [window(2, Cause::Removal, "a", [1000, 1010, 9000])];
        assert_eq!(found((900, 2100), Failure::Reset, &["a"], &removal), Some(2));
        assert_eq!(found((900, 1020), Failure::Reset, &["a", "b"], &removal), None);
        assert_eq!(found((1011, 2500), Failure::Reset, &["a", "b"], &removal), None);
        // A cut answer must not look complete, unless the replica itself ends it.
        assert_eq!(found((900, 2100), Failure::Closed, &["a", "b"], &removal), None);
        let retirement = [window(2, Cause::Retirement, "a", [1000, 1010, 9000])];
        assert_eq!(found((900, 2100), Failure::Closed, &["a", "b"], &retirement), Some(2));
        assert_eq!(found((900, 1020), Failure::Closed, &["a", "b"], &retirement), None);
    }

    #[test]
    fn a_stand_in_is_reached_only_while_those_before_it_are_away() {
        let both = [
            window(0, Cause::Silence, "a", [500, 700, 2000]),
            window(1, Cause::Death, "b", [1000, 1002, 1020]),
        ];
        assert_eq!(found((995, 1003), Failure::Reset, &["a", "b", "c"], &both), Some(1));
        assert_eq!(found((995, 1003), Failure::Reset, &["c", "a", "b"], &both), None);
        assert_eq!(found((995, 1003), Failure::Reset, &["a", "b", "c"], &both[1..]), None);
    }

    #[test]
    fn no_replica_is_left_when_all_candidates_that_are_tried_are_away() {
        let all = ["a", "b", "c"].map(|slot| window(3, Cause::Death, slot, [1000, 1002, 1020]));
        assert_eq!(found((1010, 1011), Failure::Status(503), &["b", "a", "c"], &all), Some(3));
        assert_eq!(found((1021, 1022), Failure::Status(503), &["b", "a", "c"], &all), None);
        assert_eq!(found((1010, 1011), Failure::Status(503), &["b", "a", "c"], &all[..2]), None);
        // A fourth candidate is not tried.
        assert_eq!(found((1010, 1011), Failure::Status(503), &["b", "a", "c", "d"], &all), Some(3));
    }

    #[test]
    fn some_failures_no_fault_explains() {
        let all = ["a", "b", "c"].map(|slot| window(3, Cause::Silence, slot, [1000, 2000, 3000]));
        let never =
            [Failure::Wrong, Failure::Refused, Failure::Unreachable, Failure::NotSent, Failure::Local];
        for failure in never.into_iter().chain([Failure::Status(500), Failure::Status(400)]) {
            assert_eq!(found((1500, 1600), failure, &["a", "b", "c"], &all), None, "{failure}");
        }
        assert_eq!(found((1500, 1600), Failure::Reset, &["a"], &[]), None);
    }

    #[test]
    fn any_slot_counts_while_keys_move() {
        let kill = [window(0, Cause::Death, "b", [1000, 1002, 1020])];
        let lost = Lost {
            begun: ms(995),
            ended: ms(1003),
            failure: Failure::Reset,
            candidates: Candidates::Any(3),
            is_slow: false,
        };
        assert_eq!(explanation(&lost, &kill), Some(0));
        // A slow client may have begun long before, and notices at once.
        let slow = Lost { begun: ms(0), ended: ms(8000), is_slow: true, ..lost };
        let kill = [window(0, Cause::Death, "b", [7990, 7992, 8020])];
        assert_eq!(explanation(&slow, &kill), Some(0));
        assert_eq!(explanation(&Lost { is_slow: false, ..slow }, &kill), None);
        assert_eq!(explanation(&Lost { ended: ms(13_000), ..slow }, &kill), None);
        let all = ["a", "b", "c"].map(|slot| window(3, Cause::Death, slot, [900, 902, 1020]));
        let refused = Lost { failure: Failure::Status(503), ..lost };
        assert_eq!((explanation(&refused, &all), explanation(&refused, &all[..2])), (Some(3), None));
    }
}
