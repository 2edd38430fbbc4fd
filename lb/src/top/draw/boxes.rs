//! Boxes over the view: a question that waits for a yes, a token, an explanation, all incidents, help.

use proto::incident::Incident;
use proto::printable::printable;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::{Paint, input_line};
use crate::client::incident_in_words;
use crate::top::app::{App, Mode};

/// The widest box for a few lines, in columns.
const NARROW: u16 = 64;
/// The lines of a small box: what it says, what is typed or to be pressed, and its edges.
const SMALL: u16 = 8;

const HELP: [&str; 22] = [
    "up, down, page up, page down, home, end: choose a row",
    "s  sort by slot, state, open, rate, share or restarts; * marks the column",
    "r  reverse the order",
    "/  filter by slot, replica, state or address; Esc ends it",
    "k  kill the replica of the row, if lb has started it (lb kill)",
    "d  drain the slot of the row: weight 0, no new connections; again: undo it",
    "e  explain where a request id goes, and why (lb explain)",
    "i  all incidents, with their phases (lb incidents)",
    "q  quit, as Ctrl-C does. Ctrl-Z goes back to the shell; fg returns",
    "",
    "FOR     how long the slot has been in its state",
    "OPEN    open connections",
    "RATE/S  new connections a second, of the last two seconds",
    "SHARE   the part of all new connections of the last minute",
    "TARGET  the part of all keys that the slot owns: with many different",
    "        keys and all slots up, the share comes near to it",
    "RST     how many replicas the slot has had after its first",
    "",
    "connect     the median and the 99th percentile of the time to connect",
    "            to a replica, in the last minute",
    "not served  connections without a replica, over a limit, denied, failed;",
    "            since lb started",
];

/// Draws the box of the mode, if it has one.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, paint: Paint) {
    match &app.mode {
        Mode::Table | Mode::Filter { .. } | Mode::Id { .. } => {}
        Mode::Confirm { text, .. } => {
            let keys = "y: yes     any other key: no";
            let inner = small(frame, "Really?", text, paint);
            frame.render_widget(Line::styled(keys, paint.title()), inner);
        }
        Mode::Token { typed, why } => {
            // What follows is how it is sent, which is not for people.
            let why = why.split(':').next().unwrap_or_default();
            let text =
                format!("{why}. Type the token of the control port, and press Enter; Esc leaves lb top.");
            let hidden = "*".repeat(typed.chars().count());
            let inner = small(frame, "Token", &text, paint);
            input_line(frame, inner, "token: ", &hidden, paint);
        }
        Mode::Text { title, lines } => {
            let (title, lines) = (*title, lines.clone());
            long(frame, app, title, &lines, paint);
        }
        Mode::Help => long(frame, app, "help", &HELP.map(str::to_owned), paint),
        Mode::Incidents => {
            let line = |incident: &Incident| {
                printable(&format!("{}  {}", incident.began, incident_in_words(incident)))
            };
            let mut lines: Vec<String> = app.incidents.iter().rev().map(line).collect();
            if lines.is_empty() {
                lines.push("no replica has been lost".to_owned());
            }
            long(frame, app, "incidents, the newest first", &lines, paint);
        }
    }
}

/// A small box in the middle with this text; returns its last line.
fn small(frame: &mut Frame<'_>, title: &'static str, text: &str, paint: Paint) -> Rect {
    let area = frame.area();
    let area =
        area.centered(Constraint::Length(NARROW.min(area.width)), Constraint::Length(SMALL.min(area.height)));
    let inner = open(frame, area, title, paint);
    let [above, last] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(inner);
    frame.render_widget(Paragraph::new(printable(text)).wrap(Wrap { trim: true }), above);
    last
}

/// A box that covers the view, with lines that are scrolled.
fn long(frame: &mut Frame<'_>, app: &mut App, title: &'static str, lines: &[String], paint: Paint) {
    let area = frame.area();
    let inner = open(frame, area, title, paint);
    let width = usize::from(inner.width).max(1);
    let lines: Vec<Line<'_>> = lines.iter().flat_map(|line| wrapped(line, width)).map(Line::from).collect();
    let page = usize::from(inner.height);
    (app.page, app.scroll) = (page, app.scroll.min(lines.len().saturating_sub(page)));
    let seen: Vec<Line<'_>> = lines.into_iter().skip(app.scroll).take(page).collect();
    frame.render_widget(Paragraph::new(seen), inner);
}

/// Clears an area and draws its edge; returns what is within.
fn open(frame: &mut Frame<'_>, area: Rect, title: &'static str, paint: Paint) -> Rect {
    let block = Block::bordered().title(Line::styled(format!(" {title} "), paint.title()));
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inner
}

/// A text in lines of at most `width` columns.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for letter in text.chars() {
        let wide = Line::from(letter.to_string()).width();
        if used + wide > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(line) = lines.last_mut() {
            line.push(letter);
        }
    }
    lines
}
