//! Reports: from [`Data`] to `data.json`, `report.md`, `report.html`, and a chart each as SVG and PNG.
//!
//! Nothing is measured here, and nothing but the data decides what is written: the same data gives the same
//! bytes. No clock is read, no font of the system, and no file but those that are written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::data::Data;

mod chart;
mod derived;
mod html;
mod picture;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub(crate) use chart::charts;

/// The report as Markdown; its images are the files that [`write()`] makes beside it.
pub(crate) fn markdown(data: &Data) -> String {
    // A chart that cannot be drawn is an error where it is written; the words are good without it.
    text::markdown(data, &charts(data).unwrap_or_default())
}

/// Writes a report into a directory, which is made if it is not there, and says which files that are. Each
/// file is there as a whole or not at all; those of an earlier report with the same names are replaced.
///
/// # Errors
/// A file cannot be written; the message names it.
pub(crate) fn write(data: &Data, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    // The numbers first: they are what cannot be made again.
    let json = serde_json::to_string_pretty(data).context("the data cannot be written as JSON")? + "\n";
    let mut written = vec![put(dir, "data.json", json.as_bytes())?];
    let charts = charts(data)?;
    for chart in &charts {
        written.push(put(dir, &format!("{}.svg", chart.name), chart.svg.as_bytes())?);
        written.push(put(dir, &format!("{}.png", chart.name), &chart.png()?)?);
    }
    let markdown = text::markdown(data, &charts);
    written.push(put(dir, "report.html", html::page(&markdown, &charts).as_bytes())?);
    written.push(put(dir, "report.md", markdown.as_bytes())?);
    Ok(written)
}

/// Writes a file under another name and renames it, so that a reader never sees half of it.
fn put(dir: &Path, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
    let (place, beside) = (dir.join(name), dir.join(format!(".{name}.part")));
    let done = fs::write(&beside, content).and_then(|()| fs::rename(&beside, &place));
    if done.is_err() {
        // The rest is useless, and an error here must not hide the first one.
        let _ = fs::remove_file(&beside);
    }
    done.with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}
