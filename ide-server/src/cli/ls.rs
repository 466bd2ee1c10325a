//! `ls`: targets as they come, or all as one JSON array.

use super::args::LsArgs;
use super::{exec, terminal};
use crate::daemon::ensure;
use crate::state::StateFolder;
use protocol::ide::{ErrorData, Overrides, TargetBatch, TargetItem, TargetList, TargetQuery};
use serde_json::json;
use std::process::ExitCode;

pub(super) fn run(args: &LsArgs) -> Result<ExitCode, ErrorData> {
    let state = StateFolder::locate()?;
    let (mut client, _) = ensure::ensure(&state)?;
    let query = TargetQuery {
        config: exec::source(&args.place, Overrides::default())?,
        kinds: args.kinds.clone(),
        text: None,
        partial_result_token: (!args.json).then(|| json!("targets")),
    };
    let mut written = Ok(());
    let targets = client.call_with::<TargetList>(&query, &mut |method, params| {
        if method == "$/progress"
            && let Ok(batch) = serde_json::from_value::<TargetBatch>(params["value"].clone())
            && written.is_ok()
        {
            written = print(&batch.items);
        }
    })?;
    written?;
    if args.json {
        terminal::out(&serde_json::to_string_pretty(&targets.items).unwrap_or_default())?;
    } else {
        print(&targets.items)?;
    }
    for kind in &targets.missing {
        terminal::say(&format!("not listed: {kind}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(items: &[TargetItem]) -> Result<(), ErrorData> {
    for item in items {
        let mut line = item.path.clone();
        if item.containers.len() > 1 {
            line.push_str(&format!("  containers {}", item.containers.join(", ")));
        }
        if !item.ready {
            line.push_str(&format!("  not ready: {}", item.reason.as_deref().unwrap_or("unknown")));
        }
        if !item.in_use_by.is_empty() {
            line.push_str(&format!("  in use by {}", item.in_use_by.join(", ")));
        }
        terminal::out(&line)?;
    }
    Ok(())
}
