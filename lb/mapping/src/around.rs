//! A look around all positions of a mapping, as a picture of it needs it: in equal parts, clockwise.

use crate::candidates::Candidates;
use crate::mapping::Mapping;

impl Mapping {
    /// For each of `parts` equal parts of all positions, clockwise, the candidates of a key in the middle of it. Of a position of
    /// `maglev`, whose keys try different members after the first, it is one of the keys. Nothing under `rendezvous`, which has no
    /// positions, and where no member has one.
    ///
    /// ```
    /// use mapping::{Algorithm, Mapping, Member};
    ///
    /// let members = [1, 2].map(|index| Member { index, name: format!("server{index}"), weight: 1 });
    /// let ring = Mapping::build(&Algorithm::Ring { points: 1000 }.into(), &members)?;
    /// let owners: Vec<usize> = ring.around(720).filter_map(|mut candidates| candidates.next()).collect();
    /// assert_eq!(owners.len(), 720);
    /// assert!((300..420).contains(&owners.iter().filter(|&&owner| owner == 0).count()));
    /// # Ok::<(), mapping::Full>(())
    /// ```
    pub fn around(&self, parts: u32) -> impl Iterator<Item = Candidates<'_>> {
        let parts = if matches!(self, Mapping::Rendezvous(_)) { 0 } else { parts };
        // Less than `positions`, which is 2^64 at most.
        let middle = move |part: u32| {
            (u128::from(2 * u64::from(part) + 1) * self.positions() / (2 * u128::from(parts))) as u64
        };
        (0..parts).filter_map(move |part| self.candidates_at(middle(part)))
    }

    fn candidates_at(&self, position: u64) -> Option<Candidates<'_>> {
        match self {
            Mapping::Ring(ring) => Some(ring.candidates_from(position).into()),
            Mapping::Slots(slots) => Some(slots.candidates_from(position as usize).into()),
            Mapping::Maglev(maglev) => Some(maglev.candidates_at(position).into()),
            Mapping::Rendezvous(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::algorithm::Algorithm;
    use crate::mapping::Mapping;
    use crate::testing::{keys, named};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_and_its_position_have_the_same_owner_and_on_a_circle_the_same_candidates(keys in keys()) {
            let members = named(["a", "b", "c", "d"]);
            for algorithm in Algorithm::examples() {
                let mapping = algorithm.of(&members);
                for key in &keys {
                    let Some(mut at) = mapping.candidates_at(mapping.locate(key).position) else { continue };
                    match mapping {
                        Mapping::Maglev(_) => prop_assert_eq!(at.next(), mapping.owner(key)),
                        _ => prop_assert!(at.eq(mapping.candidates(key))),
                    }
                }
            }
        }
    }

    #[test]
    fn parts_are_in_order_and_of_equal_size() {
        let members = named(["a", "b", "c"]);
        for algorithm in Algorithm::examples() {
            let mapping = algorithm.of(&members);
            let has_positions = !matches!(mapping, Mapping::Rendezvous(_));
            assert_eq!(mapping.around(720).count(), if has_positions { 720 } else { 0 });
            // Every part of a table of as many entries is one entry.
            if let Mapping::Slots(slots) = &mapping {
                let entries = u32::try_from(slots.entries()).unwrap();
                let around = mapping.around(entries).map(|mut at| at.next());
                assert!(around.eq((0..slots.entries()).map(|entry| slots.candidates_from(entry).next())));
            }
            assert_eq!(algorithm.of(&[]).around(8).filter_map(|mut at| at.next()).count(), 0);
            assert_eq!(mapping.around(0).count(), 0);
        }
    }

    #[test]
    fn the_stand_ins_of_a_lost_member_of_maglev_are_all_others() {
        let members = named(["a", "b", "c", "d"]);
        let maglev = Algorithm::Maglev.of(&members);
        let mut counts = [0; 4];
        for mut candidates in maglev.around(720) {
            if candidates.next() == Some(0) {
                counts[candidates.next().unwrap()] += 1;
            }
        }
        assert!(counts[0] == 0 && counts[1..].iter().all(|&count| count > 20), "{counts:?}");
    }
}
