//! What a simulation of several balancers results in. Its fields are those of the JSON answer; times are in seconds.

use fleet::Time;
use serde::Serialize;

use super::choices::SAMPLE;
use super::figures::{Answered, Figures};
use super::scenario::Kind;
use super::timeline::Timeline;

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) replicas: usize,
    pub(super) balancers: usize,
    pub(super) seed: u64,
    /// How many keys are followed.
    pub(super) sampled_keys: u32,
    pub(super) scenarios: Vec<Outcome>,
    /// The first scenario, shorter, with other numbers of replicas and balancers.
    pub(super) growth: Vec<Outcome>,
}

/// What one scenario results in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) scenario: String,
    pub(super) replicas: usize,
    pub(super) balancers: usize,
    /// The points of each replica on the ring.
    pub(super) points: u32,
    pub(super) seconds: f64,
    pub(super) deaths: u64,
    pub(super) keys: Keys,
    pub(super) agreement: Agreement,
    pub(super) connects: Connects,
    /// From a death until a balancer has seen it.
    pub(super) seen: Times,
    /// From a death until the replica is up again with a balancer.
    pub(super) back: Times,
    pub(super) commands: Vec<Command>,
    pub(super) calls: Calls,
    pub(super) timeline: Timeline,
    /// What ought not to be: nothing.
    pub(super) problems: Vec<String>,
}

/// Moves of sampled keys, by all balancers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Keys {
    pub(super) moved: u64,
    pub(super) needless: u64,
}

/// How balancers agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Agreement {
    /// From the write of an epoch until every balancer follows it.
    pub(super) spread: Times,
    /// How long balancers disagreed about any sampled key.
    pub(super) disagreement: Times,
    /// The greatest part of the sampled keys that they disagreed on.
    pub(super) most_keys: f64,
    /// The sampled keys that balancers of the same epoch disagreed on.
    pub(super) keys_at_one_epoch: usize,
}

/// Connects to dead replicas.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Connects {
    /// Refused: the next replica is tried at once.
    pub(super) refused: u64,
    /// Lost: the next replica is tried after the connect timeout.
    pub(super) lost: u64,
    /// Both, for each death.
    pub(super) for_each_death: f64,
}

/// How long commands of a kind took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Command {
    pub(super) command: &'static str,
    pub(super) done: Times,
    pub(super) failed: Times,
}

/// The calls of a balancer to the engine, a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Calls {
    /// The mean of all balancers.
    pub(super) mean: f64,
    /// The most calls of one balancer in one second.
    pub(super) most: u32,
    /// The most calls of all balancers in one second.
    pub(super) most_together: u32,
}

/// A number of times, in seconds. There are no quantiles of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) count: usize,
    pub(super) median: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) most: Option<f64>,
}

impl Times {
    pub(super) fn of(times: &[Time]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let rank = |part: f64| ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
        let at = |part| sorted.get(rank(part)).map(Time::as_secs_f64);
        Times { count: sorted.len(), median: at(0.5), p99: at(0.99), most: at(1.0) }
    }
}

impl Outcome {
    pub(super) fn of(
        scenario: String,
        [replicas, balancers]: [usize; 2],
        points: u32,
        figures: Figures,
    ) -> Self {
        let (connects, deaths) = (figures.refused + figures.lost, figures.deaths);
        let agreement = &figures.agreement;
        Outcome {
            scenario,
            replicas,
            balancers,
            points,
            seconds: figures.length.as_secs_f64(),
            deaths,
            keys: Keys { moved: figures.moved, needless: figures.needless },
            agreement: Agreement {
                spread: Times::of(&agreement.spreads),
                disagreement: Times::of(&agreement.disagreements),
                most_keys: agreement.differing.iter().map(|(_, keys)| *keys).max().unwrap_or(0) as f64
                    / f64::from(SAMPLE),
                keys_at_one_epoch: agreement.keys_at_one_epoch,
            },
            connects: Connects {
                refused: figures.refused,
                lost: figures.lost,
                for_each_death: connects as f64 / deaths.max(1) as f64,
            },
            seen: Times::of(&figures.seen),
            back: Times::of(&figures.back),
            commands: figures.commands.iter().map(|(kind, answered)| Command::of(*kind, answered)).collect(),
            calls: Calls::of(&figures.calls, figures.length),
            timeline: Timeline::of(&figures),
            problems: figures.problems,
        }
    }
}

impl Outcome {
    /// The slowest command that was done and needed nothing but a write of the record.
    pub(super) fn slowest_write(&self) -> Option<f64> {
        let writes = self.commands.iter().filter(|command| command.command != Kind::Add.name());
        writes.filter_map(|command| command.done.most).reduce(f64::max)
    }
}

impl Command {
    fn of(kind: Kind, answered: &Answered) -> Self {
        let [done, failed] = [&answered.done, &answered.failed].map(|times| Times::of(times));
        Command { command: kind.name(), done, failed }
    }
}

impl Calls {
    /// Up to the last fault or command.
    fn of(calls: &[Vec<u32>], length: Time) -> Self {
        let seconds = length.as_secs().max(1) as usize;
        let within = |calls: &Vec<u32>| calls.iter().take(seconds).copied().collect::<Vec<u32>>();
        let calls: Vec<Vec<u32>> = calls.iter().map(within).collect();
        let sum: u64 = calls.iter().flatten().copied().map(u64::from).sum();
        let together = |second: usize| calls.iter().filter_map(|calls| calls.get(second)).sum::<u32>();
        Calls {
            mean: sum as f64 / seconds as f64 / calls.len().max(1) as f64,
            most: calls.iter().flatten().copied().max().unwrap_or(0),
            most_together: (0..seconds).map(together).max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<Time> = (1..=200).rev().map(Time::from_secs).collect();
        let all = Times { count: 200, median: Some(100.0), p99: Some(198.0), most: Some(200.0) };
        assert_eq!(Times::of(&times), all);
        assert_eq!(Times::of(&[]), Times::default());
    }

    #[test]
    fn calls_are_those_of_one_balancer_and_of_all_in_a_second() {
        let calls = Calls::of(&[vec![1, 5, 9], vec![2]], Time::from_secs(2));
        assert_eq!(calls, Calls { mean: 2.0, most: 5, most_together: 5 });
    }
}
