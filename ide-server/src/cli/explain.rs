//! `explain`: where a path or an address goes.

use super::args::ExplainArgs;
use super::terminal;
use crate::daemon::ensure;
use crate::state::StateFolder;
use protocol::host::Place;
use protocol::ide::{ErrorData, ErrorKind, ExplainParams, SessionExplain};
use std::process::ExitCode;

pub(super) fn run(args: &ExplainArgs) -> Result<ExitCode, ErrorData> {
    let state = StateFolder::locate()?;
    let (mut client, _) = ensure::ensure(&state)?;
    let what = absolute(&args.what)?;
    let params = ExplainParams { session: args.session.clone(), what: what.clone() };
    let explained = client.call::<SessionExplain>(&params)?;
    if args.json {
        terminal::out(&serde_json::to_string(&explained).unwrap_or_default())?;
    } else {
        terminal::out(&format!("{what}: {} ({})", words(explained.place), explained.rule))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A path as the program would mean it that is started here.
fn absolute(what: &str) -> Result<String, ErrorData> {
    if !(what.starts_with("./") || what.starts_with("../") || matches!(what, "." | "..")) {
        return Ok(what.to_owned());
    }
    let here = std::env::current_dir().map_err(|error| {
        ErrorData::new(ErrorKind::InvalidRequest, "the working directory is gone", "give an absolute path")
            .caused_by(&error)
    })?;
    Ok(here.join(what).display().to_string())
}

const fn words(place: Place) -> &'static str {
    match place {
        Place::Local => "this machine",
        Place::Remote => "the pod",
        Place::RemoteRead => "the pod, for reading",
        Place::RemoteReadLocalWrite => "the pod for reading, this machine for writing",
        Place::Hidden => "nowhere, it is hidden",
    }
}
