//! Three `lb`s of one fleet, each on a node of its own: commands go to any of them, and all agree.
//!
//! What is promised: commands that change the fleet are linearizable, whichever `lb` takes them. Questions and refusals are answered
//! from the view of the `lb` that is asked. It may be some milliseconds old, and never older than what this `lb` has answered before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};

use super::fleet::{CALM, Fleet, ask};
use super::in_time;
use super::nodes::Turn;
use crate::harness::{Lb, text};
use crate::linearizable::{Model, Span, order};

/// Clients that command at the same time, and the commands of each: more than 100 together.
const CLIENTS: usize = 12;
const STEPS: usize = 9;
/// Ids whose choice is compared, and how many are asked at once. `bench a3 --provider swarm --balancers 3` compares ten times as many.
const IDS: u32 = 10_000;
const BATCH: usize = 500;

/// What the `lb`s agree on: the mapping, and the weight of each slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Agreed {
    mapping: String,
    weights: BTreeMap<String, u64>,
}

/// A command.
#[derive(Clone, Debug)]
enum Command {
    Add(String),
    Remove(String),
    Weigh(String, u64),
    Remap(&'static str),
    Mapping,
    List,
}

/// What the client was told.
#[derive(Clone, Debug)]
enum Told {
    Done(Value),
    Refused,
}

impl Command {
    fn json(&self) -> Value {
        match self {
            Command::Add(name) => json!({"cmd": "add", "n": 1, "hostnames": [name]}),
            Command::Remove(name) => json!({"cmd": "rm", "n": 1, "hostnames": [name]}),
            Command::Weigh(name, weight) => json!({"cmd": "mapping", "weights": {name: weight}}),
            Command::Remap(mapping) => json!({"cmd": "mapping", "mapping": mapping}),
            Command::Mapping => json!({"cmd": "mapping"}),
            Command::List => json!({"cmd": "rep"}),
        }
    }

    /// Whether its answer is that of one `lb`, and not agreed on.
    fn is_question(&self) -> bool {
        matches!(self, Command::Mapping | Command::List)
    }

    /// The step of a client, which differs from client to client. No name is used again after it was removed.
    fn of(client: usize, step: usize) -> Command {
        let own = format!("c{client}");
        let other = format!("c{}", (client + 1) % CLIENTS);
        let mapping = |turn: usize| ["ring", "maglev", "rendezvous"][turn % 3];
        match (client + step) % STEPS {
            0 => Command::Add(own),
            1 => Command::Weigh(format!("server{}", client % 3 + 1), 2 + step as u64),
            2 => Command::Remap(mapping(client)),
            3 | 8 => Command::List,
            4 => Command::Remove(other),
            5 => Command::Mapping,
            6 => Command::Weigh(own, 2),
            _ => Command::Remap(mapping(client + step)),
        }
    }
}

impl Model for Agreed {
    type Call = (Command, Told);

    fn after(&self, (command, told): &(Command, Told)) -> Option<Agreed> {
        let mut next = self.clone();
        let has = |name: &String| self.weights.contains_key(name);
        let can_be_done = match command {
            Command::Add(name) => next.weights.insert(name.clone(), 1).is_none(),
            Command::Remove(name) => next.weights.remove(name).is_some(),
            Command::Weigh(name, weight) => {
                next.weights.entry(name.clone()).and_modify(|present| *present = *weight);
                has(name)
            }
            Command::Remap(mapping) => {
                (*mapping).clone_into(&mut next.mapping);
                true
            }
            Command::Mapping | Command::List => true,
        };
        match (command, told) {
            (_, Told::Refused) => (!can_be_done).then(|| self.clone()),
            (Command::Mapping, Told::Done(answer)) => (read(answer) == *self).then_some(next),
            (Command::List, Told::Done(answer)) => {
                let listed: BTreeSet<&str> = answer["replicas"].as_array()?.iter().map(text).collect();
                let is_right = listed.into_iter().eq(self.weights.keys().map(String::as_str));
                is_right.then_some(next)
            }
            (_, Told::Done(_)) => can_be_done.then_some(next),
        }
    }

    fn only_reads((command, told): &(Command, Told)) -> bool {
        command.is_question() || matches!(told, Told::Refused)
    }
}

/// The answer to `mapping`.
fn read(answer: &Value) -> Agreed {
    let weights = answer["weights"].as_object().unwrap();
    Agreed {
        mapping: text(&answer["mapping"]).to_owned(),
        weights: weights.iter().map(|(name, weight)| (name.clone(), weight.as_u64().unwrap())).collect(),
    }
}

/// A call, and the number of the `lb` that took it.
type Taken = (usize, Span<(Command, Told)>);

/// What was said to whom and when, in microseconds.
struct History {
    begun: Instant,
    calls: Mutex<Vec<Taken>>,
}

impl History {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    fn say(&self, lbs: &[Lb], number: usize, command: Command) {
        let begun = self.now();
        let answer = ask(&lbs[number], &command.json());
        let ended = self.now();
        let message = answer["message"].clone();
        let (told, ended) = match (answer["status"].as_str(), text_of(&message)) {
            (Some("successful"), _) => (Told::Done(message), Some(ended)),
            (_, said) if said.contains("is unknown") => (Told::Refused, Some(ended)),
            // It could not be written in time, or a replica did not start: it may have been written all the same.
            (_, said) => {
                eprintln!("{command:?}: {said}");
                (Told::Done(Value::Null), None)
            }
        };
        self.calls.lock().unwrap().push((number, Span { begun, ended, call: (command, told) }));
    }

    /// The calls, each with the time from which on it may have taken effect.
    fn calls(self) -> Vec<Span<(Command, Told)>> {
        let taken = self.calls.into_inner().unwrap();
        let since = |number: usize, span: &Span<(Command, Told)>| {
            if !Agreed::only_reads(&span.call) {
                return span.begun;
            }
            let own = taken.iter().filter(|(other, _)| *other == number);
            own.filter_map(|(_, other)| other.ended).filter(|ended| *ended < span.begun).max().unwrap_or(0)
        };
        taken.iter().map(|(number, span)| Span { begun: since(*number, span), ..span.clone() }).collect()
    }
}

/// The calls as a table in the order of their ends, for a message.
fn lines(calls: &[Span<(Command, Told)>]) -> String {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by_key(|span| span.ended.unwrap_or(u64::MAX));
    let line = |Span { begun, ended, call: (command, told) }: &Span<(Command, Told)>| {
        let told = match told {
            Told::Done(answer) => answer.to_string(),
            Told::Refused => "refused".to_owned(),
        };
        format!("{begun}-{} {command:?}: {told}\n", ended.map_or_else(String::new, |ended| ended.to_string()))
    };
    calls.into_iter().map(line).collect()
}

fn text_of(message: &Value) -> &str {
    message.as_str().unwrap_or_default()
}

/// The epoch of an `lb`.
fn epoch(lb: &Lb) -> u64 {
    lb.done(&json!({"cmd": "backends"}))["epoch"].as_u64().unwrap()
}

/// Waits until all have the same epoch; returns it.
#[track_caller]
fn agreed(lbs: &[Lb]) -> u64 {
    in_time("one epoch", || {
        let epochs: BTreeSet<u64> = lbs.iter().map(epoch).collect();
        (epochs.len() == 1).then(|| epochs.into_iter().next().unwrap())
    })
}

/// The slots that each of many ids tries, in their order.
fn choices(lb: &Lb) -> Vec<String> {
    let mut stream = BufReader::new(lb.dial(lb.control));
    let mut all = Vec::new();
    for batch in (0..IDS).collect::<Vec<_>>().chunks(BATCH) {
        let questions: String =
            batch.iter().map(|id| format!("{{\"cmd\":\"explain\",\"id\":\"{}\"}}\n", id * 7919)).collect();
        stream.get_mut().write_all(questions.as_bytes()).unwrap();
        for _ in batch {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert!(line.ends_with("\"status\":\"successful\"}\n"), "{line}");
            // To parse so many answers would take longer than to get them.
            let names = line.split("\"name\":\"").skip(1).filter_map(|rest| rest.split('"').next());
            all.push(names.collect::<Vec<_>>().join(" "));
        }
    }
    all
}

#[test]
fn three_lbs_that_are_commanded_at_once_agree() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "agree");
    let flags = [&CALM[..], &["--drain-timeout", "1s", "--mapping", "ring"]].concat();
    let lbs: Vec<Lb> = (1..=3).map(|node| fleet.start(node, &flags)).collect();
    let start = read(&lbs[0].done(&json!({"cmd": "mapping"})));

    let begun = Instant::now();
    let history = History { begun, calls: Mutex::default() };
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (history, lbs) = (&history, &lbs);
            scope.spawn(move || {
                for step in 0..STEPS {
                    history.say(lbs, (client + step) % lbs.len(), Command::of(client, step));
                }
            });
        }
    });
    agreed(&lbs);
    // Whatever was not told is known by now.
    let settled = lbs.iter().map(|lb| fleet.settled(lb)).collect::<Vec<_>>();
    assert!(settled.iter().all(|tasks| *tasks == settled[0]), "{settled:?}");
    let mut calls = history.calls();
    // All have the last epoch now, so this is no old view.
    let last = History { begun, calls: Mutex::default() };
    (0..lbs.len()).for_each(|number| last.say(&lbs, number, Command::Mapping));
    calls.extend(last.calls.into_inner().unwrap().into_iter().map(|(_, span)| span));

    let done = calls.iter().filter(|span| span.ended.is_some() && matches!(span.call.1, Told::Done(_)));
    assert!(calls.len() > 100 && done.count() > 60, "{}", lines(&calls));
    assert!(order(&start, &calls).is_some(), "no order explains these answers:\n{}", lines(&calls));

    let services = in_time("a service for each slot, and no other", || {
        let services: BTreeSet<String> = fleet.services().into_keys().collect();
        let slots: BTreeSet<String> = lbs[0].hostnames().into_iter().collect();
        (services == slots).then_some(services)
    });
    assert!(fleet.settled(&lbs[2]).keys().eq(&services), "a running task for each of them");

    let all: Vec<Vec<String>> = in_time("the choices of one epoch", || {
        let epoch = agreed(&lbs);
        let all = std::thread::scope(|scope| {
            let asked: Vec<_> = lbs.iter().map(|lb| scope.spawn(move || choices(lb))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        // What has left may have been forgotten meanwhile.
        (agreed(&lbs) == epoch).then_some(all)
    });
    assert_eq!(all[0][0].split(' ').count(), services.len(), "{}", all[0][0]);
    let different = (0..all[0].len()).filter(|&at| all.iter().any(|other| other[at] != all[0][at]));
    assert_eq!(different.count(), 0);
}
