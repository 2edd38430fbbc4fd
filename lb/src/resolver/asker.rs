//! One question to the DNS, with a deadline. What comes back is told apart: records, nothing, or a failure. Nothing is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::families::both;
use super::known::Answer;
use super::machine::{Directions, Machine};
use super::names::Search;

/// How long a question may take, with all its attempts.
const LIMIT: Duration = Duration::from_secs(5);
/// The most aliases in a row that are followed.
const ALIASES: usize = 8;

/// A server that a service record names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its name, in lower case and without the last dot.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The targets of a service, each with the addresses that came with the answer (maybe none).
pub(super) type Targets = BTreeMap<Target, Vec<IpAddr>>;

/// Asks the DNS as this machine is set up to.
pub(super) struct Asker {
    /// The lock is held while a file is read, and never while an answer is awaited.
    machine: Mutex<Machine>,
}

impl Asker {
    pub(super) fn new(machine: Machine) -> Self {
        Asker { machine: Mutex::new(machine) }
    }

    fn directions(&self) -> Result<Directions, String> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).directions()
    }

    /// The addresses of a host: those of the hosts file, or else all of both families. `before` are those that were known.
    pub(super) async fn addresses(&self, host: &Wanted, before: &[IpAddr]) -> Answer<Vec<IpAddr>> {
        let in_hosts = self.machine.lock().unwrap_or_else(PoisonError::into_inner).in_hosts(&host.name);
        if let Some(found) = in_hosts {
            return Answer::Records(found, Duration::MAX);
        }
        let directions = match self.directions() {
            Ok(directions) => directions,
            Err(why) => return Answer::Failed(why),
        };
        let mut search = host.search(&directions);
        while let Some(name) = search.next() {
            let of = |family| ask(directions.resolver.clone(), &name, family);
            let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
            let [v4, v6] = [v4, v6].map(|answer| answer.map(|lookup| addresses(&lookup)));
            if let Some(answer) = search.take(both(v4, v6, before)) {
                host.note(name, &answer);
                return answer;
            }
        }
        search.end()
    }

    /// The targets of a service (RFC 2782).
    pub(super) async fn targets(&self, service: &Wanted) -> Answer<Targets> {
        let directions = match self.directions() {
            Ok(directions) => directions,
            Err(why) => return Answer::Failed(why),
        };
        let mut search = service.search(&directions);
        while let Some(name) = search.next() {
            let answer = targets_of(&directions.resolver, name.clone()).await;
            if let Some(answer) = search.take(answer) {
                service.note(name, &answer);
                return answer;
            }
        }
        search.end()
    }
}

/// A name to ask for, which may stand for another one.
pub(super) struct Wanted {
    name: String,
    /// The name that it stood for when there were records last.
    found: Mutex<Option<String>>,
}

impl Wanted {
    pub(super) fn new(name: String) -> Self {
        Wanted { name, found: Mutex::default() }
    }

    /// As it was given.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn search(&self, directions: &Directions) -> Search {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        Search::new(directions.candidates(&self.name), found.as_deref())
    }

    fn note<T>(&self, name: String, answer: &Answer<T>) {
        if matches!(answer, Answer::Records(..)) {
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        }
    }
}

/// The targets of a service, also of one behind aliases. (The library follows aliases to addresses, but not to service records, whose
/// targets it takes for aliases.)
async fn targets_of(resolver: &TokioResolver, mut name: String) -> Answer<Targets> {
    for _ in 0..=ALIASES {
        let answer = ask(resolver.clone(), &name, RecordType::SRV).await.map(|lookup| targets(&lookup));
        if !matches!(answer, Answer::Nothing(_)) {
            return answer;
        }
        match ask(resolver.clone(), &name, RecordType::CNAME).await.map(|lookup| alias(&lookup)) {
            Answer::Records(real, _) => name = real,
            Answer::Nothing(_) => return answer,
            Answer::Failed(why) => return Answer::Failed(why),
        }
    }
    Answer::Failed(format!("it is an alias of an alias, more than {ALIASES} times"))
}

/// Asks one question. A bug that its answer may strike in the library is a failed question, and no more: it runs as a task.
async fn ask(resolver: TokioResolver, name: &str, kind: RecordType) -> Answer<Lookup> {
    let name = match Name::from_ascii(name) {
        Ok(name) => name,
        Err(error) => return Answer::Nothing(format!("it is no name: {error}")),
    };
    let lookup = tokio::spawn(async move { resolver.lookup(name, kind).await });
    match timeout(LIMIT, AbortOnDropHandle::new(lookup)).await {
        Ok(Ok(Ok(lookup))) => records(lookup, kind),
        Ok(Ok(Err(error))) => without_records(&error, kind),
        Ok(Err(error)) => Answer::Failed(unreadable(&error)),
        Err(_) => Answer::Failed(format!("no answer within {LIMIT:?}")),
    }
}

fn unreadable(error: &JoinError) -> String {
    format!("an answer that cannot be read: {error}")
}

fn records(lookup: Lookup, kind: RecordType) -> Answer<Lookup> {
    let hold = lookup.answers().iter().map(|record| record.ttl).min();
    let has_some = lookup.answers().iter().any(|record| record.record_type() == kind);
    match hold.filter(|_| has_some) {
        Some(seconds) => Answer::Records(lookup, Duration::from_secs(seconds.into())),
        None => none_of(kind),
    }
}

fn without_records(error: &NetError, kind: RecordType) -> Answer<Lookup> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => match response_code {
            ResponseCode::NXDomain => Answer::Nothing("NXDOMAIN".to_owned()),
            ResponseCode::NoError => none_of(kind),
            code => Answer::Failed(code_name(*code)),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Answer::Failed(code_name(*code)),
        NetError::Timeout => Answer::Failed("no answer in time".to_owned()),
        error => Answer::Failed(error.to_string()),
    }
}

fn none_of<T>(kind: RecordType) -> Answer<T> {
    Answer::Nothing(format!("it has no {kind} record"))
}

/// The name of a code as the field writes it, such as `SERVFAIL`.
fn code_name(code: ResponseCode) -> String {
    format!("{code:?}").to_uppercase()
}

fn addresses(lookup: &Lookup) -> Option<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
    // Servers give them in another order each time.
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

fn alias(lookup: &Lookup) -> Option<String> {
    lookup.answers().iter().find_map(|record| match &record.data {
        RData::CNAME(real) => Some(real.to_ascii()),
        _ => None,
    })
}

fn targets(lookup: &Lookup) -> Option<Targets> {
    let address_of = |host: &Name| -> Vec<IpAddr> {
        let own = lookup.additionals().iter().filter(|record| record.name == *host);
        let mut found: Vec<IpAddr> = own.filter_map(|record| record.data.ip_addr()).collect();
        found.sort_unstable();
        found
    };
    let target = |data: &RData| match data {
        // The root says that there is no such service here, and no client connects to port 0 (RFC 2782).
        RData::SRV(record) if !record.target.is_root() && record.port > 0 => {
            let host = record.target.to_lowercase().to_ascii().trim_end_matches('.').to_owned();
            Some((Target { host, port: record.port }, address_of(&record.target)))
        }
        _ => None,
    };
    let targets: Targets = lookup.answers().iter().filter_map(|record| target(&record.data)).collect();
    (!targets.is_empty()).then_some(targets)
}
