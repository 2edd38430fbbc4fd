//! A-3 on a Docker Swarm: what more was measured there.

use super::joined;
use crate::data::{Agreement, Crash, Drill, Kill, Quiet, Swarm};
use crate::report::words::{self, code, count, millis, plain, table};
use crate::stats::Spread;

/// The part of A-3; `plain` is the drill without a spare.
pub(super) fn part(swarm: &Swarm, plain: Option<&Drill>) -> String {
    let nodes = words::plural(swarm.nodes, "node");
    let balancers = words::plural(swarm.balancers, "lb");
    let mut parts = vec![format!("### On a Docker Swarm of {nodes} with {balancers}")];
    parts.extend(plain.and_then(own_tasks));
    parts.extend(swarm.spare.as_ref().map(spare));
    parts.extend(swarm.agreement.as_ref().and_then(agreement));
    parts.extend((!swarm.quiet.is_empty()).then(|| quiet(&swarm.quiet)));
    parts.extend(swarm.crash.as_ref().map(crash));
    joined(&parts)
}

/// How long after Swarm's own tasks the replacements answered.
fn own_tasks(drill: &Drill) -> Option<String> {
    let running = Spread::of(drill.kills.iter().filter_map(|kill| kill.running))?;
    let late = Spread::of(drill.kills.iter().filter_map(|kill| Some(kill.answered? - kill.running?)))?;
    Some(format!(
        "Swarm's own task ran {} after a kill (median; {} to {}), and gave its first answer {:.0} ms after that ({:.0} to {:.0}).",
        millis(running.median),
        millis(running.least),
        millis(running.most),
        late.median,
        late.least,
        late.most
    ))
}

fn spare(drill: &Drill) -> String {
    let kills = words::plural(drill.kills.len() as u64, "kill");
    let sum = |of: fn(&Kill) -> u64| drill.kills.iter().map(of).sum::<u64>();
    let Some(spread) = Spread::of(drill.kills.iter().filter_map(|kill| kill.answered)) else {
        return format!("**With a spare, no replacement answered after {kills}.**");
    };
    format!(
        "With a spare, the first answer came {} after a kill (median of {kills}; {} to {}). {} of {} begun after a kill failed.",
        millis(spread.median),
        millis(spread.least),
        millis(spread.most),
        count(sum(|kill| kill.failed_after)),
        words::plural(sum(|kill| kill.begun_after), "request"),
    )
}

fn agreement(found: &Agreement) -> Option<String> {
    let spread = Spread::of(found.followed_ms.iter().copied())?;
    Some(format!(
        "A change was at all `lb`s {} after its command (median of {}; {} to {}). Of {}, {} had different owners at different `lb`s.",
        millis(spread.median),
        words::plural(found.followed_ms.len() as u64, "change"),
        millis(spread.least),
        millis(spread.most),
        words::plural(found.asked, "id"),
        if found.different == 0 { "none".to_owned() } else { format!("**{}**", count(found.different)) },
    ))
}

fn quiet(quiet: &[Quiet]) -> String {
    let mut calls: Vec<&String> = quiet.iter().flat_map(|one| one.calls.keys()).collect();
    calls.sort();
    calls.dedup();
    let line = |call: &String| {
        let counts = quiet.iter().map(|one| count(one.calls.get(call).copied().unwrap_or_default()));
        [code(call)].into_iter().chain(counts).collect::<Vec<_>>()
    };
    let rows: Vec<_> = calls.into_iter().map(line).collect();
    let seconds = quiet.iter().map(|one| one.seconds).fold(0.0, f64::max);
    let titles: Vec<String> = (1..=quiet.len()).map(|number| format!(">lb {number}")).collect();
    let first = format!("calls to the engine in {seconds:.0} s without an event");
    let titles: Vec<&str> = [first.as_str()].into_iter().chain(titles.iter().map(String::as_str)).collect();
    table(&titles, &rows)
}

fn crash(crash: &Crash) -> String {
    let back = match crash.up_again_ms {
        Some(time) => format!("They were up elsewhere after {}.", millis(time)),
        None => "**They did not come up elsewhere.**".to_owned(),
    };
    format!(
        "Node {} lost its power, and with it the replicas of {}. {back} Of the requests under way, {} failed; of those begun within \
         the connect timeout ({}), {}; of {} begun later, {}. The slowest right answer of those begun after the crash took {}.",
        plain(&crash.node),
        words::list(&crash.slots.iter().map(|slot| code(slot)).collect::<Vec<_>>()),
        count(crash.failed_before),
        millis(crash.connect_timeout_ms),
        count(crash.failed_soon),
        count(crash.begun_later),
        count(crash.failed_later),
        millis(crash.slowest_ms),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_measured_is_said() {
        let kill =
            Kill { running: Some(1300.0), answered: Some(1390.0), begun_after: 700, ..Kill::default() };
        let drill = Drill { kills: vec![kill], ..Drill::default() };
        let calls = |n| Quiet { seconds: 60.0, calls: [("GET /tasks".to_owned(), n)].into() };
        let swarm = Swarm {
            nodes: 4,
            balancers: 2,
            spare: Some(drill.clone()),
            quiet: vec![calls(12), calls(13)],
            agreement: Some(Agreement { followed_ms: vec![9.0], asked: 100, different: 0 }),
            crash: Some(Crash {
                node: "n4".to_owned(),
                slots: vec!["server2".to_owned()],
                failed_before: 3,
                begun_later: 5000,
                up_again_ms: Some(15_000.0),
                ..Crash::default()
            }),
        };
        let text = part(&swarm, Some(&drill));
        for words in [
            "Docker Swarm of 4 nodes with 2 lbs",
            "first answer 90 ms after that",
            "0 of 700 requests begun after a kill failed",
            "Of 100 ids, none had different owners",
            "| `GET /tasks` | 12 | 13 |",
            "Of the requests under way, 3 failed",
            "up elsewhere after 15",
        ] {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        let text = part(&Swarm { nodes: 3, balancers: 1, ..Swarm::default() }, None);
        assert_eq!(text, "### On a Docker Swarm of 3 nodes with 1 lb");
    }
}
