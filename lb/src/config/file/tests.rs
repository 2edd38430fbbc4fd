use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use clap::CommandFactory as _;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::config::args::{Cli, Subcommand};
use crate::config::reading::layered;
use crate::config::{Config, Serve, Setting, Shown};

/// A folder with this configuration file.
fn folder(text: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lb.toml"), text).unwrap();
    folder
}

/// What a command line with this file comes to, without any variable.
fn flags(text: impl AsRef<[u8]>, words: &[&str]) -> (Serve, String) {
    let folder = folder(text);
    let path = folder.path().join("lb.toml");
    let words: Vec<OsString> = ["lb", "--config"]
        .iter()
        .map(OsString::from)
        .chain([path.clone().into()])
        .chain(words.iter().map(OsString::from))
        .collect();
    let command = Cli::command().mut_args(|arg| arg.env(None::<&'static str>));
    (layered(&command, &words).unwrap().serve, format!("{}:", path.display()))
}

fn good(text: &str, words: &[&str]) -> Config {
    Config::check(flags(text, words).0).unwrap_or_else(|problems| panic!("{text}: {problems}"))
}

/// The problems with this file, without its name.
#[track_caller]
fn problems(text: impl AsRef<[u8]>, words: &[&str]) -> Vec<String> {
    let (serve, name) = flags(text, words);
    let problems = Config::check(serve).expect_err("this is fine").to_string();
    problems.lines().map(|line| line.strip_prefix(&name).unwrap_or(line).to_owned()).collect()
}

fn settings(text: &str, words: &[&str]) -> BTreeMap<String, Setting> {
    let settings = flags(text, words).0.settings().unwrap();
    settings.into_iter().map(|setting| (setting.key.clone(), setting)).collect()
}

#[test]
fn a_key_counts_flat_in_its_table_and_by_its_short_name() {
    for text in [
        "health-interval = \"40ms\"\nmapping = \"slots\"\nslots = 64\nallow = [\"10.0.0.0/8\", \"::1\"]\nkeep = false",
        "[health]\ninterval = \"40ms\"\n[mapping]\nmapping = \"slots\"\nslots = 0x40\n[limits]\nallow = [\"10.0.0.0/8\", \"::1\"]",
        "health.health-interval = \"40ms\"\r\nmapping = { mapping = 'slots', slots = '64' }\r\nlimits.allow = '10.0.0.0/8 ::1'\r\n",
    ] {
        let config = good(text, &[]);
        assert_eq!(config.health.interval.as_millis(), 40, "{text}");
        assert_eq!(config.admission.allow.len(), 2, "{text}");
        assert!(format!("{:?}", config.mapping.scheme).contains("64"), "{text}");
    }
}

#[test]
fn backends_are_texts_or_tables() {
    let rest = "provider = 'fixed'\n";
    let flat = good(&format!("{rest}backend = ['a=h:1', 'b=h:2,weight=3']"), &[]);
    let tables = good(
        &format!(
            "{rest}[[backend]]\nname='a'\naddress='h:1'\n[[backend]]\nname='b'\naddress='h:2'\nweight=3"
        ),
        &[],
    );
    assert_eq!((flat.source, flat.slots), (tables.source, tables.slots));
    let found = problems(
        "provider = 'fixed'\n[[backend]]\nname='a'\n[[backend]]\nname='b,c=h:1'\naddress='h:2'\n[[backend]]\nname='d'\naddres='h'\naddress='h'\nweight=1.5\n[[backend]]\nname='e'\naddress='h'\nweight=101",
        &[],
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    assert_eq!(found[0], "2:1: backend: address is missing: expected address = \"...\" in [[backend]]");
    assert_eq!(
        found[1],
        "5:6: backend: name is a string with commas or spaces: expected a string without commas and spaces"
    );
    assert_eq!(found[2], "9:1: unknown key `addres` in [[backend]]: the nearest is `address`");
    assert!(found[3].starts_with("12:1: backend: invalid value `e=h`: expected "), "{found:#?}");
    assert!(found[4].starts_with("12:1: backend: invalid value `weight=101`: expected "), "{found:#?}");
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let text = "replicas = 2\nspares = 1\ncontrol-token = 'secret'\nallow = ['10.0.0.0/8']";
    let settings = settings(text, &["--replicas", "4"]);
    let of =
        |key: &str| (settings[key].value.clone(), settings[key].from.rsplit('/').next().unwrap().to_owned());
    let one = |text: &str| Shown::One(Some(text.to_owned()));
    assert_eq!(of("replicas"), (one("4"), "flag".to_owned()));
    assert_eq!(of("spares"), (one("1"), "lb.toml:2".to_owned()));
    assert_eq!(of("fall"), (one("2"), "default".to_owned()));
    assert_eq!(of("workers"), (Shown::One(None), "default".to_owned()));
    assert_eq!(of("control-token"), (Shown::Secret { secret: true }, "lb.toml:3".to_owned()));
    assert_eq!(of("allow"), (Shown::Several(vec!["10.0.0.0/8".to_owned()]), "lb.toml:4".to_owned()));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
replicas = \"many\"
listen = 5000
helth = \"tcp\"
env = [\"A=1\", 7]
[limits]
allow = [\"10.0.0.0/8\", \"nowhere\"]
fall = 3
[health]
intervall = \"5s\"
timeout = \"5\"
rise = true
";
    let found = problems(text, &["--workers", "0"]);
    let expected = [
        "1:12: replicas: invalid value `many`: expected a whole number from 0 to 1000",
        "2:10: listen: it is an integer: expected a string (ADDR|:PORT|unix:PATH, such as \"0.0.0.0:5000\"), or an array of them",
        "3:1: unknown key `helth`: the nearest is `health`",
        "4:7: env: it goes with --provider docker and swarm only",
        "4:15: env: it is an integer: expected a string (NAME[=VALUE]), or an array of them",
        "6:24: allow: invalid value `nowhere`: expected a network or an address, such as",
        "7:1: fall: it is no key of [limits]: expected it in [health], or before all tables",
        "9:1: unknown key `intervall` in [health]: the nearest is `interval`",
        "10:11: health-timeout: invalid value `5`: expected a duration of at least 1ms",
        "11:8: rise: it is a boolean: expected a number or a string (N, such as \"1\")",
        "--workers: invalid value `0`: expected a whole number from 1 to 256",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn a_key_that_is_given_twice_is_told_with_both_places() {
    for (text, expected) in [
        (
            "health-interval = '1s'\n[health]\ninterval = '2s'",
            "3:1: health-interval: it is given at 1:1 already; give it once",
        ),
        (
            "[health]\nhealth-interval = '1s'\n  interval = '2s'",
            "3:3: health-interval: it is given at 2:1 already; give it once",
        ),
        (
            "backend = ['a=h:1']\nprovider = 'fixed'\n[[replicas.backend]]\nname='b'\naddress='h:2'",
            "3:12: backend: it is given at 1:1 already; give it once",
        ),
    ] {
        assert_eq!(problems(text, &[]), [expected]);
    }
    let found = problems("fall = 1\nfall = 2", &[]);
    assert!(found.len() == 1 && found[0].starts_with("2:1: this is no TOML: duplicate key"), "{found:?}");
}

#[test]
fn what_two_keys_are_together_is_told_with_a_place() {
    let found = problems("# no backend\nprovider = 'fixed'", &[]);
    assert_eq!(
        found,
        [
            "2:12: --backend: provider fixed takes at least one --backend NAME=HOST:PORT, or --backends-file FILE"
        ]
    );
    let found = problems("spares = 1", &["--provider", "fixed", "--backend", "a=h:1"]);
    assert_eq!(
        found,
        ["1:10: spares: fixed addresses cannot be started, so there can be no spares; leave it at 0"]
    );
}

#[test]
fn a_value_that_holds_nothing_is_refused() {
    assert_eq!(
        problems("control = []", &[]),
        ["1:11: control: the array is empty: expected at least one value"]
    );
    assert_eq!(
        problems("journal = ''", &[]),
        ["1:11: journal: invalid value ``: expected the name of a file or folder"]
    );
    assert_eq!(problems("limits = 3", &[]), ["1:1: limits: it is a table: expected [limits] and its keys"]);
    assert_eq!(problems("config = 'b'\nsplice-pipe = 5", &[]).len(), 2);
    good("allow = []", &[]);
}

#[test]
fn an_unknown_table_is_offered_the_nearest_table() {
    assert_eq!(problems("[limit]\nallow = []", &[]), ["1:2: unknown table [limit]: the nearest is [limits]"]);
    let found = problems(format!("a = {}", "[".repeat(1000)), &[]);
    assert!((1..3).contains(&found.len()), "{found:?}");
}

#[test]
fn a_secret_is_in_no_message() {
    for text in [
        "control-token = 31337",
        "control-token = ['31337']",
        "hash-seed = '31337x'",
        "control-token = '31337",
        "hash-seed = [31337]",
        "env = ['31337=31337']\ncontrol-token = '31337'\nfall = 0",
    ] {
        let found = problems(text, &[]).join("\n");
        assert!(
            !found.is_empty()
                && !found.contains("31337x")
                && (!found.contains("31337") || text.starts_with("env")),
            "{text}: {found}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let cases: [(&[u8], &str); 3] = [
        (b"\xef\xbb\xbffall = 1", "begins with a byte order mark: expected UTF-8 without one"),
        (b"# a\nlog = '\xff'", "is not UTF-8 from byte 12 (line 2) on: expected a file in UTF-8"),
        (&[b'#'; (1 << 20) + 1], "is longer than 1048576 bytes: expected a smaller file"),
    ];
    for (bytes, expected) in cases {
        let found = problems(bytes, &[]);
        assert!(
            found.len() == 1 && found[0].starts_with("--config: ") && found[0].ends_with(expected),
            "{found:?}"
        );
    }
    assert_eq!(problems(b"fall = 1\rrise = 1", &[]).len(), 1);
    assert_eq!(problems(b"a\nb\n[c", &[]).len(), 3);
}

#[test]
fn the_file_counts_for_serve_check_and_config_only() {
    let folder = folder("replicas = 2");
    let path = folder.path().join("lb.toml");
    let command = Cli::command();
    for name in ["serve", "check", "config"] {
        let words: Vec<OsString> = vec!["lb".into(), name.into(), "--config".into(), path.clone().into()];
        let mut cli = layered(&command, &words).unwrap();
        let serve = match cli.command.take() {
            Some(Subcommand::Serve(serve) | Subcommand::Check(serve)) => *serve,
            Some(Subcommand::Config(flags)) => flags.serve,
            _ => panic!("{name}"),
        };
        assert_eq!(Config::check(serve).unwrap().slots.len(), 2, "{name}");
    }
}

proptest! {
    /// No text, however wrong, ends the process or is read without a word about what is wrong with it.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-z-]{1,12} = |\\[|\\]|\"|'|[0-9]{1,4}|true|\\n|\\{|\\}|,|#|health|fall|backend|é| ){0,24}") {
        let (serve, name) = flags(&text, &[]);
        if let Err(problems) = Config::check(serve) {
            for problem in problems.to_string().lines() {
                prop_assert!(problem.starts_with(&name), "{}", problem);
            }
        }
    }
}
