//! How a connection is served over HTTP, whatever is behind it: the limits that every port of `lb` has for strangers.

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

use super::desk::SENDER;

/// A server for one connection that holds at most so many bytes of requests which wait to be read, gives a head its time, and answers a
/// client that has closed its side.
pub(super) fn limited_to(bytes: usize) -> http1::Builder {
    let mut server = http1::Builder::new();
    server.max_buf_size(bytes).timer(TokioTimer::new()).header_read_timeout(SENDER).half_close(true);
    server
}
