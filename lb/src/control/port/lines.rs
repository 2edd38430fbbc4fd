//! The control port's side of newline-delimited JSON: one command a line, one answer a line, in order.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::control::{Answer, Failure, FailureKind, Line};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Framed};

use super::desk::{COMMAND_MAX, Caller, Desk, SENDER, Served};
use super::events::{Events, json_lines};

/// Answers line by line until the end of the stream. After each line the other connections get a turn.
///
/// # Errors
/// The connection breaks, or the client is too slow.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    desk: &Arc<Desk>,
    caller: &Caller,
) -> anyhow::Result<()> {
    let codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), b"\n".to_vec(), COMMAND_MAX);
    let mut lines = Framed::new(stream, codec);
    loop {
        let answer = match next(&mut lines).await {
            Next::Line(line) if line.trim_ascii().is_empty() => continue,
            Next::Line(line) => match answer(line, desk, caller).await {
                Served::Answer(answer) => answer,
                Served::Events(events) => return show(lines, events).await,
            },
            Next::TooLong => {
                // After an error the codec would end the stream; a new one goes on with the same buffers.
                lines = Framed::from_parts(lines.into_parts());
                Answer::Failure(too_long(desk, caller))
            }
            Next::End => return Ok(()),
            Next::TooSlow => {
                let failure =
                    FailureKind::TooSlow.because(format!("a command takes at most {SENDER:?} to send"));
                return send(&mut lines, &Answer::Failure(failure)).await;
            }
        };
        send(&mut lines, &answer).await?;
        if caller.is_last_answer() {
            return Ok(());
        }
        yield_now().await;
    }
}

type Lines<'a, S> = Framed<&'a mut BufReader<S>, AnyDelimiterCodec>;

enum Next {
    Line(Bytes),
    TooLong,
    TooSlow,
    End,
}

/// The next line. A line that has begun has a deadline; before it a client may be idle as long as it keeps its place.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(lines: &mut Lines<'_, S>) -> Next {
    let idle = lines.read_buffer().is_empty();
    if idle && !lines.get_mut().fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
        return Next::End;
    }
    match timeout(SENDER, lines.next()).await {
        Err(_) => Next::TooSlow,
        Ok(Some(Ok(line))) => Next::Line(line),
        Ok(Some(Err(AnyDelimiterCodecError::MaxChunkLengthExceeded))) => Next::TooLong,
        Ok(Some(Err(AnyDelimiterCodecError::Io(_))) | None) => Next::End,
    }
}

/// Nothing but the token of a line is read before the token has been checked, and a line with a wrong one is not kept.
async fn answer(line: Bytes, desk: &Arc<Desk>, caller: &Caller) -> Served {
    let token = if desk.demands_token(caller) { Line::new(&line).token() } else { None };
    let checked = desk.check(caller, token.as_deref());
    drop(token);
    let command = checked.map(|()| Line::new(&line).command());
    drop(line);
    match command {
        Ok(Ok(command)) => desk.execute(caller, command).await,
        Ok(Err(malformed)) => Served::Answer(Answer::Failure(malformed.into())),
        Err(unproven) => Served::Answer(Answer::Failure(desk.turn_away(caller, unproven).await)),
    }
}

/// A line that is too long is not kept, so its token is unknown: where a token is needed, it counts as refused.
fn too_long(desk: &Desk, caller: &Caller) -> Failure {
    let failure = FailureKind::TooLarge.because(format!("a command has at most {COMMAND_MAX} bytes"));
    if desk.demands_token(caller) { desk.refuse(caller, failure) } else { failure }
}

/// Sends entries of the journal until the client leaves. What it still says is not read.
async fn show<S: AsyncRead + AsyncWrite + Unpin>(
    lines: Lines<'_, S>,
    mut events: Events,
) -> anyhow::Result<()> {
    let stream = lines.into_inner();
    while let Some(some) = events.next().await {
        let sent = async {
            stream.write_all(json_lines(&some).as_bytes()).await?;
            stream.flush().await
        };
        timeout(SENDER, sent).await.context("the client does not read the events")??;
    }
    Ok(())
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<'_, S>,
    answer: &Answer,
) -> anyhow::Result<()> {
    let sent = timeout(SENDER, lines.send(answer.to_json())).await;
    Ok(sent.context("the client does not read its answer")??)
}
