//! Connections that began while a limit was off. They are counted from the moment at which a reload switches it on, also if there are
//! more of them than it allows: they stay, and no more are let in.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Admission, Places, Seat, Source};

/// What a connection holds beside its places, because it is counted only since later. Most hold nothing.
#[derive(Debug, Default)]
pub(in crate::data) struct Late(Option<Box<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    of_all: Option<Forced>,
    of_source: Option<Seat>,
}

/// A place among all connections, which was taken whether or not there was one. Dropping it gives a place back.
#[derive(Debug)]
struct Forced(Arc<Semaphore>);

impl Late {
    /// Counts a connection of this source, which holds these places, where a limit counts that was off when it began. Call it on a
    /// runtime.
    pub(in crate::data) fn catch_up(
        &mut self,
        places: Option<&Places>,
        admission: Option<&Admission>,
        source: Source,
    ) {
        let Some(Admission { sources, places: all, .. }) = admission else { return };
        if let Some(sources) = sources {
            let first = places.and_then(|places| places.of_source.as_ref());
            let late = self.0.as_ref().and_then(|taken| taken.of_source.as_ref());
            if !first.into_iter().chain(late).any(|seat| seat.is_in(sources)) {
                self.0.get_or_insert_default().of_source = Some(sources.enter_anyway(source));
            }
        }
        if let Some(all) = all {
            let first = places.and_then(|places| places.of_all.as_ref()).map(OwnedSemaphorePermit::semaphore);
            let late = self.0.as_ref().and_then(|taken| taken.of_all.as_ref()).map(|Forced(all)| all);
            if !first.into_iter().chain(late).any(|it| Arc::ptr_eq(it, all)) {
                self.0.get_or_insert_default().of_all = Some(Forced::take(all));
            }
        }
    }
}

impl Forced {
    /// Takes a place. If there is none, the next one that becomes free is taken away.
    fn take(all: &Arc<Semaphore>) -> Self {
        match all.try_acquire() {
            Ok(place) => place.forget(),
            Err(_) => {
                let all = Arc::clone(all);
                tokio::spawn(async move {
                    // It fails only if it is closed, which it never is.
                    if let Ok(place) = all.acquire().await {
                        place.forget();
                    }
                });
            }
        }
        Forced(Arc::clone(all))
    }
}

impl Drop for Forced {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::admission::AdmissionRules;

    const SOURCE: Source = Source::V4(7);

    fn rules(most: Option<usize>, most_per_source: Option<usize>) -> AdmissionRules {
        AdmissionRules { most, most_per_source, ..Default::default() }
    }

    /// How many more connections of the source are let in.
    fn free(admission: &Admission) -> usize {
        let more = || admission.places_now(admission.admit("0.0.0.7".parse().unwrap()).ok()?);
        std::iter::from_fn(more).collect::<Vec<_>>().len()
    }

    #[tokio::test]
    async fn those_that_were_open_count_once_and_give_back_what_they_took() {
        type Limits = fn(usize) -> AdmissionRules;
        let either: [Limits; 3] = [
            |most| rules(Some(most), None),
            |most| rules(None, Some(most)),
            |most| rules(Some(most), Some(most)),
        ];
        let mut open: Vec<Late> = (0..3).map(|_| Late::default()).collect();
        for limits in either {
            let mut before = None;
            // There is room, there is none, and there are too many.
            for (most, expected) in [(5, 2), (3, 0), (1, 0)] {
                let now = Admission::new(&limits(most)).unwrap();
                assert!(now.counts_anew(None));
                for _ in 0..2 {
                    open.iter_mut().for_each(|late| late.catch_up(None, Some(&now), SOURCE));
                    tokio::task::yield_now().await;
                    assert_eq!(free(&now), expected, "{most}");
                }
                let same = Admission::revised(Some(&now), &limits(most)).unwrap();
                assert!(!same.counts_anew(Some(&now)), "it goes on to count");
                before = Some(now);
            }
            let one = before.unwrap();
            // Of three where one is allowed, all have to end before another is let in.
            for expected in [0, 0, 1] {
                open.pop();
                tokio::task::yield_now().await;
                assert_eq!(free(&one), expected);
            }
            open.extend((0..3).map(|_| Late::default()));
        }
    }

    #[tokio::test]
    async fn those_that_have_their_places_take_no_others() {
        let both = Admission::new(&rules(Some(9), Some(2))).unwrap();
        let places = both.places_now(both.admit("0.0.0.7".parse().unwrap()).unwrap());
        let mut late = Late::default();
        late.catch_up(places.as_deref(), Some(&both), SOURCE);
        assert!(late.0.is_none());
        assert_eq!(free(&both), 1);
        // One limit was off meanwhile and begins to count again; the other one has never stopped.
        let one = Admission::revised(Some(&both), &rules(Some(9), None)).unwrap();
        let both = Admission::revised(Some(&one), &rules(Some(9), Some(2))).unwrap();
        assert!(both.counts_anew(Some(&one)));
        late.catch_up(places.as_deref(), Some(&both), SOURCE);
        let taken = late.0.as_ref().unwrap();
        assert!(taken.of_source.is_some() && taken.of_all.is_none());
        assert_eq!(free(&both), 1);
    }
}
