//! The journal as a stream of the control port: as JSON, one entry a line, or as Server-Sent Events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! A reader gets what it can take: the journal is read only when there is room for more. So a slow one costs no memory, and misses
//! entries, which it is told. Its connection counts as one that waits for its client, and makes room for others like that.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use proto::control::Since;
use tokio::time::timeout;

use super::places::Pulse;
use crate::journal::{Beginning, Follower, Line};

/// How long nothing may happen before a reader gets a sign of life, where its language has one.
const QUIET: Duration = Duration::from_secs(15);
/// How soon a browser connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// Entries of the journal for one reader.
pub(super) struct Events {
    follower: Follower,
    /// Whether it waits for what happens next.
    follows: bool,
    pulse: Pulse,
}

/// The body of an endless response.
pub(super) type Body = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

impl Events {
    pub(super) fn new(follower: Follower, follows: bool, pulse: Pulse) -> Self {
        Events { follower, follows, pulse }
    }

    /// Some entries, in order. None of them: nothing has happened for a while. `None`: that was all.
    pub(super) async fn next(&mut self) -> Option<Vec<Line>> {
        self.pulse.rest();
        if self.follows {
            return Some(timeout(QUIET, self.follower.next()).await.unwrap_or_default());
        }
        Some(self.follower.ready()).filter(|lines| !lines.is_empty())
    }

    /// As the body of a response.
    pub(super) fn into_body(self) -> Body {
        let more = stream::unfold(self, async |mut events| {
            let lines = events.next().await?;
            Some((server_sent(&lines), events))
        });
        let first = stream::once(async { Bytes::from_static(RETRY) });
        StreamBody::new(Box::pin(first.chain(more).map(|bytes| Ok(Frame::data(bytes)))))
    }
}

/// Where a reader begins that asks like this.
pub(super) fn beginning(since: Option<Since>) -> Beginning {
    match since {
        None => Beginning::Oldest,
        Some(Since::Seq(seq)) => Beginning::After(seq),
        Some(Since::Ago(time)) => Beginning::Ago(time),
    }
}

/// Entries as lines.
pub(super) fn json_lines(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |mut all, line| {
        all.push_str(&line.json);
        all.push('\n');
        all
    })
}

/// Entries as Server-Sent Events; without any, a comment. (JSON has no line feed.)
fn server_sent(lines: &[Line]) -> Bytes {
    let sent = lines.iter().fold(String::new(), |mut all, line| {
        // Writing into a string cannot fail.
        let _ = write!(all, "id: {}\ndata: {}\n\n", line.seq, line.json);
        all
    });
    if sent.is_empty() { Bytes::from_static(b":\n\n") } else { sent.into() }
}
