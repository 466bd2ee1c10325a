//! The way into a cluster as the asking client has it: kubeconfig, context, credentials; and what its refusals mean.

use crate::config::Resolved;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::client::AuthError;
use kube::config::Kubeconfig;
use protocol::ide::{ErrorData, ErrorKind};
use session_host::agent_link::{ClusterAccess, LinkError, cluster_client};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How long the API server may take for one answer; the errors of a start are promised within 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// Clusters and users that are asked about at a time.
const KEPT_CLIENTS: usize = 16;

/// Variables that decide where the cluster is and who we are there.
const DECIDING: &[&str] = &[
    "KUBECONFIG",
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "SSH_AUTH_SOCK",
    "KRB5CCNAME",
    "USE_GKE_GCLOUD_AUTH_PLUGIN",
];
const DECIDING_FAMILIES: &[&str] = &[
    "AWS_",
    "GOOGLE_",
    "CLOUDSDK_",
    "AZURE_",
    "AAD_",
    "ARM_",
    "OCI_",
    "DIGITALOCEAN_",
    "VAULT_",
    "TELEPORT_",
    "TSH_",
];

fn decides(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    DECIDING.contains(&upper.as_str()) || DECIDING_FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whether a variable that decides may stand in a file: what holds a secret itself may not.
pub fn may_be_written(name: &str) -> bool {
    const SECRETS: &[&str] = &["SECRET", "TOKEN", "PASSWORD", "CLIENT_CERTIFICATE", "ACCESS_KEY", "API_KEY"];
    let is_place = ["_FILE", "_PATH", "_DIR"].iter().any(|end| name.ends_with(end));
    is_place || !SECRETS.iter().any(|part| name.contains(part))
}

/// Clients by the way they were made, shared by all windows: a fresh one costs a TLS handshake and may run a credential
/// plugin.
static CLIENTS: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    way: ClusterAccess,
    /// Size and time of the kubeconfig files: a changed file makes a fresh client.
    stamps: Vec<Option<(u64, SystemTime)>>,
    client: Client,
}

/// A client and what was read to make it.
#[derive(Clone)]
pub struct Access {
    /// The client.
    pub client: Client,
    /// How the session host makes its own.
    pub way: ClusterAccess,
    /// The context's name.
    pub context: Option<String>,
    /// The API server, to tell clusters apart.
    pub server: String,
}

impl Access {
    /// Reads the kubeconfig that a config and its client's environment name, and makes a client of it.
    pub async fn open(resolved: &Resolved) -> Result<Self, ErrorData> {
        let paths = kubeconfig_paths(resolved)?;
        let mut merged = Kubeconfig::default();
        for path in &paths {
            let read = Kubeconfig::read_from(path).and_then(|kubeconfig| merged.merge(kubeconfig));
            merged = read.map_err(|error| bad_kubeconfig(path, &error))?;
        }
        let context = resolved.config.kube_context.clone().or_else(|| merged.current_context.clone());
        let server = server_of(&merged, context.as_deref())
            .ok_or_else(|| no_context(context.as_deref(), &merged, &paths))?;
        let mut env = resolved.source.env.clone();
        env.retain(|name, _| decides(name));
        if !resolved.config.use_proxy() {
            env.retain(|name, _| !name.to_ascii_uppercase().ends_with("_PROXY"));
        }
        let way = ClusterAccess {
            kubeconfig: paths.iter().map(|path| path.display().to_string()).collect(),
            context: context.clone(),
            accept_invalid_certificates: resolved.config.accept_invalid_certificates,
            env,
        };
        let client = client(&way).await?;
        Ok(Self { client, way, context, server })
    }

    /// The namespace that a config means.
    pub fn namespace(&self, resolved: &Resolved) -> String {
        resolved
            .config
            .target_namespace()
            .map_or_else(|| self.client.default_namespace().to_owned(), str::to_owned)
    }

    /// Who the API server says we are. A cluster too old to say is asked no further.
    pub async fn identity(&self) -> Result<String, ErrorData> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let (params, question) = (PostParams::default(), SelfSubjectReview::default());
        let review = match self.timely(reviews.create(&params, &question)).await {
            Ok(review) => review,
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 403 => {
                return Ok("an unknown user".to_owned());
            }
            Err(error) => return Err(explain(&error, &self.doing("ask who we are"))),
        };
        let name = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        Ok(name.unwrap_or_else(|| "an unknown user".to_owned()))
    }

    /// The answer to one request, in time or not at all.
    pub async fn timely<T>(&self, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
        timely(&self.way, request).await
    }

    /// What is being done, for an error.
    pub fn doing<'a>(&'a self, what: &'a str) -> Doing<'a> {
        Doing { what, server: &self.server }
    }
}

/// What was being done when the API refused.
#[derive(Clone, Copy, Debug)]
pub struct Doing<'a> {
    what: &'a str,
    server: &'a str,
}

impl<'a> Doing<'a> {
    /// To do `what` at `server`.
    pub fn new(what: &'a str, server: &'a str) -> Self {
        Self { what, server }
    }
}

/// The answer to one request, in time or not at all. A client whose login or connection has gone bad is forgotten.
pub async fn timely<T>(
    way: &ClusterAccess,
    request: impl Future<Output = kube::Result<T>>,
) -> kube::Result<T> {
    let outcome = match tokio::time::timeout(PATIENCE, request).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let silence = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 4 s");
            Err(kube::Error::Service(silence.into()))
        }
    };
    let is_bad = match &outcome {
        Ok(_) => false,
        Err(kube::Error::Api(status)) => status.code == 401,
        Err(_) => true,
    };
    if is_bad {
        clients().retain(|kept| kept.way != *way);
    }
    outcome
}

fn clients() -> MutexGuard<'static, Vec<Kept>> {
    // Whoever panicked while holding it left a list of clients that is whole.
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client by the way that is written in an agent's record.
pub async fn client(way: &ClusterAccess) -> Result<Client, ErrorData> {
    let stamp = |path: &String| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    let stamps: Vec<_> = way.kubeconfig.iter().map(stamp).collect();
    if let Some(kept) = clients().iter().find(|kept| kept.way == *way && kept.stamps == stamps) {
        return Ok(kept.client.clone());
    }
    let client = cluster_client(way).await.map_err(|error| match &error {
        LinkError::Kubeconfig { source } => ErrorData::new(
            ErrorKind::KubeconfigInvalid,
            "the kubeconfig cannot be used",
            "check it with `kubectl config view`, or name another by --kubeconfig",
        )
        .caused_by(source.as_ref()),
        LinkError::PortForward { source, .. } => explain(source, &Doing::new("log in", "the cluster")),
        error => ErrorData::new(ErrorKind::Unreachable, "the cluster cannot be reached", "see the cause")
            .caused_by(error),
    })?;
    let mut kept = clients();
    kept.retain(|other| other.way != *way);
    if kept.len() == KEPT_CLIENTS {
        kept.remove(0);
    }
    kept.push(Kept { way: way.clone(), stamps, client: client.clone() });
    Ok(client)
}

fn kubeconfig_paths(resolved: &Resolved) -> Result<Vec<PathBuf>, ErrorData> {
    let home = resolved.variable("HOME");
    let expand = |path: &Path| match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => Path::new(home).join(rest),
        _ => resolved.folder().join(path),
    };
    if let Some(list) = &resolved.config.kubeconfig {
        return Ok(std::env::split_paths(list).map(|path| expand(&path)).collect());
    }
    if let Some(list) = resolved.variable("KUBECONFIG") {
        // kubectl skips those of the list that do not exist, but not all of them.
        let all: Vec<PathBuf> = std::env::split_paths(list).map(|path| expand(&path)).collect();
        let there: Vec<PathBuf> = all.iter().filter(|path| path.exists()).cloned().collect();
        return Ok(if there.is_empty() { all } else { there });
    }
    match home {
        Some(home) => Ok(vec![Path::new(home).join(".kube/config")]),
        None => Err(ErrorData::new(
            ErrorKind::KubeconfigInvalid,
            "there is no kubeconfig: neither KUBECONFIG nor HOME is set",
            "name one by --kubeconfig",
        )),
    }
}

fn bad_kubeconfig(path: &Path, error: &kube::config::KubeconfigError) -> ErrorData {
    let data = ErrorData::new(
        ErrorKind::KubeconfigInvalid,
        format!("the kubeconfig {} cannot be used", path.display()),
        "check it with `kubectl config view`, or name another by --kubeconfig or KUBECONFIG",
    );
    match error {
        // The parser quotes the lines around the place, and those may hold keys and tokens.
        kube::config::KubeconfigError::Parse(error) => {
            let text = error.to_string();
            let sentence = text.split("-->").next().and_then(|text| text.lines().next()).unwrap_or_default();
            data.caused_by(error_text(sentence.trim()).as_ref())
        }
        error => data.caused_by(error),
    }
}

fn server_of(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|named| Some(named.name.as_str()) == context)?;
    let cluster = &context.context.as_ref()?.cluster;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == *cluster)?;
    cluster.cluster.as_ref()?.server.clone()
}

fn no_context(context: Option<&str>, kubeconfig: &Kubeconfig, paths: &[PathBuf]) -> ErrorData {
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let files = files.join(", ");
    let message = match context {
        None => format!("the kubeconfig {files} has no current context"),
        Some(context) if kubeconfig.contexts.iter().any(|named| named.name == context) => {
            format!("context {context} of the kubeconfig {files} names no cluster with a server")
        }
        Some(context) => format!("the kubeconfig {files} has no context {context}"),
    };
    let candidates: Vec<String> = kubeconfig.contexts.iter().map(|named| named.name.clone()).collect();
    let help = match candidates.as_slice() {
        [] => "name another kubeconfig by --kubeconfig or KUBECONFIG".to_owned(),
        some => format!("name one by --context: {}", some[..some.len().min(3)].join(", ")),
    };
    let mut error = ErrorData::new(ErrorKind::KubeconfigInvalid, message, help);
    error.candidates = candidates;
    error
}

fn unreachable(server: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::Unreachable,
        format!("the API server {server} does not answer"),
        "check the network and the VPN, and that the context is the right one",
    )
    .fact("server", server)
    .retryable()
}

fn no_credentials(server: &str, error: &dyn std::error::Error) -> ErrorData {
    ErrorData::new(
        ErrorKind::Unauthorized,
        format!("the credentials for {server} cannot be had"),
        "log in again, or check the credential plugin that the kubeconfig names",
    )
    .caused_by(error)
}

/// What an error of the API means.
pub fn explain(error: &kube::Error, doing: &Doing<'_>) -> ErrorData {
    let Doing { what, server } = doing;
    match error {
        kube::Error::Api(status) => match status.code {
            401 => ErrorData::new(
                ErrorKind::Unauthorized,
                format!("the API server {server} does not accept our login, asked to {what}"),
                "log in again (the token may have run out), then try again",
            )
            .caused_by(error_text(&status.message).as_ref())
            .retryable(),
            403 => forbidden(&status.message, what),
            _ => ErrorData::new(
                ErrorKind::Internal,
                format!("the API server refused to {what}: {}", status.message),
                "see the API server's own words",
            )
            .fact("reason", &status.reason)
            .fact("code", status.code.to_string()),
        },
        kube::Error::Auth(error) => no_credentials(server, error),
        kube::Error::Service(error) if error.is::<AuthError>() => no_credentials(server, error.as_ref()),
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
            unreachable(server).caused_by(error)
        }
        error => ErrorData::new(
            ErrorKind::Unreachable,
            format!("the API server {server} cannot be asked to {what}"),
            "check the kubeconfig's server, proxy and certificates",
        )
        .caused_by(error),
    }
}

fn error_text(text: &str) -> Box<dyn std::error::Error> {
    text.into()
}

/// A 403 with what it says about who may not do what.
pub fn forbidden(message: &str, what: &str) -> ErrorData {
    if let Some(rule) = pod_security_rule(message) {
        return ErrorData::new(
            ErrorKind::Forbidden,
            format!("Pod Security does not allow the agent's pod: {rule}"),
            "let the agent run in a namespace that allows it: agent.namespace, labelled \
             pod-security.kubernetes.io/enforce=privileged",
        )
        .fact("rule", rule);
    }
    // `pods "a" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`
    let words: Vec<&str> = message.split('"').collect();
    let after = |marker: &str| {
        words
            .iter()
            .position(|word| word.ends_with(marker))
            .and_then(|at| words.get(at + 1))
            .map(|word| (*word).to_owned())
    };
    let verb = message.split(" cannot ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    match (verb, after("resource "), after("User ")) {
        (Some(verb), Some(resource), user) => {
            let namespace = after("in the namespace ");
            let place = match &namespace {
                Some(namespace) => format!(" in namespace {namespace}"),
                None => " in the whole cluster".to_owned(),
            };
            let user = user.unwrap_or_else(|| "the user".to_owned());
            let mut error = ErrorData::new(
                ErrorKind::Forbidden,
                format!("{user} may not {verb} {resource}{place}"),
                format!("ask an administrator for a role that allows {verb} on {resource}{place}"),
            )
            .fact("verb", verb)
            .fact("resource", resource);
            if let Some(namespace) = namespace {
                error = error.fact("namespace", namespace);
            }
            error
        }
        _ => ErrorData::new(
            ErrorKind::Forbidden,
            format!("the cluster does not allow to {what}: {message}"),
            "ask an administrator which policy says so",
        )
        .fact("rule", message),
    }
}

/// What Pod Security admission found, level and violations.
fn pod_security_rule(message: &str) -> Option<&str> {
    Some(message.split_once("violates PodSecurity ")?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_kept_and_secrets_are_not_written() {
        assert!(decides("AWS_SECRET_ACCESS_KEY") && decides("https_proxy") && !decides("MY_PASSWORD"));
        assert!(may_be_written("AWS_PROFILE") && may_be_written("AWS_WEB_IDENTITY_TOKEN_FILE"));
        assert!(!may_be_written("AWS_SECRET_ACCESS_KEY") && !may_be_written("AWS_SESSION_TOKEN"));
    }

    #[test]
    fn a_denial_names_verb_resource_and_namespace() {
        let error = forbidden(
            "jobs.batch is forbidden: User \"jane\" cannot create resource \"jobs\" in API group \"batch\" in the \
             namespace \"shop\"",
            "create the agent",
        );
        assert_eq!(error.message, "jane may not create jobs in namespace shop");
        let facts: Vec<&str> = error.facts.values().map(String::as_str).collect();
        assert_eq!(facts, ["shop", "jobs", "create"]);
        let error = forbidden(
            "nodes is forbidden: User \"system:serviceaccount:a:b\" cannot list resource \"nodes\" in API group \"\" at \
             the cluster scope",
            "list nodes",
        );
        assert_eq!(error.message, "system:serviceaccount:a:b may not list nodes in the whole cluster");
    }

    #[test]
    fn a_pod_security_refusal_names_the_rule() {
        let error = forbidden(
            "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)",
            "create the agent",
        );
        assert_eq!(error.kind, ErrorKind::Forbidden);
        assert_eq!(error.facts["rule"], "\"baseline:latest\": host namespaces (hostPID=true)");
    }

    #[test]
    fn another_refusal_is_told_in_the_servers_words() {
        let error =
            forbidden("admission webhook \"policy\" denied the request: no hostPID", "create the agent");
        assert!(error.message.contains("no hostPID"), "{error}");
    }
}
