//! The addresses of a name: two questions, one for each family, make one answer. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::known::Answer;

/// The answers of both families together. If one question failed and the other did not, what was known `before` of the failed family
/// stays: a server that drops questions for IPv6 hides no IPv4 address, and the other way round.
pub(super) fn both(
    v4: Answer<Vec<IpAddr>>,
    v6: Answer<Vec<IpAddr>>,
    before: &[IpAddr],
) -> Answer<Vec<IpAddr>> {
    use Answer::{Failed, Nothing, Records};
    let known = |is_v4: bool| before.iter().copied().filter(move |address| address.is_ipv4() == is_v4);
    match (v4, v6) {
        (Records(v4, hold), Records(v6, other)) => joined(v4, v6, hold.min(other)),
        (Records(v4, hold), Failed(_)) => joined(v4, known(false), hold),
        (Failed(_), Records(v6, hold)) => joined(known(true), v6, hold),
        (Records(found, hold), Nothing(_)) | (Nothing(_), Records(found, hold)) => Records(found, hold),
        (Failed(why), _) | (_, Failed(why)) => Failed(why),
        (Nothing(why), Nothing(_)) => Nothing(why),
    }
}

fn joined(
    v4: impl IntoIterator<Item = IpAddr>,
    v6: impl IntoIterator<Item = IpAddr>,
    hold: Duration,
) -> Answer<Vec<IpAddr>> {
    Answer::Records(v4.into_iter().chain(v6).collect(), hold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_that_fails_leaves_what_was_known_of_it() {
        let ip = |address: &str| address.parse::<IpAddr>().unwrap();
        let (a, b, old, six, old_six) =
            (ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"), ip("::6"), ip("::7"));
        let found =
            |addresses: &[IpAddr], hold| Answer::Records(addresses.to_vec(), Duration::from_secs(hold));
        let nothing = || Answer::Nothing("NXDOMAIN".to_owned());
        let failed = || Answer::Failed("SERVFAIL".to_owned());
        let before = [old, old_six];
        for (v4, v6, expected) in [
            (found(&[b, a], 9), found(&[six], 5), found(&[b, a, six], 5)),
            (found(&[a], 9), nothing(), found(&[a], 9)),
            (nothing(), found(&[six], 5), found(&[six], 5)),
            (found(&[a], 9), failed(), found(&[a, old_six], 9)),
            (failed(), found(&[six], 5), found(&[old, six], 5)),
            (nothing(), nothing(), nothing()),
            (failed(), nothing(), failed()),
            (nothing(), failed(), failed()),
            (failed(), failed(), failed()),
        ] {
            let text = format!("{v4:?}, {v6:?}");
            assert_eq!(both(v4, v6, &before), expected, "{text}");
        }
        assert_eq!(both(found(&[a], 9), failed(), &[]), found(&[a], 9), "a server that knows no IPv6");
    }
}
