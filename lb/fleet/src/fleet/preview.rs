//! Previews: what a command would do.

use std::fmt::Write as _;

use mapping::{MappingPolicy, Member};
use proto::control::{Addition, Change, Failure, Hostname, Remapping, Removal};

use super::Fleet;
use super::commands::{Added, Remapped, weigh};
use super::revise::Revised;
use crate::nouns::Seat;
use crate::revision::Revision;
use crate::room::Demand;

/// The fleet as it would be after a change.
#[derive(Clone, Debug)]
pub struct Preview {
    /// How keys would be mapped.
    pub policy: MappingPolicy,
    /// The slots in the mapping, as the mapping sees them.
    pub members: Vec<Member>,
    /// What the mapping has to have room for, or the command is refused.
    pub demand: Option<Demand>,
    /// The command that does exactly this, with every name that the change leaves to the fleet.
    pub command: String,
}

impl Fleet {
    /// The fleet as a change would leave it. A change is refused as its command would be; the room for it is not checked yet.
    pub fn preview(&self, change: &Change) -> Result<Preview, Failure> {
        let policy = self.policy.mapping.clone();
        // A copy, so that the command makes the same choices if it comes next.
        let mut rng = self.rng.clone();
        let mut members = self.members();
        match change {
            Change::Add(addition) => {
                let Added { seats, demand } = self.plan_add(addition, &mut rng)?;
                members.extend(seats.iter().map(Seat::member));
                Ok(Preview { policy, members, demand: Some(demand), command: add(addition, &seats) })
            }
            Change::Remove(removal) => {
                let names = self.plan_remove(removal, &mut rng)?;
                members.retain(|member| names.iter().all(|name| name.as_str() != member.name));
                Ok(Preview { policy, members, demand: None, command: rm(removal, &names) })
            }
            Change::Mapping(remapping) => {
                let Remapped { policy, weights, demand } = self.plan_remap(remapping)?;
                weigh(&mut members, &weights);
                Ok(Preview { policy, members, demand: Some(demand), command: set(remapping) })
            }
        }
    }
}

impl Fleet {
    /// The fleet as a revision would leave it. It is refused as its command would be; the room for it is not checked yet.
    pub fn preview_revision(&self, change: &Revision) -> Result<Preview, Failure> {
        let Revised { roster, demand, .. } = self.plan_revision(change, &mut self.rng.clone())?;
        let members = roster.seats.iter().map(Seat::member).collect();
        Ok(Preview { policy: roster.mapping, members, demand: Some(demand), command: "lb reload".to_owned() })
    }
}

fn add(Addition { n, hostnames, weights }: &Addition, seats: &[Seat]) -> String {
    let mut command = format!("lb add {n}");
    hostnames.iter().for_each(|newcomer| add_to(&mut command, &newcomer.to_string()));
    let others = seats.iter().skip(hostnames.len());
    others.for_each(|seat| add_to(&mut command, seat.slot.name.as_str()));
    if !weights.is_empty() {
        let weights: Vec<String> = weights.iter().map(ToString::to_string).collect();
        let _ = write!(command, " --weights {}", weights.join(","));
    }
    command
}

fn rm(Removal { n, drain, .. }: &Removal, names: &[Hostname]) -> String {
    let mut command = format!("lb rm {n}");
    names.iter().for_each(|name| add_to(&mut command, name.as_str()));
    if let Some(drain) = drain {
        command.push_str(" --drain");
        add_to(&mut command, &drain.to_string());
    }
    command
}

fn set(remapping: &Remapping) -> String {
    let mut command = "lb mapping set".to_owned();
    for (name, value) in remapping.values() {
        if name != "mapping" {
            let _ = write!(command, " --{}", name.replace('_', "-"));
        }
        add_to(&mut command, value);
    }
    for (name, weight) in &remapping.weights {
        let _ = write!(command, " --weight {name}={weight}");
    }
    command
}

fn add_to(command: &mut String, word: &str) {
    command.push(' ');
    quote(command, word);
}

/// Appends a word, quoted for a shell. Accepted words contain no quotes: they are names, numbers and formulas.
fn quote(command: &mut String, word: &str) {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-=:,/".contains(&byte));
    let quote = if is_plain { "" } else { "'" };
    let _ = write!(command, "{quote}{word}{quote}");
}
