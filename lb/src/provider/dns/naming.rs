//! The names of the servers of a service: each is a hostname, unique, and stays as it is while its server is there. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use proto::control::Hostname;

/// The longest hostname, in bytes.
const LONGEST: usize = 63;

/// The names that are in use.
#[derive(Debug)]
pub(super) struct Naming<G> {
    names: BTreeMap<G, Hostname>,
}

impl<G: Ord + Clone> Naming<G> {
    /// These guests have names already.
    pub(super) fn new(names: BTreeMap<G, Hostname>) -> Self {
        Naming { names }
    }

    /// The name of a guest.
    pub(super) fn of(&self, guest: &G) -> Option<&Hostname> {
        self.names.get(guest)
    }

    /// Names these guests. Each comes with the names that it might have, the best one first. Where several would have the same best
    /// one, none of them gets it but the one that has it already.
    pub(super) fn name(&mut self, guests: &BTreeMap<&G, Vec<String>>) {
        self.names.retain(|guest, _| guests.contains_key(guest));
        let mut uses: HashMap<&str, usize> = HashMap::new();
        guests
            .values()
            .filter_map(|names| names.first())
            .for_each(|name| *uses.entry(name).or_default() += 1);
        let mut taken: HashSet<Hostname> = self.names.values().cloned().collect();
        for (guest, names) in guests {
            if self.names.contains_key(*guest) {
                continue;
            }
            let is_contested = names.len() > 1 && uses.get(names[0].as_str()).is_some_and(|&uses| uses > 1);
            let wanted = names.iter().skip(usize::from(is_contested)).cloned();
            let others = (1_u32..).map(|number| format!("server{number}"));
            let name =
                wanted.chain(others).find_map(|name| hostname(&name).filter(|name| !taken.contains(name)));
            if let Some(name) = name {
                taken.insert(name.clone());
                self.names.insert((*guest).clone(), name);
            }
        }
    }
}

/// A text as a hostname: what a hostname cannot hold becomes `-`, and what is too long is cut off. `None` if nothing of it can begin a
/// hostname.
fn hostname(text: &str) -> Option<Hostname> {
    let sound =
        |letter: char| if letter.is_ascii_alphanumeric() || "_.-".contains(letter) { letter } else { '-' };
    let name: String =
        text.chars().map(sound).skip_while(|letter| !letter.is_ascii_alphanumeric()).take(LONGEST).collect();
    Hostname::try_from(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names after each of these answers: guests, each with the names that it might have.
    fn history(answers: &[&[(u8, &[&str])]]) -> Vec<Vec<String>> {
        let mut naming = Naming::new(BTreeMap::new());
        let after = |answer: &&[(u8, &[&str])]| {
            let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            naming.name(&answer.iter().map(|(guest, wanted)| (guest, names(wanted))).collect());
            answer.iter().map(|(guest, _)| naming.of(guest).unwrap().to_string()).collect()
        };
        answers.iter().map(after).collect()
    }

    #[test]
    fn the_best_name_is_the_name() {
        assert_eq!(
            history(&[&[(1, &["web-0", "web-0-80"]), (2, &["web-1", "web-1-80"])]]),
            [["web-0", "web-1"]]
        );
    }

    #[test]
    fn no_guest_gets_a_name_that_several_would_have_unless_it_had_it_before() {
        let (a, b): (&[&str], &[&str]) = (&["n", "n-80"], &["n", "n-81"]);
        assert_eq!(history(&[&[(1, a), (2, b)]]), [["n-80", "n-81"]]);
        assert_eq!(
            history(&[&[(1, a)], &[(1, a), (2, b)], &[(2, b)]]),
            [vec!["n"], vec!["n", "n-81"], vec!["n-81"]]
        );
        assert_eq!(history(&[&[(1, &["n"]), (2, &["n"]), (3, &["server1"])]]), [["n", "server1", "server2"]]);
    }

    #[test]
    fn any_text_makes_a_hostname() {
        let named = |text: &str| hostname(text).map(|name| name.to_string());
        for (text, expected) in [
            ("web-0", "web-0"),
            ("10.0.0.7", "10.0.0.7"),
            ("2001:db8::7", "2001-db8--7"),
            ("_http.a b", "http.a-b"),
            ("näme", "n-me"),
        ] {
            assert_eq!(named(text).as_deref(), Some(expected));
        }
        assert_eq!(named(&"x".repeat(100)), Some("x".repeat(63)));
        assert_eq!([named(""), named("::"), named("_")], [None, None, None]);
        assert_eq!(history(&[&[(1, &["*"]), (2, &["_", "?"])]]), [["server1", "server2"]]);
    }

    #[test]
    fn random_answers_give_each_a_name_of_its_own_that_stays() {
        for seed in 0..1000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut naming = Naming::new(BTreeMap::new());
            let mut before: BTreeMap<u8, Hostname> = BTreeMap::new();
            for _ in 0..20 {
                let guests: Vec<u8> = (0..rng.usize(0..12)).map(|_| rng.u8(0..20)).collect();
                let wanted =
                    |guest: u8| vec![format!("n{}", guest % 5), format!("n{}-{}", guest % 5, guest % 7)];
                naming.name(&guests.iter().map(|guest| (guest, wanted(*guest))).collect());
                let now: BTreeMap<u8, Hostname> =
                    guests.iter().map(|guest| (*guest, naming.of(guest).unwrap().clone())).collect();
                let unique: HashSet<&Hostname> = now.values().collect();
                assert_eq!(unique.len(), now.len(), "seed {seed}: {now:?}");
                for (guest, name) in before.iter().filter(|(guest, _)| now.contains_key(guest)) {
                    assert_eq!(&now[guest], name, "seed {seed}");
                }
                before = now;
            }
        }
    }
}
