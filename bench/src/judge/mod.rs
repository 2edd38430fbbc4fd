//! Judges what was measured, from the data alone.
//!
//! Two types keep two questions apart. An [`Expectation`](crate::data::Expectation) is about correctness: it holds on every
//! machine, and one that does not hold fails the run. A [`Bar`](crate::data::Bar) is about speed: whether it is reached
//! depends on the machine, so it fails a run only with `--hold-bars`. Nothing here measures.

mod bars;
mod expect;
mod soak;
mod swarm;

use anyhow::bail;

use crate::data::Data;

pub(crate) use bars::ROUNDS;

/// Fills in the expectations and the bars that apply to this data.
pub(crate) fn judge(data: &mut Data) {
    data.expectations = expect::of(data);
    data.expectations.extend(data.soak.iter().flat_map(soak::of));
    let on_swarm = data.a3.iter().filter_map(|a3| a3.swarm.as_ref());
    data.expectations.extend(on_swarm.flat_map(swarm::expectations));
    data.bars = data.comparison.iter().flat_map(bars::of).collect();
    data.bars.extend(data.a3.iter().flat_map(swarm::bars));
}

/// Whether the run succeeded: every expectation holds and, with `hold_bars`, every bar is reached.
///
/// # Errors
/// Names the expectations that do not hold, or the bars that are not reached. With `hold_bars` it is an error that there is
/// no bar.
pub(crate) fn verdict(data: &Data, hold_bars: bool) -> anyhow::Result<()> {
    let wrong = data.expectations.iter().filter(|one| !one.passed).map(|one| one.what.as_str());
    all_good(&wrong.collect::<Vec<_>>(), data.expectations.len(), "expectations do not hold")?;
    if !hold_bars {
        return Ok(());
    }
    if data.bars.is_empty() {
        bail!("--hold-bars: nothing was measured that has a bar");
    }
    let missed = data.bars.iter().filter(|bar| !bar.reached).map(|bar| bar.what.as_str());
    all_good(&missed.collect::<Vec<_>>(), data.bars.len(), "bars are not reached")
}

fn all_good(bad: &[&str], all: usize, said: &str) -> anyhow::Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    bail!("{} of {all} {said}: {}", bad.len(), bad.join("; "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Bar, Expectation};

    fn data(passed: bool, reached: Option<bool>) -> Data {
        let (what, expected, found) = ("failures".to_owned(), String::new(), String::new());
        let bar =
            |reached| Bar { what: "rate".to_owned(), bar: String::new(), found: String::new(), reached };
        Data {
            expectations: vec![Expectation { what, expected, found, passed }],
            bars: reached.map(bar).into_iter().collect(),
            ..Data::default()
        }
    }

    fn error(data: &Data, hold_bars: bool) -> Option<String> {
        verdict(data, hold_bars).err().map(|error| error.to_string())
    }

    #[test]
    fn a_wrong_result_fails_every_run_and_a_missed_bar_only_one_that_holds_bars() {
        let wrong = Some("1 of 1 expectations do not hold: failures".to_owned());
        let missed = Some("1 of 1 bars are not reached: rate".to_owned());
        assert_eq!(error(&data(true, Some(false)), false), None);
        assert_eq!(error(&data(true, Some(false)), true), missed);
        assert_eq!(error(&data(true, Some(true)), true), None);
        assert_eq!(error(&data(false, Some(true)), false), wrong);
        assert_eq!(error(&data(false, Some(false)), true), wrong);
    }

    #[test]
    fn bars_that_were_not_measured_cannot_be_held() {
        assert_eq!(error(&data(true, None), false), None);
        assert!(error(&data(true, None), true).is_some_and(|error| error.starts_with("--hold-bars: ")));
    }
}
