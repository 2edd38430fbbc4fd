//! The client commands as their flags say them, turned into what is sent.

use proto::control::{
    Addition, Change, Command, DrainTime, Failure, FailureKind, Hostname, Malformed, Remapping, Removal,
    Weight,
};

use super::args::{Client, ClientCommand, MappingAction, MappingChange, PlannedChange};
use super::token;
use crate::client::Request;

impl ClientCommand {
    /// The request to a running `lb`.
    ///
    /// # Errors
    /// A hostname or weight has the wrong form (the message is that of `lb` itself), or the token cannot be read.
    pub fn request(self) -> anyhow::Result<Request> {
        let (command, client) = match self {
            ClientCommand::Rep { client } => (Command::Rep {}, client),
            ClientCommand::Add { n, hostnames, weights, client } => {
                (Command::Add(addition(n, hostnames, weights)?), client)
            }
            ClientCommand::Rm { n, hostnames, drain, now, client } => {
                (Command::Remove(removal(n, hostnames, drain_time(drain, now)?)?), client)
            }
            ClientCommand::Backends { client } => (Command::Backends {}, client),
            ClientCommand::Mapping { action: None, client } => {
                (Command::Mapping(Remapping::default()), client)
            }
            ClientCommand::Mapping { action: Some(MappingAction::Set { change }), client } => {
                (Command::Mapping(remapping(change)?), client)
            }
            ClientCommand::Plan { change, client } => (Command::Plan { change: planned(change)? }, client),
            ClientCommand::Explain { id, client } => (Command::Explain { id }, client),
        };
        let Client { control, control_token, control_token_file, json } = client;
        let token = token(control_token, control_token_file.as_deref()).map_err(anyhow::Error::msg)?;
        Ok(Request { command, control, token, json })
    }
}

fn planned(change: PlannedChange) -> Result<Change, Failure> {
    Ok(match change {
        PlannedChange::Add { which, weights } => {
            let (n, hostnames) = number_and_names(which);
            Change::Add(addition(n, hostnames, weights)?)
        }
        PlannedChange::Rm { which } => {
            let (n, hostnames) = number_and_names(which);
            Change::Remove(removal(n, hostnames, None)?)
        }
        PlannedChange::Mapping { action: MappingAction::Set { change } } => {
            Change::Mapping(remapping(change)?)
        }
    })
}

/// A number and names, or only names, where each counts as one.
fn number_and_names(mut which: Vec<String>) -> (u32, Vec<String>) {
    match which.first().map(|first| first.parse()) {
        Some(Ok(n)) => (n, which.split_off(1)),
        _ => (u32::try_from(which.len()).unwrap_or(u32::MAX), which),
    }
}

fn addition(n: u32, hostnames: Vec<String>, weights: Vec<u64>) -> Result<Addition, Failure> {
    let weights = weights.into_iter().map(weight).collect::<Result<_, _>>()?;
    Ok(Addition { n, hostnames: names(hostnames)?, weights })
}

fn removal(n: u32, hostnames: Vec<String>, drain: Option<DrainTime>) -> Result<Removal, Failure> {
    Ok(Removal { n, hostnames: names(hostnames)?, drain })
}

fn drain_time(drain: Option<String>, now: bool) -> Result<Option<DrainTime>, Failure> {
    match drain {
        None => Ok(now.then_some(DrainTime::NONE)),
        Some(drain) => drain.parse().map(Some).map_err(|error| bad("drain", &error)),
    }
}

fn remapping(change: MappingChange) -> Result<Remapping, Failure> {
    let named = |(name, given)| {
        Ok((Hostname::try_from(name).map_err(|error| bad("weights", &error))?, weight(given)?))
    };
    let mut remapping = Remapping::default();
    remapping.weights = change.weights.into_iter().map(named).collect::<Result<_, Failure>>()?;
    let parameters = change.parameters.0.into_iter().map(|(parameter, text)| (parameter.name, Some(text)));
    let others = [("mapping", change.mapping), ("balance_factor", change.balance_factor)];
    for (name, text) in others.into_iter().chain(parameters) {
        if let Some(text) = text {
            remapping.set(name, text).map_err(|error| bad(name, &error))?;
        }
    }
    Ok(remapping)
}

fn names(hostnames: Vec<String>) -> Result<Vec<Hostname>, Failure> {
    hostnames
        .into_iter()
        .map(|name| Hostname::try_from(name).map_err(|error| bad("hostnames", &error)))
        .collect()
}

fn weight(given: u64) -> Result<Weight, Failure> {
    Weight::try_from(given).map_err(|error| bad("weights", &error))
}

fn bad(field: &str, error: &Malformed) -> Failure {
    FailureKind::BadRequest.because(format!("`{field}`: {error}"))
}
