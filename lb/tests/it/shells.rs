//! Completions in a real bash, zsh and fish, manual pages through a real `man`, and `lb help`.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::control::calm;
use crate::harness::eventually;

const LB: &str = env!("CARGO_BIN_EXE_lb");

/// What bash offers for the last of these words, in the order of the alphabet.
fn offered(words: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    // As readline does: it calls the function that was registered for `lb`.
    let script = r#"
        source <("$1" completions bash) || exit 1
        shift
        function=$(complete -p lb | grep -o '_clap_complete[a-z_]*') || exit 1
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        "$function" lb "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash", LB, "lb"]).args(words);
    let output = bash.envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let offered = String::from_utf8(output.stdout).unwrap();
    let mut offered: Vec<String> =
        offered.lines().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect();
    offered.sort();
    offered
}

/// What bash offers, without the flags.
fn names(words: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    offered(words, environment).into_iter().filter(|word| !word.starts_with('-')).collect()
}

#[test]
fn bash_offers_commands_flags_and_values() {
    assert_eq!(offered(&["expl"], &[]), ["explain"]);
    assert!(!offered(&[""], &[]).contains(&"guard".to_owned()), "hidden commands are not offered");
    assert_eq!(offered(&["rm", "--dr"], &[]), ["--drain"]);
    assert_eq!(names(&["completions", ""], &[]), ["bash", "fish", "zsh"]);
    assert!(offered(&["serve", "--health-"], &[]).contains(&"--health-interval".to_owned()));
}

#[test]
fn bash_offers_the_slots_and_replicas_of_the_lb_that_runs() {
    let lb = calm(&["--replicas", "2", "--control-token", "secret"]);
    let control = lb.control.to_string();
    let environment = [("LB_CONTROL", control.as_str()), ("LB_CONTROL_TOKEN", "secret")];
    assert_eq!(names(&["kill", ""], &environment), ["server1", "server2"]);
    assert_eq!(names(&["rm", "1", "server2"], &environment), ["server2"]);
    assert_eq!(names(&["plan", "rm", "s"], &environment), ["server1", "server2"]);
    assert_eq!(names(&["add", ""], &environment), [""; 0], "an add takes new names");
    // What is typed counts for more than the environment.
    let typed = ["rm", "--control", &control, "--control-token", "secret", ""];
    assert_eq!(names(&typed, &[("LB_CONTROL", "127.0.0.1:1")]), ["server1", "server2"]);
    // After a death, the slot and the replica have two names.
    lb.ask(&json!({"cmd": "kill", "hostname": "server1", "token": "secret"}));
    let both = eventually("a replacement", || {
        let names = names(&["kill", ""], &environment);
        (names.len() == 3).then_some(names)
    });
    assert!(both[0].starts_with("server-") && both[1..] == ["server1", "server2"], "{both:?}");
}

#[test]
fn bash_offers_nothing_where_no_lb_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for control in ["127.0.0.1:1", &silent, "nowhere", ""] {
        assert_eq!(names(&["kill", ""], &[("LB_CONTROL", control)]), [""; 0], "{control}");
    }
    let lb = calm(&["--replicas", "1", "--control-token", "secret"]);
    let control = lb.control.to_string();
    assert_eq!(names(&["kill", ""], &[("LB_CONTROL", &control), ("LB_CONTROL_TOKEN", "wrong")]), [""; 0]);
}

/// A zsh with a terminal of its own, in which a user types the line and Tab. What is offered stands between two NULs.
const ZSH: &str = r#"
    zmodload zsh/zpty || exit 1
    cat > $HOME/setup <<'END' || exit 1
        autoload -Uz compinit && compinit -D -u
        bindkey '^I' complete-word
        zstyle ':completion:*' insert-tab false
        mark() { print -rn -- $'\0' }
        compprefuncs=(mark) comppostfuncs=(mark exit)
        compadd() {
            # With -O, -A or -D it only computes.
            if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
            local -a offered
            builtin compadd -A offered "$@"
            print -rl -- $offered
        }
END
    "$1" completions zsh >> $HOME/setup || exit 1
    zpty user zsh -f -i || exit 1
    zpty -w user "source $HOME/setup"
    zpty -w user "$2"$'\t'
    zpty -r user said $'*\0*\0' || exit 1
    print -r -- ${${said%$'\0'}##*$'\0'}
"#;

/// What a user of fish is offered.
const FISH: &str = r#"source ($argv[1] completions fish | psub); or exit 1; complete --do-complete $argv[2]"#;

/// What this shell offers at the end of a line, without the flags, in the order of the alphabet. `None`: it is not installed.
fn offered_by(shell: &str, line: &str, environment: &[(&str, &str)]) -> Option<Vec<String>> {
    let home = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(shell);
    match shell {
        "zsh" => command.args(["-f", "-c", ZSH, "zsh"]),
        _ => command.args(["--no-config", "-c", FISH]),
    };
    command
        .args([LB, line])
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME");
    let Ok(output) = command.envs(environment.iter().copied()).stdin(Stdio::null()).output() else {
        assert!(std::env::var_os("CI").is_none(), "there is no {shell}");
        eprintln!("skipped: there is no {shell}");
        return None;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    // fish adds what it is, after a tab.
    let words = said.lines().map(|line| line.split('\t').next().unwrap().trim().to_owned());
    let mut words: Vec<String> = words.filter(|word| !word.is_empty() && !word.starts_with('-')).collect();
    words.sort();
    Some(words)
}

#[test]
fn zsh_and_fish_offer_the_slots_and_replicas_of_the_lb_that_runs() {
    let lb = calm(&["--replicas", "2", "--control-token", "secret"]);
    let control = lb.control.to_string();
    let right = [("LB_CONTROL", control.as_str()), ("LB_CONTROL_TOKEN", "secret")];
    let wrong = [("LB_CONTROL", control.as_str()), ("LB_CONTROL_TOKEN", "wrong")];
    let nowhere = [("LB_CONTROL", "127.0.0.1:1")];
    let typed = format!("lb rm --control {control} --control-token secret ");
    let both = &["server1", "server2"][..];
    let cases = [
        ("lb expl", &right, &["explain"][..]),
        ("lb kill ", &right, both),
        ("lb rm 1 server2", &right, &["server2"]),
        ("lb plan rm s", &right, both),
        ("lb add ", &right, &[]),
        ("lb kill ", &wrong, &[]),
    ];
    for shell in ["zsh", "fish"] {
        for (line, environment, expected) in cases {
            let Some(offered) = offered_by(shell, line, environment) else { break };
            assert_eq!(offered, expected, "{shell}: {line}: {environment:?}");
        }
        assert!(offered_by(shell, "lb kill ", &nowhere).is_none_or(|offered| offered.is_empty()), "{shell}");
        assert!(offered_by(shell, &typed, &nowhere).is_none_or(|offered| offered == both), "{shell}");
    }
}

/// Stdout, stderr and exit code of `lb ARGUMENTS`.
fn lb(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(LB).args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn every_shell_has_a_script_that_calls_lb() {
    for (shell, part) in
        [("bash", "complete -o nospace"), ("zsh", "#compdef lb"), ("fish", "complete --keep-order")]
    {
        let (script, stderr, code) = lb(&["completions", shell]);
        assert_eq!((stderr.as_str(), code), ("", Some(0)), "{shell}");
        assert!(script.contains(part) && script.contains("LB_COMPLETE") && script.contains(LB), "{script}");
        // Where the shell is installed, it has to understand the script.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(script.as_bytes()).unwrap();
        let checked = Command::new(shell).arg("-n").arg(file.path()).output();
        assert!(checked.is_err() || checked.unwrap().status.success(), "{shell}: {script}");
    }
    assert_eq!(lb(&["completions", "csh"]).2, Some(2));
}

/// The text of a manual page as `man` shows it, which must have nothing to complain of.
fn page(file: &Path) -> String {
    let mut man = Command::new("man");
    man.args(["--warnings", "--local-file", "--pager=cat"])
        .arg(file)
        .env("MANWIDTH", "100")
        .env("LC_ALL", "C.UTF-8");
    let output = man.output().unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    // How well a long word fits into a line is no fault of the page.
    let is_fault = |line: &&str| !["adjust line", "break line"].iter().any(|fit| line.contains(fit));
    let faults: Vec<&str> = complaints.lines().filter(is_fault).collect();
    assert!(output.status.success() && faults.is_empty(), "{}: {faults:?}", file.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn manual_pages_are_understood_by_man() {
    let folder = tempfile::TempDir::new().unwrap();
    let (stdout, stderr, code) = lb(&["man", folder.path().to_str().unwrap()]);
    assert_eq!((stdout.as_str(), stderr.as_str(), code), ("", "", Some(0)));
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for expected in ["lb.1", "lb-serve.1", "lb-kill.1", "lb-mapping-set.1", "lb-fleet-rm.1"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("guard") || name.contains("replica")), "{names:?}");
    let (_, stderr, code) = lb(&["man", "/nowhere"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("the manual pages cannot be written to /nowhere: No such file"), "{stderr}");
    if Command::new("man").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no man");
        return eprintln!("skipped: there is no man");
    }
    for name in &names {
        let shown = page(&folder.path().join(name));
        assert!(shown.contains("SYNOPSIS"), "{name}: {shown}");
    }
    assert!(page(&folder.path().join("lb.1")).contains("lb explain 132574"), "examples");
    assert!(page(&folder.path().join("lb-serve.1")).contains("--health-interval"));
}

#[test]
fn help_explains_commands_and_topics_and_version_says_which() {
    assert_eq!(lb(&["version"]), (format!("lb {}\n", env!("CARGO_PKG_VERSION")), String::new(), Some(0)));
    assert_eq!(lb(&["--version"]), lb(&["version"]));
    let (stdout, stderr, code) = lb(&["help", "mappings"]);
    assert_eq!((stderr.as_str(), code), ("", Some(0)));
    assert!(stdout.starts_with("Mappings: ") && stdout.contains("rendezvous"), "{stdout}");
    let (stdout, _, code) = lb(&["help", "mapping", "set"]);
    assert!(code == Some(0) && stdout.contains("Usage: lb mapping set"), "{stdout}");
    for ask in ["help", "--help"] {
        let (stdout, _, code) = lb(&[ask]);
        assert_eq!(code, Some(0));
        for part in
            ["Containers (docker, swarm):", "Replicas by name (dns, fixed):", "Examples:\n  lb", "Topics: "]
        {
            assert!(stdout.contains(part), "{ask}: {part}: {stdout}");
        }
        assert!(!stdout.contains('\u{1b}'), "no colours in a pipe");
    }
    let (stdout, stderr, code) = lb(&["help", "flying"]);
    assert_eq!((stdout.as_str(), code), ("", Some(2)));
    assert!(
        stderr.starts_with("error: there is no command or topic `flying`: expected a command"),
        "{stderr}"
    );
}
