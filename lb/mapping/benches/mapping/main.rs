//! The time of a pick and of a build, for the mappings of this crate and for crates that are often used instead.
//!
//! All get the same keys, one after the other: six-digit ids, so many that neither the branch predictor nor the cache learns
//! them. Rings have the number of points that makes them equally even; the benchmark prints the balance. docs/BENCHMARKS.md
//! has the figures.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot begin has nothing to measure")]
#![expect(clippy::print_stdout, reason = "the balance belongs to the figures")]

mod others;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use mapping::{Algorithm, Mapping, Member, SlotsShape};

/// Fleets, by their number of servers.
const FLEETS: [usize; 4] = [3, 6, 100, 1000];
/// How many fit into the classic table.
const TABLE: usize = 56;
/// Beyond this many servers what costs a step or a list for each of them is left out.
const MANY: usize = 100;

/// A request id of six digits.
type Key = [u8; 6];

/// How many different keys are asked for in turn.
const KEYS: usize = 1 << 16;

/// `server1`, `server2` ...
fn name(server: usize) -> String {
    format!("server{}", server + 1)
}

fn members(count: usize) -> Vec<Member> {
    (0..count).zip(1..).map(|(server, index)| Member { index, name: name(server), weight: 1 }).collect()
}

fn built(algorithm: &Algorithm, servers: usize) -> Mapping {
    Mapping::build(&algorithm.clone().into(), &members(servers)).unwrap()
}

fn key(id: usize) -> Key {
    id.to_string().into_bytes().try_into().unwrap()
}

/// Picks for the servers of one fleet.
struct Picks<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    servers: usize,
    keys: Vec<Key>,
}

impl<'a> Picks<'a> {
    fn of(criterion: &'a mut Criterion, servers: usize) -> Self {
        // In an order without a pattern: a factor that has no divisor in common with 900,000 visits every id once.
        let keys = (0..KEYS).map(|i| key(100_000 + i * 387_401 % 900_000)).collect();
        Self { group: criterion.benchmark_group(format!("pick/{servers}")), servers, keys }
    }

    /// Measures how long `pick` takes to find the server of a key.
    fn measure(&mut self, what: &str, pick: impl Fn(&Key) -> usize) {
        self.say_balance(what, &pick);
        let mut next = 0;
        self.group.bench_function(what, |bencher| {
            bencher.iter(|| {
                next = (next + 1) % KEYS;
                pick(black_box(&self.keys[next]))
            });
        });
    }

    /// Says how many of all six-digit ids the busiest server gets. (Not where nothing is measured either.)
    fn say_balance(&self, what: &str, pick: &impl Fn(&Key) -> usize) {
        let is_given = |flag| std::env::args().any(|argument| argument == flag);
        if is_given("--test") || !is_given("--bench") {
            return;
        }
        let mut shares = vec![0_u32; self.servers];
        (100_000..1_000_000).for_each(|id| shares[pick(&key(id))] += 1);
        let busiest = shares.into_iter().max().map_or(0.0, f64::from);
        println!(
            "{what}, {} servers: busiest/mean {:.3}",
            self.servers,
            busiest * self.servers as f64 / 900_000.0
        );
    }
}

fn picks(criterion: &mut Criterion) {
    for servers in FLEETS {
        let mut picks = Picks::of(criterion, servers);
        picks_of_lb(&mut picks);
        others::picks(&mut picks);
    }
    let mut picks = Picks::of(criterion, TABLE);
    let slots = built(&Algorithm::Slots(SlotsShape::default()), TABLE);
    picks.measure("slots", |key| slots.owner(key).unwrap());
}

fn picks_of_lb(picks: &mut Picks<'_>) {
    let servers = picks.servers;
    for algorithm in [Algorithm::Ring { points: Algorithm::POINTS }, Algorithm::Maglev] {
        let (mapping, name) = (built(&algorithm, servers), algorithm.name().as_str());
        picks.measure(name, |key| mapping.owner(key).unwrap());
        picks.measure(&format!("{name}, as candidates"), |key| mapping.candidates(key).next().unwrap());
    }
    if servers <= TABLE {
        let slots = built(&Algorithm::Slots(SlotsShape::default()), servers);
        picks.measure("slots", |key| slots.owner(key).unwrap());
    }
    if servers <= MANY {
        let rendezvous = built(&Algorithm::Rendezvous, servers);
        picks.measure("rendezvous", |key| rendezvous.owner(key).unwrap());
    }
}

fn builds(criterion: &mut Criterion) {
    let ring = Algorithm::Ring { points: Algorithm::POINTS };
    let slots = Algorithm::Slots(SlotsShape::default());
    let cases = [(&ring, &FLEETS[1..]), (&Algorithm::Maglev, &FLEETS[1..]), (&slots, &[6, TABLE])];
    let mut group = criterion.benchmark_group("build");
    for (algorithm, fleets) in cases {
        for &servers in fleets {
            group.bench_function(BenchmarkId::new(algorithm.name().as_str(), servers), |bencher| {
                let (scheme, members) = (algorithm.clone().into(), members(servers));
                bencher.iter(|| Mapping::build(&scheme, black_box(&members)).unwrap());
            });
        }
    }
    others::builds(&mut group);
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = mapping; config = quick(); targets = picks, builds }
criterion_main!(mapping);
