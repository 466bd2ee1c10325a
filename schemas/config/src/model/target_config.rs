//! `target`: as a string, as `{path, namespace}`, or with the kind as a key (`{"deployment": "shop"}`).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::decode::{Context, Decode, Record};
use crate::form::{Field, Form, choice};
use crate::target::{check_name, check_selector};
use crate::tree::{At, Node, Value};
use crate::{Code, Target, TargetParseError, WorkloadKind};

choice! {
    /// How many pods of a workload a session works with.
    pub enum Replicas {
        /// Every ready pod.
        All = "all",
        /// One ready pod.
        One = "one",
    }
}

/// What a session impersonates, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TargetConfig {
    /// The target; `None` if only the namespace was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Target>,
    /// Its namespace. Absent, the context's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How many pods of a workload. Absent, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
}

const LABELS: &str = "labels";
const CONTAINER: &str = "container";
const PATH_DOC: &str = "What to impersonate: `targetless`, `KIND/NAME` or `KIND/NAME/container/CONTAINER` with the \
     kinds pod, deployment, statefulset, daemonset, replicaset, job, cronjob, service, rollout; `label/key=value,…`; \
     mirrord-ide's own: `container/NAME` (a container of this machine) and `process/PID`.";
const NAMESPACE_DOC: &str = "The target's namespace. Absent, the context's.";
const REPLICAS_DOC: &str =
    "mirrord-ide's own: whether a session works with all ready pods of a workload or with one.";

/// The keys of the object form that say what the target is.
fn inline_keys() -> impl Iterator<Item = &'static str> {
    WorkloadKind::ALL.into_iter().map(WorkloadKind::key).chain([LABELS, CONTAINER])
}

impl Decode for TargetConfig {
    fn form() -> Form {
        let field = |key, doc: &str, default, kind: &str| Field {
            key,
            doc: doc.to_owned(),
            default,
            form: Form::plain(kind),
        };
        let mut fields = vec![
            field("path", PATH_DOC, "", "string or object"),
            field("namespace", NAMESPACE_DOC, "", "string"),
            Field {
                key: "replicas",
                doc: REPLICAS_DOC.to_owned(),
                default: "\"all\"",
                form: Replicas::form(),
            },
        ];
        for kind in WorkloadKind::ALL {
            fields.push(field(
                kind.key(),
                &format!("The name of a {kind}, instead of `path`."),
                "",
                "string",
            ));
        }
        fields.push(field(LABELS, "Labels of the pods, instead of `path`.", "", "map of strings"));
        fields.push(field(CONTAINER, "The container in the target's pods.", "", "string"));
        Form { kind: "string or object".to_owned(), fields, ..Form::default() }
    }

    fn accepts(node: &Node) -> bool {
        matches!(node.value, Value::Text(_) | Value::Map(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(_) => Some(Self { path: Some(path(node, at, context)?), ..Self::default() }),
            Value::Map(_) => {
                let keys: Vec<&str> =
                    ["path", "namespace", "replicas"].into_iter().chain(inline_keys()).collect();
                let record = context.record(node, at, &keys)?;
                let namespace = record.field("namespace", context);
                let replicas = record.field("replicas", context);
                let path = match record.entry("path") {
                    Some(entry) => {
                        let place = at.key("path");
                        if let Some(other) = inline_keys().find_map(|key| record.entry(key)) {
                            let message = format!("`{}` and `path` both say what the target is", other.key);
                            context
                                .error(Code::Conflict, &place.path, other.key_span.clone(), message)
                                .help("put the container into the path, or leave the path out");
                        }
                        path(&entry.value, &place, context)
                    }
                    None => inline(node, at, &record, context),
                };
                Some(Self { path, namespace, replicas })
            }
            _ => {
                context.wrong_type(node, at, "a string such as \"deployment/shop\", or an object");
                None
            }
        }
    }
}

/// `path`: a string, or the object form once more.
fn path(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Target> {
    match &node.value {
        Value::Text(text) => match Target::parse(text) {
            Ok(target) => Some(target),
            Err(error) => {
                report(&error, node, at, context);
                None
            }
        },
        Value::Map(_) => {
            let keys: Vec<&str> = inline_keys().collect();
            let record = context.record(node, at, &keys)?;
            inline(node, at, &record, context)
        }
        _ => {
            context.wrong_type(node, at, "a string such as \"deployment/shop\", or an object");
            None
        }
    }
}

/// The kind as a key.
fn inline(node: &Node, at: &At, record: &Record<'_>, context: &mut Context<'_>) -> Option<Target> {
    let given: Vec<&str> =
        inline_keys().filter(|key| *key != CONTAINER && record.entry(key).is_some()).collect();
    if let [first, second, ..] = given.as_slice() {
        let message = format!("`{first}` and `{second}` both say what the target is");
        let span = record.entry(second).map_or(node.span.clone(), |entry| entry.key_span.clone());
        context.error(Code::Conflict, &at.path, span, message).help("keep one of them");
        return None;
    }
    let container: Option<String> = record.field(CONTAINER, context);
    let Some(key) = given.first() else {
        if container.is_some() {
            let span = record.entry(CONTAINER).map_or(node.span.clone(), |entry| entry.key_span.clone());
            context
                .error(Code::MissingKey, &at.path, span, "a container is named, but not what it is a container of")
                .help("add for example \"deployment\": \"shop\"; a container of this machine is \"path\": \"container/NAME\"");
        }
        return None;
    };
    let entry = record.entry(key)?;
    let place = at.key(key);
    let checked = if *key == LABELS {
        let selector = match &entry.value.value {
            Value::Text(text) => match Target::parse(&format!("label/{text}")) {
                Ok(Target::Label { selector, .. }) => Ok(selector),
                Ok(_) => Err(TargetParseError::Selector { text: text.clone() }),
                Err(error) => Err(error),
            },
            _ => {
                let labels: std::collections::BTreeMap<String, String> =
                    Decode::decode(&entry.value, &place, context)?;
                check_selector(labels.into_iter().collect())
            }
        };
        selector.map(|selector| Target::Label { selector, container: container.clone() })
    } else {
        let kind = WorkloadKind::ALL.into_iter().find(|kind| kind.key() == *key)?;
        let name = String::decode(&entry.value, &place, context)?;
        check_name(&name).map(|()| Target::Workload { kind, name, container: container.clone() })
    };
    let checked = checked.and_then(|target| match &container {
        Some(container) => check_name(container).map(|()| target),
        None => Ok(target),
    });
    match checked {
        Ok(target) => Some(target),
        Err(error) => {
            report(&error, &entry.value, &place, context);
            None
        }
    }
}

fn report(error: &TargetParseError, node: &Node, at: &At, context: &mut Context<'_>) {
    context.error(Code::InvalidTarget, &at.path, node.span.clone(), error.to_string()).help(error.help());
}

impl JsonSchema for TargetConfig {
    fn schema_name() -> Cow<'static, str> {
        "TargetConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let replicas = generator.subschema_for::<Replicas>();
        let mut inline = serde_json::Map::new();
        for kind in WorkloadKind::ALL {
            inline.insert(
                kind.key().to_owned(),
                serde_json::json!({ "type": "string", "description": format!("The name of a {kind}.") }),
            );
        }
        inline.insert(
            LABELS.to_owned(),
            serde_json::json!({
                "type": ["object", "string"],
                "additionalProperties": { "type": "string" },
                "description": "Labels of the pods."
            }),
        );
        inline.insert(
            CONTAINER.to_owned(),
            serde_json::json!({ "type": "string", "description": "The container in the target's pods." }),
        );
        let mut whole = inline.clone();
        whole.insert(
            "path".to_owned(),
            serde_json::json!({
                "description": PATH_DOC,
                "anyOf": [
                    { "type": "string" },
                    { "type": "object", "properties": inline, "additionalProperties": false }
                ]
            }),
        );
        whole.insert(
            "namespace".to_owned(),
            serde_json::json!({ "type": ["string", "null"], "description": NAMESPACE_DOC }),
        );
        whole.insert(
            "replicas".to_owned(),
            serde_json::json!({ "description": REPLICAS_DOC, "anyOf": [replicas, { "type": "null" }] }),
        );
        json_schema!({
            "description": "What the program impersonates.",
            "anyOf": [
                { "type": "string", "description": PATH_DOC },
                { "type": "object", "properties": whole, "additionalProperties": false }
            ]
        })
    }
}
