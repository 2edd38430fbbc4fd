//! What stands on paper: lines, boxes, and the marks of series. Lengths are units of the drawing.
//!
//! Every series has a mark of its own, so colour is never alone.

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::area::{Area, Place};
use crate::colour::{BLUE, Colour, GREEN, INK, ORANGE, PAPER, PURPLE, RED, SKY};

/// The shape of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A filled circle.
    Disc,
    /// A filled square.
    Square,
    /// A filled triangle that points up.
    Triangle,
    /// A filled square on its corner.
    Diamond,
    /// Two crossing strokes.
    Cross,
    /// A circle that is not filled.
    Ring,
    /// An upright stroke.
    Bar,
}

/// How a series looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The colour of its lines and marks.
    pub colour: Colour,
    /// The shape of its marks.
    pub shape: Shape,
}

/// The look of the series with this number. The first six differ in colour and in shape.
#[must_use]
pub fn look(number: usize) -> Look {
    const COLOURS: [Colour; 7] = [BLUE, RED, GREEN, PURPLE, ORANGE, SKY, INK];
    const SHAPES: [Shape; 6] =
        [Shape::Disc, Shape::Square, Shape::Triangle, Shape::Diamond, Shape::Cross, Shape::Ring];
    Look { colour: COLOURS[number % COLOURS.len()], shape: SHAPES[number % SHAPES.len()] }
}

/// Draws a filled box between two corners.
///
/// # Errors
/// It cannot be drawn, which would be a fault of this crate; so with everything that draws.
pub fn boxed(paper: &Area<'_>, from: Place, to: Place, colour: Colour) -> anyhow::Result<()> {
    Ok(paper.draw(&Rectangle::new([from, to], colour.filled()))?)
}

/// Draws a filled shape with these corners.
///
/// # Errors
/// As with [`boxed`].
pub fn filled(paper: &Area<'_>, corners: &[Place], colour: Colour) -> anyhow::Result<()> {
    Ok(paper.draw(&Polygon::new(corners.to_vec(), colour.filled()))?)
}

/// Draws a line through places.
///
/// # Errors
/// As with [`boxed`].
pub fn line(paper: &Area<'_>, places: &[Place], colour: Colour, thick: u32) -> anyhow::Result<()> {
    Ok(paper.draw(&PathElement::new(places.to_vec(), colour.stroke_width(thick)))?)
}

/// Draws a dashed line between two places.
///
/// # Errors
/// As with [`boxed`].
pub fn dashed(paper: &Area<'_>, from: Place, to: Place, colour: Colour, thick: u32) -> anyhow::Result<()> {
    let ends = [from, to].into_iter();
    Ok(paper.draw(&DashedPathElement::new(ends, 10, 8, colour.stroke_width(thick)))?)
}

/// Draws a range: a line between two places, upright or level, with a stroke across each end. An outline in the colour
/// of the paper sets it off from what is below.
///
/// # Errors
/// As with [`boxed`].
pub fn range(paper: &Area<'_>, ends: [Place; 2], colour: Colour, reach: i32) -> anyhow::Result<()> {
    let (dx, dy) = if ends[0].0 == ends[1].0 { (reach, 0) } else { (0, reach) };
    let strokes = ends.map(|(x, y)| [(x - dx, y - dy), (x + dx, y + dy)]);
    for (colour, thick) in [(PAPER, 8), (colour, 4)] {
        for stroke in [ends, strokes[0], strokes[1]] {
            line(paper, &stroke, colour, thick)?;
        }
    }
    Ok(())
}

/// Draws the mark of a series, about twice `size` wide.
///
/// # Errors
/// As with [`boxed`].
pub fn mark(paper: &Area<'_>, at: Place, look: Look, size: i32) -> anyhow::Result<()> {
    let to = |(dx, dy): Place| (at.0 + dx, at.1 + dy);
    let shape =
        |corners: &[Place]| filled(paper, &corners.iter().copied().map(to).collect::<Vec<_>>(), look.colour);
    let (s, more) = (size, size * 4 / 3);
    match look.shape {
        Shape::Disc => Ok(paper.draw(&Circle::new(at, size, look.colour.filled()))?),
        Shape::Square => shape(&[(-s, -s), (s, -s), (s, s), (-s, s)]),
        Shape::Triangle => shape(&[(0, -more), (more, s), (-more, s)]),
        Shape::Diamond => shape(&[(0, -more), (more, 0), (0, more), (-more, 0)]),
        Shape::Bar => shape(&[(-3, -more), (3, -more), (3, more), (-3, more)]),
        Shape::Cross => {
            line(paper, &[to((-s, -s)), to((s, s))], look.colour, 5)?;
            line(paper, &[to((-s, s)), to((s, -s))], look.colour, 5)
        }
        Shape::Ring => {
            paper.draw(&Circle::new(at, size, PAPER.filled()))?;
            Ok(paper.draw(&Circle::new(at, size, look.colour.stroke_width(4)))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_series_differ_in_colour_and_in_shape() {
        for (a, b) in (0..6).flat_map(|a| (0..a).map(move |b| (look(a), look(b)))) {
            assert!(a.colour != b.colour && a.shape != b.shape, "{a:?} {b:?}");
        }
    }
}
