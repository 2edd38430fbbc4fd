//! Each change that the page offers, made on it and looked up in `lb`; and all of it with a keyboard alone.

use std::io::{ErrorKind, Read as _};

use serde_json::{Value, json};

use super::ROWS;
use super::driver::{Browser, ENTER, ESCAPE, SPACE, TAB};
use crate::harness::{Lb, eventually, id_for, say, session, text};

/// The most presses of Tab that lead to a control.
const STEPS: usize = 200;

/// Plans this change, makes it, and waits until the page says that it is done. `fill` fills in the rest of the form.
#[track_caller]
fn make(browser: &Browser, kind: &str, fill: impl FnOnce()) {
    browser.choose("#change-kind", kind);
    fill();
    browser.click("#change-plan");
    browser.wait("a plan", "return document.getElementById('plan-do') !== null");
    browser.click("#plan-do");
    browser.wait("the end of it", "return document.querySelector('#plan .done') !== null");
}

/// The slot of this name, as `backends` shows it.
fn slot(lb: &Lb, name: &str) -> Option<Value> {
    lb.backends().into_iter().find(|slot| slot["name"] == name)
}

/// Four slots: server1 to server3 and S9. Two are left.
pub(super) fn makes_each_change(browser: &Browser, lb: &Lb) {
    removes_when_drained(browser, lb, "S9");
    weighs(browser, lb, "server1");
    // Its connections stay while it is drained, and are reset when it is removed at once.
    let (mut client, hostname) = session(lb, &id_for(lb, "server3"));
    assert_eq!(hostname, "server3");
    drains(browser, lb, "server3");
    say(&mut client, "it keeps its connections");
    maps(browser, lb);
    make(browser, "rm", || {
        browser.choose("#change-replica", "server3");
        browser.choose("#change-drain", "0s");
    });
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(lb.hostnames().len(), 2);
    eventually("the end of the slot", || slot(lb, "server3").is_none().then_some(()));
    browser.wait("two slots", &format!("{ROWS} === 2"));
    browser.wait("all in rotation", "return document.getElementById('fact-up').innerText === '2 of 2'");
}

fn removes_when_drained(browser: &Browser, lb: &Lb, name: &str) {
    let (mut client, hostname) = session(lb, &id_for(lb, name));
    assert_eq!(hostname, name);
    make(browser, "rm", || browser.choose("#change-replica", name));
    assert!(browser.text("#plan .done").contains("There are 3 replicas."));
    assert!(!lb.hostnames().contains(&name.to_owned()));
    assert_eq!(slot(lb, name).unwrap()["state"], "draining");
    browser.wait("its state", "return document.querySelector('#rows [data-state=draining]') !== null");
    say(&mut client, "it may finish");
    drop(client);
    eventually("the end of the slot", || slot(lb, name).is_none().then_some(()));
    browser.wait("three slots", &format!("{ROWS} === 3"));
}

fn weighs(browser: &Browser, lb: &Lb, name: &str) {
    make(browser, "weight", || {
        browser.choose("#change-replica", name);
        browser.run("document.getElementById('change-weight').value = ''");
        browser.type_into("#change-weight", "3");
    });
    assert_eq!(slot(lb, name).unwrap()["weight"], 3);
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["weights"][name], 3);
    let shown = format!(
        "return [...document.querySelectorAll('#rows > tr')].some((row) => row.innerText.includes({}) && row.innerText.includes('×3'))",
        json!(name)
    );
    browser.wait("the weight in its row", &shown);
}

fn drains(browser: &Browser, lb: &Lb, name: &str) {
    let id = id_for(lb, name);
    make(browser, "drain", || browser.choose("#change-replica", name));
    let slot = slot(lb, name).unwrap();
    assert_eq!((&slot["weight"], &slot["state"]), (&json!(0), &json!("up")));
    assert_eq!(lb.hostnames().len(), 3, "its slot stays");
    assert_ne!(lb.route(&id), name);
}

fn maps(browser: &Browser, lb: &Lb) {
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["mapping"], "ring");
    make(browser, "mapping", || browser.choose("#change-mapping", "maglev"));
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["mapping"], "maglev");
    browser.wait("the mapping", "return document.getElementById('fact-mapping').innerText === 'maglev'");
}

/// Presses Tab until the focus is on this control.
#[track_caller]
fn go_to(browser: &Browser, selector: &str) {
    let is_there = format!("return document.activeElement.matches({})", json!(selector));
    let found = (0..STEPS).any(|_| {
        browser.press(TAB);
        browser.run(&is_there) == true
    });
    assert!(found, "Tab does not lead to {selector}");
}

/// On a page that has just been opened. Nothing is clicked.
pub(super) fn obeys_a_keyboard(browser: &Browser, lb: &Lb) {
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.className"), "skip", "it comes first");
    browser.press(ENTER);
    browser.wait("the replicas", "return document.activeElement.id === 'replicas-title'");
    let kill = "#rows > tr:nth-child(1) .danger";
    let is_open = "return document.getElementById('kill').open";
    let before = lb.slot(1);
    go_to(browser, kill);
    browser.press(SPACE);
    browser.wait("the question", is_open);
    browser.press(ESCAPE);
    browser.wait("no question", &is_open.replace("return ", "return !"));
    let is_back = format!("return document.activeElement.matches({})", json!(kill));
    assert_eq!(browser.run(&is_back), true, "the focus is where it was");
    assert_eq!(lb.slot(1)["hostname"], before["hostname"]);
    browser.press(ENTER);
    browser.wait("the question again", is_open);
    assert!(browser.text("#kill-text").starts_with(text(&before["hostname"])));
    browser.press(ENTER);
    browser.wait("no question", &is_open.replace("return ", "return !"));
    let after = lb.wait_for_replacement(&before);
    assert_ne!(after["hostname"], before["hostname"]);

    browser.run("document.activeElement.blur(); scrollTo(0, 0)");
    go_to(browser, "#ask-id");
    "alice".chars().for_each(|letter| browser.press(letter));
    browser.press(ENTER);
    let said = browser.wait("an answer", "return document.querySelector('#ask-answer p')?.innerText");
    assert!(text(&said).starts_with("alice goes to "), "{said}");
}
