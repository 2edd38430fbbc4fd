//! Which module may import which.
//!
//! The compiler checks the walls between crates. These tests check the modules within a crate.

mod graph;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graph::Graph;
use rules::{ARROWS, IMPURE, NOUNS, PURE, PURE_CRATES, PURE_FOLDERS};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn from_disk(root: &Path) -> Graph {
    Graph::read(root, &|path| fs::read_to_string(path).ok())
}

/// `src/lib.rs` and `src/main.rs` of every crate below `folder`.
fn roots(folder: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.is_dir() && !name.starts_with('.') && name != "target" && name != "fuzz"
    };
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(ours);
    let mut roots: Vec<PathBuf> = folders.flat_map(|folder| roots(&folder)).collect();
    if folder.join("Cargo.toml").exists() {
        let files = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
        roots.extend(files.into_iter().filter(|file| file.exists()));
    }
    roots
}

/// Who imports whom among the children of one module, each child with all that is below it, and by which path.
type Siblings = BTreeMap<String, BTreeMap<String, String>>;

/// The imports of a crate, by the module whose children import each other.
///
/// A module and its own children may refer to each other, because a child adds methods to a type of its parent. So an import counts
/// between the two siblings that contain its ends. The root of a crate is the exception: it assembles the crate, and no module may
/// use what the root defines.
fn levels(graph: &Graph) -> BTreeMap<Vec<String>, Siblings> {
    let mut levels: BTreeMap<Vec<String>, Siblings> = BTreeMap::new();
    for (from, to, path) in graph.imports() {
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
            let level = levels.entry(from[..common].to_vec()).or_default();
            level
                .entry(a.clone())
                .or_default()
                .entry(b.clone())
                .or_insert(format!("{}: {path}", from.join("::")));
        } else if let (Some(a), true) = (from.first(), to.is_empty()) {
            let level = levels.entry(Vec::new()).or_default();
            level.entry(a.clone()).or_default().insert(a.clone(), format!("{}: {path}", from.join("::")));
        }
    }
    levels
}

/// The imports that form a circle among siblings, if there is one.
fn circle(siblings: &Siblings) -> Option<Vec<&str>> {
    siblings.keys().find_map(|start| {
        let mut paths = vec![(start, Vec::new())];
        let mut seen = BTreeSet::new();
        while let Some((at, path)) = paths.pop() {
            for (next, import) in siblings.get(at).into_iter().flatten() {
                let path = [path.as_slice(), &[import.as_str()]].concat();
                if next == start {
                    return Some(path);
                }
                if seen.insert(next) {
                    paths.push((next, path));
                }
            }
        }
        None
    })
}

fn circles(graph: &Graph) -> Vec<String> {
    let levels = levels(graph);
    levels.values().filter_map(circle).map(|circle| circle.join(", ")).collect()
}

/// Everything that `start` imports, directly or indirectly.
fn reach<'a>(siblings: &'a Siblings, start: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(at) = next.pop() {
        let imports = siblings.get(at).into_iter().flat_map(BTreeMap::keys).map(String::as_str);
        next.extend(imports.filter(|&import| reached.insert(import)));
    }
    reached
}

/// The imports of `graph` that [`ARROWS`] forbids.
fn against_the_arrows(graph: &Graph) -> Vec<String> {
    let levels = levels(graph);
    let root = levels.get(&Vec::new()).cloned().unwrap_or_default();
    let wrong = |(from, allowed): (&str, &[&str])| {
        let reached = reach(&root, from);
        let wrong: Vec<&str> = reached.into_iter().filter(|to| !allowed.contains(to)).collect();
        (!wrong.is_empty()).then(|| format!("{from} reaches {wrong:?}: {:?}", root[from]))
    };
    ARROWS.into_iter().filter_map(wrong).collect()
}

/// The paths in a pure module that it must not use.
fn impurities(graph: &Graph, module: &[&str]) -> Vec<String> {
    let is_pure = |path: &String| {
        let begins = |with: &str| {
            path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        PURE_CRATES.iter().any(|name| begins(name)) && !IMPURE.iter().any(|name| begins(name))
    };
    graph.foreign(&path_of(module)).into_iter().filter(|path| !is_pure(path)).collect()
}

fn lb() -> Graph {
    from_disk(&workspace().join("lb/src/lib.rs"))
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let roots = roots(&workspace());
    assert!(roots.len() > 5, "{roots:?}");
    let found = roots.iter().flat_map(|root| {
        let circles = circles(&from_disk(root));
        circles.into_iter().map(move |circle| format!("{}: {circle}", root.display()))
    });
    assert_eq!(found.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn the_modules_of_lb_import_in_the_agreed_directions() {
    let graph = lb();
    assert_eq!(against_the_arrows(&graph), Vec::<String>::new());
    let names: Vec<String> =
        levels(&graph).remove(&Vec::new()).into_iter().flatten().map(|(name, _)| name).collect();
    let is_free = |name: &str| ["config", "reload"].contains(&name);
    let is_missing = |name: &&String| !is_free(name) && ARROWS.iter().all(|(listed, _)| listed != name);
    assert_eq!(names.iter().find(is_missing), None, "a module without arrows in the list");
}

#[test]
fn pure_crates_and_modules_use_no_clock_and_no_io() {
    for folder in PURE_FOLDERS {
        let wrong = impurities(&from_disk(&workspace().join(folder).join("src/lib.rs")), &[]);
        assert!(wrong.is_empty(), "{folder} uses {wrong:?}");
    }
    let lb = lb();
    for module in PURE {
        let wrong = impurities(&lb, module);
        assert!(wrong.is_empty(), "{} uses {wrong:?}", module.join("::"));
        assert!(!lb.foreign(&path_of(module)).is_empty(), "there is no {}", module.join("::"));
    }
}

#[test]
fn a_provider_uses_only_the_nouns_of_the_fleet() {
    let used = lb().foreign(&path_of(&["provider"]));
    let of_the_fleet = used.iter().filter_map(|path| path.strip_prefix("fleet::")?.split("::").next());
    let others: Vec<&str> = of_the_fleet.clone().filter(|name| !NOUNS.contains(name)).collect();
    assert!(others.is_empty() && of_the_fleet.count() > 0, "{others:?}");
}

fn path_of(module: &[&str]) -> Vec<String> {
    module.iter().map(|&word| word.to_owned()).collect()
}

/// A crate of these files.
fn crate_of(files: &[(&str, &str)]) -> Graph {
    let find = |path: &Path| {
        files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    };
    Graph::read(Path::new("lib.rs"), &find)
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let imports = [
        "use crate::b::X;",
        "use crate::{b::{self, X}};",
        "use super::b;",
        "fn f() { crate::b::f() }",
        "type T = Vec<crate::b::X>;",
        "fn f() { println!(\"{}\", crate::b::f()) }",
        "use crate::c::X;",
        "use crate::c::*; type T = X;",
        "use crate::d as other; fn f() { other::f() }",
    ];
    for import in imports {
        let graph = crate_of(&[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a/mod.rs", "mod inner; pub fn f() {}"),
            ("a/inner.rs", &import.replace("super::b", "super::super::b")),
            ("b.rs", "pub struct X; pub fn f() { crate::a::f() }"),
            ("c.rs", "pub use crate::b::X;"),
            ("d.rs", "pub use crate::b::*;"),
        ]);
        assert!(!circles(&graph).is_empty(), "{import}");
    }
    let graph = crate_of(&[("lib.rs", "mod a; pub fn f() {}"), ("a.rs", "fn g() { crate::f() }")]);
    assert!(!circles(&graph).is_empty(), "a module uses what the root defines");
}

#[test]
fn a_test_may_import_what_it_likes_and_a_child_its_parent() {
    let graph = crate_of(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod child; pub use child::C; pub struct P;"),
        ("a/child.rs", "use super::P; pub struct C(P); #[cfg(test)] mod tests { use crate::b; }"),
        ("b.rs", "use crate::a::C; pub(crate) struct D(C);"),
    ]);
    assert_eq!(circles(&graph), Vec::<String>::new());
}

#[test]
fn a_forbidden_arrow_is_found_where_a_third_module_leads_to_it() {
    let graph = crate_of(&[
        ("lib.rs", "mod data; mod net; mod provider;"),
        ("data.rs", "use crate::net::N;"),
        ("net.rs", "pub struct N(crate::provider::P);"),
        ("provider.rs", "pub struct P;"),
    ]);
    let found = against_the_arrows(&graph);
    assert!(found.iter().any(|wrong| wrong.starts_with("data reaches [\"provider\"]")), "{found:?}");
}

#[test]
fn a_clock_is_found_behind_an_alias_and_within_a_macro() {
    let graph = crate_of(&[
        ("lib.rs", "mod fleet;"),
        (
            "fleet.rs",
            "use std::time; use proto::X; fn f(t: time::Instant) { select! { () = tokio::task::yield_now() => {} } }",
        ),
    ]);
    assert_eq!(impurities(&graph, &["fleet"]), ["std::time::Instant", "tokio::task::yield_now"]);
}
