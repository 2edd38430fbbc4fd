//! The golden vectors of docs/MAPPING.md, docs/mapping/vectors.json. A second implementation, in Python, makes them. Both
//! implementations have to agree with them.

#![cfg(test)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mapping::{Algorithm, Mapping, Member, Scheme, Seed, SlotsShape};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mapping")
}

/// What the Python program prints; `None` where there is no Python.
fn python(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("python3").arg(folder().join("verify.py")).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "python3 cannot be run: {error}");
            eprintln!("skipped: python3 cannot be run: {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

#[test]
fn the_implementation_in_python_agrees_with_the_vectors() {
    if let Some(said) = python(&[]) {
        println!("{said}");
        assert!(said.ends_with("all agree\n"), "{said}");
    }
}

#[test]
fn the_python_program_predicts_owners_as_documented() {
    let arguments = "owner --slot server1 --slot server2 --slot server3 132574 order-42";
    if let Some(said) = python(&arguments.split(' ').collect::<Vec<_>>()) {
        let page = fs::read_to_string(folder().join("../MAPPING.md")).unwrap();
        assert!(page.contains(&format!("docs/mapping/verify.py {arguments}\n{said}")), "{said}");
    }
}

/// What is in vectors.json, as docs/MAPPING.md describes it.
#[derive(Deserialize)]
struct Vectors {
    version: u32,
    hashes: Vec<HashVector>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct HashVector {
    bytes_hex: String,
    /// From a seed to the hash in hexadecimal.
    hashes: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Case {
    about: String,
    mapping: String,
    parameters: Parameters,
    seed: String,
    slots: Vec<Slot>,
    #[serde(default)]
    refused: bool,
    table_digest: Option<String>,
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Slot {
    index: u32,
    name: String,
    weight: u32,
}

/// Those of all mappings.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Parameters {
    points: u32,
    slots: u32,
    r#virtual: u32,
    probing: String,
    request_hash: String,
    server_hash: String,
}

#[derive(Deserialize)]
struct Key {
    key_hex: String,
    position: String,
    candidates: Vec<String>,
}

impl Vectors {
    fn read() -> Self {
        let text = fs::read_to_string(folder().join("vectors.json")).unwrap();
        let vectors: Vectors = serde_json::from_str(&text).unwrap();
        assert_eq!(vectors.version, 1);
        vectors
    }
}

impl Case {
    fn seed(&self) -> u64 {
        self.seed.parse().unwrap()
    }

    fn algorithm(&self) -> Algorithm {
        match self.mapping.as_str() {
            "ring" => Algorithm::Ring { points: self.parameters.points },
            "maglev" => Algorithm::Maglev,
            "rendezvous" => Algorithm::Rendezvous,
            "slots" => Algorithm::Slots(self.parameters.shape(&self.parameters.request_hash)),
            other => panic!("{}: {other} is no mapping", self.about),
        }
    }

    fn members(&self) -> Vec<Member> {
        self.slots
            .iter()
            .map(|slot| Member { index: slot.index, name: slot.name.clone(), weight: slot.weight })
            .collect()
    }
}

/// `None` if it is refused.
fn build(algorithm: Algorithm, seed: u64, members: &[Member]) -> Option<Mapping> {
    Mapping::build(&Scheme { algorithm, seed: Seed(seed) }, members).ok()
}

impl Parameters {
    fn shape(&self, request_hash: &str) -> SlotsShape {
        SlotsShape {
            entries: self.slots,
            virtuals: self.r#virtual,
            probing: self.probing.parse().unwrap(),
            request_hash: request_hash.parse().unwrap(),
            server_hash: self.server_hash.parse().unwrap(),
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// A key's position on a ring is its hash.
#[test]
fn hashes_are_those_of_the_vectors() {
    for HashVector { bytes_hex, hashes } in Vectors::read().hashes {
        let seeds = hashes.keys().map(|seed| seed.parse().unwrap());
        for seed in seeds {
            let ring = build(Algorithm::Ring { points: 1 }, seed, &[]).unwrap();
            let hash = ring.locate(&bytes(&bytes_hex)).hash;
            assert_eq!(format!("{hash:016x}"), hashes[&seed.to_string()], "{bytes_hex}, seed {seed}");
        }
    }
}

#[test]
fn keys_fall_where_the_vectors_say_and_try_the_same_candidates() {
    let mut checked = 0;
    for case in Vectors::read().cases {
        let mapping = build(case.algorithm(), case.seed(), &case.members());
        assert_eq!(mapping.is_none(), case.refused, "{} ({})", case.about, case.mapping);
        let Some(mapping) = mapping else { continue };
        for key in &case.keys {
            let what = format!("{} ({}): key {}", case.about, case.mapping, key.key_hex);
            let sent = bytes(&key.key_hex);
            assert_eq!(mapping.locate(&sent).position.to_string(), key.position, "{what}");
            let tried: Vec<&str> =
                mapping.candidates(&sent).map(|ordinal| case.slots[ordinal].name.as_str()).collect();
            assert_eq!(tried, key.candidates, "{what}");
            checked += 1;
        }
    }
    println!("{checked} keys agree");
    assert!(checked > 200, "{checked}");
}

#[test]
fn every_entry_of_a_table_has_the_owner_of_the_vectors() {
    let mut known = HashMap::new();
    let mut checked = 0;
    for case in Vectors::read().cases {
        let Some(digest) = &case.table_digest else { continue };
        let owners = match case.mapping.as_str() {
            "maglev" => owners_in_maglev(&case, known.entry(case.seed()).or_default()),
            "slots" => owners_in_slots(&case),
            other => panic!("{other} has no table"),
        };
        assert_eq!(format!("{:016x}", xxh3_64(&owners)), *digest, "{} ({})", case.about, case.mapping);
        checked += 1;
    }
    println!("{checked} tables agree");
    assert!(checked > 6, "{checked}");
}

/// The place of a key's owner in the case's list.
fn owner(mapping: &Mapping, key: &str) -> u8 {
    mapping.candidates(key.as_bytes()).next().unwrap().try_into().unwrap()
}

/// With H(i) = i the key "7" falls on position 7, unless a seed makes another number of it. A seed moves no entries.
fn owners_in_slots(case: &Case) -> Vec<u8> {
    let mapping = build(Algorithm::Slots(case.parameters.shape("i")), 0, &case.members()).unwrap();
    (0..case.parameters.slots).map(|position| owner(&mapping, &position.to_string())).collect()
}

/// The table is private, so a key is needed for each entry; `known` keeps them once they are found.
fn owners_in_maglev(case: &Case, known: &mut Vec<String>) -> Vec<u8> {
    const ENTRIES: usize = 65_537;
    let mapping = build(Algorithm::Maglev, case.seed(), &case.members()).unwrap();
    if known.is_empty() {
        known.resize(ENTRIES, String::new());
        let mut missing = ENTRIES;
        for key in (0_u32..).map(|id| id.to_string()) {
            let entry = &mut known[usize::try_from(mapping.locate(key.as_bytes()).position).unwrap()];
            if entry.is_empty() {
                *entry = key;
                missing -= 1;
            }
            if missing == 0 {
                break;
            }
        }
    }
    known.iter().map(|key| owner(&mapping, key)).collect()
}
