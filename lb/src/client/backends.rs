//! The slots as a table for people, in colours. (What prints it leaves them out where no terminal shows them.)

use std::iter::once;

use anstyle::{AnsiColor, Style};
use proto::control::{Backend, Backends, FileReads, Refused, Resolutions, State, Transport};
use proto::printable::printable;

use super::table::columns;

/// How much of the id of a container is shown, in characters: as much as `docker ps` shows.
const ID_SHOWN: usize = 12;

/// The part of a container's id that is shown.
pub(crate) fn short_id(id: &str) -> String {
    id.chars().take(ID_SHOWN).collect()
}

/// How many connections were not served, by reason. A client that leaves is no news: balancers in front look whether the port answers.
pub(crate) fn not_served(refused: &Refused) -> impl Iterator<Item = (&'static str, u64)> {
    refused.by_reason().into_iter().filter(|(reason, count)| *count > 0 && *reason != "left_early")
}

/// The column that says what a replica runs in.
const CARRIER: usize = 4;

/// The slots and spares, one a line, without the last line feed.
pub(super) fn in_words(answer: &Backends) -> String {
    let Backends { backends, spares, refused, dns, backends_file, .. } = answer;
    let all: Vec<&Backend> = backends.iter().chain(spares).collect();
    let carriers = Carriers::of(&all);
    let header =
        ["index", "name", "hostname", "address", carriers.title(), "state", "restarts", "connections"];
    let rows = once(header.map(str::to_owned)).chain(all.iter().map(|backend| row(backend, carriers)));
    let is_shown = |at: usize| at != CARRIER || carriers != Carriers::Unknown;
    let cells = |row: [String; 8]| {
        let shown = row.into_iter().enumerate().filter(|(at, _)| is_shown(*at));
        shown.map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    let table = columns(&[0, 2, 2, 2, 2, 2, 2, 2], rows.map(cells));
    let styles = once(Style::new().bold()).chain(all.iter().map(|backend| style(backend.state)));
    let mut lines: Vec<String> =
        table.iter().zip(styles).map(|(line, style)| in_style(line, style)).collect();
    let refused: Vec<String> =
        not_served(refused).map(|(reason, count)| format!("{reason} {count}")).collect();
    if !refused.is_empty() {
        lines.push(format!("not served: {}", refused.join(", ")));
    }
    let news = [dns.as_ref().and_then(resolutions), backends_file.as_ref().and_then(refusal)];
    lines.extend(news.into_iter().flatten().map(|line| printable(&line)));
    lines.join("\n")
}

/// What the replicas run in, which decides about one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriers {
    Processes,
    Containers,
    Unknown,
}

impl Carriers {
    fn of(all: &[&Backend]) -> Self {
        if all.iter().any(|backend| backend.pid.is_some()) {
            Carriers::Processes
        } else if all.iter().any(|backend| backend.container.is_some()) {
            Carriers::Containers
        } else {
            Carriers::Unknown
        }
    }

    fn title(self) -> &'static str {
        match self {
            Carriers::Processes => "pid",
            Carriers::Containers => "container",
            Carriers::Unknown => "",
        }
    }

    fn name(self, backend: &Backend) -> Option<String> {
        match self {
            Carriers::Processes => backend.pid.map(|pid| pid.to_string()),
            Carriers::Containers => backend.container.as_deref().map(short_id),
            Carriers::Unknown => None,
        }
    }
}

/// How a replica in this state stands out.
fn style(state: State) -> Style {
    match state {
        State::Up => Style::new(),
        State::Starting | State::Draining => AnsiColor::Yellow.on_default(),
        State::Down | State::Quarantined => AnsiColor::Red.on_default(),
    }
}

fn in_style(line: &str, style: Style) -> String {
    format!("{style}{line}{style:#}")
}

/// How questions to the DNS have ended, if one was in vain.
fn resolutions(Resolutions { records, nothing, failed, last_failure }: &Resolutions) -> Option<String> {
    let last = last_failure.as_ref().map_or_else(String::new, |last| format!(", the last one for {last}"));
    let is_news = *nothing > 0 || *failed > 0;
    is_news.then(|| {
        format!("dns: {records} answers with records, {nothing} without, {failed} questions failed{last}")
    })
}

/// Why what the file of backends says is not what was made.
fn refusal(reads: &FileReads) -> Option<String> {
    Some(format!("the file of backends is not taken: {}", reads.last_refusal.as_deref()?))
}

fn row(backend: &Backend, carriers: Carriers) -> [String; 8] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut connections = format!("{} open, {} in all", backend.connections.open, backend.connections.total);
    let failed = backend.connections.failed;
    let failed = [
        (failed.refused, "refused"),
        (failed.timeout, "timed out"),
        (failed.local, "failed on this machine"),
        (failed.other, "failed"),
    ];
    for (count, how) in failed.into_iter().filter(|(count, _)| *count > 0) {
        connections.push_str(&format!(", {count} {how}"));
    }
    if backend.transport == Transport::Handoff {
        connections.push_str(", handed over");
    }
    let mut address = or_dash(backend.address.clone().or_else(|| backend.location.clone()));
    if let Some(node) = &backend.node {
        address.push_str(&format!(" on {node}"));
    }
    let next = backend.next_retry.map(|seconds| format!("next try in {seconds:.1} s"));
    let notes: Vec<String> = backend.reason.clone().into_iter().chain(next).collect();
    if !notes.is_empty() {
        connections.push_str(&format!("  ({})", notes.join("; ")));
    }
    [
        or_dash(backend.index.map(|index| index.to_string())),
        or_dash(backend.name.clone()),
        backend.hostname.clone(),
        address,
        or_dash(carriers.name(backend)),
        backend.state.to_string(),
        backend.restarts.to_string(),
        connections,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table without its colours.
    fn plain(body: &str) -> String {
        anstream::adapter::strip_str(&in_words(&serde_json::from_str(body).unwrap())).to_string()
    }

    #[test]
    fn a_replica_on_another_machine_is_shown_with_its_machine() {
        let body = r#"{"N":1,"backends":[{"index":1,"name":"a","hostname":"a","address":"10.0.1.5:80","node":"worker1","task":"x7",
            "state":"up","since":"","restarts":2,"connections":{"open":0,"total":0}}],"epoch":12}"#;
        let expected = "index  name  hostname  address                 state  restarts  connections\n\
             1      a     a         10.0.1.5:80 on worker1  up     2         0 open, 0 in all";
        assert_eq!(plain(body), expected);
    }

    #[test]
    fn processes_containers_and_waiting_slots_are_shown() {
        let body = |more: &str, other: &str| {
            format!(
                r#"{{"N":2,"backends":[{{"index":1,"name":"a","hostname":"a","address":"10.0.1.5:80",{more},
                "state":"up","since":"","restarts":0,"connections":{{"open":0,"total":0}}}},{{"index":2,"name":"b","hostname":"c",
                "address":null,{other}"state":"down","next_retry":1.64,"since":"","restarts":1,"connections":{{"open":0,"total":0}}}}]}}"#
            )
        };
        let processes = "index  name  hostname  address      pid   state  restarts  connections\n\
             1      a     a         10.0.1.5:80  4711  up     0         0 open, 0 in all\n\
             2      b     c         -            -     down   1         0 open, 0 in all  (exited\\u{1b}; next try in 1.6 s)";
        assert_eq!(plain(&body(r#""pid":4711"#, r#""reason":"exited\u001b","#)), processes);
        let containers = "index  name  hostname  address      container     state  restarts  connections\n\
             1      a     a         10.0.1.5:80  0123456789ab  up     0         0 open, 0 in all\n\
             2      b     c         -            -             down   1         0 open, 0 in all  (next try in 1.6 s)";
        assert_eq!(plain(&body(r#""container":"0123456789abcdef0123456789abcdef""#, "")), containers);
    }

    #[test]
    fn what_is_not_up_stands_out() {
        let line = |state: &str| {
            let body = format!(
                r#"{{"N":1,"backends":[{{"index":1,"name":"a","hostname":"a","address":null,"state":"{state}","since":"","restarts":0,
                "connections":{{"open":0,"total":0}}}}]}}"#
            );
            let words = in_words(&serde_json::from_str(&body).unwrap());
            let (header, line) = words.split_once('\n').unwrap();
            assert!(header.starts_with("\u{1b}[1mindex") && header.ends_with("\u{1b}[0m"), "{header:?}");
            line.to_owned()
        };
        assert!(!line("up").contains('\u{1b}'));
        assert!(line("down").starts_with("\u{1b}[31m") && line("draining").starts_with("\u{1b}[33m"));
    }
}
