use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::*;
use crate::top::app::tests::{app, seen, slot};
use crate::top::app::{Link, Mode};
use crate::top::asking::News;

/// A minute after the slots of the tests got into their states.
fn moment(since_begin: u64) -> Moment {
    let clock = humantime::parse_rfc3339("2026-01-31T12:01:00Z").unwrap();
    Moment::new(Duration::from_secs(since_begin), clock)
}

fn drawn(app: &mut App, size: (u16, u16), has_colours: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, app, moment(3), has_colours)).unwrap();
    terminal
}

/// The lines of the screen, without the blanks at their ends.
fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(buffer.area.width).max(1));
    let line = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    rows.map(|row| line(row).trim_end().to_owned()).collect()
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    lines(&drawn(app, (width, height), true))
}

fn incident(total: Option<f64>) -> proto::incident::Incident {
    let phases = total.map_or_else(|| json!({"notice": 0.1}), |total| json!({"notice": 0.1, "total": total}));
    serde_json::from_value(json!({
        "slot": "b", "hostname": "b", "began": "2026-01-31T12:00:58.250Z", "cause": "exited", "phases": phases,
        "replaced_by": "b2", "starts": 1, "cut": 2, "refused": 0, "retried": 3
    }))
    .unwrap()
}

#[test]
fn a_small_screen_shows_all_that_counts() {
    let mut app = app();
    app.incidents = vec![incident(Some(0.031)), incident(None)];
    let found = screen(&mut app, 80, 24);
    let expected = [
        "lb top  127.0.0.1:5001  by slot                                             live",
        "2 of 3 up, 1 spare  15.0/s  13 open  connect p50 - p99 -  ring",
        " SLOT*     REPLICA         STATE         FOR   OPEN  RATE/S   SHARE  TARGET  RST",
        ">a         a               up            1 m      3     5.0  33.3 %       -    1",
        " b         b               down          1 m      9     0.0   0.0 %       -    2",
        " c         c               up            1 m      1    10.0  66.7 %       -    0",
        " (spare)   spare1          up              -      0     0.0       -       -    0",
    ];
    assert_eq!(found[..7], expected);
    let expected = [
        "slot a: a at 127.0.0.1:7, process 101",
        "Incidents: 2",
        "12:00:58  not over, 1 s       b             2 cut, 3 retried, 0 refused  exited",
        "12:00:58  back after 31.0 ms  b             2 cut, 3 retried, 0 refused  exited",
        "",
        "",
        KEYS,
    ];
    assert_eq!(found[17..], expected);
}

#[test]
fn a_wide_screen_shows_more() {
    let mut app = app();
    let found = screen(&mut app, 200, 30);
    for title in ["SHARE, TARGET |", "TOTAL", "ADDRESS", "RUNS IN", "WEIGHT", "NOTE"] {
        assert!(found[2].contains(title), "{}", found[2]);
    }
    assert!(found[5].contains("===============") && found[5].contains("process 103"), "{}", found[5]);
    // A column that does not fit is left out, and takes nothing from the others.
    let found = screen(&mut app, 130, 30);
    assert!(found[2].contains("SHARE, TARGET |") && !found[2].contains("RUNS IN"), "{}", found[2]);
}

#[test]
fn every_size_can_be_drawn_in_every_mode() {
    let modes = [
        Mode::Table,
        Mode::Filter { before: String::new() },
        Mode::Id { typed: "1".repeat(300) },
        Mode::Confirm {
            question: crate::top::asking::Question::Kill("a".to_owned()),
            text: "Kill a? ".repeat(50),
        },
        Mode::Text { title: "explain", lines: vec!["x".repeat(300)] },
        Mode::Incidents,
        Mode::Help,
        Mode::Token { typed: "secret".to_owned(), why: "the token is missing".to_owned() },
    ];
    let mut app = app();
    app.incidents = vec![incident(None)];
    for mode in modes {
        app.mode = mode;
        for (width, height) in [(1, 1), (3, 2), (20, 5), (40, 13), (80, 24), (300, 3), (500, 100)] {
            let all = lines(&drawn(&mut app, (width, height), true)).concat();
            assert!(!all.contains("secret"), "a token is never shown");
        }
    }
}

#[test]
fn nothing_from_elsewhere_is_obeyed_by_a_terminal() {
    let evil = "\u{1b}[31m\u{9b}2J\u{202e}\r\n\t\u{7}\u{0}".repeat(40);
    let mut app = App::new(proto::printable::printable(&evil));
    let mut backend = slot(1, &evil, "down", 1, 1);
    for field in ["hostname", "address", "node", "container", "reason", "since"] {
        backend[field] = evil.as_str().into();
    }
    backend["pid"] = Value::Null;
    backend["next_retry"] = 1e300.into();
    let mut news = seen(&[backend], &[]);
    let News::Seen(seen) = &mut news else { unreachable!() };
    let mut incident = incident(None);
    (incident.slot, incident.began, incident.cause) = (evil.clone(), evil.clone(), evil.clone());
    (seen.incidents, seen.mapping) = (vec![incident], evil.clone());
    app.hear(news, Duration::ZERO);
    app.filter.clear();
    for keys in ["", "i", "k", "d", "e"] {
        for key in keys.chars() {
            app.press(crossterm::event::KeyCode::Char(key).into());
        }
        app.paste(&evil);
        for size in [(80, 24), (250, 50)] {
            for line in lines(&drawn(&mut app, size, true)) {
                let is_bad = |letter: char| letter.is_control() || letter == '\u{202e}';
                assert!(!line.contains(is_bad), "{keys}: {line:?}");
            }
        }
        app.press(crossterm::event::KeyCode::Esc.into());
    }
    app.answered(Err(proto::printable::printable(&evil)));
    app.link = Link::Lost(proto::printable::printable(&evil));
    assert!(!screen(&mut app, 80, 24).concat().contains(char::is_control));
}

#[test]
fn long_names_stay_in_their_columns() {
    let mut app = App::new("127.0.0.1:5001".to_owned());
    let long = "日本".repeat(40);
    app.hear(seen(&[slot(1, &long, "up", 7, 7)], &[]), Duration::ZERO);
    let row = screen(&mut app, 80, 24)[3].clone();
    assert!(row.contains(" up ") && row.trim_end().ends_with(" 1"), "{row}");
}

#[test]
fn without_colours_only_attributes_stand_out() {
    let mut app = app();
    app.link = Link::Lost("gone".to_owned());
    let is_coloured = |terminal: &Terminal<TestBackend>| {
        let cells = &terminal.backend().buffer().content;
        cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(is_coloured(&drawn(&mut app, (80, 24), true)));
    assert!(!is_coloured(&drawn(&mut app, (80, 24), false)));
    let found = screen(&mut app, 80, 24);
    assert!(found[0].ends_with("not connected, tries again") && found[23] == "gone", "{found:?}");
}

#[test]
fn news_that_stays_out_is_no_picture_of_now() {
    let mut app = app();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, &mut app, moment(12), true)).unwrap();
    assert!(lines(&terminal)[0].ends_with("no answer for 10 s"), "{}", lines(&terminal)[0]);
}

#[test]
fn a_long_table_follows_the_selected_row() {
    let mut app = App::new("127.0.0.1:5001".to_owned());
    let slots: Vec<Value> = (1..=1000).map(|index| slot(index, &format!("s{index}"), "up", 0, 0)).collect();
    app.hear(seen(&slots, &[]), Duration::ZERO);
    let found = |app: &mut App| screen(app, 80, 24)[3..17].to_vec();
    assert!(found(&mut app)[0].starts_with(">s1 "));
    app.press(crossterm::event::KeyCode::End.into());
    assert!(found(&mut app)[13].starts_with(">s1000 "));
    app.press(crossterm::event::KeyCode::PageUp.into());
    let rows = found(&mut app);
    assert!(rows[0].starts_with(">s986 ") && rows[13].starts_with(" s999 "), "{rows:?}");
    app.press(crossterm::event::KeyCode::Home.into());
    assert!(found(&mut app)[0].starts_with(">s1 "));
}

#[test]
fn a_text_is_scrolled_to_its_end_and_no_further() {
    let mut app = app();
    let lines = (0..100).map(|number| format!("line {number}")).collect();
    app.mode = Mode::Text { title: "explain", lines };
    app.scroll = usize::MAX;
    let found = screen(&mut app, 80, 24);
    assert!(found[22].starts_with("│line 99 ") && app.scroll == 78, "{}: {}", app.scroll, found[22]);
}

#[test]
fn what_is_typed_is_seen_at_its_end() {
    let mut app = app();
    app.mode = Mode::Id { typed: format!("{}end", "1".repeat(200)) };
    let mut terminal = drawn(&mut app, (80, 24), true);
    let foot = lines(&terminal)[23].clone();
    assert!(foot.starts_with("explain the request id: 1") && foot.ends_with("1end"), "{foot}");
    terminal.backend_mut().assert_cursor_position((79, 23));
}

#[test]
fn times_and_rates_are_short() {
    let ages = [(0, "0 s"), (59, "59 s"), (60, "1 m"), (5999, "99 m"), (6000, "1 h"), (172_800, "2 d")];
    for (seconds, expected) in ages {
        assert_eq!(age(Duration::from_secs(seconds)), expected);
    }
    assert_eq!([0.0, 99.94, 99.96].map(rate), ["0.0", "99.9", "100"]);
    assert_eq!([None, Some(0.0), Some(1.0)].map(percent), ["-", "0.0 %", "100.0 %"]);
}
