//! Charts from data: which there are, what they are called, and as which files they go.
//!
//! Pure: the same data gives the same bytes. Nothing here reads a font of the system, a clock or a file.

use crate::data::{Balance, Comparison, Data, Healing, Scaling, Variants};

use super::derived::Metric;
use super::words;

mod around;
mod bars;
mod glyphs;
mod lines;
mod panel;
mod picture;
mod ratios;
mod recovery;
mod sheet;
mod timeline;

/// What a chart is, without its picture.
#[derive(Clone, Debug)]
struct Outline {
    name: String,
    title: String,
    description: String,
}

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// The name of its files, without an ending; unique in a report.
    pub(crate) name: String,
    /// What it is called.
    pub(crate) title: String,
    /// The picture, with all letters as outlines.
    pub(crate) svg: String,
}

impl Chart {
    fn new(outline: Outline, drawing: &str) -> anyhow::Result<Self> {
        let Outline { name, title, description } = outline;
        let words = picture::Words { name: &name, title: &title, description: &description };
        let svg = picture::finished(drawing, &words)?;
        Ok(Self { name, title, svg })
    }

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
    Ok(charts)
}

/// The name of the chart of an entry of A-1: of its mapping, and its number where two are called the same.
pub(super) fn a1_name(all: &[Balance], at: usize) -> String {
    let name = |balance: &Balance| format!("a1-{}", words::file_name(&balance.variant.name));
    let own = name(&all[at]);
    let before = all[..at].iter().filter(|other| name(other) == own).count();
    if before == 0 { own } else { format!("{own}_{}", before + 1) }
}

fn a1(a1: &[Balance], charts: &mut Vec<Chart>) -> anyhow::Result<()> {
    for (at, balance) in a1.iter().enumerate().filter(|(_, balance)| !balance.replicas.is_empty()) {
        charts.push(bars::balance(a1_name(a1, at), balance)?);
    }
    Ok(())
}

fn a2(a2: &[Scaling], charts: &mut Vec<Chart>) -> anyhow::Result<()> {
    if a2.iter().any(|scaling| !scaling.points.is_empty()) {
        charts.push(lines::scaling("a2", a2)?);
    }
    Ok(())
}

fn healing(a3: &Healing, charts: &mut Vec<Chart>) -> anyhow::Result<()> {
    let Some(drill) = &a3.drill else { return Ok(()) };
    charts.extend(timeline::timeline("a3-timeline", drill)?);
    charts.extend(around::around("a3-zoom", drill)?);
    charts.extend(recovery::recovery("a3-recovery", drill)?);
    Ok(())
}

fn variants(a4: &Variants, charts: &mut Vec<Chart>) -> anyhow::Result<()> {
    if !a4.a1.is_empty() {
        charts.push(bars::balances("a4-a1", &a4.a1)?);
    }
    if a4.a2.iter().any(|scaling| !scaling.points.is_empty()) {
        charts.push(lines::variants("a4-a2", &a4.a2)?);
    }
    Ok(())
}

fn compare(comparison: &Comparison, charts: &mut Vec<Chart>) -> anyhow::Result<()> {
    charts.extend(ratios::ratios("compare", comparison, 0, Metric::Cpu)?);
    charts.extend(ratios::ratios("compare-idle", comparison, 0, Metric::Memory)?);
    if let Some(handoff) = comparison.handoff() {
        charts.extend(ratios::ratios("compare-handoff", comparison, handoff, Metric::Cpu)?);
        charts.extend(ratios::ratios("compare-handoff-idle", comparison, handoff, Metric::Memory)?);
    }
    charts.extend(bars::rates("compare-rates", comparison)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels of the title's line that are darker than grey.
    fn ink_of_title(chart: &Chart) -> usize {
        let pixels = picture::pixels(&chart.svg).unwrap();
        let line = &pixels.pixels()[20 * pixels.width() as usize..64 * pixels.width() as usize];
        line.iter().filter(|pixel| pixel.red() < 100 && pixel.green() < 100 && pixel.blue() < 100).count()
    }

    #[test]
    fn every_chart_is_drawn_with_its_letters() {
        let data: Data = serde_json::from_str(include_str!("../recorded.json")).unwrap();
        let charts = charts(&data).unwrap();
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
    fn two_mappings_of_one_name_have_two_files() {
        use crate::report::samples::named;
        let all = [named("../A b", &[1, 2]), named("a-B", &[1, 2]), named("c", &[1])];
        assert_eq!([0, 1, 2].map(|at| a1_name(&all, at)), ["a1-a-b", "a1-a-b_2", "a1-c"]);
    }
}
