//! Draws the view. Pure: from the state and the time to what is on the screen.
//!
//! Every text from elsewhere was made printable before it came here, and what does not fit is cut off.

mod boxes;
mod table;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use proto::incident::Incident;
use proto::printable::clipped;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Link, Mode, Summary};
use super::figures::duration;
use super::row::Row;

/// How often what is shown grows older.
pub(super) const AGES: Duration = Duration::from_secs(1);
/// News that is so old is no picture of now.
const OLD: Duration = Duration::from_secs(4);
/// The most lines of incidents below the table.
const INCIDENTS: u16 = 4;
/// A screen lower than this has no incidents.
const LOW: u16 = 14;
/// The most characters of a cause.
const CAUSE: usize = 200;

const KEYS: &str = "q quit  s sort  / filter  k kill  d drain  e explain  i incidents  ? help";

/// The time at which is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since the view began.
    since_begin: Duration,
    clock: SystemTime,
}

impl Moment {
    pub(super) fn new(since_begin: Duration, clock: SystemTime) -> Self {
        Moment { since_begin, clock }
    }

    /// How long ago a moment of another machine's clock was.
    fn age(self, then: SystemTime) -> Duration {
        self.clock.duration_since(then).unwrap_or_default()
    }
}

/// How things stand out.
#[derive(Clone, Copy, Debug)]
struct Paint {
    has_colours: bool,
}

impl Paint {
    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

/// Draws the whole view.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, at: Moment, has_colours: bool) {
    let paint = Paint { has_colours };
    let area = frame.area();
    let incidents = if area.height < LOW { 0 } else { 1 + INCIDENTS };
    let parts = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(incidents),
        Constraint::Length(1),
    ];
    let [title, summary, rows, detail, below, foot] = Layout::vertical(parts).areas(area);
    frame.render_widget(title_line(app, at, paint, title.width), title);
    frame.render_widget(summary_line(app, paint), summary);
    let selected = table::draw(frame, rows, app, at, paint);
    frame.render_widget(detail_line(selected.as_ref(), paint), detail);
    frame.render_widget(Paragraph::new(incident_lines(app, at, paint)), below);
    draw_foot(frame, foot, app, paint);
    boxes::draw(frame, app, paint);
}

/// Where the view looks, and whether it still sees anything.
fn title_line(app: &App, at: Moment, paint: Paint, width: u16) -> Line<'static> {
    let silence = at.since_begin.saturating_sub(app.heard);
    let (state, style) = match &app.link {
        Link::Lost(_) => ("not connected, tries again".to_owned(), paint.bad()),
        Link::Unproven => ("not connected".to_owned(), paint.bad()),
        Link::Live if silence >= OLD => (format!("no answer for {}", age(silence)), paint.bad()),
        Link::Live => ("live".to_owned(), paint.colour(Color::Green)),
    };
    let order = if app.is_reversed { ", reversed" } else { "" };
    let filter = match app.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter {}", clipped(filter, 30)),
    };
    let left = format!("lb top  {}  by {}{order}{filter}", clipped(&app.control, 40), app.sort.name());
    // The state is never cut off.
    let room = usize::from(width).saturating_sub(state.len() + 2);
    let left = format!("{left:room$.room$}  ");
    Line::from(vec![Span::styled(left, paint.title()), Span::styled(state, style)])
}

fn summary_line(app: &App, paint: Paint) -> Line<'static> {
    let Summary { mapping, up, n, spares, open, refused } = &app.summary;
    let up_style = if up < n { paint.bad() } else { Style::new() };
    let spares = match spares {
        0 => String::new(),
        spares => format!(", {spares} spare"),
    };
    let connect = |part| app.connects.percentile(part);
    let mut spans = vec![
        Span::styled(format!("{up} of {n} up{spares}"), up_style),
        Span::raw(format!("  {}/s  {open} open", rate(app.rates.all()))),
        Span::raw(format!("  connect p50 {} p99 {}", connect(0.5), connect(0.99))),
    ];
    if *refused > 0 {
        spans.push(Span::styled(format!("  not served {refused}"), paint.bad()));
    }
    spans.push(Span::styled(format!("  {}", clipped(mapping, 20)), paint.quiet()));
    Line::from(spans)
}

/// What the table has no room for.
fn detail_line(selected: Option<&Row>, paint: Paint) -> Line<'static> {
    let Some(row) = selected else { return Line::default() };
    let carrier = row.carrier.as_ref().map_or_else(String::new, |carrier| format!(", {carrier}"));
    let place = match &row.slot {
        Some(slot) => format!("slot {slot}"),
        None => "spare".to_owned(),
    };
    let mut spans =
        vec![Span::styled(format!("{place}: {} at {}{carrier}", row.hostname, row.address), paint.quiet())];
    if !row.note.is_empty() {
        spans.insert(0, Span::styled(format!("{}  ", row.note), paint.colour(Color::Yellow)));
    }
    Line::from(spans)
}

/// The last incidents, the newest first.
fn incident_lines(app: &App, at: Moment, paint: Paint) -> Vec<Line<'static>> {
    let title = match app.incidents.len() {
        0 => "Incidents: none".to_owned(),
        count => format!("Incidents: {count}"),
    };
    let newest = app.incidents.iter().rev().take(INCIDENTS.into());
    [Line::styled(title, paint.title())]
        .into_iter()
        .chain(newest.map(|incident| incident_line(incident, at, paint)))
        .collect()
}

fn incident_line(incident: &Incident, at: Moment, paint: Paint) -> Line<'static> {
    let began = humantime::parse_rfc3339_weak(&incident.began).ok();
    let lasts = began.map_or_else(|| "-".to_owned(), |began| age(at.age(began)));
    let (end, style) = match incident.phases.total {
        _ if incident.removed => ("removed".to_owned(), Style::new()),
        Some(total) => (format!("back after {}", duration(total)), Style::new()),
        None => (format!("not over, {lasts}"), paint.bad()),
    };
    let Incident { slot, cause, cut, refused, retried, .. } = incident;
    let cost = format!("{cut} cut, {retried} retried, {refused} refused");
    let text = format!("  {:12.12}  {cost}  {}", clipped(slot, 12), clipped(cause, CAUSE));
    // The clock of UTC, as in the journal: hours, minutes and seconds of an RFC 3339 time.
    let clock = clipped(incident.began.get(11..19).unwrap_or("-"), 8);
    Line::from(vec![
        Span::raw(format!("{clock:8}  ")),
        Span::styled(format!("{end:18}"), style),
        Span::raw(text),
    ])
}

/// What is typed, what was said, or the keys.
fn draw_foot(frame: &mut Frame<'_>, area: Rect, app: &App, paint: Paint) {
    let (label, typed) = match &app.mode {
        Mode::Filter { .. } => ("filter (Enter keeps it, Esc does not): ", app.filter.as_str()),
        Mode::Id { typed } => ("explain the request id: ", typed.as_str()),
        _ => {
            let line = match (&app.said, &app.link) {
                (Some(said), _) => Line::styled(
                    clipped(&said.text, CAUSE),
                    if said.is_wrong { paint.bad() } else { paint.title() },
                ),
                (None, Link::Lost(why)) => Line::styled(clipped(why, CAUSE), paint.bad()),
                (None, Link::Unproven | Link::Live) => Line::styled(KEYS, paint.quiet()),
            };
            return frame.render_widget(line, area);
        }
    };
    input_line(frame, area, label, typed, paint);
}

/// A line that is typed, with the cursor. Of a long one the end is seen.
fn input_line(frame: &mut Frame<'_>, area: Rect, label: &str, typed: &str, paint: Paint) {
    let room = usize::from(area.width).saturating_sub(label.len() + 1);
    let typed = proto::printable::printable(typed);
    let mut seen = Span::raw(typed.as_str());
    let mut from = typed.char_indices().map(|(at, _)| at).skip(1);
    while seen.width() > room {
        let Some(at) = from.next() else { break };
        seen = Span::raw(&typed[at..]);
    }
    let at = label.len() + seen.width();
    if at < usize::from(area.width) && area.height > 0 {
        // It is less than the width of the area.
        frame.set_cursor_position((area.x + at as u16, area.y));
    }
    frame.render_widget(Line::from(vec![Span::styled(label.to_owned(), paint.title()), seen]), area);
}

/// A number per second.
fn rate(number: f64) -> String {
    if number >= 99.95 { format!("{number:.0}") } else { format!("{number:.1}") }
}

/// A time, in at most five characters.
fn age(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..6000 => format!("{} m", seconds / 60),
        seconds @ 6000..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}
