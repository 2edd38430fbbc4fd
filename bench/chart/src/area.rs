//! What is drawn on, and where.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, SVGBackend};

/// A part of the paper. Places are counted from its left upper corner.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A place: units to the right, and down.
pub type Place = (i32, i32);
