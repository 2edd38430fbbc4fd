//! every command of the control port, and replicas killed under load.

use super::{Setting, checks, drill};
use crate::args::DrillArgs;
use crate::data::{Data, Healing};

/// Both parts of A-3. The checks start their own `lb`, so a running one gets only the drill.
pub(crate) async fn a3(setting: Setting<'_>, args: DrillArgs, data: &mut Data) -> anyhow::Result<()> {
    let healing = data.a3.insert(Healing::default());
    if setting.args.target.is_none() {
        checks::run(setting, &mut healing.checks).await?;
    }
    if args.kills > 0 {
        drill::run(setting, args, healing.drill.insert(Default::default())).await?;
    }
    Ok(())
}
