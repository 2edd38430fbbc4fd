//! What a reload has changed, as text for people.

use proto::control::Reloaded;

/// A line for each difference.
pub(super) fn in_words(Reloaded { reloaded, dry_run, settings, slots, plan }: &Reloaded) -> Vec<String> {
    if settings.is_empty() && slots.is_empty() {
        return vec![format!("{reloaded}: nothing differs from what runs")];
    }
    let what = if *dry_run { "would change" } else { "is loaded" };
    let settings = settings.iter().map(ToString::to_string);
    let lines = settings.chain(slots.iter().map(ToString::to_string)).map(|line| format!("  {line}"));
    let moved = plan.iter().map(|plan| {
        let verb = if *dry_run { "would move" } else { "move" };
        format!(
            "{:.3} % of the keys {verb}; {:.3} % is the least possible",
            100.0 * plan.moved,
            100.0 * plan.least
        )
    });
    [format!("{reloaded} {what}:")].into_iter().chain(lines).chain(moved).collect()
}
