//! The module graph of a crate, read from its source with `syn`.
//!
//! It follows `mod` to the files, and resolves `crate`, `self`, `super`, groups, aliases, re-exports and globs. It reads the paths in
//! `use`, in expressions, in types and in macros. It leaves out code under `#[cfg(test)]`: tests may import anything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use syn::buffer::Cursor;
use syn::visit::{self, Visit};

/// The path of a module below the root of its crate. It is empty for the root.
pub(super) type Name = Vec<String>;

/// The longest chain of aliases.
const HOPS: usize = 16;

/// Types that are written in lower case, as crates are.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16", "u32",
    "u64", "u128", "usize",
];

/// The modules of one crate.
#[derive(Default)]
pub(super) struct Graph(BTreeMap<Name, Module>);

#[derive(Default)]
struct Module {
    /// The names that it defines.
    items: HashSet<String>,
    /// Its imports, by their local names.
    aliases: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Every path in it, as written.
    paths: BTreeSet<Vec<String>>,
}

/// What a path means.
enum Target {
    Module(Name),
    /// An item that this module defines.
    Item(Name),
    /// A path into another crate.
    Extern(Vec<String>),
}

impl Graph {
    /// Reads the crate whose root is the file `root`.
    pub(super) fn read(root: &Path, source: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut graph = Graph::default();
        let folder = root.parent().unwrap_or(Path::new(""));
        graph.file(root, folder, Name::new(), source);
        graph
    }

    fn file(&mut self, path: &Path, folder: &Path, name: Name, source: &dyn Fn(&Path) -> Option<String>) {
        let text = source(path).unwrap_or_else(|| panic!("there is no {}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.module(file.items, folder, name, source);
    }

    /// Reads a module whose children have their files in `folder`.
    fn module(
        &mut self,
        items: Vec<syn::Item>,
        folder: &Path,
        name: Name,
        source: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut module = Module::default();
        for item in items {
            let syn::Item::Mod(child) = item else {
                module.visit_item(&item);
                continue;
            };
            if is_test(&child.attrs) {
                continue;
            }
            let word = child.ident.to_string();
            let inside = folder.join(&word);
            let child_name = below(&name, &word);
            match child.content {
                Some((_, items)) => self.module(items, &inside, child_name, source),
                None => {
                    let files = [folder.join(format!("{word}.rs")), inside.join("mod.rs")];
                    let file: PathBuf =
                        files.into_iter().find(|file| source(file).is_some()).unwrap_or(inside.clone());
                    self.file(&file, &inside, child_name, source);
                }
            }
        }
        self.0.insert(name, module);
    }

    /// Every path of a module, with the modules that pass the named item on and the module that defines it.
    pub(super) fn imports(&self) -> impl Iterator<Item = (&Name, Name, String)> {
        self.0.iter().flat_map(move |(from, module)| {
            module.paths.iter().flat_map(move |path| {
                let mut passed = Vec::new();
                match self.resolve(from, path, &mut passed) {
                    Target::Module(to) | Target::Item(to) => passed.push(to),
                    Target::Extern(_) => {}
                }
                passed.into_iter().map(move |to| (from, to, path.join("::")))
            })
        })
    }

    fn paths_below(&self, module: &[String]) -> impl Iterator<Item = (&Name, &Vec<String>)> {
        let below = self.0.iter().filter(move |(name, _)| name.starts_with(module));
        below.flat_map(|(name, module)| module.paths.iter().map(move |path| (name, path)))
    }

    /// The paths into other crates that `module` and the modules below it have.
    pub(super) fn foreign(&self, module: &[String]) -> BTreeSet<String> {
        let foreign = self.paths_below(module).filter_map(|(name, path)| {
            match self.resolve(name, path, &mut Vec::new()) {
                Target::Extern(path) => Some(path.join("::")),
                _ => None,
            }
        });
        // `Self::new`, `T::default` and `u32::MAX` lead nowhere.
        let is_crate = |path: &String| {
            let first = path.split("::").next().unwrap_or_default();
            first.starts_with(|letter: char| letter.is_ascii_lowercase()) && !PRIMITIVES.contains(&first)
        };
        foreign.filter(is_crate).collect()
    }

    /// What `path` means in `from`. Adds the modules that pass it on to `passed`.
    fn resolve(&self, from: &Name, path: &[String], passed: &mut Vec<Name>) -> Target {
        let up = path.iter().take_while(|word| *word == "super").count();
        let (base, rest) = match path.first().map(String::as_str) {
            Some("crate") => (Name::new(), &path[1..]),
            Some("self") => (from.clone(), &path[1..]),
            Some("super") => (from[..from.len().saturating_sub(up)].to_vec(), &path[up..]),
            Some(word) if self.knows(from, word) => (from.clone(), path),
            _ => return Target::Extern(path.to_vec()),
        };
        self.walk(base, rest, passed)
    }

    fn walk(&self, mut base: Name, path: &[String], passed: &mut Vec<Name>) -> Target {
        for (at, word) in path.iter().enumerate() {
            let child = below(&base, word);
            if self.0.contains_key(&child) {
                base = child;
                continue;
            }
            let Some(alias) = self.alias(&base, word) else { return Target::Item(base) };
            passed.push(base.clone());
            if passed.len() > HOPS {
                return Target::Extern(path.to_vec());
            }
            match self.resolve(&base, &alias, passed) {
                Target::Module(module) => base = module,
                Target::Extern(mut foreign) => {
                    foreign.extend_from_slice(&path[at + 1..]);
                    return Target::Extern(foreign);
                }
                item @ Target::Item(_) => return item,
            }
        }
        Target::Module(base)
    }

    /// Whether a path may begin with `word` in `module`.
    fn knows(&self, module: &Name, word: &str) -> bool {
        self.knows_by_name(module, word) || self.by_glob(module, word).is_some()
    }

    fn knows_by_name(&self, module: &Name, word: &str) -> bool {
        let is_item = self.0[module].items.contains(word);
        self.0.contains_key(&below(module, word)) || is_item || self.named(module, word).is_some()
    }

    /// What `word` stands for in `module`, if it is imported there.
    fn alias(&self, module: &Name, word: &str) -> Option<Vec<String>> {
        if self.0[module].items.contains(word) {
            return None;
        }
        self.named(module, word).cloned().or_else(|| self.by_glob(module, word))
    }

    fn named(&self, module: &Name, word: &str) -> Option<&Vec<String>> {
        // `use tokio::…` in a module that imports something called `tokio` means the crate.
        self.0[module].aliases.get(word).filter(|path| path.first().is_some_and(|first| first != word))
    }

    /// The path of a word that a glob import of the module may bring in.
    fn by_glob(&self, module: &Name, word: &str) -> Option<Vec<String>> {
        self.0[module].globs.iter().find_map(|glob| {
            let first = glob.first()?;
            let is_local =
                ["crate", "self", "super"].contains(&first.as_str()) || self.knows_by_name(module, first);
            let target = is_local.then(|| self.resolve(module, glob, &mut Vec::new()))?;
            let Target::Module(at) = target else { return None };
            let Module { items, aliases, .. } = &self.0[&at];
            let is_there = at != *module && (items.contains(word) || aliases.contains_key(word));
            is_there.then(|| [glob.as_slice(), &[word.to_owned()]].concat())
        })
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            return;
        }
        self.items.extend(defined(item));
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let tokens = syn::buffer::TokenBuffer::new2(call.tokens.clone());
        self.tokens(tokens.begin());
        visit::visit_macro(self, call);
    }
}

impl Module {
    /// Adds a path. A single word is a local name, and its import is seen elsewhere.
    fn add(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }

    fn import(&mut self, tree: &syn::UseTree, mut path: Vec<String>) {
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path.clone())),
            syn::UseTree::Name(name) => self.import_as(path, &name.ident.to_string(), None),
            syn::UseTree::Rename(name) => {
                self.import_as(path, &name.ident.to_string(), Some(name.rename.to_string()));
            }
            syn::UseTree::Glob(_) => {
                self.add(path.clone());
                self.globs.push(path);
            }
        }
    }

    fn import_as(&mut self, mut path: Vec<String>, name: &str, alias: Option<String>) {
        if name != "self" {
            path.push(name.to_owned());
        }
        if let Some(alias) = alias.or_else(|| path.last().cloned()) {
            self.aliases.insert(alias, path.clone());
        }
        self.add(path);
    }

    /// The paths among the tokens of a macro.
    fn tokens(&mut self, mut cursor: Cursor<'_>) {
        let mut path = Vec::new();
        while !cursor.eof() {
            if let Some((word, rest)) = cursor.ident() {
                path.push(word.to_string());
                match colons(rest) {
                    Some(after) => cursor = after,
                    None => {
                        self.add(std::mem::take(&mut path));
                        cursor = rest;
                    }
                }
                continue;
            }
            self.add(std::mem::take(&mut path));
            if let Some((inside, _, _, rest)) = cursor.any_group() {
                self.tokens(inside);
                cursor = rest;
            } else if let Some((_, rest)) = cursor.token_tree() {
                cursor = rest;
            }
        }
        self.add(path);
    }
}

/// What follows `::`, if that is next.
fn colons(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, rest) = cursor.punct()?;
    let (second, rest) = rest.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(rest)
}

fn below(name: &[String], word: &str) -> Name {
    [name, &[word.to_owned()]].concat()
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let is_test = |list: &syn::MetaList| list.path.is_ident("cfg") && list.tokens.to_string() == "test";
    attributes.iter().any(|attribute| attribute.meta.require_list().is_ok_and(is_test))
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}
