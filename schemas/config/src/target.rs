//! What a session impersonates: the `target` words, read and written back.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A Kubernetes workload's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A pod by its own name.
    Pod,
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A ReplicaSet.
    ReplicaSet,
    /// A Job.
    Job,
    /// A CronJob.
    CronJob,
    /// A Service: the pods that it selects.
    Service,
    /// An Argo Rollout.
    Rollout,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::Job,
        Self::CronJob,
        Self::Service,
        Self::Rollout,
    ];

    /// The word of the string form: `deployment` in `deployment/shop`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::ReplicaSet => "replicaset",
            Self::Job => "job",
            Self::CronJob => "cronjob",
            Self::Service => "service",
            Self::Rollout => "rollout",
        }
    }

    /// The key of the object form: `stateful_set` in `{"stateful_set": "shop"}`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::StatefulSet => "stateful_set",
            Self::DaemonSet => "daemon_set",
            Self::ReplicaSet => "replica_set",
            Self::CronJob => "cron_job",
            other => other.as_str(),
        }
    }

    /// The kind for a word, kubectl's short names included.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "pod" | "po" | "pods" => Self::Pod,
            "deployment" | "deploy" | "deployments" => Self::Deployment,
            "statefulset" | "stateful_set" | "sts" | "statefulsets" => Self::StatefulSet,
            "daemonset" | "daemon_set" | "ds" | "daemonsets" => Self::DaemonSet,
            "replicaset" | "replica_set" | "rs" | "replicasets" => Self::ReplicaSet,
            "job" | "jobs" => Self::Job,
            "cronjob" | "cron_job" | "cj" | "cronjobs" => Self::CronJob,
            "service" | "svc" | "services" => Self::Service,
            "rollout" | "rollouts" => Self::Rollout,
            _ => return None,
        })
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a session impersonates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The cluster's network and names, but no pod.
    Targetless,
    /// A pod, or the pods of a workload or Service.
    Workload {
        /// Its kind.
        kind: WorkloadKind,
        /// Its name.
        name: String,
        /// The container in its pods; `None` chooses by annotation and skip list.
        container: Option<String>,
    },
    /// The pods with these labels.
    Label {
        /// Label and value, in the order written; never empty, no key twice.
        selector: Vec<(String, String)>,
        /// The container in the pods.
        container: Option<String>,
    },
    /// A container of this machine.
    LocalContainer {
        /// Its name or id.
        name: String,
    },
    /// A process of this machine and the namespaces it lives in.
    LocalProcess {
        /// Its process id.
        pid: u32,
    },
}

impl Target {
    /// Reads the string form.
    ///
    /// # Errors
    /// When it is none of the forms, with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, TargetParseError> {
        let text = text.trim();
        if text == "targetless" {
            return Ok(Self::Targetless);
        }
        let Some((word, rest)) = text.split_once('/') else {
            return Err(match text {
                "" => TargetParseError::Empty,
                _ => TargetParseError::NoKind { text: text.to_owned() },
            });
        };
        match word {
            "label" => {
                let (selector, container) = split_container(rest)?;
                Ok(Self::Label { selector: parse_selector(selector)?, container })
            }
            "container" if rest.is_empty() || rest.contains('/') => {
                Err(TargetParseError::LocalContainer { text: rest.to_owned() })
            }
            "container" => Ok(Self::LocalContainer { name: rest.to_owned() }),
            "process" => match rest.parse() {
                Ok(pid) if pid > 0 => Ok(Self::LocalProcess { pid }),
                _ => Err(TargetParseError::Pid { text: rest.to_owned() }),
            },
            _ => {
                let kind = WorkloadKind::of_word(word)
                    .ok_or_else(|| TargetParseError::UnknownKind { word: word.to_owned() })?;
                let (name, container) = split_container(rest)?;
                check_name(name)?;
                Ok(Self::Workload { kind, name: name.to_owned(), container })
            }
        }
    }

    /// Whether no cluster is involved.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::LocalContainer { .. } | Self::LocalProcess { .. })
    }

    /// The container asked for in the pods.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Workload { container, .. } | Self::Label { container, .. } => container.as_deref(),
            Self::Targetless | Self::LocalContainer { .. } | Self::LocalProcess { .. } => None,
        }
    }
}

impl FromStr for Target {
    type Err = TargetParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Targetless => f.write_str("targetless")?,
            Self::Workload { kind, name, .. } => write!(f, "{kind}/{name}")?,
            Self::Label { selector, .. } => {
                f.write_str("label/")?;
                for (index, (key, value)) in selector.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{key}={value}")?;
                }
            }
            Self::LocalContainer { name } => write!(f, "container/{name}")?,
            Self::LocalProcess { pid } => write!(f, "process/{pid}")?,
        }
        match self.container() {
            Some(container) => write!(f, "/container/{container}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a target does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetParseError {
    /// Nothing was given.
    Empty,
    /// A name without a kind.
    NoKind {
        /// What was given.
        text: String,
    },
    /// A kind that is none of ours.
    UnknownKind {
        /// The word before the slash.
        word: String,
    },
    /// A name that no Kubernetes object can have.
    Name {
        /// The name.
        name: String,
    },
    /// Something after the name that is not `/container/NAME`.
    Rest {
        /// What follows.
        text: String,
    },
    /// A label selector that is not `key=value,…`.
    Selector {
        /// The part that is wrong.
        text: String,
    },
    /// A label key that stands twice.
    DuplicateLabel {
        /// The key.
        key: String,
    },
    /// A local container without a usable name.
    LocalContainer {
        /// What was given.
        text: String,
    },
    /// Not a process id.
    Pid {
        /// What was given.
        text: String,
    },
}

impl TargetParseError {
    /// What to write instead, in one line.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NoKind { text } => format!("write pod/{text} or deployment/{text}"),
            Self::UnknownKind { word } => {
                let words: Vec<&str> = WorkloadKind::ALL.iter().map(|kind| kind.as_str()).collect();
                match crate::suggest::nearest(word, &words) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("the kinds are {}, label, container, process", words.join(", ")),
                }
            }
            Self::Name { .. } => "names are lower case letters, digits, `-` and `.`".to_owned(),
            Self::Rest { .. } => "a container is named by /container/NAME".to_owned(),
            Self::Selector { .. } => "write label/app=shop,tier=web".to_owned(),
            Self::DuplicateLabel { .. } => "name each label once".to_owned(),
            Self::LocalContainer { .. } => "write container/NAME or container/ID".to_owned(),
            Self::Pid { .. } => "write process/PID with a number above 0".to_owned(),
            Self::Empty => "write for example deployment/shop, or targetless".to_owned(),
        }
    }
}

impl fmt::Display for TargetParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the target is empty"),
            Self::NoKind { text } => write!(f, "\"{text}\" does not say what kind of target it is"),
            Self::UnknownKind { word } => write!(f, "\"{word}\" is not a kind of target"),
            Self::Name { name } => write!(f, "\"{name}\" is not a name that Kubernetes allows"),
            Self::Rest { text } => write!(f, "\"/{text}\" after the target's name is not understood"),
            Self::Selector { text } => write!(f, "\"{text}\" is not a label selector"),
            Self::DuplicateLabel { key } => write!(f, "label \"{key}\" stands twice"),
            Self::LocalContainer { text } => write!(f, "\"{text}\" is not a container's name or id"),
            Self::Pid { text } => write!(f, "\"{text}\" is not a process id"),
        }
    }
}

impl std::error::Error for TargetParseError {}

/// Splits `NAME/container/C`.
fn split_container(text: &str) -> Result<(&str, Option<String>), TargetParseError> {
    // A label's key may hold a slash itself, so the last one with the word counts.
    if let Some((before, container)) = text.rsplit_once("/container/") {
        check_name(container)?;
        return Ok((before, Some(container.to_owned())));
    }
    if text.contains('=') {
        return Ok((text, None));
    }
    match text.split_once('/') {
        Some((_, rest)) => Err(TargetParseError::Rest { text: rest.to_owned() }),
        None => Ok((text, None)),
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), TargetParseError> {
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(|character| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || "-.".contains(character)
        })
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.']);
    if valid { Ok(()) } else { Err(TargetParseError::Name { name: name.to_owned() }) }
}

fn parse_selector(text: &str) -> Result<Vec<(String, String)>, TargetParseError> {
    let pairs = text.split(',').map(|part| match part.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(TargetParseError::Selector { text: part.to_owned() }),
    });
    check_selector(pairs.collect::<Result<_, _>>()?)
}

/// Accepts a selector whose keys are all there and all different.
pub(crate) fn check_selector(
    selector: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, TargetParseError> {
    if selector.is_empty() {
        return Err(TargetParseError::Selector { text: String::new() });
    }
    for (index, (key, value)) in selector.iter().enumerate() {
        let word = |text: &str, more: &str| {
            text.chars().all(|character| character.is_ascii_alphanumeric() || more.contains(character))
        };
        if key.is_empty() || !word(key, "-_./") || !word(value, "-_.") {
            return Err(TargetParseError::Selector { text: format!("{key}={value}") });
        }
        if selector.iter().take(index).any(|(other, _)| other == key) {
            return Err(TargetParseError::DuplicateLabel { key: key.clone() });
        }
    }
    Ok(selector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_form_is_read_and_written_back() {
        for text in [
            "targetless",
            "pod/shop-7d9",
            "pod/shop-7d9/container/web",
            "deployment/shop",
            "statefulset/db",
            "daemonset/node-agent",
            "replicaset/shop-7d9",
            "job/migrate",
            "cronjob/nightly",
            "service/shop",
            "rollout/shop/container/web",
            "label/app=shop",
            "label/app.kubernetes.io/name=shop,tier=web/container/web",
            "container/compose-web-1",
            "process/4711",
        ] {
            assert_eq!(Target::parse(text).map(|target| target.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn short_kinds_stand_for_the_long_ones() {
        for (short, long) in
            [("deploy/x", "deployment/x"), ("svc/x", "service/x"), ("sts/x", "statefulset/x")]
        {
            assert_eq!(Target::parse(short).map(|target| target.to_string()).as_deref(), Ok(long));
        }
    }

    #[test]
    fn a_wrong_target_says_which_part_and_what_to_write() {
        for (text, message, help) in [
            ("", "the target is empty", "write for example deployment/shop, or targetless"),
            ("shop", "\"shop\" does not say what kind of target it is", "write pod/shop or deployment/shop"),
            ("deploymnet/shop", "\"deploymnet\" is not a kind of target", "did you mean deployment?"),
            (
                "pod/Shop",
                "\"Shop\" is not a name that Kubernetes allows",
                "names are lower case letters, digits, `-` and `.`",
            ),
            (
                "pod/",
                "\"\" is not a name that Kubernetes allows",
                "names are lower case letters, digits, `-` and `.`",
            ),
            (
                "pod/a/b",
                "\"/b\" after the target's name is not understood",
                "a container is named by /container/NAME",
            ),
            ("label/app", "\"app\" is not a label selector", "write label/app=shop,tier=web"),
            ("label/a=1,a=2", "label \"a\" stands twice", "name each label once"),
            ("label/", "\"\" is not a label selector", "write label/app=shop,tier=web"),
            ("container/", "\"\" is not a container's name or id", "write container/NAME or container/ID"),
            ("process/init", "\"init\" is not a process id", "write process/PID with a number above 0"),
            ("process/0", "\"0\" is not a process id", "write process/PID with a number above 0"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.help().as_str()), (message, help), "{text}");
        }
    }
}
