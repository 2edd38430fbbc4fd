//! From SVG to PNG.
//!
//! Text is drawn with the embedded DejaVu Sans and with no font of the system, so a PNG is the same everywhere. Nothing
//! here knows what a picture shows.

use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Group, Node, Options, Text, Tree};

/// Pixels of a PNG for one CSS pixel.
const SCALE: f32 = 2.0;

/// The fonts are loaded once.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
        fonts.load_font_source(Source::Binary(Arc::new(font)));
    }
    Arc::new(fonts)
});

/// A picture as a PNG file in its light colours, twice as large as the SVG says.
///
/// # Errors
/// It is not an SVG, it has no size, or a text has no font.
pub(super) fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    pixels(svg)?.encode_png().context("a chart cannot be written as PNG")
}

pub(super) fn pixels(svg: &str) -> anyhow::Result<Pixmap> {
    let tree = parse(svg)?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("a chart has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("a chart has no size")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels)
}

fn parse(svg: &str) -> anyhow::Result<Tree> {
    let options = Options { fontdb: Arc::clone(&FONTS), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("a chart is not an SVG")?;
    // Text without a font is left out of the tree.
    let missing = sayings(svg) - texts(tree.root()).len();
    anyhow::ensure!(missing == 0, "{missing} texts of a chart have no font");
    Ok(tree)
}

/// How many texts say something.
fn sayings(svg: &str) -> usize {
    let after = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split("</text>").next());
    after.filter(|words| !words.trim().is_empty()).count()
}

/// All text of a group that has letters to be drawn.
fn texts(group: &Group) -> Vec<&Text> {
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

/// Pairs of texts that overlap, and texts that leave the paper.
///
/// # Errors
/// It is not an SVG, or a text has no font.
#[cfg(test)]
pub(super) fn overlaps(svg: &str) -> anyhow::Result<Vec<String>> {
    let tree = parse(svg)?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let said = |text: &Text| text.chunks().iter().map(|chunk| chunk.text().trim()).collect::<String>();
    let texts = texts(tree.root()).into_iter().map(|text| (said(text), text.abs_bounding_box()));
    let texts: Vec<_> = texts.collect();
    let mut found = Vec::new();
    for (at, (words, one)) in texts.iter().enumerate() {
        if one.left() < 0.0 || one.top() < 0.0 || one.right() > width || one.bottom() > height {
            found.push(format!("{words:?} leaves the paper"));
        }
        let others = texts[at + 1..].iter().filter(|(_, other)| one.intersect(other).is_some());
        found.extend(others.map(|(other, _)| format!("{words:?} meets {other:?}")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saying(words: &str) -> String {
        let text = format!(r#"<text x="2" y="30" font-family="DejaVu Sans" font-size="30">{words}</text>"#);
        format!(r#"<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40">{text}</svg>"#)
    }

    fn drawn(svg: &str) -> usize {
        pixels(svg).unwrap().pixels().iter().filter(|pixel| pixel.alpha() > 128).count()
    }

    #[test]
    fn letters_are_drawn_with_the_embedded_font() {
        assert_eq!(drawn(&saying("")), 0);
        assert!(drawn(&saying("Hxg")) > 100);
    }

    #[test]
    fn text_without_a_font_is_an_error_and_not_left_out() {
        let error = png(&saying("x").replace("DejaVu Sans", "No Such Font")).unwrap_err().to_string();
        assert_eq!(error, "1 texts of a chart have no font");
    }

    #[test]
    fn text_that_meets_other_text_or_leaves_the_paper_is_found() {
        assert_eq!(overlaps(&saying("one")).unwrap(), Vec::<String>::new());
        let twice = saying("one")
            .replace("</svg>", r#"<text x="30" y="30" font-family="DejaVu Sans">on</text></svg>"#);
        assert_eq!(overlaps(&twice).unwrap(), [r#""one" meets "on""#]);
        assert_eq!(overlaps(&saying("far too long")).unwrap(), [r#""far too long" leaves the paper"#]);
    }
}
