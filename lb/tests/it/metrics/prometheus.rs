//! A real Prometheus that scrapes a running `lb`: it counts what was sent, and answers every query of the dashboard. Its rules are checked
//! by its own tool. (Debian package prometheus.)

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::page::{port, tool};
use crate::control::calm;
use crate::harness::{Gate, Lb, PATIENCE, eventually, id_for, patient, reset, session, signal, text};

/// A Prometheus on a free port, with a folder of its own. Dropping it ends the process.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes this address five times a second. `None`: it is not installed.
    fn scraping(target: SocketAddr) -> Option<Self> {
        loop {
            let mut prometheus = Prometheus::start(tool("prometheus")?, target);
            let is_ready = eventually("Prometheus", || match prometheus.child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => prometheus.ask("/-/ready").filter(|(head, _)| head.contains(" 200 ")).map(|_| true),
            });
            // Another process may have taken the port.
            if is_ready {
                return Some(prometheus);
            }
            let log = fs::read_to_string(prometheus.folder.path().join("log")).unwrap();
            assert!(log.contains("address already in use"), "{log}");
        }
    }

    fn start(mut command: Command, target: SocketAddr) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: lb, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let [settings, data, log] = ["prometheus.yml", "data", "log"].map(|name| folder.path().join(name));
        fs::write(&settings, config).unwrap();
        command.arg(format!("--config.file={}", settings.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(log).unwrap());
        Prometheus { child: command.spawn().unwrap(), address, folder }
    }

    /// The answer to a GET: its head and its body. (In HTTP/1.0 a body has no chunks.)
    fn ask(&self, target: &str) -> Option<(String, String)> {
        let mut stream = patient(TcpStream::connect_timeout(&self.address, PATIENCE).ok()?);
        write!(stream, "GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }

    /// The answer to a query of PromQL.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        self.query_at(None, query)
    }

    /// The same at this time, in seconds since 1970.
    #[track_caller]
    fn query_at(&self, time: Option<f64>, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let time = time.map_or_else(String::new, |time| format!("&time={time:.3}"));
        let (_, body) = self.ask(&format!("/api/v1/query?query={encoded}{time}")).unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}")).clone()
    }

    /// The only value of a query, if there is one.
    #[track_caller]
    fn value(&self, query: &str) -> Option<f64> {
        self.value_at(None, query)
    }

    /// The same at this time.
    #[track_caller]
    fn value_at(&self, time: Option<f64>, query: &str) -> Option<f64> {
        let found = self.query_at(time, query);
        assert!(found.len() <= 1, "{query}: {found:?}");
        found.first().map(|sample| text(&sample["value"][1]).parse().unwrap())
    }

    /// The successful scrapes so far: when each began, and how long it took, in seconds.
    fn scrapes(&self) -> Vec<(f64, f64)> {
        let values = |query: &str| -> BTreeMap<String, f64> {
            let found = self.query(query);
            let values = found.first().and_then(|series| series["values"].as_array()).into_iter().flatten();
            values.map(|pair| (pair[0].to_string(), text(&pair[1]).parse().unwrap())).collect()
        };
        let (took, mut is_up) = (values("scrape_duration_seconds[5m]"), values("up[5m]"));
        is_up.retain(|time, up| *up == 1.0 && took.contains_key(time));
        let mut scrapes: Vec<(f64, f64)> =
            is_up.keys().map(|time| (time.parse().unwrap(), took[time])).collect();
        scrapes.sort_by(|one, other| one.0.total_cmp(&other.0));
        scrapes
    }

    /// Waits until a query has this value.
    #[track_caller]
    fn wait_for(&self, query: &str, expected: f64) {
        eventually(&format!("{query} = {expected}"), || (self.value(query) == Some(expected)).then_some(()));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

#[test]
fn prometheus_counts_what_was_sent() {
    let lb = calm(&["--replicas", "3", "--metrics", "127.0.0.1:0"]);
    let Some(prometheus) = Prometheus::scraping(port(&lb)) else { return };
    prometheus.wait_for("up", 1.0);
    prometheus.wait_for("sum(lb_connections_total)", 0.0);
    let id = id_for(&lb, "server2");
    for number in 0..200 {
        lb.route(&number.to_string());
    }
    for _ in 0..30 {
        lb.route(&id);
    }
    for _ in 0..7 {
        reset(session(&lb, &id).0);
    }
    prometheus.wait_for("sum(lb_connections_total)", 237.0);
    prometheus.wait_for(r#"sum(lb_connections_total{ending="complete"})"#, 230.0);
    prometheus.wait_for(r#"sum(lb_connections_total{slot="server2", ending="client_reset"})"#, 7.0);
    prometheus.wait_for("sum(lb_connections_open)", 0.0);
    prometheus.wait_for("lb_session_seconds_count", 237.0);
    prometheus.wait_for(r#"count(lb_slot_up == 1)"#, 3.0);
}

/// The times at which connections had ended, seen by the client that made them one after the other.
#[derive(Default)]
struct Sent(Mutex<Vec<SystemTime>>);

impl Sent {
    /// Makes a hundred connections a second, or fewer on a slow machine, while it is wanted.
    fn go_on(&self, lb: &Lb, is_wanted: &AtomicBool) {
        let mut id = 0;
        while is_wanted.load(Ordering::Relaxed) {
            id += 1;
            assert_ne!(lb.route(&id.to_string()), "");
            self.0.lock().unwrap().push(SystemTime::now());
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// How many connections had ended by then, in seconds since 1970.
    fn by(&self, time: f64) -> f64 {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(time);
        self.0.lock().unwrap().iter().filter(|ended| **ended <= time).count() as f64
    }
}

/// Ends what is wanted when it is dropped, also where the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Prometheus may shift the time of a scrape by two milliseconds, and writes it without fractions of one.
const SHIFT: f64 = 0.003;

#[test]
fn the_rate_of_connections_is_what_was_sent() {
    // One worker, so that one session at most has ended for the client and is not counted yet.
    let lb = calm(&["--replicas", "3", "--workers", "1", "--metrics", "127.0.0.1:0"]);
    let Some(prometheus) = Prometheus::scraping(port(&lb)) else { return };
    let (sent, is_wanted) = (Sent::default(), AtomicBool::new(true));
    let scrapes = thread::scope(|scope| {
        let end = End(&is_wanted);
        scope.spawn(|| sent.go_on(&lb, &is_wanted));
        eventually("connections", || (sent.0.lock().unwrap().len() > 10).then_some(()));
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let scrapes = || prometheus.scrapes().into_iter().filter(|(time, _)| *time > begun);
        let scrapes =
            eventually("twenty scrapes", || Some(scrapes().collect()).filter(|it: &Vec<_>| it.len() >= 20));
        drop(end);
        scrapes
    });
    let [(from, first), .., (to, last)] = scrapes[..] else { panic!("{scrapes:?}") };
    // What `lb` had counted when it answered a scrape had ended between the beginning and the end of that scrape. One connection may
    // have ended for the client and not for `lb`, or the other way round.
    let least = sent.by(to - SHIFT) - sent.by(from + first + SHIFT) - 2.0;
    let most = sent.by(to + last + SHIFT) - sent.by(from - SHIFT) + 2.0;
    assert!(least > 0.0, "{scrapes:?}");
    // Both scrapes are at the ends of the range, so at most a millisecond is extrapolated. The rest of 1 % is for rounding.
    let range = format!("lb_connections_total[{:.0}ms]", 1000.0 * (to - from) + 1.0);
    for (function, seconds) in [("increase", 1.0), ("rate", to - from)] {
        let told = prometheus.value_at(Some(to), &format!("sum({function}({range}))")).unwrap();
        let (least, most) = (0.99 * least / seconds, 1.01 * most / seconds);
        println!("{function}: {told}, sent {least} to {most}");
        assert!((least..=most).contains(&told), "{function}: {told}, sent {least} to {most}: {scrapes:?}");
    }
}

/// Every query of the dashboard, as Grafana would send it.
fn queries() -> Vec<String> {
    let dashboard = fs::read_to_string(docs().join("grafana/lb.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let variables = [("$__rate_interval", "10s"), ("$__range", "1h"), ("$job", ".*"), ("$instance", ".*")];
    let filled = |query: &str| {
        variables.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
    };
    targets.map(|target| filled(text(&target["expr"]))).collect()
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let queries = queries();
    assert!(queries.len() > 20 && queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    let gate = Gate::new();
    gate.open();
    let lb = Lb::start(&["--replicas", "2", "--metrics", "127.0.0.1:0", "--command", &gate.command()]);
    let Some(prometheus) = Prometheus::scraping(port(&lb)) else { return };
    let first = lb.slot(1);
    signal(lb.process_of("server1"), "KILL");
    lb.wait_for_replacement(&first);
    for query in queries {
        eventually(&query, || {
            lb.route("132574");
            (!prometheus.query(&query).is_empty()).then_some(())
        });
    }
}

#[test]
fn the_rules_for_alerts_are_right() {
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let Some(mut promtool) = tool("promtool") else { return };
        let output =
            promtool.args([what, "rules", file]).current_dir(docs().join("prometheus")).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("SUCCESS"), "{file}: {said}");
    }
}

/// The names of metrics in a text.
fn names(text: &str) -> Vec<String> {
    let words =
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    let ours = words.filter(|word| ["lb_", "process_"].iter().any(|prefix| word.starts_with(prefix)));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_metric_is_in_the_book_and_nothing_else_is_asked_for() {
    let lb = calm(&["--replicas", "1"]);
    let page = super::page::scrape(&lb);
    let declared: Vec<&str> =
        page.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let book = fs::read_to_string(docs().join("METRICS.md")).unwrap();
    let missing: Vec<&&str> =
        declared.iter().filter(|name| !book.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/METRICS.md says nothing of {missing:?}");
    let files = ["METRICS.md", "grafana/lb.json", "prometheus/alerts.yml"];
    for file in files {
        for name in names(&fs::read_to_string(docs().join(file)).unwrap()) {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            let is_known =
                declared.contains(&name.as_str()) || family.is_some_and(|it| declared.contains(&it));
            assert!(is_known, "{file}: there is no {name}");
        }
    }
}
