//! One call to an engine: where it goes, its deadline, and an error that says what went wrong.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::Display;
use std::time::Duration;

use bollard::errors::Error;
use tokio::time::timeout;

/// The address of the engine if `DOCKER_HOST` is not set.
pub(super) const LOCAL: &str = "unix:///var/run/docker.sock";
/// How long a call may take. If the engine hangs, a command still has to be answered within five seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(4);

/// Filters of a list or a stream: names with the values that match.
pub(super) type Filters<'a> = [(&'a str, &'a [&'a str])];

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The engine replied with an error.
    #[error("the engine refused {call}: {message} (status {status})")]
    Refused { call: &'static str, status: u16, message: String },
    /// The engine did not reply in time. It may carry out the call all the same.
    #[error("the engine did not reply to {call} within {limit:?}")]
    Late { call: &'static str, limit: Duration },
    /// There is no connection to an engine.
    #[error("cannot reach the engine for {call}: {reason}")]
    Unreachable { call: &'static str, reason: String },
    /// The reply is not what the API promises.
    #[error("cannot parse the engine's reply to {call}: {reason}")]
    Garbled { call: &'static str, reason: String },
}

impl Trouble {
    /// Whether the fault is the engine's: it is away, or would fail at any call.
    pub(super) fn is_the_engines(&self) -> bool {
        !matches!(self, Trouble::Refused { .. })
    }

    /// Whether the engine is away: it cannot be reached, or does not reply.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Trouble::Late { .. } | Trouble::Unreachable { .. })
    }

    /// Whether the engine replied with this status.
    pub(super) fn is(&self, wanted: u16) -> bool {
        matches!(self, Trouble::Refused { status, .. } if *status == wanted)
    }

    pub(super) fn new(call: &'static str, error: &Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Trouble::Refused { call, status: *status_code, message: message.trim().to_owned() }
            }
            Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::RequestTimeoutError
            | Error::UnsupportedURISchemeError { .. }
            | Error::SocketNotFoundError(_) => Trouble::Unreachable { call, reason: chain(error) },
            _ => Trouble::Garbled { call, reason: chain(error) },
        }
    }
}

/// The text of an error, followed by the texts of its sources that are not part of it already.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Connects to the engine at `host` (as in `DOCKER_HOST`) and agrees on a version of the API.
pub(super) async fn connect(host: &str) -> Result<bollard::Docker, Trouble> {
    const CALL: &str = "GET /version";
    let docker = bollard::Docker::connect_with_host(host).map_err(|error| Trouble::new(CALL, &error))?;
    call(CALL, LIMIT, docker.negotiate_version()).await
}

/// Makes a call, and waits at most until its limit.
pub(super) async fn call<T>(
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Trouble> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| Trouble::new(call, &error)),
        Err(_) => Err(Trouble::Late { call, limit }),
    }
}

/// Turns status 404 into `None`.
pub(super) fn if_there<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Err(trouble) if trouble.is(404) => Ok(None),
        answer => answer.map(Some),
    }
}

pub(super) fn garbled(call: &'static str, reason: impl Display) -> Trouble {
    Trouble::Garbled { call, reason: reason.to_string() }
}

pub(super) fn filters(filters: &Filters<'_>) -> HashMap<String, Vec<String>> {
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    filters.iter().map(|&(name, values)| (name.to_owned(), owned(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_about_the_call_and_everything_else_about_the_engine() {
        const CALL: &str = "GET /version";
        let response =
            |status_code| Error::DockerResponseServerError { status_code, message: " no\n".to_owned() };
        let refused = Trouble::new(CALL, &response(404));
        assert_eq!(refused.to_string(), "the engine refused GET /version: no (status 404)");
        assert!(refused.is(404) && !refused.is_the_engines() && !refused.is_absence());
        let late = Trouble::Late { call: CALL, limit: LIMIT };
        let unreachable = Trouble::new(CALL, &Error::RequestTimeoutError);
        let garbled = garbled(CALL, "no JSON");
        assert!(
            [&late, &unreachable, &garbled]
                .iter()
                .all(|trouble| trouble.is_the_engines() && !trouble.is(404))
        );
        assert!(late.is_absence() && unreachable.is_absence() && !garbled.is_absence());
        assert_eq!(garbled.to_string(), "cannot parse the engine's reply to GET /version: no JSON");
    }
}
