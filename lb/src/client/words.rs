//! Answers as text for people.

use proto::control::{
    Basis, Body, Candidate, Explanation, Health, Killed, Mapping, Move, Plan, Replicas, Ring, Shares,
    Upgraded,
};
use proto::printable::printable;

use super::backends;
use super::table::columns;

/// The most moves of a plan that are listed.
const MOVES: usize = 20;

/// An answer for people, without its last line feed.
pub(crate) fn in_words(body: &Body) -> String {
    let lines = match body {
        Body::Replicas(answer) => replicas(answer),
        Body::Backends(answer) => return backends::in_words(answer),
        Body::Explanation(answer) => explanation(answer),
        Body::Health(Health { up, n }) => vec![format!("{up} of {n} replicas are in rotation")],
        Body::Mapping(answer) => mapping(answer),
        Body::Plan(answer) => plan(answer),
        Body::Killed(answer) => vec![killed(answer)],
        Body::Ring(answer) => ring(answer),
        Body::Reloaded(answer) => super::reloaded::in_words(answer),
        Body::Written(answer) => answer.config.lines().map(str::to_owned).collect(),
        Body::Upgraded(Upgraded { successor, seconds }) => {
            vec![format!("process {successor} has taken over, {seconds:.3} s after it was asked for")]
        }
    };
    // A text in it, such as an id or the reason of a state, may hold anything.
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

fn ring(Ring { mapping, slots, .. }: &Ring) -> Vec<String> {
    let slots =
        slots.iter().map(|slot| format!("  {}   {:.3} %, {}", slot.name, 100.0 * slot.share, slot.state));
    [format!("mapping {mapping}")].into_iter().chain(slots).collect()
}

fn replicas(Replicas { n, replicas }: &Replicas) -> Vec<String> {
    let names = replicas.iter().map(|name| format!("  {name}"));
    [format!("{n} replicas")].into_iter().chain(names).collect()
}

fn killed(Killed { killed, slot }: &Killed) -> String {
    match slot.as_ref().filter(|slot| *slot != killed) {
        Some(slot) => format!("{killed} in slot {slot} is killed"),
        None => format!("{killed} is killed"),
    }
}

fn explanation(answer: &Explanation) -> Vec<String> {
    let Explanation { id, key, key_bytes, mapping, candidates, owner, pick, .. } = answer;
    let place = answer.hash.zip(answer.position).map_or_else(
        || format!("position {} % (a seed hides the hash)", answer.position_percent),
        |(hash, position)| format!("hash {hash}, position {position}"),
    );
    let what = subject(answer.key_kind.as_deref());
    let mut lines =
        vec![format!("{what} {id} is key {key:?} (bytes {key_bytes}): mapping {mapping}, {place}")];
    let rows = (1..).zip(candidates).map(|(number, candidate)| {
        let Candidate { hostname, name, state, skipped, .. } = candidate;
        let skipped = skipped.as_ref().map_or_else(String::new, |reason| format!("; skipped: {reason}"));
        [format!("{number}."), format!("{hostname:8}"), format!("slot {name}, {state}{skipped}")]
    });
    lines.extend(columns(&[2, 1, 2], rows));
    let goes_to = pick.as_deref().unwrap_or("no replica: none is available");
    let owner = owner.as_ref().and(candidates.first()).map(|owner| &owner.hostname);
    lines.push(match owner.filter(|owner| pick.as_ref() != Some(owner)) {
        Some(owner) => format!("it belongs to {owner}, but goes to {goes_to}"),
        None => format!("it goes to {goes_to}"),
    });
    lines
}

/// What is asked for, where keys are of this kind.
fn subject(kind: Option<&str>) -> String {
    match kind.map(|kind| kind.split_once(':').unwrap_or((kind, ""))) {
        Some(("source", _)) => "address".to_owned(),
        Some(("sni", _)) => "server name".to_owned(),
        Some(("path", _)) => "path".to_owned(),
        Some((what @ ("header" | "cookie"), name)) => format!("{what} {name}:"),
        _ => "id".to_owned(),
    }
}

/// `NAME VALUE` lines.
fn mapping(answer: &Mapping) -> Vec<String> {
    let mut lines = vec![format!("mapping {}", answer.mapping)];
    lines.extend(answer.parameters.0.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} {text}"),
        None => format!("{name} {value}"),
    }));
    let factor = answer.balance_factor.map_or_else(|| "off".to_owned(), |factor| format!("{factor:?}"));
    lines.extend([format!("balance_factor {factor}"), format!("seeded {}", answer.seeded)]);
    let weights = answer.weights.iter().map(|(name, weight)| format!(" {name}={weight}"));
    lines.push(["weights".to_owned()].into_iter().chain(weights).collect());
    lines
}

fn plan(answer: &Plan) -> Vec<String> {
    let count = answer.keys.map_or_else(String::new, |keys| keys.to_string());
    let keys = match answer.basis {
        Basis::Positions => "all 2^64 positions of the ring".to_owned(),
        Basis::Entries => format!("all {count} entries of the table"),
        Basis::Expected => "all keys".to_owned(),
        Basis::Ids => "all six-digit ids".to_owned(),
        Basis::Sample => format!("{count} six-digit ids"),
    };
    let (moved, least) = (percent(answer.moved), percent(answer.least));
    let mut lines = vec![format!("{moved} of {keys} would move; {least} is the least possible")];
    let name = |slot: &Option<String>| slot.clone().unwrap_or_else(|| "no slot".to_owned());
    let rows = answer.moves.iter().take(MOVES).map(|Move { from, to, share }| {
        [format!("{:>9}", percent(*share)), name(from), format!("-> {}", name(to))]
    });
    lines.extend(columns(&[2, 2, 1], rows));
    let more = answer.moves.len().saturating_sub(MOVES) + answer.omitted.map_or(0, |omitted| omitted.moves);
    if more > 0 {
        lines.push(format!("  and {more} smaller ones (--json has more)"));
    }
    let (now, then) = (busiest(&answer.before), busiest(&answer.after));
    let connections = answer.connections;
    lines.extend([
        format!("busiest / mean: {now} now, {then} then"),
        format!(
            "open connections: {}; out of place: {} now, {} then (they stay where they are)",
            connections.open, connections.out_of_place_now, connections.out_of_place_then
        ),
    ]);
    lines.extend(answer.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.push(format!("to do it: {}", answer.command));
    lines
}

fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}

fn busiest(shares: &Shares) -> String {
    shares.max_over_mean.map_or_else(|| "-".to_owned(), |load| format!("{load:.3}"))
}
