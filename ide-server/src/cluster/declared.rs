//! What a pod's spec declares of a container: names of variables, mounts, ports.

use super::access::{Access, explain};
use super::resolve::Found;
use crate::target::Declared;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Probe, Secret};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;
use protocol::ide::ErrorData;
use std::collections::BTreeSet;

/// Reads it. Where a source of `envFrom` may not be read, the names are unknown.
pub(super) async fn read(access: &Access, namespace: &str, found: &Found) -> Result<Declared, ErrorData> {
    let container = &found.spec;
    Ok(Declared {
        env: env_names(access, namespace, container).await?,
        mounts: container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.clone()).collect(),
        ports: ports(container),
    })
}

async fn env_names(
    access: &Access,
    namespace: &str,
    container: &Container,
) -> Result<Option<Vec<String>>, ErrorData> {
    let mut names: BTreeSet<String> =
        container.env.iter().flatten().map(|variable| variable.name.clone()).collect();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let keys = if let Some(reference) = &source.config_map_ref {
            let maps: Api<ConfigMap> = Api::namespaced(access.client.clone(), namespace);
            let map = access.timely(maps.get_opt(&reference.name)).await;
            map.map(|map| map.and_then(|map| map.data).map(|data| data.into_keys().collect::<Vec<_>>()))
        } else if let Some(reference) = &source.secret_ref {
            let secrets: Api<Secret> = Api::namespaced(access.client.clone(), namespace);
            let secret = access.timely(secrets.get_opt(&reference.name)).await;
            // The values are dropped here, unread.
            secret.map(|secret| secret.and_then(|secret| secret.data).map(|data| data.into_keys().collect()))
        } else {
            Ok(None)
        };
        match keys {
            Ok(keys) => names.extend(keys.into_iter().flatten().map(|key| format!("{prefix}{key}"))),
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
            Err(error) => {
                return Err(explain(&error, &access.doing("read a source of the pod's environment")));
            }
        }
    }
    Ok(Some(names.into_iter().collect()))
}

fn ports(container: &Container) -> Vec<u16> {
    let declared = container.ports.as_deref().unwrap_or_default();
    let by_name = |name: &str| {
        let port = declared.iter().find(|port| port.name.as_deref() == Some(name))?;
        u16::try_from(port.container_port).ok()
    };
    let probed = |probe: &Probe| -> Option<u16> {
        let of = |port: &IntOrString| match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => by_name(name),
        };
        probe
            .http_get
            .as_ref()
            .and_then(|get| of(&get.port))
            .or_else(|| probe.tcp_socket.as_ref().and_then(|socket| of(&socket.port)))
            .or_else(|| probe.grpc.as_ref().and_then(|grpc| u16::try_from(grpc.port).ok()))
    };
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let mut ports: Vec<u16> = declared
        .iter()
        .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .filter_map(|port| u16::try_from(port.container_port).ok())
        .chain(probes.into_iter().flatten().filter_map(probed))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_those_of_the_spec_and_of_probes_named_or_numbered() {
        let container: Container = serde_json::from_value(json!({
            "name": "app",
            "ports": [
                {"name": "http", "containerPort": 8080},
                {"containerPort": 53, "protocol": "UDP"},
            ],
            "livenessProbe": {"httpGet": {"port": 9000}},
            "readinessProbe": {"tcpSocket": {"port": "http"}},
            "startupProbe": {"grpc": {"port": 9001}},
        }))
        .unwrap();
        assert_eq!(ports(&container), [8080, 9000, 9001]);
    }
}
