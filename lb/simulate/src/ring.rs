//! The ring itself as a picture: its positions on a circle in the colours of their owners, before and after each step.
//!
//! Pure: the same plan gives the same picture.

use std::f64::consts::TAU;

use anyhow::Context as _;
use chart::colour::{BLUE, Colour, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, YELLOW};
use chart::mark::{filled, line};
use chart::sheet::{drawing, grid, panel_title};
use chart::text::{SMALL, Side, TEXT, count, fitting, letters};
use chart::{Area, Drawing, Head, Place, Swatch};
use mapping::{Algorithm, Mapping, Member, Scheme};

use super::model::Contender;
use super::plan::Plan;
use super::steps::Stage;

/// One for each server.
const COLOURS: [Colour; 8] = [BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY];
/// More circles, or more positions on one of them, cannot be told apart.
const MOST_CIRCLES: usize = 6;
const MOST_POSITIONS: u64 = 720;

/// The height of a circle with its title, and its radii, in units: of the owners' band, of the ends of the marks at
/// positions, and of the line along what moved.
const HEIGHT: u32 = 570;
const INNER: f64 = 160.0;
const OUTER: f64 = 206.0;
const MARK: f64 = 220.0;
const MOVED: f64 = 236.0;
/// More marks than this would hide the band, and stay outside of it.
const FEW: usize = 100;

/// The part of the circle before a position, in turns from the top, and its owner.
struct Arc<'a> {
    from: f64,
    to: f64,
    owner: &'a str,
}

/// Whether the ring of a plan can be drawn.
///
/// # Errors
/// Why not, and what can.
pub fn check(plan: &Plan) -> Result<(), String> {
    let Some((_, points)) = scheme(plan) else { return Err("only the mapping ring can be drawn".to_owned()) };
    let servers = names(plan).len();
    if servers > COLOURS.len() {
        return Err(format!("{servers} servers are too many; expected at most {}", COLOURS.len()));
    }
    if plan.stages.len() > MOST_CIRCLES {
        let (steps, most) = (plan.stages.len() - 1, MOST_CIRCLES - 1);
        return Err(format!("{steps} steps are too many; expected at most {most}"));
    }
    let positions =
        |stage: &Stage| stage.members.iter().map(|member| u64::from(member.weight * points)).sum();
    let most: u64 = plan.stages.iter().map(positions).max().unwrap_or(0);
    if most > MOST_POSITIONS {
        return Err(format!(
            "{} positions are too many; expected at most {MOST_POSITIONS} (lower --points)",
            count(most)
        ));
    }
    Ok(())
}

/// The scheme of the ring with the positions of a server of weight 1, if it is among the mappings.
fn scheme(plan: &Plan) -> Option<(&Scheme, u32)> {
    plan.contenders.iter().find_map(|contender| match contender {
        Contender::Ours(scheme) => match scheme.algorithm {
            Algorithm::Ring { points } => Some((scheme, points)),
            _ => None,
        },
        Contender::Theirs { .. } => None,
    })
}

/// All servers of all stages, each once.
fn names(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for member in plan.stages.iter().flat_map(|stage| &stage.members) {
        if !names.contains(&member.name.as_str()) {
            names.push(&member.name);
        }
    }
    names
}

/// # Errors
/// [`check`] refuses the plan.
pub(super) fn draw(plan: &Plan) -> anyhow::Result<Drawing> {
    let names = names(plan);
    let stages: Vec<_> =
        plan.stages.iter().map(|stage| arcs(plan, &stage.members)).collect::<anyhow::Result<_>>()?;
    let columns = stages.len().min(3);
    let rows = stages.len().div_ceil(columns.max(1)) as u32;
    drawing(250 + HEIGHT * rows, head(plan, &names, &stages), |below| {
        let before = std::iter::once(None).chain(stages.iter().map(Some));
        let parts = grid(below, stages.len(), columns);
        for (((part, stage), arcs), before) in parts.iter().zip(&plan.stages).zip(&stages).zip(before) {
            let circle = panel_title(part, &title(stage))?;
            draw_circle(&circle, &names, arcs, before.map(Vec::as_slice))?;
            draw_shares(&circle, &stage.members, arcs)?;
        }
        Ok(())
    })
}

fn title(stage: &Stage) -> String {
    stage.step.as_ref().map_or_else(|| "at first".to_owned(), |step| format!("after '{step}'"))
}

fn head(plan: &Plan, names: &[&str], stages: &[Vec<Arc<'_>>]) -> Head {
    let swatch = |(at, name): (usize, &&str)| (Swatch::Box(COLOURS[at % COLOURS.len()]), (*name).to_owned());
    let mut legend: Vec<_> = names.iter().enumerate().map(swatch).collect();
    if stages.len() > 1 {
        legend.push((Swatch::Line(INK), "moved in the step".to_owned()));
    }
    let in_words = |(stage, arcs): (&Stage, &Vec<Arc<'_>>)| {
        let share = |member: &Member| format!("{} {}", member.name, percent(share(arcs, &member.name)));
        let shares: Vec<String> = stage.members.iter().map(share).collect();
        format!("{}: {}.", title(stage), shares.join(", "))
    };
    Head {
        name: "ring".to_owned(),
        title: format!("The ring, {} positions for each unit of weight", scheme(plan).map_or(0, |(_, points)| points)),
        subtitle: "The circle is all hashes, clockwise from the top. A key belongs to the first position at or after its \
                   hash, so each arc has the colour of the position at its end."
            .to_owned(),
        description: plan.stages.iter().zip(stages).map(in_words).collect::<Vec<_>>().join(" "),
        legend,
    }
}

/// The arcs of a ring, clockwise; one that crosses the top is in two parts.
fn arcs<'a>(plan: &Plan, members: &'a [Member]) -> anyhow::Result<Vec<Arc<'a>>> {
    let (scheme, _) = scheme(plan).context("the ring is not simulated")?;
    let Mapping::Ring(ring) = Mapping::build(scheme, members)? else {
        anyhow::bail!("the ring is not a ring");
    };
    let mut arcs: Vec<Arc<'a>> = Vec::new();
    for (position, owner) in ring.points() {
        let to = position as f64 / 2_f64.powi(64);
        let from = arcs.last().map_or(0.0, |last| last.to);
        arcs.push(Arc { from, to, owner: &members[owner as usize].name });
    }
    let rest =
        arcs.first().zip(arcs.last()).map(|(first, last)| Arc { from: last.to, to: 1.0, owner: first.owner });
    arcs.extend(rest);
    Ok(arcs)
}

/// The part of the circle that a server owns.
fn share(arcs: &[Arc<'_>], name: &str) -> f64 {
    arcs.iter().filter(|arc| arc.owner == name).map(|arc| arc.to - arc.from).sum()
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

/// The parts of the circle whose owner is not the one that it was.
fn moved(before: &[Arc<'_>], after: &[Arc<'_>]) -> Vec<(f64, f64)> {
    let mut moved = Vec::new();
    let mut old = before.iter().peekable();
    for arc in after {
        let mut from = arc.from;
        while let Some(was) = old.peek() {
            let to = was.to.min(arc.to);
            if was.owner != arc.owner && to > from {
                moved.push((from, to));
            }
            from = to;
            if was.to > arc.to {
                break;
            }
            old.next();
        }
    }
    moved
}

/// A place on a circle in the middle of an area.
fn place(part: &Area<'_>, turn: f64, radius: f64) -> Place {
    let (wide, high) = part.dim_in_pixel();
    let (sine, cosine) = (turn * TAU).sin_cos();
    let [x, y] = [f64::from(wide) / 2.0 + radius * sine, f64::from(high) / 2.0 - radius * cosine];
    (x.round() as i32, y.round() as i32)
}

/// Places along a part of a circle, close enough to look round.
fn along(part: &Area<'_>, (from, to): (f64, f64), radius: f64) -> Vec<Place> {
    let steps = ((to - from) * 180.0).ceil().max(1.0) as usize;
    (0..=steps).map(|at| place(part, from + (to - from) * at as f64 / steps as f64, radius)).collect()
}

fn draw_circle(
    part: &Area<'_>,
    names: &[&str],
    arcs: &[Arc<'_>],
    before: Option<&[Arc<'_>]>,
) -> anyhow::Result<()> {
    let colour = |name: &str| {
        let at = names.iter().position(|other| *other == name).unwrap_or_default();
        COLOURS[at % COLOURS.len()]
    };
    for arc in arcs {
        // A hair below its neighbour, so that no paper shows between them.
        let ends = (arc.from - 0.0005, arc.to);
        let mut corners = along(part, ends, INNER);
        corners.extend(along(part, ends, OUTER).into_iter().rev());
        filled(part, &corners, colour(arc.owner))?;
    }
    // The last arc ends at the top, where there is no position.
    for arc in arcs.iter().take(arcs.len().saturating_sub(1)) {
        let from = if arcs.len() > FEW { OUTER } else { INNER };
        line(
            part,
            &[place(part, arc.to, from), place(part, arc.to, MARK)],
            INK,
            if arcs.len() > FEW { 1 } else { 2 },
        )?;
    }
    for ends in before.map(|before| moved(before, arcs)).unwrap_or_default() {
        line(part, &along(part, ends, MOVED), INK, 6)?;
    }
    Ok(())
}

/// The share of each server, in the middle of the circle.
fn draw_shares(part: &Area<'_>, members: &[Member], arcs: &[Arc<'_>]) -> anyhow::Result<()> {
    let (wide, high) = part.dim_in_pixel();
    let (middle, step) = ((wide / 2) as i32, TEXT as i32 + 9);
    let top = high as i32 / 2 - step * (members.len() as i32 - 1) / 2;
    for (member, at) in members.iter().zip(0..) {
        let share = percent(share(arcs, &member.name));
        let words = format!("{}  {share}", fitting(&member.name, SMALL, 150));
        part.draw_text(&words, &letters(SMALL, INK, Side::Center), (middle, top + at * step))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::plan;

    fn ring(servers: usize, points: u32, steps: &[&str]) -> Plan {
        Plan {
            contenders: vec![Contender::Ours(Algorithm::Ring { points }.into())],
            ..plan(0, servers, steps)
        }
    }

    #[test]
    fn the_arcs_are_a_whole_circle_and_each_ends_at_a_position_of_its_owner() {
        let plan = ring(3, 8, &[]);
        let arcs = arcs(&plan, &plan.stages[0].members).unwrap();
        assert_eq!(arcs.len(), 3 * 8 + 1);
        assert_eq!((arcs[0].from, arcs[24].to, arcs[24].owner), (0.0, 1.0, arcs[0].owner));
        assert!(arcs.windows(2).all(|pair| pair[0].to == pair[1].from));
        let shares: f64 = names(&plan).iter().map(|name| share(&arcs, name)).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn only_the_keys_of_the_lost_server_move() {
        let plan = ring(4, 16, &["rm server2"]);
        let [before, after] = [0, 1].map(|at| arcs(&plan, &plan.stages[at].members).unwrap());
        let moved: f64 = moved(&before, &after).iter().map(|(from, to)| to - from).sum();
        assert!((moved - share(&before, "server2")).abs() < 1e-9, "{moved}");
    }

    #[test]
    fn a_ring_that_cannot_be_read_is_refused() {
        let error = |plan: Plan| check(&plan).unwrap_err();
        assert_eq!(check(&ring(8, 90, &["rm server1"])), Ok(()));
        assert_eq!(error(ring(9, 8, &[])), "9 servers are too many; expected at most 8");
        assert_eq!(
            error(ring(3, 8, &["rm server1", "add 1"].repeat(3))),
            "6 steps are too many; expected at most 5"
        );
        let words = "3,000 positions are too many; expected at most 720 (lower --points)";
        assert_eq!(error(ring(3, 1000, &[])), words);
        assert_eq!(error(plan(0, 3, &[])), "only the mapping ring can be drawn");
    }

    #[test]
    fn there_is_a_circle_for_each_stage_with_the_share_of_each_server() {
        let svg = draw(&ring(3, 8, &["rm server2", "add new"])).unwrap().svg();
        for words in ["at first", "after 'rm server2'", "after 'add new'", "new  "] {
            assert!(svg.contains(words), "{words}");
        }
    }
}
