//! how a load spreads over the replicas.

use std::collections::BTreeMap;

use anyhow::bail;

use super::{Setting, Subject, mapping};
use crate::control::Control;
use crate::data::{Balance, Data, Scaling, Share, Variant, Variants};
use crate::load::{Ids, Outcome};

/// The N of A-2.
const SIZES: std::ops::RangeInclusive<usize> = 2..=6;
/// The N of A-1.
pub(crate) const THREE: usize = 3;
/// How many ids are looked up per request to estimate the expected shares, within bounds.
const ASKED_PER_REQUEST: u64 = 5;
const ASKED: std::ops::RangeInclusive<u64> = 10_000..=100_000;

/// A-1 for several mappings.
pub(crate) async fn a1(
    setting: Setting<'_>,
    variants: &[Variant],
    n: usize,
    data: &mut Data,
) -> anyhow::Result<()> {
    for variant in chosen(setting, variants) {
        spread(setting, &variant, n, &mut data.a1).await?;
    }
    Ok(())
}

/// A-2 for several mappings.
pub(crate) async fn a2(setting: Setting<'_>, variants: &[Variant], data: &mut Data) -> anyhow::Result<()> {
    for variant in chosen(setting, variants) {
        scale(setting, &variant, &mut data.a2).await?;
    }
    Ok(())
}

/// A-4: A-1 and A-2 for each mapping in [`choices`].
pub(crate) async fn a4(setting: Setting<'_>, data: &mut Data) -> anyhow::Result<()> {
    let found = data.a4.insert(Variants::default());
    for variant in choices() {
        setting.go_on()?;
        match Subject::of(setting.args, &variant, THREE).await {
            Ok(subject) => {
                measure(setting, &subject, (&variant, &title(&variant, THREE)), &mut found.a1).await?;
            }
            Err(reason) => {
                found.refused.push((variant, format!("{reason:#}")));
                continue;
            }
        }
        scale(setting, &variant, &mut found.a2).await?;
    }
    Ok(())
}

/// The mappings of A-4: `slots` with the assignment's formulas and with two better pairs, and the other mappings of `lb`.
fn choices() -> Vec<Variant> {
    let formulas = |name: &str, request: &str, server: &str, more: &[&str]| {
        let mut variant = mapping("slots");
        name.clone_into(&mut variant.name);
        let formulas = ["--request-hash", request, "--server-hash", server];
        variant.flags.extend(formulas.iter().chain(more).map(|&flag| flag.to_owned()));
        variant
    };
    // Fibonacci hashing (Knuth, TAOCP vol. 3, section 6.4): 2^64 divided by the golden ratio.
    let golden = "i*0x9E3779B97F4A7C15 >> 40";
    let scattered = "(i*0x9E3779B97F4A7C15 + j)*0xC2B2AE3D27D4EB4F >> 40";
    let mut choices = vec![
        Variant { name: "assignment".to_owned(), ..mapping("slots") },
        // K = 9 even steps of 57 for each server, and servers the golden section of a step apart.
        formulas("even steps", golden, "57*j + 35*i", &[]),
        formulas("scattered", golden, scattered, &["--virtual", "80"]),
    ];
    choices.extend(["ring", "maglev", "rendezvous"].map(mapping));
    choices
}

/// The mappings to measure; a running load balancer has only its own.
fn chosen(setting: Setting<'_>, variants: &[Variant]) -> Vec<Variant> {
    match setting.args.target {
        Some(target) => vec![Variant { name: target.to_string(), flags: Vec::new() }],
        None => variants.to_vec(),
    }
}

fn title(variant: &Variant, n: usize) -> String {
    format!("{} at N = {n}", variant.name)
}

/// One load on `n` replicas.
async fn spread(
    setting: Setting<'_>,
    variant: &Variant,
    n: usize,
    found: &mut Vec<Balance>,
) -> anyhow::Result<()> {
    setting.go_on()?;
    let subject = Subject::of(setting.args, variant, n).await?;
    measure(setting, &subject, (variant, &title(variant, n)), found).await
}

/// One load for each N. A running `lb` gets more replicas for it, which are removed afterwards.
async fn scale(setting: Setting<'_>, variant: &Variant, found: &mut Vec<Scaling>) -> anyhow::Result<()> {
    // Added first, so that an error loses no point.
    found.push(Scaling { variant: variant.clone(), points: Vec::new() });
    let Some(Scaling { points, .. }) = found.last_mut() else { return Ok(()) };
    if let Some(running) = Subject::running(setting.args) {
        return resized(setting, variant, &running, points).await;
    }
    for n in SIZES {
        spread(setting, variant, n, points).await?;
    }
    Ok(())
}

/// Adds replicas under names of `bench` to a running `lb`, and removes only those afterwards.
async fn resized(
    setting: Setting<'_>,
    variant: &Variant,
    running: &Subject,
    points: &mut Vec<Balance>,
) -> anyhow::Result<()> {
    let mut control = running.control().await?;
    let before = control.replicas().await?.len();
    if before > *SIZES.end() {
        bail!("the fleet has {before} replicas, and A-2 goes up to {}", SIZES.end());
    }
    let mut added = Vec::new();
    let done = grow(setting, (variant, running), &mut control, (before, &mut added), points).await;
    let mut removed = Ok(());
    for hostname in added {
        removed = control.remove(&[hostname]).await.and(removed);
    }
    done.and(removed)
}

/// One load for each N, from the present size on; the hostnames of new replicas are in `added`.
async fn grow(
    setting: Setting<'_>,
    (variant, running): (&Variant, &Subject),
    control: &mut Control,
    (before, added): (usize, &mut Vec<String>),
    points: &mut Vec<Balance>,
) -> anyhow::Result<()> {
    for n in before.max(*SIZES.start())..=*SIZES.end() {
        while before + added.len() < n {
            let hostname = format!("bench-{}-{}", std::process::id(), added.len() + 1);
            control.add(std::slice::from_ref(&hostname)).await?;
            added.push(hostname);
        }
        measure(setting, running, (variant, &format!("N = {n}")), points).await?;
    }
    Ok(())
}

/// Sends the load and counts the requests of each replica.
async fn measure(
    setting: Setting<'_>,
    subject: &Subject,
    (variant, title): (&Variant, &str),
    found: &mut Vec<Balance>,
) -> anyhow::Result<()> {
    let fleet = match subject.control {
        Some(_) => expected(setting, &mut subject.control().await?).await?,
        None => Vec::new(),
    };
    let outcome = setting.send(setting.plan(subject.data), title).await?;
    let balance = balance(variant, fleet, &outcome);
    let (failed, requests) = (balance.load.failed(), balance.load.requests);
    found.push(balance);
    if let Some(reason) = outcome.cut_short {
        bail!("{title}: {reason}");
    }
    if failed == requests {
        bail!("{title}: all {requests} requests failed");
    }
    Ok(())
}

fn balance(variant: &Variant, fleet: Vec<Share>, outcome: &Outcome) -> Balance {
    let load = outcome.tally.load();
    let counted = |share: Share| {
        let requests = load.replicas.get(&share.hostname).copied().unwrap_or_default();
        Share { requests, ..share }
    };
    let mut replicas: Vec<Share> = fleet.into_iter().map(counted).collect();
    for (hostname, &requests) in &load.replicas {
        if !replicas.iter().any(|share| share.hostname == *hostname) {
            replicas.push(Share { hostname: hostname.clone(), requests, expected: None, asked: 0 });
        }
    }
    Balance { variant: variant.clone(), replicas, load }
}

/// The replicas by slot, with the share of random ids that each owns. `lb` is asked for the owners of many ids, other ones
/// than those that are sent.
async fn expected(setting: Setting<'_>, control: &mut Control) -> anyhow::Result<Vec<Share>> {
    let asked = (setting.args.requests * ASKED_PER_REQUEST).clamp(*ASKED.start(), *ASKED.end());
    let ids: Vec<String> = (0..asked).map(|number| Ids::Random.id(!setting.args.seed, number)).collect();
    let mut owned: BTreeMap<String, u64> = BTreeMap::new();
    for owner in control.owners(&ids).await? {
        *owned.entry(owner).or_default() += 1;
    }
    let share = |count: u64| count as f64 / asked as f64;
    let slots = control.slots().await?.into_iter();
    Ok(slots
        .map(|slot| {
            let count = owned.get(&slot.name).copied().unwrap_or_default();
            Share { hostname: slot.hostname, requests: 0, expected: Some(share(count)), asked }
        })
        .collect())
}
