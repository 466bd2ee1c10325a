//! The shapes of this format beyond plain values: one or many, a short and a long form, patterns, port pairs.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::values::{map_entries, plural};
use super::{Context, Decode};
use crate::Code;
use crate::form::Form;
use crate::tree::{At, Node, Value};

/// A list that may be written as its only item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for OneOrMany<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Decode> Decode for OneOrMany<T> {
    fn form() -> Form {
        let item = T::form();
        Form { kind: format!("{} or list of {}", item.kind, plural(&item.kind)), ..item }
    }

    fn accepts(node: &Node) -> bool {
        T::accepts(node) || matches!(node.value, Value::List(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::decode(node, at, context).map(Self),
            _ => T::decode(node, at, context).map(|item| Self(vec![item])),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        let many = generator.subschema_for::<Vec<T>>();
        json_schema!({ "anyOf": [one, many] })
    }
}

/// A setting with a short form (a flag, a word) and a long one (an object).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "{S}_or_{L}")]
pub enum Short<S, L> {
    /// The short form.
    Short(S),
    /// The object.
    Long(L),
}

impl<S, L> Short<S, L> {
    /// The object, if it was written as one.
    pub fn long(&self) -> Option<&L> {
        match self {
            Self::Short(_) => None,
            Self::Long(long) => Some(long),
        }
    }

    /// The short form, if it was written so.
    pub fn short(&self) -> Option<&S> {
        match self {
            Self::Short(short) => Some(short),
            Self::Long(_) => None,
        }
    }
}

impl<S: Decode, L: Decode> Decode for Short<S, L> {
    fn form() -> Form {
        let (short, long) = (S::form(), L::form());
        Form { kind: format!("{} or {}", short.kind, long.kind), values: short.values, ..long }
    }

    fn accepts(node: &Node) -> bool {
        S::accepts(node) || L::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        if L::accepts(node) {
            return L::decode(node, at, context).map(Self::Long);
        }
        if S::accepts(node) {
            return S::decode(node, at, context).map(Self::Short);
        }
        context.wrong_type(node, at, &Self::form().kind);
        None
    }
}

/// A flag, or a word that says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Flag_or_{M}")]
pub enum FlagOr<M> {
    /// On with the default, or off.
    Flag(bool),
    /// A mode by name.
    Mode(M),
}

impl<M: Decode> Decode for FlagOr<M> {
    fn form() -> Form {
        let mode = M::form();
        Form { kind: format!("boolean or {}", mode.kind), ..mode }
    }

    fn accepts(node: &Node) -> bool {
        bool::accepts(node) || M::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(flag) => Some(Self::Flag(*flag)),
            _ => M::decode(node, at, context).map(Self::Mode),
        }
    }
}

/// A map that keeps the order of the text, because the first match wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<T: Decode> Decode for Ordered<T> {
    fn form() -> Form {
        Form::plain(&format!("map of {}", plural(&T::form().kind)))
    }

    fn accepts(node: &Node) -> bool {
        node.is_map()
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        map_entries(node, at, context).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

/// A value that is recognised and kept, but whose inside is not judged.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Opaque(pub serde_json::Value);

impl Decode for Opaque {
    fn form() -> Form {
        Form::plain("any")
    }

    fn accepts(_: &Node) -> bool {
        true
    }

    fn decode(node: &Node, _: &At, _: &mut Context<'_>) -> Option<Self> {
        Some(Self(node.to_json()))
    }
}

/// An amount in Kubernetes' writing, such as `100m` or `64Mi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl Decode for Quantity {
    fn form() -> Form {
        Form::plain("quantity")
    }

    fn accepts(node: &Node) -> bool {
        matches!(node.value, Value::Text(_) | Value::Int(_) | Value::Float(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            _ => {
                context.wrong_type(node, at, "a quantity such as \"100m\" or \"64Mi\"");
                return None;
            }
        };
        let split = text.find(|character: char| !(character.is_ascii_digit() || ".+-".contains(character)));
        let (digits, suffix) = text.split_at(split.unwrap_or(text.len()));
        let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| rest.parse::<i32>().is_ok());
        if digits.parse::<f64>().is_err() || !(known.contains(&suffix) || exponent) {
            let message = format!("\"{text}\" is not a Kubernetes quantity");
            context
                .error(Code::InvalidValue, &at.path, node.span.clone(), message)
                .help("a number with a suffix such as m, Ki, Mi, Gi");
            return None;
        }
        Some(Self(text))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

/// A regular expression for texts of the network: looked for anywhere, case ignored, with look-around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Pattern(pub String);

/// A regular expression for paths: looked for anywhere, case ignored, linear in time (no look-around).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct PathPattern(pub String);

/// Says what is wrong with a pattern, in one line.
pub(crate) fn compile_pattern(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the pattern is empty and would match everything".to_owned());
    }
    fancy_regex::RegexBuilder::new(text)
        .case_insensitive(true)
        .build()
        .map(drop)
        .map_err(|error| last_line(&error.to_string()))
}

fn compile_path_pattern(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the pattern is empty and would match everything".to_owned());
    }
    regex::Regex::new(text).map(drop).map_err(|error| last_line(&error.to_string()))
}

/// The regex crates draw a picture over several lines; its last line has the reason.
fn last_line(text: &str) -> String {
    let line = text.lines().next_back().unwrap_or(text).trim();
    line.trim_start_matches("error: ").to_owned()
}

/// Reports a pattern that does not compile.
pub(crate) fn check_path_pattern(
    text: &str,
    span: std::ops::Range<usize>,
    at: &At,
    context: &mut Context<'_>,
) -> bool {
    report_pattern(text, compile_path_pattern(text), span, at, context)
}

fn report_pattern(
    text: &str,
    compiled: Result<(), String>,
    span: std::ops::Range<usize>,
    at: &At,
    context: &mut Context<'_>,
) -> bool {
    if let Err(reason) = &compiled {
        let message = format!("\"{text}\" is not a usable regular expression: {reason}");
        context.error(Code::InvalidPattern, &at.path, span, message);
    }
    compiled.is_ok()
}

impl Decode for Pattern {
    fn form() -> Form {
        Form::plain("regex")
    }

    fn accepts(node: &Node) -> bool {
        String::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let text = String::decode(node, at, context)?;
        report_pattern(&text, compile_pattern(&text), node.span.clone(), at, context).then_some(Self(text))
    }
}

impl Decode for PathPattern {
    fn form() -> Form {
        Form::plain("regex")
    }

    fn accepts(node: &Node) -> bool {
        String::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let text = String::decode(node, at, context)?;
        check_path_pattern(&text, node.span.clone(), at, context).then_some(Self(text))
    }
}

/// Two ports that belong together, written `[8080, 80]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "[u16; 2]")]
pub struct PortPair {
    /// The first of the two: the port that the program names.
    pub local: u16,
    /// The second: the port it stands for.
    pub other: u16,
}

impl From<PortPair> for [u16; 2] {
    fn from(pair: PortPair) -> Self {
        [pair.local, pair.other]
    }
}

impl Decode for PortPair {
    fn form() -> Form {
        Form::plain("port pair")
    }

    fn accepts(node: &Node) -> bool {
        matches!(node.value, Value::List(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            context.wrong_type(node, at, "a pair of ports such as [8080, 80]");
            return None;
        };
        let [local, other] = items.as_slice() else {
            let message =
                format!("expected a pair of ports such as [8080, 80], found {} values", items.len());
            context.error(Code::WrongType, &at.path, node.span.clone(), message);
            return None;
        };
        let local = u16::decode(local, &at.item(0), context);
        let other = u16::decode(other, &at.item(1), context);
        Some(Self { local: local?, other: other? })
    }
}

impl JsonSchema for PortPair {
    fn schema_name() -> Cow<'static, str> {
        "PortPair".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let port = generator.subschema_for::<u16>();
        json_schema!({ "type": "array", "items": port, "minItems": 2, "maxItems": 2 })
    }
}
