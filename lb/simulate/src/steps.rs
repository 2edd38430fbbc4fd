//! Changes to a fleet on paper: their text form, and the servers after each.
//!
//! Pure. It knows no mappings, and it starts and stops no server.

use std::collections::HashSet;
use std::fmt::{self, Display};

use mapping::{MOST_SLOTS, Member};
use proto::control::{Hostname, Weight};

/// One change to a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A number of servers joins, each with a free name and index.
    AddSome(usize),
    /// Servers with names join, each with the lowest free index.
    Add(Vec<(Hostname, Weight)>),
    /// Servers leave.
    Remove(Vec<Hostname>),
    /// Servers get another weight.
    Weigh(Vec<(Hostname, Weight)>),
}

impl Step {
    /// The accepted forms, for messages.
    pub const ALLOWED: &str = "'add N', 'add NAME[=WEIGHT] ...', 'rm NAME ...' or 'weight NAME=WEIGHT ...'";

    /// Parses a step; `None` if it has none of the forms of [`Step::ALLOWED`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let verb = words.next()?;
        let words: Vec<&str> = words.collect();
        if words.is_empty() {
            return None;
        }
        match verb {
            "add" => match words[..] {
                [count] if is_number(count) => {
                    count.parse().ok().filter(|count| (1..=MOST_SLOTS).contains(count)).map(Step::AddSome)
                }
                _ => words.into_iter().map(newcomer).collect::<Option<_>>().map(Step::Add),
            },
            "rm" => words.into_iter().map(name).collect::<Option<_>>().map(Step::Remove),
            "weight" => words.into_iter().map(weighed).collect::<Option<_>>().map(Step::Weigh),
            _ => None,
        }
    }
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name. It must not be a number, which could be read as a count.
fn name(word: &str) -> Option<Hostname> {
    Hostname::try_from(word.to_owned()).ok().filter(|_| !is_number(word))
}

/// Parses `NAME=WEIGHT`.
pub fn weighed(word: &str) -> Option<(Hostname, Weight)> {
    let (given, weight) = word.split_once('=')?;
    let weight = weight.parse::<u64>().ok().and_then(|weight| Weight::try_from(weight).ok())?;
    Some((name(given)?, weight))
}

fn newcomer(word: &str) -> Option<(Hostname, Weight)> {
    if word.contains('=') { weighed(word) } else { Some((name(word)?, Weight::default())) }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::AddSome(count) => write!(f, "add {count}"),
            Step::Add(members) => {
                f.write_str("add")?;
                members.iter().try_for_each(|(name, weight)| match weight.is_usual() {
                    true => write!(f, " {name}"),
                    false => write!(f, " {name}={weight}"),
                })
            }
            Step::Remove(names) => {
                f.write_str("rm")?;
                names.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Step::Weigh(members) => {
                f.write_str("weight")?;
                members.iter().try_for_each(|(name, weight)| write!(f, " {name}={weight}"))
            }
        }
    }
}

/// A fleet, and the step that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// `None` for the fleet at first.
    pub step: Option<Step>,
    /// Its servers by their indices; at least one has a weight.
    pub members: Vec<Member>,
}

/// A fleet of `server1` to `serverN`, each of weight 1.
#[must_use]
pub fn fleet(replicas: usize) -> Vec<Member> {
    let member = |index: u32| Member { index, name: format!("server{index}"), weight: 1 };
    (1..).take(replicas).map(member).collect()
}

/// Sets the weights of these servers.
///
/// # Errors
/// No server has that name.
pub fn weigh(members: &mut [Member], weights: &[(Hostname, Weight)]) -> Result<(), String> {
    for (name, weight) in weights {
        let member = members.iter_mut().find(|member| member.name == name.as_str());
        member.ok_or_else(|| format!("there is no replica {name}"))?.weight = weight.get();
    }
    Ok(())
}

/// The fleet at first and after each step.
///
/// # Errors
/// The first step that is not possible, and the reason.
pub fn stages(first: Vec<Member>, steps: Vec<Step>) -> Result<Vec<Stage>, String> {
    let mut stages = vec![Stage { step: None, members: first.clone() }];
    let mut members = first;
    for step in steps {
        let done = apply(&mut members, &step).and_then(|()| check(&members));
        done.map_err(|problem| format!("'{step}': {problem}"))?;
        stages.push(Stage { step: Some(step), members: members.clone() });
    }
    Ok(stages)
}

/// Checks the size and the weights of a fleet.
///
/// # Errors
/// It has too many servers, or none with a weight.
pub fn check(members: &[Member]) -> Result<(), String> {
    if members.len() > MOST_SLOTS {
        return Err(format!("{} replicas are too many; expected at most {MOST_SLOTS}", members.len()));
    }
    if members.iter().all(|member| member.weight == 0) {
        return Err("no replica with a weight above 0 is left".into());
    }
    Ok(())
}

fn apply(members: &mut Vec<Member>, step: &Step) -> Result<(), String> {
    match step {
        Step::AddSome(count) => (0..*count).try_for_each(|_| add(members, None, 1)),
        Step::Add(newcomers) => {
            newcomers.iter().try_for_each(|(name, weight)| add(members, Some(name.as_str()), weight.get()))
        }
        Step::Remove(names) => names.iter().try_for_each(|name| remove(members, name)),
        Step::Weigh(weights) => weigh(members, weights),
    }
}

/// Adds a server with the lowest free index, at its place in the order of indices.
fn add(members: &mut Vec<Member>, name: Option<&str>, weight: u32) -> Result<(), String> {
    let place = members.iter().zip(1..).take_while(|(member, index)| member.index == *index).count();
    let index = u32::try_from(place + 1).map_err(|_| "there is no index left")?;
    let name = match name {
        Some(name) if members.iter().any(|member| member.name == name) => {
            return Err(format!("there is a replica {name} already"));
        }
        Some(name) => name.to_owned(),
        None => free_name(members, index),
    };
    members.insert(place, Member { index, name, weight });
    Ok(())
}

/// `server` with the index, or with the next number whose name is free.
fn free_name(members: &[Member], index: u32) -> String {
    let taken: HashSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut number = index;
    loop {
        let name = format!("server{number}");
        if !taken.contains(name.as_str()) {
            return name;
        }
        number += 1;
    }
}

fn remove(members: &mut Vec<Member>, name: &Hostname) -> Result<(), String> {
    let place = members.iter().position(|member| member.name == name.as_str());
    members.remove(place.ok_or_else(|| format!("there is no replica {name}"))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(replicas: usize, steps: &[&str]) -> Result<Vec<String>, String> {
        let steps = steps.iter().map(|text| Step::parse(text).unwrap()).collect();
        let last = stages(fleet(replicas), steps)?.pop().unwrap();
        let shown = |member: Member| format!("{} {}={}", member.index, member.name, member.weight);
        Ok(last.members.into_iter().map(shown).collect())
    }

    #[test]
    fn a_step_is_shown_as_it_is_written() {
        for text in ["add 2", "add a", "add a=2 b", "rm a", "rm a b", "weight a=0 b=100", "add a=0"] {
            assert_eq!(Step::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Step::parse("  rm   a ").unwrap().to_string(), "rm a");
        assert_eq!(Step::parse("add a=1").unwrap().to_string(), "add a");
    }

    #[test]
    fn text_that_is_not_a_step_is_refused() {
        let wrong = [
            "",
            "add",
            "rm",
            "weight",
            "remove a",
            "add 0",
            "add 1001",
            "add a b 3",
            "add a=101",
            "add a=-1",
            "add a=",
            "add ../a",
            "rm 2",
            "rm a=1",
            "weight a",
            "weight 1=1",
            "Add a",
        ];
        for text in wrong {
            assert_eq!(Step::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_newcomer_gets_the_lowest_free_index_and_stands_there() {
        let names = after(3, &["rm server2", "add new=3", "add other"]).unwrap();
        assert_eq!(names, ["1 server1=1", "2 new=3", "3 server3=1", "4 other=1"]);
        assert_eq!(
            after(2, &["rm server1", "add 2"]).unwrap(),
            ["1 server1=1", "2 server2=1", "3 server3=1"]
        );
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over_when_names_are_made() {
        let names = after(2, &["add server4", "add 1"]).unwrap();
        assert_eq!(names, ["1 server1=1", "2 server2=1", "3 server4=1", "4 server5=1"]);
    }

    #[test]
    fn weights_change_and_nothing_else_does() {
        let names = after(2, &["weight server2=5 server1=0"]).unwrap();
        assert_eq!(names, ["1 server1=0", "2 server2=5"]);
    }

    #[test]
    fn a_step_that_cannot_be_done_says_which_and_why() {
        let cases: [(&[&str], &str); 6] = [
            (&["rm server9"], "'rm server9': there is no replica server9"),
            (&["rm server1", "rm server1"], "'rm server1': there is no replica server1"),
            (&["add server1"], "'add server1': there is a replica server1 already"),
            (&["weight x=1"], "'weight x=1': there is no replica x"),
            (&["rm server1 server2"], "'rm server1 server2': no replica with a weight above 0 is left"),
            (&["add 999"], "'add 999': 1001 replicas are too many; expected at most 1000"),
        ];
        for (steps, message) in cases {
            assert_eq!(after(2, steps).unwrap_err(), message);
        }
    }
}
