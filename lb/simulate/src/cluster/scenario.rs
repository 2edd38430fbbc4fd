//! What goes wrong, and when, and which commands come meanwhile.

use std::fmt::{self, Display};
use std::time::Duration;

use fleet::Time;

/// A course of faults and commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A replica dies every second, for 1,000 s.
    Deaths,
    /// A tenth of the replicas, at most 100, are killed at once.
    Burst,
    /// A node with a tenth of the replicas, at most 100, crashes.
    Node,
    /// Three balancers, or less than half of them, cannot reach the engine for 60 s. They reach the replicas.
    Partition,
    /// All replicas are replaced, a hundredth of them at a time.
    Rolling,
    /// No balancer can reach the engine for 60 s, and it restarts nothing.
    Away,
    /// Ten replicas are killed one after the other, with a command after each: what was done to a real Swarm, too.
    Drill,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 7] = [
        Scenario::Deaths,
        Scenario::Burst,
        Scenario::Node,
        Scenario::Partition,
        Scenario::Rolling,
        Scenario::Away,
        Scenario::Drill,
    ];

    /// Whether it is one of those that `all` stands for.
    #[must_use]
    pub fn is_in_all(self) -> bool {
        self != Scenario::Drill
    }

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Deaths => "deaths",
            Scenario::Burst => "burst",
            Scenario::Node => "node",
            Scenario::Partition => "partition",
            Scenario::Rolling => "rolling",
            Scenario::Away => "away",
            Scenario::Drill => "drill",
        }
    }
}

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// So many random replicas are killed.
    Kill(usize),
    /// The node of so many random replicas crashes.
    Crash(usize),
    /// The replicas of these seats, by ordinal, are replaced.
    Replace(std::ops::Range<usize>),
    /// These balancers are cut off from the engine, and no others.
    CutOff(Vec<usize>),
    /// The engine is away, or back.
    Away(bool),
    /// A command comes to this balancer.
    Command(usize, Kind),
}

/// A kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Remove,
    Add,
    Weigh,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Remove, Kind::Add, Kind::Weigh];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Remove => "rm 1",
            Kind::Add => "add 1",
            Kind::Weigh => "mapping set --weight",
        }
    }
}

/// What happens when, by time.
pub(super) type Course = Vec<(Time, Happening)>;

/// The scenario's first fault comes then, and commands begin to come a little earlier.
const FIRST: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// How long a partition lasts, and how long the engine is away.
const AWAY: u64 = 60;

impl Scenario {
    /// What happens to a fleet of this many replicas and balancers.
    pub(super) fn course(self, replicas: usize, balancers: usize, rng: &mut fastrand::Rng) -> Course {
        let some = replicas.div_ceil(10).min(100);
        let during = |seconds: u64| (0..seconds).map(|second| FIRST + SECOND * second as u32);
        let end = FIRST + SECOND * AWAY as u32;
        let (faults, seconds): (Course, u64) = match self {
            Scenario::Deaths => return deaths(1000, SECOND * 20, balancers, rng),
            Scenario::Drill => return drill(balancers, rng),
            Scenario::Burst => (vec![(FIRST, Happening::Kill(some))], AWAY),
            Scenario::Node => (vec![(FIRST, Happening::Crash(some))], AWAY),
            Scenario::Partition => {
                let cut: Vec<usize> = (0..balancers.saturating_sub(1).div_euclid(2).min(3)).collect();
                let kills = during(AWAY).step_by(5).map(|at| (at + SECOND / 2, Happening::Kill(1)));
                let ends = [(FIRST, Happening::CutOff(cut)), (end, Happening::CutOff(Vec::new()))];
                (ends.into_iter().chain(kills).collect(), AWAY)
            }
            Scenario::Rolling => {
                let step = replicas.div_ceil(100);
                let parts = (0..replicas).step_by(step).map(|from| from..(from + step).min(replicas));
                let times = during(2 * AWAY);
                (times.zip(parts).map(|(at, part)| (at, Happening::Replace(part))).collect(), 2 * AWAY)
            }
            Scenario::Away => {
                let kills = during(AWAY).map(|at| (at + SECOND / 2, Happening::Kill(1)));
                let ends = [(FIRST, Happening::Away(true)), (end, Happening::Away(false))];
                (ends.into_iter().chain(kills).collect(), AWAY)
            }
        };
        ordered(faults, commands(SECOND * 5, FIRST * 2 + SECOND * seconds as u32, balancers, rng))
    }
}

/// A death every second, and a command after every `pause`.
pub(super) fn deaths(seconds: u32, pause: Time, balancers: usize, rng: &mut fastrand::Rng) -> Course {
    let kills = (1..=seconds).map(|second| (SECOND * second, Happening::Kill(1)));
    ordered(kills.collect(), commands(pause, SECOND * seconds, balancers, rng))
}

/// Ten deaths, each followed by a command and by another pause: so nothing of one is left when the next one comes.
fn drill(balancers: usize, rng: &mut fastrand::Rng) -> Course {
    let pause = SECOND * 3;
    let kills: Course = (0..10).map(|at| (FIRST + pause * 2 * at, Happening::Kill(1))).collect();
    let mut commands = commands(pause * 2, pause * 2 * 10, balancers, rng);
    commands.iter_mut().for_each(|(at, _)| *at += FIRST + pause / 2);
    ordered(kills, commands)
}

/// Commands of all kinds in turn, each to a random balancer.
fn commands(pause: Time, end: Time, balancers: usize, rng: &mut fastrand::Rng) -> Course {
    let times = (0..).map(|at: u32| pause * at + pause / 4).take_while(|at| *at < end);
    let kinds = Kind::ALL.into_iter().cycle();
    times.zip(kinds).map(|(at, kind)| (at, Happening::Command(rng.usize(0..balancers), kind))).collect()
}

fn ordered(mut faults: Course, commands: Course) -> Course {
    faults.extend(commands);
    faults.sort_by_key(|(at, _)| *at);
    faults
}
