//! Answers in words, for people.

use std::fmt::Write as _;

use serde_json::Value;

/// How many moves of a plan are worth a line.
const MOVES: usize = 20;

/// An answer for people, without its last line feed.
pub(super) fn in_words(message: &Value) -> String {
    if let Some(candidates) = message["candidates"].as_array() {
        explanation(message, candidates)
    } else if let Some(moves) = message["moves"].as_array() {
        plan(message, moves)
    } else if message["mapping"].is_string() {
        mapping(message)
    } else if let Some(backends) = message["backends"].as_array() {
        let spares = message["spares"].as_array().map(Vec::as_slice).unwrap_or_default();
        table(backends.iter().chain(spares))
    } else {
        replicas(message)
    }
}

fn replicas(message: &Value) -> String {
    let names = message["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = format!("{} replicas", message["N"]);
    for name in names {
        let _ = write!(text, "\n  {}", plain(name));
    }
    text
}

fn explanation(message: &Value, candidates: &[Value]) -> String {
    let mut text = format!(
        "id {} is key {:?} (bytes {}): mapping {}, hash {}, position {}",
        plain(&message["id"]),
        plain(&message["key"]),
        plain(&message["key_bytes"]),
        plain(&message["mapping"]),
        message["hash"],
        message["position"]
    );
    let width = column(candidates.iter(), "hostname");
    for (number, candidate) in (1..).zip(candidates) {
        let (hostname, slot, state) =
            (plain(&candidate["hostname"]), plain(&candidate["name"]), plain(&candidate["state"]));
        let _ = write!(text, "\n  {number}. {hostname:width$}  slot {slot}, {state}");
        if let Some(reason) = candidate["skipped"].as_str() {
            let _ = write!(text, "; skipped: {reason}");
        }
    }
    let pick = message["pick"].as_str().unwrap_or("nobody: no replica is available");
    let owner = candidates.first().filter(|_| message["owner"].is_string());
    match owner.filter(|owner| owner["hostname"] != message["pick"]) {
        Some(owner) => {
            let _ = write!(text, "\nit belongs to {}, but goes to {pick}", plain(&owner["hostname"]));
        }
        None => {
            let _ = write!(text, "\nit goes to {pick}");
        }
    }
    text
}

/// `NAME VALUE` lines.
fn mapping(message: &Value) -> String {
    let mut text = format!("mapping {}", plain(&message["mapping"]));
    let parameters =
        ["points", "slots", "virtual", "probing", "request_hash", "server_hash", "balance_factor", "seeded"];
    for name in parameters {
        match &message[name] {
            Value::Null if name == "balance_factor" => text.push_str("\nbalance_factor off"),
            Value::Null => {}
            value => {
                let _ = write!(text, "\n{name} {}", plain(value));
            }
        }
    }
    text.push_str("\nweights");
    for (name, weight) in message["weights"].as_object().into_iter().flatten() {
        let _ = write!(text, " {name}={weight}");
    }
    text
}

fn plan(message: &Value, moves: &[Value]) -> String {
    let keys = match message["basis"].as_str() {
        Some("positions") => "all 2^64 positions of the ring".to_owned(),
        Some("entries") => format!("all {} entries of the table", message["keys"]),
        Some("expected") => "all keys".to_owned(),
        Some("ids") => "all six-digit ids".to_owned(),
        _ => format!("{} six-digit ids", message["keys"]),
    };
    let least = percent(&message["least"]);
    let mut text =
        format!("{} of {keys} would move; {least} is the least possible", percent(&message["moved"]));
    let name = |side: &Value| side.as_str().unwrap_or("nobody").to_owned();
    let width = moves.iter().map(|one| name(&one["from"]).chars().count()).max().unwrap_or(0);
    for one in moves.iter().take(MOVES) {
        let (from, to) = (name(&one["from"]), name(&one["to"]));
        let _ = write!(text, "\n  {:>9}  {from:width$} -> {to}", percent(&one["share"]));
    }
    let more = moves.len().saturating_sub(MOVES) as u64 + message["omitted"]["moves"].as_u64().unwrap_or(0);
    if more > 0 {
        let _ = write!(text, "\n  and {more} smaller ones (--json has more)");
    }
    let load = |side: &str| match message[side]["max_over_mean"].as_f64() {
        Some(load) => format!("{load:.3}"),
        None => "-".to_owned(),
    };
    let _ = write!(text, "\nbusiest / mean: {} now, {} then", load("before"), load("after"));
    let connections = &message["connections"];
    let (open, now, then) =
        (&connections["open"], &connections["out_of_place_now"], &connections["out_of_place_then"]);
    let _ = write!(
        text,
        "\nopen connections: {open}; out of place: {now} now, {then} then (they stay where they are)"
    );
    for warning in message["warnings"].as_array().into_iter().flatten() {
        let _ = write!(text, "\nwarning: {}", plain(warning));
    }
    let _ = write!(text, "\nto do it: {}", plain(&message["command"]));
    text
}

fn percent(share: &Value) -> String {
    format!("{:.3} %", 100.0 * share.as_f64().unwrap_or(0.0))
}

fn table<'a>(backends: impl Iterator<Item = &'a Value> + Clone) -> String {
    const COLUMNS: [&str; 6] = ["index", "name", "hostname", "address", "state", "restarts"];
    let widths = COLUMNS.map(|name| column(backends.clone(), name));
    let mut text = String::new();
    for (name, width) in COLUMNS.iter().zip(widths) {
        let _ = write!(text, "{name:width$}  ");
    }
    text.push_str("connections");
    for backend in backends {
        text.push('\n');
        for (name, width) in COLUMNS.iter().zip(widths) {
            let _ = write!(text, "{:width$}  ", plain(&backend[*name]));
        }
        let connections = &backend["connections"];
        let _ = write!(text, "{} open, {} in all", connections["open"], connections["total"]);
        if backend["transport"] == "handoff" {
            text.push_str(", handed over");
        }
        if let Some(reason) = backend["reason"].as_str() {
            let _ = write!(text, "  ({reason})");
        }
    }
    text
}

/// How wide a column has to be for its name and every value in it.
fn column<'a>(rows: impl Iterator<Item = &'a Value>, name: &str) -> usize {
    rows.map(|row| plain(&row[name]).chars().count()).max().unwrap_or(0).max(name.len())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
