//! The drill: kills replicas under load, one after the other, and records the effect on clients.
//!
//! The load is an open loop, so that a stall shows. The phases of a recovery are what the control port shows (it is asked again
//! as soon as it has answered) and what a client sees. Time begins when the killed process is gone, so that no later
//! connection can have reached it.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use super::under_load::{calm, under_load};
use super::{Setting, Subject};
use crate::args::DrillArgs;
use crate::control::{Control, Slot};
use crate::data::{Around, Drill, Kill, Series, Timeline};
use crate::load::{Failure, Ids, Outcome, Plan, Progress, Record};
use crate::shown::Bar;
use crate::stand::Victim;
use crate::stats::Spread;

/// How long a recovery may take before the drill fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// For this time after a kill, the control port is asked without a pause.
const CLOSELY: Duration = Duration::from_millis(20);
/// A request that failed counts as under way at a kill if it was younger than this; most take a millisecond. One whose connection broke
/// counts whatever its age: a loaded machine keeps requests waiting.
const YOUNG: Duration = Duration::from_millis(100);
/// The pause between two looks at something slow.
const LOOK: Duration = Duration::from_millis(5);
/// Buckets of [`Around`].
const AROUND: usize = 60;
/// The timeline has about this many buckets; their length in seconds is one of [`LENGTHS`].
const ENTRIES: f64 = 250.0;
const LENGTHS: [f64; 8] = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// A kill and its recovery.
struct Event {
    slot: String,
    victim: String,
    /// Replacements in the slot before the kill.
    restarts: u64,
    heir: String,
    signalled: Instant,
    dead: Instant,
    /// The same moment as the clock of the engines says it.
    died: SystemTime,
    /// The task of the replacement, if it is one of a Swarm.
    task: Option<String>,
    /// Since when that task runs, as its node says.
    running: Option<SystemTime>,
    seen: Seen,
}

/// When each phase of a recovery was first seen.
#[derive(Default)]
struct Seen {
    detected: Option<Instant>,
    out: Option<Instant>,
    started: Option<Instant>,
    ready: Option<Instant>,
    back: Option<Instant>,
    /// Milliseconds between answers of the control port.
    gaps: Vec<f64>,
}

/// Runs the drill and fills `found`.
pub(super) async fn run(
    setting: Setting<'_>,
    args: DrillArgs,
    subject: &Subject,
    found: &mut Drill,
) -> anyhow::Result<()> {
    let mut control = subject.control().await?;
    let before = owners(setting, subject, &mut control, "owners before the drill").await?;
    let mut hosts = Hosts::new(&all_up(&mut control).await?);
    let (load, events, failed) = kill_under_load(setting, args, subject, &before).await?;
    events.iter().for_each(|event| hosts.moved_in(&event.heir, &event.slot));
    found.grace_ms = subject.grace.as_secs_f64() * 1e3;
    fill(found, &events, &load.tally.records, load.tally.begun(), &hosts);
    (found.load, found.wanted) = (load.tally.load(), args.kills.into());
    failed?;
    setting.go_on()?;
    if let Some(reason) = load.cut_short.filter(|_| events.len() < args.kills.into()) {
        bail!("the drill: {reason}");
    }
    let after = owners(setting, subject, &mut control, "owners after the drill").await?;
    found.mapping_asked = before.len() as u64;
    found.mapping_moved =
        before.iter().filter(|(number, slot)| after.get(number) != Some(slot)).count() as u64;
    Ok(())
}

/// The slot of each hostname, past replicas included.
struct Hosts {
    slots: Vec<String>,
    slot_of: HashMap<String, usize>,
}

impl Hosts {
    fn new(slots: &[Slot]) -> Self {
        let slot_of = slots.iter().enumerate().map(|(place, slot)| (slot.hostname.clone(), place)).collect();
        Hosts { slots: slots.iter().map(|slot| slot.name.clone()).collect(), slot_of }
    }

    fn moved_in(&mut self, hostname: &str, slot: &str) {
        if let Some(place) = self.slots.iter().position(|name| name == slot) {
            self.slot_of.insert(hostname.to_owned(), place);
        }
    }
}

/// Waits until all slots and spares are up; returns the slots.
pub(super) async fn all_up(control: &mut Control) -> anyhow::Result<Vec<Slot>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(slots) = control.settled().await? {
            return Ok(slots);
        }
        if Instant::now() > deadline {
            bail!("the replicas of the fleet were not all up within {PATIENCE:?}");
        }
        sleep(LOOK).await;
    }
}

/// The name of the slot of each id, from the replica that answers on the data port.
async fn owners(
    setting: Setting<'_>,
    subject: &Subject,
    control: &mut Control,
    title: &str,
) -> anyhow::Result<HashMap<u64, String>> {
    let slots = all_up(control).await?;
    let names: HashMap<&str, &str> =
        slots.iter().map(|slot| (slot.hostname.as_str(), slot.name.as_str())).collect();
    let outcome = setting.send(Plan { keep_records: true, ..setting.plan(subject.data) }, title).await?;
    if let Some(reason) = outcome.cut_short {
        bail!("{title}: {reason}");
    }
    let answered = outcome
        .tally
        .records
        .iter()
        .filter_map(|record| Some((record.number, record.outcome.as_ref().ok()?)));
    let owners =
        answered.map(|(number, host)| (number, names.get(&**host).copied().unwrap_or("?").to_owned()));
    Ok(owners.collect())
}

/// Runs the load and the kills. Returns the measurements even if a kill fails, and the failure beside them.
async fn kill_under_load(
    setting: Setting<'_>,
    args: DrillArgs,
    subject: &Subject,
    owners: &HashMap<u64, String>,
) -> anyhow::Result<(Outcome, Vec<Event>, anyhow::Result<()>)> {
    let mut events = Vec::new();
    let kills = async |progress: &Progress| {
        let mut control = subject.control().await?;
        let bar = Bar::new(args.kills.into(), "kills", "requests");
        for number in 0..usize::from(args.kills) {
            calm(progress, args.rate).await;
            let slots = all_up(&mut control).await?;
            let slot = &slots[number % slots.len()];
            let id = id_of(setting, owners, &slot.name)?;
            let event = kill(slot)?;
            events.push(event);
            if let Some(event) = events.last_mut() {
                watch(&mut control, event, &id).await?;
                event.running = subject.runs_since(event.task.as_deref()).await?;
            }
            let (ended, failed) = progress.ended();
            bar.at(number as u64 + 1, ended, failed);
        }
        calm(progress, args.rate).await;
        anyhow::Ok(())
    };
    let (outcome, failed) = under_load(setting, args.rate, subject, kills).await?;
    Ok((outcome, events, failed))
}

/// An id that goes to the slot called `name`.
fn id_of(setting: Setting<'_>, owners: &HashMap<u64, String>, name: &str) -> anyhow::Result<String> {
    let number = owners.iter().filter(|(_, slot)| *slot == name).map(|(number, _)| *number).min();
    let number = number.with_context(|| format!("no id of this load belongs to slot {name}"))?;
    Ok(Ids::Random.id(setting.args.seed, number))
}

/// Kills the replica in `slot`.
fn kill(slot: &Slot) -> anyhow::Result<Event> {
    let address = slot.address.as_deref().and_then(|address| address.parse().ok());
    let address = address.with_context(|| format!("{} has no address", slot.hostname))?;
    let victim = Victim::find(&slot.hostname, address)?;
    let signalled = Instant::now();
    victim.kill()?;
    Ok(Event {
        slot: slot.name.clone(),
        victim: slot.hostname.clone(),
        restarts: slot.restarts,
        heir: String::new(),
        signalled,
        dead: Instant::now(),
        died: SystemTime::now(),
        task: None,
        running: None,
        seen: Seen::default(),
    })
}

/// Records the recovery of a slot; `id` is one of its ids.
async fn watch(control: &mut Control, event: &mut Event, id: &str) -> anyhow::Result<()> {
    let mut last = event.dead;
    loop {
        let (slots, explanation) = control.look(id).await?;
        let now = Instant::now();
        event.seen.gaps.push((now - last).as_secs_f64() * 1e3);
        last = now;
        let found = slots.into_iter().find(|other| other.name == event.slot);
        let found = found.with_context(|| format!("slot {} is gone", event.slot))?;
        let is_heir = found.restarts != event.restarts;
        event.seen.note((&event.victim, &found), is_heir, explanation.pick.as_deref(), now);
        (event.heir, event.task) = (found.hostname, found.task);
        if event.seen.is_over() {
            return Ok(());
        }
        if now > event.dead + PATIENCE {
            bail!("slot {} was not filled again within {PATIENCE:?}", event.slot);
        }
        // A process is back within milliseconds; for a container a millisecond does not matter.
        if now > event.dead + CLOSELY {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Seen {
    /// Notes the phases that an answer shows: the replica in the slot, and the pick for an id of the slot.
    fn note(&mut self, (victim, slot): (&str, &Slot), is_heir: bool, pick: Option<&str>, now: Instant) {
        let is_up = slot.state == "up";
        let is_back = is_heir && pick == Some(slot.hostname.as_str());
        let phases = [
            (&mut self.detected, is_heir || !is_up),
            // A replacement may have the hostname of the victim.
            (&mut self.out, pick != Some(victim) || is_back),
            (&mut self.started, is_heir && slot.address.is_some()),
            // The slots were asked first: a replica that is picked in the second answer was ready before it.
            (&mut self.ready, is_heir && (is_up || is_back)),
            (&mut self.back, is_back),
        ];
        for (phase, _) in phases.into_iter().filter(|(phase, is_here)| *is_here && phase.is_none()) {
            *phase = Some(now);
        }
    }

    fn is_over(&self) -> bool {
        self.ready.is_some() && self.back.is_some()
    }
}

/// Turns the events and records into numbers.
fn fill(found: &mut Drill, events: &[Event], records: &[Record], begun: Instant, hosts: &Hosts) {
    let gaps = events.iter().flat_map(|event| event.seen.gaps.iter().copied());
    found.resolution_ms = Spread::of(gaps).map_or(0.0, |gaps| gaps.median);
    found.timeline = timeline(records, begun, hosts);
    found.around = around(events, records, hosts);
    found.kills = events.iter().map(|event| as_kill(event, records, begun)).collect();
    let grace = Duration::from_secs_f64(found.grace_ms / 1e3);
    let is_after = |event: &Event, record: &Record| event.dead + grace <= record.begun;
    for record in records {
        let Some(before) = events.iter().rposition(|event| is_after(event, record)) else { continue };
        found.kills[before].begun_after += 1;
    }
    for record in records.iter().filter(|record| record.outcome.is_err()) {
        let has_broken = matches!(record.outcome, Err(Failure::Reset | Failure::Closed));
        // Another request that had waited for long does not fail because of this kill.
        let was_under_way = |event: &Event| {
            !is_after(event, record)
                && event.signalled <= record.ended
                && (has_broken || event.signalled.saturating_duration_since(record.begun) < YOUNG)
        };
        let before = events.iter().position(was_under_way);
        let after = events.iter().rposition(|event| is_after(event, record));
        match (before, after) {
            (Some(kill), _) => found.kills[kill].failed_before += 1,
            (None, Some(kill)) => found.kills[kill].failed_after += 1,
            // Before the first kill: the failures of the load include it.
            (None, None) => {}
        }
    }
}

fn as_kill(event: &Event, records: &[Record], begun: Instant) -> Kill {
    let after = |at: Instant| at.saturating_duration_since(event.dead).as_secs_f64() * 1e3;
    let by_heir = |record: &&Record| {
        record.begun >= event.dead && matches!(&record.outcome, Ok(host) if **host == *event.heir)
    };
    Kill {
        at: event.dead.saturating_duration_since(begun).as_secs_f64(),
        slot: event.slot.clone(),
        victim: event.victim.clone(),
        heir: event.heir.clone(),
        detected: event.seen.detected.map(after),
        out: event.seen.out.map(after),
        started: event.seen.started.map(after),
        ready: event.seen.ready.map(after),
        back: event.seen.back.map(after),
        running: event
            .running
            .map(|since| since.duration_since(event.died).map_or(0.0, |passed| passed.as_secs_f64() * 1e3)),
        answered: records.iter().filter(by_heir).map(|record| record.ended).min().map(after),
        ..Kill::default()
    }
}

/// Adds up all kills, from one recovery time before a kill to three after it.
fn around(events: &[Event], records: &[Record], hosts: &Hosts) -> Option<Around> {
    let recovered =
        events.iter().filter_map(|event| Some((event.seen.back? - event.dead).as_secs_f64() * 1e3));
    let recovery = Spread::of(recovered)?.median.max(1.0);
    let bucket = 4.0 * recovery / AROUND as f64;
    let empty = || vec![0; AROUND];
    let kills = events.len() as u64;
    let mut found =
        Around { from: -recovery, bucket, kills, slot: empty(), others: empty(), failures: empty() };
    for event in events {
        let place = hosts.slots.iter().position(|name| *name == event.slot);
        for record in records {
            let after = record.ended.saturating_duration_since(event.dead).as_secs_f64();
            let before = event.dead.saturating_duration_since(record.ended).as_secs_f64();
            let entry = ((after - before) * 1e3 + recovery) / bucket;
            if !(0.0..AROUND as f64).contains(&entry) {
                continue;
            }
            let series = match &record.outcome {
                Err(_) => &mut found.failures,
                Ok(host) if hosts.slot_of.get(&**host).copied() == place => &mut found.slot,
                Ok(_) => &mut found.others,
            };
            series[entry as usize] += 1;
        }
    }
    Some(found)
}

fn timeline(records: &[Record], begun: Instant, hosts: &Hosts) -> Timeline {
    let seconds = |at: Instant| at.saturating_duration_since(begun).as_secs_f64();
    let whole = records.iter().map(|record| seconds(record.ended)).fold(0.0, f64::max);
    let bucket = LENGTHS.into_iter().find(|length| whole / length <= ENTRIES).unwrap_or(whole / ENTRIES);
    let entries = (whole / bucket) as usize + 1;
    let empty = |name: &String| Series { name: name.clone(), counts: vec![0; entries] };
    let mut slots: Vec<Series> = hosts.slots.iter().map(empty).collect();
    let mut failures = vec![0; entries];
    for record in records {
        let entry = ((seconds(record.ended) / bucket) as usize).min(entries - 1);
        match &record.outcome {
            Ok(host) => {
                let place = hosts.slot_of.get(&**host).copied().unwrap_or(hosts.slots.len());
                if place == slots.len() {
                    slots.push(empty(&"others".to_owned()));
                }
                slots[place].counts[entry] += 1;
            }
            Err(_) => failures[entry] += 1,
        }
    }
    Timeline { bucket, slots, failures }
}
