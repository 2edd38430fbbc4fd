//! The raw line mode: every line comes back as `ID LINE`.
//!
//! It accepts any bytes, answers in order, and reads no further line before it has written its answers. A client that
//! does not read therefore costs one line and one write buffer. There is no deadline between lines, because a person may
//! be typing.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;

/// Reads from a client, line by line or byte by byte.
pub(crate) type Reader = BufReader<OwnedReadHalf>;

/// The longest line, in bytes with its line ending. A longer one ends the connection without an answer to it.
const LINE_MAX: usize = 64 * 1024;

/// Answers `line` (the first line if it was read already, else empty) and all further lines, until the client's stream
/// ends, a line is too long, or `stop` is cancelled while no line waits for an answer.
pub(crate) async fn serve(
    mut line: Vec<u8>,
    mut reader: Reader,
    writer: OwnedWriteHalf,
    id: &str,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    loop {
        if line.is_empty() {
            tokio::select! {
                biased;
                read = read_line(&mut reader, &mut line) => read?,
                () = stop.cancelled() => break,
            }
        }
        if line.is_empty() {
            break;
        }
        answer(&mut writer, id, &line).await?;
        line.clear();
        // Batch answers while more input is buffered, but never wait for the client with answers unsent.
        if !reader.buffer().contains(&b'\n') {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

/// Appends the next line to `line`, including its line ending; appends nothing at the end of the stream.
///
/// Fails with `InvalidData` if the line is longer than [`LINE_MAX`]; it has then read one byte more than that.
pub(crate) async fn read_line(reader: &mut Reader, line: &mut Vec<u8>) -> io::Result<()> {
    let mut bounded = reader.take(LINE_MAX as u64 + 1);
    if bounded.read_until(b'\n', line).await? > LINE_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(())
}

async fn answer(writer: &mut BufWriter<OwnedWriteHalf>, id: &str, line: &[u8]) -> io::Result<()> {
    for part in [id.as_bytes(), b" ", text(line), b"\n"] {
        writer.write_all(part).await?;
    }
    Ok(())
}

/// `line` without its LF and without one CR before it (or at the end of the stream).
fn text(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_line_ending_is_lf_or_the_end_each_with_one_cr_before_it() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"a\n", b"a"),
            (b"a\r\n", b"a"),
            (b"a", b"a"),
            (b"a\r", b"a"),
            (b"a\r\r\n", b"a\r"),
            (b"a\rb\n", b"a\rb"),
            (b"\n", b""),
            (b"\r\n", b""),
        ];
        for (line, expected) in cases {
            assert_eq!(text(line), expected, "{}", line.escape_ascii());
        }
    }
}
