//! Plans of editors: how a debug configuration is launched, kept until its debug session is over.
//!
//! A plan is made without touching the cluster. Its session is made ready by `session/start` and taken by
//! `exec --plan`; a debugger's restart runs the same words again, and then a session is made anew.

pub mod debug;
pub(crate) mod reattach;

use crate::adapter;
use crate::config;
use crate::main_loop::{Answer, Ask, ClientId, Daemon, Event, EventSender, answer, send};
use crate::state::{self, StateFolder};
use protocol::ide::{
    ConfigSource, ErrorData, ErrorKind, PlanAction, PlanAnswer, PlanParams, SessionPlan, Started,
};
use serde_json::Value;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use tokio::sync::oneshot;

/// One plan.
#[derive(Debug)]
pub struct Plan {
    /// Whose it is: follows every session of the plan. `None` while the editor is away.
    pub(crate) client: Option<ClientId>,
    /// How often its editor has left: one that comes back in between has its lease anew.
    pub(crate) absences: u64,
    /// Whether its editor broke off instead of taking its leave: it crashed, and what comes after it is another one.
    pub(crate) broke_off: bool,
    /// The debug configuration's type.
    pub(crate) kind: String,
    /// Whether the editor ends its program; one program at a time runs by it then.
    pub(crate) editor_stops: bool,
    /// Config and target, with all that stands over them.
    pub(crate) config: ConfigSource,
    /// The session that waits to be taken.
    pub(crate) ready: Option<Started>,
    /// The fields of the debug configuration by which its debugger starts the program under the plan.
    pub(crate) fields: Vec<String>,
    /// Whether a terminal starts it instead, and perhaps a shell of the user's before.
    pub(crate) in_terminal: bool,
}

/// A plan that was made, and where its answer goes.
#[derive(Debug)]
pub struct Made {
    name: String,
    client: ClientId,
    kind: String,
    config: ConfigSource,
    in_terminal: bool,
    answer: PlanAnswer,
    reply: oneshot::Sender<Answer<PlanAnswer>>,
}

/// Makes a plan; what there is to read is read in a task.
pub(crate) fn spawn(state: StateFolder, events: EventSender, ask: Ask<SessionPlan>) {
    tokio::task::spawn_blocking(move || {
        let Ask { client, params, reply, .. } = ask;
        let in_terminal = params.debug["type"] == "mirrord-terminal";
        let kind = params.debug["type"].as_str().unwrap_or_default().to_owned();
        match make(&state, params) {
            Ok((config, planned)) => match planned.plan.clone() {
                Some(name) => {
                    let made = Made { name, client, kind, config, in_terminal, answer: planned, reply };
                    send(&events, Event::PlanMade(Box::new(made)));
                }
                None => answer(reply, Ok(planned)),
            },
            Err(error) => answer(reply, Err(error)),
        }
    });
}

impl Daemon {
    pub(crate) fn plan_made(&mut self, made: Made) {
        let Made { name, client, kind, config, in_terminal, answer: planned, reply } = made;
        if reply.is_closed() {
            return self.remove_plan(&name);
        }
        let patch = planned.patch.as_ref().and_then(Value::as_object);
        let fields = patch.map(|patch| patch.keys().cloned().collect()).unwrap_or_default();
        let editor_stops = planned.editor_stops;
        let plan = Plan {
            client: Some(client),
            absences: 0,
            broke_off: false,
            kind,
            editor_stops,
            config,
            ready: None,
            fields,
            in_terminal,
        };
        self.plans.insert(name, plan);
        answer(reply, Ok(planned));
    }

    /// Forgets a plan and removes its scripts. A session that nobody has taken ends with it.
    pub(crate) fn remove_plan(&mut self, name: &str) {
        let ready = self.plans.remove(name).and_then(|plan| plan.ready);
        if let Err(error) = state::remove(&self.state.plan(name)) {
            tracing::error!(plan = name, %error, "a plan's folder cannot be removed");
        }
        if let Some(started) = ready {
            self.end_session(&started.session, "its plan was forgotten");
        }
    }

    /// Removes the scripts of an earlier daemon's plans, which nobody can ask for any more. An adapter that is held in
    /// one goes on: its folder is removed by the next daemon.
    pub(crate) fn remove_old_plans(&self) {
        let remove = || -> std::io::Result<()> {
            for entry in std::fs::read_dir(self.state.plans())? {
                let folder = entry?.path();
                if !adapter::holder_lives(&folder) {
                    state::remove(&folder)?;
                }
            }
            Ok(())
        };
        match remove() {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::error!(%error, "the plans of an earlier daemon cannot be removed");
            }
            _ => {}
        }
    }

    /// Forgets the plans whose editor has gone and that no session runs by.
    pub(crate) fn forget_lonely_plans(&mut self) {
        let used = |name: &String| self.sessions.values().any(|session| session.plan.as_ref() == Some(name));
        let lonely: Vec<String> = self
            .plans
            .iter()
            .filter(|(name, plan)| plan.client.is_none() && !used(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in lonely {
            self.remove_plan(&name);
        }
    }
}

/// The answer, and the config that it was made from; with a plan's name in it its folder is there.
fn make(state: &StateFolder, params: PlanParams) -> Result<(ConfigSource, PlanAnswer), ErrorData> {
    let off = |reason: Option<String>| {
        Ok((ConfigSource::default(), PlanAnswer { reason, ..PlanAnswer::default() }))
    };
    let is_asked = !matches!(params.mirrord, None | Some(Value::Null | Value::Bool(false)));
    if !is_asked && (params.mirrord.is_some() || !params.enabled) {
        return off(None);
    }
    if params.debug["request"] == "attach" {
        let reason = "an attach request starts no program; launch it, or start it by `mirrord-ide exec`";
        if is_asked {
            let message = "an attach request cannot be debugged in a pod's world: the program runs already";
            let help =
                "launch the program instead, or start it by `mirrord-ide exec` and attach without mirrord";
            return Err(ErrorData::new(ErrorKind::UnsupportedDebugType, message, help));
        }
        return off(Some(reason.to_owned()));
    }
    let config = source(params.config, params.mirrord, params.target);
    let resolved = config::resolve(&config)?;
    let mut planned = PlanAnswer {
        action: PlanAction::Pick,
        config_file: resolved.file.as_ref().map(|file| file.display().to_string()),
        target: resolved.target.as_ref().map(ToString::to_string),
        notices: resolved.notices.clone(),
        ..PlanAnswer::default()
    };
    if planned.target.is_none() {
        return Ok((config, planned));
    }
    let name = state::fresh_name()?;
    let folder = state.plan(&name);
    let debugger = params.debugger_folder.as_deref().map(Path::new);
    match patch(&folder, &name, &config, &params.debug, debugger) {
        Ok(patch) => {
            planned.editor_stops = debug::leaves_program(&patch);
            planned.patch = Some(patch);
        }
        Err(error) => {
            if let Err(error) = state::remove(&folder) {
                tracing::error!(%error, "the folder of a plan that failed cannot be removed");
            }
            return Err(error);
        }
    }
    planned.action = PlanAction::Run;
    planned.plan = Some(name);
    Ok((config, planned))
}

/// Writes a plan's scripts; gives what changes in the debug configuration.
fn patch(
    folder: &Path,
    plan: &str,
    config: &ConfigSource,
    debug: &Value,
    debugger: Option<&Path>,
) -> Result<Value, ErrorData> {
    let cannot = |error: &std::io::Error| {
        let (message, help) = ("the plan's folder cannot be made", "make room in the state folder");
        ErrorData::new(ErrorKind::Internal, message, help).caused_by(error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| cannot(&error))?;
    let program = std::env::current_exe().map_err(|error| cannot(&error))?;
    debug::Way { program: &program, plan, folder, env: &config.env, debugger }.patch(debug)
}

/// The config that a launch configuration means, with the pick over it.
fn source(mut config: ConfigSource, mirrord: Option<Value>, target: Option<String>) -> ConfigSource {
    match mirrord {
        Some(Value::String(file)) => config.file = Some(file),
        Some(Value::Object(mut content)) => {
            content.remove("tasks");
            if !content.is_empty() {
                config.file = None;
                config.text = Some(Value::Object(content).to_string());
            }
        }
        _ => {}
    }
    config.overrides.target = target.or(config.overrides.target);
    config
}
