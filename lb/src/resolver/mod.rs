//! The resolver: follows names to the addresses that they have, by the DNS and by the hosts file.
//!
//! It asks again when an answer has grown old, and at once (within a bound) when a user of the addresses finds that one does not
//! answer. What an answer changes is decided by [`known`], [`families`] and [`names`], which are pure; [`machine`] reads how this machine
//! resolves names, and [`asker`] asks. All of it runs on a thread of its own: neither a worker nor the controller waits for it.
//! It knows nothing of fleets, and connects to no server but those of the DNS.

mod asker;
mod families;
mod follow;
mod known;
mod machine;
mod names;
mod office;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use proto::control::Resolutions;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::net::{Addresses, Endpoint};
pub(crate) use asker::Target;
pub use follow::ServiceName;
pub(crate) use follow::{Server, Servers, Service};
pub use known::Rules;
use machine::Machine;
use office::Office;

/// Open files of the resolver: its runtime, and a socket for each question that is asked at once.
pub(crate) const FILES: usize = 4 + 2 * office::AT_ONCE;

/// Follows names, on a thread of its own, which ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    runtime: Handle,
    office: Arc<Office>,
    _end: Arc<DropGuard>,
}

impl Resolver {
    /// Starts the thread. With `servers`, these are asked, and not those that this machine is set up to ask.
    ///
    /// # Errors
    /// The thread, its runtime or the client of the DNS cannot be made.
    pub(crate) fn start(servers: &[SocketAddr], rules: Rules) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let machine = Machine::new(servers).map_err(io::Error::other)?;
        drop(inside);
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let office = Arc::new(Office::new(machine, rules));
        let ended = end.clone();
        Builder::new().name("dns".to_owned()).spawn(move || runtime.block_on(ended.cancelled()))?;
        Ok(Resolver { runtime: handle, office, _end: Arc::new(end.drop_guard()) })
    }

    /// Follows a host until the result is dropped. The last known addresses stay while no answer comes.
    pub(crate) fn follow_host(&self, host: &str, port: u16) -> Followed {
        let (tell, state) = watch::channel(None);
        let wanted = Arc::default();
        let follower =
            follow::host(Arc::clone(&self.office), (host.to_owned(), port), Arc::clone(&wanted), tell);
        self.runtime.spawn(follower);
        Followed { state, wanted }
    }

    /// Follows a service. The caller polls the result on the thread of the resolver ([`Resolver::spawn`]).
    /// To ask soon is to notify `wanted`.
    pub(crate) fn service(&self, name: ServiceName, wanted: Arc<Notify>) -> Service {
        Service::new(Arc::clone(&self.office), name, wanted)
    }

    /// Runs something on the thread of the resolver.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// How the questions so far have ended.
    pub(crate) fn resolutions(&self) -> Resolutions {
        self.office.resolutions()
    }
}

/// The addresses of a name or server, or while none are known, why not; `None` before the first answer.
pub(crate) type State = Option<Result<Addresses, String>>;

/// The addresses of one name or server as they are known now.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    state: watch::Receiver<State>,
    /// Asks for the next question.
    wanted: Arc<Notify>,
}

impl Followed {
    /// What `state` says. To ask soon is to notify `wanted`.
    pub(crate) fn new(state: watch::Receiver<State>, wanted: Arc<Notify>) -> Self {
        Followed { state, wanted }
    }

    /// An address that stays.
    pub(crate) fn fixed(address: Endpoint) -> Self {
        let (_, state) = watch::channel(Some(Ok(address.into())));
        Followed { state, wanted: Arc::default() }
    }

    /// The addresses, as soon as some are known.
    ///
    /// # Errors
    /// Why none are known when `limit` is over.
    pub(crate) async fn addresses(&mut self, limit: Duration) -> Result<Addresses, String> {
        let is_known = |state: &State| state.as_ref().is_some_and(Result::is_ok);
        // When the time is over, or the following has ended, the last state counts.
        let _ = timeout(limit, self.state.wait_for(is_known)).await;
        let state = self.state.borrow_and_update().clone();
        state.unwrap_or_else(|| Err(format!("no answer within {limit:?}")))
    }

    /// Waits for other addresses than those that were last returned; for ever if there can be none.
    pub(crate) async fn moved(&mut self) -> Addresses {
        while self.state.changed().await.is_ok() {
            if let Some(Ok(addresses)) = &*self.state.borrow_and_update() {
                return addresses.clone();
            }
        }
        std::future::pending().await
    }

    /// Asks for the next question soon: an address does not answer.
    pub(crate) fn ask_soon(&self) {
        self.wanted.notify_one();
    }
}
