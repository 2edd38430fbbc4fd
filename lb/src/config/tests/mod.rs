mod backends;
mod containers;
mod dns;
mod handoff;
mod health;
mod listen;
mod secrets;

use clap::Parser as _;
use mapping::{Algorithm, Probing, RequestHash, Seed, ServerHash, SlotsShape};
use std::str::FromStr as _;

use super::*;
use crate::control::{Http, OnDown, Probe, ProbeKind};

/// What these flags come to.
fn check(flags: &[&str]) -> Result<Config, String> {
    let cli = Cli::try_parse_from(["lb"].iter().chain(flags)).map_err(|error| error.to_string())?;
    Config::check(cli.serve).map_err(|problems| problems.to_string())
}

#[track_caller]
pub(super) fn good(flags: &[&str]) -> Config {
    check(flags).unwrap_or_else(|problems| panic!("{flags:?}: {problems}"))
}

#[track_caller]
pub(super) fn problems(flags: &[&str]) -> Vec<String> {
    let problems = check(flags).err().unwrap_or_else(|| panic!("{flags:?} is fine"));
    problems.lines().map(str::to_owned).collect()
}

pub(super) fn words(flags: &str) -> Vec<&str> {
    flags.split_whitespace().collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.slots.iter().map(|(name, _)| name.as_str()).collect()
}

fn addresses(config: &Config) -> Vec<String> {
    config.control.iter().map(ToString::to_string).collect()
}

pub(super) fn listens(config: &Config) -> Vec<String> {
    config.listen.iter().map(ToString::to_string).collect()
}

#[test]
fn control_may_be_given_several_times_and_as_a_unix_socket() {
    let config = good(&words("--control unix:/run/a.sock --control 127.0.0.1:1,unix:b"));
    assert_eq!(addresses(&config), ["unix:/run/a.sock", "127.0.0.1:1", "unix:b"]);
    let long = format!("unix:/{}", "x".repeat(106));
    assert_eq!(addresses(&good(&["--control", &long])), [long.as_str()]);
    for wrong in ["unix:", &format!("{long}x")] {
        let problems = problems(&["--control", "127.0.0.1:1", "--control", wrong]);
        let expected = format!("--control: invalid value `{wrong}`: expected an address and a port, such as");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
    }
    let open = problems(&["--control", "unix:a", "--control", "0.0.0.0:1"]);
    assert!(open.len() == 1 && open[0].starts_with("--control: 0.0.0.0:1 can be reached"), "{open:?}");
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = good(&[]);
    assert_eq!(listens(&config), ["0.0.0.0:5000"]);
    assert_eq!(addresses(&config), ["127.0.0.1:5001"]);
    assert_eq!(config.control_token, None);
    assert_eq!(names(&config), ["server1", "server2", "server3"]);
    assert_eq!(config.source, Source::Process { command: None });
    assert_eq!(config.mapping.scheme.algorithm, Algorithm::Ring { points: 1000 });
    assert_eq!(config.limits.key, KeyKind::Id);
    assert_eq!(config.limits.id_param, "id");
    assert_eq!(config.limits.first_line_timeout, Duration::from_secs(5));
    assert_eq!(config.limits.first_line_max, 8 * 1024);
    assert_eq!(config.limits.connect_timeout, Duration::from_secs(1));
    assert_eq!(config.limits.connect_attempts, 3);
    assert!(
        config.health.probe
            == Probe { kind: ProbeKind::Http(Http::get("/heartbeat".to_owned())), port: None }
    );
    assert_eq!(config.health.interval, Duration::from_millis(500));
    assert_eq!(config.health.timeout, Duration::from_millis(500));
    assert_eq!((config.health.fall, config.health.rise), (2, 1));
    assert_eq!(config.health.replace_after, Duration::from_secs(3));
    assert_eq!(config.health.replace_busy_after, Duration::from_secs(60));
    assert_eq!(config.health.on_down, OnDown::Keep);
    assert_eq!(config.start_timeout, Duration::from_secs(10));
    assert!(!config.same_name);
    assert_eq!(config.admission, AdmissionRules::default());
    assert_eq!(config.most_per_replica, None);
    assert_eq!(config.spares, 0);
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.workers, cores());
    assert_eq!(config.log.to_string(), "info");
    assert_eq!(config.log_format, LogFormat::Text);
    let request_hash = RequestHash::from_str("i*i + 2*i + 17").unwrap();
    let server_hash = ServerHash::from_str("i*i + j*j + 2*j + 25").unwrap();
    let shape = SlotsShape { entries: 512, virtuals: 9, probing: Probing::Linear, request_hash, server_hash };
    assert_eq!(good(&["--mapping", "slots"]).mapping.scheme.algorithm, Algorithm::Slots(shape));
}

#[test]
fn every_flag_reaches_its_field() {
    let config = good(&words(
        "--listen 127.0.0.1:7000 --control [::1]:7001 --control-token secret --replicas 2 --command serve-{port} \
         --mapping slots --slots 64 --virtual 5 --probing quadratic --request-hash i^3 --server-hash i*7+j --key source --id-param user \
         --first-line-timeout 6s --first-line-max 1KiB --connect-timeout 7s --connect-attempts 4 --health tcp --health-port 81 \
         --health-interval 8s --health-timeout 9s --fall 5 --rise 6 --replace-after 10s --replace-busy-after 13s --on-down reset --start-timeout 11s \
         --respawn-name same --spares 7 --drain-timeout 12s --workers 8 --splice never --log lb=debug \
         --log-format json --balance-factor 1.5 --hash-seed 9",
    ));
    assert_eq!(listens(&config), ["127.0.0.1:7000"]);
    assert_eq!(addresses(&config), ["[::1]:7001"]);
    assert_eq!(config.control_token.as_deref(), Some("secret"));
    assert_eq!(names(&config), ["server1", "server2"]);
    assert_eq!(config.source, Source::Process { command: Some("serve-{port}".into()) });
    let (request_hash, server_hash) =
        (RequestHash::from_str("i^3").unwrap(), ServerHash::from_str("i*7+j").unwrap());
    let shape =
        SlotsShape { entries: 64, virtuals: 5, probing: Probing::Quadratic, request_hash, server_hash };
    assert_eq!(config.mapping.scheme.algorithm, Algorithm::Slots(shape));
    assert_eq!((config.limits.key, config.limits.id_param.as_str()), (KeyKind::Source, "user"));
    assert_eq!((config.limits.first_line_max, config.limits.connect_attempts), (1024, 4));
    assert_eq!(config.mapping.scheme.seed, Seed(9));
    assert_eq!(config.mapping.balance, "1.5".parse().ok());
    assert!(matches!(config.health.probe, Probe { kind: ProbeKind::Tcp, port: Some(81) }));
    assert_eq!((config.health.fall, config.health.rise), (5, 6));
    assert_eq!(config.health.on_down, OnDown::Reset);
    let durations = [
        config.limits.first_line_timeout,
        config.limits.connect_timeout,
        config.health.interval,
        config.health.timeout,
        config.health.replace_after,
        config.start_timeout,
        config.drain_timeout,
        config.health.replace_busy_after,
    ];
    assert_eq!(durations.map(|duration| duration.as_secs()), [6, 7, 8, 9, 10, 11, 12, 13]);
    assert!(config.same_name);
    assert_eq!((config.spares, config.workers), (7, 8));
    assert_eq!((config.log.to_string().as_str(), config.log_format), ("lb=debug", LogFormat::Json));
    assert_eq!(good(&["--points", "5"]).mapping.scheme.algorithm, Algorithm::Ring { points: 5 });
    assert_eq!(good(&["--mapping", "maglev"]).mapping.scheme.algorithm, Algorithm::Maglev);
    assert_eq!(good(&["--mapping", "rendezvous"]).mapping.scheme.algorithm, Algorithm::Rendezvous);
}

#[test]
fn serve_takes_the_same_flags() {
    let cli = Cli::try_parse_from(["lb", "serve", "--replicas", "2"]).unwrap();
    let Some(Subcommand::Serve(serve)) = cli.command else { panic!("not serve") };
    assert_eq!(names(&Config::check(*serve).unwrap()), ["server1", "server2"]);
}

#[test]
fn durations_and_sizes_have_units() {
    for (given, milliseconds) in [
        ("1ms", 1),
        ("250ms", 250),
        ("5s", 5000),
        ("1m", 60_000),
        ("1m30s", 90_000),
        ("2h", 7_200_000),
        ("1s 500ms", 1500),
        ("365d", 31_536_000_000),
    ] {
        let config = good(&["--health-interval", given, "--drain-timeout", given]);
        assert_eq!(config.health.interval, Duration::from_millis(milliseconds), "{given}");
        assert_eq!(config.drain_timeout, Duration::from_millis(milliseconds), "{given}");
    }
    for given in ["0", "0s", "0ms"] {
        assert_eq!(good(&["--drain-timeout", given]).drain_timeout, Duration::ZERO, "{given}");
    }
    for (given, bytes) in
        [("16B", 16), ("8KiB", 8192), ("8 KiB", 8192), ("1kB", 1000), ("100", 100), ("64KiB", 65536)]
    {
        assert_eq!(good(&["--first-line-max", given]).limits.first_line_max, bytes, "{given}");
    }
}

/// Each of these values, given to its flag, is refused with what the flag takes.
fn check_takes(cases: &[(&str, &[&str], &str)]) {
    for (flag, values, takes) in cases {
        for value in *values {
            let problems = problems(&[&format!("--{flag}"), value]);
            let expected = format!("--{flag}: invalid value `{value}`: {takes}");
            assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
        }
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_flag_and_what_is_expected() {
    const DURATION: &str = "expected a duration of at least 1ms, such as 250ms, 5s or 1m";
    const SIZE: &str = "expected a size from 16B to 64KiB, such as 8KiB";
    const ADDRESS: &str = "expected an address and a port, such as 127.0.0.1:5000";
    const PARAMETER: &str = "expected the name of a query parameter";
    let cases: [(&str, &[&str], &str); 27] = [
        ("listen", &["", "5000", ":x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "300.0.0.1:1"], ADDRESS),
        (
            "control",
            &["localhost", "[::1", "::1"],
            "expected an address and a port, such as 127.0.0.1:5000, or unix:",
        ),
        (
            "replicas",
            &["", "-1", "1.5", "three", "1001", "99999999999999999999"],
            "expected a whole number from 0 to 1000",
        ),
        ("provider", &["docker2", "Process", ""], "expected process, docker, swarm, fixed or dns"),
        ("mapping", &["modulo", "RING"], "expected ring, slots, maglev or rendezvous"),
        ("points", &["0", "-5", "10001"], "expected a whole number from 1 to 10000"),
        ("slots", &["0", "65537"], "expected a whole number from 1 to 65536"),
        ("virtual", &["0", "10001"], "expected a whole number from 1 to 10000"),
        ("probing", &["cubic"], "expected linear or quadratic"),
        (
            "key",
            &["ip", "header:", "cookie:a b"],
            "expected id, source, sni, path, header:NAME or cookie:NAME",
        ),
        ("id-param", &["", "a b", "a=b", "a&b", "?a", "a#", "ä"], PARAMETER),
        ("first-line-timeout", &["5", "0s", "-5s", "5 parsecs", "999us", "366d", ""], DURATION),
        ("first-line-max", &["15B", "65KiB", "-1", "8 apples", "", "1e3"], SIZE),
        ("connect-timeout", &["1"], DURATION),
        ("connect-attempts", &["0", "257"], "expected a whole number from 1 to 256"),
        (
            "health",
            &["http", "http:", "http:heartbeat", "http:/a b", "udp", "line", "TLS", "redis:"],
            "expected http:/PATH, tcp, tls, redis, postgres, line:SEND=EXPECT or exec:CMD",
        ),
        ("health-interval", &["often"], DURATION),
        ("health-timeout", &["0ms"], DURATION),
        ("fall", &["0", "-2"], "expected a whole number from 1 to 1000"),
        ("rise", &["0"], "expected a whole number from 1 to 1000"),
        ("replace-after", &["never"], DURATION),
        ("replace-busy-after", &["never"], DURATION),
        ("start-timeout", &["1"], DURATION),
        ("respawn-name", &["new"], "expected random or same"),
        ("spares", &["-1", "101"], "expected a whole number from 0 to 100"),
        ("drain-timeout", &["-1s", "5", "forever", "366d"], "expected a duration, such as 0s"),
        ("workers", &["0", "257", "auto"], "expected a whole number from 1 to 256"),
    ];
    check_takes(&cases);
    for (flag, value) in [("splice", "yes"), ("log", ""), ("log", "loud=very"), ("log-format", "xml")] {
        let problems = problems(&[&format!("--{flag}"), value]);
        assert!(
            problems[0].starts_with(&format!("--{flag}: invalid value `{value}`: expected ")),
            "{problems:?}"
        );
    }
}

#[test]
fn a_formula_that_cannot_be_read_is_told_the_column_whatever_the_mapping_is() {
    for (flag, formula, problem) in [
        ("--request-hash", "i*i + ", "column 7: expected a number, i, or \"(\""),
        ("--request-hash", "-1", "column 1: expected a number, i, or \"(\""),
        ("--request-hash", "i+j", "column 3: expected a number, i, or \"(\" (there is no j here)"),
        ("--server-hash", "", "column 1: expected a number, i, j, or \"(\""),
        ("--server-hash", "(i + j", "column 7: expected an operator or \")\""),
    ] {
        for mapping in ["ring", "slots"] {
            let expected = format!("{flag}: {problem}");
            assert_eq!(problems(&["--mapping", mapping, flag, formula]), [expected], "{formula}");
        }
    }
}

#[test]
fn limits_are_off_or_numbers() {
    let config = good(&words(
        "--max-connections 1000 --max-connections-per-source 20 --rate-per-source 5/s,burst=9 \
         --max-connections-per-replica 300 --allow 10.0.0.0/8,2001:db8::/32 --allow 192.0.2.7 --deny 10.1.0.0/16",
    ));
    assert_eq!((config.admission.most, config.admission.most_per_source), (Some(1000), Some(20)));
    assert_eq!(config.most_per_replica, Some(300));
    let rate = config.admission.rate_per_source.unwrap();
    assert_eq!((rate.per_second.get(), rate.burst.get()), (5, 9));
    let texts = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&config.admission.allow), ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]);
    assert_eq!(texts(&config.admission.deny), ["10.1.0.0/16"]);
    let rate = good(&["--rate-per-source", "7/s"]).admission.rate_per_source.unwrap();
    assert_eq!((rate.per_second.get(), rate.burst.get()), (7, 7));
    let off = good(&words(
        "--max-connections-per-source off --rate-per-source off --max-connections-per-replica off",
    ));
    assert_eq!((off.admission, off.most_per_replica), (AdmissionRules::default(), None));
    check_takes(&[
        (
            "max-connections",
            &["0", "-1", "off", "1000000001", ""],
            "expected a whole number from 1 to 1000000000",
        ),
        (
            "max-connections-per-source",
            &["0", "-1", "many", ""],
            "expected off, or a whole number from 1 to 1000000000",
        ),
        ("max-connections-per-replica", &["0", "1.5"], "expected off, or a whole number from 1 to"),
        (
            "rate-per-source",
            &[
                "",
                "5",
                "5/m",
                "0/s",
                "5/s,",
                "5/s,burst=0",
                "5/s,burst",
                "+5/s",
                "5/s,burst=+9",
                "1000001/s",
                "-5/s",
            ],
            "expected off, N/s or N/s,burst=M, such as 100/s,burst=500",
        ),
        (
            "allow",
            &["", "10.0.0.0/33", "10.0.0/8", "host", "10.0.0.1:80", "[::1]", "2001:db8::/129"],
            "expected a network or an address, such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
        ),
        ("deny", &["10.0.0.0/-1"], "expected a network or an address"),
    ]);
}

#[test]
fn a_balance_factor_is_a_number_or_off() {
    assert_eq!(good(&["--balance-factor", "off"]).mapping.balance, None);
    assert_eq!(good(&["--balance-factor", "1.25"]).mapping.balance, "1.25".parse().ok());
    let expected =
        "--balance-factor: invalid value `0.9`: expected a number from 1 to 100 with at most three decimals";
    assert!(problems(&["--balance-factor", "0.9"])[0].starts_with(expected));
}

#[test]
fn contradicting_flags_are_refused() {
    let fixed = ["--provider", "fixed", "--backend", "a=h:1"];
    let cases: [(&[&str], &[&str], &str); 21] = [
        (&[], &["--control", "0.0.0.0:5001"], "--control: 0.0.0.0:5001 can be reached from other machines"),
        (&[], &["--control", "192.168.1.1:5001"], "--control: "),
        (&[], &["--control", "[::]:5001"], "--control: "),
        (&[], &["--control", "[::ffff:10.0.0.1]:5001"], "--control: "),
        (&[], &["--control-token", ""], "--control-token: invalid value ``"),
        (&[], &["--backend", "a=h:1"], "--backend: it goes with --provider fixed only"),
        (&[], &["--provider", "fixed"], "--backend: --provider fixed takes at least one"),
        (&fixed, &["--backend", "a=h:2"], "--backend: the name a is given twice"),
        (&fixed, &["--spares", "1"], "--spares: fixed addresses cannot be started"),
        (&fixed, &["--command", "x"], "--command: it goes with --provider process only"),
        (&fixed, &["--memory", "64MiB"], "--memory: it goes with --provider docker and swarm only"),
        (&[], &["--pids", "50"], "--pids: it goes with --provider docker and swarm only"),
        (
            &fixed,
            &["--container-caps", "none"],
            "--container-caps: it goes with --provider docker and swarm only",
        ),
        (&[], &["--keep"], "--keep: it goes with --provider docker only"),
        (&["--provider", "swarm"], &["--keep"], "--keep: it goes with --provider docker only"),
        (&["--provider", "docker"], &["--cpus", "2"], "--cpus: it goes with --provider swarm only"),
        (&[], &["--constraint", "node.role==worker"], "--constraint: it goes with --provider swarm only"),
        (&["--provider", "docker"], &["--command", "x"], "--command: it goes with --provider process only"),
        (&["--provider", "docker"], &["--backend", "a=h:1"], "--backend: it goes with --provider fixed only"),
        (&fixed, &["--replicas", "2"], "--replicas: 2 is more than the 1 of --backend"),
        (&[], &["--command", " "], "--command: invalid value ``"),
    ];
    for (base, more, expected) in cases {
        let problems = problems(&[base, more].concat());
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{more:?}: {problems:?}");
    }
    for control in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        good(&["--control", control]);
    }
    good(&["--control", "0.0.0.0:0", "--control-token", "secret"]);
    good(&["--control", "0.0.0.0:0", "--control-insecure"]);
}

#[test]
fn a_fleet_has_to_fit_into_its_mapping() {
    let slots = ["--mapping", "slots", "--replicas"];
    good(&[&slots[..], &["56"]].concat());
    good(&[&slots[..], &["4", "--slots", "36"]].concat());
    good(&["--replicas", "1000"]);
    for more in [&["57"][..], &["5", "--slots", "36"], &["2", "--virtual", "300"], &["1", "--slots", "8"]] {
        let problems = problems(&[&slots[..], more].concat());
        let expected = format!("--replicas: {} servers of ", more[0]);
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
        assert!(
            problems[0].ends_with("expected fewer servers, more --slots or less --virtual"),
            "{problems:?}"
        );
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = problems(&words(
        "--listen x --control 0.0.0.0:1 --replicas many --fall 0 --backend a=h:1 --log-format xml --drain-timeout -1s",
    ));
    let mut flags: Vec<&str> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
    flags.sort_unstable();
    let expected =
        ["--backend", "--control", "--drain-timeout", "--fall", "--listen", "--log-format", "--replicas"];
    assert_eq!(flags, expected);
}
