//! Everything that shows what happens, open at the same time while harm is done: the page in a browser, `lb top` in a terminal, `lb events
//! --follow`, the journal, the log of connections and the metrics. At the end all of them have to say what was done and what was sent.
//!
//! `LB_SEEN_FOR=10m` does harm for that time instead of some seconds.

mod chaos;
mod clients;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::driver::Browser;
use crate::control::by_line;
use crate::events::{entries, events};
use crate::harness::{Lb, eventually, eventually_within, text};
use crate::metrics::page::{Page, scrape};
use crate::top::{Terminal, rows};
use chaos::Done;
use clients::{DENIED, Saw, Seen};

/// The longest wait for anything: the machine is busy with a browser.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long harm is done without `LB_SEEN_FOR`.
const USUAL: Duration = Duration::from_secs(15);

/// How a connection ended and why it was refused, as the log of connections and the metrics have it.
type Ending = (String, String);

#[test]
fn what_is_shown_is_what_was_done_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let [access, journal] = ["access.log", "journal"].map(|name| folder.path().join(name));
    let lb = start(&access, &journal);
    let follower = Follower::of(&lb);
    let terminal = Terminal::beside(&lb, 160, 40, &[]);
    terminal.run("$LB top");
    let browser = Browser::start();
    browser.open(&format!("http://{}/", lb.control));
    browser.wait("a live page", "return document.getElementById('link').dataset.link === 'live'");

    let (seen, end) = (Seen::default(), Instant::now() + duration());
    let done = thread::scope(|scope| {
        scope.spawn(|| seen.send(lb.data));
        // Counters never fall.
        scope.spawn(|| never_less(&lb, end));
        let done = chaos::until(end, &lb);
        seen.enough();
        done
    });
    let seen = seen.all();
    let logged = lines(&access, seen.values().map(Vec::len).sum());
    let metrics = at_rest(&lb);
    let told = follower.until(&lb);
    let incidents = the_events_agree(&told, &done, &lb, &journal);
    assert_eq!(metrics.value("lb_recovery_seconds_count", "phase=total"), incidents.len() as f64);
    let lost = incidents.iter().map(|incident| text(&incident["hostname"]).to_owned());
    each_connection_is_told(&seen, &logged, &lost.chain(done.passing.iter().cloned()).collect());
    let endings = counted(&logged, &done);
    the_metrics_agree(&metrics, &endings, &lb);
    the_views_agree(&lb, &terminal, &browser, &incidents);
    println!(
        "{} connections, {} killed, {} stopped, {} events, {} incidents\n{endings:#?}",
        logged.len(),
        done.killed.len(),
        done.stopped.len(),
        told.len(),
        incidents.len()
    );
}

/// How long harm is done.
fn duration() -> Duration {
    let given = std::env::var_os("LB_SEEN_FOR");
    given.map_or(USUAL, |given| humantime::parse_duration(given.to_str().unwrap()).unwrap())
}

/// A stopped replica is replaced soon, and a busy machine fails no probe.
fn start(access: &Path, journal: &Path) -> Lb {
    let denied = format!("{DENIED}/32");
    let [access, journal] = [access, journal].map(|path| path.to_str().unwrap());
    let probes = ["--health-interval", "200ms", "--health-timeout", "3s", "--replace-after", "1s"];
    let told = ["--access-log", access, "--access-log-format", "json", "--journal", journal];
    Lb::start(&[&probes[..], &told, &["--deny", &denied]].concat())
}

/// `lb events --follow --json`, and what it has printed.
struct Follower {
    child: Child,
    told: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
}

impl Follower {
    fn of(lb: &Lb) -> Follower {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(["events", "--follow", "--json", "--since", "0"]);
        command.env("LB_CONTROL", lb.control.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let sink = Arc::clone(&told);
        let reader = thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| sink.lock().unwrap().push(serde_json::from_str(&line).unwrap()));
        });
        Follower { child, told, reader }
    }

    /// All events until now. It is ended.
    fn until(mut self, lb: &Lb) -> Vec<Value> {
        let last = events(lb).pop().unwrap();
        eventually("the last event", || self.told.lock().unwrap().contains(&last).then_some(()));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

/// Scrapes until `end`.
fn never_less(lb: &Lb, end: Instant) {
    let mut before = BTreeMap::new();
    while Instant::now() < end {
        let now = scrape(lb);
        for (series, value) in now.samples.iter().filter(|((name, _), _)| name.ends_with("_total")) {
            let earlier = before.insert(series.clone(), *value).unwrap_or_default();
            assert!(earlier <= *value, "{series:?}: {value} after {earlier}");
        }
        thread::park_timeout(Duration::from_millis(500));
    }
}

/// The lines of the log of connections, when there are so many.
fn lines(access: &Path, expected: usize) -> Vec<Value> {
    let mut count = 0;
    let text = eventually_within(PATIENCE, "a line for each connection", || {
        let text = fs::read_to_string(access).unwrap();
        count = text.lines().count();
        (count >= expected && text.ends_with('\n')).then_some(text)
    });
    assert_eq!(count, expected, "more lines than connections");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The metrics when no connection is open.
fn at_rest(lb: &Lb) -> Page {
    eventually_within(PATIENCE, "no open connection", || {
        Some(scrape(lb)).filter(|page| page.value("lb_sessions_open", "") == 0.0)
    })
}

fn ending(line: &Value) -> Ending {
    (text(&line["ending"]).to_owned(), line["reason"].as_str().unwrap_or_default().to_owned())
}

/// Each connection has one line, which says what its client saw. Only replicas that came to harm cut connections off.
fn each_connection_is_told(
    seen: &HashMap<SocketAddr, Vec<Saw>>,
    logged: &[Value],
    harmed: &BTreeSet<String>,
) {
    let mut by_client = HashMap::<SocketAddr, Vec<&Value>>::new();
    for line in logged {
        by_client.entry(text(&line["client"]).parse().unwrap()).or_default().push(line);
    }
    for (client, seen) in seen {
        let lines = by_client.remove(client).unwrap_or_default();
        assert_eq!(lines.len(), seen.len(), "{client}: {seen:?}: {lines:?}");
        for (saw, line) in seen.iter().zip(lines) {
            assert!(is_right(*saw, line, harmed), "{saw:?}: {line}");
        }
    }
    assert!(by_client.is_empty(), "{by_client:?}");
}

/// Whether a client can have seen this where the connection has this line.
fn is_right(saw: Saw, line: &Value, harmed: &BTreeSet<String>) -> bool {
    let (ending, reason) = ending(line);
    let was_harmed = line["replica"].as_str().is_some_and(|hostname| harmed.contains(hostname));
    match saw {
        Saw::Answer => ending == "complete",
        Saw::Unavailable => reason == "no_replica",
        Saw::Left => reason == "left_early",
        Saw::Denied => reason == "denied",
        Saw::OwnReset => ending == "client_reset" || (ending == "replica_reset" && was_harmed),
        // The kernel ends the connections of a process that is killed like any others, if there is nothing unread.
        Saw::Cut => {
            reason == "no_replica"
                || (["replica_reset", "evicted", "complete"].contains(&ending.as_str()) && was_harmed)
        }
    }
}

/// How many connections ended how, by slot; "" is no slot. Slots that were removed are left out: their metrics are gone.
fn counted(logged: &[Value], done: &Done) -> BTreeMap<(String, Ending), u64> {
    let mut counts = BTreeMap::new();
    for line in logged {
        let is_refused = line["ending"] == "refused";
        let slot = if is_refused { "" } else { text(&line["slot"]) };
        if !done.passing.contains(slot) {
            *counts.entry((slot.to_owned(), ending(line))).or_default() += 1;
        }
    }
    counts
}

/// Each counter of connections is the number of lines, and nothing is missing.
fn the_metrics_agree(page: &Page, endings: &BTreeMap<(String, Ending), u64>, lb: &Lb) {
    let counted =
        page.samples.iter().filter(|(_, value)| **value > 0.0).filter_map(|((name, labels), value)| {
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let ending = match name.as_str() {
                "lb_connections_total" => (label("ending"), String::new()),
                "lb_connections_refused_total" => ("refused".to_owned(), label("reason")),
                _ => return None,
            };
            Some(((label("slot"), ending), *value as u64))
        });
    assert_eq!(&counted.collect::<BTreeMap<_, _>>(), endings);
    for name in ["lb_access_log_lost_total", "lb_journal_lost_total"] {
        assert_eq!(page.value(name, ""), 0.0, "{name}");
    }
    let refused = lb.done(&json!({"cmd": "backends"}))["refused"].clone();
    for ((_, (_, reason)), count) in endings.iter().filter(|((slot, _), _)| slot.is_empty()) {
        assert_eq!(refused[reason], *count, "{reason}: {refused}");
    }
}

/// The events have no gap, each reader has the same, and each death is an incident that has ended. Returns the incidents.
fn the_events_agree(told: &[Value], done: &Done, lb: &Lb, journal: &Path) -> Vec<Value> {
    let numbers = told.iter().map(|event| event["seq"].as_u64().unwrap());
    assert!(numbers.eq(1..=told.len() as u64), "there is a gap");
    let kept = events(lb);
    assert_eq!(kept[..], told[told.len() - kept.len()..], "what is kept is what was told");
    eventually("the events in the file", || (entries(journal) == told).then_some(()));
    let of_kind = |kind: &str| -> Vec<&Value> { told.iter().filter(|event| event["kind"] == kind).collect() };
    let (ended, incidents) = (of_kind("replica_ended"), of_kind("incident"));
    for killed in &done.killed {
        assert_eq!(
            ended.iter().filter(|event| event["hostname"] == **killed).count(),
            1,
            "{killed} has ended once"
        );
    }
    for harmed in done.killed.iter().chain(&done.stopped) {
        let stories: Vec<_> = incidents.iter().filter(|incident| incident["hostname"] == **harmed).collect();
        let [story] = stories[..] else { panic!("{harmed}: {stories:?}") };
        assert!(story["phases"]["total"].is_f64() && story["replaced_by"].is_string(), "{story}");
    }
    for incident in &incidents {
        let (hostname, cause) = (text(&incident["hostname"]), text(&incident["cause"]));
        // On a busy machine a replica may fail its probes without any harm.
        let is_probe = cause.starts_with("probe: ");
        let is_known = done.stopped.contains(hostname)
            || (done.killed.contains(hostname) && cause.contains("signal: 9"));
        assert!(is_probe || is_known, "{incident}");
    }
    let all: Vec<Value> = serde_json::from_str(&by_line(lb, &json!({"cmd": "incidents"}))).unwrap();
    assert_eq!(all.len(), incidents.len());
    for (incident, event) in all.iter().zip(incidents) {
        assert!(
            incident.as_object().unwrap().iter().all(|(name, value)| event[name] == *value),
            "{incident}: {event}"
        );
    }
    all
}

/// The page and the terminal show the slots, the incidents and the refused connections as `lb backends` has them.
fn the_views_agree(lb: &Lb, terminal: &Terminal, browser: &Browser, incidents: &[Value]) {
    let answer = lb.done(&json!({"cmd": "backends"}));
    let slots: Vec<Value> = lb
        .backends()
        .iter()
        .map(|slot| {
            json!([
                slot["name"],
                slot["hostname"],
                slot["state"],
                slot["restarts"].to_string(),
                slot["connections"]["open"].to_string()
            ])
        })
        .collect();
    let refused: u64 = answer["refused"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(reason, _)| *reason != "left_early")
        .map(|(_, count)| count.as_u64().unwrap())
        .sum();
    let title = format!("Incidents: {}", incidents.len());
    let screen = terminal.wait("what lb backends shows", |screen| {
        let shown: Vec<Value> = rows(screen).iter().map(|row| shown_in(row)).collect();
        shown == slots && screen.contains(&title) && screen.contains(&format!("  not served {refused} "))
    });
    println!("{screen}");
    let all = "const cells = (row) => [row.cells[0].querySelector('span:nth-of-type(2)'), row.cells[1].querySelector('span'), row.querySelector('.state'), row.cells[6], row.cells[4]];
        return [...document.querySelectorAll('#rows > tr')].map((row) => cells(row).map((cell) => cell.innerText.replaceAll(/\\D(?=\\d{3}$)/g, '')))";
    eventually_within(PATIENCE, "what lb backends shows on the page", || {
        (browser.run(all) == json!(slots)).then_some(())
    });
    let digits = |text: String| text.chars().filter(char::is_ascii_digit).collect::<String>();
    assert_eq!(digits(browser.text("#fact-refused")), refused.to_string());
    assert_eq!(digits(browser.text("#incidents-title")), incidents.len().to_string());
    let stories = browser
        .run("return [...document.querySelectorAll('#incident-list > li')].map((story) => story.innerText)");
    let stories = stories.as_array().unwrap();
    assert_eq!(stories.len(), incidents.len().min(100));
    for (story, incident) in stories.iter().zip(incidents.iter().rev()) {
        let (slot, hostname) = (text(&incident["slot"]), text(&incident["hostname"]));
        let (story, next) = (text(story), text(&incident["replaced_by"]));
        assert!(
            story.contains(&format!("{slot} lost {hostname}: "))
                && story.contains(&format!("; {next} in rotation after ")),
            "{story}: {incident}"
        );
    }
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

/// Slot, hostname, state, restarts and open connections of a row of `lb top`: "server1 server-ab12cd up 7 s 0 ...".
fn shown_in(row: &[&str]) -> Value {
    // Behind the age, which has two words, come OPEN, RATE/S, SHARE and TARGET (two words each) and RST.
    json!([row[0], row[1], row[2], row[11], row[5]])
}
