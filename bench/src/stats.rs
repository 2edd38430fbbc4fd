//! The statistics that experiments and reports need, as pure functions of numbers.
//!
//! They know nothing of replicas, loads or files, and never round: the code that prints does.

/// How many standard deviations a [`sampling_band`] reaches to each side. A count drawn from a normal
/// distribution is outside four of them once in 16,000 times, so a suite that looks at a few hundred counts
/// does not cry wolf.
pub(crate) const DEVIATIONS: f64 = 4.0;

/// The arithmetic mean; 0 for no counts.
pub(crate) fn mean(counts: &[u64]) -> f64 {
    match counts.len() {
        0 => 0.0,
        n => counts.iter().sum::<u64>() as f64 / n as f64,
    }
}

/// The largest count divided by the mean: 1 is perfectly even, and `counts.len()` means that one replica has everything.
/// 1 if all counts are 0.
pub(crate) fn max_over_mean(counts: &[u64]) -> f64 {
    let mean = mean(counts);
    match counts.iter().max() {
        Some(&most) if mean > 0.0 => most as f64 / mean,
        _ => 1.0,
    }
}

/// The standard deviation of the counts themselves (of the population, divided by n and not by n - 1: they
/// are all the replicas there are); 0 for no counts.
pub(crate) fn standard_deviation(counts: &[u64]) -> f64 {
    let mean = mean(counts);
    let squares: f64 = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum();
    (squares / counts.len().max(1) as f64).sqrt()
}

/// Where a count is expected when `n` independent draws hit with probability `p`, which is itself an estimate from
/// `asked` draws (0: it is known exactly). In counts, within 0 to `n`.
///
/// Both estimates scatter around the same unknown truth, so their variances add up: p(1-p)(1/n + 1/asked). The reach is
/// that of Bernstein's inequality: [`DEVIATIONS`] standard deviations of large counts, and more of small ones, which are
/// not normally distributed.
pub(crate) fn sampling_band(p: f64, n: u64, asked: u64) -> (f64, f64) {
    let draws = n as f64;
    let one_in = |count: u64| if count == 0 { 0.0 } else { 1.0 / count as f64 };
    let variance = (p * (1.0 - p) * (one_in(n) + one_in(asked))).max(0.0) * draws * draws;
    let square = DEVIATIONS * DEVIATIONS;
    let half = square / 6.0 + (square * square / 36.0 + square * variance).sqrt();
    ((p * draws - half).max(0.0), (p * draws + half).min(draws))
}

/// The median and the range of several measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// The spread of all values that are numbers; `None` if there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, least, most })
    }

    /// Whether `value` lies between the smallest and the largest, both included.
    pub(crate) fn spans(&self, value: f64) -> bool {
        self.least <= value && value <= self.most
    }
}

/// The ratios ours / theirs of pairs from the same round, so that a disturbance of the whole round cancels out. Leaves out a
/// pair that is incomplete or whose second value is 0.
pub(crate) fn paired_ratios(pairs: impl IntoIterator<Item = (Option<f64>, Option<f64>)>) -> Vec<f64> {
    let ratio = |(ours, theirs): (Option<f64>, Option<f64>)| Some(ours? / theirs?);
    pairs.into_iter().filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

/// A straight line through values at 0, 1, 2, ... (least squares).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slope {
    /// The change from one value to the next.
    pub(crate) slope: f64,
    /// Its standard error, from the distances of the values from the line.
    pub(crate) error: f64,
}

impl Slope {
    /// The line through at least three values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 3 {
            return None;
        }
        let n = values.len() as f64;
        let middle = (n - 1.0) / 2.0;
        let average = values.iter().sum::<f64>() / n;
        let places = || values.iter().enumerate().map(|(at, value)| (at as f64 - middle, value - average));
        let spread: f64 = places().map(|(at, _)| at * at).sum();
        let slope = places().map(|(at, value)| at * value).sum::<f64>() / spread;
        let squares: f64 = places().map(|(at, value)| (value - slope * at).powi(2)).sum();
        Some(Slope { slope, error: (squares / (n - 2.0) / spread).sqrt() })
    }
}

/// How a value goes on from round to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It does not grow, or by less than is tolerated.
    Flat,
    /// It grows by more than is tolerated, and goes on growing.
    Grows,
    /// The error is too large to say, or it slows down.
    Unclear,
}

/// How many standard errors of a slope are left to chance.
const ERRORS: f64 = 3.0;
/// Values of which less is known than this are not judged.
const FEWEST: usize = 6;

/// Of what slows down to less than this share of its speed, it is not known whether it goes on.
const STEADY: f64 = 0.75;

/// The slope of a series without its first third, in which caches fill, and how the series goes on if it may grow by
/// `tolerance` from one value to the next. `None` for a few values.
///
/// It grows only if its last half does, too, and hardly slower than the half before: a step that happens once, or an
/// allocator that comes to rest, is no leak.
pub(crate) fn course(values: &[f64], tolerance: f64) -> Option<(Slope, Course)> {
    let later = &values[values.len() / 3..];
    if later.len() < FEWEST {
        return None;
    }
    let (whole, halves) = (Slope::of(later)?, later.split_at(later.len() / 2));
    let (first, last) = (Slope::of(halves.0)?, Slope::of(halves.1)?);
    let grows = |slope: Slope| slope.slope - ERRORS * slope.error > tolerance;
    let is_steady = last.slope >= STEADY * first.slope;
    let course = if whole.slope + ERRORS * whole.error <= tolerance {
        Course::Flat
    } else if grows(whole) && grows(last) && is_steady {
        Course::Grows
    } else {
        Course::Unclear
    };
    Some((whole, course))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn a_textbook_population_has_its_known_mean_and_deviation() {
        let counts = [2, 4, 4, 4, 5, 5, 7, 9];
        close(mean(&counts), 5.0);
        close(standard_deviation(&counts), 2.0);
        close(max_over_mean(&counts), 1.8);
    }

    #[test]
    fn the_classic_table_at_three_replicas_has_the_deviation_it_is_known_for() {
        // 84.4, 4.7 and 10.9 % of 10,000.
        let counts = [8440, 470, 1090];
        assert!((standard_deviation(&counts) - 3619.8).abs() < 0.1, "{}", standard_deviation(&counts));
        close(max_over_mean(&counts), 2.532);
    }

    #[test]
    fn one_replica_with_everything_has_as_many_times_the_mean_as_there_are_replicas() {
        close(max_over_mean(&[0, 0, 0, 12]), 4.0);
        close(max_over_mean(&[7, 7]), 1.0);
    }

    #[test]
    fn nothing_is_even_and_has_no_deviation() {
        for nothing in [&[][..], &[0, 0]] {
            close(mean(nothing), 0.0);
            close(max_over_mean(nothing), 1.0);
            close(standard_deviation(nothing), 0.0);
        }
    }

    #[test]
    fn a_band_is_four_deviations_of_both_samples() {
        // sqrt(0.25 * (1/10,000 + 1/10,000)) = 0.0070710678; 16/6 and its square are Bernstein's.
        let (low, high) = sampling_band(0.5, 10_000, 10_000);
        let half = 16.0 / 6.0 + (256.0_f64 / 36.0 + 16.0 * 5000.0).sqrt();
        close(low, 5000.0 - half);
        close(high, 5000.0 + half);
        assert!((half / (4.0 * 70.710_678) - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_share_that_is_known_exactly_has_the_band_of_one_sample() {
        let (low, high) = sampling_band(0.5, 10_000, 0);
        let half = 16.0 / 6.0 + (256.0_f64 / 36.0 + 16.0 * 2500.0).sqrt();
        close(low, 5000.0 - half);
        close(high, 5000.0 + half);
        close(sampling_band(0.5, 10_000, u64::MAX).1, 5000.0 + half);
    }

    #[test]
    fn a_single_request_is_within_every_band() {
        for share in [0.001, 0.0469, 0.5] {
            let (low, high) = sampling_band(share, 1, 50_000);
            assert!(low <= 0.0 && high >= 1.0, "{share}: {low} to {high}");
        }
    }

    #[test]
    fn a_band_stays_within_the_possible_counts() {
        assert_eq!(sampling_band(0.001, 100, 100).0, 0.0);
        assert_eq!(sampling_band(0.999, 100, 100).1, 100.0);
        assert_eq!(sampling_band(0.5, 0, 100), (0.0, 0.0));
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let odd = Spread::of([3.0, 1.0, 10.0]).unwrap();
        assert_eq!(odd, Spread { median: 3.0, least: 1.0, most: 10.0 });
        let even = Spread::of([4.0, 1.0, 3.0, 100.0]).unwrap();
        assert_eq!(even, Spread { median: 3.5, least: 1.0, most: 100.0 });
        assert!(even.spans(1.0) && even.spans(50.0) && !even.spans(0.9) && !even.spans(101.0));
    }

    #[test]
    fn a_measurement_that_is_not_a_number_is_ignored() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(Spread::of([f64::NAN, 2.0]).unwrap().median, 2.0);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let pairs =
            [(Some(1.0), Some(2.0)), (Some(9.0), Some(3.0)), (None, Some(1.0)), (Some(1.0), Some(0.0))];
        assert_eq!(paired_ratios(pairs), [0.5, 3.0]);
    }

    #[test]
    fn a_slope_and_its_error_are_those_of_a_textbook() {
        // y = 1, 3, 2, 5: the slope is 1.1, the residuals are -0.1, 0.8, -1.3 and 0.6, their squares add up to 2.7.
        let line = Slope::of(&[1.0, 3.0, 2.0, 5.0]).unwrap();
        close(line.slope, 1.1);
        close(line.error, (2.7_f64 / 2.0 / 5.0).sqrt());
        let exact = Slope::of(&[1.0, 3.0, 5.0, 7.0]).unwrap();
        close(exact.slope, 2.0);
        close(exact.error, 0.0);
        assert_eq!(Slope::of(&[1.0, 2.0]), None);
    }

    fn course_of(value: impl Fn(usize) -> f64, count: usize) -> Option<Course> {
        let values: Vec<f64> = (0..count).map(value).collect();
        course(&values, 0.1).map(|(_, course)| course)
    }

    #[test]
    fn a_leak_grows_and_noise_is_flat() {
        let noise = |at: usize| ((at * 7919) % 13) as f64 / 13.0;
        assert_eq!(course_of(|at| 30.0 + at as f64 + noise(at), 40), Some(Course::Grows));
        assert_eq!(course_of(|at| 30.0 + noise(at), 60), Some(Course::Flat));
        assert_eq!(course_of(|_| 4.0, 9), Some(Course::Flat));
        assert_eq!(course_of(|at| 100.0 - at as f64, 40), Some(Course::Flat));
    }

    #[test]
    fn what_fills_at_first_or_steps_once_is_no_leak() {
        assert_eq!(course_of(|at| at.min(12) as f64, 40), Some(Course::Flat));
        assert_eq!(course_of(|at| if at < 20 { 30.0 } else { 34.0 }, 40), Some(Course::Unclear));
        assert_eq!(course_of(|at| 100.0 - 80.0 * (-(at as f64) / 15.0).exp(), 40), Some(Course::Unclear));
    }

    #[test]
    fn few_values_or_much_noise_are_not_judged() {
        assert_eq!(course_of(|at| at as f64, 7), None);
        assert_eq!(course_of(|at| ((at * 7919) % 13) as f64, 12), Some(Course::Unclear));
    }
}
