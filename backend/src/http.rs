//! The HTTP side: four routes, and one JSON answer for everything else.
//!
//! It ignores the query (the load balancer reads it), decodes no percent signs, and never buffers a whole body:
//! `/echo` sends each chunk back as it arrives, `/bytes/N` repeats one static chunk.

use std::io::Cursor;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, join};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::raw::Reader;

/// Deadline for the head of a request; also the idle limit of a kept-alive connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long an unexpected request body is read before the answer is sent anyway.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that `/bytes/N` sends: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
/// What `/bytes/N` repeats. Its length is a multiple of its period, so byte k of the answer is `b'!' + k % 89`.
static CHUNK: [u8; 89 * 736] = chunk();

const fn chunk<const N: usize>() -> [u8; N] {
    let mut bytes = [b'!'; N];
    let mut k = 0;
    while k < N {
        bytes[k] += (k % 89) as u8;
        k += 1;
    }
    bytes
}

/// Serves HTTP/1.1 on a connection whose first bytes, `head`, were read already. Once `stop` is cancelled, the request
/// in progress is the last one.
pub(crate) async fn serve(
    head: Vec<u8>,
    reader: Reader,
    writer: OwnedWriteHalf,
    id: Arc<str>,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let io = TokioIo::new(join(Cursor::new(head).chain(reader), writer));
    let service = service_fn(move |request| answer(request, Arc::clone(&id)));
    let mut builder = http1::Builder::new();
    // A client that half-closes after its request still gets the answer.
    builder.half_close(true).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Every answer names the replica, so that a probe detects a wrong address and a load generator sees where a request went.
async fn answer(request: Request<Incoming>, id: Arc<str>) -> hyper::Result<Response<Payload>> {
    let (head, mut body) = request.into_parts();
    let mut response = if head.method == Method::POST && head.uri.path() == "/echo" {
        echo(body).await?
    } else {
        // Closing a socket with unread bytes sends a reset, which would discard the answer. An endless body is cut off.
        let _ = timeout(DISCARD_TIMEOUT, discard(&mut body)).await;
        route(&head.method, head.uri.path(), &id)
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("lb-server-id", id);
    }
    Ok(response)
}

/// Sends the body back as it arrives. It waits for the first chunk, so that hyper can send `100 Continue` before the
/// final status.
async fn echo(mut body: Incoming) -> hyper::Result<Response<Payload>> {
    let first = body.frame().await.transpose()?;
    Ok(binary(Payload::Echo { first, rest: body }))
}

async fn discard(body: &mut Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// The answer to every request but `POST /echo`.
fn route(method: &Method, path: &str, id: &str) -> Response<Payload> {
    let Some(endpoint) = Endpoint::of(path) else {
        let message = format!("<Error> '{path}' endpoint does not exist in server replicas");
        return json(StatusCode::BAD_REQUEST, &message, "failure");
    };
    match (endpoint, method.as_str()) {
        (Endpoint::Home, "GET" | "HEAD") => {
            json(StatusCode::OK, &format!("Hello from Server: {id}"), "successful")
        }
        (Endpoint::Heartbeat, "GET" | "HEAD") => Response::new(Payload::Whole(Full::default())),
        (Endpoint::Bytes(count), "GET" | "HEAD") => binary(Payload::Chunks { left: count }),
        (endpoint, _) => method_not_allowed(endpoint.allowed(), method, path),
    }
}

enum Endpoint {
    Home,
    Heartbeat,
    Bytes(u64),
    Echo,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/home" => Some(Endpoint::Home),
            "/heartbeat" => Some(Endpoint::Heartbeat),
            "/echo" => Some(Endpoint::Echo),
            _ => path.strip_prefix("/bytes/").and_then(byte_count).map(Endpoint::Bytes),
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Endpoint::Echo => "POST",
            Endpoint::Home | Endpoint::Heartbeat | Endpoint::Bytes(_) => "GET, HEAD",
        }
    }
}

/// A number of digits only (`parse` alone would accept a plus sign), at most [`BYTES_MAX`].
fn byte_count(digits: &str) -> Option<u64> {
    let count = digits.parse().ok().filter(|&count| count <= BYTES_MAX)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(count)
}

fn method_not_allowed(allowed: &'static str, method: &Method, path: &str) -> Response<Payload> {
    let message = format!("<Error> method {method} is not allowed for '{path}', only {allowed}");
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &message, "failure");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(code: StatusCode, message: &str, status: &str) -> Response<Payload> {
    // Depending on its features, serde_json keeps this order of the keys or sorts them: both give the same text here.
    let body = json!({ "message": message, "status": status }).to_string();
    let mut response = typed("application/json", Payload::Whole(body.into()));
    *response.status_mut() = code;
    response
}

fn binary(payload: Payload) -> Response<Payload> {
    typed("application/octet-stream", payload)
}

fn typed(content_type: &'static str, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The body of an answer.
enum Payload {
    Whole(Full<Bytes>),
    /// [`CHUNK`], repeated; the number of bytes that are left.
    Chunks {
        left: u64,
    },
    /// The request's body; `first` is the chunk that was read already.
    Echo {
        first: Option<Frame<Bytes>>,
        rest: Incoming,
    },
}

impl Body for Payload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Payload::Whole(whole) => Pin::new(whole).poll_frame(context).map_err(|never| match never {}),
            Payload::Chunks { left } => Poll::Ready(next_chunk(left).map(Frame::data).map(Ok)),
            Payload::Echo { first, rest } => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(first))),
                None => Pin::new(rest).poll_frame(context),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(whole) => whole.is_end_stream(),
            Payload::Chunks { left } => *left == 0,
            Payload::Echo { first, rest } => first.is_none() && rest.is_end_stream(),
        }
    }

    /// Exact if the length is known; hyper then sends it as Content-Length.
    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(whole) => whole.size_hint(),
            Payload::Chunks { left } => SizeHint::with_exact(*left),
            Payload::Echo { first, rest } => match rest.size_hint().exact() {
                Some(left) => SizeHint::with_exact(left + data_len(first.as_ref())),
                None => SizeHint::default(),
            },
        }
    }
}

fn data_len(frame: Option<&Frame<Bytes>>) -> u64 {
    frame.and_then(Frame::data_ref).map_or(0, |data| data.len() as u64)
}

fn next_chunk(left: &mut u64) -> Option<Bytes> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(CHUNK.len());
    *left -= length as u64;
    (length > 0).then(|| Bytes::from_static(&CHUNK[..length]))
}

#[cfg(test)]
mod tests {
    use super::byte_count;

    #[test]
    fn a_byte_count_is_digits_up_to_one_tebibyte() {
        let cases = [
            ("0", Some(0)),
            ("007", Some(7)),
            ("1099511627776", Some(1 << 40)),
            ("1099511627777", None),
            ("99999999999999999999", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5 ", None),
            ("5/", None),
            ("0x5", None),
            ("\u{665}", None),
        ];
        for (digits, count) in cases {
            assert_eq!(byte_count(digits), count, "{digits}");
        }
    }
}
