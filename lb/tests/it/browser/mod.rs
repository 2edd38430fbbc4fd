//! The page in a real browser. One browser looks at it in turn, because each start costs seconds: as a demo, with a token, with a
//! thousand slots.
//!
//! `UPDATE_DOCS=1` writes the pictures of it into `docs/`.

mod changes;
pub(crate) mod driver;

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::control::calm;
use crate::harness::{Lb, Replica, eventually_within, text};
use driver::{Browser, ENTER, PATIENCE};

const RULES: &str = include_str!("rules.js");
const ROWS: &str = "return document.querySelectorAll('#rows > tr').length";
/// The window that the pictures show.
const WINDOW: (u32, u32) = (1440, 900);

#[test]
fn the_page_in_a_browser() {
    let browser = Browser::start();
    demo(&browser);
    token(&browser);
    elsewhere(&browser);
    thousand_slots(&browser);
}

fn demo(browser: &Browser) {
    let lb = Lb::start(&["--demo"]);
    let page = lb.wait_for_log("demo: open http://127.0.0.1:");
    assert!(page.contains(&lb.control.to_string()), "{page}");
    let way = Way::to(lb.control);
    browser.look(WINDOW, "light");
    browser.open(&format!("http://{}/", way.address));
    loads(browser);
    moves(browser);
    asks(browser, &lb);
    kills(browser, &lb);
    plans(browser, &lb);
    adds(browser, &lb);
    follows_the_rules(browser);
    draw(browser);
    changes::makes_each_change(browser, &lb);
    browser.open(&format!("http://{}/", way.address));
    loads_again(browser);
    changes::obeys_a_keyboard(browser, &lb);
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    is_mended(browser, &way);
}

fn loads(browser: &Browser) {
    browser.wait("a live page", "return document.getElementById('link').dataset.link === 'live'");
    browser.wait("three slots", &format!("{ROWS} === 3"));
    browser.wait("the ring", "return document.querySelectorAll('#ring-picture path').length >= 9");
    assert_eq!(browser.run("return document.querySelectorAll('#ring-rows > tr').length"), 3);
    assert_eq!(browser.text("#fact-mapping"), "ring");
    browser.wait("events", "return document.querySelectorAll('#event-list > li').length >= 4");
}

/// After all that was changed.
fn loads_again(browser: &Browser) {
    browser.wait("a live page", "return document.getElementById('link').dataset.link === 'live'");
    browser.wait("two slots", &format!("{ROWS} === 2"));
}

/// The load of the demo is seen.
fn moves(browser: &Browser) {
    browser.wait("a rate", "return parseFloat(document.getElementById('fact-rate').innerText) > 0");
    browser.wait("open connections", "return Number(document.getElementById('fact-open').innerText) > 0");
}

fn asks(browser: &Browser, lb: &Lb) {
    browser.type_into("#ask-id", &format!("132574{ENTER}"));
    let pick = lb.done(&json!({"cmd": "explain", "id": "132574"}))["pick"].clone();
    browser.wait("an answer", "return document.querySelectorAll('.candidates li').length === 3");
    let said = browser.text("#ask-answer p");
    assert!(said.contains(&format!("132574 goes to {}.", text(&pick))), "{said}");
    assert_eq!(browser.run("return document.querySelectorAll('#ring-picture .mark').length"), 1);
    assert!(browser.text(".candidates .picked").starts_with(text(&pick)));
}

/// A kill by a button is seen, and its end. How fast, is only told.
fn kills(browser: &Browser, lb: &Lb) {
    browser.click("#rows > tr:nth-child(2) .commands .danger");
    let said = browser.text("#kill-text");
    let process = lb.process_of("server2");
    assert!(said.starts_with(&format!("server2 (process {process}) ends at once.")), "{said}");
    let begun = Instant::now();
    browser.click("#kill-do");
    browser.wait(
        "the end of the incident",
        "return document.querySelector('#incident-list li:not(.open)')?.innerText.includes('server2 lost server2')",
    );
    println!("a kill is seen and healed on the page after {:?}", begun.elapsed());
    let after = lb.wait_for_restarts(2, 1);
    let hostname = format!(
        "return document.querySelector('#rows > tr:nth-child(2)').innerText.includes({})",
        after["hostname"]
    );
    browser.wait("the successor in its row", &hostname);
    browser.wait("all in rotation", "return document.getElementById('fact-up').innerText === '3 of 3'");
    let bar = "return document.querySelector('#incident-list .bar').getAttribute('aria-label')";
    let bar = browser.run(bar);
    assert!(["notice ", "start ", "ready "].iter().all(|phase| text(&bar).contains(phase)), "{bar}");
}

fn plans(browser: &Browser, lb: &Lb) {
    browser.choose("#change-kind", "rm");
    browser.choose("#change-replica", "server3");
    browser.click("#change-plan");
    let moved = browser.wait("a plan", "return document.getElementById('plan-moved')?.innerText");
    let mut client = Command::new(env!("CARGO_BIN_EXE_lb"));
    client.args(["plan", "rm", "server3"]).env("LB_CONTROL", lb.control.to_string());
    let told = String::from_utf8(client.output().unwrap().stdout).unwrap();
    assert!(told.starts_with(&format!("{} of all ", text(&moved))), "{moved}: {told}");
    assert!(told.contains(&browser.text("#plan-command")), "{told}");
    // Its arcs are on the ring, in the colours of the two that would get the keys.
    let planned = "return document.querySelectorAll('#ring-picture > g:nth-of-type(4) path').length";
    assert_eq!(browser.run(planned), 2);
    browser.click("#plan .quiet");
    assert_eq!((browser.run(planned), browser.text("#plan").as_str()), (json!(0), ""));
}

fn adds(browser: &Browser, lb: &Lb) {
    browser.choose("#change-kind", "add");
    browser.type_into("#change-names", "S9");
    browser.click("#change-plan");
    browser.wait("a plan", "return document.getElementById('plan-do') !== null");
    browser.click("#plan-do");
    browser.wait("the end of it", "return document.querySelector('#plan .done') !== null");
    assert!(lb.hostnames().contains(&"S9".to_owned()));
    browser.wait("four slots", &format!("{ROWS} === 4"));
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    // A name in use is refused, and nothing changes. The browser complains of the status.
    browser.click("#change-plan");
    let said = browser.wait("a refusal", "return document.querySelector('#plan .wrong')?.innerText");
    assert!(text(&said).contains("S9"), "{said}");
    assert_eq!(lb.hostnames().len(), 4);
    for complaint in browser.complaints() {
        assert!(text(&complaint["message"]).contains("/plan - Failed to load resource"), "{complaint}");
    }
}

fn follows_the_rules(browser: &Browser) {
    // What breaks them is found.
    let broken = "const bad = document.createElement('p'); bad.id = 'link'; bad.append('pale', document.createElement('input'));
        bad.style.color = '#ccc'; bad.style.background = '#fff'; bad.style.width = '9999px'; document.body.append(bad);";
    browser.run(broken);
    let found = browser.run(RULES);
    for rule in ["no label: input", "link is there twice", "contrast 1.61: p#link", " pixels wide of 1440"] {
        assert!(found.as_array().unwrap().iter().any(|one| text(one).contains(rule)), "{rule}: {found}");
    }
    browser.run("document.body.lastElementChild.remove()");
    browser.run("document.querySelector('details').open = true");
    for size in [(360, 740), WINDOW, (2560, 1440)] {
        for scheme in ["light", "dark"] {
            browser.look(size, scheme);
            // Colours change over some tenths of a second.
            let broken = eventually_within(PATIENCE, "a page that keeps the rules", || {
                let broken = browser.run(RULES);
                println!("{size:?} {scheme}: {broken}");
                broken.as_array().unwrap().is_empty().then_some(broken)
            });
            assert_eq!(broken, json!([]), "{size:?} {scheme}");
        }
    }
    browser.run("document.querySelector('details').open = false");
}

/// Pictures for the book.
fn draw(browser: &Browser) {
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    browser.choose("#change-kind", "rm");
    browser.click("#change-plan");
    browser.wait("a plan", "return document.getElementById('plan-do') !== null");
    for (scheme, file) in [("light", "page-light.png"), ("dark", "page-dark.png")] {
        browser.look((WINDOW.0, 1180), scheme);
        browser.run("document.activeElement.blur(); scrollTo(0, 0)");
        let picture = browser.devtools("Page.captureScreenshot", &json!({}));
        let picture = STANDARD.decode(text(&picture["data"])).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
        std::fs::write(path, picture).unwrap();
    }
}

/// A lost connection is said, and mended without a hand.
fn is_mended(browser: &Browser, way: &Way) {
    way.block();
    browser.wait("the loss", "return document.getElementById('lost').checkVisibility() && document.body.classList.contains('stale')");
    assert!(browser.text("#lost").contains("connection to lb is lost"));
    way.open();
    browser.wait("the way back", "return document.getElementById('link').dataset.link === 'live'");
    browser.wait("no more of it", "return !document.getElementById('lost').checkVisibility()");
    leave(browser);
}

/// Leaves the page before its `lb` ends, and forgets complaints of what could not be fetched.
fn leave(browser: &Browser) {
    browser.open("about:blank");
    browser.complaints();
}

fn token(browser: &Browser) {
    const RIGHT: &str = "a-token-that-is-long";
    let lb = calm(&["--replicas", "2", "--control-token", RIGHT]);
    browser.open(&format!("http://{}/", lb.control));
    browser.wait("the question", "return document.getElementById('token').open");
    browser.type_into("#token-value", &format!("a-wrong-one{ENTER}"));
    browser.wait(
        "the refusal",
        "return document.getElementById('token-wrong').innerText.includes('the token is wrong')",
    );
    assert_eq!((browser.run(ROWS), browser.text("#fact-up").as_str()), (json!(0), "–"));
    browser.type_into("#token-value", &format!("{RIGHT}{ENTER}"));
    browser.wait("two slots", &format!("{ROWS} === 2"));
    browser.wait("a live page", "return document.getElementById('link').dataset.link === 'live'");
    // It is kept in the tab, and nowhere else.
    browser.run("location.reload()");
    browser.wait("two slots again", &format!("{ROWS} === 2"));
    assert_eq!(browser.run("return document.getElementById('token').open"), false);
    assert_eq!(browser.run("return [localStorage.length, document.cookie]"), json!([0, ""]));
    browser.click("#forget");
    browser.wait("the question again", "return document.getElementById('token').open");
    // The browser complains of each 401, and of nothing else.
    for complaint in browser.complaints() {
        assert!(text(&complaint["message"]).contains("401 (Unauthorized)"), "{complaint}");
    }
    leave(browser);
}

/// A page that was opened elsewhere than on loopback: its origin is a name, which leads here.
fn elsewhere(browser: &Browser) {
    const TOKEN: &str = "a-token-that-is-long";
    let lb = calm(&["--replicas", "2", "--control-token", TOKEN]);
    let add = |host: &str, name: &str| {
        browser.open(&format!("http://{host}:{}/", lb.control.port()));
        browser.wait("the question", "return document.getElementById('token').open");
        browser.type_into("#token-value", &format!("{TOKEN}{ENTER}"));
        browser.wait("a live page", "return document.getElementById('link').dataset.link === 'live'");
        browser.choose("#change-kind", "add");
        browser.type_into("#change-names", name);
        browser.click("#change-plan");
    };
    add("lb", "S5");
    browser.wait("a plan", "return document.getElementById('plan-do') !== null");
    browser.click("#plan-do");
    browser.wait("the end of it", "return document.querySelector('#plan .done') !== null");
    browser.wait("three slots", &format!("{ROWS} === 3"));
    // Such a name could be that of any web page.
    add("lb.example", "S6");
    let said = browser.wait("a refusal", "return document.querySelector('#plan .wrong')?.innerText");
    assert!(text(&said).contains("`Origin`: invalid value `http://lb.example:"), "{said}");
    let rep = lb.ask(&json!({"cmd": "rep", "token": TOKEN}));
    assert_eq!(rep["message"]["replicas"], json!(["server1", "server2", "S5"]));
    leave(browser);
}

fn thousand_slots(browser: &Browser) {
    let replica = Replica::start(|_, _| {});
    let backends: Vec<String> = (1..=1000).map(|n| format!("s{n}={}", replica.address)).collect();
    let patience =
        ["--provider", "fixed", "--health", "tcp", "--health-interval", "1m", "--health-timeout", "30s"];
    let mut flags = patience.to_vec();
    backends.iter().for_each(|backend| flags.extend(["--backend", backend]));
    let lb = Lb::launch(&flags);
    lb.wait_for_log("ready data=");
    let begun = Instant::now();
    browser.open(&format!("http://{}/", lb.control));
    browser.wait("a thousand slots", &format!("{ROWS} === 1000"));
    let paint = browser.run("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime");
    println!("1,000 slots: first paint after {paint} ms, all rows after {:?}", begun.elapsed());
    browser.type_into("#filter", "s77");
    // s77 and s770 to s779.
    browser.wait("eleven of them", &format!("{ROWS} === 11"));
    browser.run("document.getElementById('filter').value = ''");
    browser.type_into("#filter", "up");
    browser.wait("all of them", &format!("{ROWS} === 1000"));
    browser.type_into("#ask-id", &format!("alice@example.org{ENTER}"));
    let pick = lb.done(&json!({"cmd": "explain", "id": "alice@example.org"}))["pick"].clone();
    let asked = format!(
        "return document.querySelector('#ask-answer p')?.innerText.includes('goes to ' + {pick} + '.')"
    );
    browser.wait("an answer", &asked);
    // No kill is offered where lb has started nothing.
    assert_eq!(browser.run("return [...document.querySelectorAll('.commands .danger')].filter((one) => one.checkVisibility()).length"), 0);
    // How fast it follows, is only told.
    let reads = "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/backends')).length";
    browser.run("performance.clearResourceTimings(); performance.setResourceTimingBufferSize(2000)");
    let begun = Instant::now();
    let read = eventually_within(PATIENCE, "ten reads", || {
        lb.refused(&json!({"cmd": "kill", "hostname": "s1"}));
        browser.run(reads).as_u64().filter(|&read| read >= 10)
    });
    println!("1,000 slots: {read} updates in {:?}", begun.elapsed());
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

/// A way to the control port that can be blocked: every connection ends, and none is let in.
struct Way {
    address: SocketAddr,
    state: Arc<Mutex<WayState>>,
}

#[derive(Default)]
struct WayState {
    is_blocked: bool,
    open: Vec<TcpStream>,
}

impl Way {
    fn to(target: SocketAddr) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<Mutex<WayState>>::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                if state.is_blocked {
                    continue;
                }
                let Ok(onward) = TcpStream::connect(target) else { continue };
                state.open.extend([stream.try_clone().unwrap(), onward.try_clone().unwrap()]);
                let (mut back, mut forth) = (onward.try_clone().unwrap(), onward);
                let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut forth);
                    let _ = forth.shutdown(Shutdown::Write);
                });
                thread::spawn(move || {
                    let _ = io::copy(&mut back, &mut to).and_then(|_| to.flush());
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        Way { address, state }
    }

    fn block(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_blocked = true;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        self.state.lock().unwrap().is_blocked = false;
    }
}
