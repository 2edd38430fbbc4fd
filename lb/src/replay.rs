//! What happened, seen again: the steps in a journal's file are applied to a fleet, and its state is shown.
//!
//! Nothing is started, stopped or asked. The fleet is deterministic, so equal steps make an equal fleet.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use fleet::{Fleet, Replay, View};
use proto::control::{State, Weight};
use proto::printable::{printable, printable_json};
use serde::{Deserialize, Serialize};

use crate::client::columns;
use crate::journal::file;
use crate::journal::step::{Step, What, time};
use crate::provider::engine::swarm::service;

/// Shows the state of the last fleet in this journal, and in what was rotated before it, when the entry `at` was recorded; without `at`,
/// at the end. The answer is text for people or JSON.
///
/// # Errors
/// A file cannot be read, the beginning of the fleet or a step is missing, or there is no such entry.
pub fn run(journal: &Path, at: Option<u64>, json: bool) -> anyhow::Result<String> {
    let mut history = History { at: at.unwrap_or(u64::MAX), last: None, unknown: None };
    for path in file::all(journal) {
        let opened = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for line in BufReader::new(opened).split(b'\n') {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            // A half line is what a full disk or a crash has left. If it was a step, its number is missing.
            if let Ok(line) = serde_json::from_slice(&line) {
                history.go_on(line);
            }
        }
    }
    let moment = history.moment().with_context(|| format!("{} cannot be replayed", journal.display()))?;
    if json {
        return Ok(printable_json(&serde_json::to_string(&moment)?));
    }
    Ok(moment.in_words())
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Step(Step),
    Entry(Entry),
}

/// As much of an entry as is needed.
#[derive(Deserialize)]
struct Entry {
    seq: u64,
    time: String,
}

/// What has been read so far.
struct History {
    /// The number of the entry whose moment is wanted.
    at: u64,
    /// The last fleet that began.
    last: Option<Life>,
    /// The newest entry before the first state that is known, if the wanted one is not later.
    unknown: Option<u64>,
}

/// The life of one fleet, as far as it is known.
struct Life {
    replay: Replay,
    /// The number of the last step.
    step: u64,
    /// The newest entry, and the newest one that is not later than the one that is wanted.
    newest: u64,
    shown: Option<Entry>,
    /// The wanted moment is over.
    is_over: bool,
    /// Why the state is not known.
    problem: Option<String>,
}

impl History {
    fn go_on(&mut self, line: Line) {
        match line {
            Line::Entry(entry) => {
                if let Some(life) = &mut self.last {
                    life.pass(entry, self.at);
                }
            }
            Line::Step(Step { step, seq, what: What::Began(beginning) }) => {
                self.last = Some(Life::begin(beginning.replay(service::rule), step, seq));
                self.unknown = None;
            }
            Line::Step(Step { step, seq, what: What::Checkpoint(checkpoint) }) if self.needs(step, seq) => {
                self.last = Some(Life::begin(checkpoint.replay(service::rule), step, seq));
            }
            Line::Step(step) => match &mut self.last {
                // What follows from a step has later numbers.
                Some(life) if step.seq < self.at => life.apply(step),
                Some(life) => life.ends_before(step.step),
                None if matches!(step.what, What::Checkpoint(_)) => {
                    self.unknown.get_or_insert(step.seq);
                }
                None => {}
            },
        }
    }

    /// Whether the checkpoint with this number, after this entry, tells of the wanted moment what is not known without it.
    fn needs(&self, step: u64, seq: u64) -> bool {
        let knows = self.last.as_ref().is_some_and(|life| life.problem.is_none() && life.step + 1 == step);
        seq < self.at && !knows
    }

    fn moment(self) -> anyhow::Result<Moment> {
        let Some(life) = self.last else {
            match self.unknown {
                Some(entry) => {
                    bail!("the state is known only after entry {entry}: what was before is in older files")
                }
                None => bail!("neither the beginning of a fleet nor a checkpoint is in it"),
            }
        };
        if let Some(problem) = life.problem {
            bail!(problem);
        }
        let is_there = self.at == u64::MAX || (1..=life.newest).contains(&self.at);
        ensure!(is_there, "--at: invalid value `{}`: expected a number from 1 to {}", self.at, life.newest);
        let (seq, time) = life.shown.map_or((life.newest, None), |entry| (entry.seq, Some(entry.time)));
        Ok(Moment::of(life.replay.fleet(), seq, time))
    }
}

impl Life {
    fn begin(replay: Replay, step: u64, newest: u64) -> Self {
        Life { replay, step, newest, shown: None, is_over: false, problem: None }
    }

    fn pass(&mut self, entry: Entry, at: u64) {
        self.newest = entry.seq;
        if entry.seq <= at {
            self.shown = Some(entry);
        }
    }

    fn apply(&mut self, Step { step, what, .. }: Step) {
        self.follow(step);
        if self.problem.is_none()
            && let What::Happened(nanoseconds, input) = what
            && let Err(unfit) = self.replay.apply(time(nanoseconds), *input)
        {
            self.problem = Some(format!("step {step} does not follow from the ones before: {unfit}"));
        }
    }

    /// This is the first step after the wanted moment, or a later one.
    fn ends_before(&mut self, step: u64) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.follow(step);
        }
    }

    fn follow(&mut self, step: u64) {
        let missing = step.saturating_sub(self.step + 1);
        self.step = step;
        if missing > 0 && self.problem.is_none() {
            self.problem = Some(format!("{missing} steps are missing after entry {}", self.newest));
        }
    }
}

/// The state of a fleet, as it is shown.
#[derive(Serialize)]
struct Moment {
    /// The number of the entry.
    seq: u64,
    /// When it was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(rename = "N")]
    n: usize,
    mapping: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    slots: Vec<Slot>,
    /// Slots that come or drain.
    in_passing: Vec<Slot>,
    spares: Vec<Slot>,
}

#[derive(Serialize)]
struct Slot {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    hostname: String,
    weight: Weight,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    restarts: u64,
}

impl Moment {
    fn of(fleet: &Fleet, seq: u64, time: Option<String>) -> Self {
        let slots: Vec<Slot> = fleet.slots().map(Slot::from).collect();
        Moment {
            seq,
            time,
            n: slots.len(),
            mapping: fleet.mapping().scheme.algorithm.name().to_string(),
            epoch: fleet.epoch().map(|epoch| epoch.0),
            slots,
            in_passing: fleet.in_passing().map(Slot::from).collect(),
            spares: fleet.spares().map(Slot::from).collect(),
        }
    }

    fn in_words(&self) -> String {
        let Moment { seq, time, n, mapping, .. } = self;
        let time = time.as_ref().map_or_else(String::new, |time| format!(", {time}"));
        let mut text = printable(&format!("entry {seq}{time}: N={n}, mapping {mapping}"));
        let header = ["index", "name", "hostname", "state", "restarts", "reason"].map(str::to_owned);
        let all = self.slots.iter().chain(&self.in_passing).chain(&self.spares);
        for line in columns(&[0, 2, 2, 2, 2, 2], [header].into_iter().chain(all.map(Slot::row))) {
            // To write to a string cannot fail.
            let _ = write!(text, "\n{line}");
        }
        text
    }
}

impl Slot {
    fn row(&self) -> [String; 6] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            or_dash(self.index.map(|index| index.to_string())),
            or_dash(self.name.clone()),
            self.hostname.clone(),
            self.state.to_string(),
            self.restarts.to_string(),
            or_dash(self.reason.clone()),
        ]
    }
}

impl From<View> for Slot {
    fn from(view: View) -> Self {
        let View { slot, weight, hostname, state, reason, restarts, .. } = view;
        let (index, name) = slot.map(|slot| (slot.index, slot.name.to_string())).unzip();
        Slot { index, name, hostname: hostname.to_string(), weight, state, reason, restarts }
    }
}
