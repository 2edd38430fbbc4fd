//! What an `lb` and its successor tell each other, as values. It does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use fleet::{Seat, SlotId};
use mapping::MappingPolicy;
use proto::control::{FixedBackend, Hostname, Location, Weight};
use serde::{Deserialize, Serialize};

use super::PARTING;
use crate::control::Frozen;
use crate::handed::PortName;
use crate::life::EndRules;
use crate::net::ListenAddress;
use crate::provider::process::kindred::Portrait;
use crate::provider::{Inheritance, Leaving, Lent, SeatingPlan};

/// The version of this language. A successor that speaks another one ends, and its predecessor goes on.
pub(super) const VERSION: u32 = 1;

/// A message. Those that come with files say which.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// To the successor, first of all.
    Begin {
        version: u32,
        /// The version of the `lb` that sends it.
        lb: String,
        pid: u32,
    },
    /// To the successor: sockets that are all bound to one address; with the sockets, and behind them the lock of the file.
    Sockets {
        port: PortName,
        /// What the flag of the port says.
        asked: ListenAddress,
        bound: ListenAddress,
        /// Whether systemd has bound it.
        is_activated: bool,
        /// What tells the file of a Unix socket from every other, if it is for `lb` to remove.
        file: Option<String>,
    },
    /// To the successor: the fleet.
    Fleet(Box<Estate>),
    /// To the successor: the line to a guardian of children; with it.
    Line {},
    /// To the successor: a child; with its pidfd and its streams of output.
    Child(Portrait),
    /// To the successor: entries of the journal, each a line of JSON.
    Entries(Vec<String>),
    /// To the successor: that was all.
    End {},
    /// From what starts the successor: it runs.
    Launched { pid: u32 },
    /// From the successor, or from what starts it: it cannot go on.
    Failed { reason: String },
    /// From the successor: it serves.
    Serving { pid: u32 },
    /// From the successor: it will go on whatever comes, and the predecessor is not needed any more.
    Settled {},
}

/// A fleet as it is left to a successor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Estate {
    /// Where the replicas come from.
    origin: String,
    /// The slots, each with the hostname of its replica.
    pub(crate) seats: Vec<Seat>,
    /// The hostnames of the spares.
    pub(crate) spares: Vec<Hostname>,
    /// The values of the mapping, without its seed, if a command has changed it.
    mapping: Option<BTreeMap<String, String>>,
    /// The servers that were known by name, where replicas are servers that run already.
    #[serde(default)]
    known: Vec<FixedBackend>,
    /// The names of the slots whose replicas are up.
    pub(crate) up: Vec<String>,
    /// The hostnames of replicas that the predecessor stops when their connections have ended.
    leaving: Vec<Hostname>,
    /// How long it lets these connections last.
    drain_timeout: Duration,
    /// What its provider has to tell.
    #[serde(flatten)]
    lent: Lent,
}

impl Estate {
    /// A fleet from this origin, under a configuration that says this.
    pub(crate) fn new(origin: String, fleet: Frozen, configured: &EndRules) -> Self {
        let Frozen { roster, known, up, leaving, lent } = fleet;
        let is_changed = roster.mapping != configured.mapping;
        let drain_timeout = configured.drain_timeout;
        let values = roster.mapping.values().map(|(name, value)| (name.to_string(), value)).collect();
        let spares = roster.spares.into_iter().collect();
        let (seats, mapping) = (roster.seats, is_changed.then_some(values));
        Estate { origin, seats, spares, mapping, known, up, leaving, drain_timeout, lent }
    }

    /// What is left of a fleet of containers.
    pub(crate) fn containers(&self) -> Option<Inheritance> {
        let (tenure, hostnames) = (self.lent.tenure.clone()?, self.leaving.clone());
        let limit = self.drain_timeout + PARTING;
        Some(Inheritance { tenure, seats: self.seats.clone(), leaving: Leaving { hostnames, limit } })
    }

    /// Who sits where, if the servers are those that a name leads to.
    pub(crate) fn seating(&self) -> SeatingPlan {
        self.lent.seating.clone()
    }

    /// Checks that replicas of this `origin` are those of this fleet.
    ///
    /// # Errors
    /// They are others; the fleet would be left without an `lb`.
    pub(super) fn check(&self, origin: &str) -> anyhow::Result<()> {
        let there = &self.origin;
        ensure!(
            there == origin,
            "the lb before this one has {there}, and this one {origin}: expected the same"
        );
        Ok(())
    }

    /// How keys are mapped from now on: as a command has said, or else as configured. The seed is always the configured one.
    ///
    /// # Errors
    /// There is no such mapping.
    pub(crate) fn mapping(&self, configured: MappingPolicy) -> anyhow::Result<MappingPolicy> {
        let Some(values) = &self.mapping else { return Ok(configured) };
        let values = values.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        MappingPolicy::of(values, configured.scheme.seed)
            .map_err(|problems| anyhow::anyhow!("its mapping is not known: {}", problems[0]))
    }

    /// The seats of a fleet that is configured to begin with the `first` servers of `all`. As long as the configuration is the same, they are
    /// those that commands have left. If not, it says who has a seat: those that are here keep their places, others get the lowest that are free.
    pub(crate) fn seats_of(&self, first: &[FixedBackend], all: &[FixedBackend]) -> Vec<Seat> {
        if settings(&self.known) == settings(all) {
            return self.seats.clone();
        }
        let before = settings(&self.known);
        let known = |name: &Hostname| self.seats.iter().find(|seat| seat.slot.name == *name);
        let mut taken: BTreeSet<u32> =
            first.iter().filter_map(|server| known(&server.name)).map(|seat| seat.slot.index).collect();
        let mut seats: Vec<Seat> = Vec::with_capacity(first.len());
        for server in first {
            let seat = known(&server.name).cloned().unwrap_or_else(|| {
                let index = (1..).find(|index| !taken.contains(index)).unwrap_or(u32::MAX);
                taken.insert(index);
                let slot = SlotId { index, name: server.name.clone() };
                Seat::new(slot, server.weight(), server.name.clone())
            });
            // A weight that a command has changed holds as long as the configured one does.
            let is_same = before.get(&server.name).is_some_and(|(_, weight)| *weight == server.weight());
            let weight = if is_same { seat.weight } else { server.weight() };
            seats.push(Seat { location: Some(server.location.clone()), weight, ..seat });
        }
        seats.sort_by_key(|seat| seat.slot.index);
        seats
    }
}

/// What a configuration says of each server, in whatever order and words.
fn settings(servers: &[FixedBackend]) -> BTreeMap<&Hostname, (&Location, Weight)> {
    servers.iter().map(|server| (&server.name, (&server.location, server.weight()))).collect()
}

#[cfg(test)]
mod tests {
    use fleet::Roster;

    use super::*;

    fn servers(texts: &[&str]) -> Vec<FixedBackend> {
        texts.iter().map(|server| server.parse().unwrap()).collect()
    }

    fn shown(seats: &[Seat]) -> Vec<String> {
        let location = |seat: &Seat| seat.location.as_ref().map(ToString::to_string).unwrap();
        seats
            .iter()
            .map(|seat| format!("{} {} {}", seat.slot.index, seat.slot.name, location(seat)))
            .collect()
    }

    fn weights(seats: &[Seat]) -> Vec<u32> {
        seats.iter().map(|seat| seat.weight.get()).collect()
    }

    #[test]
    fn a_weight_of_a_command_holds_until_the_configured_one_is_another() {
        let known = servers(&["a=h:1", "b=h:2,weight=4", "c=h:3"]);
        let seats =
            Estate::default().seats_of(&servers(&["a=h:1,weight=9", "b=h:2,weight=8", "c=h:3"]), &known);
        let estate = Estate { seats, known, ..Estate::default() };
        let sorted_otherwise = servers(&["c=h:3,weight=1", "b=h:2,weight=4", "a=h:1"]);
        let same = estate.seats_of(&sorted_otherwise, &sorted_otherwise);
        assert_eq!(weights(&same), [9, 8, 1], "it says the same");
        let other = servers(&["a=h:1", "b=h:2,weight=5", "c=h:3,weight=3"]);
        assert_eq!(weights(&estate.seats_of(&other, &other)), [9, 5, 3]);
    }

    #[test]
    fn slots_that_stay_keep_their_places_and_new_ones_get_the_lowest_that_are_free() {
        let before = servers(&["a=h:1", "b=h:2", "c=h:3", "d=h:4"]);
        let estate = Estate { seats: Estate::default().seats_of(&before, &before), ..Estate::default() };
        let now = servers(&["x=h:9", "d=h:44", "b=h:2", "y=h:9", "z=h:9"]);
        let seats = shown(&estate.seats_of(&now, &now));
        assert_eq!(seats, ["1 x h:9", "2 b h:2", "3 y h:9", "4 d h:44", "5 z h:9"]);
    }

    #[test]
    fn what_commands_have_left_stays_as_long_as_the_configuration_does() {
        let known = servers(&["a=h:1", "b=h:2"]);
        let seats = Estate::default().seats_of(&servers(&["b=h:2", "added=h:3"]), &known);
        let estate = Estate { seats, known: known.clone(), ..Estate::default() };
        assert_eq!(shown(&estate.seats_of(&known, &known)), ["1 b h:2", "2 added h:3"]);
        let other = servers(&["a=h:1", "b=h:5"]);
        assert_eq!(shown(&estate.seats_of(&other, &other)), ["1 b h:5", "2 a h:1"]);
    }

    #[test]
    fn a_mapping_is_handed_over_only_if_a_command_has_changed_it() {
        use mapping::{Algorithm, Scheme};
        let policy = |algorithm| MappingPolicy { scheme: Scheme::from(algorithm), balance: None };
        let (ring, maglev) = (policy(Algorithm::Maglev), policy(Algorithm::Rendezvous));
        let frozen = |mapping: &MappingPolicy| Frozen {
            roster: Roster {
                mapping: mapping.clone(),
                seats: Vec::new(),
                spares: BTreeSet::new(),
                coming: Vec::new(),
                leaving: Vec::new(),
            },
            known: Vec::new(),
            up: Vec::new(),
            leaving: Vec::new(),
            lent: Lent::default(),
        };
        let rules = EndRules {
            stop_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            mapping: ring.clone(),
        };
        let same = Estate::new("here".to_owned(), frozen(&ring), &rules);
        assert_eq!(same.mapping(maglev.clone()).unwrap(), maglev, "the configuration has another one now");
        let changed = Estate::new("here".to_owned(), frozen(&maglev), &rules);
        assert_eq!(changed.mapping(ring).unwrap(), maglev);
        assert!(changed.check("here").is_ok() && changed.check("elsewhere").is_err());
    }
}
