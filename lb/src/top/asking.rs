//! The questions to the control port: what is shown, asked for again and again by a thread of its own, and what a key asks for.
//!
//! Nothing here judges an answer, and nothing draws.

use std::thread::{Builder, park_timeout};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::control::{Backends, Body, Explanation, Killed, Mapping};
use proto::incident::Incident;
use proto::printable::printable;
use serde_json::json;
use tokio::sync::mpsc;

use super::figures::Metrics;
use crate::client::{self, Bell, Refusal, Request};

/// The pause between two readings, if something happens all the time.
const SOONEST: Duration = Duration::from_millis(200);
/// How long each step of an answer that is shown may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Metrics are asked for so rarely that they take at most one part in so many of the time: those of a thousand slots are a long text.
const METRICS_PART: u32 = 20;

/// What the thread tells.
#[derive(Debug)]
pub(super) enum News {
    /// What there is now.
    Seen(Box<Seen>),
    /// There is no answer. It tries again.
    Lost(String),
    /// The token is missing or wrong. It has ended.
    Unproven(String),
}

/// What there is at one moment.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) backends: Backends,
    pub(super) mapping: String,
    pub(super) incidents: Vec<Incident>,
    /// `None`: those from before still count.
    pub(super) metrics: Option<Metrics>,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Explain(String),
    /// A hostname.
    Kill(String),
    /// A slot, and its new weight.
    Weigh(String, u32),
}

/// The answer to a question.
#[derive(Debug)]
pub(super) enum Done {
    /// The lines of an explanation.
    Explained(Vec<String>),
    /// One line.
    Said(String),
}

/// Asks for what is shown.
#[derive(Debug)]
pub(super) struct Asker {
    request: Request,
    /// When metrics are asked for next.
    next_metrics: Instant,
}

impl Asker {
    pub(super) fn new(request: &Request) -> Self {
        let request = Request { patience: PATIENCE, ..request.clone() };
        Asker { request, next_metrics: Instant::now() }
    }

    /// Asks once.
    ///
    /// # Errors
    /// `lb` cannot be reached, or refuses.
    pub(super) fn read(&mut self) -> Result<Seen, Refusal> {
        let backends = client::command(&self.request, "GET /backends", None)?;
        let Mapping { mapping, .. } = client::command(&self.request, "GET /mapping", None)?;
        let incidents = client::all_incidents(&self.request)?;
        let metrics = self.metrics()?;
        Ok(Seen { backends, mapping, incidents, metrics })
    }

    fn metrics(&mut self) -> Result<Option<Metrics>, Refusal> {
        let begun = Instant::now();
        if begun < self.next_metrics {
            return Ok(None);
        }
        let metrics = Metrics::read(&client::metrics(&self.request)?);
        self.next_metrics = begun + METRICS_PART * begun.elapsed();
        Ok(Some(metrics))
    }

    /// Goes on asking, on a thread of its own, each second and whenever something happens, until there is no reader for the news or the token is
    /// refused.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn go_on(mut self, news: mpsc::Sender<News>) -> anyhow::Result<()> {
        let thread = Builder::new().name("asking".to_owned());
        let asking = move || {
            let mut bell = Bell::default();
            loop {
                let begun = Instant::now();
                let next = self.read().map_or_else(News::from, |seen| News::Seen(Box::new(seen)));
                let is_last = matches!(next, News::Unproven(_));
                if news.blocking_send(next).is_err() || is_last {
                    return;
                }
                bell.wait(&self.request);
                pause(SOONEST.saturating_sub(begun.elapsed()));
            }
        };
        thread.spawn(asking).map(drop).context("no thread for the questions")
    }
}

impl From<Refusal> for News {
    fn from(refusal: Refusal) -> Self {
        let text = printable(&refusal.to_string());
        match refusal {
            Refusal::Unproven(_) => News::Unproven(text),
            Refusal::Other(_) => News::Lost(text),
        }
    }
}

fn pause(time: Duration) {
    let begun = Instant::now();
    // A thread may wake up for no reason.
    while begun.elapsed() < time {
        park_timeout(time.saturating_sub(begun.elapsed()));
    }
}

/// Asks the question of a key, and waits for the answer, which may take a minute.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn answer(request: &Request, question: &Question) -> Result<Done, String> {
    let done = match question {
        Question::Explain(id) => {
            let sent = json!({ "id": id }).to_string();
            client::command::<Explanation>(request, "POST /explain", Some(&sent)).map(|answer| {
                Done::Explained(
                    client::in_words(&Body::Explanation(answer)).lines().map(str::to_owned).collect(),
                )
            })
        }
        Question::Kill(hostname) => {
            let sent = json!({ "hostname": hostname }).to_string();
            let killed = client::command::<Killed>(request, "POST /kill", Some(&sent));
            killed.map(|answer| Done::Said(client::in_words(&Body::Killed(answer))))
        }
        Question::Weigh(slot, weight) => {
            let sent = json!({ "weights": { slot: weight } }).to_string();
            let changed = client::command::<Mapping>(request, "PUT /mapping", Some(&sent));
            changed.map(|_| Done::Said(printable(&format!("{slot} has the weight {weight}"))))
        }
    };
    done.map_err(|refusal| printable(&refusal.to_string()))
}
