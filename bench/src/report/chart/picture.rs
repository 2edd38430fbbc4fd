//! From what `plotters` has drawn to pictures that look the same everywhere.
//!
//! Text is drawn with the embedded DejaVu Sans and with no font of the system: an SVG file gets its letters
//! as outlines, so whoever shows it needs no font. Nothing here knows what a picture shows.

use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

use super::glyphs;

/// The family name of the embedded font.
pub(super) const FONT: &str = "DejaVu Sans";

/// Units of a drawing for one CSS pixel, so that hairlines and places are finer than a pixel; a PNG has one
/// pixel for each unit.
const UNITS: u32 = 2;

/// Fonts are loaded once: without one, text would be left out, and nobody would say so.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
        fonts.load_font_source(Source::Binary(Arc::new(font)));
    }
    Arc::new(fonts)
});

/// A picture in words, for those who do not see it.
pub(super) struct Words<'a> {
    /// A name that is unique in a report.
    pub(super) name: &'a str,
    /// What it is called.
    pub(super) title: &'a str,
    /// What it shows.
    pub(super) description: &'a str,
}

pub(super) fn parse(svg: &str) -> anyhow::Result<Tree> {
    let options = Options { font_family: FONT.to_owned(), fontdb: Arc::clone(&FONTS), ..Options::default() };
    Tree::from_str(svg, &options).context("a chart is not an SVG")
}

/// A drawing with all text as outlines, a title and a description.
///
/// # Errors
/// `drawing` is not an SVG as `plotters` writes it.
pub(super) fn finished(drawing: &str, words: &Words<'_>) -> anyhow::Result<String> {
    let tree = parse(drawing)?;
    let (shapes, texts) = without_text(drawing).context("a chart is not as it should be")?;
    let drawn = glyphs::texts(tree.root()).len();
    anyhow::ensure!(
        drawn == texts,
        "{} texts of the chart {} have no font",
        texts - drawn.min(texts),
        words.name
    );
    let letters = glyphs::outlines(&tree, words.name)?;
    let first = opening(tree.size().width() as u32, tree.size().height() as u32, words);
    Ok(format!("{first}\n{shapes}{letters}</svg>\n"))
}

/// What is inside of a drawing without its text, and how many texts that say something were there. Text is on
/// top of all else, so it can come after it.
fn without_text(drawing: &str) -> Option<(String, usize)> {
    let mut rest = drawing.split_once('>')?.1.trim_start().rsplit_once("</svg>")?.0;
    let mut shapes = String::new();
    let mut texts = 0;
    while let Some((before, text)) = rest.split_once("<text") {
        let (text, after) = text.split_once("</text>")?;
        texts += usize::from(!text.split_once('>')?.1.trim().is_empty());
        shapes.push_str(before);
        rest = after.trim_start();
    }
    shapes.push_str(rest);
    Some((shapes.replace(r#" opacity="1""#, "").replace(" \"/>", "\"/>"), texts))
}

/// The first tag of a picture and its words.
fn opening(width: u32, height: u32, words: &Words<'_>) -> String {
    let (name, title, description) = (words.name, escaped(words.title), escaped(words.description));
    let size =
        format!(r#"width="{}" height="{}" viewBox="0 0 {width} {height}""#, width / UNITS, height / UNITS);
    let words = format!(r#"role="img" aria-labelledby="{name}-title {name}-desc""#);
    let first = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {size} {words}>"#);
    let title = format!(r#"<title id="{name}-title">{title}</title>"#);
    format!(r#"{first}{title}<desc id="{name}-desc">{description}</desc>"#)
}

/// Text as it may stand in XML.
pub(super) fn escaped(text: &str) -> String {
    let visible: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    visible.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture as a PNG file, twice as large as the SVG says.
///
/// # Errors
/// `svg` is not an SVG, or has no size.
pub(super) fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    pixels(svg)?.encode_png().context("a chart cannot be written as PNG")
}

pub(super) fn pixels(svg: &str) -> anyhow::Result<Pixmap> {
    let tree = parse(svg)?;
    let size = tree.size().to_int_size().scale_by(UNITS as f32).context("a chart has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("a chart has no size")?;
    let scale = Transform::from_scale(UNITS as f32, UNITS as f32);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words<'_> = Words { name: "x", title: "a < b", description: "c & \"d\"" };

    fn dark(svg: &str) -> usize {
        let white = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40">{svg}</svg>"#);
        let picture = finished(&white, &WORDS).unwrap();
        pixels(&picture).unwrap().pixels().iter().filter(|pixel| pixel.alpha() > 128).count()
    }

    #[test]
    fn letters_are_drawn_and_need_no_font_afterwards() {
        assert_eq!(dark(""), 0);
        assert!(dark(r#"<text x="2" y="30" font-family="DejaVu Sans" font-size="30">Hxg</text>"#) > 100);
        let picture = finished(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><text y="30">x</text></svg>"#,
            &WORDS,
        )
        .unwrap();
        assert!(!picture.contains("<text") && picture.contains("<use"), "{picture}");
    }

    #[test]
    fn text_without_a_font_is_an_error_and_not_left_out() {
        let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40">
            <text y="30" font-family="Nobody Has This">x</text><text> </text></svg>"#;
        let error = finished(svg, &WORDS).unwrap_err().to_string();
        assert_eq!(error, "1 texts of the chart x have no font");
    }

    #[test]
    fn words_are_there_for_those_who_do_not_see() {
        let empty = r#"<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"></svg>"#;
        let picture = finished(empty, &WORDS).unwrap();
        assert!(picture.contains(r#"<title id="x-title">a &lt; b</title>"#), "{picture}");
        assert!(picture.contains(r#"<desc id="x-desc">c &amp; &quot;d&quot;</desc>"#), "{picture}");
    }
}
