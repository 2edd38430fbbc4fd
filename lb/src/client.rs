//! The other end of the control port: `lb rep | add | rm | backends | explain`.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::config::{Client, ClientCommand, token};

/// How long an answer may take: a command is answered within a minute.
const PATIENCE: Duration = Duration::from_secs(65);

/// Sends a command to a running `lb`; its answer, as text for people or as it came.
///
/// # Errors
/// `lb` cannot be reached, or its answer is a failure; that is the message then.
pub fn run(command: ClientCommand) -> anyhow::Result<String> {
    let (command, client) = request(command);
    let answer = ask(&client, command)?;
    let parsed: Value = serde_json::from_str(&answer).context("the answer is not JSON")?;
    let message = &parsed["message"];
    match parsed["status"].as_str() {
        Some("successful") if client.json => Ok(answer),
        Some("successful") => Ok(in_words(message)),
        _ => bail!("{}", message.as_str().unwrap_or(&answer)),
    }
}

fn request(command: ClientCommand) -> (Value, Client) {
    match command {
        ClientCommand::Rep { client } => (json!({"cmd": "rep"}), client),
        ClientCommand::Add { n, hostnames, client } => {
            (json!({"cmd": "add", "n": n, "hostnames": hostnames}), client)
        }
        ClientCommand::Rm { n, hostnames, client } => {
            (json!({"cmd": "rm", "n": n, "hostnames": hostnames}), client)
        }
        ClientCommand::Backends { client } => (json!({"cmd": "backends"}), client),
        ClientCommand::Explain { id, client } => (json!({"cmd": "explain", "id": id}), client),
    }
}

fn ask(client: &Client, mut command: Value) -> anyhow::Result<String> {
    let token = token(client.control_token.clone(), client.control_token_file.as_deref());
    if let Some(token) = token.map_err(anyhow::Error::msg)? {
        command["token"] = token.into();
    }
    let address = &client.control;
    let mut stream = TcpStream::connect(address)
        .with_context(|| format!("no lb answers on {address} (--control); is it running?"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\n").as_bytes()).context("cannot send the command")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("no answer")?;
    if answer.is_empty() {
        bail!("{address} closed the connection without an answer");
    }
    Ok(answer.trim_end().to_owned())
}

/// An answer for people, without its last line feed.
fn in_words(message: &Value) -> String {
    if let Some(candidates) = message["candidates"].as_array() {
        explanation(message, candidates)
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
        "id {} is key {:?}: mapping {}, hash {}, position {}",
        plain(&message["id"]),
        plain(&message["key"]),
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
    let _ = write!(text, "\nit goes to {pick}");
    text
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
