//! The journal: what has happened, in one order, for everything that shows it.
//!
//! The controller and the control port record what they do; warnings come from the log ([`warnings`]). The last entries stay in memory,
//! and readers fetch them at their own pace ([`Follower`]): one that is too slow misses some, and is told how many. With a file
//! ([`mod@file`]), every entry is appended to it as well, by a thread of its own, and so is every step of the fleet ([`step`]). To record
//! never waits for a reader or a disk.

pub(crate) mod file;
pub(crate) mod step;
pub mod warnings;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use proto::incident::Incident;
use proto::journal::{Entry, Event};
use tokio::sync::watch;

use crate::appender::Guard;
use file::Appender;
use step::{Step, What};

/// The most entries that are kept.
const MOST: usize = 10_000;
/// The most bytes that they have together, as JSON.
const MOST_BYTES: usize = 8 << 20;
/// The most entries that a reader gets at once.
const AT_ONCE: usize = 100;

/// What has happened.
#[derive(Debug)]
pub struct Journal {
    kept: Mutex<Kept>,
    /// The number of the newest entry.
    newest: watch::Sender<u64>,
    file: Option<Appender>,
    /// Whether a successor writes it.
    is_retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    newest: u64,
    /// The number of the last step of the fleet.
    step: u64,
}

/// An entry as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    at: SystemTime,
    /// Without a line feed.
    pub(crate) json: Arc<str>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With the oldest entry that is kept.
    Oldest,
    /// After the entry of this number. If there is no such entry yet, the number is of an earlier `lb`: with the oldest one.
    After(u64),
    /// With the first entry that is at most so old.
    Ago(Duration),
}

/// An empty journal, whose entries are also appended to a file of at most so many bytes, if there is one. Keep the guard until the end.
///
/// # Errors
/// The file cannot be written.
pub fn open(file: Option<&(PathBuf, u64)>) -> anyhow::Result<(Arc<Journal>, Option<Guard>)> {
    let opened = file.map(|(path, most)| {
        Appender::open(path, *most).with_context(|| format!("cannot write to {} (--journal)", path.display()))
    });
    let (appender, guard) = opened.transpose()?.unzip();
    Ok((Arc::new(Journal::new(appender)), guard))
}

impl Journal {
    /// An empty journal. Entries are also appended to the file, if there is one.
    #[must_use]
    pub(crate) fn new(file: Option<Appender>) -> Self {
        Journal {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
            file,
            is_retired: AtomicBool::new(false),
        }
    }

    /// Records an event.
    pub(crate) fn record(&self, event: Event) {
        if self.is_retired.load(Relaxed) {
            return;
        }
        let at = SystemTime::now();
        let mut kept = self.lock();
        let line = Line::new(kept.newest + 1, at, event);
        if let Some(file) = &self.file {
            // Under the lock, so that the order in the file is that of the numbers.
            file.append(&line);
        }
        kept.push(line);
        let newest = kept.newest;
        drop(kept);
        self.newest.send_replace(newest);
    }

    /// Writes a step of the fleet to the file, if there is one.
    pub(crate) fn record_step(&self, what: impl FnOnce() -> What) {
        let Some(file) = self.file.as_ref().filter(|_| !self.is_retired.load(Relaxed)) else { return };
        let mut kept = self.lock();
        kept.step += 1;
        let step = Step { step: kept.step, seq: kept.newest, what: what() };
        file.append_step(step);
    }

    /// Completes when the file needs a checkpoint of the fleet as a step; never without a file.
    pub(crate) async fn wants_checkpoint(&self) {
        match &self.file {
            Some(file) => file.wants_checkpoint().await,
            None => std::future::pending().await,
        }
    }

    /// The entries that are kept, each a line of JSON.
    pub(crate) fn kept(&self) -> Vec<Arc<str>> {
        self.lock().lines.iter().map(|line| Arc::clone(&line.json)).collect()
    }

    /// The incidents that have ended, as far as they are kept.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        // Most entries are something else, and need not be read for that.
        let lines = self.kept().into_iter().filter(|json| json.contains("incident"));
        let entries = lines.filter_map(|json| serde_json::from_str(&json).ok());
        let incident = |Entry { event, .. }| match event {
            Event::Incident(incident) => Some(incident),
            _ => None,
        };
        entries.filter_map(incident).collect()
    }

    /// Begins with the entries of the `lb` before this one, each a line of JSON, and goes on behind them. They are in its file already.
    /// Lines that are no entries are left out.
    pub(crate) fn go_on_after(&self, entries: &[String]) {
        let mut kept = self.lock();
        for json in entries {
            let Ok(Entry { seq, time, .. }) = serde_json::from_str(json) else { continue };
            let Ok(at) = humantime::parse_rfc3339(&time) else { continue };
            if seq > kept.newest {
                kept.push(Line { seq, at, json: json.as_str().into() });
            }
        }
        let newest = kept.newest;
        drop(kept);
        self.newest.send_replace(newest);
    }

    /// Writes nothing any more: a successor does.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Relaxed);
    }

    /// How many entries are missing in the file.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.file.as_ref().map_or(0, Appender::lost)
    }

    /// A reader that begins there.
    pub(crate) fn follow(self: &Arc<Self>, beginning: Beginning) -> Follower {
        let news = self.newest.subscribe();
        let seen = self.lock().before(beginning);
        Follower { journal: Arc::clone(self), news, seen }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No code panics while it holds the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(seq: u64, at: SystemTime, event: Event) -> Self {
        let time = humantime::format_rfc3339_millis(at).to_string();
        Line { seq, at, json: Entry { seq, time, event }.to_json().into() }
    }
}

impl Kept {
    fn push(&mut self, line: Line) {
        self.newest = line.seq;
        self.bytes += line.json.len();
        self.lines.push_back(line);
        while self.lines.len() > MOST || self.bytes > MOST_BYTES {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.json.len());
        }
    }

    fn oldest(&self) -> u64 {
        self.lines.front().map_or(self.newest + 1, |line| line.seq)
    }

    /// The number of the entry before the first one that such a reader gets.
    fn before(&self, beginning: Beginning) -> u64 {
        match beginning {
            Beginning::After(seq) if seq <= self.newest => seq,
            Beginning::After(_) | Beginning::Oldest => self.oldest() - 1,
            Beginning::Ago(time) => {
                let begin = SystemTime::now().checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH);
                // The wall clock may have been set back meanwhile, so the order of the times is not that of the numbers.
                let first = self.lines.iter().find(|line| line.at >= begin);
                first.map_or(self.newest, |line| line.seq - 1)
            }
        }
    }

    /// Some entries after this one, and how many are not kept any more.
    fn after(&self, seq: u64) -> (u64, Vec<Line>) {
        let missed = self.oldest().saturating_sub(seq + 1);
        let at = usize::try_from((seq + 1).saturating_sub(self.oldest())).unwrap_or(usize::MAX);
        (missed, self.lines.iter().skip(at).take(AT_ONCE).cloned().collect())
    }
}

/// A reader of the journal.
#[derive(Debug)]
pub(crate) struct Follower {
    journal: Arc<Journal>,
    news: watch::Receiver<u64>,
    /// The number of the last entry that it got.
    seen: u64,
}

impl Follower {
    /// The next entries that are there, and none if it has got all. If entries are missing, the first one says so.
    pub(crate) fn ready(&mut self) -> Vec<Line> {
        self.news.mark_unchanged();
        let (missed, mut lines) = self.journal.lock().after(self.seen);
        if missed > 0 {
            lines.insert(0, Line::new(self.seen + missed, SystemTime::now(), Event::Gap { missed }));
        }
        self.seen = lines.last().map_or(self.seen, |line| line.seq);
        lines
    }

    /// Waits for the next entries.
    pub(crate) async fn next(&mut self) -> Vec<Line> {
        loop {
            let lines = self.ready();
            if !lines.is_empty() {
                return lines;
            }
            // It fails only if the journal is gone, which this holds.
            let _ = self.news.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(entries: usize) -> Arc<Journal> {
        let journal = Arc::new(Journal::new(None));
        (0..entries).for_each(|replicas| journal.record(Event::Ready { replicas }));
        journal
    }

    fn numbers(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.seq).collect()
    }

    /// All that is there now.
    fn all(journal: &Arc<Journal>, beginning: Beginning) -> Vec<u64> {
        let mut follower = journal.follow(beginning);
        let pages = std::iter::repeat_with(|| follower.ready()).take_while(|lines| !lines.is_empty());
        pages.flat_map(|lines| numbers(&lines)).collect()
    }

    #[test]
    fn a_reader_begins_where_it_says() {
        let journal = journal(250);
        assert_eq!(all(&journal, Beginning::Oldest), (1..=250).collect::<Vec<_>>());
        assert_eq!(all(&journal, Beginning::After(248)), [249, 250]);
        assert!(all(&journal, Beginning::After(250)).is_empty());
        assert_eq!(all(&journal, Beginning::After(251)).len(), 250, "a number of an earlier lb");
        assert_eq!(all(&journal, Beginning::Ago(Duration::from_secs(3600))).len(), 250);
        assert_eq!(all(&journal, Beginning::Ago(Duration::MAX)).len(), 250);
        journal.lock().lines.iter_mut().take(200).for_each(|line| line.at -= Duration::from_secs(7200));
        assert_eq!(all(&journal, Beginning::Ago(Duration::from_secs(3600))), (201..=250).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_kept_is_told() {
        let journal = journal(MOST + 5);
        let mut follower = journal.follow(Beginning::After(2));
        let lines = follower.ready();
        assert_eq!(numbers(&lines)[..2], [5, 6]);
        let gap: Entry = serde_json::from_str(&lines[0].json).unwrap();
        assert_eq!(gap.event, Event::Gap { missed: 3 });
        assert_eq!(all(&journal, Beginning::Oldest)[0], 6);
        assert_eq!(journal.lock().lines.len(), MOST);
        // However long the entries are.
        let message = "x".repeat(MOST_BYTES / 10);
        (0..20).for_each(|_| {
            journal.record(Event::Warning { from: String::new(), message: message.clone() });
        });
        let kept = journal.lock();
        assert_eq!(kept.bytes, kept.lines.iter().map(|line| line.json.len()).sum::<usize>());
        assert!(kept.bytes <= MOST_BYTES && kept.lines.len() < 20);
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_is_recorded_by_another_thread() {
        let journal = journal(1);
        let mut follower = journal.follow(Beginning::After(1));
        let (records, recorder) = (100_u64, Arc::clone(&journal));
        let recorder =
            std::thread::spawn(move || (0..records).for_each(|_| recorder.record(Event::Stopping {})));
        let mut seen = Vec::new();
        while seen.last() != Some(&(records + 1)) {
            seen.extend(numbers(&follower.next().await));
        }
        assert_eq!(seen, (2..=records + 1).collect::<Vec<_>>());
        recorder.join().unwrap();
    }
}
