//! `verify-config`: the daemon's own check, without a daemon.

use super::args::VerifyArgs;
use super::{exec, terminal};
use crate::config;
use protocol::ide::{ConfigSource, ErrorData, ErrorKind, Overrides, Severity};
use std::process::ExitCode;

pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode, ErrorData> {
    let (file, text) = match args.file.as_str() {
        "-" => (None, Some(exec::standard_input()?)),
        file => (Some(file.to_owned()), None),
    };
    let name = args.file.as_str();
    let source = ConfigSource {
        folder: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
        file,
        text,
        overrides: Overrides::default(),
        env: exec::variables(|_| true),
    };
    let verified = config::verify(&source)?;
    if args.json {
        terminal::out(&serde_json::to_string_pretty(&verified).unwrap_or_default())?;
    } else {
        for problem in &verified.diagnostics {
            let place = problem.range.start;
            let severity = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let (line, column) = (place.line + 1, place.character + 1);
            let about = if problem.path.is_empty() { String::new() } else { format!(" {}", problem.path) };
            let (code, message) = (&problem.code, &problem.message);
            terminal::out(&format!("{name}:{line}:{column}: {severity}[{code}]{about}: {message}"))?;
        }
        terminal::out(&match (verified.ok, &verified.target) {
            (false, _) => format!("{name} cannot be used"),
            (true, Some(target)) => format!("{name} is fine; target {target}"),
            (true, None) => format!("{name} is fine; it names no target"),
        })?;
    }
    Ok(if verified.ok { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::ConfigInvalid.exit_status()) })
}
