//! A panel of a chart: two axes with titles and ticks, and the places that their numbers have.

use plotters::chart::ChartContext;
use plotters::prelude::*;

use crate::area::{Area, Place};
use crate::axis::Axis;
use crate::colour::{Colour, GRID, INK, PAPER};
use crate::text::{SMALL, Side, letters, width};

type Context<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// A panel in its part of the paper. What draws fails only through a fault of this crate.
pub struct Panel<'a> {
    part: Area<'a>,
    chart: Context<'a>,
}

impl<'a> Panel<'a> {
    /// Draws two axes into a part of the paper.
    ///
    /// # Errors
    /// They cannot be drawn.
    pub fn new(part: &Area<'a>, x: &Axis, y: &Axis) -> anyhow::Result<Self> {
        Self::aligned(part, x, y, y.beside())
    }

    /// Like [`Panel::new`], with `beside` units for the labels at the left, so that panels below each other are aligned.
    ///
    /// # Errors
    /// They cannot be drawn.
    pub fn aligned(part: &Area<'a>, x: &Axis, y: &Axis, beside: i32) -> anyhow::Result<Self> {
        let mut builder = ChartBuilder::on(part);
        builder.margin_top(8).margin_right(8).x_label_area_size(x.below()).y_label_area_size(beside);
        let mut chart = builder.build_cartesian_2d(x.clone(), y.clone())?;
        draw_axes(&mut chart, x, y)?;
        Ok(Self { part: part.clone(), chart })
    }

    /// Like [`Panel::new`], below a name.
    ///
    /// # Errors
    /// They cannot be drawn.
    pub fn named(
        part: &Area<'a>,
        (name, colour): (&str, Colour),
        x: &Axis,
        y: &Axis,
        beside: i32,
    ) -> anyhow::Result<Self> {
        let (top, part) = part.split_vertically(32);
        top.draw_text(name, &letters(SMALL, colour, Side::Left), (beside, 20))?;
        Self::aligned(&part, x, y, beside)
    }

    /// How much room the widest of several upright axes takes, in units.
    #[must_use]
    pub fn beside<'b>(axes: impl IntoIterator<Item = &'b Axis>) -> i32 {
        axes.into_iter().map(Axis::beside).max().unwrap_or(0)
    }

    /// What to draw on, at the places of [`Panel::at`].
    #[must_use]
    pub fn paper(&self) -> &Area<'a> {
        &self.part
    }

    /// The place of a pair of numbers in its part of the paper.
    #[must_use]
    pub fn at(&self, x: f64, y: f64) -> Place {
        let (place, base) = (self.chart.backend_coord(&(x, y)), self.part.get_base_pixel());
        (place.0 - base.0, place.1 - base.1)
    }

    /// Writes a text in the middle above a place.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn above(&self, (x, y): Place, text: &str, colour: Colour) -> anyhow::Result<()> {
        Ok(self.part.draw_text(text, &letters(SMALL, colour, Side::Center), (x, y - 18))?)
    }

    /// Like [`Panel::above`], on a patch of paper, for places where lines pass.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn above_lines(&self, (x, y): Place, text: &str, colour: Colour) -> anyhow::Result<()> {
        let half = width(text, SMALL) / 2;
        let paper = Rectangle::new([(x - half, y - 38), (x + half, y - 13)], PAPER.mix(0.85).filled());
        self.part.draw(&paper)?;
        self.above((x, y - 8), text, colour)
    }

    /// Writes a text to the right of a place.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn right(&self, (x, y): Place, text: &str, colour: Colour) -> anyhow::Result<()> {
        Ok(self.part.draw_text(text, &letters(SMALL, colour, Side::Left), (x + 12, y))?)
    }

    /// Writes a text to the left of a place.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn left(&self, (x, y): Place, text: &str, colour: Colour) -> anyhow::Result<()> {
        Ok(self.part.draw_text(text, &letters(SMALL, colour, Side::Right), (x - 12, y))?)
    }
}

fn draw_axes(chart: &mut Context<'_>, x: &Axis, y: &Axis) -> anyhow::Result<()> {
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(GRID.stroke_width(2)).light_line_style(TRANSPARENT).axis_style(INK.stroke_width(2));
    mesh.label_style(letters(SMALL, INK, Side::Center)).axis_desc_style(letters(SMALL, INK, Side::Center));
    mesh.x_desc(x.title.as_str()).y_desc(y.title.as_str());
    if !x.lines {
        mesh.disable_x_mesh();
    }
    if !y.lines {
        mesh.disable_y_mesh();
    }
    Ok(mesh.draw()?)
}
