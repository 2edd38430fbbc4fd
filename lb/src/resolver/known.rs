//! What is known of a name from the answers about it, and when to ask again. Pure: the caller asks, and brings the time.
//!
//! An answer is a set: it replaces what was known. A question that fails (no answer in time, an error of the server, an answer that
//! makes no sense) changes nothing. That a name does not exist, or has no record, is not believed at once: a server that has just
//! started, or has lost the source of its records, says that of every name.

use std::time::Duration;

/// Time since the asking task began.
pub(crate) type Time = Duration;

/// The pause before a question is asked again that was answered with nothing: the least that a zone usually allows.
const AFTER_NOTHING: Duration = Duration::from_secs(5);
/// How many answers in a row have to say that there is nothing.
const ANSWERS: u32 = 3;

/// What a question brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// Records, and how long they hold: the least time to live of them.
    Records(T, Duration),
    /// The name does not exist, or has no such record; which of the two.
    Nothing(String),
    /// Nothing that can be used; why.
    Failed(String),
}

impl<T> Answer<T> {
    /// The same answer with other records; if there are none, with nothing.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> Option<U>) -> Answer<U> {
        match self {
            Answer::Records(records, hold) => match change(records) {
                Some(records) => Answer::Records(records, hold),
                None => Answer::Nothing("its records name no server".to_owned()),
            },
            Answer::Nothing(why) => Answer::Nothing(why),
            Answer::Failed(why) => Answer::Failed(why),
        }
    }

    /// Why it has no records.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Answer::Records(..) => None,
            Answer::Nothing(why) | Answer::Failed(why) => Some(why),
        }
    }
}

/// How often to ask, and what to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The least time from one question to the next, however short the time to live is.
    pub least: Duration,
    /// The most, however long it is.
    pub most: Duration,
    /// How long every answer has to be that there is nothing before that is believed; `None`: it never is.
    pub empty_after: Option<Duration>,
}

/// What is known of one name.
#[derive(Debug)]
pub(crate) struct Known<T> {
    rules: Rules,
    records: Option<T>,
    /// Since when, and how many times in a row, the answer was that there is nothing. A failed question says nothing.
    nothing: Option<(Time, u32)>,
    /// Failed questions in a row.
    failures: u32,
    pause: Duration,
}

impl<T: PartialEq> Known<T> {
    /// Nothing is known yet.
    pub(crate) fn new(rules: Rules) -> Self {
        let pause = rules.least;
        Known { rules, records: None, nothing: None, failures: 0, pause }
    }

    /// The records, unless there are none, or none are known yet.
    pub(crate) fn records(&self) -> Option<&T> {
        self.records.as_ref()
    }

    /// Takes an answer that came at `now`. True if what is known has changed.
    pub(crate) fn hear(&mut self, now: Time, answer: Answer<T>) -> bool {
        self.failures = if matches!(answer, Answer::Failed(_)) { self.failures.saturating_add(1) } else { 0 };
        let (news, pause) = match answer {
            Answer::Records(records, hold) => {
                self.nothing = None;
                (Some(Some(records)), hold)
            }
            Answer::Nothing(_) => (self.is_believed_empty(now).then_some(None), AFTER_NOTHING),
            // Twice as long after each further failure.
            Answer::Failed(_) => (None, self.rules.least * 2_u32.saturating_pow(self.failures.min(16) - 1)),
        };
        self.pause = pause.clamp(self.rules.least, self.rules.most.max(self.rules.least));
        let Some(news) = news.filter(|news| *news != self.records) else { return false };
        self.records = news;
        true
    }

    /// Takes an answer that there is nothing, and says whether to believe it.
    fn is_believed_empty(&mut self, now: Time) -> bool {
        let (since, before) = self.nothing.unwrap_or((now, 0));
        let answers = before.saturating_add(1);
        self.nothing = Some((since, answers));
        self.rules.empty_after.is_some_and(|limit| answers >= ANSWERS && now.saturating_sub(since) >= limit)
    }

    /// The pause after the last answer before the next question.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// The pause if there is a reason to ask soon, such as a failed connect. It bounds how often such reasons are followed.
    pub(crate) fn short_pause(&self) -> Duration {
        self.rules.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> Rules {
        Rules { least: SECOND, most: 30 * SECOND, empty_after: Some(30 * SECOND) }
    }

    fn records(records: &[u8], hold: Duration) -> Answer<Vec<u8>> {
        Answer::Records(records.to_vec(), hold)
    }

    fn nothing() -> Answer<Vec<u8>> {
        Answer::Nothing("NXDOMAIN".into())
    }

    fn failed() -> Answer<Vec<u8>> {
        Answer::Failed("SERVFAIL".into())
    }

    #[test]
    fn an_answer_replaces_what_was_known() {
        let mut known = Known::new(rules());
        assert_eq!(known.records(), None);
        let changes = [&[1, 2][..], &[1, 2], &[2]].map(|set| known.hear(Time::ZERO, records(set, SECOND)));
        assert_eq!((changes, known.records()), ([true, false, true], Some(&vec![2])));
    }

    #[test]
    fn the_time_to_live_counts_within_its_bounds() {
        let mut known = Known::new(rules());
        for (hold, expected) in [(0, 1), (1, 1), (7, 7), (30, 30), (86_400, 30)] {
            known.hear(Time::ZERO, records(&[1], hold * SECOND));
            assert_eq!(known.pause(), expected * SECOND, "{hold} s");
        }
        assert_eq!(known.short_pause(), SECOND);
        let mut fixed = Known::new(Rules { least: 2 * SECOND, most: SECOND, empty_after: None });
        fixed.hear(Time::ZERO, records(&[1], SECOND));
        assert_eq!(fixed.pause(), 2 * SECOND, "the least wins");
    }

    #[test]
    fn a_question_that_fails_changes_nothing_and_is_asked_less_and_less() {
        let mut known = Known::new(rules());
        known.hear(Time::ZERO, records(&[1], SECOND));
        let mut pauses = Vec::new();
        for _ in 0..40 {
            assert!(!known.hear(1000 * SECOND, failed()));
            pauses.push(known.pause().as_secs());
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!((pauses[39], known.records()), (30, Some(&vec![1])));
        known.hear(1000 * SECOND, records(&[1], SECOND));
        known.hear(1000 * SECOND, failed());
        assert_eq!(known.pause(), SECOND, "the count begins again");
    }

    #[test]
    fn nothing_is_believed_when_it_was_the_only_answer_for_long_enough() {
        let mut known = Known::new(rules());
        known.hear(Time::ZERO, records(&[1], SECOND));
        for at in [10, 15, 39] {
            assert!(!known.hear(at * SECOND, nothing()), "at {at} s");
        }
        assert_eq!(known.pause(), AFTER_NOTHING);
        assert!(known.hear(40 * SECOND, nothing()));
        assert_eq!(known.records(), None);
        assert!(!known.hear(50 * SECOND, nothing()), "it is known");
        assert!(known.hear(60 * SECOND, records(&[1], SECOND)));
    }

    #[test]
    fn nothing_takes_three_answers_and_records_between_them_end_the_doubt() {
        let mut known = Known::new(rules());
        known.hear(Time::ZERO, records(&[1], SECOND));
        known.hear(SECOND, nothing());
        assert!(!known.hear(100 * SECOND, nothing()), "two answers");
        known.hear(101 * SECOND, records(&[1], SECOND));
        for at in [102, 110, 120] {
            assert!(!known.hear(at * SECOND, nothing()), "at {at} s");
        }
        assert!(!known.hear(125 * SECOND, failed()), "a failure says nothing, and does not end the doubt");
        assert!(known.hear(132 * SECOND, nothing()));
    }

    #[test]
    fn nothing_is_never_believed_if_so_told() {
        let mut known = Known::new(Rules { empty_after: None, ..rules() });
        known.hear(Time::ZERO, records(&[1], SECOND));
        assert!((0..1000).all(|at| !known.hear(at * 3600 * SECOND, nothing())));
        assert_eq!(known.records(), Some(&vec![1]));
    }

    /// Random answers against a model that keeps all of them.
    #[test]
    fn random_histories_keep_what_was_last_said() {
        for seed in 0..2000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut known, mut now) = (Known::new(rules()), Time::ZERO);
            let mut history: Vec<(Time, Answer<Vec<u8>>)> = Vec::new();
            for _ in 0..60 {
                let answer = match rng.u8(..8) {
                    0..2 => records(&[rng.u8(..3)], rng.u32(..100) * SECOND),
                    2 => failed(),
                    _ => nothing(),
                };
                history.push((now, answer.clone()));
                let before = known.records().cloned();
                let changed = known.hear(now, answer.clone());
                assert_eq!(changed, before != known.records().cloned(), "seed {seed}");
                assert_eq!(known.records().cloned(), expected(&history), "seed {seed}: {history:?}");
                assert!(known.pause() >= SECOND && known.pause() <= 30 * SECOND, "seed {seed}");
                now += rng.u32(1..20) * SECOND;
            }
        }
    }

    /// What a history comes to: its last records, unless three answers or more have said since that there is nothing, for 30 s.
    fn expected(history: &[(Time, Answer<Vec<u8>>)]) -> Option<Vec<u8>> {
        let last = history.iter().rposition(|(_, answer)| matches!(answer, Answer::Records(..)))?;
        let Answer::Records(records, _) = &history[last].1 else { unreachable!() };
        let since: Vec<Time> = history[last..]
            .iter()
            .filter(|(_, answer)| matches!(answer, Answer::Nothing(_)))
            .map(|(at, _)| *at)
            .collect();
        let is_over = since.len() >= 3 && since[since.len() - 1] - since[0] >= 30 * SECOND;
        (!is_over).then(|| records.clone())
    }
}
