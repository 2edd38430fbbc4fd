//! The configuration file: what it says counts, less than a flag or variable; what is wrong with it is told at once, and nothing is bound.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use lb::config::Cli;
use serde_json::{Value, json};
use tempfile::TempDir;
use toml::de::{DeTable, DeValue};

use crate::flags::{command, end, taken};
use crate::harness::Lb;

/// A configuration file, and its name.
fn file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.toml");
    fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (folder, name)
}

/// The lines of `lb config`, by key: value, and where it comes from.
fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
    let (code, stdout, stderr) = end(command(&[&["config"], arguments].concat(), environment));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    let cell = |cell: &str| Some(cell.trim().to_owned()).filter(|cell| !cell.is_empty());
    let lines = stdout.lines().map(|line| line.split("  ").filter_map(cell).collect::<Vec<_>>());
    lines.map(|cells| (cells[0].clone(), (cells[1].clone(), cells[2].clone()))).collect()
}

/// The flags of `lb serve --help` that have a variable, but the one that names the file: name, default, whether it takes a value.
fn flags() -> Vec<(String, Option<String>, bool)> {
    let mut cli = Cli::command();
    cli.build();
    let serve = cli.find_subcommand("serve").unwrap();
    let all = serve.get_arguments().filter(|flag| !flag.is_hide_set() && flag.get_env().is_some());
    let default = |flag: &clap::Arg| Some(flag.get_default_values().first()?.to_str()?.to_owned());
    let flags = all
        .map(|flag| (flag.get_long().unwrap().to_owned(), default(flag), flag.get_action().takes_values()));
    flags.filter(|(name, ..)| name != "config").collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let (_folder, name) = file("replicas = 2\nspares = 2\nfall = 4\n[health]\nrise = 5\n");
    let arguments = ["--config", &name, "--replicas", "6"];
    let found =
        settings(&arguments, &[("LB_REPLICAS", "7"), ("LB_SPARES", "8"), ("LB_HEALTH_TIMEOUT", "9s")]);
    for (key, value, from) in [
        ("replicas", "6", "flag"),
        ("spares", "8", "variable LB_SPARES"),
        ("health-timeout", "9s", "variable LB_HEALTH_TIMEOUT"),
        ("fall", "4", &format!("{name}:3")),
        ("rise", "5", &format!("{name}:5")),
        ("health-interval", "500ms", "default"),
        ("workers", "-", "default"),
    ] {
        assert_eq!(found[key], (value.to_owned(), from.to_owned()), "{key}");
    }
    assert_eq!(found.len(), flags().len());
    // The file may be named by a variable, and a flag goes before it.
    assert_eq!(settings(&[], &[("LB_CONFIG", &name)])["fall"].0, "4");
    assert_eq!(settings(&["--config", &name], &[("LB_CONFIG", "/nowhere")])["fall"].0, "4");
    let (code, stdout, _) = end(command(&["config", "--json", "--config", &name], &[]));
    let list: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, list.len()), (Some(0), flags().len()));
    let expected = json!({"key": "fall", "value": "4", "from": format!("{name}:3")});
    assert!(list.contains(&expected), "{stdout}");
}

#[test]
fn lb_serves_what_the_file_says() {
    let (_folder, name) = file(
        "replicas = 2\r\n[ports]\r\nlisten = \"127.0.0.1:0\"\r\ncontrol = [\"127.0.0.1:0\"]\r\n[log]\r\nformat = \"json\"\r\n",
    );
    for arguments in [&["--config", &name][..], &["serve", "--config", &name]] {
        let mut command = command(arguments, &[]);
        command.env("PATH", "/usr/bin:/bin");
        let lb = Lb::launch_as(command);
        lb.wait_for_log("ready data=");
        assert_eq!(lb.hostnames(), ["server1", "server2"]);
        assert!(lb.log().iter().all(|line| line.starts_with('{')), "{:?}", lb.log());
    }
}

#[test]
fn all_errors_are_told_at_once_with_line_and_column_and_nothing_is_bound() {
    let (_listener, address) = taken();
    let (_folder, name) = file(&format!(
        "listen = \"{address}\"\nreplica = 3\nfall = 0\n\n[limits]\nallow = [\"::1\", \"here\"]\nidle-timeout = \"1s\"\n[health]\n  interval = 5\n"
    ));
    let expected = [
        "2:1: unknown key `replica`: the nearest is `replicas`",
        "3:8: fall: invalid value `0`: expected a whole number from 1 to 1000",
        "6:17: allow: invalid value `here`: expected a network or an address, such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
        "7:1: idle-timeout: it is no key of [limits]: expected it in [connections], or before all tables",
        "9:14: health-interval: it is an integer: expected a string (DURATION, such as \"500ms\")",
    ];
    for arguments in [
        &["--config", &name][..],
        &["serve", "--config", &name],
        &["check", "--config", &name],
        &["config", "--config", &name],
    ] {
        let (code, stdout, message) = end(command(arguments, &[("LB_SPARES", "many")]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {message}");
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines.len(), 2 + expected.len(), "{message}");
        assert_eq!(lines[0], "error: the configuration is wrong");
        for (line, expected) in lines[1..].iter().zip(expected) {
            assert_eq!(*line, format!("{name}:{expected}"));
        }
        assert!(lines[6].starts_with("LB_SPARES: invalid value `many`: "), "{message}");
    }
}

#[test]
fn a_check_exits_with_0_or_2_and_binds_nothing() {
    let (_listener, address) = taken();
    let (_folder, name) =
        file(&format!("listen = \"{address}\"\ncontrol-token = \"geheim\"\nhash-seed = 31337\n"));
    let (code, stdout, stderr) = end(command(&["check", "--config", &name], &[]));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "the configuration is right\n", ""));
    // Only `serve` finds out that the port is in use. It names the place of the key.
    let (code, _, message) = end(command(&["--config", &name], &[("LB_CONTROL", "127.0.0.1:0")]));
    let expected = format!("error: {name}:1:10: cannot listen on {address} (listen): Address already in use");
    assert!(code == Some(1) && message.starts_with(&expected), "{message}");
    assert_eq!(end(command(&["check", "--listen", "nowhere"], &[])).0, Some(2));
    for arguments in [&["config", "--config", &name][..], &["config", "--config", &name, "--json"]] {
        let (code, stdout, _) = end(command(arguments, &[]));
        assert_eq!(code, Some(0));
        assert!(
            !stdout.contains("geheim") && !stdout.contains("31337") && stdout.contains("hash-seed"),
            "{stdout}"
        );
    }
}

#[test]
fn a_file_that_is_none_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new("mkfifo").arg(name("pipe")).status().unwrap();
    assert!(made.success());
    fs::write(folder.path().join("bytes"), b"fall = 2\nlog = \"\xc3\x28\"").unwrap();
    fs::write(folder.path().join("mark"), "\u{feff}fall = 2").unwrap();
    fs::write(folder.path().join("large"), vec![b'#'; (1 << 20) + 1]).unwrap();
    for (file, expected) in [
        ("", "is a directory: expected a file"),
        ("pipe", "is a pipe, socket or device: expected a regular file"),
        ("missing", "cannot be read: No such file or directory"),
        ("bytes", "is not UTF-8 from byte 17 (line 2) on: expected a file in UTF-8"),
        ("mark", "begins with a byte order mark: expected UTF-8 without one"),
        ("large", "is longer than 1048576 bytes: expected a smaller file"),
    ] {
        let name = name(file);
        let (code, stdout, message) = end(command(&["check", "--config", &name], &[]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{message}");
        assert!(message.contains(&format!("\n--config: {name} {expected}")), "{message}");
        let (code, _, message) = end(command(&["check"], &[("LB_CONFIG", &name)]));
        assert!(code == Some(2) && message.contains(&format!("\nLB_CONFIG: {name} {expected}")), "{message}");
    }
}

#[test]
fn every_flag_can_be_set_by_the_file() {
    let flags = flags();
    assert!(flags.len() > 60, "{}", flags.len());
    // All that have a default, with this default.
    let value = |default: &str, takes_value: bool| {
        if takes_value { format!("'{default}'") } else { default.to_owned() }
    };
    let lines =
        flags.iter().filter_map(|(name, default, takes)| Some((name, value(default.as_ref()?, *takes))));
    let lines: Vec<(&String, String)> = lines.collect();
    let text: Vec<String> = lines.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let (_folder, path) = file(&text.join("\n"));
    let found = settings(&["--config", &path], &[]);
    for (at, (name, _)) in lines.iter().enumerate() {
        assert_eq!(found[*name].1, format!("{path}:{}", at + 1), "{name}");
    }
    // The others: either a text holds, or it is refused with the place and the key.
    for (name, ..) in flags.iter().filter(|(_, default, _)| default.is_none()) {
        let (_folder, path) = file(&format!("\n{name} = '?'"));
        let (code, stdout, message) = end(command(&["config", "--config", &path], &[]));
        let holds = stdout.lines().any(|line| line.starts_with(name) && line.ends_with(&format!("{path}:2")));
        let column = name.len() + 4;
        let is_refused = message.contains(&format!("\n{path}:2:{column}: {name}: "));
        assert!(if code == Some(0) { holds } else { is_refused }, "{name}: {stdout}{message}");
    }
}

#[test]
fn the_schema_of_flags_is_up_to_date() {
    let page = root().join("docs/lb.schema.json");
    let (code, made, _) = end(command(&["config", "--schema"], &[]));
    assert_eq!(code, Some(0));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&page).unwrap() == made,
        "docs/lb.schema.json is out of date: run `UPDATE_DOCS=1 cargo test -p lb --test it flags_is`"
    );
    let schema: Value = serde_json::from_str(&made).unwrap();
    for (name, ..) in flags() {
        let definition = &schema["definitions"][&name];
        assert!(definition["description"].is_string(), "{name}: {definition}");
        assert!(schema["properties"][&name].is_object(), "{name}");
    }
    let page = fs::read_to_string(root().join("docs/CONFIG.md")).unwrap();
    let tables = schema["definitions"].as_object().unwrap().keys().filter(|name| name.starts_with('['));
    for table in tables {
        assert!(page.contains(&format!("`{table}`")), "docs/CONFIG.md does not name {table}");
    }
}

#[test]
fn the_example_fits_the_schema_and_is_right() {
    let path = root().join("packaging/lb.toml");
    let check = |path: &Path| {
        let (code, _, message) = end(command(&["check", "--config", path.to_str().unwrap()], &[]));
        assert_eq!(code, Some(0), "{message}");
    };
    check(&path);
    let schema: Value = serde_json::from_str(&end(command(&["config", "--schema"], &[])).1).unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(misfit(&schema, &schema, &document(&text)), None);
    // With all that it offers.
    let whole: Vec<&str> = text.lines().map(uncommented).collect();
    let (whole, folder) = (whole.join("\n"), TempDir::new().unwrap());
    assert_eq!(misfit(&schema, &schema, &document(&whole)), None);
    assert!(whole.contains("\nidle-timeout = ") && whole.contains("\nrise = "), "{whole}");
    let here = |name: &str| folder.path().join(name).display().to_string();
    fs::write(here("token"), "a-secret-of-many-letters\n").unwrap();
    fs::write(
        here("lb.toml"),
        whole.replace("/etc/lb/token", &here("token")).replace("/var/log/lb", &here("")),
    )
    .unwrap();
    check(&folder.path().join("lb.toml"));
    for (wrong, at) in [
        ("replica = 3", "replica"),
        ("replicas = true", "replicas"),
        ("keep = 'yes'", "keep"),
        ("on-down = 'never'", "on-down"),
        ("[health]\nintervall = '1s'", "health.intervall"),
        ("[limits]\nallow = [1]", "limits.allow"),
        ("[[backend]]\nname = 'a'", "backend"),
        ("limits = 3", "limits"),
    ] {
        assert_eq!(misfit(&schema, &schema, &document(wrong)).as_deref(), Some(at), "{wrong}");
    }
}

/// A line with a setting that is commented out, with the setting.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix("# ") {
        Some(setting) if setting.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => setting,
        _ => line,
    }
}

/// A TOML document as JSON.
fn document(text: &str) -> Value {
    let table = DeTable::parse(text).unwrap();
    json_of(&DeValue::Table(table.into_inner()))
}

fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref()))).collect()
        }
        DeValue::Array(values) => values.iter().map(|value| json_of(value.get_ref())).collect(),
        DeValue::Boolean(given) => json!(given),
        DeValue::Integer(number) => json!(i64::from_str_radix(number.as_str(), number.radix()).unwrap()),
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().unwrap()),
        DeValue::String(text) => json!(text),
        DeValue::Datetime(time) => json!(time.to_string()),
    }
}

/// Where a value does not fit a schema, for the words that our schema uses. It knows no others, and says so.
fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let whole = Some(String::new());
    for (word, rule) in schema.as_object().unwrap() {
        let found = match word.as_str() {
            "$schema" | "title" | "description" | "default" | "definitions" => None,
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                let name = name.replace("%5B", "[").replace("%5D", "]");
                misfit(root, root["definitions"].get(&name).unwrap_or_else(|| panic!("no {name}")), value)
            }
            "type" if rule.is_array() => {
                rule.as_array().unwrap().iter().all(|kind| !is(value, kind)).then(String::new)
            }
            "type" => (!is(value, rule)).then(String::new),
            "enum" => (!rule.as_array().unwrap().contains(value)).then(String::new),
            "anyOf" => {
                let mut misfits =
                    rule.as_array().unwrap().iter().map(|one| misfit(root, one, value)).collect::<Vec<_>>();
                // The one that got deepest says most.
                misfits.sort_by_key(|misfit| misfit.as_ref().map_or(0, |at| 1 + at.len()));
                if misfits.contains(&None) { None } else { misfits.pop().unwrap() }
            }
            "items" => {
                value.as_array().and_then(|values| values.iter().find_map(|one| misfit(root, rule, one)))
            }
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .find(|key| value.get(key.as_str().unwrap()).is_none())
                .and(whole.clone()),
            "minimum" => (value.as_f64() < rule.as_f64()).then(String::new),
            "maximum" => (value.as_f64() > rule.as_f64()).then(String::new),
            "additionalProperties" => {
                let known = &schema["properties"];
                let names = value.as_object().into_iter().flat_map(|object| object.keys());
                names.into_iter().find(|name| known.get(name).is_none()).cloned()
            }
            "properties" => value.as_object().and_then(|object| {
                object.iter().find_map(|(name, value)| {
                    let deeper = misfit(root, rule.get(name)?, value)?;
                    Some(if deeper.is_empty() { name.clone() } else { format!("{name}.{deeper}") })
                })
            }),
            other => panic!("this check knows no {other}"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64(),
        other => panic!("this check knows no {other}"),
    }
}
