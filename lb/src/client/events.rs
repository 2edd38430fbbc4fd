//! The journal of a running `lb`, line by line as it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use proto::control::Command;
use proto::journal::{Entry, Event, Replica};
use proto::printable::{printable, printable_json};
use serde::de::IgnoredAny;
use socket2::{SockRef, TcpKeepalive};

use super::{ANSWER_MAX, Request, Stream, body, connect_to, line};

/// How soon a dead connection is noticed, while nothing happens.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Shows the journal, until its end or, if it is followed, until the connection ends. `print` gets one line after the other, and says
/// whether there is a reader for more.
///
/// # Errors
/// `lb` cannot be reached, its answer cannot be read or is a failure, or it ends while it is followed.
pub(super) fn show(
    request: &Request,
    mut print: impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let follows = matches!(request.command, Command::Events { follow: true, .. });
    let mut stream = connect_to(request)?;
    if follows {
        wait_for_ever(&stream)?;
    }
    stream.write_all(line(request).as_bytes()).context("cannot send the command")?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = lines.by_ref().take(ANSWER_MAX).read_until(b'\n', &mut line);
        read.context("cannot receive the events")?;
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let Ok(entry) = serde_json::from_str::<Entry>(&line) else {
            // It is a failure, or no answer of lb at all.
            let IgnoredAny = body(request, &line)?;
            bail!("an event cannot be read: `{}`", printable(&line));
        };
        let shown = if request.json { printable_json(&line) } else { in_words(&entry) };
        if !print(&shown)? {
            return Ok(());
        }
    }
    if follows {
        bail!("{} has ended the connection", request.control);
    }
    Ok(())
}

/// While a journal is followed, there may be nothing to read for as long as nothing happens.
fn wait_for_ever(stream: &Stream) -> anyhow::Result<()> {
    stream.set_read_timeout(None)?;
    if let Stream::Tcp(stream) = stream {
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// An entry as one line for people.
fn in_words(Entry { seq, time, event }: &Entry) -> String {
    let what = match event {
        Event::Started { version, data, control } => {
            format!("lb {version} has started: data={data} control={control}")
        }
        Event::Ready { replicas } => format!("ready: {replicas} replicas are in rotation"),
        Event::Stopping {} => "lb has been told to end".to_owned(),
        Event::Upgraded { successor } => format!("process {successor} has taken over"),
        Event::UpgradeFailed { reason } => format!("this lb goes on without a successor: {reason}"),
        Event::ReplicaStarting(replica) => about(replica, "is being started"),
        Event::ReplicaStarted { replica, address } => about(replica, &format!("runs at {address}")),
        Event::ReplicaUp(replica) => about(replica, "is up"),
        Event::ReplicaDown(replica) => about(replica, "is down"),
        Event::ReplicaDraining(replica) => about(replica, "is draining"),
        Event::ReplicaQuarantined(replica) => about(replica, "is quarantined"),
        Event::ReplicaEnded(replica) => about(replica, "has ended"),
        Event::ReplicaStopped(replica) => about(replica, "is stopped"),
        Event::Doubt { suspects: true } => "this lb may be cut off, and replaces nothing".to_owned(),
        Event::Doubt { suspects: false } => "this lb replaces what is silent again".to_owned(),
        Event::Incident(incident) => format!("incident: {}", super::incidents::in_words(incident)),
        Event::Mapping { mapping, slots, epoch } => {
            let epoch = epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
            format!("mapping {mapping} of {slots} slots{epoch}")
        }
        Event::Command { by, command, result } => format!("command {command} by {by}: {result}"),
        Event::Reloaded { file, changes } if changes.is_empty() => {
            format!("{file} is loaded again: nothing differs")
        }
        Event::Reloaded { file, changes } => format!("{file} is loaded again: {}", changes.join("; ")),
        Event::Warning { from, message } => format!("warning of {from}: {message}"),
        Event::Gap { missed } => format!("{missed} earlier events are not kept any more"),
        Event::Unknown => "an event that this version of lb does not know (--json shows it)".to_owned(),
    };
    printable(&format!("{seq:>6}  {time}  {what}"))
}

fn about(Replica { slot, hostname, reason }: &Replica, what: &str) -> String {
    let place = match slot {
        Some(slot) if slot != hostname => format!(" in slot {slot}"),
        _ => String::new(),
    };
    let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{hostname}{place} {what}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys() {
        let words = |rest: &str| {
            let json = format!(r#"{{"seq":7,"time":"T",{rest}}}"#);
            in_words(&serde_json::from_str(&json).unwrap())
        };
        assert_eq!(words(r#""kind":"replica_up","slot":"a","hostname":"a""#), "     7  T  a is up");
        assert_eq!(
            words(r#""kind":"replica_ended","slot":"a","hostname":"b","reason":"exit\u001b\n""#),
            r"     7  T  b in slot a has ended: exit\u{1b}\n"
        );
        assert!(words(r#""kind":"eclipse""#).ends_with("(--json shows it)"));
    }
}
