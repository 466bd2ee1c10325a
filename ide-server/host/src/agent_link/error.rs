//! What can go wrong with the link, with the facts as fields, and which errno a caller of the debuggee gets for it.

use nix::errno::Errno;
use protocol::codec::FrameError;
use std::time::Duration;

/// A failure of the link to the agent, or of one request on it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing answers where the agent should listen.
    #[error("cannot reach the agent at {place}")]
    Unreachable {
        /// Where it was tried.
        place: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig for the agent's cluster")]
    Kubeconfig {
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The API server does not open a port-forward to the agent's pod.
    #[error("cannot open a port-forward to pod {pod} in namespace {namespace}")]
    PortForward {
        /// The agent's namespace.
        namespace: String,
        /// The agent's pod.
        pod: String,
        /// What the API server or the way to it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// No connection within the time for one.
    #[error("the agent at {place} did not answer within {} s", .after.as_secs())]
    ConnectTimeout {
        /// Where it was tried.
        place: String,
        /// How long.
        after: Duration,
    },
    /// The agent did not let the session in.
    #[error("the agent refused the session ({kind}): {message}")]
    Refused {
        /// The agent's word: `unauthorized`, `protocol` …
        kind: String,
        /// Its sentence.
        message: String,
    },
    /// The other end does not speak this wire, or not a version that this build speaks.
    #[error("the agent does not speak our protocol: {detail}")]
    Protocol {
        /// What was met instead.
        detail: String,
    },
    /// The link ended before the answer came.
    #[error("the link to the agent was lost: {detail}")]
    Lost {
        /// Why, as far as known.
        detail: String,
    },
    /// No answer in time; the link itself may be well.
    #[error("the agent did not answer within {} s", .after.as_secs())]
    Deadline {
        /// How long was waited.
        after: Duration,
    },
    /// The request does not fit a frame.
    #[error("the request cannot be sent")]
    TooLong(#[from] FrameError),
}

impl LinkError {
    /// What it says itself, then what each of its causes says.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut next: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = next {
            words.push(error.to_string());
            next = error.source();
        }
        words
    }

    /// What a system call of the debuggee fails with when its request met this.
    pub fn errno(&self) -> Errno {
        match self {
            Self::TooLong(_) => Errno::ENAMETOOLONG,
            Self::Deadline { .. } | Self::ConnectTimeout { .. } => Errno::ETIMEDOUT,
            Self::Refused { .. } | Self::Protocol { .. } | Self::Lost { .. } => Errno::EIO,
            Self::Unreachable { .. } | Self::Kubeconfig { .. } | Self::PortForward { .. } => Errno::EIO,
        }
    }

    /// Whether the same attempt may work later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::Lost { .. }
            | Self::Deadline { .. } => true,
            Self::PortForward { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => !matches!(status.code, 401 | 403 | 404),
                _ => true,
            },
            Self::Refused { kind, .. } => !matches!(kind.as_str(), "unauthorized" | "protocol"),
            Self::Kubeconfig { .. } | Self::Protocol { .. } | Self::TooLong(_) => false,
        }
    }
}

/// A subscription that the agent did not grant.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The agent says no.
    #[error("port {port} cannot be taken over: {message}")]
    Refused {
        /// The port in the pod.
        port: u16,
        /// Why: EBUSY when another session holds it, EINVAL for a filter that is no expression …
        errno: Errno,
        /// The agent's sentence, which names the holder.
        message: String,
    },
    /// The agent could not be asked.
    #[error("port {port} cannot be taken over: {source}")]
    Link {
        /// The port in the pod.
        port: u16,
        /// Why.
        #[source]
        source: LinkError,
    },
}
