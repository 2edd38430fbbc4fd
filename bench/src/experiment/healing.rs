//! every command of the control port, and replicas killed under load.

use super::balance::THREE;
use super::{Setting, Subject, checks, drill, mapping};
use crate::args::DrillArgs;
use crate::data::{Data, Healing};

/// Both parts of A-3. The checks start their own `lb`, so a running one gets only the drill.
pub(crate) async fn a3(setting: Setting<'_>, args: DrillArgs, data: &mut Data) -> anyhow::Result<()> {
    let healing = data.a3.insert(Healing::default());
    if setting.args.target.is_none() {
        checks::run(setting, &mut healing.checks).await?;
    }
    if args.kills > 0 {
        let subject = Subject::of(setting.args, &mapping("ring"), THREE).await?;
        drill::run(setting, args, &subject, healing.drill.insert(Default::default())).await?;
    }
    Ok(())
}
