//! The state of the view: keys and news in, wishes out. It does no I/O, reads no clock and draws nothing.

mod keys;
#[cfg(test)]
pub(in crate::top) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use proto::control::{State, Weight};
use proto::incident::Incident;

use super::asking::{Done, News, Question, Seen};
use super::figures::{Connects, Rates};
use super::row::{Row, Sort, key, rows};
use crate::client;

/// What the user wants that the state alone cannot give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Leave,
    /// Give the terminal back to the shell for a while.
    Suspend,
    Ask(Question),
    /// Go on with this token.
    Prove(String),
}

/// What the keys are for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// A filter is typed; this was the one before.
    Filter {
        before: String,
    },
    /// A request id is typed.
    Id {
        typed: String,
    },
    /// A change waits for a yes.
    Confirm {
        question: Question,
        text: String,
    },
    /// Lines to read.
    Text {
        title: &'static str,
        lines: Vec<String>,
    },
    Incidents,
    Help,
    /// A token is typed, because of this refusal.
    Token {
        typed: String,
        why: String,
    },
}

/// Whether what is shown is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Live,
    /// It is old, and asked for again; the reason.
    Lost(String),
    /// It is old, and nothing is asked until there is a token.
    Unproven,
}

/// A message at the lower edge, until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) is_wrong: bool,
}

/// What stands above the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) mapping: String,
    pub(super) up: usize,
    pub(super) n: usize,
    pub(super) spares: usize,
    pub(super) open: usize,
    /// Connections that were not served. A client that left early is none of them.
    pub(super) refused: u64,
}

/// The state of the view.
#[derive(Debug)]
pub(super) struct App {
    pub(super) control: String,
    pub(super) summary: Summary,
    pub(super) incidents: Vec<Incident>,
    pub(super) link: Link,
    /// When the last news came.
    pub(super) heard: Duration,
    pub(super) rates: Rates,
    pub(super) connects: Connects,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) said: Option<Said>,
    /// How far a text that is longer than the screen is scrolled, in lines. Drawing keeps it in bounds.
    pub(super) scroll: usize,
    /// The first row that is seen, and how many are; drawing sets them.
    pub(super) first: usize,
    pub(super) page: usize,
    rows: Vec<Row>,
    targets: BTreeMap<String, f64>,
    /// The key of the selected row, and its place when it was last seen.
    selected: Option<String>,
    at: usize,
    /// Whether a question waits for its answer.
    is_busy: bool,
    last_id: String,
    /// The weights of the slots that were drained here, to give them back.
    drained: BTreeMap<String, Weight>,
}

impl App {
    /// The view of this control port, before any news.
    pub(super) fn new(control: String) -> Self {
        App {
            control,
            summary: Summary::default(),
            incidents: Vec::new(),
            link: Link::Lost("no answer yet".to_owned()),
            heard: Duration::ZERO,
            rates: Rates::default(),
            connects: Connects::default(),
            sort: Sort::default(),
            is_reversed: false,
            filter: String::new(),
            mode: Mode::Table,
            said: None,
            scroll: 0,
            first: 0,
            page: 1,
            rows: Vec::new(),
            targets: BTreeMap::new(),
            selected: None,
            at: 0,
            is_busy: false,
            last_id: String::new(),
            drained: BTreeMap::new(),
        }
    }

    /// Takes in what the thread that asks tells.
    pub(super) fn hear(&mut self, news: News, now: Duration) {
        self.heard = now;
        match news {
            News::Seen(seen) => self.see(*seen, now),
            News::Lost(why) => self.link = Link::Lost(why),
            News::Unproven(why) => {
                self.link = Link::Unproven;
                self.mode = Mode::Token { typed: String::new(), why };
            }
        }
    }

    fn see(&mut self, Seen { backends, mapping, incidents, metrics }: Seen, now: Duration) {
        let all = || backends.backends.iter().chain(&backends.spares);
        let keys: Vec<String> = all().map(key).collect();
        let totals = keys.iter().zip(all());
        self.rates
            .see(now, totals.map(|(key, one)| (key.as_str(), one.hostname.as_str(), one.connections.total)));
        if let Some(metrics) = metrics {
            self.connects.see(now, metrics.connects);
            self.targets = metrics.shares;
        }
        self.rows = rows(&backends, &self.rates, &self.targets);
        self.summary = Summary {
            mapping,
            up: backends.backends.iter().filter(|one| one.state == State::Up).count(),
            n: backends.n,
            spares: backends.spares.len(),
            open: all().map(|one| one.connections.open).sum(),
            refused: client::not_served(&backends.refused).map(|(_, count)| count).sum(),
        };
        self.incidents = incidents;
        self.link = Link::Live;
    }

    /// Takes in the answer to a question.
    pub(super) fn answered(&mut self, answer: Result<Done, String>) {
        self.is_busy = false;
        match answer {
            Ok(Done::Explained(lines)) => {
                // A question of the user's is not interrupted.
                if self.mode == Mode::Table {
                    (self.mode, self.scroll, self.said) = (Mode::Text { title: "explain", lines }, 0, None);
                }
            }
            Ok(Done::Said(text)) => self.say(text, false),
            Err(why) => self.say(why, true),
        }
    }

    /// The rows that the filter lets pass, in order.
    pub(super) fn shown(&self) -> Vec<&Row> {
        let mut shown: Vec<&Row> = self.rows.iter().filter(|row| row.matches(&self.filter)).collect();
        shown.sort_by(|one, other| self.sort.compare(one, other));
        if self.is_reversed {
            shown.reverse();
        }
        shown
    }

    /// The place of the selected row among those that are shown. If it has gone, the one that is there now is selected.
    pub(super) fn selected(&self, shown: &[&Row]) -> Option<usize> {
        let found = shown.iter().position(|row| Some(&row.key) == self.selected.as_ref());
        found.or_else(|| Some(self.at.min(shown.len().checked_sub(1)?)))
    }

    pub(super) fn say(&mut self, text: String, is_wrong: bool) {
        self.said = Some(Said { text, is_wrong });
    }
}
