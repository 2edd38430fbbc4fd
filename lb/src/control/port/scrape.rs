//! `GET /metrics`: on the control port, where it is a command like any other, and on an address of its own, where there is nothing else but
//! `GET /healthz`. Neither changes anything or tells a secret, so that address asks for no token.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;

use super::desk::{Caller, Desk};
use super::server;
use crate::control::exposition::{Exposition, Format};

/// Where the metrics are.
pub(super) const PATH: &str = "/metrics";
/// Where health is.
pub(super) const HEALTH: &str = "/healthz";
/// The most bytes of a head.
const BUFFER: usize = 16 * 1024;

/// Serves metrics and health, and nothing else, until the connection ends.
///
/// # Errors
/// The connection breaks, or the client is too slow.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    desk: &Arc<Desk>,
    caller: &Caller,
) -> anyhow::Result<()> {
    let service = service_fn(|request| Box::pin(answer(request, desk, caller)));
    let mut connection = server::limited_to(BUFFER).serve_connection(TokioIo::new(stream), service);
    Ok(poll_fn(|cx| connection.poll_without_shutdown(cx)).await?)
}

async fn answer(
    request: Request<Incoming>,
    desk: &Arc<Desk>,
    caller: &Caller,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // With pipelined requests, the other connections get a turn after each.
    yield_now().await;
    caller.place.work();
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET, PATH) => metrics(request.headers(), &desk.exposition),
        (&Method::GET, HEALTH) => server::response(&desk.health(caller).await),
        (_, PATH | HEALTH) => {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            refused
        }
        _ => text(StatusCode::NOT_FOUND, "there are only /metrics and /healthz here\n"),
    };
    caller.place.rest();
    if caller.is_last_answer() || response.status() != StatusCode::OK {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// All metrics, in the format that the client wants.
pub(super) fn metrics(headers: &HeaderMap, exposition: &Exposition) -> Response<Full<Bytes>> {
    let accepted: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let format = Format::for_one_who_accepts(&accepted.join(","));
    let mut response = Response::new(Full::from(exposition.render(format)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
