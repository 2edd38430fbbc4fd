//! docs/SECURITY.md lists the calls to an engine that `lb` makes, for proxies in front of its socket. The list is that of the code:
//! each call there has its method and path as a name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ENGINE: &str = "src/provider/engine";
/// What both providers use.
const SHARED: [&str; 2] = ["call.rs", "network.rs"];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The texts between pairs of `quote`, of those that are calls. Names and ids are the same to a proxy.
fn calls(text: &str, quote: char) -> BTreeSet<String> {
    let is_call = |text: &&str| {
        let method = text.split_once(" /").map(|(method, _)| method);
        method.is_some_and(|method| ["GET", "HEAD", "POST", "PUT", "DELETE"].contains(&method))
    };
    let quoted = text.lines().flat_map(|line| line.split(quote).skip(1).step_by(2));
    quoted.filter(is_call).map(|call| call.replace("/NAME", "/ID")).collect()
}

/// The calls of a provider in the code, without its tests.
fn in_the_code(provider: &str) -> BTreeSet<String> {
    let own = fs::read_dir(here(ENGINE).join(provider)).unwrap().map(|entry| entry.unwrap().path());
    let own = own.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let files = own.chain(SHARED.map(|file| here(ENGINE).join(file)));
    files
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            calls(text.split("#[cfg(test)]").next().unwrap(), '"')
        })
        .collect()
}

/// The calls in the table of a provider.
fn in_the_page(provider: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(here("../docs/SECURITY.md")).unwrap();
    let (_, table) = page.split_once(&format!("| `--provider {provider}` asks |")).unwrap();
    calls(table.split("\n\n").next().unwrap(), '`')
}

#[test]
fn the_page_lists_the_calls_that_the_code_makes_and_no_others() {
    for provider in ["docker", "swarm"] {
        let (code, page) = (in_the_code(provider), in_the_page(provider));
        assert!(code.len() > 10, "{provider}: {code:?}");
        let missing: Vec<_> = code.difference(&page).collect();
        let idle: Vec<_> = page.difference(&code).collect();
        assert!(missing.is_empty() && idle.is_empty(), "{provider}: missing {missing:?}, not made {idle:?}");
    }
}
