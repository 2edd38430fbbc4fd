//! Whether calls that overlapped can have happened one after the other: a checker of linearizability (Wing and Gong's search, with a
//! memory of what was tried).
//!
//! It is our own because the crate stateright, which has one, brings a crate that `deny.toml` keeps out.

use std::collections::HashSet;
use std::hash::Hash;

/// What calls read and change.
pub(crate) trait Model: Clone + Eq + Hash {
    /// A call, with what its caller was told.
    type Call;

    /// The state after this call; `None` if the caller cannot have been told that in this state.
    fn after(&self, call: &Self::Call) -> Option<Self>;

    /// Whether this call changes nothing, whatever the state is. A write of what is there already is not of this kind: it also
    /// overwrites what others write meanwhile.
    fn only_reads(call: &Self::Call) -> bool;
}

/// A call, and when its caller waited for it.
#[derive(Clone, Debug)]
pub(crate) struct Span<C> {
    pub(crate) begun: u64,
    /// `None` if the caller was not told what became of it: it may happen at any later time, or never.
    pub(crate) ended: Option<u64>,
    pub(crate) call: C,
}

/// An order of the calls, as indices, in which each takes effect at one moment between its begin and its end, and each caller was told the
/// truth. `None` if there is no such order.
pub(crate) fn order<M: Model>(start: &M, calls: &[Span<M::Call>]) -> Option<Vec<usize>> {
    assert!(calls.len() <= 128, "{} calls do not fit the set of those that are done", calls.len());
    let mut search = Search { calls, tried: HashSet::new(), order: Vec::new() };
    search.go_on(0, start).then_some(search.order)
}

struct Search<'a, M: Model> {
    calls: &'a [Span<M::Call>],
    /// Which calls were done, and the state then.
    tried: HashSet<(u128, M)>,
    order: Vec<usize>,
}

impl<M: Model> Search<'_, M> {
    fn go_on(&mut self, done: u128, state: &M) -> bool {
        let is_open = |&at: &usize| done & (1 << at) == 0;
        let open: Vec<usize> = (0..self.calls.len()).filter(is_open).collect();
        // No call can come before one that had ended when it began.
        let Some(first_end) = open.iter().filter_map(|&at| self.calls[at].ended).min() else { return true };
        if !self.tried.insert((done, state.clone())) {
            return false;
        }
        let can_be_next = open.into_iter().filter(|&at| self.calls[at].begun <= first_end);
        let mut next: Vec<(usize, M)> =
            can_be_next.filter_map(|at| Some((at, state.after(&self.calls[at].call)?))).collect();
        // If any order is right, so is the one in which a read that can be next comes first.
        if let Some(read) = next.iter().position(|(at, _)| M::only_reads(&self.calls[*at].call)) {
            next = vec![next.swap_remove(read)];
        }
        for (at, next) in next {
            self.order.push(at);
            if self.go_on(done | 1 << at, &next) {
                return true;
            }
            self.order.pop();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number.
    impl Model for u32 {
        type Call = Call;

        fn after(&self, call: &Call) -> Option<u32> {
            match call {
                Call::Write(value) => Some(*value),
                Call::Read(value) => (value == self).then_some(*self),
                Call::Swap(old, new) => (old == self).then_some(*new),
            }
        }

        fn only_reads(call: &Call) -> bool {
            matches!(call, Call::Read(_))
        }
    }

    #[derive(Clone, Debug)]
    pub(crate) enum Call {
        Write(u32),
        Read(u32),
        Swap(u32, u32),
    }
    use Call::{Read, Swap, Write};

    fn found(calls: &[(u64, u64, Call)]) -> Option<Vec<usize>> {
        let span = |(begun, ended, call): &(u64, u64, Call)| {
            let ended = (*ended != u64::MAX).then_some(*ended);
            Span { begun: *begun, ended, call: call.clone() }
        };
        order(&0, &calls.iter().map(span).collect::<Vec<_>>())
    }

    #[test]
    fn calls_that_overlap_may_have_happened_in_any_order() {
        assert_eq!(found(&[]), Some(vec![]));
        assert_eq!(found(&[(0, 9, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]), Some(vec![1, 0, 2]));
        assert_eq!(found(&[(0, 9, Swap(2, 1)), (0, 9, Write(2)), (10, 11, Read(1))]), Some(vec![1, 0, 2]));
    }

    #[test]
    fn a_write_of_what_is_there_already_may_have_overwritten_another_one() {
        assert_eq!(found(&[(0, 9, Write(0)), (0, 9, Write(1)), (10, 11, Read(0))]), Some(vec![1, 0, 2]));
    }

    #[test]
    fn a_value_that_was_overwritten_is_not_read_again() {
        assert_eq!(found(&[(0, 1, Write(1)), (2, 3, Read(0))]), None);
        assert_eq!(found(&[(0, 9, Write(1)), (1, 2, Read(1)), (3, 4, Read(0))]), None);
        assert_eq!(found(&[(0, 1, Write(1)), (2, 3, Write(2)), (4, 5, Read(1))]), None);
    }

    #[test]
    fn only_one_of_two_that_expect_the_same_can_succeed() {
        assert_eq!(found(&[(0, 9, Swap(0, 1)), (0, 9, Swap(0, 2))]), None);
        assert!(found(&[(0, 9, Swap(0, 1)), (0, 9, Swap(1, 2))]).is_some());
    }

    #[test]
    fn a_call_of_which_nothing_is_known_may_have_happened_or_not_but_not_before_it_began() {
        let lost = u64::MAX;
        assert!(found(&[(0, lost, Write(1)), (5, 6, Read(1))]).is_some());
        assert!(found(&[(0, lost, Write(1)), (5, 6, Read(0))]).is_some());
        assert_eq!(found(&[(0, lost, Write(1)), (5, 6, Read(1)), (7, 8, Read(0))]), None);
        assert_eq!(found(&[(7, lost, Write(1)), (5, 6, Read(1))]), None);
    }

    #[test]
    fn many_calls_at_once_are_decided_in_a_moment() {
        let mut calls: Vec<_> = (0..24).map(|value| (0, 100, Swap(23 - value, 24 - value))).collect();
        calls.push((101, 102, Read(24)));
        assert_eq!(found(&calls).map(|order| order.len()), Some(25));
        calls.push((103, 104, Read(23)));
        assert_eq!(found(&calls), None);
    }
}
