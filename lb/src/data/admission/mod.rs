//! Who is let in: the lists of addresses, and the limits for each source and for all.
//!
//! A source is an IPv4 address, or the first 64 bits of an IPv6 address, which is what one client can have many addresses of. The
//! decision needs the client's address and the time only. It reads no byte and makes no system call, and a client that is
//! refused costs no memory. The listener performs the decision.

mod late;
mod lists;
mod rate;
mod sources;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::lists::Lists;
use self::rate::RateLimit;
use self::sources::Sources;
use crate::refusals::Reason;

pub(super) use self::late::Late;
pub(crate) use self::lists::Networks;
pub(crate) use self::rate::Rate;
pub(super) use self::sources::Seat;

/// The rules for who is let in. Without any, everybody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionRules {
    /// If there are some, only addresses in these networks are let in.
    pub allow: Vec<IpNet>,
    /// Addresses in these networks are never let in.
    pub deny: Vec<IpNet>,
    /// The most connections of one source at once.
    pub most_per_source: Option<usize>,
    /// How many new connections of one source are let in over time.
    pub rate_per_source: Option<Rate>,
    /// The most connections at once. Those over it are not refused but wait.
    pub most: Option<usize>,
}

/// Decides by the rules. All workers share it.
#[derive(Debug)]
pub(crate) struct Admission {
    lists: Option<Lists>,
    sources: Option<Arc<Sources>>,
    rate: Option<(Rate, Arc<RateLimit>)>,
    places: Option<Arc<Semaphore>>,
    most: Option<usize>,
}

/// What a connection holds until it has ended, wherever it is served then: its place among all, and among those of its source.
#[derive(Debug)]
pub(crate) struct Places {
    of_all: Option<OwnedSemaphorePermit>,
    of_source: Option<Seat>,
}

impl Admission {
    /// `None` if everybody is let in.
    #[must_use]
    pub(crate) fn new(rules: &AdmissionRules) -> Option<Self> {
        Self::revised(None, rules)
    }

    /// Other rules take the place of those `before`. Connections that are open are counted on, by each rule that there was before.
    /// `None` if everybody is let in. Call it on a runtime.
    #[must_use]
    pub(super) fn revised(before: Option<&Self>, rules: &AdmissionRules) -> Option<Self> {
        let sources = |most| match before.and_then(|before| before.sources.as_ref()) {
            Some(sources) => {
                sources.allow(most);
                Arc::clone(sources)
            }
            None => Arc::new(Sources::new(most)),
        };
        let rate = |rate| match before.and_then(|before| before.rate.as_ref()) {
            Some((same, limit)) if *same == rate => (rate, Arc::clone(limit)),
            _ => (rate, Arc::new(RateLimit::new(rate))),
        };
        let places = |most| match before.and_then(|before| before.places.as_ref().zip(before.most)) {
            Some((places, before)) => resized(places, before, most),
            None => Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        };
        let admission = Admission {
            lists: Lists::new(&rules.allow, &rules.deny),
            sources: rules.most_per_source.map(sources),
            rate: rules.rate_per_source.map(rate),
            places: rules.most.map(places),
            most: rules.most,
        };
        let Admission { lists, sources, rate, places, .. } = &admission;
        let is_needed = lists.is_some() || sources.is_some() || rate.is_some() || places.is_some();
        is_needed.then_some(admission)
    }

    /// Whether a limit counts connections that did not `before`: those that are open then are to be counted ([`Late`]).
    pub(super) fn counts_anew(&self, before: Option<&Self>) -> bool {
        let is_new_source = self.sources.is_some() && before.is_none_or(|before| before.sources.is_none());
        is_new_source || self.places.is_some() && before.is_none_or(|before| before.places.is_none())
    }

    /// Whether a client with this address is let in. The seat is its place among the connections of its source.
    ///
    /// # Errors
    /// The reason why it is not.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<Option<Seat>, Reason> {
        let peer = peer.to_canonical();
        if self.lists.as_ref().is_some_and(|lists| !lists.let_in(peer)) {
            return Err(Reason::Denied);
        }
        self.seat(peer)
    }

    /// Whether a proxy with this address is let in: those that have to send a header need not be allowed once more.
    ///
    /// # Errors
    /// It is denied.
    pub(super) fn let_in_proxy(&self, peer: IpAddr) -> Result<(), Reason> {
        let is_denied = self.lists.as_ref().is_some_and(|lists| lists.deny(peer.to_canonical()));
        if is_denied { Err(Reason::Denied) } else { Ok(()) }
    }

    /// Whether a connection of a proxy's own is let in: it names no client. The limits of a source are for it as well.
    ///
    /// # Errors
    /// The reason why it is not.
    pub(super) fn admit_proxy(&self, peer: IpAddr) -> Result<Option<Seat>, Reason> {
        self.let_in_proxy(peer)?;
        self.seat(peer.to_canonical())
    }

    /// A seat for a client with this canonical address, if there are any.
    fn seat(&self, peer: IpAddr) -> Result<Option<Seat>, Reason> {
        let source = Source::of(peer);
        let seat = match &self.sources {
            Some(sources) => Some(sources.enter(source).ok_or(Reason::PerSource)?),
            None => None,
        };
        // After the seat: a client that gets none does not use up its rate.
        match &self.rate {
            Some((_, rate)) if !rate.let_in(source) => Err(Reason::Rate),
            _ => Ok(seat),
        }
    }

    /// Waits for a place among all connections. `is_full` is called if there is none now.
    pub(super) async fn places(
        &self,
        of_source: Option<Seat>,
        is_full: impl FnOnce(),
    ) -> Option<Arc<Places>> {
        let of_all = match &self.places {
            Some(places) => match Arc::clone(places).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => {
                    is_full();
                    // It fails only if it is closed, which it never is.
                    Arc::clone(places).acquire_owned().await.ok()
                }
            },
            None => None,
        };
        Places::new(of_all, of_source)
    }

    /// The most connections at once, if there is a limit.
    #[must_use]
    pub(super) fn most(&self) -> Option<usize> {
        self.most
    }

    /// Whether all places among all connections are taken.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.places.as_ref().is_some_and(|places| places.available_permits() == 0)
    }

    /// A place among all connections, if there is one.
    pub(super) fn places_now(&self, of_source: Option<Seat>) -> Option<Arc<Places>> {
        let of_all = self.places.as_ref().and_then(|places| Arc::clone(places).try_acquire_owned().ok());
        Places::new(of_all, of_source)
    }
}

/// The places of all connections, when there are more or fewer of them. Fewer: those that become free are taken away first.
fn resized(places: &Arc<Semaphore>, before: usize, most: usize) -> Arc<Semaphore> {
    places.add_permits(most.saturating_sub(before));
    if let Ok(less @ 1..) = u32::try_from(before.saturating_sub(most)) {
        let places = Arc::clone(places);
        tokio::spawn(async move {
            // It fails only if it is closed, which it never is.
            if let Ok(taken) = places.acquire_many(less).await {
                taken.forget();
            }
        });
    }
    Arc::clone(places)
}

impl Places {
    /// The places of a connection that gets its seat later than its place among all. (No other part of the program has them yet.)
    pub(super) fn with_seat(places: Option<Arc<Self>>, seat: Seat) -> Option<Arc<Self>> {
        let of_all = places.and_then(Arc::into_inner).and_then(|places| places.of_all);
        Places::new(of_all, Some(seat))
    }

    fn new(of_all: Option<OwnedSemaphorePermit>, of_source: Option<Seat>) -> Option<Arc<Self>> {
        (of_all.is_some() || of_source.is_some()).then(|| Arc::new(Places { of_all, of_source }))
    }
}

/// What limits count as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address: the rest is the choice of the client's network or of the client itself
    /// (RFC 4291, section 2.5.4; RFC 8981).
    V6(u32, u32),
}

impl Source {
    /// Of a canonical address: one that is not an IPv4 address in the clothes of IPv6.
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Source::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                Source::V6((bits >> 96) as u32, (bits >> 64) as u32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_need_not_be_allowed_and_may_be_denied() {
        let rules = AdmissionRules {
            allow: vec!["192.0.2.0/24".parse().unwrap()],
            deny: vec!["10.0.0.9/32".parse().unwrap()],
            most_per_source: Some(1),
            ..Default::default()
        };
        let admission = admission(&rules);
        assert_eq!(admission.admit(address("10.0.0.1")).unwrap_err(), Reason::Denied);
        assert_eq!(admission.let_in_proxy(address("10.0.0.1")), Ok(()));
        for denied in ["10.0.0.9", "::ffff:10.0.0.9"] {
            assert_eq!(admission.let_in_proxy(address(denied)), Err(Reason::Denied));
            assert_eq!(admission.admit_proxy(address(denied)).unwrap_err(), Reason::Denied);
        }
        let own = admission.admit_proxy(address("10.0.0.1")).unwrap();
        assert_eq!(admission.admit_proxy(address("10.0.0.1")).unwrap_err(), Reason::PerSource);
        drop(own);
    }

    #[tokio::test]
    async fn a_seat_that_comes_later_is_held_beside_the_place_among_all() {
        let rules = AdmissionRules { most: Some(1), most_per_source: Some(1), ..Default::default() };
        let admission = admission(&rules);
        let places = admission.places(None, || panic!("there is one")).await;
        let seat = admission.admit(address("192.0.2.1")).unwrap().unwrap();
        let places = Places::with_seat(places, seat).unwrap();
        assert!(admission.is_full());
        assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Reason::PerSource);
        drop(places);
        assert!(!admission.is_full() && admission.admit(address("192.0.2.1")).is_ok());
    }

    #[tokio::test]
    async fn what_is_open_is_counted_on_under_other_limits() {
        let rules = |most, per_source| AdmissionRules {
            most: Some(most),
            most_per_source: Some(per_source),
            ..Default::default()
        };
        let source = address("192.0.2.1");
        let admission = admission(&rules(2, 2));
        let open = [admission.admit(source).unwrap(), admission.admit(source).unwrap()];
        let [first, second] = open.map(|seat| admission.places_now(seat).unwrap());
        let less = Admission::revised(Some(&admission), &rules(1, 1)).unwrap();
        drop(first);
        tokio::task::yield_now().await;
        assert!(less.is_full() && less.admit(source).is_err());
        drop(second);
        tokio::task::yield_now().await;
        assert!(less.places_now(less.admit(source).unwrap()).is_some());
        let more = Admission::revised(Some(&less), &rules(3, 3)).unwrap();
        let places: Vec<_> = (0..4).map(|_| more.places_now(more.admit(source).ok()?)).collect();
        assert_eq!(places.iter().flatten().count(), 3);
        assert!(Admission::revised(Some(&more), &AdmissionRules::default()).is_none());
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admission(rules: &AdmissionRules) -> Admission {
        Admission::new(rules).unwrap()
    }

    #[test]
    fn without_rules_there_is_nothing_to_ask() {
        assert!(Admission::new(&AdmissionRules::default()).is_none());
    }

    #[test]
    fn an_address_in_the_clothes_of_the_other_family_is_the_same_source() {
        let admission = admission(&AdmissionRules { most_per_source: Some(1), ..Default::default() });
        let held = admission.admit(address("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(address("::ffff:192.0.2.1")).unwrap_err(), Reason::PerSource);
        let other = admission.admit(address("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(address("2001:db8::ffff:1")).unwrap_err(), Reason::PerSource);
        assert!(admission.admit(address("2001:db8:0:1::1")).is_ok(), "another /64");
        // 0.0.0.1 and ::1 are not the same number.
        let loopback = admission.admit(address("::1")).unwrap();
        assert!(admission.admit(address("0.0.0.1")).is_ok());
        drop((held, other, loopback));
        assert!(admission.admit(address("::ffff:192.0.2.1")).is_ok());
    }

    #[test]
    fn a_client_that_is_denied_or_gets_no_seat_does_not_use_up_its_rate() {
        let rules = AdmissionRules {
            deny: vec!["192.0.2.9/32".parse().unwrap()],
            most_per_source: Some(1),
            rate_per_source: Some(Rate { per_second: 1.try_into().unwrap(), burst: 2.try_into().unwrap() }),
            ..Default::default()
        };
        let admission = admission(&rules);
        let first = admission.admit(address("192.0.2.1")).unwrap();
        for _ in 0..10 {
            assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Reason::PerSource);
            assert_eq!(admission.admit(address("192.0.2.9")).unwrap_err(), Reason::Denied);
        }
        drop(first);
        drop(admission.admit(address("192.0.2.1")).unwrap());
        assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Reason::Rate);
        // What was refused for its rate has given its seat back.
        assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Reason::Rate);
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_the_connection_has_ended_on_whatever_side() {
        let admission = admission(&AdmissionRules { most: Some(1), ..Default::default() });
        let held = admission.places(None, || panic!("there is one")).await.unwrap();
        let handed_over = Arc::clone(&held);
        assert!(admission.is_full() && admission.places_now(None).is_none());
        let mut waits = false;
        let mut next = Box::pin(admission.places(None, || waits = true));
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(held);
        assert!(futures_util::poll!(&mut next).is_pending(), "the replica still has it");
        drop(handed_over);
        assert!(next.await.is_some());
        assert!(waits);
        assert!(admission.places_now(None).is_some());
    }
}
