//! Requests per replica as bars, with what was expected of them (A-1, and A-4 as small multiples).

use chart::colour::{INK, SKY};
use chart::mark::{boxed, mark, range};
use chart::sheet::{drawing, grid, panel_title};
use chart::text::{SMALL, width};
use chart::{Area, Axis, Drawing, Head, Look, Panel, Shape, Swatch};

use crate::data::{Balance, Share};
use crate::report::words;
use crate::stats::{DEVIATIONS, max_over_mean, standard_deviation};

/// What was expected of a replica, in the middle of its range.
const EXPECTED: Look = Look { colour: INK, shape: Shape::Disc };

/// A-1 for one mapping.
pub(super) fn balance(name: String, balance: &Balance) -> anyhow::Result<Drawing> {
    let total = words::count(balance.load.succeeded);
    let counts = balance.counts();
    let head = Head {
        name,
        title: format!("{}: {total} requests on {} replicas", balance.variant.name, balance.replicas.len()),
        subtitle: format!(
            "Requests that each replica answered. Busiest / mean = {}, standard deviation {}.",
            words::number(max_over_mean(&counts)),
            words::number(standard_deviation(&counts)),
        ),
        description: description(balance),
        legend: legend(&[balance]),
    };
    let y = requests_axis([balance]);
    drawing(900, head, |below| draw(below, balance, &y))
}

/// A-1 for several mappings, a panel each.
pub(super) fn balances(name: &str, balances: &[Balance]) -> anyhow::Result<Drawing> {
    let replicas = balances.iter().map(|balance| balance.replicas.len()).max().unwrap_or(0);
    let all: Vec<&Balance> = balances.iter().collect();
    let head = Head {
        name: name.to_owned(),
        title: format!("Requests per replica for {} mappings, N = {replicas}", balances.len()),
        subtitle: "The same load with each mapping; all panels have the same scale.".to_owned(),
        description: balances.iter().map(description).collect::<Vec<_>>().join(" "),
        legend: legend(&all),
    };
    let y = requests_axis(all);
    let columns = if balances.len() == 4 { 2 } else { balances.len().clamp(1, 3) };
    let rows = balances.len().div_ceil(columns) as u32;
    drawing(180 + 480 * rows, head, |below| {
        for (part, balance) in grid(below, balances.len(), columns).iter().zip(balances) {
            let ratio = words::number(max_over_mean(&balance.counts()));
            let below = panel_title(part, &format!("{} (busiest / mean {ratio})", balance.variant.name))?;
            draw(&below, balance, &y)?;
        }
        Ok(())
    })
}

fn description(balance: &Balance) -> String {
    let share = |share: &Share| format!("{} {}", share.hostname, words::count(share.requests));
    let shares: Vec<_> = balance.replicas.iter().map(share).collect();
    format!("{}: {}.", balance.variant.name, words::list(&shares))
}

/// What the marks mean, as far as they are drawn.
fn legend(balances: &[&Balance]) -> Vec<(Swatch, String)> {
    let mut legend = vec![(Swatch::Box(SKY), "requests answered, and their share".to_owned())];
    if balances.iter().any(|balance| balance.replicas.iter().any(|share| share.expected.is_some())) {
        legend.push((Swatch::Mark(EXPECTED), "expected from random ids".to_owned()));
        legend.push((Swatch::Range(INK), format!("sampling band (± {DEVIATIONS} standard deviations)")));
    }
    legend
}

fn requests_axis<'b>(balances: impl IntoIterator<Item = &'b Balance>) -> Axis {
    let mut tops = Vec::new();
    for balance in balances {
        for share in &balance.replicas {
            tops.push(share.requests as f64);
            tops.extend(balance.band(share).map(|band| band.1));
        }
    }
    Axis::from_zero("requests", tops)
}

fn draw(part: &Area<'_>, balance: &Balance, y: &Axis) -> anyhow::Result<()> {
    let room = part.dim_in_pixel().0 as i32 - 150;
    let names: Vec<String> = balance.replicas.iter().map(|share| share.hostname.clone()).collect();
    let panel = Panel::new(part, &Axis::names("replica", &names, room), y)?;
    let room = room / balance.replicas.len().max(1) as i32;
    for (at, share) in balance.replicas.iter().enumerate() {
        draw_share(&panel, balance, (at as f64 + 0.5, share), room)?;
    }
    Ok(())
}

/// A bar with its expectation, and its share above it where there is room.
fn draw_share(
    panel: &Panel<'_>,
    balance: &Balance,
    (middle, share): (f64, &Share),
    room: i32,
) -> anyhow::Result<()> {
    let requests = share.requests as f64;
    boxed(panel.paper(), panel.at(middle - 0.3, requests), panel.at(middle + 0.3, 0.0), SKY)?;
    let mut top = requests;
    if let (Some(p), Some((low, high))) = (share.expected, balance.band(share)) {
        let reach = (room / 12).clamp(4, 24);
        range(panel.paper(), [panel.at(middle, low), panel.at(middle, high)], INK, reach)?;
        mark(panel.paper(), panel.at(middle, p * balance.load.succeeded as f64), EXPECTED, 6)?;
        top = top.max(high);
    }
    let total: u64 = balance.replicas.iter().map(|share| share.requests).sum();
    let label = words::percent(requests / total.max(1) as f64);
    if width(&label, SMALL) > room {
        return Ok(());
    }
    panel.above(panel.at(middle, top), &label, INK)
}
