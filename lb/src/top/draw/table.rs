//! The table of slots and spares. A wide screen has more columns.

use proto::control::State;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row as Drawn, Table, TableState};

use super::{Moment, Paint, age, percent, rate};
use crate::top::app::App;
use crate::top::row::{Row, Sort};

/// The mark of the selected row, so that it is seen without colours and attributes.
const MARK: &str = ">";
/// The width of a bar, in characters.
const BAR: usize = 16;
/// The least widths of a slot's name and of a hostname.
const NAMES: [u16; 2] = [8, 12];
/// The width from which names have more room, as much as most need.
const ROOMY: [u16; 2] = [16, 20];

/// A column.
#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    width: u16,
    is_number: bool,
    /// The order in which the column is the first one.
    sort: Option<Sort>,
    cell: fn(&Row, &Scene) -> String,
}

/// What all cells may use.
struct Scene {
    at: Moment,
    /// The longest bar stands for this share.
    most: f64,
}

const fn column(
    title: &'static str,
    width: u16,
    is_number: bool,
    sort: Option<Sort>,
    cell: fn(&Row, &Scene) -> String,
) -> Column {
    Column { title, width, is_number, sort, cell }
}

/// The columns that are always there, behind the names.
const USUAL: [Column; 7] = [
    column("STATE", 11, false, Some(Sort::State), |row, _| state(row)),
    column("FOR", 5, true, None, |row, scene| {
        row.since.map_or_else(|| "-".to_owned(), |since| age(scene.at.age(since)))
    }),
    column("OPEN", 6, true, Some(Sort::Open), |row, _| row.open.to_string()),
    column("RATE/S", 7, true, Some(Sort::Rate), |row, _| rate(row.rate)),
    column("SHARE", 7, true, Some(Sort::Share), |row, _| percent(row.share)),
    column("TARGET", 7, true, None, |row, _| percent(row.target)),
    column("RST", 4, true, Some(Sort::Restarts), |row, _| row.restarts.to_string()),
];

/// The columns for which a wide screen has room, the most useful first.
const MORE: [Column; 5] = [
    column("SHARE, TARGET |", BAR as u16, false, None, bar),
    column("TOTAL", 9, true, None, |row, _| row.total.to_string()),
    column("ADDRESS", 21, false, None, |row, _| row.address.clone()),
    column("RUNS IN", 22, false, None, |row, _| row.carrier.clone().unwrap_or_else(|| "-".to_owned())),
    column("WEIGHT", 6, true, None, |row, _| row.weight.to_string()),
];

/// The least width of a note, with the gap before it.
const NOTE: u16 = 24;
/// Why a slot is in its state.
const NOTES: Column = column("NOTE", NOTE, false, None, |row, _| row.note.clone());

/// Draws the table; returns the selected row.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &mut App,
    at: Moment,
    paint: Paint,
) -> Option<Row> {
    let shown = app.shown();
    let selected = app.selected(&shown);
    let found = selected.map(|selected| shown[selected].clone());
    let shares = shown.iter().flat_map(|row| [row.share, row.target]).flatten();
    let scene = Scene { at, most: shares.fold(0.0, f64::max) };
    let (columns, names) = fit(area.width);
    let page = usize::from(area.height.saturating_sub(1));
    // Only what is seen is made: there may be a thousand rows.
    let first = first_seen(app.first, selected.unwrap_or_default(), page, shown.len());
    let rows: Vec<Drawn<'_>> =
        shown.iter().skip(first).take(page).map(|row| drawn(row, &columns, &scene, paint)).collect();
    let header = header(&columns, app.sort).style(paint.title().add_modifier(Modifier::UNDERLINED));
    let widths = names.into_iter().chain(columns.iter().map(|column| column.width)).map(Constraint::Length);
    let table = Table::new(rows, widths)
        .header(header)
        .column_spacing(1)
        .highlight_symbol(MARK)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected.map(|selected| selected.saturating_sub(first)));
    frame.render_stateful_widget(table, area, &mut state);
    (app.first, app.page) = (first, page);
    found
}

/// The first row that is seen: the one from before, unless the selected row would be out of sight.
fn first_seen(before: usize, selected: usize, page: usize, all: usize) -> usize {
    let last = selected + 1;
    before.min(all.saturating_sub(page)).min(selected).max(last.saturating_sub(page))
}

/// The columns that fit, and the widths of the names.
fn fit(width: u16) -> (Vec<Column>, [u16; 2]) {
    let mark = MARK.len() as u16;
    let used = |columns: &[Column]| columns.iter().map(|column| 1 + column.width).sum::<u16>();
    let mut columns = USUAL.to_vec();
    let mut room = width.saturating_sub(mark + 1 + used(&columns));
    for column in MORE {
        // Names come first.
        if room >= ROOMY[0] + ROOMY[1] + 1 + column.width {
            room -= 1 + column.width;
            columns.push(column);
        }
    }
    // What is left is for notes, if it is enough for one.
    let names = if let Some(rest) = room.checked_sub(ROOMY[0] + ROOMY[1] + 1).filter(|rest| *rest >= NOTE) {
        columns.push(Column { width: rest - 1, ..NOTES });
        ROOMY
    } else {
        let slot = (room * 2 / 5).max(NAMES[0]);
        [slot, room.saturating_sub(slot).max(NAMES[1])]
    };
    (columns, names)
}

fn header(columns: &[Column], sort: Sort) -> Drawn<'static> {
    let first = if sort == Sort::Slot { "SLOT*" } else { "SLOT" };
    let titles = columns.iter().map(|column| {
        let mark = if column.sort == Some(sort) { "*" } else { "" };
        cell(format!("{}{mark}", column.title), column.is_number)
    });
    Drawn::new([Cell::from(first), Cell::from("REPLICA")].into_iter().chain(titles))
}

fn drawn<'a>(row: &'a Row, columns: &[Column], scene: &Scene, paint: Paint) -> Drawn<'a> {
    let slot = row.slot.as_deref().unwrap_or("(spare)");
    let names = [Cell::from(slot), Cell::from(row.hostname.as_str())];
    let rest = columns.iter().map(|column| cell((column.cell)(row, scene), column.is_number));
    Drawn::new(names.into_iter().chain(rest)).style(style(row, paint))
}

fn cell(text: String, is_number: bool) -> Cell<'static> {
    let side = if is_number { Alignment::Right } else { Alignment::Left };
    Cell::from(Line::from(text).alignment(side))
}

fn style(row: &Row, paint: Paint) -> Style {
    match row.state {
        State::Up if row.weight.get() == 0 => paint.colour(Color::Yellow),
        State::Up => Style::new(),
        State::Starting | State::Draining => paint.colour(Color::Yellow),
        State::Down | State::Quarantined => paint.bad(),
    }
}

/// The state, and whether a slot that is up gets no keys.
fn state(row: &Row) -> String {
    match row.state {
        State::Up if row.weight.get() == 0 => "up, drained".to_owned(),
        state => state.to_string(),
    }
}

/// The share as a bar, with a mark at the target.
fn bar(row: &Row, scene: &Scene) -> String {
    let place = |share: Option<f64>| {
        let part = share.filter(|_| scene.most > 0.0)? / scene.most;
        // From 0 to the width of a bar.
        Some((part * (BAR - 1) as f64).round() as usize)
    };
    let (share, target) = (place(row.share), place(row.target));
    let letter = |at: usize| match (Some(at) == target, share.is_some_and(|share| at < share)) {
        (true, _) => '|',
        (false, true) => '=',
        (false, false) => ' ',
    };
    (0..BAR).map(letter).collect()
}
