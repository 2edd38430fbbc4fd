//! The rules of the data plane: how sessions are served, and who is let in. A reload replaces all of them at once.
//!
//! A session takes the rules that there are when it begins, and keeps them until it has its replica. What is counted of open connections
//! outlives a change.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;

use super::{Admission, AdmissionRules, Limits, Networks};

/// The rules of the data plane. They never change; others take their place.
#[derive(Debug)]
pub(crate) struct Rules {
    /// How a session is served.
    pub(super) limits: Limits,
    /// Who is let in; `None`: everybody.
    pub(super) admission: Option<Admission>,
    /// The proxies whose connections begin with a header of the PROXY protocol, if there are some.
    pub(super) proxies: Option<Networks>,
}

/// Holds the rules that there are now.
#[derive(Debug)]
pub(crate) struct RulesCell(ArcSwap<Rules>);

impl RulesCell {
    /// These rules.
    pub(crate) fn new(limits: Limits, admission: &AdmissionRules, proxies: &[IpNet]) -> Self {
        let admission = Admission::new(admission);
        RulesCell(ArcSwap::from_pointee(Rules { limits, admission, proxies: Networks::some(proxies) }))
    }

    /// Other rules take their place, for connections that come from now on. Returns whether connections that are open have to be counted
    /// now, because a limit was switched on. Call it on a runtime.
    pub(super) fn change(&self, limits: Limits, admission: &AdmissionRules, proxies: &[IpNet]) -> bool {
        let before = self.0.load();
        let admission = Admission::revised(before.admission.as_ref(), admission);
        let counts_anew = admission.as_ref().is_some_and(|now| now.counts_anew(before.admission.as_ref()));
        self.0.store(Arc::new(Rules { limits, admission, proxies: Networks::some(proxies) }));
        counts_anew
    }

    /// The rules, for a look.
    pub(super) fn load(&self) -> Guard<Arc<Rules>> {
        self.0.load()
    }

    /// The rules, for a session.
    pub(super) fn take(&self) -> Arc<Rules> {
        self.0.load_full()
    }
}

#[cfg(test)]
impl RulesCell {
    /// These limits, and everybody is let in.
    pub(super) fn of(limits: Limits) -> Self {
        RulesCell::new(limits, &AdmissionRules::default(), &[])
    }
}
