//! `lb simulate`: what it prints, draws and refuses, and that the comparison in the documentation is up to date.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The arguments that made the comparison in the documentation.
const COMPARISON: &str = "lb simulate --mapping all --replicas 6 --step 'rm server3' --step 'add server7' \
                          --chart docs/mapping/comparison.svg";

/// Stdout, stderr and exit code of `lb simulate ARGUMENTS`.
fn simulate(arguments: &[&str], environment: &[(&str, &str)]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.arg("simulate").args(arguments).env_clear().envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[track_caller]
fn good(arguments: &[&str]) -> String {
    let (stdout, stderr, code) = simulate(arguments, &[]);
    assert_eq!((stderr.as_str(), code), ("", Some(0)), "{arguments:?}");
    stdout
}

/// The cells of the rows that begin with a name.
fn rows<'a>(text: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    text.lines().filter(|line| line.starts_with('|')).map(cells).filter(|cells| cells[0] == name).collect()
}

#[test]
fn people_get_a_table_of_shares_one_for_each_step_and_one_of_costs() {
    let text =
        good(&["--mapping", "ring,maglev", "--step", "rm server2", "--step", "add a=2", "--ids", "20000"]);
    assert!(text.starts_with("3 replicas, 20,000 different ids. "), "{text}");
    for mapping in ["ring", "maglev"] {
        let rows = rows(&text, mapping);
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 6, 4], "{text}");
        let share = |cell: &str| cell.strip_suffix(" %").unwrap().parse::<f64>().unwrap();
        let shares: f64 = rows[0][1..4].iter().map(|cell| share(cell)).sum();
        assert!((shares - 100.0).abs() < 0.02, "{text}");
        assert_eq!(rows[1][2] == "0 %", mapping == "ring", "{text}");
        assert!(rows[3][1].ends_with('s') && rows[3][3].ends_with("iB"), "{text}");
    }
    assert!(text.contains("Step 1: rm server2. If all shares were as the weights say, 33.33 % "), "{text}");
    assert!(text.contains("Step 2: add a=2. If all shares were as the weights say, 50.00 % "), "{text}");
    assert_eq!(
        rows(&text, "mapping")[0],
        ["mapping", "server1", "server2", "server3", "busiest / mean", "deviation"]
    );
}

#[test]
fn the_shares_of_many_replicas_are_summed_up_and_weights_are_shown() {
    let text = good(&["--replicas", "11", "--ids", "1000"]);
    assert_eq!(
        rows(&text, "mapping")[0],
        ["mapping", "least", "mean", "most", "busiest / mean", "deviation"]
    );
    let text = good(&["--replicas", "2", "--weight", "server2=3", "--ids", "1000"]);
    assert_eq!(rows(&text, "mapping")[0][1..3], ["server1", "server2=3"]);
}

#[test]
fn programs_get_json_with_every_number() {
    let steps = ["--step", "rm server3", "--step", "weight server1=2"];
    let text = good(&[&["--mapping", "all", "--json", "--ids", "5000"][..], &steps].concat());
    let answer: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> =
        answer["mappings"].as_array().unwrap().iter().map(|row| row["mapping"].clone()).collect();
    let expected = ["ring", "slots", "maglev", "rendezvous", "haproxy", "haproxy-100", "nginx", "envoy-ring"];
    assert_eq!(names, expected);
    assert_eq!(answer["stages"][2]["step"], "weight server1=2");
    assert_eq!(
        answer["stages"][2]["replicas"][0],
        serde_json::json!({"index": 1, "name": "server1", "weight": 2})
    );
    for row in answer["mappings"].as_array().unwrap() {
        let stages = row["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 3);
        for (at, stage) in stages.iter().enumerate() {
            let shares: Vec<f64> =
                stage["shares"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect();
            assert_eq!(shares.len(), answer["stages"][at]["replicas"].as_array().unwrap().len());
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row}");
            assert!(
                stage["busiest_over_mean"].as_f64().unwrap() >= 1.0 && stage["deviation"].is_f64(),
                "{row}"
            );
            for name in ["moved", "needless", "least"] {
                assert_eq!(stage[name].is_f64(), at > 0, "{row}");
            }
        }
        for name in ["pick_ns", "build_ns", "bytes"] {
            assert!(row["measured"][name].is_number(), "{row}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_popular_ids() {
    let shares = |seed| {
        let text = good(&["--distribution", "zipf:1.1", "--seed", seed, "--ids", "2000", "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["mappings"][0]["stages"].clone()
    };
    assert_eq!(shares("7"), shares("7"));
    assert_ne!(shares("7"), shares("8"));
}

#[test]
fn a_chart_is_well_formed_and_has_a_bar_for_each_replica() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chart.svg");
    let arguments =
        ["--mapping", "ring,maglev,envoy-ring", "--replicas", "5", "--step", "rm server1", "--ids", "5000"];
    good(&[&arguments[..], &["--chart", file.to_str().unwrap()]].concat());
    let text = fs::read_to_string(&file).unwrap();
    let svg = roxmltree::Document::parse(&text).unwrap();
    let bars = |colour| {
        let is_bar = |node: &roxmltree::Node| node.has_tag_name("rect") || node.tag_name().name() == "rect";
        svg.descendants().filter(|node| is_bar(node) && node.attribute("fill") == Some(colour)).count()
    };
    // One of each is in the legend.
    assert_eq!((bars("#56B4E9"), bars("#0072B2")), (3 * 5 + 1, 3 + 1));
    let says = |part: &str| svg.descendants().any(|node| node.text().is_some_and(|text| text.contains(part)));
    assert!(says("envoy-ring (busiest / mean") && says("Step 1: rm server1"), "{text}");
}

#[test]
fn the_ring_is_drawn_at_first_and_after_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ring.svg");
    good(&["--points", "8", "--step", "rm server2", "--ids", "10", "--draw", file.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    let svg = roxmltree::Document::parse(&text).unwrap();
    let says = |part: &str| svg.descendants().any(|node| node.text().is_some_and(|text| text.contains(part)));
    assert!(says("at first") && says("after 'rm server2'") && says("server3"), "{text}");
}

#[test]
fn a_chart_that_cannot_be_written_is_a_failure() {
    let (stdout, stderr, code) = simulate(&["--ids", "1", "--chart", "/nowhere/at/all.svg"], &[]);
    assert_eq!((stdout.as_str(), code), ("", Some(1)));
    assert!(stderr.starts_with("error: cannot write /nowhere/at/all.svg (--chart): "), "{stderr}");
}

#[test]
fn a_wrong_argument_is_refused_with_what_is_expected() {
    let cases: [(&[&str], &str); 22] = [
        (
            &["--mapping", "karger"],
            "--mapping: invalid value `karger`: expected ring, slots, maglev, rendezvous, haproxy",
        ),
        (&["--mapping", "ring,haproxy-257"], "--mapping: invalid value `haproxy-257`"),
        (&["--replicas", "0"], "--replicas: invalid value `0`: expected a whole number from 1 to 1000"),
        (&["--replicas", "1001"], "--replicas: invalid value `1001`"),
        (
            &["--ids", "10000001"],
            "--ids: invalid value `10000001`: expected a whole number from 1 to 10000000",
        ),
        (&["--ids", "-1"], "--ids: invalid value `-1`"),
        (
            &["--distribution", "zipf:x"],
            "--distribution: invalid value `zipf:x`: expected uniform, zipf or zipf:EXPONENT",
        ),
        (&["--seed", "x"], "--seed: invalid value `x`"),
        (
            &["--step", "remove a"],
            "--step: invalid value `remove a`: expected 'add N', 'add NAME[=WEIGHT] ...', 'rm NAME ...'",
        ),
        (&["--step", "rm 1"], "--step: invalid value `rm 1`"),
        (&["--step", "rm server4"], "--step: 'rm server4': there is no replica server4"),
        (&["--step", "add server1"], "--step: 'add server1': there is a replica server1 already"),
        (&["--replicas", "1", "--step", "rm server1"], "no replica with a weight above 0 is left"),
        (&["--weight", "server4=1"], "--weight: there is no replica server4"),
        (
            &["--weight", "server1=101"],
            "--weight: invalid value `server1=101`: expected NAME=W with a whole number W from 0 to 100",
        ),
        (&["--points", "0"], "--points: invalid value `0`: expected a whole number from 1 to 10000"),
        (&["--request-hash", "i +"], "--request-hash: column"),
        (
            &["--chart", "chart.png"],
            "--chart: invalid value `chart.png`: expected the name of a file that ends with .svg",
        ),
        (
            &["--mapping", "all", "--replicas", "40", "--chart", "x.svg"],
            "--chart: 320 bars are too many; expected at most 240",
        ),
        (
            &["--draw", "ring.svg"],
            "--draw: 3,000 positions are too many; expected at most 720 (lower --points)",
        ),
        (&["--mapping", "maglev", "--draw", "ring.svg"], "--draw: only the mapping ring can be drawn"),
        (
            &["--mapping", "haproxy-100", "--weight", "server1=3"],
            "--mapping: haproxy-100, at first: a weight would be 300 in its configuration; HAProxy accepts at most 256",
        ),
    ];
    for (arguments, message) in cases {
        let (stdout, stderr, code) = simulate(arguments, &[]);
        assert_eq!((stdout.as_str(), code), ("", Some(2)), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(message), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 2, "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_table_that_is_full_is_refused_with_the_step_that_fills_it() {
    for (arguments, message) in [
        (
            &["--mapping", "all", "--replicas", "57"][..],
            "--mapping: slots, at first: 57 servers of 9 virtual servers each do not fit",
        ),
        (
            &["--mapping", "slots", "--replicas", "56", "--step", "add 1"],
            "--mapping: slots, after 'add 1': 57 servers of 9",
        ),
        (
            &[
                "--points",
                "2400",
                "--replicas",
                "1000",
                "--weight",
                "server1=100",
                "--step",
                "weight server2=100 server3=100 server4=100 server5=100 server6=100 server7=100 server8=100",
            ],
            "--mapping: ring, after 'weight server2=100 ",
        ),
    ] {
        let (stdout, stderr, code) = simulate(arguments, &[]);
        assert_eq!((stdout.as_str(), code), ("", Some(2)), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let arguments =
        ["--mapping", "x", "--ids", "0", "--points", "0", "--step", "y", "--step", "z", "--weight", "a"];
    let (_, stderr, code) = simulate(&arguments, &[]);
    assert_eq!((stderr.lines().count(), code), (7, Some(2)), "{stderr}");
}

#[test]
fn nothing_is_bound_or_connected_to_whatever_the_environment_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ports = [("LB_LISTEN", address.as_str()), ("LB_CONTROL", &address), ("LB_PROVIDER", "docker")];
    let (stdout, stderr, code) = simulate(&["--ids", "10"], &ports);
    assert_eq!((stderr.as_str(), code), ("", Some(0)), "{stdout}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// The variables of `lb serve` apply, so that a simulation uses the mapping that runs.
#[test]
fn the_parameters_of_our_mappings_may_stand_in_the_environment() {
    let bytes = |environment: &[(&str, &str)]| {
        let (stdout, ..) = simulate(&["--ids", "10", "--json"], environment);
        serde_json::from_str::<Value>(&stdout).unwrap()["mappings"][0]["measured"]["bytes"].as_u64().unwrap()
    };
    assert!(bytes(&[("LB_POINTS", "10")]) < bytes(&[]));
}

#[test]
fn the_help_explains_steps_and_gives_examples() {
    let help = good(&["--help"]);
    for part in
        ["weight NAME=W ...", "10.0.0.i:80", "needlessly", "Examples:", "haproxy-100", "zipf:EXPONENT"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}

/// The arguments that drew the ring in the documentation.
const RING: &str = "lb simulate --points 8 --replicas 4 --step 'rm server3' --step 'add server5' --draw docs/mapping/ring.svg";

#[test]
fn the_ring_in_the_documentation_is_what_the_command_draws_now() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ring.svg");
    let fleet = ["--points", "8", "--replicas", "4", "--step", "rm server3", "--step", "add server5"];
    good(&[&fleet[..], &["--draw", file.to_str().unwrap()]].concat());
    assert!(fs::read_to_string(docs.join("SIMULATE.md")).unwrap().contains(RING), "the command is not there");
    let [old, new] = [docs.join("mapping/ring.svg"), file].map(|file| fs::read_to_string(file).unwrap());
    assert!(old == new, "docs/mapping/ring.svg is not what `{RING}` draws now");
}

/// The text without its measured figures.
fn figures(text: &str) -> &str {
    text.split_once("Measured in this run").unwrap().0
}

#[test]
fn the_comparison_in_the_documentation_is_what_the_command_says_now() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mapping");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("comparison.svg");
    let steps = ["--step", "rm server3", "--step", "add server7", "--chart", file.to_str().unwrap()];
    let text = good(&[&["--mapping", "all", "--replicas", "6"][..], &steps].concat());
    let page = fs::read_to_string(docs.join("comparison.md")).unwrap();
    assert!(page.contains(COMPARISON), "the command is not there as it was");
    let figures = figures(&text);
    assert!(
        page.contains(figures),
        "docs/mapping/comparison.md is not what `{COMPARISON}` prints now:\n{figures}"
    );
    let (old, new) =
        (fs::read_to_string(docs.join("comparison.svg")).unwrap(), fs::read_to_string(&file).unwrap());
    assert!(old == new, "docs/mapping/comparison.svg is not what `{COMPARISON}` draws now");
}

#[test]
fn several_balancers_are_simulated_and_wrong_flags_are_named() {
    let small = ["cluster", "--replicas", "6", "--balancers", "3", "--seed", "7", "--scenario"];
    let text = good(&[&small[..], &["burst,away"]].concat());
    assert!(text.starts_with("6 replicas, 3 balancers, seed 7; "), "{text}");
    // Among clients, among balancers, and for each of three commands.
    assert_eq!((rows(&text, "burst").len(), rows(&text, "away").len()), (5, 5), "{text}");
    assert!(!text.contains("WRONG"), "{text}");
    let answer: Value = serde_json::from_str(&good(&[&small[..], &["node", "--json"]].concat())).unwrap();
    assert_eq!(answer["scenarios"][0]["deaths"], 1);
    assert_eq!(answer["scenarios"][0]["problems"], serde_json::json!([]));

    assert_eq!(
        good(&[&small[..], &["drill", "--json"]].concat()),
        good(&[&small[..], &["drill", "--json"]].concat())
    );

    let wrong = [
        "cluster",
        "--replicas",
        "10001",
        "--balancers",
        "0",
        "--scenario",
        "deaths,quake",
        "--chart",
        "a.png",
    ];
    let (stdout, stderr, code) = simulate(&wrong, &[]);
    assert_eq!((stdout.as_str(), code), ("", Some(2)));
    for flag in [
        "--replicas: invalid value `10001`",
        "--balancers: invalid value `0`",
        "--scenario: invalid value `quake`",
        "--chart: invalid value `a.png`: expected the name of a file that ends with .svg",
    ] {
        assert!(stderr.contains(flag), "{stderr}");
    }
    let (_, stderr, code) = simulate(&["--ids", "10", "cluster"], &[]);
    assert_eq!(code, Some(2), "{stderr}");
    let (_, stderr, code) = simulate(&["cluster", "--scenario", "growth", "--timeline", "a.svg"], &[]);
    assert!(code == Some(2) && stderr.contains("--timeline: growth has none"), "{stderr}");
}

#[test]
fn the_charts_of_a_cluster_are_well_formed_and_the_same_for_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = |seed: &str, name: &str| {
        let files = ["figures", "timeline"].map(|kind| folder.path().join(format!("{name}-{kind}.svg")));
        let [figures, timeline] = files.each_ref().map(|file| file.to_str().unwrap());
        let size =
            ["cluster", "--replicas", "12", "--balancers", "3", "--scenario", "burst,away", "--seed", seed];
        good(&[&size[..], &["--chart", figures, "--timeline", timeline]].concat());
        files.map(|file| fs::read_to_string(file).unwrap())
    };
    let [figures, timeline] = drawn("1", "a");
    for (text, words) in
        [(&figures, "from a death until a balancer has seen it"), (&timeline, "away: calls to the engine")]
    {
        let svg = roxmltree::Document::parse(text).unwrap();
        let says = |node: roxmltree::Node| node.text().is_some_and(|text| text.contains(words));
        assert!(svg.descendants().any(says), "{words}: {text}");
    }
    assert_eq!(drawn("1", "b"), [figures.as_str(), &timeline]);
    assert_ne!(drawn("2", "c"), [figures, timeline]);
}

#[test]
#[ignore = "it simulates 10,000 replicas and 100 balancers, which takes a minute"]
fn the_page_about_clusters_is_what_the_commands_say_now() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulate");
    let page = fs::read_to_string(docs.join("cluster.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let all = good(&["cluster", "--chart", &file("faults.svg"), "--timeline", &file("timeline.svg")]);
    let growth = good(&["cluster", "--scenario", "growth", "--chart", &file("growth.svg")]);
    for text in [all, growth] {
        let (_, tables) = text.split_once("\n\n").unwrap();
        assert!(
            page.contains(tables.trim_end()),
            "docs/simulate/cluster.md is not what the command prints now:\n{tables}"
        );
    }
    for name in ["faults.svg", "timeline.svg", "growth.svg"] {
        let [old, new] = [docs.join(name), file(name).into()].map(|file| fs::read_to_string(file).unwrap());
        assert!(old == new, "docs/simulate/{name} is not what the command draws now");
    }
}
