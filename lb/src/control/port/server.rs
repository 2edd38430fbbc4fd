//! How a connection is served over HTTP, whatever is behind it: the limits that every port of `lb` has for strangers, and the form of an
//! answer.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioTimer;
use proto::control::Answer;

use super::desk::SENDER;

/// A server for one connection that holds at most so many bytes of requests which wait to be read, gives a head its time, and answers a
/// client that has closed its side.
pub(super) fn limited_to(bytes: usize) -> http1::Builder {
    let mut server = http1::Builder::new();
    server.max_buf_size(bytes).timer(TokioTimer::new()).header_read_timeout(SENDER).half_close(true);
    server
}

/// An answer as a response.
pub(super) fn response(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.to_json()));
    *response.status_mut() =
        StatusCode::from_u16(answer.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
