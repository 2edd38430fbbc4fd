//! Charts from data: which there are, what they are called, and as which files they go.
//!
//! Pure: the same data gives the same bytes. Nothing here reads a font of the system, a clock or a file.

use chart::Drawing;

use crate::data::{Balance, Comparison, Data, Healing, Scaling, Variants};

use super::derived::Metric;
use super::{picture, words};

mod around;
mod bars;
mod contenders;
mod latency;
mod lines;
mod rates;
mod ratios;
mod recovery;
mod soak;
mod timeline;

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// The name of its files, without an ending; unique in a report.
    pub(crate) name: String,
    /// What it is called.
    pub(crate) title: String,
    /// The picture.
    pub(crate) svg: String,
}

impl Chart {
    /// The picture as a PNG file, 1600 pixels wide.
    ///
    /// # Errors
    /// It cannot be drawn, which would be a fault of this program.
    pub(crate) fn png(&self) -> anyhow::Result<Vec<u8>> {
        picture::png(&self.svg)
    }
}

/// All charts that the data is there for, in the order of the report.
///
/// # Errors
/// A chart cannot be drawn, which would be a fault of this program.
pub(crate) fn charts(data: &Data) -> anyhow::Result<Vec<Chart>> {
    let chart = |drawing: Drawing| Chart { svg: drawing.svg(), name: drawing.name, title: drawing.title };
    Ok(drawings(data)?.into_iter().map(chart).collect())
}

fn drawings(data: &Data) -> anyhow::Result<Vec<Drawing>> {
    let mut charts = Vec::new();
    a1(&data.a1, &mut charts)?;
    a2(&data.a2, &mut charts)?;
    if let Some(a3) = &data.a3 {
        healing(a3, &mut charts)?;
    }
    if let Some(a4) = &data.a4 {
        variants(a4, &mut charts)?;
    }
    if let Some(comparison) = &data.comparison {
        compare(comparison, &mut charts)?;
    }
    if let Some(found) = &data.soak {
        charts.extend(soak::soak("soak", found)?);
    }
    Ok(charts)
}

/// The name of the chart of an entry of A-1: of its mapping, and its number where two are called the same.
pub(super) fn a1_name(all: &[Balance], at: usize) -> String {
    let name = |balance: &Balance| format!("a1-{}", words::file_name(&balance.variant.name));
    let own = name(&all[at]);
    let before = all[..at].iter().filter(|other| name(other) == own).count();
    if before == 0 { own } else { format!("{own}_{}", before + 1) }
}

fn a1(a1: &[Balance], charts: &mut Vec<Drawing>) -> anyhow::Result<()> {
    for (at, balance) in a1.iter().enumerate().filter(|(_, balance)| !balance.replicas.is_empty()) {
        charts.push(bars::balance(a1_name(a1, at), balance)?);
    }
    Ok(())
}

fn a2(a2: &[Scaling], charts: &mut Vec<Drawing>) -> anyhow::Result<()> {
    if a2.iter().any(|scaling| !scaling.points.is_empty()) {
        charts.push(lines::scaling("a2", a2)?);
    }
    Ok(())
}

fn healing(a3: &Healing, charts: &mut Vec<Drawing>) -> anyhow::Result<()> {
    let Some(drill) = &a3.drill else { return Ok(()) };
    charts.extend(timeline::timeline("a3-timeline", drill)?);
    charts.extend(around::around("a3-zoom", drill)?);
    charts.extend(recovery::recovery("a3-recovery", drill)?);
    Ok(())
}

fn variants(a4: &Variants, charts: &mut Vec<Drawing>) -> anyhow::Result<()> {
    if !a4.a1.is_empty() {
        charts.push(bars::balances("a4-a1", &a4.a1)?);
    }
    if a4.a2.iter().any(|scaling| !scaling.points.is_empty()) {
        charts.push(lines::variants("a4-a2", &a4.a2)?);
    }
    Ok(())
}

fn compare(comparison: &Comparison, charts: &mut Vec<Drawing>) -> anyhow::Result<()> {
    charts.extend(ratios::ratios("compare", comparison, 0, Metric::Cpu)?);
    charts.extend(ratios::ratios("compare-idle", comparison, 0, Metric::Memory)?);
    if let Some(handoff) = comparison.handoff() {
        charts.extend(ratios::ratios("compare-handoff", comparison, handoff, Metric::Cpu)?);
        charts.extend(ratios::ratios("compare-handoff-idle", comparison, handoff, Metric::Memory)?);
    }
    charts.extend(rates::rates("compare-rates", comparison)?);
    charts.extend(latency::distribution("compare-latency", comparison)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Mode, QUANTILES, Reading};
    use crate::report::samples::mode;

    /// A recorded run, and latencies at a set pace with it.
    fn recorded(data: &str) -> Data {
        let mut data: Data = serde_json::from_str(data).unwrap();
        let comparison = data.comparison.as_mut().unwrap();
        let distribution =
            |who: u64| QUANTILES.iter().zip(1..).map(|(_, at)| (100 + 40 * who) << at).collect();
        let reading = |who| Reading { distribution: distribution(who), ..Reading::default() };
        let round = (0..comparison.contenders.len() as u64).map(reading).collect();
        comparison.modes.push(Mode { is_paced: true, rounds: vec![round], ..mode("paced", &[]) });
        data
    }

    /// Pixels of the title's line that are darker than grey.
    fn ink_of_title(chart: &Chart) -> usize {
        let pixels = picture::pixels(&chart.svg).unwrap();
        let line = &pixels.pixels()[20 * pixels.width() as usize..64 * pixels.width() as usize];
        line.iter().filter(|pixel| pixel.red() < 100 && pixel.green() < 100 && pixel.blue() < 100).count()
    }

    #[test]
    fn every_chart_is_drawn_with_its_letters() {
        let charts = charts(&recorded(include_str!("../recorded.json"))).unwrap();
        let names: Vec<_> = charts.iter().map(|chart| chart.name.as_str()).collect();
        let expected = [
            "a1-ring",
            "a1-slots",
            "a2",
            "a3-timeline",
            "a3-zoom",
            "a3-recovery",
            "a4-a1",
            "a4-a2",
            "compare",
            "compare-idle",
            "compare-handoff",
            "compare-handoff-idle",
            "compare-rates",
            "compare-latency",
        ];
        assert_eq!(names, expected);
        for chart in &charts {
            let ink = ink_of_title(chart);
            assert!(ink > 1000, "the title of {} has {ink} dark pixels", chart.name);
            let png = chart.png().unwrap();
            // Width and height are in the first chunk of a PNG.
            assert_eq!(png[16..20], 1600_u32.to_be_bytes(), "{}", chart.name);
        }
    }

    #[test]
    fn no_label_meets_another_or_leaves_the_paper() {
        for data in [include_str!("../recorded.json"), include_str!("../../../../docs/experiments/data.json")]
        {
            for chart in charts(&recorded(data)).unwrap() {
                assert_eq!(picture::overlaps(&chart.svg).unwrap(), Vec::<String>::new(), "{}", chart.name);
            }
        }
    }

    /// `lb simulate` draws them with the crate that draws the charts of reports.
    #[test]
    fn no_label_of_the_pictures_of_the_book_meets_another() {
        let comparison = include_str!("../../../../docs/mapping/comparison.svg");
        for picture in [comparison, include_str!("../../../../docs/mapping/ring.svg")] {
            assert_eq!(picture::overlaps(picture).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn two_mappings_of_one_name_have_two_files() {
        use crate::report::samples::named;
        let all = [named("../A b", &[1, 2]), named("a-B", &[1, 2]), named("c", &[1])];
        assert_eq!([0, 1, 2].map(|at| a1_name(&all, at)), ["a1-a-b", "a1-a-b_2", "a1-c"]);
    }
}
