//! The letters of a drawing as outlines, each letter once.
//!
//! A chart has some four hundred letters and fifty different ones: defined once and used by reference they
//! are a tenth of what they would be one by one. Knows nothing of charts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use resvg::tiny_skia::{PathSegment, Point, Transform};
use resvg::usvg::fontdb::Weight;
use resvg::usvg::layout::{PositionedGlyph, Span};
use resvg::usvg::{Group, Node, Paint, Text, Tree};

use super::picture::{FONT, escaped, parse};

/// Letters that were seen, by weight and the text that they stand for, and what they are called.
type Seen = BTreeMap<(u16, String), usize>;

/// All text of a drawing as SVG: definitions of letters whose names begin with `prefix`, and their uses.
///
/// # Errors
/// A letter has no outline that can be found again, which would be a fault of this program.
pub(super) fn outlines(drawing: &Tree, prefix: &str) -> anyhow::Result<String> {
    let mut seen = Seen::new();
    let mut uses = String::new();
    for text in texts(drawing.root()) {
        for span in text.layouted() {
            write_span(&mut uses, &mut seen, drawing, (text, span, prefix))?;
        }
    }
    let mut definitions = String::from("<defs>");
    for ((weight, letter), number) in &seen {
        let outline = outline(letter, *weight)?;
        write!(definitions, r#"<path id="{prefix}-{number}" d="{outline}"/>"#)?;
    }
    Ok(definitions + "</defs>\n" + &uses)
}

/// All text of a group that has letters to be drawn: without a font for it, text is not even here.
pub(super) fn texts(group: &Group) -> Vec<&Text> {
    let mut found = Vec::new();
    for node in group.children() {
        match node {
            Node::Text(text) => found.push(&**text),
            Node::Group(group) => found.extend(texts(group)),
            _ => {}
        }
    }
    found
}

fn write_span(
    uses: &mut String,
    seen: &mut Seen,
    drawing: &Tree,
    (text, span, prefix): (&Text, &Span, &str),
) -> anyhow::Result<()> {
    let Some(first) = span.positioned_glyphs.first() else { return Ok(()) };
    let start = first.outline_transform();
    write!(
        uses,
        r#"<g fill="{}" transform="{}">"#,
        colour(span),
        matrix(text.abs_transform().pre_concat(start))
    )?;
    for glyph in span.positioned_glyphs.iter().filter(|glyph| !glyph.text.trim().is_empty()) {
        let key = (weight(drawing, glyph), glyph.text.clone());
        let count = seen.len();
        let number = *seen.entry(key).or_insert(count);
        let right = (glyph.outline_transform().tx - start.tx) / start.sx;
        write!(uses, r##"<use href="#{prefix}-{number}" x="{right:.0}"/>"##)?;
    }
    uses.push_str("</g>\n");
    Ok(())
}

fn weight(drawing: &Tree, glyph: &PositionedGlyph) -> u16 {
    drawing.fontdb().face(glyph.font).map_or(Weight::NORMAL, |face| face.weight).0
}

fn colour(span: &Span) -> String {
    match span.fill.as_ref().map(|fill| fill.paint()) {
        Some(Paint::Color(colour)) => format!("#{:02x}{:02x}{:02x}", colour.red, colour.green, colour.blue),
        _ => "#000000".to_owned(),
    }
}

/// A transform from letters, whose y goes down here as everywhere in SVG, and up in a font.
fn matrix(to: Transform) -> String {
    let turned = [to.sx, to.ky, -to.kx, -to.sy].map(|number| format!("{number:.5}")).join(" ");
    format!("matrix({turned} {:.1} {:.1})", to.tx, to.ty)
}

/// The outline of a letter (or of letters that the font draws as one) in the units of the font.
fn outline(letter: &str, weight: u16) -> anyhow::Result<String> {
    // The font has 2048 units for its size, so that its outlines come out in whole numbers.
    let style = format!(r#"font-family="{FONT}" font-size="2048" font-weight="{weight}""#);
    let text = format!("<text {style}>{}</text>", escaped(letter));
    let svg = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{text}</svg>"#);
    let tree = parse(&svg)?;
    let texts = texts(tree.root());
    let text = texts.first().with_context(|| format!("the font has no letter {letter:?}"))?;
    let mut outline = String::new();
    for node in text.flattened().children() {
        if let Node::Path(path) = node {
            path.data()
                .segments()
                .try_fold((0, 0), |at, segment| write_segment(&mut outline, at, segment))?;
        }
    }
    Ok(outline)
}

/// Writes a segment relative to where the last one ended, which is shorter, and says where it ends itself.
fn write_segment(
    outline: &mut String,
    at: (i32, i32),
    segment: PathSegment,
) -> Result<(i32, i32), std::fmt::Error> {
    let whole = |point: Point| (point.x.round() as i32, point.y.round() as i32);
    let (command, points): (char, &[Point]) = match &segment {
        PathSegment::MoveTo(to) => return write_move(outline, whole(*to)),
        PathSegment::LineTo(to) => ('l', &[*to]),
        PathSegment::QuadTo(by, to) => ('q', &[*by, *to]),
        PathSegment::CubicTo(by, and, to) => ('c', &[*by, *and, *to]),
        PathSegment::Close => {
            outline.push('z');
            return Ok(at);
        }
    };
    outline.push(command);
    let mut end = at;
    for (number, point) in points.iter().copied().map(whole).enumerate() {
        let separator = if number == 0 { "" } else { " " };
        write!(outline, "{separator}{} {}", point.0 - at.0, point.1 - at.1)?;
        end = point;
    }
    Ok(end)
}

/// A move is absolute: after a `z`, "here" is the start of the figure that was closed.
fn write_move(outline: &mut String, to: (i32, i32)) -> Result<(i32, i32), std::fmt::Error> {
    write!(outline, "M{} {}", to.0, to.1)?;
    Ok(to)
}
