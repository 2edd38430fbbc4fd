//! The control port's side of newline-delimited JSON: one command a line, one answer a line, in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::control::{Answer, Failure, FailureKind, Line};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Framed};

use super::desk::{COMMAND_MAX, Desk, SENDER};

/// How long a connection may be silent between two commands while the port is not full.
const IDLE: Duration = Duration::from_secs(300);

/// Answers line by line until the end of the stream.
///
/// # Errors
/// The connection breaks, or the client is too slow.
pub(super) async fn converse(stream: &mut TcpStream, desk: &Arc<Desk>) -> anyhow::Result<()> {
    let codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), b"\n".to_vec(), COMMAND_MAX);
    let mut lines = Framed::new(stream, codec);
    loop {
        let answer = match next(&mut lines, desk).await {
            Next::Line(line) if line.trim_ascii().is_empty() => continue,
            Next::Line(line) => answer(&line, desk).await,
            Next::TooLong => {
                // After an error the codec would end the stream; a new one goes on with the same buffers.
                lines = Framed::from_parts(lines.into_parts());
                Answer::Failure(
                    FailureKind::TooLarge.because(format!("a command has at most {COMMAND_MAX} bytes")),
                )
            }
            Next::End => return Ok(()),
            Next::TooSlow => {
                let failure =
                    FailureKind::TooSlow.because(format!("a command takes at most {SENDER:?} to send"));
                return send(&mut lines, &Answer::Failure(failure)).await;
            }
        };
        send(&mut lines, &answer).await?;
    }
}

type Lines<'a> = Framed<&'a mut TcpStream, AnyDelimiterCodec>;

enum Next {
    Line(bytes::Bytes),
    TooLong,
    TooSlow,
    End,
}

/// The next line. Between two lines a client may be idle for long; a line that it has begun has a deadline.
async fn next(lines: &mut Lines<'_>, desk: &Desk) -> Next {
    let idle = lines.read_buffer().is_empty();
    if idle && !begins(lines.get_ref(), desk).await {
        return Next::End;
    }
    match timeout(SENDER, lines.next()).await {
        Err(_) => Next::TooSlow,
        Ok(Some(Ok(line))) => Next::Line(line),
        Ok(Some(Err(AnyDelimiterCodecError::MaxChunkLengthExceeded))) => Next::TooLong,
        Ok(Some(Err(AnyDelimiterCodecError::Io(_))) | None) => Next::End,
    }
}

/// Waits for the first byte of the next line. False if there will be none, or if the port is full.
async fn begins(stream: &TcpStream, desk: &Desk) -> bool {
    let mut first = [0];
    tokio::select! {
        biased;
        byte = timeout(IDLE, stream.peek(&mut first)) => matches!(byte, Ok(Ok(1))),
        () = desk.crowded.notified() => false,
    }
}

async fn answer(line: &[u8], desk: &Desk) -> Answer {
    let command = match Line::parse(line) {
        Ok(line) => desk.admit(line.token.as_deref()).and_then(|()| line.command().map_err(Failure::from)),
        Err(malformed) => Err(malformed.into()),
    };
    match command {
        Ok(command) => desk.execute(command).await,
        Err(failure) => Answer::Failure(failure),
    }
}

async fn send(lines: &mut Lines<'_>, answer: &Answer) -> anyhow::Result<()> {
    let sent = timeout(SENDER, lines.send(answer.to_json())).await;
    Ok(sent.context("the client does not read its answer")??)
}
