//! A whole report from a recorded data file.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::chart::Chart;
use super::*;

/// Drawn once for all tests.
static CHARTS: LazyLock<Vec<Chart>> = LazyLock::new(|| charts(&recorded()).unwrap());

fn recorded() -> Data {
    serde_json::from_str(include_str!("recorded.json")).unwrap()
}

fn page() -> String {
    html::page(&text::markdown(&recorded(), &CHARTS), &CHARTS)
}

#[test]
fn the_text_of_a_recorded_run() {
    insta::assert_snapshot!(text::markdown(&recorded(), &CHARTS));
}

#[test]
fn the_page_needs_nothing_beside_it() {
    let page = page();
    for fetched in ["src=", "<img", "<link", "<script", "url(", "@import"] {
        assert!(!page.contains(fetched), "the page has {fetched}");
    }
    let ours = page.matches("href=\"").count();
    assert_eq!(ours, page.matches("href=\"#").count(), "the page refers to something outside");
    assert_eq!(page.matches("<svg ").count(), CHARTS.len());
}

#[test]
fn everything_that_a_page_refers_to_exists_once() {
    let page = page();
    let after = |mark| page.split(mark).skip(1).filter_map(|rest: &str| rest.split('"').next());
    let ids: Vec<_> = after(" id=\"").collect();
    let unique: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id is there twice");
    assert!(after("href=\"#").all(|id| unique.contains(id)));
}

#[test]
fn every_chart_is_small_and_has_its_words() {
    for chart in CHARTS.iter() {
        assert!(chart.svg.len() < 80_000, "{} has {} bytes", chart.name, chart.svg.len());
        assert!(chart.svg.contains("<title") && chart.svg.contains("<desc"), "{}", chart.name);
    }
}

#[test]
fn a_report_is_written_whole_and_twice_the_same() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = recorded();
    let files = write(&data, &first.path().join("new/directory")).unwrap();
    let again = write(&data, second.path()).unwrap();
    for (a, b) in files.iter().zip(&again) {
        assert_eq!(a.file_name(), b.file_name());
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} differs", a.display());
    }
    let listed: BTreeSet<_> = fs::read_dir(second.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(listed, again.into_iter().collect(), "something else was left");
    let read: Data = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&data).unwrap());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&Data::default(), &file).unwrap_err().to_string();
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
}

#[test]
fn data_that_says_nothing_has_a_report_without_charts() {
    let empty: Data = serde_json::from_str(
        r#"{"environment": {"date": "", "cores": 0, "processor": "", "memory": 0, "kernel": "",
        "versions": {}, "commit": "", "seed": 0, "replicas": "", "own_network": false, "arguments": []},
        "a3": {"checks": [], "drill": {"kills": [], "timeline": {"bucket": 0.0, "slots": [], "failures": []},
        "load": {"requests": 0, "succeeded": 0, "failures": {}, "seconds": 0.0, "latency": {"p50": 0,
        "p90": 0, "p99": 0, "p999": 0, "max": 0, "mean": 0.0}, "received": 0, "sent": 0, "replicas": {}},
        "mapping_asked": 0, "mapping_moved": 0, "resolution_ms": 0.0}},
        "a4": {"a1": [], "a2": []}, "comparison": {"contenders": [], "modes": []}}"#,
    )
    .unwrap();
    let charts = charts(&empty).unwrap();
    assert!(charts.is_empty(), "{charts:?}");
    assert!(markdown(&empty).contains("no kills under load"));
}
