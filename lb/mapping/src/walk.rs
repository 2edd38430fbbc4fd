//! A walk around a circle of owners. Each owner comes once.

use crate::member::Count;

/// A place on the circle.
pub(crate) trait Owner: Copy {
    /// The ordinal of the member that owns it.
    fn owner(self) -> usize;
}

impl Owner for u32 {
    fn owner(self) -> usize {
        self as usize
    }
}

/// The members that are met on a walk around `owners`. The first costs no allocation, the second one byte for each member.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a, T> {
    owners: &'a [T],
    /// The next place; it may be past the end by less than the number of places.
    at: usize,
    step: usize,
    /// The places that the walk has not come to yet.
    unmet: usize,
    last: Option<usize>,
    /// The members that came before `last`.
    pub(crate) seen: Vec<bool>,
    members: usize,
    /// The members that are still to come.
    left: usize,
}

impl<'a, T: Owner> Walk<'a, T> {
    /// Walks once around `owners` from `start`. It stops as soon as all members that own keys have been met.
    pub(crate) fn clockwise(owners: &'a [T], start: usize, count: Count) -> Self {
        Self::in_steps(1, owners, start, count)
    }

    /// Walks in steps of this many places. To come to each of them, the step has to be below their number and without a
    /// divisor in common with it.
    pub(crate) fn in_steps(step: usize, owners: &'a [T], at: usize, count: Count) -> Self {
        let Count { members, present } = count;
        Self { owners, at, step, unmet: owners.len(), last: None, seen: Vec::new(), members, left: present }
    }

    /// The owner of the next place, which may have been met before.
    fn meet(&mut self) -> Option<usize> {
        self.unmet = self.unmet.checked_sub(1)?;
        let at = self.at.checked_sub(self.owners.len()).unwrap_or(self.at);
        self.at = at + self.step;
        self.owners.get(at).map(|place| place.owner())
    }
}

impl<T: Owner> Iterator for Walk<'_, T> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        if let Some(last) = self.last {
            self.seen.resize(self.members, false);
            self.seen[last] = true;
        }
        self.last = loop {
            let owner = self.meet()?;
            if self.seen.get(owner) != Some(&true) {
                break Some(owner);
            }
        };
        self.last
    }
}
