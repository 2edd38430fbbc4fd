//! The client commands as their flags say them, turned into what is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use proto::control::{
    Addition, Change, Command, DrainTime, Failure, FailureKind, Hostname, Kill, Malformed, Reload, Remapping,
    Removal, Since, Weight,
};

use super::args::ConfigFlags;
use super::asking::Client;
use super::commands::{ClientCommand, MappingAction, MappingChange, PlannedChange, Which};
use super::environment::{self, FromEnvironment};
use super::secret;
use super::value::NumberOrName;
use super::{Config, Problems, Serve};
use crate::client::{Address, PATIENCE, Request};
use crate::net::ListenAddress;

impl ClientCommand {
    /// Which of its flags are set in the environment.
    #[must_use]
    pub fn from_environment(&self) -> &FromEnvironment {
        let (ClientCommand::Rep { client }
        | ClientCommand::Add { client, .. }
        | ClientCommand::Rm { client, .. }
        | ClientCommand::Kill { client, .. }
        | ClientCommand::Backends { client, .. }
        | ClientCommand::Top { client }
        | ClientCommand::Mapping { client, .. }
        | ClientCommand::Plan { client, .. }
        | ClientCommand::Explain { client, .. }
        | ClientCommand::Incidents { client }
        | ClientCommand::Events { client, .. }
        | ClientCommand::Reload { client, .. }
        | ClientCommand::Upgrade { client, .. }
        | ClientCommand::Health { client }) = self;
        &client.from_environment
    }

    /// Checks what the command needs of the place where it runs: `lb top` needs a terminal.
    ///
    /// # Errors
    /// It is not there.
    pub fn check(&self) -> anyhow::Result<()> {
        let ClientCommand::Top { client } = self else { return Ok(()) };
        anyhow::ensure!(!client.json, "--json: lb top shows no JSON (lb backends --watch --json does)");
        Ok(crate::top::check(environment::variable("TERM").as_deref())?)
    }

    /// The request to a running `lb`.
    ///
    /// # Errors
    /// A hostname or weight has the wrong form (the message is that of `lb` itself), or the token cannot be read.
    pub fn request(self) -> anyhow::Result<Request> {
        let watch = matches!(self, ClientCommand::Backends { watch: true, .. });
        let (command, client) = match self {
            ClientCommand::Rep { client } => (Command::Rep {}, client),
            ClientCommand::Add { which, weights, client } => {
                (Command::Add(addition(which, weights)?), client)
            }
            ClientCommand::Rm { which, drain, now, client } => {
                (Command::Remove(removal(which, drain_time(drain, now)?)?), client)
            }
            ClientCommand::Kill { hostname, client } => (Command::Kill(kill(hostname)?), client),
            ClientCommand::Backends { client, .. } => (Command::Backends {}, client),
            // The first question of many.
            ClientCommand::Top { client } => (Command::Backends {}, client),
            ClientCommand::Mapping { action: None, client } => {
                (Command::Mapping(Remapping::default()), client)
            }
            ClientCommand::Mapping { action: Some(MappingAction::Set { change }), client } => {
                (Command::Mapping(remapping(change)?), client)
            }
            ClientCommand::Plan { change, client } => (Command::Plan { change: planned(change)? }, client),
            ClientCommand::Explain { id, client } => (Command::Explain { id }, client),
            ClientCommand::Incidents { client } => (Command::Incidents {}, client),
            ClientCommand::Events { since, follow, client } => {
                let since = since.map(|since| since.parse::<Since>()).transpose();
                let since = since.map_err(|error| anyhow::anyhow!("--since: {error}"))?;
                (Command::Events { since, follow }, client)
            }
            ClientCommand::Reload { dry_run, client } => (Command::Reload(Reload { dry_run }), client),
            ClientCommand::Upgrade { binary, client } => {
                // The running lb may be in another folder.
                (Command::Upgrade { binary: binary.map(std::path::absolute).transpose()? }, client)
            }
            ClientCommand::Health { client } => (Command::Health {}, client),
        };
        let Client { control, control_token, control_token_file, json, .. } = client;
        let token =
            secret::token(control_token, control_token_file.as_deref()).map_err(anyhow::Error::msg)?;
        Ok(Request { command, control, token, json, watch, patience: PATIENCE })
    }
}

fn planned(change: PlannedChange) -> Result<Change, Failure> {
    Ok(match change {
        PlannedChange::Add { which, weights } => Change::Add(addition(which, weights)?),
        PlannedChange::Rm { which } => Change::Remove(removal(which, None)?),
        PlannedChange::Mapping { action: MappingAction::Set { change } } => {
            Change::Mapping(remapping(change)?)
        }
    })
}

fn addition(which: Which, weights: Vec<u64>) -> Result<Addition, Failure> {
    let weights = weights.into_iter().map(weight).collect::<Result<_, _>>()?;
    let (n, hostnames) = number_and_names(which)?;
    Ok(Addition { n, hostnames, weights })
}

fn removal(which: Which, drain: Option<DrainTime>) -> Result<Removal, Failure> {
    let (n, hostnames) = number_and_names(which)?;
    Ok(Removal { n, hostnames, drain })
}

fn kill(hostname: String) -> Result<Kill, Failure> {
    Ok(Kill { hostname: Hostname::try_from(hostname).map_err(|error| bad("hostname", &error))? })
}

fn drain_time(drain: Option<String>, now: bool) -> Result<Option<DrainTime>, Failure> {
    match drain {
        None => Ok(now.then_some(DrainTime::NONE)),
        Some(drain) => drain.parse().map(Some).map_err(|error| bad("drain", &error)),
    }
}

/// Names alone mean their number.
fn number_and_names<N: FromStr<Err = Malformed>>(
    Which { first, mut hostnames }: Which,
) -> Result<(u32, Vec<N>), Failure> {
    let n = match first {
        NumberOrName::Number(n) => Some(n),
        NumberOrName::Name(name) => {
            hostnames.insert(0, name);
            None
        }
    };
    let hostnames = hostnames.iter().map(|name| name.parse()).collect::<Result<Vec<N>, _>>();
    let hostnames = hostnames.map_err(|error| bad("hostnames", &error))?;
    Ok((n.unwrap_or(u32::try_from(hostnames.len()).unwrap_or(u32::MAX)), hostnames))
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

fn weight(given: u64) -> Result<Weight, Failure> {
    Weight::try_from(given).map_err(|error| bad("weights", &error))
}

fn bad(field: &str, error: &Malformed) -> Failure {
    FailureKind::BadRequest.because(format!("`{field}`: {error}"))
}

impl ConfigFlags {
    /// The question what runs, to the `lb` whose control port these flags name.
    ///
    /// # Errors
    /// The flags are wrong.
    pub fn question(serve: Serve) -> Result<Request, Problems> {
        let config = Config::check(serve)?;
        // There is one, or it is refused.
        let control = match config.control.into_iter().next() {
            Some(ListenAddress::Unix(path)) => Address::Unix(path),
            Some(ListenAddress::Tcp(address)) => Address::Tcp(reachable(address).to_string()),
            None => Address::Tcp(String::new()),
        };
        let (command, token) = (Command::Config {}, config.control_token);
        Ok(Request { command, control, token, json: false, watch: false, patience: PATIENCE })
    }
}

/// Where to ask an `lb` that listens here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
