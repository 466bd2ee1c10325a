//! What flags and launch configurations set over a config.

use config_schema::{
    AgentConfig, EnvConfig, FeatureConfig, FlagOr, FsMode, IncomingMode, MirrordConfig, NetworkConfig,
    OneOrMany, OutgoingConfig, Short,
};
use protocol::ide::{ErrorData, ErrorKind, Overrides};

/// Puts `overrides` over `config`.
pub(super) fn apply(config: &mut MirrordConfig, overrides: &Overrides) -> Result<(), ErrorData> {
    if let Some(namespace) = &overrides.namespace {
        config.target.get_or_insert_default().namespace = Some(namespace.clone());
    }
    set(&mut config.kube_context, &overrides.context);
    set(&mut config.kubeconfig, &overrides.kubeconfig);
    if overrides.accept_invalid_certificates {
        config.accept_invalid_certificates = Some(true);
    }
    if let Some(names) = &overrides.skip_processes {
        config.skip_processes.get_or_insert_default().0.push(names.clone());
    }
    agent(config, overrides)?;
    env(config, overrides)?;
    files(config, overrides)?;
    network(config, overrides)
}

fn set<T: Clone>(slot: &mut Option<T>, value: &Option<T>) {
    if value.is_some() {
        slot.clone_from(value);
    }
}

fn agent(config: &mut MirrordConfig, overrides: &Overrides) -> Result<(), ErrorData> {
    let mut agent: AgentConfig = config.agent.take().unwrap_or_default();
    set(&mut agent.namespace, &overrides.agent_namespace);
    set(&mut agent.log_level, &overrides.agent_log_level);
    set(&mut agent.ephemeral, &overrides.ephemeral);
    if let Some(image) = &overrides.agent_image {
        agent.image = Some(Short::Short(image.clone()));
    }
    if let Some(ttl) = overrides.agent_ttl {
        agent.ttl =
            Some(u16::try_from(ttl).map_err(|_| wrong("--agent-ttl is longer than a day", "give seconds"))?);
    }
    config.agent = Some(agent);
    Ok(())
}

fn feature(config: &mut MirrordConfig) -> &mut FeatureConfig {
    config.feature.get_or_insert_default()
}

fn env(config: &mut MirrordConfig, overrides: &Overrides) -> Result<(), ErrorData> {
    if overrides.env_include.is_none() && overrides.env_exclude.is_none() && overrides.env_file.is_none() {
        return Ok(());
    }
    if overrides.env_include.is_some() && overrides.env_exclude.is_some() {
        let message = "--override-env-vars-include and --override-env-vars-exclude exclude each other";
        return Err(wrong(message, "give one of them"));
    }
    let slot = &mut feature(config).env;
    let mut env = match slot.take() {
        Some(Short::Long(env)) => env,
        _ => EnvConfig::default(),
    };
    // A flag decides the whole choice: what the file said on the other side no longer holds.
    if let Some(names) = &overrides.env_include {
        (env.include, env.exclude) = (Some(OneOrMany(vec![names.clone()])), None);
    }
    if let Some(names) = &overrides.env_exclude {
        (env.exclude, env.include) = (Some(OneOrMany(vec![names.clone()])), None);
    }
    set(&mut env.env_file, &overrides.env_file);
    *slot = Some(Short::Long(env));
    Ok(())
}

fn files(config: &mut MirrordConfig, overrides: &Overrides) -> Result<(), ErrorData> {
    let Some(word) = &overrides.fs_mode else { return Ok(()) };
    let mode = match word.as_str() {
        "local" => FsMode::Local,
        "localwithoverrides" => FsMode::LocalWithOverrides,
        "read" => FsMode::Read,
        "write" => FsMode::Write,
        other => {
            let message = format!("--fs-mode {other} is no mode");
            return Err(wrong(&message, "the modes are local, localwithoverrides, read, write"));
        }
    };
    match &mut feature(config).fs {
        Some(Short::Long(fs)) => fs.mode = Some(mode),
        slot => *slot = Some(Short::Short(FlagOr::Mode(mode))),
    }
    Ok(())
}

fn network(config: &mut MirrordConfig, overrides: &Overrides) -> Result<(), ErrorData> {
    let Overrides { no_outgoing, no_tcp_outgoing, no_udp_outgoing, no_remote_dns, .. } = *overrides;
    let incoming = match overrides.incoming.as_deref() {
        None => None,
        Some("steal") => Some(IncomingMode::Steal),
        Some("mirror") => Some(IncomingMode::Mirror),
        Some("off") => Some(IncomingMode::Off),
        Some(other) => {
            let message = format!("{other} is no mode of incoming traffic");
            return Err(wrong(&message, "the modes are steal, mirror, off"));
        }
    };
    if !(no_outgoing || no_tcp_outgoing || no_udp_outgoing || no_remote_dns || incoming.is_some()) {
        return Ok(());
    }
    let slot = &mut feature(config).network;
    let mut network = match slot.take() {
        Some(Short::Long(network)) => network,
        // The network as a whole is off: a flag that turns a part on must not turn on the rest.
        Some(Short::Short(false)) => NetworkConfig {
            incoming: Some(Short::Short(FlagOr::Flag(false))),
            outgoing: Some(Short::Short(false)),
            dns: Some(Short::Short(false)),
            ..NetworkConfig::default()
        },
        _ => NetworkConfig::default(),
    };
    if let Some(mode) = incoming {
        match &mut network.incoming {
            Some(Short::Long(incoming)) => incoming.mode = Some(mode),
            slot => *slot = Some(Short::Short(FlagOr::Mode(mode))),
        }
    }
    if no_outgoing {
        network.outgoing = Some(Short::Short(false));
    } else if no_tcp_outgoing || no_udp_outgoing {
        let mut outgoing = match network.outgoing.take() {
            Some(Short::Long(outgoing)) => outgoing,
            Some(Short::Short(false)) => {
                OutgoingConfig { tcp: Some(false), udp: Some(false), ..OutgoingConfig::default() }
            }
            _ => OutgoingConfig::default(),
        };
        if no_tcp_outgoing {
            outgoing.tcp = Some(false);
        }
        if no_udp_outgoing {
            outgoing.udp = Some(false);
        }
        network.outgoing = Some(Short::Long(outgoing));
    }
    if no_remote_dns {
        network.dns = Some(Short::Short(false));
    }
    *slot = Some(Short::Long(network));
    Ok(())
}

fn wrong(message: &str, help: &str) -> ErrorData {
    ErrorData::new(ErrorKind::ConfigInvalid, message, help)
}
