use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proto::control::Backends;
use serde_json::{Value, json};

use super::*;

/// What `backends` says of a slot.
pub(in crate::top) fn slot(index: u32, name: &str, state: &str, open: usize, total: u64) -> Value {
    json!({
        "index": index, "name": name, "hostname": name, "address": "127.0.0.1:7", "pid": 100 + index, "state": state,
        "since": "2026-01-31T12:00:00Z", "restarts": index % 3, "connections": {"open": open, "total": total}
    })
}

/// The news that there are these slots and spares.
pub(in crate::top) fn seen(backends: &[Value], spares: &[Value]) -> News {
    let answer = json!({"N": backends.len(), "backends": backends, "spares": spares});
    let backends: Backends = serde_json::from_value(answer).unwrap();
    let (mapping, incidents) = ("ring".to_owned(), Vec::new());
    News::Seen(Box::new(Seen { backends, mapping, incidents, metrics: None }))
}

/// A view of three slots, and of a spare that has no process.
pub(in crate::top) fn app() -> App {
    let mut app = App::new("127.0.0.1:5001".to_owned());
    let spare = json!({
        "hostname": "spare1", "address": null, "state": "up", "since": "", "restarts": 0,
        "connections": {"open": 0, "total": 0}
    });
    let slots = |total| {
        vec![slot(1, "a", "up", 3, total), slot(2, "b", "down", 9, 10), slot(3, "c", "up", 1, 2 * total)]
    };
    app.hear(seen(&slots(10), std::slice::from_ref(&spare)), Duration::ZERO);
    app.hear(seen(&slots(20), &[spare]), Duration::from_secs(2));
    app
}

fn press(app: &mut App, keys: &str) -> Option<Wish> {
    let keys = keys.chars().map(KeyCode::Char).map(|code| app.press(code.into()));
    keys.last().unwrap()
}

fn code(app: &mut App, code: KeyCode) -> Option<Wish> {
    app.press(code.into())
}

fn names(app: &App) -> Vec<String> {
    app.shown().iter().map(|row| row.hostname.clone()).collect()
}

fn selected(app: &App) -> String {
    let shown = app.shown();
    shown[app.selected(&shown).unwrap()].hostname.clone()
}

#[test]
fn rows_are_sorted_and_reversed() {
    let mut app = app();
    let orders = [
        ["a", "b", "c", "spare1"],
        // What is out of rotation, and what has most, comes first.
        ["b", "a", "c", "spare1"],
        ["b", "a", "c", "spare1"],
        ["c", "a", "b", "spare1"],
        ["c", "a", "b", "spare1"],
        ["b", "a", "c", "spare1"],
        ["a", "b", "c", "spare1"],
    ];
    for (step, order) in orders.into_iter().enumerate() {
        assert_eq!(names(&app), order, "{step}: by {}", app.sort.name());
        press(&mut app, "s");
    }
    press(&mut app, "sssssr");
    assert_eq!((names(&app), app.sort), (["spare1", "c", "b", "a"].map(str::to_owned).to_vec(), Sort::Slot));
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let mut app = app();
    assert_eq!(press(&mut app, "/DOWNx"), None);
    assert_eq!(names(&app), [""; 0]);
    code(&mut app, KeyCode::Backspace);
    assert_eq!(names(&app), ["b"]);
    code(&mut app, KeyCode::Enter);
    assert_eq!((app.mode.clone(), app.filter.as_str()), (Mode::Table, "DOWN"), "as it was typed");
    press(&mut app, "/k");
    code(&mut app, KeyCode::Esc);
    assert_eq!(app.filter, "DOWN", "the one from before");
    code(&mut app, KeyCode::Esc);
    assert_eq!(names(&app).len(), 4);
    press(&mut app, "/spare");
    assert_eq!(names(&app), ["spare1"]);
    app.press(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    assert_eq!(app.filter, "");
    // Neither a table that is empty nor the keys on it are a problem.
    press(&mut app, "nothing");
    code(&mut app, KeyCode::Enter);
    for key in [KeyCode::Down, KeyCode::End, KeyCode::PageUp, KeyCode::Char('k'), KeyCode::Char('d')] {
        assert_eq!(code(&mut app, key), None);
    }
    assert_eq!(app.mode, Mode::Table);
}

#[test]
fn the_selected_row_stays_selected_wherever_it_goes() {
    let mut app = app();
    assert_eq!(selected(&app), "a");
    code(&mut app, KeyCode::Down);
    assert_eq!(selected(&app), "b");
    press(&mut app, "r");
    assert_eq!(selected(&app), "b");
    code(&mut app, KeyCode::Home);
    assert_eq!(selected(&app), "spare1");
    code(&mut app, KeyCode::End);
    code(&mut app, KeyCode::Down);
    assert_eq!(selected(&app), "a");
    // One that has gone leaves its place to another.
    app.hear(seen(&[slot(2, "b", "up", 0, 0), slot(3, "c", "up", 0, 0)], &[]), Duration::from_secs(3));
    assert_eq!(selected(&app), "b");
    app.hear(seen(&[], &[]), Duration::from_secs(4));
    assert_eq!(app.selected(&app.shown()), None);
}

#[test]
fn a_kill_needs_a_yes_and_is_about_the_replica_that_was_asked_for() {
    let mut app = app();
    assert_eq!(press(&mut app, "k"), None);
    let Mode::Confirm { text, .. } = &app.mode else { panic!("{:?}", app.mode) };
    assert!(text.starts_with("Kill a (process 101) in slot a? ") && text.contains("Its 3 open"), "{text}");
    assert_eq!(press(&mut app, "n"), None);
    assert_eq!(app.said.clone().unwrap().text, "nothing was done");
    press(&mut app, "k");
    // Meanwhile another one has moved in.
    let mut other = slot(1, "a", "up", 0, 0);
    other["hostname"] = "a2".into();
    app.hear(seen(&[other], &[]), Duration::from_secs(3));
    assert_eq!(press(&mut app, "y"), Some(Wish::Ask(Question::Kill("a".to_owned()))));
    // One question at a time.
    assert_eq!(press(&mut app, "k"), None);
    assert!(app.said.clone().unwrap().is_wrong && app.mode == Mode::Table);
    app.answered(Err("hostname a is unknown".to_owned()));
    assert!(app.said.clone().unwrap().is_wrong);
    press(&mut app, "k");
    assert!(matches!(&app.mode, Mode::Confirm { question: Question::Kill(name), .. } if name == "a2"));
}

#[test]
fn what_lb_has_not_started_is_not_killed_and_a_spare_not_drained() {
    let mut app = app();
    code(&mut app, KeyCode::End);
    for (key, message) in [("k", "spare1 was not started by lb"), ("d", "spare1 is a spare")] {
        assert_eq!(press(&mut app, key), None);
        let said = app.said.clone().unwrap();
        assert!(said.is_wrong && said.text.starts_with(message), "{said:?}");
    }
}

#[test]
fn a_drain_is_weight_0_and_gives_the_weight_back() {
    let mut app = app();
    let weighed = |weight: u32| {
        let mut slot = slot(1, "a", "up", 3, 20);
        slot["weight"] = weight.into();
        seen(&[slot], &[])
    };
    app.hear(weighed(7), Duration::from_secs(3));
    press(&mut app, "d");
    assert_eq!(press(&mut app, "y"), Some(Wish::Ask(Question::Weigh("a".to_owned(), 0))));
    app.answered(Ok(Done::Said("a has the weight 0".to_owned())));
    app.hear(weighed(0), Duration::from_secs(4));
    press(&mut app, "d");
    assert_eq!(press(&mut app, "y"), Some(Wish::Ask(Question::Weigh("a".to_owned(), 7))));
}

#[test]
fn an_id_is_explained_and_remembered() {
    let mut app = app();
    assert_eq!(press(&mut app, "eq y"), None);
    let wish = code(&mut app, KeyCode::Enter);
    assert_eq!(wish, Some(Wish::Ask(Question::Explain("q y".to_owned()))));
    app.answered(Ok(Done::Explained(vec!["it goes to a".to_owned()])));
    assert!(matches!(&app.mode, Mode::Text { lines, .. } if lines == &["it goes to a"]));
    code(&mut app, KeyCode::Down);
    assert_eq!(app.scroll, 1);
    assert_eq!(press(&mut app, "q"), None, "it closes the text");
    press(&mut app, "e");
    assert_eq!(app.mode, Mode::Id { typed: "q y".to_owned() });
    code(&mut app, KeyCode::Esc);
    // An answer that comes late does not take the keys away.
    press(&mut app, "/");
    app.answered(Ok(Done::Explained(Vec::new())));
    assert!(matches!(app.mode, Mode::Filter { .. }));
}

#[test]
fn what_is_pasted_is_no_command() {
    let mut app = app();
    app.paste("ky");
    assert_eq!(app.mode, Mode::Table);
    press(&mut app, "e");
    app.paste("1\u{1b}\n2");
    assert_eq!(app.mode, Mode::Id { typed: "12".to_owned() });
    app.paste(&"x".repeat(5000));
    assert!(matches!(&app.mode, Mode::Id { typed } if typed.len() == 1000));
}

#[test]
fn a_token_is_asked_for_and_the_view_goes_on() {
    let mut app = app();
    app.hear(News::Unproven("the token is missing: expected x".to_owned()), Duration::from_secs(3));
    assert_eq!(app.link, Link::Unproven);
    assert_eq!(code(&mut app, KeyCode::Enter), None, "nothing is no token");
    press(&mut app, "q1");
    assert_eq!(code(&mut app, KeyCode::Enter), Some(Wish::Prove("q1".to_owned())));
    app.hear(News::Unproven("the token is wrong: expected x".to_owned()), Duration::from_secs(4));
    assert!(matches!(&app.mode, Mode::Token { typed, .. } if typed.is_empty()));
    assert_eq!(code(&mut app, KeyCode::Esc), Some(Wish::Leave));
    app.hear(News::Lost("gone".to_owned()), Duration::from_secs(5));
    assert_eq!(
        (app.link.clone(), names(&app).len()),
        (Link::Lost("gone".to_owned()), 4),
        "the last picture stays"
    );
}

#[test]
fn ctrl_c_leaves_from_everywhere() {
    for keys in ["?", "i", "/", "e", "k", "d"] {
        let mut app = app();
        press(&mut app, keys);
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(app.press(control('z')), Some(Wish::Suspend), "{keys}");
        assert_eq!(app.press(control('c')), Some(Wish::Leave), "{keys}");
    }
    assert_eq!(press(&mut app(), "q"), Some(Wish::Leave));
}
