//! Accepted client connections, handed from `lb` to a replica on the same host.
//!
//! `lb` looks at the first line of a connection without consuming it, picks a replica, and passes the *socket* over a Unix
//! socket (`SCM_RIGHTS`, unix(7), cmsg(3)). From then on client and replica speak directly, as if the replica had
//! accepted the connection itself. The protocol is specified in `docs/HANDOFF.md`, for any language.
//!
//! The crate serves replicas written in Rust: [`Listener`] yields [`Stream`]s, and [`Either`] adds those of a TCP
//! listener. [`Channel`] is the load balancer's side. The crate never reads from a client and never waits for a peer that
//! does not read. All its queues are bounded, and no bytes from a Unix socket make it panic.
//!
//! With hyper, a replica is:
//!
//! ```no_run
//! # use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
//! use hyper_util::rt::TokioIo;
//!
//! # async fn hello(_: Request<Incoming>) -> Result<Response<String>, std::convert::Infallible> {
//! #     Ok(Response::new("hello".to_owned()))
//! # }
//! # async fn f() -> std::io::Result<()> {
//! let tcp = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let handoff = handoff::Listener::from_env(std::env::var_os(handoff::VARIABLE))?;
//! let mut either = handoff::Either::new(tcp, handoff);
//! loop {
//!     let Ok((stream, _metadata)) = either.accept().await else {
//!         // The error concerns one connection, or a shortage that passes.
//!         tokio::time::sleep(std::time::Duration::from_millis(200)).await;
//!         continue;
//!     };
//!     tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello)));
//! }
//! # }
//! ```
//!
//! (axum's `Router` is such a service by way of `hyper_util::service::TowerToHyperService`.)

mod channel;
mod either;
mod link;
mod listener;
pub mod protocol;
mod reports;
mod socket;
mod stream;

pub use channel::{Channel, Closed, Ended, Refused};
pub use either::Either;
pub use listener::Listener;
pub use protocol::{Metadata, VARIABLE};
pub use reports::Open;
pub use stream::Stream;
