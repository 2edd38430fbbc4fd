//! The mapping `maglev`: a table of 65537 entries that the members fill in turn, each along a permutation of its own
//! (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).
//!
//! With M = 65537, a prime:
//!
//! - A member's permutation is (offset + t * skip) mod M for t = 0 .. M-1, with offset = XXH3-64(name, NUL, "0") mod M
//!   and skip = XXH3-64(name, NUL, "1") mod (M-1) + 1. (The paper leaves the two hashes open.)
//! - In the order of their names, again and again until the table is full, each member takes the first entry of its
//!   permutation that is still free.
//! - A key's position is XXH3-64 of its bytes, mod M. The owner of that entry owns the key.
//! - The other candidates (the paper has none) are met on a walk from there, in steps of
//!   XXH3-64 / M mod (M-1) + 1. Since M is prime, it visits every entry once, and so meets every member. The walk is
//!   the key's own, so the keys of a lost member spread evenly over the others; the next entries of the table would
//!   favour some of them.
//!
//! With weights, the highest being W, round t = 0, 1, 2 ... passes over every member of weight w but those with
//! t * w mod W < w: after any number of rounds each has taken w for every W of the heaviest, and one more at most. Only the
//! proportions of the weights matter.
//!
//! A table is a pure function of the set of names and weights: the order of the members, their indices and their addresses
//! play no part. Shares differ by one entry at most; with weights, by a few entries from what the weights say. When a member
//! leaves, its entries go to the others. Unlike on `ring`, a few entries of the others change hands too: about 0.1 % with six
//! members.
//!
//! Costs: the table has 256 KiB, and it takes some M ln M steps to fill: a few milliseconds. The owner is one look into
//! it; all N candidates take N ln N on the average and never more than M.

use crate::hash::{self, Location, Seed};
use crate::member::{Count, Member};
use crate::walk::Walk;

/// M, the entries of the table. It has to be a prime, or a permutation would not reach every entry; and large against
/// the number of members, or their shares would differ.
const ENTRIES: u32 = 65_537;

/// The table of the Maglev paper, filled.
///
/// ```
/// use mapping::{Algorithm, Mapping, Member};
///
/// let members = [1, 2, 3].map(|index| Member { index, name: format!("server{index}"), weight: 1 });
/// let maglev = Mapping::build(&Algorithm::Maglev.into(), &members)?;
/// assert_eq!(maglev.bytes(), 4 * 65_537);
/// assert_eq!(maglev.locate(b"132574").position, 45_868);
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    /// The ordinal of the member that holds each entry; empty without members.
    owners: Vec<u32>,
    seed: Seed,
    count: Count,
}

impl Maglev {
    /// How many entries the table has.
    pub(crate) const ENTRIES: u32 = ENTRIES;

    pub(crate) fn build(seed: Seed, members: &[Member]) -> Self {
        Self { owners: fill(members), seed, count: Count::of(members) }
    }

    pub(crate) fn locate(&self, key: &[u8]) -> Location {
        let hash = self.seed.hash(key);
        Location { hash, position: hash % u64::from(ENTRIES) }
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Option<usize> {
        self.owners.get(self.locate(key).position as usize).map(|&owner| owner as usize)
    }

    pub(crate) fn candidates(&self, key: &[u8]) -> Walk<'_, u32> {
        let Location { hash, position } = self.locate(key);
        let step = step(hash / u64::from(ENTRIES));
        Walk::in_steps(step, &self.owners, position as usize, self.count)
    }

    /// The candidates of one of the keys at this entry. Keys at neighbouring entries walk in different steps, as real ones do.
    pub(crate) fn candidates_at(&self, entry: u64) -> Walk<'_, u32> {
        let step = step(Seed::default().hash(&entry.to_le_bytes()));
        Walk::in_steps(step, &self.owners, entry as usize, self.count)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.owners.capacity() * size_of::<u32>()
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    /// The ordinal of the member that holds each entry.
    pub(crate) fn entries(&self) -> &[u32] {
        &self.owners
    }
}

/// A step around the table, 1 .. M-1, so that it and M have no divisor in common.
fn step(hash: u64) -> usize {
    (hash % u64::from(ENTRIES - 1)) as usize + 1
}

/// The owner of each entry, as an ordinal. With more members than entries the last ones would get none.
fn fill(members: &[Member]) -> Vec<u32> {
    let mut order: Vec<(&Member, u32)> = members.iter().zip(0..).collect();
    order.retain(|(member, _)| member.weight > 0);
    order.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let mut turns: Vec<Turn> = order.iter().map(|(member, ordinal)| Turn::of(member, *ordinal)).collect();
    let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(0);
    let mut table = vec![None; ENTRIES as usize];
    let mut free = if turns.is_empty() { 0 } else { table.len() };
    let mut round = 0;
    while free > 0 {
        let active = turns.iter_mut().filter(|turn| round * turn.weight % heaviest < turn.weight);
        for turn in active.take(free) {
            turn.claim(&mut table);
            free -= 1;
        }
        round += 1;
    }
    let mut owners: Vec<u32> = table.into_iter().flatten().collect();
    // It reuses the allocation of the table, whose entries are twice as large.
    owners.shrink_to_fit();
    owners
}

/// Where a member is in its permutation.
struct Turn {
    at: usize,
    skip: usize,
    weight: u64,
    ordinal: u32,
}

impl Turn {
    fn of(member: &Member, ordinal: u32) -> Self {
        let mut hashes = hash::points(&member.name, 2);
        let mut next = || hashes.next().unwrap_or_default();
        let at = (next() % u64::from(ENTRIES)) as usize;
        Self { at, skip: step(next()), weight: member.weight.into(), ordinal }
    }

    /// Takes the next free entry. There has to be one: the permutation comes past it.
    fn claim(&mut self, table: &mut [Option<u32>]) {
        while table[self.at].is_some() {
            self.at += self.skip;
            // Less than twice around: to take one off is much cheaper than to divide.
            self.at = self.at.checked_sub(table.len()).unwrap_or(self.at);
        }
        table[self.at] = Some(self.ordinal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::testing::{keys, named, names, order, weighing, without};
    use proptest::prelude::*;

    /// Without a seed.
    fn built(members: &[Member]) -> Maglev {
        Maglev::build(Seed::default(), members)
    }

    fn filled(members: &[Member]) -> Vec<u32> {
        fill(members)
    }

    fn servers(count: u32) -> Vec<Member> {
        named((1..=count).map(|index| format!("server{index}")))
    }

    #[test]
    fn an_entry_takes_four_bytes() {
        assert_eq!(built(&named(["a", "b"])).bytes(), 4 * 65_537);
    }

    /// Computed by an independent implementation: Python, after the pseudocode of the paper, the package `xxhash` 4.1.0.
    #[test]
    fn three_servers_own_the_entries_of_an_independent_implementation() {
        let cases: [(&[u8], u64, [usize; 3]); 12] = [
            (b"132574", 45_868, [2, 1, 3]),
            (b"100000", 58_854, [1, 3, 2]),
            (b"999999", 49_004, [1, 3, 2]),
            (b"0", 8022, [3, 2, 1]),
            (b"7", 38_895, [2, 3, 1]),
            (b"abc", 38_663, [3, 2, 1]),
            (b"alice@example.org", 43_726, [2, 3, 1]),
            (b"192.0.2.1", 48_764, [3, 1, 2]),
            (b"\x00\xff", 45_607, [3, 1, 2]),
            (b"", 44_782, [1, 3, 2]),
            (b"\xc3\xbc", 20_973, [1, 2, 3]),
            (b"order-42", 61_031, [3, 1, 2]),
        ];
        let maglev = built(&servers(3));
        assert_eq!(maglev.owners[..20], [2, 2, 2, 0, 2, 0, 2, 0, 1, 0, 1, 0, 1, 0, 1, 2, 1, 2, 1, 2]);
        let bytes: Vec<u8> = maglev.owners.iter().map(|&owner| owner as u8).collect();
        assert_eq!(Seed::default().hash(&bytes), 0x110f_e5c5_d377_cd19, "the whole table");
        for (key, position, servers) in cases {
            assert_eq!(maglev.locate(key), Location { hash: Seed::default().hash(key), position });
            let found: Vec<usize> = maglev.candidates(key).map(|ordinal| ordinal + 1).collect();
            assert_eq!(found, servers, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn the_number_of_entries_is_a_prime() {
        assert!((2..=256).all(|divisor| !ENTRIES.is_multiple_of(divisor)), "256 squared is {}", ENTRIES - 1);
    }

    #[test]
    fn a_permutation_visits_every_entry_once() {
        for member in named(["server1", "server2", "a", "Z.9"]) {
            let mut table = vec![None; ENTRIES as usize];
            let mut turn = Turn::of(&member, 0);
            (0..ENTRIES).for_each(|_| turn.claim(&mut table));
            assert!(table.iter().all(Option::is_some), "{member:?}");
        }
    }

    #[test]
    fn members_hold_the_same_number_of_entries_or_one_less() {
        for count in [1, 2, 3, 6, 7, 100, 1000] {
            let mut held = vec![0; count as usize];
            built(&servers(count)).owners.iter().for_each(|&owner| held[owner as usize] += 1);
            let least = ENTRIES / count;
            assert!(held.iter().all(|&entries| entries == least || entries == least + 1), "{held:?}");
            assert_eq!(held.iter().sum::<u32>(), ENTRIES);
        }
    }

    #[test]
    fn more_members_than_entries_leave_the_last_without_any() {
        let members = named((0..ENTRIES + 1).map(|i| format!("{i:05}")));
        let maglev = built(&members);
        assert!(maglev.owners.len() == ENTRIES as usize && !maglev.owners.contains(&ENTRIES));
    }

    #[test]
    fn the_shares_of_up_to_six_servers_stay_within_two_percent_of_the_mean() {
        const KEYS: u32 = 300_000;
        for count in 3..=6 {
            let maglev = built(&servers(count));
            let mut shares = vec![0_u32; count as usize];
            for id in 100_000..100_000 + KEYS {
                shares[maglev.candidates(id.to_string().as_bytes()).next().unwrap()] += 1;
            }
            let peak = f64::from(*shares.iter().max().unwrap()) / (f64::from(KEYS) / f64::from(count));
            println!("N={count}: max/mean {peak:.4}, keys {shares:?}");
            assert!(peak <= 1.02, "N={count}: {peak}");
        }
    }

    /// The entries that do not stay with their owner when `gone` leaves, of those that are not its own.
    fn moved(members: &[Member], gone: &str) -> f64 {
        let rest = without(members, gone);
        let (before, after) = (filled(members), filled(&rest));
        let stay = before.iter().zip(&after).filter(|&(&was, _)| members[was as usize].name != gone);
        let (moved, kept): (Vec<_>, Vec<_>) =
            stay.partition(|&(&was, &is)| members[was as usize].name != rest[is as usize].name);
        moved.len() as f64 / (moved.len() + kept.len()) as f64
    }

    #[test]
    fn removing_a_server_moves_few_entries_of_the_others() {
        for count in 3..=6 {
            let members = servers(count);
            let moved = members.iter().map(|gone| moved(&members, &gone.name));
            let most = moved.fold(0.0, f64::max);
            println!("N={count}: at most {:.3} % of the others' entries move", 100.0 * most);
            assert!(most <= 0.01, "N={count}: {most}");
        }
    }

    fn weighing_1_2_and_5(count: u32) -> Vec<Member> {
        weighing(servers(count), &[1, 2, 5].repeat(count as usize))
    }

    #[test]
    fn weights_move_no_more_entries_of_the_others_and_only_their_proportions_matter() {
        for count in [3, 6, 20, 100] {
            let members = weighing_1_2_and_5(count);
            let most = members.iter().take(6).map(|gone| moved(&members, &gone.name)).fold(0.0, f64::max);
            println!("N={count}, weights 1, 2, 5: at most {:.3} % of the others' entries move", 100.0 * most);
            assert!(most <= 0.01, "N={count}: {most}");
            let tenfold: Vec<u32> = members.iter().map(|member| 10 * member.weight).collect();
            assert_eq!(filled(&weighing(members.clone(), &tenfold)), filled(&members));
        }
    }

    #[test]
    fn every_member_holds_the_share_of_its_weight_but_for_a_few_entries() {
        for count in [3, 6, 20] {
            let members = weighing_1_2_and_5(count);
            let table = filled(&members);
            let all: u32 = members.iter().map(|member| member.weight).sum();
            for (ordinal, member) in (0..).zip(&members) {
                let held = table.iter().filter(|&&owner| owner == ordinal).count() as f64;
                let due = f64::from(ENTRIES) * f64::from(member.weight) / f64::from(all);
                assert!((held - due).abs() < 4.0, "{member:?} holds {held} of {due}");
            }
        }
    }

    #[test]
    fn the_keys_of_a_lost_server_spread_evenly_over_the_others() {
        const KEYS: u32 = 100_000;
        let maglev = built(&servers(4));
        let mut second = [[0_u32; 4]; 4];
        for id in 0..KEYS {
            let found: Vec<usize> = maglev.candidates(id.to_string().as_bytes()).take(2).collect();
            second[found[0]][found[1]] += 1;
        }
        for (lost, shares) in second.iter().enumerate() {
            let mean = f64::from(shares.iter().sum::<u32>()) / 3.0;
            for (heir, &share) in shares.iter().enumerate().filter(|&(heir, _)| heir != lost) {
                assert!((f64::from(share) / mean - 1.0).abs() < 0.05, "{lost} to {heir}: {shares:?}");
            }
        }
    }

    #[test]
    fn indices_play_no_part() {
        let members = servers(5);
        let renumbered: Vec<Member> =
            members.iter().map(|member| Member { index: 99 - member.index, ..member.clone() }).collect();
        assert_eq!(built(&members), built(&renumbered));
    }

    /// Two permutations whose steps are in a simple ratio meet often, so a few fleets are far from the rest: of 400, half
    /// moved below 0.09 %, 99 in 100 below 0.6 %, and one 2.3 %.
    #[test]
    fn removing_a_member_of_whatever_name_moves_few_entries_of_the_others() {
        let number = |n: u64| Seed(7).hash(&n.to_le_bytes());
        let moved = |fleet: u64| {
            let count = 3 + number(fleet) % 4;
            let members = named((0..count).map(|n| format!("{:x}", number(1000 * (fleet + 1) + n))));
            moved(&members, &members[0].name)
        };
        let mut shares: Vec<f64> = (0..60).map(moved).collect();
        shares.sort_by(f64::total_cmp);
        assert!(shares[30] < 0.0015 && shares[56] < 0.006, "{shares:?}");
    }

    proptest! {
        // A table takes long to fill where nothing is optimized.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_key_belongs_to_the_holder_of_its_entry_and_then_to_those_met_on_its_walk(
            names in names(1..7), keys in keys(),
        ) {
            let members = named(names);
            let table = filled(&members);
            let mapping = Algorithm::Maglev.of(&members);
            for key in &keys {
                let hash = Seed::default().hash(key);
                let (start, step) = (hash % 65_537, hash / 65_537 % 65_536 + 1);
                let mut met: Vec<&str> = Vec::new();
                for t in 0..65_537 {
                    let name = members[table[((start + t * step) % 65_537) as usize] as usize].name.as_str();
                    if !met.contains(&name) {
                        met.push(name);
                    }
                }
                prop_assert_eq!(order(&mapping, &members, key), met);
            }
        }
    }
}
