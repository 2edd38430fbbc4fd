//! When requests are sent.
//!
//! In a **closed loop** each connection sends its next request when it has the answer to the last one: the target sets
//! the pace. In an **open loop** requests are due at fixed times, whatever the target does, and their latency counts from
//! then: a target that stalls is charged with the requests that had to wait (no "coordinated omission"). A request that was
//! due and could not be sent is owed, and counts as failed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::time::sleep_until;

use super::Plan;

/// What sets the pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loop {
    /// The target.
    Closed,
    /// The clock, with this many requests per second.
    Open { rate: f64 },
}

/// When a load ends; the warm-up comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// After this many requests.
    Requests(u64),
    /// After this time.
    Duration(Duration),
}

/// A request that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// Its number; a request of the warm-up has one above all others.
    pub(super) number: u64,
    /// When it was to be sent.
    pub(super) at: Instant,
    /// Whether it counts; a request of the warm-up does not.
    pub(super) counts: bool,
}

/// The shortest time between two wake-ups of the clock: more of them would slow the sending down.
const TICK: Duration = Duration::from_micros(100);
/// Where the numbers of requests that do not count begin.
const WARM_UP: u64 = 1 << 62;

/// The schedule of a run, shared by its threads.
#[derive(Debug)]
pub(super) struct Schedule {
    begun: Instant,
    counted_from: Instant,
    pace: Loop,
    amount: Amount,
    threads: u64,
    /// Requests of an open loop that have become due, apart from the warm-up.
    released: AtomicU64,
    /// Requests that were handed out, apart from the warm-up.
    taken: AtomicU64,
    /// Requests of the warm-up that were handed out.
    warmed: AtomicU64,
}

impl Schedule {
    pub(super) fn begin(plan: &Plan, begun: Instant) -> Self {
        Schedule {
            begun,
            counted_from: begun + plan.warm_up,
            pace: plan.pace,
            amount: plan.amount,
            threads: plan.threads as u64,
            released: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            warmed: AtomicU64::new(0),
        }
    }

    /// When the warm-up ends.
    pub(super) fn counted_from(&self) -> Instant {
        self.counted_from
    }

    /// Requests of an open loop that became due and were not sent.
    pub(super) fn owed(&self) -> u64 {
        self.released.load(Relaxed).saturating_sub(self.taken.load(Relaxed))
    }

    /// Requests of an open loop, apart from the warm-up.
    fn total(&self, rate: f64) -> u64 {
        match self.amount {
            Amount::Requests(count) => count,
            Amount::Duration(duration) => (rate * duration.as_secs_f64()).round() as u64,
        }
    }

    /// The next request of a closed loop.
    fn next_now(&self) -> Option<Due> {
        let at = Instant::now();
        if at < self.counted_from {
            let number = WARM_UP + self.warmed.fetch_add(1, Relaxed);
            return Some(Due { number, at, counts: false });
        }
        match self.amount {
            Amount::Duration(duration) if at >= self.counted_from + duration => None,
            Amount::Requests(count) if self.taken.load(Relaxed) >= count => None,
            amount => {
                let number = self.taken.fetch_add(1, Relaxed);
                let is_too_much = amount_is_over(amount, number);
                (!is_too_much).then_some(Due { number, at, counts: true })
            }
        }
    }
}

/// Two threads may see the last request at the same time; one of them gets it.
fn amount_is_over(amount: Amount, number: u64) -> bool {
    matches!(amount, Amount::Requests(count) if number >= count)
}

/// The pace of one thread.
#[derive(Debug)]
pub(super) enum Pacer {
    Closed(Arc<Schedule>),
    Open(Clock),
}

impl Pacer {
    /// The pace of thread `number`. An open loop is shared out: request k is for thread k modulo their count.
    pub(super) fn new(schedule: &Arc<Schedule>, number: usize) -> Self {
        match schedule.pace {
            Loop::Closed => Pacer::Closed(Arc::clone(schedule)),
            Loop::Open { rate } => Pacer::Open(Clock::new(schedule, rate, number as u64)),
        }
    }

    /// Waits for the next request; `None` when there is no more.
    pub(super) async fn next(&self) -> Option<Due> {
        match self {
            Pacer::Closed(schedule) => schedule.next_now(),
            Pacer::Open(clock) => clock.next().await,
        }
    }

    /// Makes requests due in time, until `enough` says so; `workers` wait for them. After the last one it waits for `grace`,
    /// and gives up the requests that are still not sent.
    pub(super) async fn drive(
        &self,
        workers: usize,
        grace: Duration,
        enough: impl Fn() -> bool,
    ) -> io::Result<()> {
        match self {
            Pacer::Closed(_) => Ok(()),
            Pacer::Open(clock) => clock.drive(workers, grace, enough).await,
        }
    }
}

/// The part of an open loop that one thread has.
#[derive(Debug)]
pub(super) struct Clock {
    schedule: Arc<Schedule>,
    /// When its first request is due.
    first: Instant,
    interval: Duration,
    /// All requests of this thread; the first `warm_up` of them do not count.
    total: u64,
    warm_up: u64,
    /// Its requests that are due and not taken.
    due: Semaphore,
    taken: AtomicU64,
    thread: u64,
}

impl Clock {
    fn new(schedule: &Arc<Schedule>, rate: f64, thread: u64) -> Self {
        // How many numbers below `all` are this thread's.
        let share = |all: u64| all.saturating_sub(thread).div_ceil(schedule.threads);
        let warm_up = (rate * (schedule.counted_from - schedule.begun).as_secs_f64()).round() as u64;
        let one = 1.0 / rate;
        Clock {
            schedule: Arc::clone(schedule),
            first: schedule.begun + Duration::from_secs_f64(one * thread as f64),
            interval: Duration::from_secs_f64(one * schedule.threads as f64).max(Duration::from_nanos(1)),
            total: share(warm_up.saturating_add(schedule.total(rate))),
            warm_up: share(warm_up),
            due: Semaphore::new(0),
            taken: AtomicU64::new(0),
            thread,
        }
    }

    async fn next(&self) -> Option<Due> {
        self.due.acquire().await.ok()?.forget();
        let turn = self.taken.fetch_add(1, Relaxed);
        if turn >= self.total {
            return None;
        }
        let at = self.due_at(turn);
        if turn < self.warm_up {
            return Some(Due {
                number: WARM_UP + turn * self.schedule.threads + self.thread,
                at,
                counts: false,
            });
        }
        self.schedule.taken.fetch_add(1, Relaxed);
        let number = (turn - self.warm_up) * self.schedule.threads + self.thread;
        Some(Due { number, at, counts: true })
    }

    async fn drive(&self, workers: usize, grace: Duration, enough: impl Fn() -> bool) -> io::Result<()> {
        // What is due before the timer is set, because the thread was started late, is late and not left out.
        let mut released = self.release(0);
        let timer = self.timer(released)?;
        while released < self.total {
            let mut ready = timer.readable().await?;
            // How often it has ticked does not matter: the clock tells what is due.
            if let Ok(ticked) = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
                ticked?;
            }
            if enough() {
                return std::future::pending().await;
            }
            released = self.release(released);
        }
        // One for each worker, so that all of them see the end.
        self.due.add_permits(workers);
        sleep_until((Instant::now() + grace).into()).await;
        self.due.close();
        Ok(())
    }

    /// Hands out what is due by now, when `released` requests were before; how many that are in all.
    fn release(&self, released: u64) -> u64 {
        let due = self.due_by(Instant::now()).max(released);
        let counted = |turn: u64| turn.saturating_sub(self.warm_up);
        self.schedule.released.fetch_add(counted(due) - counted(released), Relaxed);
        self.due
            .add_permits(usize::try_from(due - released).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS));
        due
    }

    /// When the request of that turn is due.
    fn due_at(&self, turn: u64) -> Instant {
        self.first + Duration::from_nanos((self.interval.as_nanos() as u64).saturating_mul(turn))
    }

    /// How many requests are due by then.
    fn due_by(&self, now: Instant) -> u64 {
        let Some(late) = now.checked_duration_since(self.first) else { return 0 };
        ((late.as_nanos() / self.interval.as_nanos()) as u64 + 1).min(self.total)
    }

    /// A timer that begins with that turn. It is the kernel's: those of the runtime tick in milliseconds.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for the sake of types that may close their file; this one owns it"
    )]
    fn timer(&self, turn: u64) -> io::Result<AsyncFd<OwnedFd>> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // At a time, not after a time: what passes until it is set makes no difference.
        let (now, clock) = (Instant::now(), clock_gettime(ClockId::Monotonic));
        let clock = Duration::new(clock.tv_sec.cast_unsigned(), u32::try_from(clock.tv_nsec).unwrap_or(0));
        let first = clock + self.due_at(turn).saturating_duration_since(now);
        let tick = self.interval.max(TICK);
        let spec = Itimerspec { it_interval: timespec(tick), it_value: timespec(first) };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        AsyncFd::new(timer)
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::super::tests::plan;
    use super::*;

    fn schedule(pace: Loop, amount: Amount, threads: usize, begun: Instant) -> Arc<Schedule> {
        let plan = Plan { pace, amount, threads, ..plan() };
        Arc::new(Schedule::begin(&plan, begun))
    }

    /// All that two threads of an open loop send.
    async fn sent(schedule: &Arc<Schedule>) -> Vec<Due> {
        let mut all = Vec::new();
        for thread in 0..2 {
            let pacer = Pacer::new(schedule, thread);
            let work = async {
                let mut mine = Vec::new();
                while let Some(due) = pacer.next().await {
                    mine.push(due);
                }
                mine
            };
            tokio::select! {
                mine = work => all.extend(mine),
                ended = pacer.drive(1, Duration::from_secs(30), || false) => panic!("the clock has ended: {ended:?}"),
            }
        }
        all.sort_by_key(|due| due.number);
        all
    }

    #[tokio::test]
    async fn an_open_loop_is_due_at_fixed_times_each_request_once_however_late_it_is() {
        let begun = Instant::now() - Duration::from_millis(300);
        let schedule = schedule(Loop::Open { rate: 1000.0 }, Amount::Requests(501), 2, begun);
        let all = timeout(Duration::from_secs(30), sent(&schedule)).await.unwrap();
        let numbers: Vec<u64> = all.iter().map(|due| due.number).collect();
        assert_eq!(numbers, (0..501).collect::<Vec<_>>());
        for due in &all {
            assert_eq!(due.at, begun + Duration::from_millis(due.number));
        }
        assert_eq!(schedule.owed(), 0);
    }

    #[tokio::test]
    async fn requests_that_an_open_loop_could_not_send_are_owed() {
        let begun = Instant::now() - Duration::from_secs(10);
        let schedule =
            schedule(Loop::Open { rate: 100.0 }, Amount::Duration(Duration::from_secs(3)), 1, begun);
        let pacer = Pacer::new(&schedule, 0);
        let first = tokio::select! {
            due = pacer.next() => due.unwrap(),
            ended = pacer.drive(1, Duration::from_secs(30), || false) => panic!("the clock has ended: {ended:?}"),
        };
        assert_eq!((first.at, schedule.owed()), (begun, 299));
    }

    #[tokio::test]
    async fn a_closed_loop_ends_with_the_last_request_or_with_its_time() {
        let schedule = schedule(Loop::Closed, Amount::Requests(3), 1, Instant::now());
        let pacer = Pacer::new(&schedule, 0);
        for number in 0..3 {
            assert_eq!(pacer.next().await.unwrap().number, number);
        }
        assert!(pacer.next().await.is_none());
        let over = Instant::now() - Duration::from_secs(2);
        let schedule =
            super::tests::schedule(Loop::Closed, Amount::Duration(Duration::from_secs(1)), 1, over);
        assert!(Pacer::new(&schedule, 0).next().await.is_none());
    }
}
