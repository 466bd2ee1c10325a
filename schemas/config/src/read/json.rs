//! JSON, by jsonc-parser. What only relaxed JSON allows (comments, commas too many or missing) is an error, as it is for
//! every other reader of the file, but the tree is read all the same so that the rest is checked too.

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::Code;
use crate::decode::Context;
use crate::tree::{Entry, Node, Value};

pub(super) fn read(text: &str, context: &mut Context<'_>) -> Option<Node> {
    // A byte order mark would shift nothing but is not JSON; editors on Windows write it.
    let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let body = text.get(offset..).unwrap_or_default();
    if let Err(error) = parse_to_ast(body, &CollectOptions::default(), &strict()) {
        let range = error.range();
        let span = offset + range.start..offset + range.end;
        let message = format!("not valid JSON: {}", lower_first(&error.kind().to_string()));
        let problem = context.error(Code::Syntax, "", span, message);
        match error.kind() {
            ParseErrorKind::CommentsNotAllowed => {
                problem.help("remove the comment, or write the config as YAML or TOML, which have comments");
            }
            ParseErrorKind::TrailingCommasNotAllowed => {
                problem.help("remove the comma after the last entry");
            }
            _ => {}
        }
    }
    let relaxed = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_missing_commas: true,
        ..strict()
    };
    match parse_to_ast(body, &CollectOptions::default(), &relaxed) {
        Ok(parsed) => match parsed.value {
            Some(value) => Some(lower(&value, offset)),
            // An empty file is an empty config, in every format.
            None => Some(Node { value: Value::Map(Vec::new()), span: 0..text.len() }),
        },
        // Already reported by the strict reading.
        Err(_) => None,
    }
}

fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn lower(value: &ast::Value<'_>, offset: usize) -> Node {
    let range = value.range();
    let span = offset + range.start..offset + range.end;
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(flag) => Value::Bool(flag.value),
        ast::Value::StringLit(text) => Value::Text(text.value.to_string()),
        ast::Value::NumberLit(number) => match number.value.parse::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Float(number.value.parse().unwrap_or(f64::NAN)),
        },
        ast::Value::Array(array) => {
            Value::List(array.elements.iter().map(|item| lower(item, offset)).collect())
        }
        ast::Value::Object(object) => Value::Map(
            object
                .properties
                .iter()
                .map(|property| {
                    let range = property.name.range();
                    Entry {
                        key: property.name.as_str().to_owned(),
                        key_span: offset + range.start..offset + range.end,
                        value: lower(&property.value, offset),
                    }
                })
                .collect(),
        ),
    };
    Node { value, span }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}
