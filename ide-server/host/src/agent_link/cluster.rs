//! A client of the agent's API server, from the kubeconfig and environment of whoever asked for the session.
//!
//! It is put together here, not by `kube::Client::try_from`, for one reason: that one leaves Nagle's algorithm on,
//! and every small frame would wait for the delayed acknowledgement of the one before it, 40 ms.

use super::error::LinkError;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use kube::client::{AuthError, Body, ConfigExt};
use kube::config::{ExecConfig, ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError};
use protocol::host::Endpoint;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot};
use tower::util::MapErr;
use tower::{BoxError, ServiceExt};

/// How long a connection to the API server may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// A login younger than this is not made again: its plugin has nothing better to give.
const FRESH: Duration = Duration::from_secs(1);
/// The most of a plugin's complaint that is repeated, in characters.
const COMPLAINT: usize = 300;

/// What names a cluster and the user there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterAccess {
    /// Kubeconfig files, in order; empty means kubectl's own rules.
    pub kubeconfig: Vec<String>,
    /// The context, or the current one.
    pub context: Option<String>,
    /// Whether the server's certificate goes unchecked.
    pub accept_invalid_certificates: Option<bool>,
    /// Environment of the client that asked.
    pub env: BTreeMap<String, String>,
}

/// Keeps the last client: making one may run a credential plugin.
#[derive(Default)]
pub(super) struct Clusters {
    last: Option<(ClusterAccess, kube::Client)>,
}

impl Clusters {
    /// A client for an endpoint's cluster.
    pub(super) async fn client(&mut self, endpoint: &Endpoint) -> Result<kube::Client, LinkError> {
        let access = match endpoint {
            Endpoint::PortForward { kubeconfig, context, accept_invalid_certificates, env, .. } => {
                ClusterAccess {
                    kubeconfig: kubeconfig.clone(),
                    context: context.clone(),
                    accept_invalid_certificates: *accept_invalid_certificates,
                    env: env.clone(),
                }
            }
            Endpoint::Unix { .. } => ClusterAccess::default(),
        };
        if let Some((known, client)) = &self.last
            && *known == access
        {
            return Ok(client.clone());
        }
        let client = client(&access).await?;
        self.last = Some((access, client.clone()));
        Ok(client)
    }

    /// The next client is made afresh: the kubeconfig may have changed, or its token.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

/// Makes a client with the latency that a data plane needs.
///
/// # Errors
/// A kubeconfig that cannot be read, lacks the context, or names credentials that cannot be had.
pub async fn client(access: &ClusterAccess) -> Result<kube::Client, LinkError> {
    let config = config(access).await.map_err(|source| LinkError::Kubeconfig { source: Box::new(source) })?;
    let namespace = config.default_namespace.clone();
    let made = match config.auth_info.exec.is_some() {
        true => Login::new(config).await.map(|login| kube::Client::new(login, namespace.clone())),
        false => connect(&config),
    };
    made.map_err(|source| LinkError::PortForward { namespace, pod: String::new(), source: Box::new(source) })
}

/// Clients whose login a plugin gives: one after the other, as the API server forgets one login and the plugin gives
/// the next.
#[derive(Clone)]
struct Login {
    config: Arc<kube::Config>,
    /// The present one, and since when. Whoever waits for the plugin holds it, so it runs once for all.
    now: Arc<Mutex<(Instant, kube::Client)>>,
}

impl Login {
    async fn new(config: kube::Config) -> kube::Result<Self> {
        let config = Arc::new(config);
        let client = log_in(config.clone()).await?;
        Ok(Self { config, now: Arc::new(Mutex::new((Instant::now(), client))) })
    }

    async fn send(self, request: Request<Body>) -> kube::Result<Response<Body>> {
        let again = repeated(&request);
        let (since, client) = self.now.lock().await.clone();
        let response = client.send(request).await.map_err(|error| hushed(error, &self.config))?;
        let Some(again) = again.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else {
            return Ok(response);
        };
        let client = {
            let mut now = self.now.lock().await;
            if now.0 == since {
                if since.elapsed() < FRESH {
                    return Ok(response);
                }
                let client = log_in(self.config.clone()).await?;
                *now = (Instant::now(), client);
            }
            now.1.clone()
        };
        client.send(again).await.map_err(|error| hushed(error, &self.config))
    }
}

impl tower::Service<Request<Body>> for Login {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.clone().send(request);
        Box::pin(async move { sent.await.map_err(BoxError::from) })
    }
}

/// The same request once more, where its body is not a stream.
fn repeated(request: &Request<Body>) -> Option<Request<Body>> {
    let mut again = Request::new(request.body().try_clone()?);
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    Some(again)
}

/// Runs the plugin on a thread of its own: it may wait for its user's browser, and neither the sessions of others nor
/// the end of this process are to wait for that.
async fn log_in(config: Arc<kube::Config>) -> kube::Result<kube::Client> {
    let (made_tx, made_rx) = oneshot::channel();
    let (runtime, theirs) = (tokio::runtime::Handle::current(), config.clone());
    let run = move || {
        let _inside = runtime.enter();
        // Who asked may have gone.
        let _ = made_tx.send(connect(&theirs));
    };
    let started = std::thread::Builder::new().name("credential-plugin".to_owned()).spawn(run);
    let failed = |error: BoxError| Err(kube::Error::Service(error));
    match (started, made_rx.await) {
        (Err(error), _) => failed(error.into()),
        (Ok(_), Err(error)) => failed(error.into()),
        (Ok(_), Ok(made)) => made.map_err(|error| hushed(error, &config)),
    }
}

/// The error with the plugin's name and complaint, and without what it printed and was given: those may be tokens and
/// keys.
fn hushed(error: kube::Error, config: &kube::Config) -> kube::Error {
    let error = match error {
        kube::Error::Auth(error) => error,
        kube::Error::Service(error) => match error.downcast::<AuthError>() {
            Ok(error) => *error,
            Err(error) => return kube::Error::Service(error),
        },
        error => return error,
    };
    let Some(ExecConfig { command, install_hint, .. }) = &config.auth_info.exec else {
        return kube::Error::Auth(error);
    };
    let name = command.as_deref().unwrap_or_default();
    kube::Error::Auth(match error {
        AuthError::AuthExecStart(error) => {
            let hint = install_hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            AuthError::AuthExec(format!("{name} cannot be run: {error}{hint}"))
        }
        AuthError::AuthExecRun { out, .. } => {
            let complaint = String::from_utf8_lossy(&out.stderr);
            let complaint: String = complaint.trim().chars().take(COMPLAINT).collect();
            AuthError::AuthExec(format!("{name} failed ({}): {complaint}", out.status))
        }
        AuthError::AuthExecParse(_) => AuthError::AuthExec(format!("{name} printed no credential")),
        error => error,
    })
}

async fn config(access: &ClusterAccess) -> Result<kube::Config, KubeconfigError> {
    let mut kubeconfig = Kubeconfig::default();
    for path in paths(access)? {
        kubeconfig = kubeconfig.merge(Kubeconfig::read_from(path)?)?;
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        if let Some(plugin) = &mut user.exec {
            // Entries of the kubeconfig come last, so they win.
            let entry = |(name, value): (&String, &String)| {
                HashMap::from([("name".to_owned(), name.clone()), ("value".to_owned(), value.clone())])
            };
            let mut env: Vec<_> = access.env.iter().map(entry).collect();
            env.extend(plugin.env.take().unwrap_or_default());
            plugin.env = Some(env);
            // There is no terminal here. What it says on standard error is kept then, for the error.
            if plugin.interactive_mode != Some(ExecInteractiveMode::Always) {
                plugin.interactive_mode = Some(ExecInteractiveMode::Never);
            }
        }
    }
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    let proxy_of_cluster = proxy_of_cluster(&kubeconfig, access.context.as_deref());
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    if let Some(accept) = access.accept_invalid_certificates {
        config.accept_invalid_certs = accept;
    }
    // kube has looked at our own environment, which is not the asking client's.
    config.proxy_url = match proxy_of_cluster {
        Some(url) => Some(url.parse().map_err(KubeconfigError::ParseProxyUrl)?),
        None => proxy_of_environment(access, &config.cluster_url),
    };
    Ok(config)
}

fn variable(access: &ClusterAccess, name: &str) -> Option<String> {
    let value = match access.env.is_empty() {
        true => std::env::var(name).ok(),
        false => access.env.get(name).cloned(),
    };
    value.filter(|value| !value.is_empty())
}

fn paths(access: &ClusterAccess) -> Result<Vec<PathBuf>, KubeconfigError> {
    if !access.kubeconfig.is_empty() {
        return Ok(access.kubeconfig.iter().map(PathBuf::from).collect());
    }
    if let Some(list) = variable(access, "KUBECONFIG") {
        let paths = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty());
        // kubectl skips those of the list that do not exist.
        return Ok(paths.filter(|path| path.exists()).collect());
    }
    let home = variable(access, "HOME").ok_or(KubeconfigError::FindPath)?;
    Ok(vec![PathBuf::from(home).join(".kube/config")])
}

fn proxy_of_cluster(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == name)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

fn proxy_of_environment(access: &ClusterAccess, server: &http::Uri) -> Option<http::Uri> {
    let either = |upper: &str| variable(access, upper).or_else(|| variable(access, &upper.to_lowercase()));
    let matcher = Matcher::builder()
        .https(either("HTTPS_PROXY").unwrap_or_default())
        .http(either("HTTP_PROXY").unwrap_or_default())
        .no(either("NO_PROXY").unwrap_or_default())
        .build();
    // The authority with user and password is asked for again when the connection is made.
    matcher.intercept(server).and_then(|_| {
        let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        either(name)?.parse().ok()
    })
}

/// A proxy, or what is behind it, cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("by the proxy {place}")]
struct ProxyError {
    place: String,
    #[source]
    source: BoxError,
}

/// The connector with the proxy's name in its errors.
fn behind<C>(
    proxy: &http::Uri,
    connector: C,
) -> MapErr<C, impl FnOnce(C::Error) -> ProxyError + Clone + use<C>>
where
    C: tower::Service<http::Uri, Error: Into<BoxError>>,
{
    // Without the user and password that its authority may hold.
    let host = proxy.host().unwrap_or_default();
    let place = proxy.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    connector.map_err(move |source| ProxyError { place: place.clone(), source: source.into() })
}

fn connect(config: &kube::Config) -> Result<kube::Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector.set_connect_timeout(Some(CONNECT));
    tracing::debug!(server = %config.cluster_url, "API server client");
    let Some(proxy) = &config.proxy_url else { return build(config, connector) };
    let matcher = Matcher::builder().all(proxy.to_string()).build();
    let auth = matcher.intercept(&config.cluster_url);
    match proxy.scheme_str() {
        Some("socks5" | "socks5h") => {
            let mut socks = SocksV5::new(proxy.clone(), connector);
            if let Some((user, password)) = auth.as_ref().and_then(|auth| auth.raw_auth()) {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            build(config, behind(proxy, socks))
        }
        Some("https") => {
            let tls = config.rustls_https_connector_with_connector(connector)?;
            let mut tunnel = Tunnel::new(proxy.clone(), tls);
            if let Some(value) = auth.as_ref().and_then(|auth| auth.basic_auth()) {
                tunnel = tunnel.with_auth(value.clone());
            }
            build(config, behind(proxy, tunnel))
        }
        Some("http") => {
            let mut tunnel = Tunnel::new(proxy.clone(), connector);
            if let Some(value) = auth.as_ref().and_then(|auth| auth.basic_auth()) {
                tunnel = tunnel.with_auth(value.clone());
            }
            build(config, behind(proxy, tunnel))
        }
        _ => Err(kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.clone()) }),
    }
}

fn build<H>(config: &kube::Config, connector: H) -> Result<kube::Client, kube::Error>
where
    H: tower::Service<http::Uri> + Clone + Send + Sync + 'static,
    H::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    H::Future: Send + 'static,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tls = config.rustls_https_connector_with_connector(connector)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: plain
clusters:
- {name: plain, cluster: {server: "https://plain.example:6443"}}
- {name: behind, cluster: {server: "https://behind.example:6443", proxy-url: "http://proxy.of.cluster:3128"}}
users:
- name: plugin
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: login
      interactiveMode: Never
      env: [{name: BOTH, value: of the kubeconfig}]
contexts:
- {name: plain, context: {cluster: plain, user: plugin, namespace: shop}}
- {name: behind, context: {cluster: behind, user: plugin}}
"#;

    struct Written(PathBuf);

    impl Written {
        fn new() -> Self {
            Self::holding(KUBECONFIG)
        }

        fn holding(text: &str) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("link-kubeconfig-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            Self(path)
        }

        fn access(&self, env: &[(&str, &str)]) -> ClusterAccess {
            ClusterAccess {
                kubeconfig: vec![self.0.to_str().unwrap().into()],
                env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                ..ClusterAccess::default()
            }
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn a_credential_plugin_runs_with_the_asking_client_s_environment_under_the_kubeconfig_s() {
        let written = Written::new();
        let config =
            config(&written.access(&[("BOTH", "of the client"), ("AWS_PROFILE", "work")])).await.unwrap();
        let mut set = HashMap::new();
        for entry in config.auth_info.exec.unwrap().env.unwrap() {
            set.insert(entry["name"].clone(), entry["value"].clone());
        }
        assert_eq!(set["AWS_PROFILE"], "work");
        assert_eq!(set["BOTH"], "of the kubeconfig");
        assert_eq!(config.default_namespace, "shop");
    }

    #[tokio::test]
    async fn the_proxy_is_the_cluster_s_else_the_asking_client_s_unless_it_leaves_the_server_out() {
        let written = Written::new();
        let proxy = async |context: &str, env: &[(&str, &str)]| {
            let access = ClusterAccess { context: Some(context.into()), ..written.access(env) };
            config(&access).await.unwrap().proxy_url.map(|url| url.to_string())
        };
        let theirs = ("HTTPS_PROXY", "http://ann:secret@proxy.of.client:8080");
        assert_eq!(proxy("plain", &[("HOME", "/")]).await, None);
        let ours = proxy("plain", &[theirs]).await.unwrap();
        assert!(ours.starts_with("http://ann:secret@proxy.of.client:8080"), "{ours}");
        assert_eq!(proxy("plain", &[theirs, ("NO_PROXY", "other.org,.example")]).await, None);
        let cluster = proxy("behind", &[theirs, ("NO_PROXY", "*")]).await.unwrap();
        assert!(cluster.starts_with("http://proxy.of.cluster:3128"), "{cluster}");
    }

    #[test]
    fn kubeconfigs_are_found_as_kubectl_finds_them() {
        let written = Written::new();
        let here = written.0.to_str().unwrap();
        let named = |env: &[(&str, &str)]| {
            let access = ClusterAccess { kubeconfig: vec![], ..written.access(env) };
            paths(&access).unwrap()
        };
        assert_eq!(named(&[("HOME", "/home/ann")]), [PathBuf::from("/home/ann/.kube/config")]);
        let list = format!("/nowhere/at/all::{here}");
        assert_eq!(named(&[("HOME", "/home/ann"), ("KUBECONFIG", &list)]), std::slice::from_ref(&written.0));
    }

    #[tokio::test]
    async fn a_plugin_s_failure_is_told_in_its_words_without_what_it_printed_or_was_given() {
        let failing = "command: sh\n      args: [-c, 'echo a-token; echo come back tomorrow >&2; exit 3']";
        let written = Written::holding(&KUBECONFIG.replace("command: login", failing));
        let path = std::env::var("PATH").unwrap();
        let access = ClusterAccess {
            accept_invalid_certificates: Some(true),
            ..written.access(&[("AWS_SECRET_ACCESS_KEY", "a-secret"), ("PATH", &path)])
        };
        let Err(LinkError::PortForward { source, .. }) = client(&access).await else { panic!("no refusal") };
        let told = source.to_string();
        assert!(told.contains("sh failed (exit status: 3): come back tomorrow"), "{told}");
        assert!(!told.contains("a-token") && !told.contains("a-secret"), "{told}");
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_the_kubeconfig_s_error() {
        let written = Written::new();
        let access = ClusterAccess { context: Some("nowhere".into()), ..written.access(&[]) };
        assert!(matches!(client(&access).await.err(), Some(LinkError::Kubeconfig { .. })));
    }
}
