//! The tree that every format is lowered to: plain values, each with the bytes it stands at.

use std::ops::Range;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Range<usize>,
}

/// What a node can be.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the text's order; a key that stands twice is here twice.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    /// The type as a user would say it.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "an object",
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The place of what stands at a dotted path (`a.b[2].c`): of the key, of a list's item, or of the deepest
    /// ancestor that is there.
    pub(crate) fn place(&self, path: &str) -> Range<usize> {
        let mut node = self;
        let mut span = None;
        for step in path.split('.') {
            let mut parts = step.split('[');
            let Some(entry) = parts.next().and_then(|key| node.entry(key)) else { break };
            span = Some(entry.key_span.clone());
            node = &entry.value;
            for index in parts {
                let index = index.trim_end_matches(']').parse::<usize>().ok();
                let Value::List(items) = &node.value else { break };
                let Some(item) = index.and_then(|index| items.get(index)) else { break };
                span = Some(item.span.clone());
                node = item;
            }
        }
        span.unwrap_or(self.span.start..self.span.start)
    }

    /// The value without its places, for settings whose inside is passed on as it is.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }
}

/// Where decoding stands.
#[derive(Debug, Clone)]
pub(crate) struct At {
    /// The key path, such as `feature.network.incoming.http_filter.all_of[2].header`.
    pub(crate) path: String,
}

impl At {
    pub(crate) fn root() -> Self {
        Self { path: String::new() }
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        Self { path: join(&self.path, key) }
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path) }
    }
}

/// `path.key`, or `key` at the root.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A path with `[3]` written as `[]`, as the tables of settings name it.
pub(crate) fn general(path: &str) -> String {
    let mut general = String::with_capacity(path.len());
    let mut in_index = false;
    for character in path.chars() {
        match character {
            '[' => in_index = true,
            ']' => in_index = false,
            _ if in_index => continue,
            _ => {}
        }
        general.push(character);
    }
    general
}
