//! The ports of `lb`, bound or taken over, and the privileges that are given up then.

use anyhow::Context as _;

use crate::config::Config;
use crate::control::port::Listeners;
use crate::data_port::{DataPort, tcp};
use crate::handed::{Handed, PortName};
use crate::net::ListenAddress;
use crate::privileges;
use crate::upgrade::Predecessor;

/// Binding a port below this one is a privilege (ip(7)).
const FIRST_UNPRIVILEGED: u16 = 1024;

/// The ports, bound.
pub struct Ports {
    pub(crate) data: DataPort,
    pub(crate) control: Listeners,
    pub(crate) metrics: Option<Listeners>,
    pub(crate) predecessor: Option<Predecessor>,
}

impl Ports {
    /// The same, taken over from this `lb`.
    #[must_use]
    pub fn after(self, predecessor: Option<Predecessor>) -> Self {
        Ports { predecessor, ..self }
    }
}

/// Binds the ports, but for what was handed over, and gives up every privilege that is not needed from then on. Call it while there is
/// one thread.
///
/// # Errors
/// A port cannot be bound, what was handed over does not fit, or the kernel refuses to take the privileges.
pub fn bind(config: &Config, mut handed: Handed) -> anyhow::Result<Ports> {
    privileges::hide()?;
    if !config.allow_new_privileges {
        privileges::refuse_new()?;
    }
    let data = handed.addresses(PortName::Data, &config.listen, config.given.listen)?;
    let control = handed.addresses(PortName::Control, &config.control, config.given.control)?;
    let metrics: Vec<ListenAddress> = config.metrics.map(ListenAddress::Tcp).into_iter().collect();
    let metrics = handed.addresses(PortName::Metrics, &metrics, !metrics.is_empty())?;
    let data = DataPort::bind(&data, config.workers, &config.limits.peer, &mut handed)?;
    let control = Listeners::open(&control, PortName::Control, &mut handed)?;
    let metrics = (!metrics.is_empty()).then(|| Listeners::open(&metrics, PortName::Metrics, &mut handed));
    let metrics = metrics.transpose()?;
    if let Some(user) = config.user {
        data.give_to(user).context("cannot give the ports to --user")?;
        control.give_to(user).context("cannot give the control port to --user")?;
        metrics.iter().try_for_each(|port| port.give_to(user)).context("cannot give --metrics to --user")?;
        let mut ports = config.listen.iter().filter_map(tcp).map(|address| address.port());
        let low_ports = ports.any(|port| (1..FIRST_UNPRIVILEGED).contains(&port));
        user.take_on(low_ports).context("cannot change to --user")?;
        // The kernel forgets it when the user changes.
        privileges::hide()?;
    }
    Ok(Ports { data, control, metrics, predecessor: None })
}
