//! Errors as the editor's wire carries them: one closed list of kinds, each with its code and exit status.

use super::config::TextRange;
use crate::host::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $word:literal, $code:literal, $exit:literal;)*) => {
        /// What kind of thing went wrong; stable, for programs. The word stands in brackets on the terminal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ErrorKind {
            $($(#[doc = $doc])* #[serde(rename = $word)] $kind,)*
        }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The stable word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word),* }
            }

            /// The JSON-RPC error code.
            pub const fn code(self) -> i64 {
                match self { $(Self::$kind => $code),* }
            }

            /// The exit status of `mirrord-ide` when it ends with this error.
            pub const fn exit_status(self) -> u8 {
                match self { $(Self::$kind => $exit),* }
            }
        }
    };
}

kinds! {
    /// The user or the editor took the request back.
    Cancelled = "cancelled", -32800, 130;
    /// The config file does not exist or cannot be read.
    ConfigNotFound = "config-not-found", -32010, 65;
    /// The config has errors; `uri` and `range` point at the first.
    ConfigInvalid = "config-invalid", -32011, 65;
    /// Nothing of that name can be impersonated.
    TargetNotFound = "target-not-found", -32012, 66;
    /// No target was given, or several fit.
    TargetAmbiguous = "target-ambiguous", -32013, 66;
    /// Somebody else holds what was asked for.
    TargetBusy = "target-busy", -32014, 66;
    /// The target is there but cannot be used as it is.
    TargetUnusable = "target-unusable", -32015, 66;
    /// The kubeconfig is missing, broken, or has no such context.
    KubeconfigInvalid = "kubeconfig-invalid", -32020, 67;
    /// The cluster does not know who we are, or the login ran out.
    Unauthorized = "unauthorized", -32021, 77;
    /// The cluster does not allow it; `facts` holds verb, resource and namespace, or the admission rule.
    Forbidden = "forbidden", -32022, 77;
    /// The cluster's API does not answer.
    Unreachable = "unreachable", -32023, 68;
    /// The agent could not be started; `facts` says in which phase.
    AgentFailed = "agent-failed", -32030, 69;
    /// The agent speaks no protocol of ours.
    AgentVersion = "agent-version", -32031, 69;
    /// The agent is gone.
    AgentLost = "agent-lost", -32032, 69;
    /// This program cannot be covered on this machine.
    LayerUnsupported = "layer-unsupported", -32040, 71;
    /// The program never came under the session host.
    LayerNotConnected = "layer-not-connected", -32041, 71;
    /// A local port that is needed is taken.
    PortConflict = "port-conflict", -32042, 71;
    /// Programs of this debug type are started in a way that is not known.
    UnsupportedDebugType = "unsupported-debug-type", -32043, 71;
    /// No session of that name.
    NoSuchSession = "no-such-session", -32050, 72;
    /// Client and daemon have no protocol in common.
    ProtocolMismatch = "protocol-mismatch", -32060, 75;
    /// The daemon is ending.
    ShuttingDown = "shutting-down", -32061, 75;
    /// The daemon still has sessions.
    SessionsActive = "sessions-active", -32062, 75;
    /// The daemon could not be started or does not answer.
    DaemonUnreachable = "daemon-unreachable", -32063, 75;
    /// Asked for something that this build cannot do yet.
    Unsupported = "unsupported", -32080, 64;
    /// The request does not make sense as it stands.
    InvalidRequest = "invalid-request", -32602, 64;
    /// A defect of ours, or of the machine.
    Internal = "internal", -32603, 70;
}

/// `data` of every error answer; boxed, since it travels through every `Result` of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorData(Box<ErrorFields>);

/// The fields of `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErrorFields {
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// What failed and where; one sentence, also the error's `message`.
    pub message: String,
    /// What to do next; one sentence.
    pub help: String,
    /// Whether trying again may work.
    #[serde(default)]
    pub retryable: bool,
    /// The file that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The place in `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<TextRange>,
    /// The target concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cause: Vec<String>,
    /// Details for programs: `verb`, `resource`, `namespace`, `phase`, `rule` …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// What could be meant instead: targets, sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

impl std::ops::Deref for ErrorData {
    type Target = ErrorFields;

    fn deref(&self) -> &ErrorFields {
        &self.0
    }
}

impl std::ops::DerefMut for ErrorData {
    fn deref_mut(&mut self) -> &mut ErrorFields {
        &mut self.0
    }
}

impl ErrorData {
    /// An error with its sentence and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(ErrorFields {
            kind,
            message: message.into(),
            help: help.into(),
            retryable: false,
            uri: None,
            range: None,
            target: None,
            cause: Vec::new(),
            facts: BTreeMap::new(),
            candidates: Vec::new(),
        }))
    }

    /// Trying again may work.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Adds the chain of causes of `error`, outermost first.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if self.cause.last() != Some(&text) {
                self.cause.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds a detail for programs.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Names the target concerned.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// A session host's failure under the kind that its word stands for.
    pub fn from_failure(failure: &Failure) -> Self {
        let kind = match failure.kind.as_str() {
            "seccomp-refused" | "memory-refused" | "giving-refused" => ErrorKind::LayerUnsupported,
            word => {
                ErrorKind::ALL.iter().copied().find(|kind| kind.word() == word).unwrap_or(ErrorKind::Internal)
            }
        };
        let mut data = Self::new(kind, &failure.message, &failure.help);
        if kind.word() != failure.kind {
            data = data.fact("failure", &failure.kind);
        }
        data.retryable = failure.retryable;
        data.cause.clone_from(&failure.cause);
        data
    }
}

impl std::fmt::Display for ErrorData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorData {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_kinds_share_a_word_or_a_code() {
        let words: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.word()).collect();
        let codes: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!((words.len(), codes.len()), (ErrorKind::ALL.len(), ErrorKind::ALL.len()));
    }

    #[test]
    fn what_the_kernel_refuses_a_host_is_told_as_one_kind_with_its_word() {
        let failure = |kind: &str| Failure {
            kind: kind.into(),
            message: "no".into(),
            help: "allow it".into(),
            retryable: false,
            cause: vec![],
        };
        for word in ["seccomp-refused", "memory-refused", "giving-refused"] {
            let error = ErrorData::from_failure(&failure(word));
            assert_eq!((error.kind, error.facts["failure"].as_str()), (ErrorKind::LayerUnsupported, word));
        }
        let error = ErrorData::from_failure(&failure("agent-lost"));
        assert_eq!((error.kind, error.facts.is_empty()), (ErrorKind::AgentLost, true));
    }

    #[test]
    fn an_error_reads_back_and_leaves_out_what_it_does_not_know() {
        let error = ErrorData::new(ErrorKind::Forbidden, "no", "ask").fact("verb", "create");
        let text = serde_json::to_string(&error).unwrap();
        assert!(!text.contains("uri") && text.contains("\"forbidden\""), "{text}");
        assert_eq!(serde_json::from_str::<ErrorData>(&text).unwrap(), error);
    }
}
