//! Several `lb`s of one fleet: when all have followed a change, and whether they choose alike.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::super::Setting;
use super::super::drill::all_up;
use super::super::under_load::millis;
use super::Fleet;
use crate::control::Control;
use crate::data::Agreement;
use crate::load::Ids;
use crate::shown::Bar;

/// Changes, at each `lb` in turn.
const CHANGES: usize = 100;
/// Ids whose owner is asked of every `lb`.
const IDS: u64 = 100_000;
/// How long the others may take to follow before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes changes, each at another `lb`, and then compares the choices of all.
pub(super) async fn measure(setting: Setting<'_>, fleet: &Fleet<'_>) -> anyhow::Result<Agreement> {
    let mut controls = fleet.controls().await?;
    let mut found = Agreement::default();
    let bar = Bar::new(CHANGES as u64, "changes", "changes");
    for number in 0..CHANGES {
        setting.go_on()?;
        found.followed_ms.push(change(&mut controls, number).await?);
        bar.step(0);
    }
    found.asked = IDS;
    found.different = compare(&mut controls, setting.args.seed).await?;
    Ok(found)
}

/// Changes the weight of a slot; milliseconds from the command until all `lb`s have the new epoch.
async fn change(controls: &mut [Control], number: usize) -> anyhow::Result<f64> {
    let turn = number % controls.len();
    let first = &mut controls[turn];
    let slots = all_up(first).await?;
    let slot = &slots[number % slots.len()].name;
    // Each differs from the last one of its slot.
    let weight = 1 + number % 7;
    let sent = Instant::now();
    first.set_mapping(&json!({"weights": {slot: weight}})).await?;
    let epoch = first.epoch().await?;
    for control in controls {
        while control.epoch().await? < epoch {
            if sent.elapsed() > PATIENCE {
                bail!("an lb did not follow a change within {PATIENCE:?}");
            }
        }
    }
    Ok(millis(sent, Instant::now()))
}

/// How many ids have different owners.
async fn compare(controls: &mut [Control], seed: u64) -> anyhow::Result<u64> {
    let ids: Vec<String> = (0..IDS).map(|number| Ids::Random.id(seed, number)).collect();
    let mut choices = Vec::new();
    for control in controls {
        choices.push(control.owners(&ids).await?);
    }
    let (first, others) = choices.split_first().context("there is no lb")?;
    let is_different = |&place: &usize| others.iter().any(|other| other[place] != first[place]);
    Ok((0..ids.len()).filter(is_different).count() as u64)
}
