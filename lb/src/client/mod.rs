//! The other end of the control port: `lb rep | add | rm | backends | mapping | plan | explain`.
//!
//! It sends what it was given and shows what comes back; what is allowed is for the running `lb` to say.

mod words;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::config::{Client, ClientCommand, MappingAction, MappingChange, PlannedChange, token};
use words::in_words;

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
        ClientCommand::Add { n, hostnames, weights, client } => {
            (json!({"cmd": "add", "n": n, "hostnames": hostnames, "weights": weights}), client)
        }
        ClientCommand::Rm { n, hostnames, client } => {
            (json!({"cmd": "rm", "n": n, "hostnames": hostnames}), client)
        }
        ClientCommand::Backends { client } => (json!({"cmd": "backends"}), client),
        ClientCommand::Mapping { action: None, client } => (json!({"cmd": "mapping"}), client),
        ClientCommand::Mapping { action: Some(MappingAction::Set { change }), client } => {
            (remapping(change), client)
        }
        ClientCommand::Plan { change, client } => (json!({"cmd": "plan", "change": planned(change)}), client),
        ClientCommand::Explain { id, client } => (json!({"cmd": "explain", "id": id}), client),
    }
}

fn planned(change: PlannedChange) -> Value {
    match change {
        PlannedChange::Add { which, weights } => {
            let (n, hostnames) = number_and_names(which);
            json!({"cmd": "add", "n": n, "hostnames": hostnames, "weights": weights})
        }
        PlannedChange::Rm { which } => {
            let (n, hostnames) = number_and_names(which);
            json!({"cmd": "rm", "n": n, "hostnames": hostnames})
        }
        PlannedChange::Mapping { action: MappingAction::Set { change } } => remapping(change),
    }
}

/// A number and names, or only names, of which each is one.
fn number_and_names(mut which: Vec<String>) -> (u32, Vec<String>) {
    match which.first().map(|first| first.parse()) {
        Some(Ok(n)) => (n, which.split_off(1)),
        _ => (u32::try_from(which.len()).unwrap_or(u32::MAX), which),
    }
}

fn remapping(change: MappingChange) -> Value {
    let fields = [
        ("mapping", change.mapping),
        ("points", change.points),
        ("slots", change.slots),
        ("virtual", change.virtuals),
        ("probing", change.probing),
        ("request_hash", change.request_hash),
        ("server_hash", change.server_hash),
        ("balance_factor", change.balance_factor),
    ];
    let mut command = json!({"cmd": "mapping"});
    for (name, value) in fields {
        if let Some(value) = value {
            command[name] = value.into();
        }
    }
    if !change.weights.is_empty() {
        command["weights"] = change
            .weights
            .into_iter()
            .map(|(name, weight)| (name, weight.into()))
            .collect::<Map<_, _>>()
            .into();
    }
    command
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
