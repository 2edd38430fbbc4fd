//! Charts as SVG, in one style: a head with title and legend, panels with named axes, and what is drawn on them.
//!
//! This crate only draws. It knows nothing of load balancers and measures nothing; it reads no file, no clock and no
//! font. The same calls give the same bytes. Text stays text, in a font that the viewer has.
//!
//! In reading order: [`sheet`] is the paper and its head, [`axis`] and [`panel`] are coordinates, [`mark`] is what
//! stands at them, [`colour`] and [`text`] are the style.

pub mod area;
pub mod axis;
pub mod colour;
pub mod mark;
pub mod panel;
pub mod sheet;
pub mod text;

pub use area::{Area, Place};
pub use axis::Axis;
pub use mark::{Look, Shape, look};
pub use panel::Panel;
pub use sheet::{Drawing, Head, Swatch};
