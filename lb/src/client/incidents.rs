//! Incidents as text for people.

use proto::incident::Incident;
use proto::printable::printable;

/// Incidents, one a line, the newest last.
pub(super) fn all_in_words(incidents: &[Incident]) -> String {
    if incidents.is_empty() {
        return "no replica has been lost".to_owned();
    }
    let line = |incident: &Incident| printable(&format!("{}  {}", incident.began, in_words(incident)));
    incidents.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One incident, without its time.
pub(crate) fn in_words(incident: &Incident) -> String {
    let Incident {
        slot, hostname, cause, phases, replaced_by, starts, removed, cut, refused, retried, ..
    } = incident;
    let after = |seconds: Option<f64>| seconds.map(|seconds| format!("{seconds:.3} s"));
    let end = match (replaced_by, after(phases.total)) {
        _ if *removed => "the slot was removed".to_owned(),
        (Some(next), Some(total)) if next == hostname => format!("back after {total}"),
        (Some(next), Some(total)) => format!("{next} is up after {total}"),
        _ => "not over".to_owned(),
    };
    let phases = [("notice", phases.notice), ("start", phases.start), ("ready", phases.ready)];
    let phases = phases.into_iter().filter_map(|(name, seconds)| Some(format!("{name} {}", after(seconds)?)));
    let starts = if *starts > 1 { format!(", {starts} starts") } else { String::new() };
    let phases = phases.collect::<Vec<_>>().join(", ");
    let place = if slot == hostname { slot.clone() } else { format!("{slot} lost {hostname}") };
    format!("{place}: {cause}; {end} ({phases}{starts}); {cut} cut, {retried} retried, {refused} refused")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_one_line() {
        let json = r#"{"slot":"a","hostname":"b","began":"T","cause":"exited","phases":{"notice":0,"start":0.003,"ready":0.0041,
            "total":0.0071},"replaced_by":"c","starts":1,"cut":2,"refused":0,"retried":3}"#;
        let mut incident: Incident = serde_json::from_str(json).unwrap();
        let expected = "T  a lost b: exited; c is up after 0.007 s (notice 0.000 s, start 0.003 s, ready 0.004 s); 2 cut, 3 retried, 0 refused";
        assert_eq!(all_in_words(&[incident.clone()]), expected);
        (incident.removed, incident.cause) = (true, "\u{1b}".to_owned());
        assert!(all_in_words(&[incident]).contains(r"a lost b: \u{1b}; the slot was removed ("));
        assert_eq!(all_in_words(&[]), "no replica has been lost");
    }
}
