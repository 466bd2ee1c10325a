//! `exec`: asks the daemon for a session, then becomes the front of the program.

use super::args::{ExecArgs, WhereArgs};
use super::terminal::{self, Progress};
use crate::daemon::ensure;
use crate::rpc::client::Client;
use crate::state::StateFolder;
use protocol::host::Launch;
use protocol::ide::{
    ConfigSource, ErrorData, ErrorKind, LaunchPlan, Overrides, RedeemParams, SessionRedeem, SessionStart,
    StartParams, Started,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Read};
use std::process::ExitCode;

/// Variables of the program's that may hold debugger settings.
const LAUNCH_VARIABLES: &[&str] = &["NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];

/// Runs the program to its end.
pub(super) fn run(args: ExecArgs) -> ExitCode {
    let mut progress = Progress::new(args.progress);
    match start(&args, &mut progress) {
        Ok((launch, connection)) => {
            let status = session_host::front::run(&launch, &mut progress);
            // Until here: a session whose front dies before its host listens ends with this connection.
            drop(connection);
            super::exit(status)
        }
        Err(error) => {
            progress.close();
            terminal::fail(&error)
        }
    }
}

/// The other half of the program's ancestry; started by the front.
pub(super) fn session_host(fd: i32) -> ExitCode {
    super::exit(session_host::host::main(fd))
}

fn start(args: &ExecArgs, progress: &mut Progress) -> Result<(Launch, Client), ErrorData> {
    let state = StateFolder::locate()?;
    if let Some(plan) = &args.plan {
        return redeem(&state, plan, args, progress);
    }
    let mut params = StartParams {
        config: source(&args.place, overrides(args))?,
        launch: launch(args),
        events: false,
        plan: None,
        work_done_token: Some(json!("start")),
    };
    let (mut client, _) = ensure::ensure(&state)?;
    let mut ask = |client: &mut Client, params: &StartParams| {
        client.call_with::<SessionStart>(params, &mut |method, params| progress.on_notice(method, params))
    };
    let mut answer = ask(&mut client, &params);
    if let Err(error) = &answer
        && error.kind == ErrorKind::TargetAmbiguous
        && !error.candidates.is_empty()
        && std::io::stdin().is_terminal()
        && std::io::stderr().is_terminal()
        && let Some(target) = pick(&error.candidates)
    {
        params.config.overrides.target = Some(target);
        answer = ask(&mut client, &params);
    }
    let started = answer?;
    progress.headline(
        &headline(&started),
        &json!({
            "session": started.session, "target": started.target, "mode": started.mode,
            "identity": started.identity, "config": started.config, "warm": started.warm,
        }),
    );
    for notice in &started.notices {
        session_host::front::Say::notice(progress, notice);
    }
    Ok((into_launch(started, args)?, client))
}

/// Takes the session that an editor had made ready. What happened on the way is told there, not on this terminal.
fn redeem(
    state: &StateFolder,
    plan: &str,
    args: &ExecArgs,
    progress: &mut Progress,
) -> Result<(Launch, Client), ErrorData> {
    let params =
        RedeemParams { plan: plan.to_owned(), launch: launch(args), work_done_token: Some(json!("start")) };
    let (mut client, _) = ensure::ensure(state)?;
    let mut on_notice = |method: &str, params: &serde_json::Value| progress.on_notice(method, params);
    let started = client.call_with::<SessionRedeem>(&params, &mut on_notice)?;
    Ok((into_launch(started, args)?, client))
}

fn launch(args: &ExecArgs) -> LaunchPlan {
    LaunchPlan {
        command: args.command.clone(),
        env: variables(|name| LAUNCH_VARIABLES.contains(&name)),
        debugger_ports: Vec::new(),
    }
}

fn into_launch(started: Started, args: &ExecArgs) -> Result<Launch, ErrorData> {
    let ticket = started.ticket.ok_or_else(|| {
        ErrorData::new(
            ErrorKind::ProtocolMismatch,
            "the daemon's answer holds no ticket",
            "run `mirrord-ide stop --all`, then try again",
        )
    })?;
    Ok(Launch { ticket, command: args.command.clone(), outlives_editor: args.outlive_editor })
}

/// Context, namespace, target, mode, and who we are.
fn headline(started: &Started) -> String {
    let target = &started.target;
    let mut parts = Vec::new();
    parts.extend(target.context.as_ref().map(|context| format!("context {context}")));
    parts.extend(target.namespace.as_ref().map(|namespace| format!("namespace {namespace}")));
    let instance = match &target.container {
        Some(container) => format!("{}, container {container}", target.instance),
        None => target.instance.clone(),
    };
    parts.push(if instance.is_empty() {
        target.path.clone()
    } else {
        format!("{} ({instance})", target.path)
    });
    parts.push(match started.mode.as_str() {
        "off" => "incoming off".to_owned(),
        mode => mode.to_owned(),
    });
    parts.push(format!("as {}", started.identity));
    parts.push(match &started.config {
        Some(file) => format!("config {file}"),
        None => "no config file".to_owned(),
    });
    parts.join(" · ")
}

/// A numbered list on the terminal; nothing chosen means none.
fn pick(candidates: &[String]) -> Option<String> {
    for (index, candidate) in candidates.iter().enumerate() {
        terminal::say(&format!("{}  {candidate}", index + 1));
    }
    terminal::say("which one? (a number, or a target's name; empty to leave)");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).ok()?;
    match line.trim() {
        "" => None,
        text => match text.parse::<usize>() {
            Ok(number) => candidates.get(number.checked_sub(1)?).cloned(),
            Err(_) => Some(text.to_owned()),
        },
    }
}

/// Which config is meant, from the command line and this process's environment.
pub(super) fn source(place: &WhereArgs, mut overrides: Overrides) -> Result<ConfigSource, ErrorData> {
    let folder = std::env::current_dir().map_err(|error| {
        ErrorData::new(ErrorKind::ConfigNotFound, "the current folder is gone", "change to another one")
            .caused_by(&error)
    })?;
    overrides.namespace.clone_from(&place.namespace);
    overrides.context.clone_from(&place.context);
    overrides.kubeconfig.clone_from(&place.kubeconfig);
    overrides.accept_invalid_certificates = place.accept_invalid_certificates;
    let (file, text) = match place.config_file.as_deref() {
        Some("-") => (None, Some(standard_input()?)),
        other => (other.map(str::to_owned), None),
    };
    Ok(ConfigSource {
        folder: folder.to_string_lossy().into_owned(),
        file,
        text,
        overrides,
        // All of it: templates may ask for any. The daemon keeps what decides about the cluster.
        env: variables(|_| true),
    })
}

/// All of standard input as text.
pub(super) fn standard_input() -> Result<String, ErrorData> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| {
        ErrorData::new(ErrorKind::ConfigNotFound, "no config can be read from standard input", "give a file")
            .caused_by(&error)
    })?;
    Ok(text)
}

/// Variables of this process's environment; values that are no text are left out.
pub(super) fn variables(wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| wanted(name))
        .collect()
}

fn overrides(args: &ExecArgs) -> Overrides {
    let incoming = match (args.steal, args.mirror) {
        (true, _) => Some("steal".to_owned()),
        (_, true) => Some("mirror".to_owned()),
        _ => None,
    };
    Overrides {
        target: args.target.clone(),
        agent_namespace: args.agent_namespace.clone(),
        agent_log_level: args.agent_log_level.clone(),
        agent_image: args.agent_image.clone(),
        agent_ttl: args.agent_ttl,
        ephemeral: args.ephemeral_container.then_some(true),
        fs_mode: args.fs_mode.clone(),
        env_include: args.override_env_vars_include.clone(),
        env_exclude: args.override_env_vars_exclude.clone(),
        env_file: args.env_file.clone(),
        no_outgoing: args.no_outgoing,
        no_tcp_outgoing: args.no_tcp_outgoing,
        no_udp_outgoing: args.no_udp_outgoing,
        no_remote_dns: args.no_remote_dns,
        skip_processes: args.skip_processes.clone(),
        incoming,
        ..Overrides::default()
    }
}
