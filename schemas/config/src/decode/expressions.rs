//! Settings that are small programs: jq over headers, JSONPath into bodies. They are compiled once to see that
//! they can be, and kept as text, because the agent compiles them where it runs them.

use jaq_core::load::{Arena, File, Loader};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Context, Decode};
use crate::Code;
use crate::form::Form;
use crate::tree::{At, Node};

/// A jq program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct JqProgram(pub String);

/// A JSONPath query (RFC 9535, and `typeof()`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct JsonPathQuery(pub String);

/// The type of a value as a word, for comparisons inside queries such as `$[?typeof(@.id) == 'number']`.
#[serde_json_path_macros::function(name = "typeof")]
fn type_of(value: serde_json_path::functions::ValueType<'_>) -> serde_json_path::functions::ValueType<'_> {
    let word = match value.as_value() {
        None => "nothing",
        Some(serde_json::Value::Null) => "null",
        Some(serde_json::Value::Bool(_)) => "boolean",
        Some(serde_json::Value::Number(_)) => "number",
        Some(serde_json::Value::String(_)) => "string",
        Some(serde_json::Value::Array(_)) => "array",
        Some(serde_json::Value::Object(_)) => "object",
    };
    serde_json_path::functions::ValueType::Value(word.into())
}

/// Says what is wrong with a jq program, in one line.
pub(crate) fn check_jq(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let near = |rest: &str| match rest.lines().next().unwrap_or_default() {
        "" => "at its end".to_owned(),
        rest => format!("near `{rest}`"),
    };
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs::<jaq_core::data::JustLut<jaq_json::Val>>()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: text, path: () }).map_err(|errors| {
        use jaq_core::load::Error;
        errors.first().map_or_else(String::new, |(_, error)| match error {
            Error::Io(files) => files
                .first()
                .map(|(file, _)| format!("it imports `{file}`, which is not possible here"))
                .unwrap_or_default(),
            Error::Lex(found) => found
                .first()
                .map(|(expected, rest)| format!("expected {} {}", expected.as_str(), near(rest)))
                .unwrap_or_default(),
            Error::Parse(found) => found
                .first()
                .map(|(expected, rest)| format!("expected {} {}", expected.as_str(), near(rest)))
                .unwrap_or_default(),
        })
    })?;
    match jaq_core::Compiler::default().with_funs(functions).compile(modules) {
        Ok(_) => Ok(()),
        Err(errors) => Err(errors
            .first()
            .and_then(|(_, undefined)| undefined.first())
            .map(|(name, what)| format!("undefined {} `{name}`", what.as_str()))
            .unwrap_or_default()),
    }
}

/// Says what is wrong with a JSONPath query, in one line.
pub(crate) fn check_json_path(text: &str) -> Result<(), String> {
    serde_json_path::JsonPath::parse(text).map(drop).map_err(|error| error.to_string())
}

impl Decode for JqProgram {
    fn form() -> Form {
        Form::plain("jq program")
    }

    fn accepts(node: &Node) -> bool {
        String::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let text = String::decode(node, at, context)?;
        if let Err(reason) = check_jq(&text) {
            let message = format!("not a usable jq program: {reason}");
            context.error(Code::InvalidPattern, &at.path, node.span.clone(), message);
            return None;
        }
        Some(Self(text))
    }
}

impl Decode for JsonPathQuery {
    fn form() -> Form {
        Form::plain("JSONPath")
    }

    fn accepts(node: &Node) -> bool {
        String::accepts(node)
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let text = String::decode(node, at, context)?;
        if let Err(reason) = check_json_path(&text) {
            let message = format!("not a usable JSONPath: {reason}");
            context
                .error(Code::InvalidPattern, &at.path, node.span.clone(), message)
                .help("a query starts at the root, as in $.user.name");
            return None;
        }
        Some(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jq_program_is_told_good_or_where_it_goes_wrong() {
        assert_eq!(check_jq(".[\"x-user\"] == \"me\" and (.host | test(\"shop\"))"), Ok(()));
        assert_eq!(check_jq("."), Ok(()));
        assert!(check_jq(".[").is_err_and(|error| error.contains("at its end") || error.contains("near")));
        assert_eq!(check_jq("nosuch(.)"), Err("undefined filter `nosuch`".to_owned()));
        assert_eq!(check_jq(" "), Err("it is empty".to_owned()));
    }

    #[test]
    fn a_json_path_may_ask_for_types_and_is_told_good_or_bad() {
        let path = serde_json_path::JsonPath::parse("$[?typeof(@.id) == 'number']").unwrap();
        let value = serde_json::json!([{ "id": 1 }, { "id": "1" }]);
        assert_eq!(path.query(&value).all(), [&serde_json::json!({ "id": 1 })]);
        assert_eq!(check_json_path("$.a[0]"), Ok(()));
        assert!(check_json_path("a.b").is_err());
        assert!(check_json_path("$[?nosuch(@)]").is_err());
    }
}
