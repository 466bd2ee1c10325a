//! TOML, by the toml crate's own tree with places, which goes on after a syntax error.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Code;
use crate::decode::Context;
use crate::tree::{Entry, Node, Value, join};

pub(super) fn read(text: &str, context: &mut Context<'_>) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let tree = Node { value: lower_table(table.get_ref()), span: table.span() };
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        if error.message().contains("duplicate key") {
            let key = text.get(span.clone()).unwrap_or_default();
            let path = nearest_above(&tree, "", key, span.start).map_or(key.to_owned(), |(path, _)| path);
            context
                .error(Code::DuplicateKey, &path, span, format!("`{key}` stands twice in the same object"))
                .help("keep one of the two");
        } else {
            context.error(
                Code::Syntax,
                "",
                span,
                format!("not valid TOML: {}", error.message().replace('\n', " ")),
            );
        }
    }
    Some(tree)
}

/// The path of the last key of that name before a place: the parser drops the second of two and does not say which
/// table it was in.
fn nearest_above(node: &Node, path: &str, key: &str, before: usize) -> Option<(String, usize)> {
    node.entries()
        .iter()
        .flat_map(|entry| {
            let inner = join(path, &entry.key);
            let here = (entry.key == key && entry.key_span.start < before)
                .then(|| (inner.clone(), entry.key_span.start));
            [here, nearest_above(&entry.value, &inner, key, before)]
        })
        .flatten()
        .max_by_key(|(_, start)| *start)
}

fn lower_table(table: &DeTable<'_>) -> Value {
    Value::Map(
        table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: key.span(),
                value: lower(value, &key.span()),
            })
            .collect(),
    )
}

fn lower(value: &Spanned<DeValue<'_>>, key_span: &Range<usize>) -> Node {
    let span = match value.span() {
        // A table that only dotted keys imply stands nowhere itself.
        span if span.is_empty() => key_span.clone(),
        span => span,
    };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        // No setting is a date; as text it fails with the setting's own words.
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Array(items) => Value::List(items.iter().map(|item| lower(item, key_span)).collect()),
        DeValue::Table(table) => lower_table(table),
    };
    Node { value, span }
}
