//! The page: HTML, CSS and JavaScript in the binary, one path for each file.
//!
//! The files hold nothing of the fleet, so they need no token: the page asks for it and sends it with each command, as any other client
//! does. It commands nothing by itself, and asks no other host for anything: its policy forbids the browser to.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response};

/// What the page may do: load its own files, and ask the port that it came from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
/// The methods of each file.
pub(super) const METHODS: &str = "GET, HEAD";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page: its path, its type and what is in it.
type File = (&'static str, &'static str, &'static str);

const FILES: [File; 10] = [
    ("/", HTML, include_str!("page.html")),
    ("/page/page.css", CSS, include_str!("page.css")),
    ("/page/icon.svg", SVG, include_str!("icon.svg")),
    ("/page/main.js", SCRIPT, include_str!("main.js")),
    ("/page/api.js", SCRIPT, include_str!("api.js")),
    ("/page/dom.js", SCRIPT, include_str!("dom.js")),
    ("/page/ring.js", SCRIPT, include_str!("ring.js")),
    ("/page/replicas.js", SCRIPT, include_str!("replicas.js")),
    ("/page/change.js", SCRIPT, include_str!("change.js")),
    ("/page/story.js", SCRIPT, include_str!("story.js")),
];

/// Whether this is the path of a file.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|(name, ..)| *name == path)
}

/// The answer to a request that reads a file of the page; `None` to any other.
pub(super) fn answer(head: &Parts) -> Option<Response<Full<Bytes>>> {
    let (_, kind, text) = FILES.into_iter().find(|(path, ..)| *path == head.uri.path())?;
    if ![Method::GET, Method::HEAD].contains(&head.method) {
        return None;
    }
    let mut response = Response::new(Full::from(text));
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, kind);
    set(CACHE_CONTROL, "no-store");
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    Some(response)
}
