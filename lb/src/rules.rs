//! What the configuration makes of a fleet: its rules, its beginning, and whether it can be handed over. It starts nothing but a resolver.

use anyhow::Context as _;
use fleet::{Authority, Lineup, Policy, Roster, Seat};
use mapping::{Mapping, MappingPolicy, Member};
use proto::control::{Hostname, Transport, Weight};

use crate::config::{Config, Resolution, Source};
use crate::control::Clock;
use crate::resolver::Resolver;

/// The roster of a new fleet: these slots, and spares with random names.
pub(crate) fn beginning(slots: Vec<(Hostname, Weight)>, spares: usize, mapping: MappingPolicy) -> Roster {
    let seats = Lineup::new(slots, 0).seats;
    let spare = || Hostname::try_from(format!("server-{:06x}", fastrand::u32(..1 << 24))).ok();
    let spares = std::iter::repeat_with(spare).flatten().take(spares).collect();
    Roster { mapping, seats, spares, coming: Vec::new(), leaving: Vec::new() }
}

/// The rules of the fleet.
pub(crate) fn policy(config: &Config, clock: &Clock) -> Policy {
    Policy {
        mapping: config.mapping.clone(),
        start_timeout: config.start_timeout,
        drain_timeout: config.drain_timeout,
        authority: authority(config),
        born: clock.born(),
    }
}

/// Checks that the mapping has room for the slots that the fleet begins with.
///
/// # Errors
/// It has not: the lb before this one had another mapping.
pub(crate) fn ensure_room(mapping: &MappingPolicy, seats: &[Seat]) -> anyhow::Result<()> {
    let members: Vec<Member> = seats.iter().map(Seat::member).collect();
    Mapping::check(&mapping.scheme, &members).context("the slots that there are do not fit the mapping")
}

/// Why no successor can take such a configuration over.
pub(crate) fn obstacle(config: &Config) -> Option<&'static str> {
    let is_private = config.limits.transport == Transport::Handoff && config.handoff_dir.is_none();
    is_private.then_some("--transport handoff: its folder ends with this lb: expected --handoff-dir")
}

/// Who decides which replica sits where.
fn authority(config: &Config) -> Authority {
    match &config.source {
        Source::Swarm(_) => Authority::Shared,
        Source::Dns(_) => Authority::Outside,
        source => Authority::Alone {
            same_name: config.same_name,
            restartable: !matches!(source, Source::Fixed(_)),
            keep: matches!(source, Source::Docker(settings) if settings.keep),
        },
    }
}

pub(crate) fn resolver(Resolution { servers, rules }: Resolution) -> anyhow::Result<Resolver> {
    Resolver::start(&servers, rules).context("names cannot be resolved")
}
