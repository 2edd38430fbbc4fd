//! The pages: docs/ is a book, each link in it leads somewhere, and generated parts are up to date.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::CommandFactory as _;
use lb::config::Cli;
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    without_dots(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}

/// All pages of the book but its table of contents.
pub(crate) fn pages() -> BTreeSet<PathBuf> {
    let mut pages = BTreeSet::new();
    collect(&root().join("docs"), &mut pages);
    assert!(pages.remove(&root().join("docs/SUMMARY.md")));
    pages
}

fn collect(folder: &Path, pages: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, pages);
        } else if entry.extension().is_some_and(|end| end == "md") {
            pages.insert(entry);
        }
    }
}

/// A path with its `.` and `..` resolved by its text alone.
fn without_dots(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => assert!(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
        path
    })
}

/// The files that a page shows: blocks that begin with a comment that names one.
pub(crate) fn files(page: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(page).unwrap();
    let (mut files, mut is_block) = (Vec::new(), false);
    for event in Parser::new(&text) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => is_block = true,
            Event::Text(text) if std::mem::take(&mut is_block) => {
                if let Some((name, rest)) = text.strip_prefix("# ").and_then(|text| text.split_once('\n')) {
                    files.push((name.to_owned(), rest.to_owned()));
                }
            }
            _ => {}
        }
    }
    files
}

/// Where a page links to: the path of each relative link or picture and its anchor, if it has one.
fn links(page: &Path) -> Vec<(PathBuf, Option<String>)> {
    let text = fs::read_to_string(page).unwrap();
    let targets = Parser::new(&text).filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.into_string())
        }
        _ => None,
    });
    let relative = targets.filter(|target| !target.contains("://"));
    relative
        .map(|target| {
            let (path, anchor) =
                target.split_once('#').map_or((&*target, None), |(path, anchor)| (path, Some(anchor)));
            let path = if path.is_empty() {
                page.to_owned()
            } else {
                without_dots(&page.parent().unwrap().join(path))
            };
            (path, anchor.map(str::to_owned))
        })
        .collect()
}

/// The anchors that forges and mdBook give the headings of a page.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let (mut anchors, mut seen, mut heading) = (BTreeSet::new(), HashMap::<String, usize>::new(), None);
    for event in Parser::new(&text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = slug(&heading.take().unwrap());
                let times = seen.entry(anchor.clone()).or_default();
                anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
                *times += 1;
            }
            _ => {}
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn the_summary_lists_each_page_once() {
    let listed: Vec<PathBuf> =
        links(&root().join("docs/SUMMARY.md")).into_iter().map(|(path, _)| path).collect();
    let unique: BTreeSet<PathBuf> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    assert_eq!(unique, pages());
}

#[test]
fn each_relative_link_leads_to_a_file_and_each_anchor_to_a_heading() {
    let outside =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name));
    for page in pages().into_iter().chain(outside) {
        for (path, anchor) in links(&page) {
            assert!(path.exists(), "{}: there is no {}", page.display(), path.display());
            if let Some(anchor) = anchor {
                assert!(
                    anchors(&path).contains(&anchor),
                    "{}: no heading {anchor} in {}",
                    page.display(),
                    path.display()
                );
            }
        }
    }
}

/// A published book has no other files of the repository.
#[test]
fn the_book_links_to_nothing_outside_itself() {
    for page in pages() {
        for (path, _) in links(&page) {
            assert!(path.starts_with(root().join("docs")), "{} links to {}", page.display(), path.display());
        }
    }
}

/// A walk through the code that names a place that does not exist would mislead.
#[test]
fn every_place_in_the_code_that_the_pages_name_exists() {
    let inside = fs::read_to_string(root().join("docs/INSIDE.md")).unwrap();
    let places = Parser::new(&inside).filter_map(|event| match event {
        Event::Code(code) => {
            let (file, name) = code.split_once(".rs: ")?;
            // A file of another crate is named from the root.
            let folder = if root().join(format!("{file}.rs")).exists() { "" } else { "lb/src/" };
            Some((format!("{folder}{file}.rs"), name.to_owned()))
        }
        _ => None,
    });
    for (file, name) in places.filter(|(file, _)| !file.ends_with("/file.rs")) {
        let code = fs::read_to_string(root().join(&file))
            .unwrap_or_else(|_| panic!("INSIDE.md: there is no {file}"));
        let is_there = ["fn", "struct", "enum"].iter().any(|kind| {
            code.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
                !code[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        });
        assert!(is_there, "INSIDE.md: there is no {name} in {file}");
    }
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for entry in fs::read_dir(root().join("lb/src")).unwrap().map(Result::unwrap) {
        let (name, is_folder) = (entry.file_name(), entry.file_type().unwrap().is_dir());
        let path = format!("`lb/src/{}{}`", name.display(), if is_folder { "/" } else { "" });
        assert!(map.contains(&path), "ARCHITECTURE.md: {path} is not on the map");
    }
    for cell in map.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next()) {
        for path in cell.split('`').filter(|part| part.contains('/')) {
            assert!(root().join(path).exists(), "ARCHITECTURE.md: there is no {path}");
        }
    }
}

#[test]
fn ratios_in_the_pages_stand_in_the_reports() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let reports = read("docs/experiments/report.md") + &read("docs/performance/report.md");
    for name in ["README.md", "docs/PERFORMANCE.md"] {
        let page = read(name);
        let rows = page.lines().filter(|line| line.starts_with('|'));
        let ratios: Vec<&str> = rows.flat_map(|row| row.split(" | ")).filter(|cell| is_ratio(cell)).collect();
        assert!(ratios.len() >= 4, "{name} shows ratios with their spread");
        for ratio in ratios {
            let ratio = ratio.trim_end_matches(" |");
            assert!(reports.contains(&format!("| {ratio} |")), "{name}: no report has {ratio}");
        }
    }
}

/// Whether a cell of a table is a median with the least and the most, such as `0.94 (0.92 to 0.95)`.
fn is_ratio(cell: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().is_ok();
    let parts = cell.split_once(" (").and_then(|(median, rest)| Some((median, rest.split_once(" to ")?)));
    parts.is_some_and(|(median, (least, _))| number(median) && number(least))
}

#[test]
fn the_page_of_flags_is_up_to_date() {
    let page = root().join("docs/FLAGS.md");
    let text = fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- generated: begin -->\n", "<!-- generated: end -->");
    let (head, rest) = text.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let made = format!("{head}{begin}{}{end}{tail}", tables());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&page).unwrap() == made,
        "docs/FLAGS.md is out of date: run `UPDATE_DOCS=1 cargo test -p lb --test it flags_is`"
    );
}

/// A table of flags for each heading of `lb serve --help`.
fn tables() -> String {
    let mut cli = Cli::command();
    cli.build();
    let serve = cli.find_subcommand("serve").unwrap();
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for flag in serve.get_arguments().filter(|flag| !flag.is_hide_set() && flag.get_env().is_some()) {
        let heading = flag.get_help_heading().unwrap_or("Options");
        let at = groups.iter().position(|(name, _)| *name == heading).unwrap_or_else(|| {
            groups.push((heading, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(row(flag));
    }
    let table = |(heading, rows): (&str, Vec<String>)| {
        format!(
            "\n## {heading}\n\n| flag, variable | default | meaning | reload |\n|---|---|---|---|\n{}\n",
            rows.join("\n")
        )
    };
    groups.into_iter().map(table).collect::<String>() + "\n"
}

fn row(flag: &clap::Arg) -> String {
    let name = flag.get_long().unwrap();
    let value = match flag.get_value_names() {
        Some([value, ..]) if flag.get_action().takes_values() => format!(" {value}"),
        _ => String::new(),
    };
    let help = flag.get_long_help().or_else(|| flag.get_help()).unwrap().to_string();
    // Where the default is no fixed value, the help says what it is.
    let (meaning, said) = match help.trim().split_once("[default: ") {
        Some((meaning, default)) => {
            (meaning.trim().to_owned(), Some(default.trim_end_matches(']').to_owned()))
        }
        None => (help.trim().to_owned(), None),
    };
    let fixed = flag.get_default_values().first().filter(|_| !flag.is_hide_default_value_set());
    let default =
        said.or_else(|| fixed.map(|value| format!("`{}`", value.to_string_lossy()))).unwrap_or_default();
    assert!(!default.contains(']'), "--{name}: its default stands in the middle of its help");
    let cells = [
        format!("`--{name}{value}`<br>`{}`", flag.get_env().unwrap().to_string_lossy()),
        default.replace("--backend", "`--backend`"),
        meaning.replace('\n', " "),
        if name != "config" && lb::config::is_live(name) { "live".to_owned() } else { String::new() },
    ];
    format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
