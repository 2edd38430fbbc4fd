//! The control port's HTTP/1.1 side: paths and statuses for the same commands.

use std::convert::Infallible;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    ORIGIN,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use proto::control::{
    Answer, Command, Failure, FailureKind, Malformed, Reload, Remapping, Since, parse_body,
};
use proto::line::query_parameter;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::desk::{COMMAND_MAX, Caller, Desk, SENDER, Served};
use super::events::{self, Events};
use super::{page, scrape, server, web};

/// The web pages that may command `lb`.
const WELCOME: &str = "a loopback origin, such as http://127.0.0.1:5001, or with the token the page of this port under an IP address or \
    a name without dots";

/// What a browser that connects again has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The body of a response: an answer, or entries of the journal.
type Body = Either<Full<Bytes>, events::Body>;

/// The most bytes of requests that wait to be read. (An id in a path may be as long as a command.)
const BUFFER: usize = COMMAND_MAX + 8 * 1024;

/// Serves requests until the connection ends.
///
/// # Errors
/// The connection breaks.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    desk: &Arc<Desk>,
    caller: &Caller,
) -> anyhow::Result<()> {
    let service = service_fn(|request| Box::pin(answer(request, desk, caller)));
    let mut connection = server::limited_to(BUFFER).serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    match ended {
        // The client has sent a part of a head. Hyper closes the connection without an answer, which is right only if idle.
        Err(error) if error.is_timeout() && !parts.read_buf.is_empty() => {
            let failure = FailureKind::TooSlow.because(format!("a request takes at most {SENDER:?} to send"));
            Ok(parts.io.into_inner().write_all(&raw_response(&Answer::Failure(failure))).await?)
        }
        Err(error) if error.is_timeout() => Ok(()),
        ended => Ok(ended?),
    }
}

async fn answer(
    request: Request<Incoming>,
    desk: &Arc<Desk>,
    caller: &Caller,
) -> Result<Response<Body>, Infallible> {
    // With pipelined requests, the other connections get a turn after each.
    yield_now().await;
    let (head, body) = request.into_parts();
    if let Some(response) = page::answer(&head) {
        return Ok(response.map(Either::Left));
    }
    let command = match admit(&head, desk, caller).await {
        Ok(()) if (&head.method, head.uri.path()) == (&Method::GET, scrape::PATH) => {
            caller.place.work();
            let metrics = scrape::metrics(&head.headers, &desk.exposition);
            caller.place.rest();
            return Ok(metrics.map(Either::Left));
        }
        Ok(()) => command(&head, body).await,
        Err(failure) => Err(failure),
    };
    let served = match command {
        Ok(command) => desk.execute(caller, command).await,
        Err(failure) => Served::Answer(Answer::Failure(failure)),
    };
    let answer = match served {
        Served::Answer(answer) => answer,
        Served::Events(events) => return Ok(stream(events)),
    };
    let mut response = server::response(&answer).map(Either::Left);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed(head.uri.path()).unwrap_or_default()));
    }
    let is_rest_unread =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE].contains(&response.status());
    if is_rest_unread || caller.is_last_answer() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Refuses foreign web pages and wrong tokens before anything else of the request is read.
async fn admit(head: &Parts, desk: &Desk, caller: &Caller) -> Result<(), Failure> {
    let mut origins = head.headers.get_all(ORIGIN).iter().map(HeaderValue::as_bytes);
    // The token is checked next. A page that does not know it may be this origin: it is refused then.
    let is_own = |origin| desk.demands_token(caller) && is_own_page(head, origin);
    if let Some(origin) = origins.find(|origin| !web::is_loopback_origin(origin) && !is_own(origin)) {
        return Err(desk.refuse(caller, foreign("Origin", origin, WELCOME)));
    }
    if let Err(unproven) = desk.check(caller, bearer_token(&head.headers)) {
        return Err(desk.turn_away(caller, unproven).await);
    }
    // A token or a Unix socket is more than a web page can have.
    let is_proven = desk.demands_token(caller) || caller.who.address().is_none();
    match hosts(head).find(|host| !is_proven && !web::is_local_host(host)) {
        Some(host) => {
            let local =
                "an IP address, localhost or a name without dots (any name if the command shows a token)";
            Err(desk.refuse(caller, foreign("Host", host, local)))
        }
        None => Ok(()),
    }
}

/// Whether a request comes from the page that this port serves: it calls the port as the page is called.
fn is_own_page(head: &Parts, origin: &[u8]) -> bool {
    hosts(head).next().is_some() && hosts(head).all(|host| web::is_own_origin(origin, host))
}

/// What a request calls the control port: in its `Host` and, of a proxy's client, in its target. A browser always does.
fn hosts(head: &Parts) -> impl Iterator<Item = &[u8]> {
    let fields = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let target = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    fields.chain(target).filter(|host| !host.is_empty())
}

fn foreign(field: &str, value: &[u8], expected: &str) -> Failure {
    let value = web::shown(value);
    FailureKind::Forbidden.because(format!(
        "`{field}`: invalid value `{value}`: expected {expected}, because no foreign web page may command lb"
    ))
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The methods that a path takes; `None` if there is no such path.
fn allowed(path: &str) -> Option<&'static str> {
    Some(match path {
        "/rep"
        | "/backends"
        | "/config"
        | scrape::HEALTH
        | "/events"
        | "/incidents"
        | "/ring"
        | scrape::PATH => "GET",
        "/explain" => "GET, POST",
        "/add" | "/kill" | "/plan" | "/reload" | "/upgrade" => "POST",
        "/mapping" => "GET, PUT",
        "/rm" => "DELETE, POST",
        _ if page::has(path) => page::METHODS,
        _ => return None,
    })
}

async fn command(head: &Parts, body: Incoming) -> Result<Command, Failure> {
    let path = head.uri.path();
    match (&head.method, path) {
        (&Method::GET, "/rep") => Ok(Command::Rep {}),
        (&Method::GET, "/backends") => Ok(Command::Backends {}),
        (&Method::GET, "/config") => Ok(Command::Config {}),
        (&Method::GET, scrape::HEALTH) => Ok(Command::Health {}),
        (&Method::GET, "/incidents") => Ok(Command::Incidents {}),
        (&Method::GET, "/events") => Ok(Command::Events { since: since(head)?, follow: true }),
        (&Method::GET, "/ring") => Ok(Command::Ring {}),
        (&Method::GET, "/explain") => Ok(Command::Explain { id: id(head)? }),
        (&Method::POST, "/explain") => Ok(Command::Explain { id: parse::<Question>(body).await?.id }),
        (&Method::GET, "/mapping") => Ok(Command::Mapping(Remapping::default())),
        (&Method::POST, "/add") => Ok(Command::Add(parse(body).await?)),
        (&Method::DELETE | &Method::POST, "/rm") => Ok(Command::Remove(parse(body).await?)),
        (&Method::POST, "/kill") => Ok(Command::Kill(parse(body).await?)),
        (&Method::POST, "/upgrade") => Ok(Command::Upgrade { binary: parse::<Program>(body).await?.binary }),
        (&Method::PUT, "/mapping") => Ok(Command::Mapping(remapping(body).await?)),
        (&Method::POST, "/reload") => Ok(Command::Reload(reload(body).await?)),
        (&Method::POST, "/plan") => Ok(Command::Plan { change: parse(body).await? }),
        _ => Err(match allowed(path) {
            Some(methods) => FailureKind::MethodNotAllowed.because(format!("{path} takes {methods}")),
            None => FailureKind::NotFound.because(format!(
                "there is no {path}; there are /rep /add /rm /backends /config /events /explain /healthz /incidents /kill /mapping /metrics /plan /reload /ring /upgrade"
            )),
        }),
    }
}

/// The body of an `upgrade`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    #[serde(default)]
    binary: Option<PathBuf>,
}

/// The body of an `explain` whose id cannot stand in a target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    id: String,
}

/// The query parameter `id`, exactly as it would be read from a first line.
fn id(head: &Parts) -> Result<String, Failure> {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let id = query_parameter(target.as_bytes(), "id").ok_or_else(|| {
        FailureKind::BadRequest.because("the query parameter `id` is missing or empty: expected a request id")
    })?;
    Ok(String::from_utf8_lossy(id).into_owned())
}

/// The number of the last event that a browser has seen, or the query parameter `since`.
fn since(head: &Parts) -> Result<Option<Since>, Failure> {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let (name, given) = match head.headers.get(LAST_EVENT_ID) {
        Some(seen) => ("Last-Event-ID", Some(seen.as_bytes())),
        None => ("since", query_parameter(target.as_bytes(), "since")),
    };
    let read = |text: &[u8]| String::from_utf8_lossy(text).parse();
    let wrong = |error| FailureKind::BadRequest.because(format!("`{name}`: {error}"));
    given.map(read).transpose().map_err(|error: Malformed| wrong(error))
}

/// A change of the mapping. One without any field is refused: GET reads the mapping.
async fn remapping(body: Incoming) -> Result<Remapping, Failure> {
    let remapping: Remapping = parse(body).await?;
    if remapping == Remapping::default() {
        let fields = Remapping::fields();
        return Err(FailureKind::BadRequest
            .because(format!("there is nothing to change: expected one or more of {fields}")));
    }
    Ok(remapping)
}

/// How to load the configuration again; without a body, in the usual way.
async fn reload(body: Incoming) -> Result<Reload, Failure> {
    let body = receive(body).await?;
    if body.is_empty() { Ok(Reload::default()) } else { Ok(parse_body(&body)?) }
}

async fn parse<T: DeserializeOwned>(body: Incoming) -> Result<T, Failure> {
    Ok(parse_body(&receive(body).await?)?)
}

async fn receive(body: Incoming) -> Result<Vec<u8>, Failure> {
    let late = |_| FailureKind::TooSlow.because(format!("a body takes at most {SENDER:?} to send"));
    timeout(SENDER, collect(body)).await.map_err(late)?
}

/// The whole body. One whose Content-Length is too large is refused before it is read, because its sender may wait for
/// an answer (`Expect: 100-continue`).
async fn collect(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let too_large = || FailureKind::TooLarge.because(format!("a body has at most {COMMAND_MAX} bytes"));
    let broken = |error| FailureKind::BadRequest.because(format!("the body is incomplete: {error}"));
    if body.size_hint().lower() > COMMAND_MAX as u64 {
        return Err(too_large());
    }
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        collected.extend_from_slice(&data);
        if collected.len() > COMMAND_MAX {
            return Err(too_large());
        }
    }
    Ok(collected)
}

/// Entries of the journal as an endless response.
fn stream(events: Events) -> Response<Body> {
    let mut response = Response::new(Either::Right(events.into_body()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A whole response as bytes, for a connection that hyper has given up.
fn raw_response(answer: &Answer) -> Vec<u8> {
    let (body, status) = (answer.to_json(), answer.http_status());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
